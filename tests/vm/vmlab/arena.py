"""What attacks need around a router: hand-made packets from the buyer, and a look at all that reaches target and LAN."""
import itertools

from attacks import BAD, GOOD, hello, play
from harness.netns import BUYER, NODE_WAN, TARGET

from .packets import HUSHED, RST, Ether, Peer, Wire


def _pieces(data, size=8):
    return {data[at : at + size] for at in range(len(data) - size + 1)}


class Arena:
    """The buyer's packets and the target's wire in a topology."""

    def __init__(self, topology, target):
        self.target = target
        self.ether = Ether(topology.buyer, "eth0", "44.3.3.1")
        self.wire = Wire(topology.inet, "w0", TARGET)
        self._ports = itertools.cycle(HUSHED)

    def peer(self, port, source=BUYER):
        """A connection that nobody has had yet."""
        sport = next(self._ports)
        return Peer(self.ether, source, sport, NODE_WAN, port, start=1000 + sport * 70_000)

    def strike(self, attack, port, host, settle=0.5):
        """Plays an attack; gives the hellos, the bytes that reached the target's wire, and those that its program read."""
        mark, before = self.wire.mark(), len(self.target.connections)
        self.ether.drain()
        peer = self.peer(port)
        hellos = {}
        play(attack, peer, lambda name: hellos.setdefault(name, hello(attack, name)), host)
        peer.wait(lambda s: s.flags & RST, settle)
        peer.send(RST, max(0, len(peer.got)))
        arrived = self.wire.since(mark)
        read = b"".join(c.got for c in self.target.connections[before:])
        return hellos, arrived, read

    def forbidden(self, attack, port):
        """What reached the target though it must not: any payload; beside bytes of the lease's own hello where that is in it."""
        hellos, arrived, read = self.strike(attack, port, BAD)
        if GOOD not in hellos:
            return arrived or read
        ours, theirs = _pieces(hellos[BAD]), _pieces(hellos[GOOD])
        return b"".join(sorted((_pieces(arrived) | _pieces(read)) & (ours - theirs)))

    def control(self, attack, port):
        """Whether the same with the lease's own host arrives whole; None if there is no such thing."""
        if not attack.control:
            return None
        hellos, _, read = self.strike(attack, port, GOOD)
        return read == hellos[GOOD]

    def close(self):
        self.ether.close()
        self.wire.close()
