"""Attacks on the local control API, over its TCP listener on the router's loopback."""
import contextlib
import json

from text import Texts
from trying import Answer

NEEDS = {"node"}
ADDRESS = ("127.0.0.1", 7878)


class ApiTexts(Texts):
    """`{token}`, the whole field; `{bare}`, the token alone; `{hexdigits:64}`, one that is not the token."""

    def __init__(self, world):
        super().__init__(None, world.host)
        self.secret = (world.node.run_dir / "api.token").read_text(encoding="ascii").strip()

    def p_token(self):
        return f"Authorization: Bearer {self.secret}\r\n"

    def p_bare(self):
        return self.secret

    def p_hexdigits(self, count):
        return "0" * int(count)


def attack(attack, world):
    """`send`: the bytes of a request; `idle`: connections that stand beside it; `wait`: seconds for the answer."""
    tries = attack.tries
    with contextlib.ExitStack() as stack:
        for _ in range(tries.get("idle", 0)):
            stack.enter_context(contextlib.closing(world.topology.node.connect(ADDRESS, 5)))
        sock = stack.enter_context(contextlib.closing(world.topology.node.connect(ADDRESS, tries.get("wait", 5))))
        data = b""
        try:
            sock.sendall(ApiTexts(world).bytes(tries["send"]))
            while piece := sock.recv(65536):
                data += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            if not data:
                return Answer("silence")
    return Answer(_words(data), data)


def _words(data):
    if not data.startswith(b"HTTP/1.1 "):
        return "closed" if not data else "nonsense"
    head, _, body = data.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode("latin-1")
    if b"application/problem+json" not in head.lower():
        return status
    return f"{status} {json.loads(body)['type']}"
