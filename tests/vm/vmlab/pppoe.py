"""The far end of a PPPoE line (RFC 2516): an access concentrator at an Ethernet device, and the network behind it."""
import contextlib
import fcntl
import os
import select
import socket
import struct
import threading

MTU = 1492
_DISCOVERY, SESSION = 0x8863, 0x8864
_VLAN, _SOL_PACKET, _AUXDATA, _VLAN_VALID = 0x8100, 263, 8, 0x10
_PADI, _PADO, _PADR, _PADS, _PADT = 0x09, 0x07, 0x19, 0x65, 0xA7
_SERVICE, _NAME, _HOST, _COOKIE, _RELAY = 0x0101, 0x0102, 0x0103, 0x0104, 0x0110
_IPV4, _IPV6, _LCP, _IPCP, _IPV6CP = 0x0021, 0x0057, 0xC021, 0x8021, 0x8057
_REQUEST, _ACK, _NAK, _REJECT, _TERMINATE, _TERMINATED, _PROTOCOL_REJECT, _ECHO, _ECHOED = 1, 2, 3, 4, 5, 6, 8, 9, 10
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Frames taken from one side before the other gets its turn.
_AT_ONCE = 64


def _options(data):
    """Kind and value of a request's options (RFC 1661 section 6)."""
    while len(data) >= 2 and data[1] >= 2:
        yield data[0], data[2 : data[1]]
        data = data[data[1] :]


def _option(kind, value):
    return struct.pack("!BB", kind, len(value) + 2) + value


def _tags(data):
    while len(data) >= 4:
        kind, length = struct.unpack_from("!HH", data)
        yield kind, data[4 : 4 + length]
        data = data[4 + length :]


def _tag(kind, value):
    return struct.pack("!HH", kind, len(value)) + value


def _vlan(beside):
    """The VLAN of a frame, 0 for none: from what the kernel says beside it (`struct tpacket_auxdata`)."""
    for _, kind, data in beside:
        if kind == _AUXDATA:
            status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data)
            return tag & 0xFFF if status & _VLAN_VALID else 0
    return 0


class Isp:
    """Serves one subscriber at a time: whoever dials in gets `address`, and the old session is no more. With a `tag`, all frames are
    those of that VLAN (IEEE 802.1Q)."""

    def __init__(self, namespace, device, own, address, tun="isp0"):
        self.own, self.address, self.tag, self.session, self._asked, self._stop = own, address, 0, 0, set(), False
        self._peer = b""
        with namespace.inside():
            self._ether = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            self._ether.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
            # The kernel takes the tag out of the frame, and hands it over beside it.
            self._ether.setsockopt(_SOL_PACKET, _AUXDATA, 1)
            self._ether.bind((device, 0))
            self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack("16sH14x", tun.encode(), _IFF_TUN | _IFF_NO_PI))
        self._ether.setblocking(False)
        self._mac = self._ether.getsockname()[4]
        namespace.ip("link", "set", tun, "mtu", str(MTU), "txqueuelen", "5000", "up")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def session_over(self):
        self._asked, self._peer = set(), b""

    def close(self):
        self._stop = True
        self._thread.join()
        self._ether.close()
        os.close(self._tun)

    # ---- frames

    def _run(self):
        # The devices go with their namespace, at the end.
        with contextlib.suppress(OSError):
            self._serve()

    def _serve(self):
        while not self._stop:
            ready, _, _ = select.select([self._ether, self._tun], [], [], 0.2)
            for source, take in ((self._ether, self._from_ether), (self._tun, self._from_tun)):
                if source in ready:
                    with contextlib.suppress(BlockingIOError):
                        for _ in range(_AT_ONCE):
                            take()

    def _from_tun(self):
        packet = os.read(self._tun, 65536)
        if self._peer:
            self._session(_IPV4 if packet[0] >> 4 == 4 else _IPV6, packet)

    def _from_ether(self):
        frame, beside, _, where = self._ether.recvmsg(65536, 64)
        if where[2] == socket.PACKET_OUTGOING or len(frame) < 20 or _vlan(beside) != self.tag:
            return
        kind, _, code, session, length = struct.unpack_from("!HBBHH", frame, 12)
        source, body = frame[6:12], frame[20 : 20 + length]
        if kind == _DISCOVERY:
            self._discover(source, code, session, body)
        elif kind == SESSION and (source, session) == (self._peer, self.session):
            protocol = int.from_bytes(body[:2], "big")
            if protocol in (_IPV4, _IPV6):
                os.write(self._tun, body[2:])
            else:
                self._control(protocol, body[2:])

    def _head(self, code, body):
        return struct.pack("!BBHH", 0x11, code, self.session if code in (0, _PADS, _PADT) else 0, len(body)) + body

    def _send(self, kind, data):
        if self._peer:
            tag = struct.pack("!HH", _VLAN, self.tag) if self.tag else b""
            self._ether.send(self._peer + self._mac + tag + struct.pack("!H", kind) + data)

    def _session(self, protocol, data):
        self._send(SESSION, self._head(0, struct.pack("!H", protocol) + data))

    def _discover(self, source, code, session, body):
        kept = [(kind, value) for kind, value in _tags(body) if kind in (_HOST, _COOKIE, _RELAY)]
        if code == _PADT and (source, session) == (self._peer, self.session):
            self.session_over()
        elif code in (_PADI, _PADR):
            if code == _PADR:
                self.session, self._asked = self.session % 0xFFFE + 1, set()
            self._peer = source
            tags = [(_SERVICE, b""), (_NAME, b"isp"), *kept]
            self._send(_DISCOVERY, self._head(_PADO if code == _PADI else _PADS, b"".join(_tag(*t) for t in tags)))

    # ---- what is agreed on

    def _control(self, protocol, data):
        if len(data) < 4:
            return
        code, number, length = struct.unpack_from("!BBH", data)
        body = data[4:length]
        if protocol not in (_LCP, _IPCP, _IPV6CP):
            self._say(_LCP, _PROTOCOL_REJECT, 1, struct.pack("!H", protocol) + data[:length])
        elif code == _REQUEST:
            self._say(protocol, *self._judge(protocol, number, body))
            if protocol not in self._asked:
                self._asked.add(protocol)
                self._say(protocol, _REQUEST, 1, self._wishes(protocol))
        elif code == _TERMINATE:
            self._say(protocol, _TERMINATED, number, b"")
        elif code == _ECHO and protocol == _LCP:
            self._say(protocol, _ECHOED, number, bytes(4) + body[4:])

    def _say(self, protocol, code, number, body):
        self._session(protocol, struct.pack("!BBH", code, number, len(body) + 4) + body)

    def _wishes(self, protocol):
        """The options that we ask for ourselves: the size of packets, an address, the lower half of one."""
        if protocol == _LCP:
            return _option(1, struct.pack("!H", MTU))
        return _option(3, socket.inet_aton(self.own)) if protocol == _IPCP else _option(1, bytes([0] * 7 + [1]))

    def _judge(self, protocol, number, body):
        if protocol != _IPCP:
            return _ACK, number, body
        others = b"".join(_option(kind, value) for kind, value in _options(body) if kind != 3)
        if others:
            return _REJECT, number, others
        wanted = _option(3, socket.inet_aton(self.address))
        return (_ACK if body == wanted else _NAK), number, wanted
