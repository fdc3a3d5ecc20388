"""A coordinator that misbehaves at the level of bytes, with a node of its own that believes in it: what it sends need be no HTTP, no
JSON and no TLS of the right name. Its lists are signed by the lab's coordinator, whose key that node has."""
import contextlib
import json
import pathlib
import re
import socket
import ssl
import subprocess
import threading
import time
from urllib.parse import parse_qs, urlsplit

from harness.netns import NODE_WAN
from harness.node import Node

NAME, ADDRESS, PORTS = "impostor.test", "44.10.0.83", (443, 8443)
_CONFIG = "[req]\ndistinguished_name=dn\n[dn]\n[x]\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:%s\n"


class Ask:
    """A request of the node's, which waits for its answer."""

    def __init__(self, stream, method, target):
        self.stream, self.method, self.path = stream, method, urlsplit(target).path
        self.query = {k: v[0] for k, v in parse_qs(urlsplit(target).query).items()}
        self.done = threading.Event()

    @property
    def cursor(self):
        return self.query.get("cursor", "")

    def answer(self, data, end=None):
        """Sends bytes; then the connection stays, or ends `properly` or with a `fin` alone."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.sendall(data)
            if end == "properly":
                # The node need not answer it.
                self.stream.settimeout(0.2)
                self.stream.unwrap()
        if end:
            with contextlib.suppress(OSError):
                self.stream.shutdown(socket.SHUT_RDWR)
                self.stream.close()
        self.done.set()


def ok(body, status="200 OK", fields=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Impostor:
    """Serves the node; keeps the requests of its control poll and of its registration waiting for who plays with them."""

    def __init__(self, world):
        self.directory = world.directory / "impostor"
        self.directory.mkdir()
        self._ca = [str(world.lab.directory / n) for n in ("ca.pem", "ca.key")]
        self.context = self.certified(NAME)
        self.lists, self.content, self.list_answer, self.fetched = [], b"", ok, 0
        self.forget, self.hold_registration = False, False
        self.asks, self.changed, self._streams = [], threading.Condition(), []
        for port in PORTS:
            listener = world.topology.inet.listen((ADDRESS, port))
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        world.lab.post("/zone", {"name": NAME, "addresses": [ADDRESS], "ttl": 3600})
        self.node = self._node(world)
        self.next("/sessions/control")

    def _node(self, world):
        class Lab:
            ca_file, doh_url, coordinator_url = world.lab.ca_file, world.lab.doh_url, f"https://{NAME}"
            coordinator_key, endpoint_host = world.lab.coordinator_key, world.lab.endpoint_host

        node = Node(world.node.namespace, self.directory / "node", world.node.binary, Lab, relay={"listen": f"{NODE_WAN}:8444"})
        node.options = ["--api", "127.0.0.1:7879"]
        node.config["security"]["sandboxMode"] = world.node.config["security"]["sandboxMode"]
        world.more.append(node.start().process)
        return node

    def certified(self, name, own=False):
        """A server's certificate for the name, of the lab's authority or of one that nobody knows."""
        at = self.directory / f"{name}{'-own' if own else ''}"
        pathlib.Path(f"{at}.cnf").write_text(_CONFIG % name, encoding="ascii")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3"]
        command += ["-subj", f"/CN={name}", "-config", f"{at}.cnf", "-extensions", "x", "-keyout", f"{at}.key", "-out", f"{at}.pem"]
        command += [] if own else ["-CA", self._ca[0], "-CAkey", self._ca[1]]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{at}.pem", f"{at}.key")
        context.set_alpn_protocols(["http/1.1"])
        return context

    # ---- its connections

    def _accept(self, listener):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with contextlib.suppress(OSError, ValueError):
            stream = self.context.wrap_socket(sock, server_side=True)
            self._streams.append(stream)
            while ask := self._read(stream):
                self._take(ask)
                ask.done.wait(120)

    @staticmethod
    def _read(stream):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = stream.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += stream.recv(65536)
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        return Ask(stream, method, target)

    def _take(self, ask):
        with self.changed:
            self.asks.append(ask)
            self.changed.notify_all()
        if ask.path == "/nodes/register" and not self.hold_registration:
            ask.answer(ok(self.registration()))
        elif ask.path == "/nodes/heartbeat":
            forget, self.forget = self.forget, False
            ask.answer(ok({"type": "node-unknown"}, "403 Forbidden") if forget else ok({"serverTime": _now()}))
        elif ask.path.startswith("/list"):
            self.fetched += 1
            ask.answer(self.list_answer(self.content))
        elif ask.path == "/probes/request":
            threading.Timer(25, ask.answer, [ok(b"", "204 No Content")]).start()
        elif ask.path not in ("/nodes/register", "/sessions/control"):
            ask.answer(ok({}))

    def registration(self):
        return {"policyVersion": "1", "heartbeatIntervalMs": 500, "serverTime": _now(), "probeHosts": [], "lists": self.lists}

    # ---- who plays with it

    def next(self, path, after=None, seconds=30):
        """The first request for one of these paths that came after another one."""
        paths = (path,) if isinstance(path, str) else path

        def found():
            at = self.asks.index(after) + 1 if after else 0
            return next((a for a in self.asks[at:] if a.path in paths and not (after is None and a.done.is_set())), None)

        with self.changed:
            if not self.changed.wait_for(found, seconds):
                raise AssertionError(f"no request for {path} within {seconds} s")
            return found()

    def mark(self):
        """The newest request."""
        with self.changed:
            return self.asks[-1]

    def hang_up(self):
        """Ends every connection."""
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for ask in self.asks:
            ask.done.set()
        self._streams = []

    def register(self, hold=False):
        """Makes the node register; gives the request."""
        before = self.mark()
        self.hold_registration, self.forget = hold, True
        return self.next("/nodes/register", before)

    def alerts(self):
        return {a["code"]: a["detail"] for a in self.node.status()["alerts"]}


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
