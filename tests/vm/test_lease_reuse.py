"""What comes under an entry of connection tracking that was accepted, and is not what was judged: another connection from the
same ports, and what ICMP carries along. Behind a firewall whose own flowtable takes whatever passes."""
import contextlib
import socket
import struct
import time

from attacks import BAD, GOOD
from harness.hello import client_hello
from vmlab.leases import LeaseWorld, Refused
from vmlab.packets import ACK, FIN, PSH, RST, SYN, checksum, octets

# RFC 2385: who has not agreed on a key throws it away, and says nothing.
MD5 = b"\x13\x12" + bytes(16) + b"\1\1"


class Reuse(LeaseWorld):
    fw4 = True

    def accepted(self, lease):
        """A connection that was accepted, and the target's end of it."""
        before = len(self.target.connections)
        peer = self.arena.peer(lease["address"][1])
        self.assertTrue(peer.open())
        hello = client_hello(sni=GOOD)
        peer.send(PSH | ACK, 0, hello)
        self.assertTrue(peer.wait(lambda s: s.data))
        peer.send(ACK, len(hello))
        self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
        return peer, self.target.next(before), len(hello)

    def assert_no_other(self, peer):
        """A forbidden hello on a new connection from the same port reaches nobody."""
        mark = self.arena.wire.mark()
        peer.start += 10_000_000
        if peer.open(0.5):
            peer.send(PSH | ACK, 0, client_hello(sni=BAD))
        self.assertEqual(self.arena.wire.since(mark), b"")

    def forgotten(self, lease):
        """A connection that the target has reset, and connection tracking takes for one that lives."""
        peer, end, length = self.accepted(lease)
        # It leaves the fast path by flags that mean nothing to connection tracking.
        peer.send(FIN | RST | SYN, length)
        # What the target has not sent yet is no answer of the buyer's. Connection tracking, which has not seen the fast path, takes
        # it for one, and a reset from before it for an old one.
        peer.send(ACK, length, ack=peer.there + (1 << 24))
        time.sleep(1.5)
        end.reset()
        time.sleep(0.2)
        self.assertIn("ESTABLISHED", "".join(self.flows(lease)))
        return peer, length

    def test_a_port_whose_connection_the_target_alone_has_forgotten(self):
        lease = self.holder.lease(GOOD)
        peer, _ = self.forgotten(lease)
        self.assert_no_other(peer)

    def test_the_fast_path_does_not_take_it_back(self):
        lease = self.holder.lease(GOOD)
        peer, length = self.forgotten(lease)
        for _ in range(3):
            peer.send(ACK, length, options=MD5)
            time.sleep(0.1)
        self.assertNotIn("[OFFLOAD]", "".join(self.flows(lease)))
        self.assert_no_other(peer)

    def test_a_port_after_an_end_that_the_buyer_began(self):
        lease = self.holder.lease(GOOD)
        peer, end, length = self.accepted(lease)
        peer.send(FIN | ACK, length)
        self.assertEqual(end.ended(), "fin")
        end.sock.close()
        self.assertTrue(peer.wait(lambda s: s.flags & FIN))
        peer.there += 1
        peer.send(ACK, length + 1)
        self.assert_no_other(peer)

    def test_what_was_idle_is_offloaded_again_by_the_targets_word(self):
        """The other way round: the buyer's first packets pass the judge's queue, past the other flowtable."""
        lease = self.holder.lease(GOOD)
        peer, end, length = self.accepted(lease)
        peer.send(FIN | RST | SYN, length)
        time.sleep(1.5)
        before = len(end.got)
        peer.send(PSH | ACK, length, b"a" * 100)
        self.assertTrue(end.wait(lambda c: len(c.got) == before + 100))
        self.assertTrue(peer.wait(lambda s: s.data))
        self.assertIn("[OFFLOAD]", "".join(self.flows(lease)))
        peer.send(ACK, length + 100)

    def test_a_mark_that_somebody_overwrites_opens_nothing(self):
        lease = self.holder.lease(GOOD)
        self.machine.ok("nft 'add table inet marks; add chain inet marks p { type filter hook prerouting priority mangle; }; add rule inet marks p iifname eth0 ct state established ct mark set 1'")
        self.addCleanup(self.machine.ok, "nft delete table inet marks")
        mark = self.arena.wire.mark()
        peer = self.arena.peer(lease["address"][1])
        self.assertTrue(peer.open())
        peer.send(PSH | ACK, 0, client_hello(sni=BAD))
        self.assertEqual(self.arena.wire.since(mark), b"")

    def test_a_target_that_moves_into_the_lan_is_reached_no_more(self):
        lease = self.holder.lease(GOOD)
        peer, end, length = self.accepted(lease)
        self.machine.ok("/usr/sbin/ip addr add 44.10.0.82/29 dev eth1")
        try:
            self.until("the flow's end", lambda: not self.flows(lease), 5)
            self.assert_nothing_left()
            peer.send(PSH | ACK, length, b"later")
            time.sleep(0.2)
            self.assert_lan_untouched()
            self.assertNotIn(b"later", end.got)
            with self.assertRaises(Refused) as refused:
                self.holder.lease(GOOD)
            self.assertEqual(refused.exception.args[1], "address-denied")
        finally:
            self.machine.ok("/usr/sbin/ip addr del 44.10.0.82/29 dev eth1")
        self.until("a lease", lambda: self.is_given(), 10)

    def is_given(self):
        with contextlib.suppress(Refused):
            return self.holder.lease(GOOD)

    def test_icmp_carries_next_to_nothing(self):
        lease = self.holder.lease(GOOD)
        peer, _, length = self.accepted(lease)
        with self.topology.inet.inside():
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.addCleanup(s.close)
        s.settimeout(0.3)
        # "Fragmentation needed" about a packet of the target's, from the buyer, with 1,200 bytes behind it.
        inner = octets(peer.target) + octets(peer.source)
        quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1440, 0, 0, 60, 6, 0) + inner
        quoted = quoted[:10] + struct.pack("!H", checksum(quoted)) + quoted[12:]
        quoted += struct.pack("!HHIIBBHHH", peer.dport, peer.sport, peer.there, peer.start, 5 << 4, ACK, 64000, 0, 0)
        body = quoted + b"contraband" * 120
        icmp = struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + body
        icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
        outer = octets(peer.source) + octets(peer.target)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0) + outer
        whole = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + icmp
        for _ in range(300):
            self.arena.ether.send(whole)
        carried = 0
        with contextlib.suppress(TimeoutError):
            while True:
                carried += len(s.recv(4096))
        # The first ones, and what a few seconds of a slow test add; 380 kB were sent.
        self.assertGreater(carried, len(whole))
        self.assertLess(carried, 64 << 10)
