"""Attacks on the judging of a ClientHello, as data: what a buyer with a packet generator sends on a lease.

Each is played twice on a fresh connection: with a ClientHello for a host that the lease is not for (`BAD`), of which no
byte may ever reach the target; and, where it says so, with the lease's own host (`GOOD`), which must arrive whole.
"""
from dataclasses import dataclass
from typing import NamedTuple

from harness.hello import client_hello, hello_retry_request, record
from vmlab.packets import ACK, FIN, PSH, RST, SYN, URG, Peer, fragments

# Of one length: either can lie over the other's place in the stream.
GOOD, BAD = "target.test", "tarqet.test"
# Places in the hello: the middle of its name, and its end.
MID, END = "mid", "end"
BEHIND = "behind"
# Hops to the first machine behind the router, which does not hand it on.
DIES_BEHIND = 3


class Open(NamedTuple):
    """The handshake, with options in its SYN; so long an answer to it is waited for."""

    options: bytes = b""
    seconds: float = 3


class Heed(NamedTuple):
    """Waits for what the target says to what it has, and acknowledges that."""


class Part(NamedTuple):
    """Bytes of a hello from one place to another: of the one that is played, or always of the one named."""

    begin: object = 0
    end: object = END
    of: str = ""
    flags: int = PSH | ACK
    options: bytes = b""
    bad_sum: bool = False
    # Where in the stream they are said to be, from their own place; or behind the lease's own hello.
    shift: object = 0
    ack: int = 0
    ttl: int = 64


class Each(NamedTuple):
    """The whole hello in pieces of this size, in this order."""

    size: int
    backwards: bool = False


class Fragments(NamedTuple):
    """The whole hello in one segment, in IP fragments."""

    size: int
    backwards: bool = False


class Bare(NamedTuple):
    """A segment without data, so many bytes further on."""

    flags: int
    at: int = 0


class SynData(NamedTuple):
    """A SYN that brings the hello along."""


class Sleep(NamedTuple):
    seconds: float


@dataclass(frozen=True)
class Attack:
    name: str
    steps: tuple
    # Whether the same with the lease's own host arrives whole.
    control: bool = True
    # What is sent instead of a plain hello, from the host's name.
    make: object = None
    # What the target says to the first bytes instead of what it says else.
    answer: bytes = b""
    # How many hellos arrive in the control.
    hellos: int = 1


def _fragmented(host):
    return record(client_hello(sni=host)[5:], 16)


def _nameless(host):
    return client_hello(sni=None) + client_hello(sni=host)


def _bad_first(host):
    return client_hello(sni=BAD) + client_hello(sni=host)


def _quantum(host):
    return client_hello(sni=host, pad=1600)


