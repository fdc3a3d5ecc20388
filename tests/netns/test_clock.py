"""The node's wall clock is set while it lives, and the coordinator's time is another: its own process alone sees it (libfaketime)."""
import glob
import pathlib
import shutil
import time
import unittest

from harness.node import Node
from harness.stream import RESET, ending
from harness.world import World

HOUR_MS = 3_600_000
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


class FakedNode(Node):
    """A node whose wall clock is the machine's and an offset; its monotonic clock is the machine's."""

    def __init__(self, namespace, directory, *more, **changes):
        super().__init__(namespace, directory, *more, **changes)
        library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
        if not library:
            raise unittest.SkipTest("libfaketime (package faketime) is missing")
        # In a directory of the node's own: the sandbox lets it read nothing else.
        self.clock = pathlib.Path(directory) / "clock"
        self.set_clock("+0")
        names = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_NO_CACHE": 1}
        names |= {"DONT_FAKE_MONOTONIC": 1, "FAKETIME_DONT_FAKE_MONOTONIC": 1}
        self.wrapper = ["env", *(f"{name}={value}" for name, value in names.items())]

    def set_clock(self, offset):
        """The offset to the machine's clock, as libfaketime has it: `+3h`, `-1d`."""
        fresh = self.clock.with_name("clock.new")
        fresh.write_text(f"{offset}\n", encoding="ascii")
        shutil.move(fresh, self.clock)


class Clocks(World):
    node_type = FakedNode
    # libfaketime reads its file by calls that the sandbox does not list, and the process would be killed.
    node_config = {"security": {"sandboxMode": "off"}}

    def setUp(self):
        self.addCleanup(self.lab.resync)
        self.addCleanup(self.lab.fault, "clear")
        self.addCleanup(self.node.set_clock, "+0")

    def hours(self, before, after):
        """The owner's hours: from so many hours before now until so many after it, every day."""
        at = [time.strftime("%H:%M", time.localtime(time.time() + hours * 3600)) for hours in (-before, after)]
        self.addCleanup(self.node.change, node={"schedules": []})
        self.node.change(node={"schedules": [{"days": DAYS, "start": at[0], "end": at[1]}]})

    def echoes(self, stream):
        """The target sends back what it gets: the hello at first, then this."""
        stream.write(b"passes")
        heard = b""
        while not heard.endswith(b"passes"):
            more = stream.read()
            self.assertTrue(more, "the flow has ended")
            heard += more

    def open_long(self):
        """A session for a day and more, whose time no test's clock leaves."""
        return self.lab.open(notBeforeS=-26 * 3600, durationS=52 * 3600)

    def test_the_coordinators_time_does_not_move_the_owners_hours(self):
        session = self.open_long()
        self.hours(1, 1)
        kept = self.proxy.tunnel(session)
        self.lab.fault("clock", offsetMs=8 * HOUR_MS)
        self.lab.resync()
        self.echoes(kept)
        self.assertTrue(self.node.status()["schedule"]["open"])
        self.echoes(self.proxy.tunnel(session))

    def test_hours_that_are_over_by_the_routers_clock_end_live_flows_at_once(self):
        session = self.open_long()
        self.hours(1, 1)
        for offset in ["+3h", "-3h"]:
            stream = self.proxy.tunnel(session)
            self.echoes(stream)
            self.node.set_clock(offset)
            began = time.monotonic()
            self.assertEqual(ending(stream), RESET)
            self.assertLess(time.monotonic() - began, 3)
            self.refused(self.proxy.connect("target.test:443", session), 503, "outside-schedule")
            # The coordinator's correction does not open them again.
            self.lab.resync()
            self.refused(self.proxy.connect("target.test:443", session), 503, "outside-schedule")
            self.node.set_clock("+0")
            # Without a flow the clock is looked at every 15 s: the node opens late, never early.
            self.node.wait_state("active", seconds=20)
        self.echoes(self.proxy.tunnel(session))
        self.clean()
