"""Attacks with time: clients that hold up the node by silence, by single bytes, or by not reading."""
import contextlib
import socket
import threading
import time

from harness import netns
from harness.flood import From, route
from harness.hello import client_hello
from harness.stream import Tcp, Tls, any_context
from harness.target import Target
from text import Texts
from trying import Answer, _read, request

NEEDS = {"node", "session"}
# The contract's 10 s, and what a busy machine adds.
SOONEST, LATEST, AT_ONCE = 8.5, 14.0, 2.0
SLOW, MUCH = "slow.audit.test", 64 << 20
FULL, FULL_AT = "full.audit.test", "44.10.0.91"
HALF = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"h" * 64
_serial = iter(range(1, 250))


def attack(attack, world):
    """`does` names a function below; `every`, seconds between single bytes."""
    return Answer(DOES[attack.tries["does"]](world, attack.tries))


def _routed(world):
    if not getattr(world, "slow_routes", False):
        with contextlib.suppress(RuntimeError):
            route(world.topology)
        world.slow_routes = True


def _raw(world, timeout=20, source=None):
    _routed(world)
    space = From(world.topology.buyer, source or f"44.65.200.{next(_serial)}")
    return space.connect((netns.NODE_WAN, world.proxy.address[1]), timeout)


def _tls(world, source=None):
    return Tls(Tcp(_raw(world, 20, source)), any_context(), None)


def _until_closed(read, began):
    """Seconds until the node closes, and what came before."""
    data, how = b"", "silence"
    try:
        while True:
            piece = read(65536)
            if not piece:
                how = "closed"
                break
            data += piece
            if time.monotonic() - began > LATEST:
                break
    except (ConnectionResetError, BrokenPipeError):
        how = "closed"
    except (TimeoutError, socket.timeout):
        pass
    return how, data, time.monotonic() - began


def _timed(how, seconds, word="closed"):
    if how != "closed":
        return "held"
    if seconds < AT_ONCE:
        return f"{word} at once"
    return f"{word} in time" if SOONEST <= seconds <= LATEST else f"{word} after {seconds:.0f} s"


def _drip(write, data, every, stop):
    def run():
        with contextlib.suppress(OSError, ValueError):
            for byte in data:
                if stop.wait(every):
                    return
                write(bytes([byte]))

    threading.Thread(target=run, daemon=True).start()


def silent(world, tries, first=b"", fin=False):
    began = time.monotonic()
    sock = _raw(world, LATEST + 1)
    stop = threading.Event()
    with contextlib.closing(sock):
        if first:
            sock.sendall(first)
        if fin:
            sock.shutdown(socket.SHUT_WR)
        if "every" in tries:
            _drip(sock.sendall, b"x" * 100, tries["every"], stop)
        how, _, seconds = _until_closed(sock.recv, began)
        stop.set()
    return _timed(how, seconds)


def half(world, tries):
    return silent(world, tries, HALF)


def half_fin(world, tries):
    return silent(world, tries, HALF, fin=True)


def unfinished(world, tries):
    return silent(world, tries, client_hello(sni="node.lab.test"))


def tls(world, tries):
    began = time.monotonic()
    stream, stop = _tls(world), threading.Event()
    stream.timeout(LATEST + 1)
    try:
        if "send" in tries:
            _drip(stream.write, Texts(None, world.host).bytes(tries["send"]), tries["every"], stop)
        # The socket alone: TLS is not read and written from two threads.
        how, _, seconds = _until_closed(stream.below.sock.recv, began)
    finally:
        stop.set()
        stream.close()
    return _timed(how, seconds)


def tunnel(world, tries):
    session = world.lab.open()
    reply = world.proxy.connect("target.test:443", session, timeout=20)
    began, stop = time.monotonic(), threading.Event()
    stream = reply.stream
    try:
        if tries.get("hello"):
            data, at = client_hello(sni="target.test"), 0
            while time.monotonic() - began < SOONEST:
                stream.write(data[at : at + 1])
                at += 1
                time.sleep(tries["every"])
        stream.timeout(LATEST - (time.monotonic() - began))
        how, data, seconds = _until_closed(stream.read, began)
    finally:
        stop.set()
        stream.close()
    if len(data) == 7 and data[0] == 21:
        return _timed(how, seconds, f"alert {data[6]}")
    return _timed(how, seconds)


