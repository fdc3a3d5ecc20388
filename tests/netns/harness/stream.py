"""Byte streams a test has in its hand: plain TCP, and TLS over any stream with half-close and raw access."""
import base64
import hashlib
import socket
import ssl
import struct

RESET = "reset"


class Tcp:
    """A connected socket."""

    def __init__(self, sock):
        self.sock = sock
        self.sent = self.received = 0

    def write(self, data):
        self.sock.sendall(data)
        self.sent += len(data)

    def read(self, most=65536):
        """Some bytes; b"" at the end. A reset raises ConnectionResetError."""
        data = self.sock.recv(most)
        self.received += len(data)
        return data

    def arrived(self):
        """Bytes that the kernel has taken in, whether they have been read or not: tcpi_bytes_received (linux/tcp.h)."""
        return struct.unpack_from("Q", self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136), 128)[0]

    def close_write(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    def timeout(self, seconds):
        self.sock.settimeout(seconds)


class Tls:
    """TLS as a client over a stream."""

    def __init__(self, below, context, name, handshake=True):
        self.below = below
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._ended = False
        if handshake:
            self._run(self.tls.do_handshake)

    def _flush(self):
        if self._out.pending:
            self.below.write(self._out.read())

    def _run(self, step):
        while True:
            try:
                result = step()
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                data = self.below.read()
                if data:
                    self._in.write(data)
                elif self._ended:
                    raise EOFError("the stream ended in TLS") from None
                else:
                    self._ended = True
                    self._in.write_eof()

    def write(self, data):
        view = memoryview(data)
        while view:
            n = self._run(lambda: self.tls.write(view[:65536]))
            view = view[n:]

    def read(self, most=65536):
        try:
            return self._run(lambda: self.tls.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError, EOFError):
            return b""

    def close_write(self):
        """close_notify and a FIN; reading goes on."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()
        self.below.close_write()

    def reset(self):
        self.below.reset()

    def close(self):
        self.below.close()

    def arrived(self):
        return self.below.arrived()

    def timeout(self, seconds):
        self.below.timeout(seconds)

    def spki_pin(self):
        """`sha256//…` of the server's key, as curl pins it."""
        return "sha256//" + base64.b64encode(hashlib.sha256(_spki(self.tls.getpeercert(True))).digest()).decode()


def _spki(der):
    """The SubjectPublicKeyInfo of a certificate (RFC 5280 section 4.1)."""

    def element(at):
        length, head = der[at + 1], 2
        if length & 0x80:
            count = length & 0x7F
            length, head = int.from_bytes(der[at + 2 : at + 2 + count], "big"), 2 + count
        return at + head, at + head + length

    tbs, _ = element(0)
    at, _ = element(tbs)
    if der[at] == 0xA0:
        at = element(at)[1]
    for _ in range(5):  # serialNumber, signature, issuer, validity, subject
        at = element(at)[1]
    return der[at : element(at)[1]]


def read_all(stream, limit=1 << 30):
    """Everything to the end."""
    parts, size = [], 0
    while size <= limit:
        data = stream.read()
        if not data:
            break
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def ending(stream):
    """How a stream ends: RESET, or the bytes that still came before an orderly end."""
    try:
        return read_all(stream)
    except ConnectionResetError:
        return RESET


def any_context():
    """Trusts every certificate: the pin is checked instead."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ca_context(ca_file, alpn=("http/1.1",)):
    """Trusts the lab's CA alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
