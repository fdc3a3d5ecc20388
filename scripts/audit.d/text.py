"""What a record writes as text becomes bytes here: `{name}` and `{name:argument}` stand for what differs or is long."""
import base64
import re

PLACE = re.compile(r"\{(\w[\w-]*)(?::([^}]*))?\}")


class Texts:
    """Placeholders of one attack: the session's credentials, the host, and what needs no session."""

    def __init__(self, session, host):
        self.session, self.host = session, host

    def bytes(self, template):
        out, at = b"", 0
        for found in PLACE.finditer(template):
            out += template[at : found.start()].encode() + self._place(found[1], found[2])
            at = found.end()
        return out + template[at:].encode()

    def text(self, template):
        return self.bytes(template).decode("utf-8", "surrogateescape")

    def _place(self, name, argument):
        made = getattr(self, "p_" + name.replace("-", "_"), None)
        if made is None:
            raise SystemExit(f"no placeholder is called {{{name}}}")
        made = made(argument) if argument is not None else made()
        return made if isinstance(made, bytes) else made.encode()

    # ---- credentials

    def _pair(self):
        return f"{self.session.id}:{self.session.token}".encode()

    def p_basic(self):
        return base64.b64encode(self._pair())

    def p_auth(self):
        return b"Proxy-Authorization: Basic " + self.p_basic() + b"\r\n"

    def p_basic_without_padding(self):
        return self.p_basic().rstrip(b"=")

    def p_basic_with_stray_bits(self):
        text = self.p_basic().rstrip(b"=")
        if len(text) % 4 == 0:
            raise SystemExit("these credentials leave no stray bits")
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        last = alphabet[alphabet.index(text[-1:]) + 1 : alphabet.index(text[-1:]) + 2]
        return text[:-1] + last + b"=" * (-len(text) % 4)

    def p_basic_with_space(self):
        text = self.p_basic()
        return text[:8] + b" " + text[8:]

    def p_basic_of(self, text):
        return base64.b64encode(self.bytes(text.replace("<", "{").replace(">", "}")))

    def p_session(self):
        return self.session.id

    def p_token(self):
        return self.session.token

    # ---- what needs no session

    def p_host(self):
        return self.host

    def p_hex(self, digits):
        return bytes.fromhex(digits)

    def p_x(self, count):
        return b"x" * int(count)

    def p_labels(self, octets):
        """A name of so many octets in labels of 63."""
        size = int(octets)
        name = ".".join(["a" * 63] * (size // 64 + 1))
        return name[:size].rstrip(".").ljust(size, "a")

    def p_fields(self, count):
        return b"".join(b"X-%d: y\r\n" % n for n in range(int(count)))

    def p_hello(self, name=None):
        from hellos import hello

        return hello({"sni": name or self.host})


def shown(data, most=60):
    """Bytes as a line of text."""
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(text) <= most else text[: most - 1] + "…"
