"""Targets that a test scripts: they see the very bytes that leave the node."""
import contextlib
import socket
import struct
import threading

from .stream import RESET


class Connection:
    """What a target got on one connection."""

    def __init__(self, sock, peer):
        self.sock, self.peer = sock, peer
        self.got = b""
        self.sent = 0
        self.end = None  # None: open; "fin", RESET
        self.changed = threading.Condition()

    def send(self, data):
        self.sock.sendall(data)
        self.sent += len(data)

    def close_write(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that sits in recv() keeps the socket alive: the reset would wait for it.
        self.sock.shutdown(socket.SHUT_RD)
        self.sock.close()

    def wait(self, test, seconds=10):
        """Waits until test(self) holds; tells whether it does."""
        with self.changed:
            return self.changed.wait_for(lambda: test(self), seconds)

    def ended(self, seconds=10):
        self.wait(lambda c: c.end is not None, seconds)
        return self.end

    def _run(self, keep, answer):
        try:
            while True:
                data = self.sock.recv(262144)
                with self.changed:
                    if keep or len(self.got) < 65536:
                        self.got += data
                    if not data:
                        self.end = "fin"
                    self.changed.notify_all()
                if not data:
                    return
                if answer:
                    answer(self, data)
        except ConnectionResetError:
            self._over(RESET)
        except OSError:
            self._over("closed")

    def _over(self, how):
        with self.changed:
            self.end = self.end or how
            self.changed.notify_all()


class Target:
    """A TCP listener in a namespace; `answer(connection, data)` is called with all that comes."""

    def __init__(self, namespace, address, answer=None, keep=True):
        self.listener = namespace.listen(address)
        self.connections = []
        self.answer, self.keep = answer, keep
        self._more = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, peer)
            with self._more:
                self.connections.append(connection)
                self._more.notify_all()
            threading.Thread(target=connection._run, args=(self.keep, self.answer), daemon=True).start()

    def next(self, index, seconds=10):
        """The connection of that number, waiting for it."""
        with self._more:
            if not self._more.wait_for(lambda: len(self.connections) > index, seconds):
                raise AssertionError(f"only {len(self.connections)} connections reached the target")
        return self.connections[index]

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.sock.close()
