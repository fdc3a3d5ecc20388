"""Connections of many kinds over leases, with a count of each end's own: what one side sent, and what the other one got."""
import contextlib
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness.hello import client_hello

# What the target says to the hello, and the plan that follows it: bytes up and down, and the kind's number.
_ANSWER = bytes(90)
_PLAN = struct.Struct("!QQB")
# Where a record with a ClientHello has its random (RFC 8446 section 4.1.2).
_RANDOM = slice(11, 43)
_SIZES = (0, 1, 500, 1447, 1448, 1449, 20_000, 90_000, 300_000)
_ROUNDS = 3
# asm-generic/socket.h, linux/if_packet.h
_ALL, _IPV4 = 3, 0x0800
_RCVBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS = 33, 263, 6
_PIECE = 65_536
# How long an end waits for the other; who looks on waits longer. A reset that is lost on the line comes no second time (RFC 9293
# section 3.5.2): the other end never hears of it, with a node between or without.
_PATIENCE, _LOOKING = 30, 60

# How a connection ends. All before "aborted" end by FINs on both sides, with everything delivered.
CLEAN = ("target first", "buyer first", "both at once", "request, half close, answer", "answer, half close, upload", "rounds")
ABORTED = ("buyer resets", "target resets", "buyer leaves")
KINDS = CLEAN + ABORTED


class Gauge:
    """Payload that crosses a link in each direction, in connections between an address and a port: what comes twice counts twice."""

    def __init__(self, namespace, device, address, port):
        with namespace.inside():
            # What goes out is shown only to who asks for all protocols.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
            self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 256 << 20)
            self._socket.bind((device, _ALL))
        self._address, self.port = socket.inet_aton(address), port
        # To the address, and from it.
        self.bytes = [0, 0]
        self._socket.settimeout(0.1)
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop:
            try:
                head, where = self._socket.recvfrom(80)
            except TimeoutError:
                continue
            at = (head[0] & 15) * 4
            if where[1] != _IPV4 or head[9] != socket.IPPROTO_TCP or len(head) < at + 20:
                continue
            way = 0 if head[16:20] == self._address else 1 if head[12:16] == self._address else None
            port = at + 2 * (way == 0)
            if way is not None and int.from_bytes(head[port : port + 2], "big") == self.port:
                self.bytes[way] += int.from_bytes(head[2:4], "big") - at - (head[at + 12] >> 4) * 4

    def read(self):
        """Both figures since the last time. What has just passed is in them."""
        time.sleep(0.3)
        dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        if dropped:
            raise AssertionError(f"{dropped} packets were not looked at")
        figures, self.bytes = self.bytes, [0, 0]
        return figures

    def close(self):
        self._stop = True
        self._thread.join()
        self._socket.close()


class _Stream:
    """A socket, and what was read from it."""

    def __init__(self, sock):
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.got = sock, 0

    def read(self, most=_PIECE):
        data = self.sock.recv(most)
        self.got += len(data)
        return data

    def exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.read(size - len(data))
            if not piece:
                raise EOFError("the stream ended early")
            data += piece
        return data

    def take(self, size):
        while size:
            size -= len(self.exactly(min(size, _PIECE)))

    def rest(self):
        while self.read():
            pass

    def give(self, size):
        block = bytes(min(size, _PIECE))
        while size:
            self.sock.sendall(block[:size])
            size -= min(size, len(block))

    def end(self):
        self.sock.shutdown(socket.SHUT_WR)

    def to_be_reset(self):
        """Closing it sends a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _end_of_target(stream, up, down, kind):
    """The target's part, after the plan; returns with a stream to be closed."""
    if kind == "rounds":
        for _ in range(_ROUNDS):
            stream.take(up)
            stream.give(down)
    elif kind == "request, half close, answer":
        stream.take(up)
        stream.rest()
        stream.give(down)
    elif kind == "answer, half close, upload":
        stream.give(down)
        stream.end()
        stream.take(up)
    elif kind == "target resets":
        stream.take(up)
        stream.give(down // 2)
        stream.to_be_reset()
        return
    else:
        stream.take(up)
        stream.give(down)
        if kind in ("target first", "both at once"):
            stream.end()
    stream.rest()


def _end_of_buyer(stream, up, down, kind):
    """The buyer's part, after the plan."""
    if kind == "rounds":
        for _ in range(_ROUNDS):
            stream.give(up)
            stream.take(down)
        stream.end()
    elif kind == "answer, half close, upload":
        stream.take(down)
        stream.rest()
        stream.give(up)
        stream.end()
    elif kind in ("buyer resets", "buyer leaves"):
        stream.give(up)
        stream.take(down // 2)
        if kind == "buyer resets":
            stream.to_be_reset()
        return
    else:
        stream.give(up)
        if kind in ("request, half close, answer", "both at once"):
            stream.end()
        if kind == "buyer first":
            stream.take(down)
            stream.end()
    stream.rest()


class Mixed:
    """A target that plays its part of whatever the buyer's plan says, and the buyer."""

    def __init__(self, topology, address, host):
        self.host, self.buyer = host, topology.buyer
        self.hello = len(client_hello(sni=host))
        self.listener = topology.inet.listen(address, 1024)
        self._ends, self._more = {}, threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with sock:
            stream, name, kind = _Stream(sock), None, None
            try:
                # Every hello has another random: the connection's name.
                name = stream.exactly(self.hello)[_RANDOM]
                sock.sendall(_ANSWER)
                up, down, number = _PLAN.unpack(stream.exactly(_PLAN.size))
                kind = KINDS[number]
                _end_of_target(stream, up, down, kind)
            except (OSError, EOFError):
                # What was got then is not what was sent, unless it is a kind that ends so.
                pass
            with self._more:
                self._ends[name] = stream.got
                self._more.notify_all()

    def one(self, lease, up, down, kind):
        """One connection; what the target has read, and what the buyer has."""
        first = client_hello(sni=self.host)
        with self.buyer.connect(lease["address"], 60) as sock:
            stream = _Stream(sock)
            try:
                sock.sendall(first)
                stream.take(len(_ANSWER))
                sock.sendall(_PLAN.pack(up, down, KINDS.index(kind)))
                _end_of_buyer(stream, up, down, kind)
            except OSError:
                if kind in CLEAN:
                    raise
        with self._more:
            if not self._more.wait_for(lambda: first[_RANDOM] in self._ends, _LOOKING):
                raise AssertionError(f"the target does not end: {kind}, {up} up, {down} down")
            return self._ends.pop(first[_RANDOM]), stream.got

    def half(self, lease):
        """A connection that is accepted and stays."""
        sock = self.buyer.connect(lease["address"], 60)
        sock.sendall(client_hello(sni=self.host))
        _Stream(sock).take(len(_ANSWER))
        return sock

    def many(self, lease, kinds, count, seed, at_once=12):
        """So many connections of these kinds, some at a time; the sums of what the targets have read, and the buyer. All that fail are
        told together: what one of them met the others may have had to bear."""
        dice = random.Random(seed)
        plans = [(dice.choice(_SIZES), dice.choice(_SIZES), kinds[number % len(kinds)]) for number in range(count)]
        failures = []

        def one(plan):
            try:
                return self.one(lease, *plan)
            except (OSError, EOFError, AssertionError) as e:
                failures.append(f"{plan}: {e!r}")
                return 0, 0

        with ThreadPoolExecutor(at_once) as pool:
            read = list(pool.map(one, plans))
        if failures:
            raise AssertionError(f"{len(failures)} of {count} connections failed: {'; '.join(failures[:8])}")
        return [sum(side) for side in zip(*read)]
