"""What attacks need around a router: hand-made packets from the buyer, and a look at all that reaches target and LAN."""
import contextlib
import itertools
import subprocess
import time
from typing import NamedTuple

from attacks import BAD, GOOD, hello, play
from harness.netns import BUYER, BUYER6, NODE_WAN, NODE_WAN6, TARGET, TARGET6

from .packets import HUSHED, RST, Ether, Peer, Wire


def _pieces(data, size=8):
    return {data[at : at + size] for at in range(len(data) - size + 1)}


# The Internet is one machine, in which nothing would die on the way from the router to the target.
_DIES = """
table inet hops
delete table inet hops
table inet hops {
    chain in { type filter hook prerouting priority -300; meta l4proto tcp ip ttl 1 drop; meta l4proto tcp ip6 hoplimit 1 drop; }
}
"""


class Strike(NamedTuple):
    """An attack that was played: its name, the port it came from, and its hellos by host."""

    name: str
    sport: int
    hellos: dict


class Arena:
    """The buyer's packets and the target's wire in a topology."""

    def __init__(self, topology, target, v6=False):
        self.target = target
        self.buyer, self.router = (BUYER6, NODE_WAN6) if v6 else (BUYER, NODE_WAN)
        subprocess.run(topology.inet.command("nft", "-f", "-"), input=_DIES, text=True, check=True)
        self.ether = Ether(topology.buyer, "eth0", "2a10:3::1" if v6 else "44.3.3.1")
        self.wire = Wire(topology.inet, "w0", TARGET6 if v6 else TARGET)
        self.strikes = []
        self._ports = itertools.cycle(HUSHED)

    def peer(self, port, source=None):
        """A connection that nobody has had yet."""
        sport = next(self._ports)
        return Peer(self.ether, source or self.buyer, sport, self.router, port, start=1000 + sport * 70_000)

    def strike(self, attack, port, host, seconds=1.5, until=lambda read: False):
        """Plays an attack, and waits for a reset or until the target's program has read what is wanted; gives what it read."""
        before = len(self.target.connections)
        self.ether.drain()
        peer = self.peer(port)
        strike = Strike(attack.name, peer.sport, {})
        self.strikes.append(strike)

        def read():
            return b"".join(c.got for c in self.target.connections[before:] if c.peer[1] == peer.sport)

        with self.answering(attack.answer):
            play(attack, peer, lambda name: strike.hellos.setdefault(name, hello(attack, name)), host)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not until(read()) and not peer.ended:
                peer.wait(lambda s: s.flags & RST, 0.1)
        peer.send(RST, max(0, len(peer.got)))
        return strike, read()

    def forbidden(self, attack, port):
        """What reached the target though it must not: any payload; beside bytes of the lease's own hello where that is in it."""
        strike, read = self.strike(attack, port, BAD)
        time.sleep(0.15)
        # Where the first fragment ends in the header the wire shows no segment, but what is read is there.
        alone = BAD in strike.hellos and GOOD not in strike.hellos
        return self.leaked(strike) or (read if alone else b"")

    def leaked(self, strike):
        """What of a forbidden strike has reached the target, as far as that has been read."""
        arrived = b"".join(s[4].data for s in list(self.wire.segments) if s[2] == strike.sport)
        if BAD not in strike.hellos or GOOD not in strike.hellos:
            return arrived if BAD in strike.hellos else b""
        ours, theirs = _pieces(strike.hellos[BAD]), _pieces(strike.hellos[GOOD])
        return b"".join(sorted(_pieces(arrived) & (ours - theirs)))

    def leaks(self):
        """Names of the strikes that leaked, however late."""
        time.sleep(0.15)
        return [strike.name for strike in self.strikes if self.leaked(strike)]

    def control(self, attack, port):
        """Whether the same with the lease's own host arrives whole; None if there is no such thing."""
        if not attack.control:
            return None
        strike, read = self.strike(attack, port, GOOD, 10, lambda read: read and read == self.strikes[-1].hellos[GOOD] * attack.hellos)
        return read == strike.hellos[GOOD] * attack.hellos

    @contextlib.contextmanager
    def answering(self, answer):
        """Connections that begin meanwhile get this answer to their first bytes, and no other; if it is one."""
        usual = self.target.answer
        if answer:
            self.target.answer = lambda connection, data: len(connection.got) == len(data) and connection.send(answer)
        try:
            yield
        finally:
            self.target.answer = usual

    def arrivals(self, mark, sport):
        """Segments from a port of the buyer's that have come to the target since a place in what arrives."""
        time.sleep(0.3)
        return [s[4] for s in self.wire.segments[mark:] if s[2] == sport]

    def close(self):
        self.ether.close()
        self.wire.close()
