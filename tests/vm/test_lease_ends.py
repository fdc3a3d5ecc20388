"""What ends leases and the flows on them: deaths, changes of the firewall and the network, floods, and long use."""
import contextlib
import datetime
import os
import threading
import time
import unittest

from attacks import BAD, GOOD
from harness.hello import client_hello
from harness.netns import BUYER, NODE_WAN
from harness.stream import RESET, ending
from vmlab.leases import Holder, LeaseWorld, Refused
from vmlab.packets import ACK, FIN, HUSHED, PSH, RST, SYN, packet

# Of a second buyer.
ANOTHER = "44.3.3.9"
# So many connections are undecided at once.
UNDECIDED = 256


class Ends(LeaseWorld):
    def flow(self):
        """A lease, and a connection over it that is accepted and echoes."""
        lease = self.holder.lease(GOOD)
        stream = self.dial(lease)
        stream.write(client_hello(sni=GOOD))
        stream.read()
        return lease, stream

    def closed(self, lease):
        """Nothing that was not there before gets through: no byte of a new connection."""
        mark = self.arena.wire.mark()
        for host in (GOOD, BAD):
            peer = self.arena.peer(lease["address"][1])
            if peer.open(0.5):
                peer.send(24, 0, client_hello(sni=host))
        self.assertEqual(self.arena.wire.since(mark), b"")

    def again(self):
        """A lease and a connection, as soon as the node is back."""

        def works():
            try:
                # One that comes before the node has heard its guard is refused for good.
                self.holder = Holder(self, self.lab.open(seconds=15))
                self.addCleanup(self.holder.close)
                _, stream = self.flow()
                stream.close()
                return True
            except (OSError, EOFError, Refused, AssertionError):
                return False

        self.until("a lease", works, 90)

    def ended(self, lease):
        self.until("the flows' end", lambda: not self.flows(lease), 20)
        self.assert_nothing_left()

    def test_guard_killed_in_mid_transfer(self):
        lease, stream = self.flow()
        stream.write(b"a" * 1000)
        self.machine.ok("kill -9 $(cat /tmp/guard.pid)")
        self.closed(lease)
        self.node.wait_state("guard-down")
        with self.assertRaises(Refused):
            self.holder.lease(GOOD)
        self.closed(lease)
        # What goes on meanwhile is billed once the next guard has ended it.
        late = 200_000
        stream.write(b"b" * late)
        got = 0
        while got < late:
            got += len(stream.read())
        self.node.start_guard()
        self.ended(lease)
        self.until("the bill", lambda: self.own()["bytesIngress"] > 0.9 * late)
        # The middle of a stream begins nothing.
        mark = self.arena.wire.mark()
        stream.write(b"a" * 1000)
        self.assertEqual(ending(stream), RESET)
        self.assertEqual(self.arena.wire.since(mark), b"")
        self.again()
        self.assert_lan_untouched()

    def test_a_lease_ends_with_its_session(self):
        holder = Holder(self, self.lab.open(notBeforeS=-3600, durationS=3608))
        self.addCleanup(holder.close)
        lease = holder.lease(GOOD)
        left = datetime.datetime.fromisoformat(lease["expiresAt"]).timestamp() - time.time()
        self.assertLess(left, 9, "no longer than its session")
        self.assert_lives_until(lease, time.monotonic() + left)
        with self.assertRaises(Refused) as refused:
            holder.lease(GOOD)
        # Once it is settled, nobody knows it any more.
        self.assertIn(refused.exception.args, ((403, "session-closed"), (407, "auth-required")))

    @unittest.skipUnless(os.environ.get("VMLAB_TEN_MINUTES"), "a run by hand: VMLAB_TEN_MINUTES")
    def test_a_lease_that_nobody_renews_ends_at_its_time(self):
        begun = time.monotonic()
        other, lease = self.holder.lease(GOOD), self.holder.lease(GOOD)
        renew = threading.Timer(300, self.holder.ask, ["POST", f"/leases/{other['leaseId']}/renew"])
        self.addCleanup(renew.cancel)
        renew.start()
        self.assert_lives_until(lease, begun + 600)
        # What was renewed in the middle lives on, beside it.
        renew.join()
        stream = self.dial(other)
        stream.write(client_hello(sni=GOOD))
        self.assertTrue(stream.read())

    def assert_lives_until(self, lease, end):
        """A connection that is used all the time ends when its lease's time is over, and is gone then. That is said in whole
        seconds, rounded down, by a clock that follows the coordinator's."""
        stream = self.dial(lease)
        hello = client_hello(sni=GOOD)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end + 5:
                stream.write(hello)
                self.assertTrue(stream.read())
                time.sleep(0.05)
        late = time.monotonic() - end
        self.assertTrue(-1 < late < 2, late)
        self.assertEqual(self.flows(lease), [])

    def test_node_killed_in_mid_transfer(self):
        lease, _ = self.flow()
        self.machine.ok("kill -9 $(cat /tmp/run.pid)")
        self.ended(lease)
        self.closed(lease)
        self.node.start_run()
        self.again()
        self.assert_lan_untouched()

    def test_everybodys_rules_are_flushed(self):
        lease, _ = self.flow()
        self.machine.ok("nft flush ruleset")
        self.closed(lease)
        self.ended(lease)
        self.again()
        self.assert_lan_untouched()

    def test_the_network_goes_and_comes(self):
        lease, _ = self.flow()
        self.machine.ok("/usr/sbin/ip link set eth0 down; sleep 1; /usr/sbin/ip link set eth0 up")
        self.machine.ok("/usr/sbin/ip route replace default via 44.2.2.1; /usr/sbin/ip -6 addr add 2a10:2::2/64 dev eth0 nodad; /usr/sbin/ip -6 route replace default via 2a10:2::1 || true")
        self.ended(lease)
        self.again()

    def test_ten_thousand_syns(self):
        lease, stream = self.flow()
        port = lease["address"][1]
        mark = len(self.arena.wire.segments)
        rss = self.node.rss_kb()
        for number in range(10_000):
            source = BUYER if number % 2 else f"44.3.{3 + number % 200}.{1 + number // 200 % 250}"
            sport = HUSHED[0] + number % len(HUSHED)
            self.arena.ether.send(packet(source, NODE_WAN, sport, port, number * 7919, 0, SYN))
        stream.write(b"still there")
        self.assertEqual(stream.read(), b"still there")
        # By their sequence numbers, which NAT leaves as they are: the buyer's own, and no stranger's.
        time.sleep(0.3)
        arrived = [s[4].seq // 7919 for s in self.arena.wire.segments[mark:] if s[4].flags & SYN]
        self.assertEqual({number % 2 for number in arrived}, {1})
        # Leases have a quarter of what the kernel remembers, and no more than 4096.
        most = int(self.machine.ok("sysctl -n net.netfilter.nf_conntrack_max"))
        self.assertLessEqual(len(self.flows(lease)), min(most // 4, 4096))
        for now, then in zip(self.node.rss_kb(), rss):
            self.assertLess(now - then, 4096)
        # The flood's own connections are ended by the deadline; then the buyer's are taken again.
        self.again()
        self.assert_lan_untouched()

    def test_a_buyer_without_a_hello_is_forgotten_after_ten_seconds(self):
        """Of a silent one nothing waits that could be answered: the kernel forgets it, and resets whatever comes. Half a hello waits, and both
        sides are reset for it."""
        lease, before = self.holder.lease(GOOD), len(self.target.connections)
        silent, half = (self.arena.peer(lease["address"][1]) for _ in range(2))
        hello = client_hello(sni=GOOD)
        began = time.monotonic()
        for peer in (silent, half):
            self.assertTrue(peer.open())
        ends = {c.peer[1]: c for c in (self.target.next(before + n) for n in range(2))}
        half.send(PSH | ACK, 0, hello[:100])
        time.sleep(began + 9 - time.monotonic())
        self.assertEqual(len(self.flows(lease)), 2)
        self.assertEqual([ends[peer.sport].end for peer in (silent, half)], [None, None])
        self.until("the deadline", lambda: not [line for line in self.flows(lease) if f"sport={silent.sport} " in line], 4)
        self.assertGreater(time.monotonic() - began, 10)
        self.assertEqual(ends[half.sport].ended(2), RESET)
        # It is sent again, as any stack does.
        for peer, at in ((half, 0), (silent, 0)):
            mark = len(self.arena.wire.segments)
            peer.send(PSH | ACK, at, hello)
            self.assertTrue(peer.wait(lambda s: s.flags & RST, 2))
            self.assertEqual([s for s in self.arena.arrivals(mark, peer.sport) if s.data], [])
        self.assertEqual(ends[half.sport].got + ends[silent.sport].got, b"")
        self.assertEqual(self.node.status()["refusals"].get("hello-timeout"), 2)

    def another_buyer(self):
        """One with another address, and a lease."""
        buyer = self.topology.buyer
        buyer.ip("addr", "replace", f"{ANOTHER}/24", "dev", "eth0")
        buyer.ip("route", "replace", "default", "via", "44.3.3.1", "src", ANOTHER)
        try:
            holder = Holder(self, self.lab.open(seconds=60))
        finally:
            buyer.ip("route", "replace", "default", "via", "44.3.3.1")
        self.addCleanup(holder.close)
        return holder.lease(GOOD)["address"][1]

    def put_out(self):
        return self.node.status()["refusals"].get("rate-limited", 0)

    def test_a_flood_puts_out_its_own_buyers_connections_alone(self):
        """Of too many connections without a hello the one that gives way is of the buyer who has most, not the oldest of all."""
        port, flooded = self.another_buyer(), self.holder.lease(GOOD)["address"][1]
        other, hello = self.arena.peer(port, ANOTHER), client_hello(sni=GOOD)
        self.assertTrue(other.open())
        other.send(PSH | ACK, 0, hello[:100])
        flood, before = [(sport, sport * 7919) for sport in HUSHED[-300:]], self.put_out()
        for sport, seq in flood:
            self.arena.ether.send(packet(BUYER, NODE_WAN, sport, flooded, seq, 0, SYN))
            # No faster than one target may be asked.
            time.sleep(0.01)
        # One for each that was one too many, and nothing else that is called so.
        self.until("those that give way", lambda: self.put_out() - before >= len(flood) + 1 - UNDECIDED)
        self.assertEqual(self.put_out() - before, len(flood) + 1 - UNDECIDED)
        other.send(PSH | ACK, 100, hello[100:])
        self.assertTrue(other.wait(lambda s: s.data))
        other.send(RST, len(hello))
        for sport, seq in flood:
            self.arena.ether.send(packet(BUYER, NODE_WAN, sport, flooded, seq + 1, 0, RST))

    def test_ten_thousand_ends(self):
        """FINs of an accepted connection pass the queue, one like the other."""
        lease, stream = self.flow()
        peer, hello = self.arena.peer(lease["address"][1]), client_hello(sni=GOOD)
        self.assertTrue(peer.open())
        peer.send(PSH | ACK, 0, hello)
        self.assertTrue(peer.wait(lambda s: s.data))
        rss = self.node.rss_kb()
        for _ in range(10_000):
            peer.send(FIN | ACK, len(hello))
        stream.write(b"still there")
        self.assertEqual(stream.read(), b"still there")
        for now, then in zip(self.node.rss_kb(), rss):
            self.assertLess(now - then, 4096)
        self.again()
        self.assert_lan_untouched()

    def test_a_node_that_says_nothing_loses_its_leases(self):
        lease, stream = self.flow()
        self.machine.ok("kill -STOP $(cat /tmp/run.pid)")
        self.addCleanup(self.machine.sh, "kill -CONT $(cat /tmp/run.pid)")
        stopped = time.monotonic()
        # What is accepted the kernel carries meanwhile, and nothing new.
        stream.write(b"still carried")
        self.assertEqual(stream.read(), b"still carried")
        self.closed(lease)
        self.until("the flows' end", lambda: not self.flows(lease), 20)
        self.assertGreater(time.monotonic() - stopped, 8)
        self.assertLess(time.monotonic() - stopped, 16)
        self.assert_nothing_left()
        mark = self.arena.wire.mark()
        stream.write(b"a" * 1000)
        self.assertEqual(ending(stream), RESET)
        self.assertEqual(self.arena.wire.since(mark), b"")
        self.machine.ok("kill -CONT $(cat /tmp/run.pid)")
        self.again()
        self.assert_lan_untouched()

    def test_bytes_of_aborted_connections(self):
        lease = self.holder.lease(GOOD)
        arrived = sent = 0
        for number in range(20):
            stream = self.dial(lease)
            for part in (client_hello(sni=GOOD), b"b" * (number * 3000)):
                stream.write(part)
                while stream.received < stream.sent:
                    stream.read()
            sent += stream.sent
            arrived += stream.received
            stream.reset()
        self.until("the flows' end", lambda: self.own()["open"] == 0, 20)
        own = self.own()
        self.assertLessEqual(own["bytesIngress"], arrived)
        self.assertLessEqual(own["bytesEgress"], sent)
        self.assertGreaterEqual(own["bytesIngress"], 0.99 * arrived)
        self.assertGreaterEqual(own["bytesEgress"], 0.99 * sent)
        time.sleep(1)
        self.settle(self.session)
