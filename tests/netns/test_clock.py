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


class Faked(World):
    node_type = FakedNode
    # With libfaketime in it the process makes calls that the sandbox does not list, and would be killed.
    node_config = {"security": {"sandboxMode": "off"}}

    def setUp(self):
        self.addCleanup(self.lab.resync)
        self.addCleanup(self.lab.fault, "clear")
        self.addCleanup(self.node.set_clock, "+0")


class Clocks(Faked):
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


class Counting(Faked):
    """The owner's day, which begins at the router's midnight by the corrected clock. Each test needs days of its own."""

    def move(self, hours):
        """Sets the router's clock and the coordinator's: all agree on another time."""
        self.node.set_clock(f"{hours:+d}h")
        self.lab.fault("clock", offsetMs=hours * HOUR_MS)
        self.lab.resync()

    def used(self):
        today = self.node.status()["today"]
        return today["ingressBytes"] + today["egressBytes"]

    def carry(self, size):
        return self.proxy.get(self.session, "origin.lab.test", f"/bytes/{size}")


class Days(Counting):
    def test_days_keep_their_counts_whatever_the_clock_does(self):
        self.session = self.lab.open(notBeforeS=-80 * 3600, durationS=160 * 3600)
        self.addCleanup(self.node.change, network={"maxGBPerDay": 1000})
        self.node.change(network={"maxGBPerDay": 0.01})
        self.carry(1_000_000)
        first = self.used()
        self.assertGreater(first, 1_000_000)
        # The router's clock alone, by an hour and by a day: the coordinator's time stands, and so does the day.
        for alone in ["+1h", "+30h", "-30h"]:
            self.node.set_clock(alone)
            self.lab.resync()
            self.assertEqual(self.used(), first)
        # Tomorrow begins with nothing used, and is today's neighbour, not its heir.
        self.move(24)
        self.assertEqual(self.used(), 0)
        self.carry(2_000_000)
        second = self.used()
        self.assertGreater(second, 2_000_000)
        self.move(0)
        self.assertEqual(self.used(), first)
        # Yesterday was never counted: it takes over the fullest day instead of beginning anew.
        self.move(-24)
        self.assertGreaterEqual(self.used(), second)
        self.move(0)
        self.node.stop()
        self.node.start()
        self.node.wait_state("idle", "active")
        self.assertGreaterEqual(self.used(), first)


class Quotas(Counting):
    def test_a_quota_is_not_had_again_by_setting_clocks(self):
        self.session = self.lab.open(notBeforeS=-80 * 3600, durationS=160 * 3600)
        self.addCleanup(self.node.change, network={"maxGBPerDay": 1000})
        self.node.change(network={"maxGBPerDay": 0.001})
        granted = 0
        for hours in [0, -24, 24, 0, 48, -48, 72]:
            self.move(hours)
            reply = self.proxy.connect("origin.lab.test:443", self.session)
            if reply.status == 200:
                granted += 1
                with self.assertRaises((ConnectionResetError, EOFError)):
                    self.carry(20_000_000)
                reply = self.proxy.connect("origin.lab.test:443", self.session)
            self.refused(reply, 429, "quota-reached")
        # The day of the start, and two that began since: another begins when one of them is 20 real hours old.
        self.assertEqual(granted, 3)
