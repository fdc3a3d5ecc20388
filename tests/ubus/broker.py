"""A ubusd of the tests' own, written from ubus's headers and not from the node: one object's owner may connect, and the test calls it.
As the real one it drops a status without the object's number, and ends connections that send more than 1 MiB at once."""
import os
import queue
import socket
import struct
import threading
import time

HELLO, STATUS, DATA, INVOKE, ADD_OBJECT = 0, 1, 2, 5, 6
A_STATUS, A_PATH, A_OBJECT, A_METHOD, A_SIGNATURE, A_DATA, A_NO_REPLY, A_USER, A_GROUP = 1, 2, 3, 4, 6, 7, 10, 12, 13
LIMIT = 1 << 20
OBJECT = 0x5EED0001
EVENTS = 1


class Width:
    """An integer sent in a width of the test's choice."""

    def __init__(self, bits, value):
        self.kind, self.form, self.value = {8: (7, ">B"), 16: (6, ">h"), 32: (5, ">i"), 64: (4, ">q")}[bits] + (value,)


class Raw:
    """A value of any type and content."""

    def __init__(self, kind, content):
        self.kind, self.content = kind, content


def blob(tag, content):
    return struct.pack(">I", tag << 24 | len(content) + 4) + content + bytes(-len(content) % 4)


def encode(value):
    """A value's type and content."""
    if isinstance(value, Raw):
        return value.kind, value.content
    if isinstance(value, Width):
        return value.kind, struct.pack(value.form, value.value)
    if value is None:
        return 0, b""
    if isinstance(value, bool):
        return 7, bytes([value])
    if isinstance(value, int):
        return (5, struct.pack(">i", value)) if -(2**31) <= value < 2**31 else (4, struct.pack(">q", value))
    if isinstance(value, float):
        return 8, struct.pack(">d", value)
    if isinstance(value, str):
        return 3, value.encode() + b"\0"
    if isinstance(value, list):
        return 1, b"".join(member("", item) for item in value)
    return 2, members(value)


def member(name, value):
    kind, content = encode(value)
    name = name.encode()
    head = struct.pack(">H", len(name)) + name + b"\0"
    return blob(0x80 | kind, head + bytes(-len(head) % 4) + content)


def members(table):
    return b"".join(member(name, value) for name, value in table.items())


def blobs(content):
    """Tags and contents, one after the other."""
    at = 0
    while at < len(content):
        (word,) = struct.unpack_from(">I", content, at)
        length = word & 0xFFFFFF
        assert length >= 4 and at + length <= len(content), "an attribute does not fit"
        yield word >> 24, content[at + 4 : at + length]
        at += length + -length % 4
    assert at == len(content), "the last attribute is not padded"


def decode_members(content):
    for tag, content in blobs(content):
        assert tag & 0x80, "a value without a name's place"
        (length,) = struct.unpack_from(">H", content)
        head = 2 + length + 1
        assert content[head - 1] == 0, "a name without its NUL"
        yield content[2 : 2 + length].decode(), decode(tag & 0x7F, content[head + -head % 4 :])


def decode(kind, content):
    if kind == 0:
        return None
    if kind == 1:
        return [value for _, value in decode_members(content)]
    if kind == 2:
        return dict(decode_members(content))
    if kind == 3:
        assert content.endswith(b"\0") and content.count(b"\0") == 1
        return content[:-1].decode()
    (value,) = struct.unpack({4: ">q", 5: ">i", 6: ">h", 7: ">B", 8: ">d"}[kind], content)
    return bool(value) if kind == 7 else value


def message(kind, seq, peer, *attributes):
    return struct.pack(">BBHI", 0, kind, seq, peer) + blob(0, b"".join(attributes))


def number(tag, value):
    return blob(tag, struct.pack(">I", value))


