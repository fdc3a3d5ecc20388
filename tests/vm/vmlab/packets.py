"""TCP by hand: segments that no kernel would send, and a look at everything that arrives at the far end."""
import itertools
import re
import select
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
# Source ports of hand-made connections: the kernel of the buyer's namespace says nothing about these.
HUSHED = range(2000, 4000)
# The kernel says when it has taken a packet in (SO_TIMESTAMPNS, asm-generic/socket.h), however late it is read here.
_STAMP = 35
_IPV4, _IPV6, _TCP, _FRAGMENT = 0x0800, 0x86DD, 6, 44
_identities = itertools.cycle(range(1, 65536))


def checksum(data):
    """Of the Internet (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source, target, sport, dport, seq, ack, flags, data=b"", window=64000, options=b"", bad_sum=False, ttl=64, extension=None):
    """An IP packet with a TCP segment; `options` in whole words of 4 bytes, `extension` the number of a header of IPv6 before it."""
    addresses = octets(source) + octets(target)
    head = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (5 + len(options) // 4) << 4, flags, window, 0, 0)
    segment = head + options + data
    total = checksum(addresses + struct.pack("!BBH", 0, _TCP, len(segment)) + segment) ^ (0x5555 if bad_sum else 0)
    segment = segment[:16] + struct.pack("!H", total) + segment[18:]
    if len(addresses) == 8:
        return ipv4(addresses, segment, ttl=ttl)
    # Padding alone, 8 bytes (RFC 8200 sections 4.2 and 4.3); a routing header of it has no segments left.
    more = struct.pack("!BBBBI", _TCP, 0, *((1, 4) if extension != 43 else (253, 0)), 0) if extension is not None else b""
    return ipv6(addresses, more + segment, _TCP if extension is None else extension, ttl)


def octets(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ipv6(addresses, body, following, ttl=64):
    """A header before the body, whose first header has the number `following`."""
    return struct.pack("!IHBB", 6 << 28, len(body), following, ttl) + addresses + body


def ipv4(addresses, body, identity=0, fragment=0, ttl=64):
    """A header before the body; `fragment` is the field of flags and offset."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), identity, fragment, ttl, _TCP, 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def fragments(whole, size, first=None):
    """A packet in IP fragments of `size` bytes (a multiple of 8), first to last; the first may have another size."""
    v6, identity = whole[0] >> 4 == 6, next(_identities)
    body = whole[40:] if v6 else whole[20:]
    at, length = 0, first or size
    while at < len(body):
        is_last = at + length >= len(body)
        piece = body[at : at + length]
        if v6:
            yield ipv6(whole[8:40], struct.pack("!BBHI", _TCP, 0, at | (not is_last), identity) + piece, _FRAGMENT)
        else:
            yield ipv4(whole[12:20], piece, identity=identity, fragment=at // 8 | (0 if is_last else 0x2000))
        at, length = at + length, size


@dataclass
class Segment:
    """What came back."""

    seq: int
    ack: int
    flags: int
    data: bytes
    options: bytes = b""
    # When it came in, seconds of the monotonic clock; of a `Wire`'s segments.
    at: float = 0.0

    def mss(self):
        """What a SYN says of the largest segment (RFC 9293 section 3.7.1), if that is its first option."""
        return int.from_bytes(self.options[2:4], "big") if self.options[:2] == b"\2\4" else None


def parse(whole):
    """Addresses, ports and segment of an IP packet with TCP; None for anything else."""
    if len(whole) < 40:
        return None
    if whole[0] >> 4 == 6:
        family, protocol, addresses, at, end = socket.AF_INET6, whole[6], whole[8:40], 40, 40 + int.from_bytes(whole[4:6], "big")
    else:
        family, protocol, addresses, at, end = socket.AF_INET, whole[9], whole[12:20], (whole[0] & 15) * 4, int.from_bytes(whole[2:4], "big")
    if protocol != _TCP or len(whole) < at + 20:
        return None
    source, target = (socket.inet_ntop(family, half) for half in (addresses[: len(addresses) // 2], addresses[len(addresses) // 2 :]))
    sport, dport, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", whole, at)
    options, data = whole[at + 20 : at + (offset >> 4) * 4], whole[at + (offset >> 4) * 4 : end]
    return source, target, sport, dport, Segment(seq, ack, flags, data, options)


def _packets(namespace, device, kind, room):
    """A socket for a device's packets of this kind, with their Ethernet headers."""
    with namespace.inside():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        s.bind((device, kind))
    return s


class Ether:
    """A namespace's device, for whole packets of the gateway's family in and out, past its kernel's own rules."""

    def __init__(self, namespace, device, gateway):
        self.namespace, self.device = namespace, device
        v6 = ":" in gateway
        kind = _IPV6 if v6 else _IPV4
        subprocess.run(namespace.command("nft", "-f", "-"), input=_HUSH, text=True, check=True)
        own = re.search(r"link/ether (\S+)", namespace.ip("link", "show", device))[1]
        # The answer to the first connection's question is kept here.
        with namespace.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", (gateway, 9))
        end = time.monotonic() + 5
        while not (found := re.search(r"lladdr (\S+)", namespace.ip("neigh", "show", gateway))):
            if time.monotonic() > end:
                raise AssertionError(f"{gateway} does not answer")
            time.sleep(0.05)
        self._head = bytes.fromhex((found[1] + own).replace(":", "")) + struct.pack("!H", kind)
        self._socket = _packets(namespace, device, kind, 8 << 20)

    def send(self, whole):
        self._socket.send(self._head + whole)

    def receive(self, seconds):
        """The next packet that came in, or None."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                frame, where = self._socket.recvfrom(1 << 17)
                if where[2] != socket.PACKET_OUTGOING:
                    return frame[14:]
        return None

    def drain(self):
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(1 << 17)

    def close(self):
        self._socket.close()


_HUSH = f"""
table inet hush
delete table inet hush
table inet hush {{
    chain out {{ type filter hook output priority 0; tcp sport {HUSHED[0]}-{HUSHED[-1]} drop; }}
}}
"""


class Peer:
    """One hand-made connection over an [`Ether`]: what it has sent and what it knows of the other side."""

    def __init__(self, ether, source, sport, target, dport, start=1000):
        self.ether, self.source, self.sport, self.target, self.dport = ether, source, sport, target, dport
        self.start, self.there = start, 0
        self.got, self.ended = b"", None

    def packet(self, flags, at=0, data=b"", ack=None, **more):
        """A segment whose data begin `at` bytes after the first byte of the stream."""
        seq = self.start + 1 + at
        return packet(self.source, self.target, self.sport, self.dport, seq, self.there if ack is None else ack, flags, data, **more)

    def send(self, flags, at=0, data=b"", **more):
        self.ether.send(self.packet(flags, at, data, **more))

    def syn(self, data=b"", **more):
        self.send(SYN, -1, data, ack=0, **more)

    def wait(self, test, seconds=3):
        """The next segment of this connection that the test likes; remembers data and ends on the way."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            whole = self.ether.receive(left)
            found = parse(whole) if whole else None
            if not found or found[:4] != (self.target, self.source, self.dport, self.sport):
                continue
            segment = found[4]
            self._note(segment)
            if test(segment):
                return segment
        return None

    def _note(self, segment):
        if segment.flags & SYN:
            self.there = segment.seq + 1
        elif segment.data and segment.seq == self.there & 0xFFFFFFFF:
            self.there += len(segment.data)
            self.got += segment.data
        if segment.flags & RST:
            self.ended = "reset"
        elif segment.flags & FIN and not self.ended:
            self.ended = "fin"

    def open(self, seconds=3, options=b""):
        """The handshake, with the segments' size and these options; tells whether it was answered."""
        for _ in range(3):
            self.syn(options=b"\2\4\5\xb4" + options)
            answer = self.wait(lambda s: s.flags & (SYN | RST), seconds)
            if answer:
                break
        if not answer or answer.flags & RST:
            return False
        self.send(ACK)
        return True


class Wire:
    """Everything with TCP that arrives on a device, for the address given: what a target could ever have seen. On a PPPoE line `kind` is that of
    its frames, which have a header of 8 bytes."""

    def __init__(self, namespace, device, address, kind=None):
        self._socket = _packets(namespace, device, kind or (_IPV6 if ":" in address else _IPV4), 32 << 20)
        self._head = 14 if kind is None else 22
        self.address, self.segments, self.fragmented, self.tails, self._stop = address, [], 0, [], False
        self._socket.setsockopt(socket.SOL_SOCKET, _STAMP, 1)
        self._socket.settimeout(0.1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop:
            try:
                frame, said, _, where = self._socket.recvmsg(1 << 17, 64)
            except TimeoutError:
                continue
            if where[2] == socket.PACKET_OUTGOING:
                continue
            packet = frame[self._head :]
            found = parse(packet)
            if found and found[1] == self.address:
                found[4].at = _moment(said)
                self.segments.append(found)
            if len(packet) < 20:
                continue
            v6 = packet[0] >> 4 == 6
            self.fragmented += packet[6] == _FRAGMENT if v6 else bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
            if not v6 and int.from_bytes(packet[6:8], "big") & 0x1FFF:
                self.tails.append(int.from_bytes(packet[2:4], "big") - 20)

    def mark(self):
        """A place in what arrives, for [`since`]."""
        time.sleep(0.15)
        return len(self.segments)

    def since(self, mark):
        """Payload bytes since then, in the order of arrival."""
        time.sleep(0.15)
        return b"".join(s[4].data for s in self.segments[mark:])

    def between(self, first, last=float("inf")):
        """What came between two moments of the monotonic clock, as far as it has been read."""
        return [s for s in list(self.segments) if first < s[4].at <= last]

    def close(self):
        self._stop = True
        self._thread.join()
        self._socket.close()


def _moment(said):
    """What the kernel's stamp of a packet is by the monotonic clock."""
    (stamp,) = (data for level, kind, data in said if (level, kind) == (socket.SOL_SOCKET, _STAMP))
    seconds, nanoseconds = struct.unpack("qq", stamp)
    return seconds + nanoseconds * 1e-9 - time.time() + time.monotonic()
