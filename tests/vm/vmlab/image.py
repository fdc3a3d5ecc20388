"""Images: kernel and initramfs of a kind of machine, out of Debian's packages, kept under target/vm."""
import fcntl
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess

from .kinds import DIAL_PROGRAMS, DIAL_TOOLS, PROGRAMS, TOOLS

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = ROOT / "target" / "vm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc /root /var /usr/bin /sbin /mnt
/bin/busybox --install -s /bin
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=1777 tmp /tmp
ln -sf /tmp /var/run
for module in $(cat /modules/order); do insmod /modules/$module || echo "module $module: not loaded"; done
ip link set lo up
[ ! -f /start ] || . /start
echo vmlab: up
while :; do setsid sh -c 'exec sh </dev/CONSOLE >/dev/CONSOLE 2>&1'; done
"""


def run(*command, **more):
    """A command that must succeed."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout.strip()[-2000:]}")
    return done.stdout


class Apt:
    """Debian's packages of another architecture, beside the machine's own: nothing is installed."""

    def __init__(self, directory, architecture, suite):
        self.directory = directory
        for name in ["lists/partial", "archives/partial", "debs"]:
            (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / "status").write_text("", encoding="ascii")
        suites = dict.fromkeys(["bookworm", suite])
        (directory / "sources").write_text("".join(f"deb [signed-by={KEYRING}] {archive()} {s} main\n" for s in suites), encoding="ascii")
        self.suite = suite
        lines = [f'APT::Architecture "{architecture}";', f'APT::Architectures {{"{architecture}";}};', 'APT::Sandbox::User "root";']
        for what, where in [("Etc::sourcelist", "sources"), ("State::lists", "lists"), ("State::status", "status"), ("Cache", ".")]:
            lines.append(f'Dir::{what} "{directory / where}";')
        lines.append('Dir::Etc::sourceparts "-";')
        (directory / "conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.environment = {**os.environ, "APT_CONFIG": str(directory / "conf")}

    def update(self):
        run("apt-get", "-qq", "update", env=self.environment)

    def kernel(self, package):
        """The package of a kernel that a metapackage of the suite stands for now."""
        shown = run("apt-cache", "show", f"{package}/{self.suite}", env=self.environment)
        found = re.search(r"^Depends: (linux-image-\d\S+)", shown, re.M)
        return found[1] if found else package

    def unpack(self, names, into):
        debs = self.directory / "debs"
        run("apt-get", "-qq", "download", *names, env=self.environment, cwd=debs)
        for package in debs.glob("*.deb"):
            run("dpkg", "-x", package, into)


def archive():
    """Where this machine gets Debian from."""
    places = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]
    text = "\n".join(pathlib.Path(p).read_text(encoding="utf-8") for p in places if os.path.exists(p))
    found = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?) *(https?://\S+)", text, re.M)
    if not found:
        raise RuntimeError("no Debian archive in this machine's apt sources")
    return found[1]


def cpio(entries):
    """An archive that the kernel unpacks: (path, mode, content) in the format `newc` (kernel: initramfs-buffer-format.rst)."""
    out = bytearray()
    for number, (path, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        nlink = 2 if stat.S_ISDIR(mode) else 1
        head = [number, mode, 0, 0, nlink, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08x" % field for field in head) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def tree(root):
    """The entries of a directory, for [`cpio`]."""
    for path in sorted(pathlib.Path(root).rglob("*")):
        mode = path.lstat().st_mode
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        yield str(path.relative_to(root)), mode, data


def directories(*paths):
    return [(path, 0o40755, b"") for path in paths]


def _made(place, wanted, make):
    """What `make` leaves in this directory, once; made anew if what is wanted has changed. Classes of tests that run side by side
    want the same image: the first makes it, the others wait."""
    stamp = place / "made-of"
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f"{place.name}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make()
            stamp.write_text(wanted, encoding="utf-8")


def build(kind):
    """Kernel and base archive of a kind; what is there stays."""
    place = CACHE / kind.name
    kernel, base = place / "kernel", place / "base.cpio"

    def make():
        packages = Apt(place / "apt", kind.architecture, kind.suite)
        packages.update()
        unpacked = place / "unpacked"
        packages.unpack([packages.kernel(kind.kernel), "busybox-static"], unpacked)
        shutil.copy(next((unpacked / "boot").glob("vmlinu[xz]-*")), kernel)
        base.write_bytes(cpio(_base(kind, unpacked)))
        shutil.rmtree(unpacked)
        shutil.rmtree(place / "apt")

    _made(place, repr(kind) + _INIT, make)
    return kernel, base


def tools(kind):
    """Archives of the programs that look into the kernel, and of those to dial in with, and their libraries, as Debian has them."""
    made = [_programs(kind, "tools", TOOLS, PROGRAMS)]
    return [*made, _programs(kind, "dial", DIAL_TOOLS, DIAL_PROGRAMS)] if kind.dials else made


def _programs(kind, name, packages, programs):
    place = CACHE / f"{name}-{kind.architecture}"
    archive_file = place / "tools.cpio"

    def make():
        apt = Apt(place / "apt", kind.architecture, "bookworm")
        apt.update()
        unpacked = place / "unpacked"
        apt.unpack(packages, unpacked)
        archive_file.write_bytes(cpio(_tools(kind, unpacked, programs)))
        shutil.rmtree(unpacked)
        shutil.rmtree(place / "apt")

    _made(place, repr((packages, programs, kind.triplet)), make)
    return archive_file


def _tools(kind, unpacked, programs):
    yield from directories("usr", "usr/sbin", "usr/lib", "lib", f"lib/{kind.triplet}", "lib64")
    for path in unpacked.rglob("*"):
        if path.is_dir() or path.is_symlink() or path.name not in programs:
            continue
        if path.parent.name in ("sbin", "bin"):
            yield f"usr/sbin/{path.name}", 0o100755, path.read_bytes()
        elif path.suffix == ".so":
            yield f"usr/lib/{path.name}", 0o100755, path.read_bytes()
    for directory in [unpacked / "lib" / kind.triplet, unpacked / "usr/lib" / kind.triplet]:
        for path in directory.glob("*.so*"):
            if path.exists():
                yield f"lib/{kind.triplet}/{path.name}", 0o100755, path.read_bytes()
    # The program interpreter has its own place (System V ABI: PT_INTERP).
    for interpreter in [*unpacked.glob("lib64/ld*.so*"), *unpacked.glob("lib/ld*.so*")]:
        name = str(interpreter.relative_to(unpacked))
        yield name, 0o120777, f"/lib/{kind.triplet}/{pathlib.Path(os.readlink(interpreter)).name}".encode()


def libraries(binary):
    """A program's shared libraries and interpreter as this machine has them, for a machine of the same kind."""
    listed = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for name, path in sorted(set(re.findall(r"^\s+(?:(\S+) => )?(/\S+)", listed, re.M))):
        yield f"lib/x86_64-linux-gnu/{name or pathlib.Path(path).name}", 0o100755, pathlib.Path(path).read_bytes()


def _base(kind, unpacked):
    modules = next(p for p in [unpacked / "lib/modules", unpacked / "usr/lib/modules"] if p.exists())
    version = next(modules.iterdir()).name
    if modules.parent.name == "lib" and modules.parent.parent.name == "usr":
        (unpacked / "lib").mkdir(exist_ok=True)
        (unpacked / "lib/modules").symlink_to(modules)
    run("/sbin/depmod", "-b", unpacked, version)
    order, files = [], {}
    for path in _with_needs(modules / version, kind.modules):
        name = re.sub(r"\.xz$", "", pathlib.Path(path).name)
        order.append(name)
        data = (modules / version / path).read_bytes()
        files[name] = lzma.decompress(data) if path.endswith(".xz") else data
    yield from directories("bin", "sbin", "dev", "etc", "proc", "sys", "tmp", "var", "modules")
    yield "dev/console", 0o20600, b""
    yield "bin/busybox", 0o100755, (unpacked / "bin/busybox").read_bytes()
    yield "init", 0o100755, _INIT.replace("CONSOLE", kind.console).encode()
    yield "modules/order", 0o100644, "\n".join(order).encode()
    for name in order:
        yield f"modules/{name}", 0o100644, files[name]


def _with_needs(modules, wanted):
    """Paths of the modules in the order of loading. What is built into this kernel needs no module."""
    needs = {}
    for line in (modules / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {re.sub(r"\.ko.*$", "", pathlib.Path(p).name).replace("-", "_"): p for p in needs}
    order = []

    def add(path):
        for other in reversed(needs[path]):
            if other not in order:
                add(other)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name in by_name:
            add(by_name[name])
    return order


def module(kind, source):
    """A module of ours for a kind's kernel, made with Debian's headers and compiler for that kernel."""
    _, base = build(kind)
    version = re.search(rb"vermagic=(\S+) ", base.read_bytes())[1].decode()
    place = CACHE / f"{source.stem}-{kind.name}"
    made = place / f"{source.stem}.ko"

    def make():
        packages = Apt(place / "apt", kind.architecture, kind.suite)
        packages.update()
        unpacked = place / "unpacked"
        shown = run("apt-cache", "show", f"linux-headers-{version}", env=packages.environment)
        packages.unpack([f"linux-headers-{version}", *re.findall(r"linux-(?:headers-\S+-common|kbuild-[^ ,]+)", shown)], unpacked)
        headers = unpacked / "usr/src" / f"linux-headers-{version}"
        # It names the place where the packages would have been installed.
        makefile = headers / "Makefile"
        makefile.write_text(makefile.read_text(encoding="ascii").replace("/usr/src", str(unpacked / "usr/src")), encoding="ascii")
        shutil.copy(source, place)
        (place / "Kbuild").write_text(f"obj-m := {source.stem}.o\n", encoding="ascii")
        run("make", "-C", headers, f"M={place}", "CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules")
        shutil.rmtree(unpacked)
        shutil.rmtree(place / "apt")

    _made(place, version + source.read_text(encoding="ascii"), make)
    return made
