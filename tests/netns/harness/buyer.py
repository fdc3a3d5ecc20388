"""A buyer: CONNECT through the node with a session's credentials, and what comes back."""
import base64
import json
import time
from dataclasses import dataclass, field

from .hello import client_hello
from .stream import Tcp, Tls, any_context, ca_context, read_all


@dataclass
class Session:
    """A session as the buyer knows it."""

    id: str
    token: str

    def basic(self):
        return "Basic " + base64.b64encode(f"{self.id}:{self.token}".encode()).decode()


@dataclass
class Reply:
    """The answer to a request to the proxy; `stream` goes on as the tunnel after a 200."""

    status: int
    headers: list = field(default_factory=list)
    body: bytes = b""
    stream: object = None

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return values[0] if values else None

    @property
    def slug(self):
        """Of the problem body, checked against Proxy-Status and the media type."""
        problem = json.loads(self.body)
        if self.header("content-type") != "application/problem+json" or problem.get("status") != self.status:
            raise AssertionError(f"no problem body: {self.headers} {self.body}")
        if not problem.get("detail", "").strip():
            raise AssertionError("a problem without a sentence for a person")
        return problem["type"]


class Unread:
    """A stream with some bytes read too far."""

    def __init__(self, stream, ahead):
        self._stream, self._ahead = stream, ahead

    def read(self, most=65536):
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
            return data
        return self._stream.read(most)

    def __getattr__(self, name):
        return getattr(self._stream, name)


class Proxy:
    """The node's listener, seen from a namespace."""

    def __init__(self, namespace, address, pin=None, tls=True, ca_file=None):
        self.namespace, self.address, self.pin, self.tls, self.ca_file = namespace, address, pin, tls, ca_file

    def dial(self, timeout=15):
        stream = Tcp(self.namespace.connect(self.address, timeout))
        if not self.tls:
            return stream
        context = any_context()
        context.set_alpn_protocols(["http/1.1"])
        secure = Tls(stream, context, None)
        if self.pin and secure.spki_pin() != self.pin:
            raise AssertionError(f"the listener's key is {secure.spki_pin()}, registered is {self.pin}")
        return secure

    def send(self, head, after=b"", timeout=15):
        """Sends a request's head as it stands, and reads the answer."""
        stream = self.dial(timeout)
        try:
            stream.write(head + after)
            return read_reply(stream)
        except BaseException:
            stream.close()
            raise

    def connect(self, authority, session=None, after=b"", extra="", timeout=15):
        auth = f"Proxy-Authorization: {session.basic()}\r\n" if session else ""
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{auth}{extra}\r\n"
        return self.send(head.encode(), after, timeout)

    def hello(self, session, hello, host="target.test", timeout=15):
        """CONNECT, the 200, then these bytes; gives the tunnel."""
        reply = self.connect(f"{host}:443", session, timeout=timeout)
        if reply.status != 200:
            raise AssertionError(f"{reply.status} {reply.body.decode()}")
        reply.stream.write(hello)
        return reply.stream

    def tunnel(self, session, host="target.test", **hello):
        return self.hello(session, client_hello(sni=host, **hello), host)

    def https(self, session, host, alpn=("http/1.1",)):
        """An HTTPS connection to the host, verified by the lab's CA, inside a tunnel."""
        reply = self.connect(f"{host}:443", session)
        if reply.status != 200:
            raise AssertionError(f"{reply.status} {reply.body.decode()}")
        return Tls(reply.stream, ca_context(self.ca_file, alpn), host)

    def get(self, session, host, path, discard=False):
        """GET over a fresh tunnel; gives status, content (or its length), seconds."""
        start = time.monotonic()
        stream = self.https(session, host)
        stream.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        reply = read_reply(stream, body=False)
        length = int(reply.header("content-length") or -1)
        size, parts = 0, []
        while size != length:
            data = reply.stream.read(262144)
            if not data:
                break
            size += len(data)
            if not discard:
                parts.append(data)
        stream.close()
        return reply.status, size if discard else b"".join(parts), time.monotonic() - start


def read_reply(stream, body=True):
    """An HTTP/1.1 response; a body only if its length is told or the connection is closed after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = stream.read()
        if not piece:
            raise EOFError(f"no answer, only {data!r}")
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    headers = [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:]]
    reply = Reply(int(lines[0].split(" ")[1]), headers)
    if reply.status == 200 and body is True and reply.header("content-length") is None:
        body = False
    if body:
        length = int(reply.header("content-length") or 0)
        while len(rest) < length:
            piece = stream.read()
            if not piece:
                break
            rest += piece
        reply.body = rest[:length]
    reply.stream = Unread(stream, rest) if not body else stream
    return reply


__all__ = ["Proxy", "Reply", "Session", "read_all", "read_reply"]
