"""`scripts/vmlab`: images, scenarios and a shell for people."""
import argparse
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2] / "netns")]
from vmlab import image  # noqa: E402
from vmlab.kinds import KINDS  # noqa: E402
from vmlab.machine import INSIDE, SHELL, Machine  # noqa: E402
from vmlab.world import BRIDGES, NETWORK, VmTopology, plug  # noqa: E402

_ROUTER = f"""#!/usr/bin/env python3
import base64, shlex, socket, sys
words = sys.argv[1:]
line = words[0] if len(words) == 1 else shlex.join(words)
given = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
s = socket.create_connection(("{INSIDE}", {SHELL}))
feed = "base64 -d >/tmp/in.$$ <<END\\n" + base64.encodebytes(given).decode() + "END\\n"
s.sendall(f". /etc/rc\\n{{feed}}({{line}}\\n) </tmp/in.$$; printf '\\\\nstatus %d' $?; rm /tmp/in.$$\\n".encode())
s.shutdown(socket.SHUT_WR)
out = b""
while data := s.recv(65536):
    out += data
text, _, status = out.rpartition(b"\\nstatus ")
sys.stdout.buffer.write(text)
sys.exit(int(status or b"255"))
"""


def commands(topology, directory):
    """`router`, `buyer`, `inet` and `lan`: commands that run a command in that place."""
    places = {"buyer": topology.buyer, "inet": topology.inet, "lan": topology.lan}
    for name, namespace in places.items():
        _program(directory / name, f'#!/bin/sh\nexec nsenter --net={namespace.path} -- "$@"\n')
    _program(directory / "router.py", _ROUTER)
    # At the prompt a terminal is not to be read.
    _program(directory / "router", f'#!/bin/sh\nexec nsenter --net={topology.node.path} -- python3 {directory}/router.py "$@"\n')


def _program(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def main():
    words = argparse.ArgumentParser(prog="scripts/vmlab", description="Virtual machines with a router's processor and kernel.")
    words.add_argument("what", choices=["image", "shell", "run"])
    words.add_argument("subject", metavar="KIND|SCENARIO", help=f"kinds: {', '.join(KINDS)}; a scenario: a file for bash")
    words.add_argument("files", nargs="*", metavar="FILE", help="goes to /mnt of the machine")
    words.add_argument("--tree", metavar="DIRECTORY", help="what lies in it lies in the machine's root")
    words.add_argument("--kind", choices=KINDS, default="x86_64", help="of the machine that runs a scenario")
    asked = words.parse_args()
    kind = KINDS.get(asked.subject) if asked.what != "run" else KINDS[asked.kind]
    if kind is None:
        words.error(f"no kind {asked.subject}; kinds: {', '.join(KINDS)}")
    if asked.what == "image":
        print(*image.build(kind), *image.tools(kind), sep="\n")
        return 0
    if not any(os.access(os.path.join(p, kind.qemu), os.X_OK) for p in os.environ["PATH"].split(":")):
        sys.exit(f"{kind.qemu} is missing (Debian: apt install {kind.qemu_package})")
    entries = [(f"mnt/{pathlib.Path(f).name}", 0o100755, pathlib.Path(f).read_bytes()) for f in asked.files]
    if kind.architecture == "amd64":
        # A program of this machine needs its libraries.
        entries += [library for f in asked.files for library in image.libraries(f)]
    entries += image.tree(asked.tree) if asked.tree else []
    return with_machine(kind, [*image.directories("mnt"), *entries], ["bash", "-eu", asked.subject] if asked.what == "run" else None)


def with_machine(kind, files, command):
    """Boots, runs the command (or a shell) with the parties' commands in its PATH, and says where the logs are."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="vmlab-"))
    topology = VmTopology()
    machine = Machine(kind, topology.node, BRIDGES, directory / "console.log", 256, files, NETWORK, tools=True)
    try:
        began = time.monotonic()
        machine.start(prepare=lambda: plug(topology))
        print(f"{kind.name} is up after {time.monotonic() - began:.1f} s", file=sys.stderr)
        commands(topology, directory)
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "VMLAB": str(directory)}
        if command:
            status = logged(command, directory / "scenario.log", environment)
        else:
            print("Commands run in a place: router COMMAND..., buyer COMMAND..., inet COMMAND..., lan COMMAND...", file=sys.stderr)
            status = subprocess.call(["bash", "--norc"], env={**environment, "PS1": "vmlab$ "})
        return status
    finally:
        machine.stop()
        topology.remove()
        (directory / "console.cpio").unlink(missing_ok=True)
        print(f"logs: {directory}", file=sys.stderr)


def logged(command, log, environment):
    """Runs a command whose output is shown as it comes and kept as well; its status. It has no input, which `router` would wait for the end of."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as child, open(log, "wb") as kept:
        for line in child.stdout:
            kept.write(line)
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
        return child.wait()


if __name__ == "__main__":
    # Whoever ends it, by kill or timeout, leaves no machine behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
