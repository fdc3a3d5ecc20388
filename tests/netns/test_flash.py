"""What a node writes to the directory that is flash on a router: nothing while it works, and enough for power loss."""
import ctypes
import os
import time

from harness.control import wait_for
from harness.world import World

_EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200  # modify, attrib, close after writing, moved, created, deleted
_libc = ctypes.CDLL(None, use_errno=True)


class Writes:
    """Counts events of a directory by inotify(7)."""

    def __init__(self, directory):
        self.fd = _libc.inotify_init1(os.O_NONBLOCK)
        if _libc.inotify_add_watch(self.fd, str(directory).encode(), _EVENTS) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def seen(self):
        names = []
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return names
            while data:
                length = int.from_bytes(data[12:16], "little")
                names.append(data[16 : 16 + length].rstrip(b"\0").decode())
                data = data[16 + length :]


class Flash(World):
    def test_twenty_seconds_of_work_write_nothing(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/100000", discard=True)
        time.sleep(1.5)
        writes = Writes(self.node.state_dir)
        self.assertEqual(writes.seen(), [])
        before = self.node.get("/diagnostics")["flashWrites"]
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.proxy.get(session, "origin.lab.test", "/bytes/100000", discard=True)
            time.sleep(0.5)
        self.assertEqual(writes.seen(), [])
        self.assertEqual(self.node.get("/diagnostics")["flashWrites"], before)
        # What shows that it would be seen: the owner's will is written at once.
        self.node.control("pause")
        self.assertTrue(writes.seen())
        self.node.control("start")
        self.node.wait_state("active")
        self.settle(session)
        self.clean(session)

    def test_power_loss_opens_no_session_twice(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/70000")
        self.node.kill()
        for file in self.node.run_dir.glob("node.journal*"):
            file.unlink()
        self.node.start()
        found = wait_for("the end", lambda: (s := self.lab.session(session.id))["state"] == "closing" and s, 20)
        self.assertEqual(found["bundles"], [], "what was carried last is not billed")
        self.assertIn("session-lost", [a["code"] for a in self.node.status()["alerts"]])
        self.assertEqual(self.proxy.connect("target.test:443", session).status, 407, "nobody knows it any more")
        self.assertEqual(self.lab.violations(), [])