# RFC 2385, RFC 7323: the first is unknown to the target's end, the second is of long ago.
_MD5 = b"\x13\x12" + bytes(16) + b"\1\1"
# RFC 8684 sections 3.1 and 3.2: MP_CAPABLE of version 1, MP_JOIN.
MULTIPATH = {"MP_CAPABLE": b"\x1e\x04\x01\x81", "MP_JOIN": b"\x1e\x0c\x10\0" + bytes(8)}
_OPEN = Open()
ATTACKS = [
    Attack("one segment", (_OPEN, Part())),
    Attack("cut inside the name", (_OPEN, Part(0, MID), Part(MID))),
    Attack("cut inside the record's head", (_OPEN, Part(0, 3), Part(3))),
    Attack("pieces of eight bytes", (_OPEN, Each(8))),
    # More pieces at once than any sender's first window has.
    Attack("byte by byte", (_OPEN, Each(1)), control=False),
    Attack("bytes from the last to the first", (_OPEN, Each(24, backwards=True))),
    Attack("the second half first", (_OPEN, Part(MID), Sleep(0.05), Part(0, MID))),
    Attack("everything twice", (_OPEN, Part(0, MID), Part(0, MID), Part(MID), Part(MID))),
    Attack("overlap: the allowed name first", (_OPEN, Part(0, MID), Part(40, MID, of=GOOD), Part(MID, of=GOOD, shift=1), Part(MID)), control=False),
    Attack("overlap: the end of the allowed one waits", (_OPEN, Part(MID, of=GOOD), Part()), control=False),
    Attack("overlap: the forbidden one lies under", (_OPEN, Part(20, END), Part(0, END, of=GOOD)), control=False),
    Attack("overlap: half allowed, then all of the forbidden", (_OPEN, Part(0, MID, of=GOOD), Part()), control=False),
    Attack("IP fragments", (_OPEN, Fragments(64))),
    Attack("IP fragments, last first", (_OPEN, Fragments(64, backwards=True))),
    Attack("tiny IP fragments", (_OPEN, Fragments(16))),
    Attack("records of 16 bytes", (_OPEN, Part()), make=_fragmented),
    Attack("a hello of post-quantum size in three segments", (_OPEN, Part(0, 700), Part(700, 1300), Part(1300, END)), make=_quantum),
    Attack("the name in the second hello", (_OPEN, Part()), control=False, make=_nameless),
    Attack("an allowed hello behind a forbidden one", (_OPEN, Part()), control=False, make=_bad_first),
    Attack("urgent data", (_OPEN, Part(flags=PSH | ACK | URG)), control=False),
    Attack("a FIN with the hello", (_OPEN, Part(flags=PSH | ACK | FIN)), control=False),
    Attack("a FIN before the hello", (_OPEN, Bare(FIN | ACK), Part()), control=False),
    Attack("a RST before the hello", (_OPEN, Bare(RST), Part()), control=False),
    Attack("a RST that the target ignores, then the hello", (_OPEN, Bare(RST, 1 << 20), Part()), control=False),
    Attack("data in the SYN", (SynData(), Sleep(0.3), Part()), control=False),
    Attack("data without ACK", (_OPEN, Part(flags=PSH), Part(flags=0)), control=False),
    Attack("SYN and data again", (_OPEN, Part(flags=SYN | PSH, shift=-1), Part()), control=False),
    Attack("wrong checksum on the allowed one", (_OPEN, Part(of=GOOD, bad_sum=True), Part()), control=False),
    Attack("the allowed one outside the window", (_OPEN, Part(of=GOOD, shift=1 << 20), Part()), control=False),
    Attack("the allowed one acknowledges the future", (_OPEN, Part(of=GOOD, ack=1 << 20), Part()), control=False),
    Attack("the allowed one with an unknown MD5", (_OPEN, Part(of=GOOD, options=_MD5), Sleep(0.2), Part(), Sleep(0.2), Part()), control=False),
    Attack("the allowed one dies behind the router", (_OPEN, Part(of=GOOD, ttl=DIES_BEHIND), Sleep(0.2), Part()), control=False),
    Attack("Multipath TCP", (Open(MULTIPATH["MP_CAPABLE"], 0.3), Part()), control=False),
    Attack("a second hello that the target asks for", (_OPEN, Part(of=GOOD), Heed(), Part(shift=BEHIND)), answer=hello_retry_request(), hellos=2),
    Attack("nobody waits for the handshake", (Bare(SYN, -1), Part(), Part()), control=False),
]


def hello(attack, host):
    return (attack.make or (lambda name: client_hello(sni=name)))(host)


def play(attack, peer: Peer, bytes_of, host):
    """Plays the steps; `bytes_of` gives the hello of a host."""
    whole = bytes_of(host)
    middle = whole.find(host.encode()) + 3
    for step in attack.steps:
        if isinstance(step, Open):
            if not peer.open(step.seconds, step.options):
                return False
        elif isinstance(step, Heed):
            peer.wait(lambda s: s.data)
            peer.send(ACK, len(bytes_of(GOOD)))
        elif isinstance(step, Sleep):
            peer.wait(lambda _: False, step.seconds)
        elif isinstance(step, SynData):
            peer.syn(whole)
            peer.wait(lambda s: s.flags & (SYN | RST), 1)
        elif isinstance(step, Bare):
            peer.send(step.flags, step.at, ack=0 if step.flags & SYN else None)
        elif isinstance(step, Each):
            places = range(0, len(whole), step.size)
            for at in reversed(places) if step.backwards else places:
                peer.send(PSH | ACK, at, whole[at : at + step.size])
        elif isinstance(step, Fragments):
            pieces = list(fragments(peer.packet(PSH | ACK, 0, whole), step.size))
            for piece in reversed(pieces) if step.backwards else pieces:
                peer.ether.send(piece)
        else:
            _part(step, peer, bytes_of(step.of) if step.of else whole, middle, len(bytes_of(GOOD)) if step.shift == BEHIND else step.shift)
    return True


def _part(step, peer, data, middle, shift):
    begin, end = ({MID: middle, END: len(data)}.get(p, p) for p in (step.begin, step.end))
    more = {"options": step.options, "bad_sum": step.bad_sum, "ack": peer.there + step.ack, "ttl": step.ttl}
    peer.send(step.flags, begin + shift, data[begin:end], **more)
