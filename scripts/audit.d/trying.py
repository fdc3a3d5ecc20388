"""Sending an attack, and saying in a few words how it was answered."""
import json
import socket
import ssl
import time

from harness.hello import fatal_alert


class Answer:
    """What came back: in words as the corpus writes them, and the whole for who wants to see it."""

    def __init__(self, words, whole=b""):
        self.words, self.whole = words, whole


def _read(stream, data, enough):
    """Reads until `enough(data)`; tells how it ended: "more", "end", "reset", "silence"."""
    while not enough(data):
        try:
            piece = stream.read()
        except (ConnectionResetError, BrokenPipeError):
            return data, "reset"
        except (TimeoutError, socket.timeout):
            return data, "silence"
        except ssl.SSLError:
            return data, "end"
        if not piece:
            return data, "end"
        data += piece
    return data, "more"


def write(stream, data, pieces=0, pause_ms=0):
    """Writes whole, or in pieces of so many bytes."""
    size = pieces or max(len(data), 1)
    for at in range(0, len(data), size):
        try:
            stream.write(data[at : at + size])
        except (ConnectionResetError, BrokenPipeError):
            return
        if pause_ms:
            time.sleep(pause_ms / 1000)


def after_the_200(stream, data=b"", wait=None):
    """How the tunnel ends: `alert N`, `closed`, `reset`, or `silence`; else `carried`."""
    if wait:
        stream.timeout(wait)
    data, how = _read(stream, data, lambda d: len(d) > 64)
    if not data:
        return {"end": "closed", "more": "closed"}.get(how, how)
    if len(data) == 7 and data == fatal_alert(data[6]) and how in ("end", "reset"):
        return f"alert {data[6]}"
    return "carried"


def request(stream, data, pieces=0, tunnel=None, wait=None):
    """Sends a head; the status with its slug, and after a 200 how the tunnel ends if the attack goes on."""
    write(stream, data, pieces)
    got, how = _read(stream, b"", lambda d: b"\r\n\r\n" in d)
    if not got:
        return Answer({"end": "closed"}.get(how, how))
    if not got.startswith(b"HTTP/1.1 "):
        return Answer("nonsense", got)
    head, rest = got.split(b"\r\n\r\n", 1)
    status = head.split(b" ", 2)[1].decode("latin-1")
    if status == "200":
        words = "200"
        if tunnel is not None:
            write(stream, tunnel)
            words += ", " + after_the_200(stream, rest, wait)
        return Answer(words, got)
    rest, _ = _read(stream, rest, lambda d: False)
    return Answer(f"{status} {_slug(head, rest)}", got + rest)


def _slug(head, rest):
    """The slug of the problem body, which must say what Proxy-Status says, and be the last thing that comes."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    try:
        problem = json.loads(rest)
    except ValueError:
        return f"with {len(rest)} bytes that are no problem body"
    slug = problem.get("type", "")
    if f'details="{slug}"'.encode() not in fields.get(b"proxy-status", b""):
        return f"{slug} (Proxy-Status differs)"
    return slug
