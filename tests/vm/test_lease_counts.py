"""What leases carry, counted: twice and alike, whoever sets counters back, and in which bundle what is known late stands."""
import time

from attacks import GOOD
from harness.hello import client_hello
from vmlab.leases import Holder, LeaseWorld

# What the API says the two counts may differ by.
PART, A_CONNECTION = 100, 4096
WAYS = ("egress", "ingress")
OTHERS = "table netdev others { chain seen { type filter hook ingress device eth0 priority 0; counter; }; }"


class Counts(LeaseWorld):
    def flow(self, holder):
        """A lease, and a connection over it that is accepted and echoes."""
        lease = holder.lease(GOOD)
        stream = self.dial(lease)
        self.echo(stream, client_hello(sni=GOOD))
        return lease, stream

    def echo(self, stream, data):
        stream.write(data)
        left = len(data)
        while left > 0:
            got = stream.read()
            self.assertTrue(got, "the flow has ended")
            left -= len(got)

    def check(self):
        leases = self.node.get("/diagnostics")["leases"]
        return leases["check"] if leases["accepted"] + leases["ending"] == 0 else None

    def figures(self):
        """Both counts when nothing is under way."""
        self.until("the flows' end", lambda: self.own()["open"] == 0)
        time.sleep(1.5)
        return self.until("the last count", self.check)

    def passed(self, before, after):
        """What the two counts and the charge have grown by, each way."""
        names = ("chargedBytes", "trackedBytes", "independentBytes")
        return [[after[way][name] - before[way][name] for name in names] for way in WAYS]

    def test_both_counts_agree(self):
        lease = self.holder.lease("origin.lab.test")
        self.assertEqual(self.get(lease, "origin.lab.test", "/bytes/1000")[0], 200)
        before, (received, sent) = self.figures(), self.lab.origin()
        for size in (500_000, 3_000_000):
            self.assertEqual(self.get(lease, "origin.lab.test", f"/bytes/{size}")[0], 200)
        _, stream = self.flow(self.holder)
        for _ in range(10):
            self.echo(stream, bytes(100_000))
        self.close(stream)
        after, (received_now, sent_now) = self.figures(), self.lab.origin()
        origin = (received_now - received + stream.sent, sent_now - sent + stream.received)
        self.assertEqual((after["reason"], after["connections"] - before["connections"]), ("", 3))
        for way, passed, (charged, tracked, independent) in zip(WAYS, origin, self.passed(before, after)):
            print(f"     {way}: charged {charged}, connection tracking {tracked}, its own counter {independent}")
            self.assertEqual(charged, passed)
            self.assertLess(abs(independent - tracked), independent / PART + 3 * A_CONNECTION)
            self.assertTrue(after[way]["agrees"])
            # Headers, and nothing else.
            self.assertLess(passed, independent)
            self.assertLess(independent, passed * 1.08 + 30_000)
        self.node.control("pause")
        self.assertNotIn("echomesh", self.machine.ok("nft list tables netdev"))
        self.node.control("start")

    def test_counters_that_somebody_sets_back(self):
        lease, stream = self.flow(self.holder)
        # There is none before a machine's first lease.
        before = self.until("the first count", lambda: self.node.get("/diagnostics")["leases"]["check"])
        self.machine.ok("(while sleep 0.4; do conntrack -L -z; done) >/dev/null 2>&1 & echo $! >/tmp/nlbwmon.pid")
        self.addCleanup(self.machine.sh, "kill $(cat /tmp/nlbwmon.pid)")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            self.echo(stream, bytes(100_000))
            own = self.own()
            self.assertLessEqual(own["bytesEgress"], stream.sent)
            self.assertLessEqual(own["bytesIngress"], stream.received)
        self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
        self.close(stream)
        after, own = self.figures(), self.own()
        self.assertEqual((own["bytesEgress"], own["bytesIngress"]), (stream.sent, stream.received))
        for way, (_, tracked, independent) in zip(WAYS, self.passed(before, after)):
            print(f"     {way}: connection tracking {tracked}, its own counter {independent}")
            self.assertGreater(independent, stream.sent - 200_000)
            self.assertLess(tracked, 0.9 * independent)
            self.assertFalse(after[way]["agrees"])
        self.machine.ok("kill $(cat /tmp/nlbwmon.pid)")

    def test_the_table_that_counts_is_in_nobodys_way(self):
        self.machine.ok(f"nft '{OTHERS}'")
        self.addCleanup(self.machine.sh, "nft delete table netdev others")
        _, stream = self.flow(self.holder)
        self.machine.ok("nft delete table netdev echomesh_count")
        self.until("the table", lambda: "echomesh_count" in self.machine.ok("nft list tables"))
        self.echo(stream, bytes(10_000))
        self.close(stream)
        found = self.figures()
        self.assertEqual((found["reason"], found["egress"]["agrees"], found["ingress"]["agrees"]), ("", True, True))
        self.assertRegex(self.machine.ok("nft list table netdev others"), r"counter packets [1-9]")

    def test_what_ended_before_all_leases_did_is_counted(self):
        """A buyer ends its connections, and in the same moment the one that its two leases live on: the table goes."""
        holder = Holder(self, self.session)
        holder.lease("origin.lab.test")
        lease, streams = holder.lease(GOOD), []
        for _ in range(40):
            stream = self.dial(lease)
            self.echo(stream, client_hello(sni=GOOD))
            self.echo(stream, bytes(100))
            streams.append(stream)
        for stream in streams:
            stream.close_write()
        holder.close()
        self.until("the flows' end", lambda: self.own()["open"] == 0)
        self.assertEqual(self.own()["bytesEgress"], sum(stream.sent for stream in streams))
        for stream in streams:
            stream.close()

    def bundles(self, session):
        return [b["bundle"] for b in self.lab.session(session.id)["bundles"]]

    def later(self, seconds):
        """The coordinator's time, and so the node's, is another from now on."""
        self.lab.fault("clock", offsetMs=seconds * 1000)
        self.lab.resync()

    def test_what_is_known_late_stands_in_the_next_bundle(self):
        self.machine.ok("tc qdisc replace dev eth0 root netem delay 50ms limit 10000")
        self.addCleanup(self.machine.sh, "tc qdisc del dev eth0 root")
        self.cut_off()
        session = self.lab.open(notBeforeS=-3600, durationS=7200)
        holder = Holder(self, session)
        _, stream = self.flow(holder)
        self.echo(stream, bytes(3_000_000))
        time.sleep(2.5)
        self.later(300)
        self.addCleanup(self.later, 0)
        sealed = self.until("a sealed bundle", lambda: self.bundles(session), 40)
        self.assertEqual(len(sealed), 1)
        # What is certain while the connection lives, and no more.
        lacking = stream.sent - sealed[0]["bytesEgress"], stream.received - sealed[0]["bytesIngress"]
        for late, all_ in zip(lacking, (stream.sent, stream.received)):
            self.assertGreater(late, 0)
            self.assertLess(late, all_ / 100)
        self.close(stream)
        self.until("the flow's end", lambda: self.node.sessions()[session.id]["open"] == 0)
        totals = self.settle(session)
        found = self.bundles(session)
        self.assertEqual(found[:1], sealed)
        self.assertEqual([(b["bytesEgress"], b["bytesIngress"], b["connections"]) for b in found[1:]], [(*lacking, 0)])
        self.assertEqual((totals["bytesEgress"], totals["bytesIngress"]), (stream.sent, stream.received))
        # From the SYN, which the line holds back, to the SYN-ACK.
        self.assertGreaterEqual(sealed[0]["latencyMsP50"], 50)
        self.assertLess(sealed[0]["latencyMsP50"], 1000)
        self.clean(session)
        holder.close()

    def cut_off(self):
        """A session that ends while a connection of it lives has in its bundle what the last counters say, and nothing comes later."""
        _, stream = self.flow(self.holder)
        self.echo(stream, bytes(1_000_000))
        totals = self.settle(self.session)
        for name, passed in (("bytesEgress", stream.sent), ("bytesIngress", stream.received)):
            self.assertLessEqual(totals[name], passed)
            self.assertGreater(totals[name], 0.99 * passed)
        found = self.bundles(self.session)
        time.sleep(2)
        self.assertEqual(self.bundles(self.session), found)
        self.clean(self.session)