class Broker:
    """Listens at a path until it is closed. `refusals`: how many objects are refused at first."""

    def __init__(self, path, refusals=0):
        self.path, self.refusals = str(path), refusals
        self.signature, self.events, self.faults = None, queue.Queue(), []
        self.registered = threading.Event()
        self.connections = 0
        self._answers, self._calls, self._seq = {}, threading.Condition(), 0
        self._owner, self._sending = None, threading.Lock()
        if os.path.exists(self.path):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        os.unlink(self.path)
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._owner and self._owner.fileno() >= 0:
            self._owner.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._owner = connection
            self.send(message(HELLO, 0, 0x77))
            try:
                self._read(connection)
            except AssertionError as e:
                self.faults.append(str(e))
            except OSError:
                pass
            self.registered.clear()
            connection.close()

    def _read(self, connection):
        stream = connection.makefile("rb")
        while head := stream.read(12):
            version, kind, seq, peer, tag = struct.unpack(">BBHII", head)
            length = tag & 0xFFFFFF
            assert version == 0 and 4 <= length + -length % 4 <= LIMIT, f"a message of {length} bytes"
            body = stream.read(length + -length % 4 - 4)[: length - 4]
            self._take(kind, seq, peer, list(blobs(body)))

    def _take(self, kind, seq, peer, attributes):
        found = dict(attributes)
        if kind == ADD_OBJECT:
            assert found[A_PATH] == b"echomesh\0"
            if self.refusals:
                self.refusals -= 1
                self.send(message(STATUS, seq, peer, number(A_STATUS, 2)))
                return
            self.signature = dict(decode_members(found[A_SIGNATURE]))
            self.send(message(DATA, seq, peer, number(A_OBJECT, OBJECT)) + message(STATUS, seq, peer, number(A_STATUS, 0)))
            self.registered.set()
        elif kind == INVOKE:
            assert found[A_OBJECT] == struct.pack(">I", EVENTS) and found[A_METHOD] == b"send\0"
            self.events.put(dict(decode_members(found[A_DATA])))
            self.send(message(STATUS, seq, peer, number(A_STATUS, 0)))
        elif kind in (DATA, STATUS) and found.get(A_OBJECT) == struct.pack(">I", OBJECT):
            with self._calls:
                answer = self._answers.setdefault((seq, peer), [None, None, 0])
                if kind == DATA:
                    answer[1] = dict(decode_members(found[A_DATA]))
                    answer[2] = len(found[A_DATA])
                else:
                    answer[0] = struct.unpack(">I", found[A_STATUS])[0]
                    self._calls.notify_all()

    def send(self, data):
        """From both threads, one message after the other."""
        with self._sending:
            self._owner.sendall(data)

    def invoke(self, method, arguments=None, raw=None, peer=0x1234, extra=b"", pieces=None):
        """Calls without waiting; what `answer` takes."""
        self._seq = self._seq % 65535 + 1
        data = members(arguments or {}) if raw is None else raw
        user = blob(A_USER, b"root\0") + blob(A_GROUP, b"root\0")
        content = [number(A_OBJECT, OBJECT), blob(A_METHOD, method.encode() + b"\0"), user, blob(A_DATA, data), extra]
        call = message(INVOKE, self._seq, peer, *content)
        for at in range(0, len(call), pieces or len(call)):
            self.send(call[at : at + (pieces or len(call))])
        return self._seq, peer

    def answer(self, call, timeout=10):
        """The status of a call and what came with it."""
        end = time.monotonic() + timeout
        with self._calls:
            while self._answers.get(call, [None])[0] is None:
                if not self._calls.wait(end - time.monotonic()):
                    raise TimeoutError(f"no answer to {call}")
            self.size = self._answers[call][2]
            return tuple(self._answers.pop(call)[:2])

    def is_answered(self, call):
        with self._calls:
            return call in self._answers

    def call(self, method, arguments=None, timeout=10, **more):
        return self.answer(self.invoke(method, arguments, **more), timeout)

    def event(self, timeout=10):
        return self.events.get(timeout=timeout)
