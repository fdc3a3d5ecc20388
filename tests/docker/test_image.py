"""The image without an engine: its tree, and the binary in it as a container would run it (read-only, without capability, as the
image's user), in namespaces that the caller has made (mount, PID, network)."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from image import assemble, files

USER = 7878


def mount(*words):
    subprocess.run(["mount", *words], check=True)


class Container:
    """The tree mounted as `docker run --read-only --tmpfs /var/run/echomesh -v VOLUME` would."""

    def __init__(self, image, tree, work):
        self.image, self.root = image, work / "root"
        volume = work / "volume"
        # An engine fills a new volume with what the image has there, mode and owner included.
        shutil.copytree(tree / "var/lib/echomesh", volume)
        os.chown(volume, USER, USER)
        self.root.mkdir()
        mount("--bind", tree, self.root)
        mount("-o", "remount,bind,ro", self.root)
        mount("--bind", volume, self.root / "var/lib/echomesh")
        mount("-t", "tmpfs", "-o", f"mode=0700,uid={USER},gid={USER}", "tmpfs", self.root / "var/run/echomesh")
        self.volume = volume

    def start(self, words, **more):
        uid, gid = self.image.user
        # The kernel takes the capabilities with root's number; the bounding set that is left gives nobody any.
        enter = [shutil.which("chroot"), "--userspec", f"{uid}:{gid}", "--groups=", self.root]
        return subprocess.Popen([*enter, *words], env=self.image.env, **more)

    def run(self, *words):
        child = self.start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        out, _ = child.communicate(timeout=30)
        return child.returncode, out


def is_static(path):
    """Whether an ELF file of 64 bits asks for no interpreter (PT_INTERP), without which no library is loaded."""
    data = path.read_bytes()
    offset, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, offset + n * size)[0] for n in range(count)]
    return data[:4] == b"\x7fELF" and 3 not in kinds


def until(wanted, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if wanted():
            return True
        time.sleep(0.1)
    return False


def checks(context, work):
    tree = work / "tree"
    tree.mkdir()
    image = assemble(context, tree)
    found = files(tree)
    expected = {
        "/usr/bin/echomesh": ("0o755", 0, 0),
        "/etc/ssl/certs/ca-certificates.crt": ("0o644", 0, 0),
        "/var/lib/echomesh": ("0o755", USER, USER),
        "/var/run/echomesh": ("0o755", USER, USER),
    }
    way = ["/usr", "/usr/bin", "/etc", "/etc/ssl", "/etc/ssl/certs", "/var", "/var/lib", "/var/run"]
    expected |= {path: ("0o755", 0, 0) for path in way}
    yield "the tree is this and no more", found == expected, found
    yield "the binary is static", is_static(tree / "usr/bin/echomesh"), ""
    yield "the user is a number and not root", image.user == (USER, USER), image.user
    yield "the volume is the node's own directory", image.volumes == ["/var/lib/echomesh"], image.volumes
    yield "the listener's port is the schema's default", image.ports == ["8443/tcp"], image.ports

    container = Container(image, tree, work)
    code, out = container.run(*image.entrypoint, "setup", "--region", "PH", "--key", "new", "--yes")
    yield "setup writes into the volume", code == 0 and "/var/lib/echomesh/.echomesh/node.key" in out, out
    code, out = container.run(*image.healthcheck)
    yield "a container without a node is not healthy", code != 0, out
    log = open(work / "log", "w+", encoding="utf-8")
    node = container.start([*image.entrypoint, *image.cmd], stdout=log, stderr=log)
    healthy = until(lambda: container.run(*image.healthcheck)[0] == 0)
    yield "the node runs and is healthy", healthy, (work / "log").read_text()
    try:
        with urllib.request.urlopen("http://127.0.0.1:7878/healthz", timeout=5) as answer:
            health = (answer.status, answer.read())
    except urllib.error.HTTPError as e:
        health = (e.code, e.read())
    # Nobody has named a coordinator: it answers, and says that it carries nothing.
    yield "it answers /healthz", b"checks" in health[1] or health[0] == 200, health
    status = json.loads(container.run(*image.healthcheck)[1] or "{}")
    yield "every layer of the sandbox is on", status.get("sandbox", {}).get("missing") == [], status.get("sandbox")
    yield "its state is the one that waits for a coordinator", status.get("state") == "unconfigured", status.get("state")
    node.send_signal(getattr(signal, image.stop_signal))
    yield "it ends by the stop signal", node.wait(10) == 0, (work / "log").read_text()
    key = container.volume / ".echomesh/node.key"
    at = key.stat()
    yield "the key stays in the volume, the user's alone", (at.st_mode & 0o777, at.st_uid) == (0o600, USER), oct(at.st_mode)


def main():
    context = pathlib.Path(sys.argv[1])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as directory:
        try:
            for name, good, seen in checks(context, pathlib.Path(directory)):
                passed, failed = passed + bool(good), failed + (not good)
                if not good:
                    print(f"FAIL {name}: {seen}")
        finally:
            subprocess.run(["umount", "-R", f"{directory}/root"], check=False)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
