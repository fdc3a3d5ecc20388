"""The range of leases' ports: closed but for a lease, and a lease for nobody but its buyer. For worlds of any family."""
from vmlab.packets import ACK, RST, SYN, Wire, packet, parse


class ClosedPorts:
    """Of a `LeaseWorld`. What a SYN has come to is seen on the wires, since no SYN alone is a connection of the target's."""

    def assert_all_closed_but(self, own):
        """A burst of SYNs at the whole range: each is reset, none comes to the target or into the LAN; and the lease's own port opens."""
        arena, sport = self.arena, self.arena.peer(own).sport
        mark, seen = len(arena.wire.segments), len(self.lan_wire.segments)
        arena.ether.drain()
        closed, left = set(self.ports) - {own}, set(self.ports) - {own}
        for turn in range(3):
            # What a full queue on the way has lost comes again, as with any sender.
            for port in sorted(left):
                arena.ether.send(packet(arena.buyer, arena.router, sport, port, port * 7919, 0, SYN))
            left -= self.resets(sport)
            print(f"     {len(closed) - len(left)} of {len(closed)} ports have said that they are closed after burst {turn + 1}")
            if not left:
                break
        self.assertEqual(left, set())
        self.assertEqual((arena.arrivals(mark, sport), self.lan_wire.segments[seen:]), ([], []))
        self.assert_lan_untouched()
        self.assert_opens(own)

    def resets(self, sport):
        """Ports that reset a SYN from there, until nothing more comes; that they do nothing else."""
        found = set()
        while whole := self.arena.ether.receive(0.5):
            source, _, port, to, segment = parse(whole) or ("", "", 0, 0, None)
            if (source, to) == (self.arena.router, sport):
                self.assertEqual((segment.flags, segment.ack), (RST | ACK, port * 7919 + 1), port)
                found.add(port)
        return found

    def assert_opens(self, port):
        peer = self.arena.peer(port)
        mark = len(self.arena.wire.segments)
        self.assertTrue(peer.open())
        peer.send(RST)
        self.assertTrue([s for s in self.arena.arrivals(mark, peer.sport) if s.flags & SYN])

    def assert_closed_to(self, source, port):
        """A SYN from another address is reset, and does not come to the target; the same from the buyer's own does."""
        answers = Wire(self.topology.inet, "w0", source)
        self.addCleanup(answers.close)
        mark = len(self.arena.wire.segments)
        other = self.arena.peer(port, source)
        other.syn()
        self.assertEqual(self.arena.arrivals(mark, other.sport), [])
        self.assertEqual([(s[2], s[4].flags) for s in answers.segments if s[3] == other.sport], [(port, RST | ACK)])
        self.assert_opens(port)

    def assert_begins_nothing(self, port, flags, data, answered):
        """What is no SYN is reset if anything may be, and does not come to the target."""
        mark = len(self.arena.wire.segments)
        peer = self.arena.peer(port)
        peer.send(flags, 0, data, ack=77)
        answer = peer.wait(lambda _: True, 1 if answered else 0.3)
        # A reset stands where the sender has said that it awaits something (RFC 9293 section 3.5.2).
        self.assertEqual(answer and (answer.flags, answer.seq), (RST, 77) if answered else None)
        self.assertEqual(self.arena.arrivals(mark, peer.sport), [])