def _rss(world):
    return world.node.process.rss_kb()


def _own_target(world):
    """A target of this category's own, which only counts what comes."""
    if not getattr(world, "slow_target", None):
        world.slow_target = Target(world.topology.inet, ("44.10.0.82", 443), keep=False)
        world.lab.post("/zone", {"name": SLOW, "addresses": ["44.10.0.82"], "ttl": 60})
    return world.slow_target


def never_reads(world, _tries):
    """The target sends 64 MB; the buyer reads nothing."""
    target = _own_target(world)
    count, before = len(target.connections), _rss(world)
    stream = world.proxy.tunnel(world.lab.open(), SLOW)
    sock = target.next(count).sock.dup()
    sock.settimeout(3)
    sent = _pour(sock.sendall)
    grown = _rss(world) - before
    stream.close()
    return _held_back(sent, grown)


def half_closed(world, tries):
    """The buyer ends its half, and the target never ends its own."""
    _own_target(world)
    stream = world.proxy.tunnel(world.lab.open(), SLOW)
    try:
        stream.close_write()
        began = time.monotonic()
        stream.timeout(tries["seconds"] + 8)
        try:
            ended = stream.read() == b""
        except (TimeoutError, socket.timeout):
            return "held"
        except OSError:
            ended = True
        took = time.monotonic() - began
        return "closed in time" if ended and abs(took - tries["seconds"]) < 5 else f"after {took:.0f} s"
    finally:
        stream.close()


def never_taken(world, _tries):
    """The buyer sends 64 MB; the target reads nothing."""
    with contextlib.closing(world.topology.inet.listen((FULL_AT, 443))) as listener:
        world.lab.post("/zone", {"name": FULL, "addresses": [FULL_AT], "ttl": 60})
        before = _rss(world)
        stream = world.proxy.tunnel(world.lab.open(), FULL)
        taken, _ = listener.accept()
        with contextlib.closing(taken):
            stream.timeout(3)
            sent = _pour(stream.write)
            grown = _rss(world) - before
        stream.close()
    return _held_back(sent, grown)


def _pour(send):
    """Sends until it is much, or nobody takes more; gives how much was taken."""
    sent = 0
    try:
        while sent < MUCH:
            send(b"x" * 65536)
            sent += 65536
    except OSError:
        pass
    return sent


def _held_back(sent, grown_kb):
    return "held back" if sent < MUCH and grown_kb < 8192 else f"{sent >> 20} MB taken, {grown_kb} kB kept"


def too_many(world, _tries):
    _own_target(world)
    session = world.lab.open(limits={"maxConnections": 2})
    tunnels = [world.proxy.tunnel(session, SLOW) for _ in range(2)]
    stream = world.dial()
    try:
        head = f"CONNECT {SLOW}:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {session.basic()}\r\n\r\n"
        return request(stream, head.encode()).words
    finally:
        stream.close()
        for one in tunnels:
            one.close()


def many(world, tries):
    """So many silent connections of one address, then one more of it, within the grace."""
    source = f"44.65.201.{next(_serial)}"
    with contextlib.ExitStack() as stack:
        for _ in range(tries["clients"]):
            stack.enter_context(contextlib.closing(_raw(world, 5, source)))
        began = time.monotonic()
        last = stack.enter_context(contextlib.closing(_raw(world, 3, source)))
        how, _, seconds = _until_closed(last.recv, began)
    return _timed(how, seconds)


def spam(world, tries):
    """So many handshakes of one address, begun together."""
    source, done = f"44.65.202.{next(_serial)}", []
    began = time.monotonic()

    def one():
        with contextlib.suppress(OSError, EOFError, AssertionError):
            _tls(world, source).close()
            done.append(time.monotonic() - began)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(tries["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    # 20 a second and 20 at once: the 50th comes after a second and a half.
    return "paced" if done and max(done) >= tries["over"] else f"{len(done)} in {max(done, default=0):.1f} s"


DOES = {
    "silent": silent, "half": half, "half-fin": half_fin, "unfinished": unfinished, "tls": tls, "tunnel": tunnel,
    "never-reads": never_reads, "never-taken": never_taken, "half-closed": half_closed, "too-many": too_many, "many": many, "spam": spam,
}
