"""`scripts/vmlab`: images and a shell for people."""
import gzip
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from vmlab import image  # noqa: E402
from vmlab.kinds import KINDS  # noqa: E402

USAGE = f"scripts/vmlab image|shell KIND [FILE...]; kinds: {', '.join(KINDS)}"


def shell(kind, files):
    kernel, base = image.build(kind)
    entries = [(f"mnt/{pathlib.Path(f).name}", 0o100755, pathlib.Path(f).read_bytes()) for f in files]
    with tempfile.NamedTemporaryFile(suffix=".cpio.gz") as initrd:
        initrd.write(gzip.compress(base.read_bytes() + image.cpio([*image.directories("mnt"), *entries]), 1))
        initrd.flush()
        words = [kind.qemu, *kind.machine, "-m", "256", "-nographic", "-no-reboot", "-nic", "none", "-kernel", kernel, "-initrd", initrd.name]
        return subprocess.call([*map(str, words), "-append", f"console={kind.console} quiet panic=-1"])


def main(words):
    if len(words) < 2 or words[0] not in ("image", "shell") or words[1] not in KINDS:
        sys.exit(USAGE)
    kind = KINDS[words[1]]
    if words[0] == "image":
        print(*image.build(kind), sep="\n")
        return 0
    if not any(os.access(os.path.join(p, kind.qemu), os.X_OK) for p in os.environ["PATH"].split(":")):
        sys.exit(f"{kind.qemu} is missing (Debian: apt install {kind.qemu_package})")
    return shell(kind, words[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
