"""Another connection under an entry of connection tracking that was accepted: attacks for worlds of any family and kernel. The
machine has a firewall whose own flowtable takes whatever passes."""
import time

from attacks import BAD, GOOD
from harness.hello import client_hello
from vmlab.packets import ACK, FIN, PSH, RST, SYN

# RFC 2385: who has not agreed on a key throws it away, and says nothing.
MD5 = b"\x13\x12" + bytes(16) + b"\1\1"


class ReuseAttacks:
    """Of a `LeaseWorld` whose target echoes."""

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
