"""What comes under an entry of connection tracking that was accepted, and is not what was judged: another connection from the
same ports, and what ICMP carries along. Behind a firewall whose own flowtable takes whatever passes."""
import contextlib
import socket
import struct
import time

from attacks import GOOD
from reuse import ReuseAttacks
from vmlab.leases import LeaseWorld, Refused
from vmlab.packets import ACK, PSH, checksum, octets


class Reuse(ReuseAttacks, LeaseWorld):
    fw4 = True

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
