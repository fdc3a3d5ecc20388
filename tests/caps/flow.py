"""One TCP connection's ends, for tests/caps.rs.

serve ADDRESS PORT...: sends without end to whom says "down", takes all from whom says "up".
run SOURCE:PORT ADDRESS:PORT down|up|both SECONDS: prints the bytes that came or went within the seconds behind the first one."""
import socket
import struct
import sys
import threading
import time

BLOCK = bytes(65536)


STOP = threading.Event()


def pour(connection, moved):
    while not STOP.is_set():
        moved[0] += connection.send(BLOCK)


def take(connection, moved):
    while data := connection.recv(65536):
        moved[0] += len(data)


def answer(connection):
    word = connection.recv(1)
    try:
        for letter, function in (("d", pour), ("u", take)):
            if word in (letter.encode(), b"b"):
                threading.Thread(target=quietly, args=(function, connection), daemon=True).start()
    except OSError:
        pass


def quietly(function, connection, moved=None):
    try:
        function(connection, [0] if moved is None else moved)
    except OSError:
        pass


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=64) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def serve(address, *ports):
    for port in ports:
        threading.Thread(target=listen, args=(address, int(port)), daemon=True).start()
    time.sleep(600)


def end(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def acknowledged(connection):
    """What the other end has of us, in bytes (`tcpi_bytes_acked`, linux/tcp.h): a send buffer is a tenth of ten seconds at 2 Mbit/s."""
    return struct.unpack_from("Q", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 120)[0]


def run(source, target, how, seconds):
    (host, port), (to, at) = end(source), end(target)
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # It ends by a reset, so that its ports are free at once.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.bind((host, port))
    connection.connect((to, at))
    # At the end this has to drain.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
    connection.send(how[0].encode())
    taken = [0]
    for ways, function, moved in ((("down", "both"), take, taken), (("up", "both"), pour, [0])):
        if how in ways:
            threading.Thread(target=quietly, args=(function, connection, moved), daemon=True).start()

    def count():
        return {"down": taken[0], "up": acknowledged(connection) if how != "down" else 0}

    time.sleep(1)
    before, start = count(), time.monotonic()
    time.sleep(float(seconds))
    after, took = count(), time.monotonic() - start
    if how != "down":
        # In a full queue the reset would be lost, and the next connection of these ports met by what is left of this one.
        STOP.set()
        time.sleep(1.5)
    for way in ("down", "up"):
        print(way, int((after[way] - before[way]) / took))


if __name__ == "__main__":
    {"serve": serve, "run": run}[sys.argv[1]](*sys.argv[2:])
