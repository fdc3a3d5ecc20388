"""One running machine: QEMU in a network namespace, and a shell inside over a wire of its own."""
import pathlib
import socket
import subprocess
import time

from . import image

# The wire between namespace and machine that carries the shell and nothing else.
HERE, INSIDE, SHELL = "192.168.9.1", "192.168.9.2", 2323
_AGENT = "#!/bin/sh\nexec sh 2>&1\n"


# Busybox's shell takes its own programs first, whatever PATH says.
_RC = 'for name in ip tc; do [ ! -x /usr/sbin/$name ] || eval "$name() { /usr/sbin/$name \\"\\$@\\"; }"; done\n'


class Machine:
    """A machine whose links are TAP devices of a namespace: `wires` names them in the order of eth0, eth1, ..."""

    def __init__(self, kind, namespace, wires, log, memory_mb=64, files=(), start="", tools=False, words=()):
        self.tools, self.words = tools, words
        self.kind, self.namespace, self.log, self.memory_mb = kind, namespace, pathlib.Path(log), memory_mb
        self.wires, self.files, self.start_script, self.child = list(wires), list(files), start, None

    def start(self, seconds=180, prepare=lambda: None):
        """Boots; ready when the shell answers. `prepare` is called when the wires are there."""
        kernel, base = image.build(self.kind)
        namespace = self.namespace
        for wire in [*self.wires, "shell0"]:
            namespace.ip("tuntap", "add", "dev", wire, "mode", "tap")
            namespace.ip("link", "set", wire, "up")
        namespace.ip("addr", "add", f"{HERE}/30", "dev", "shell0")
        prepare()
        number = len(self.wires)
        # Who gets a shell finds everything done.
        script = f"{self.start_script}\nip addr add {INSIDE}/30 dev eth{number}; ip link set eth{number} up; nc -ll -p {SHELL} -e /agent &\n"
        extra = [*image.directories("etc"), ("etc/rc", 0o100644, _RC.encode()), ("agent", 0o100755, _AGENT.encode()), ("start", 0o100644, script.encode()), *self.files]
        initrd = self.log.with_suffix(".cpio")
        # Later archives lie over earlier ones. Unpacked as it is: reading is quicker than inflating on an emulated processor.
        tools = b"".join(file.read_bytes() for file in image.tools(self.kind)) if self.tools else b""
        initrd.write_bytes(base.read_bytes() + tools + image.cpio(extra))
        words = [self.kind.qemu, *self.kind.machine, "-accel", "tcg", "-m", str(self.memory_mb), "-nographic", "-no-reboot", "-monitor", "none"]
        # A busy host keeps the processor's check of its timer waiting, and the kernel then takes the timer for broken and stops.
        timer = " no_timer_check" if self.kind.architecture == "amd64" else ""
        words += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", f"console={self.kind.console} quiet panic=-1{timer}", *self.words]
        for index, wire in enumerate([*self.wires, "shell0"]):
            words += ["-netdev", f"tap,id=n{index},ifname={wire},script=no,downscript=no"]
            words += ["-device", f"{self.kind.network},netdev=n{index},romfile=,mac=52:54:00:00:00:{index + 1:02x}"]
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(namespace.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._wait(seconds)
        return self

    def _wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                break
            try:
                if self.sh("echo ready", 5).strip() == "ready":
                    return
            except OSError:
                pass
            time.sleep(0.2)
        self.stop()
        raise AssertionError(f"the machine did not come up: {self.console()[-3000:]}")

    def sh(self, script, seconds=60):
        """Runs a script inside; gives all it prints."""
        with self.namespace.connect((INSIDE, SHELL), timeout=seconds) as s:
            s.sendall(b". /etc/rc\n" + script.encode() + b"\n")
            s.shutdown(socket.SHUT_WR)
            parts = []
            while part := s.recv(65536):
                parts.append(part)
        return b"".join(parts).decode(errors="replace")

    def ok(self, script, seconds=60):
        """Runs a script inside that must succeed."""
        *lines, status = self.sh(f"({script}\n)\nended=$?; echo; echo $ended", seconds).rstrip().split("\n")
        text = "\n".join(lines).rstrip("\n")
        if status != "0":
            raise AssertionError(f"{script}: status {status}: {text}")
        return text

    def console(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.kill()
            self.child.wait()
