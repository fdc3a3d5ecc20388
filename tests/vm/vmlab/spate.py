"""Connections whose ends both send without a pause, and how soon that comes to nothing."""
import contextlib
import threading
import time

from .packets import RST

# How long after its order the kill switch may let anything pass, seconds.
LIMIT = 0.1
# How long nothing more may come by.
QUIET = 0.6


class Late(AssertionError):
    """All has ended, but not soon enough."""


class Spate:
    """Both ends of each connection send a little every `pace` seconds, whether they hear of the other or not, until they are reset."""

    def __init__(self, flows, pace):
        # The buyer's stream and the target's connection of each.
        self.flows, self.pace, self._stop = flows, pace, False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        self._thread.join()

    def _run(self):
        ends = [end for stream, connection in self.flows for end in (stream.write, connection.send)]
        while ends and not self._stop:
            # One after the other, so that something is always on its way.
            ends = [send for send in ends if self._sent(send, self.pace / len(ends))]

    @staticmethod
    def _sent(send, rest):
        time.sleep(rest)
        with contextlib.suppress(OSError):
            send(b"y" * 100)
            return True
        return False


class Side:
    """What comes by at one end of the router, of connections with these ports there. `ours` tells their segments from others' on the wire."""

    def __init__(self, name, wire, ports, ours=lambda segment: True):
        self.name, self.wire, self.ports, self.ours = name, wire, ports, ours

    def _between(self, first, last=float("inf")):
        return [s for s in self.wire.between(first, last) if self.ours(s)]

    def silent(self, first, last):
        """Those of which no payload came by between two moments."""
        return self._without(lambda s: s[4].data, first, last)

    def not_reset(self, since):
        return self._without(lambda s: s[4].flags & RST, since)

    def _without(self, test, *when):
        found = {port for s in self._between(*when) if test(s) for port in (s[2], s[3])}
        return [port for port in self.ports if port not in found]

    def last(self, began):
        """Seconds from that moment to the last segment of them that came by. Resets are the router's own."""
        return max((s[4].at - began for s in self._between(began) if not s[4].flags & RST), default=0.0)
