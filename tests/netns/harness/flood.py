"""A flood of clients without credentials, and honest requests beside it."""
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import threading
import time

from .buyer import Proxy
from .hello import client_hello
from .netns import NODE_WAN
from .node import PORT
from .world import LAB_BINARY

# Addresses of the buyer's namespace beside its own: any of them may be bound (a local route, no list of 65536 addresses).
# Each flood has networks of its own, and honest ones so many that at 20 a second none comes again before it is forgotten, 20 s
# later.
FLOODS = [f"44.{64 + n}.0.1" for n in range(8)]
HONEST = [f"44.{72 + n // 250}.{n % 250}" for n in range(2000)]

# In how many seconds each of 255 networks has had a handshake: 2 s until all have come, and 100 are made in one.
WAVE_S = 3.5


def route(topology):
    """Makes 44.64.0.0/12 addresses of the buyer's namespace."""
    topology.buyer.ip("route", "add", "local", "44.64.0.0/12", "dev", "lo")
    topology.inet.ip("route", "add", "44.64.0.0/12", "via", "44.3.3.2")


def first(world):
    """Gives node, lab and honest buyers (this process) the processors before all others, until the class's end. Whoever floods,
    and whatever else this machine does meanwhile, would have machines of its own. Says whether the kernel allows it."""
    tasks = [(int(t), n) for pid, n in ((world.node.process.pid, 10), (world.lab.process.pid, 10), (os.getpid(), 12)) for t in os.listdir(f"/proc/{pid}/task")]
    try:
        for task, priority in tasks:
            os.sched_setscheduler(task, os.SCHED_RR, os.sched_param(priority))
    except PermissionError:
        return False
    world.addClassCleanup(last)
    return True


def last():
    """This process is like any other again."""
    for task in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(task), os.SCHED_OTHER, os.sched_param(0))


class Flood:
    """`echomesh-lab flood` in the buyer's namespace."""

    _next = itertools.count()

    def __init__(self, topology, sources, mix, clients=10_000, seconds=10, stride=1, again=2000):
        words = [LAB_BINARY, "flood", "--to", f"{NODE_WAN}:{PORT}", "--from", FLOODS[next(Flood._next) % len(FLOODS)], "--sources", sources, "--stride", stride]
        words += ["--clients", clients, "--seconds", seconds, "--mix", mix, "--again", again]
        # Those who flood have machines of their own: here they yield to the node and to honest buyers. Where `first` keeps those before
        # them, they come before what else this machine does.
        below = os.sched_getscheduler(0) == os.SCHED_RR
        command = ["chrt", "--other", "0", "nice", "-n", "-10" if below else "10", *topology.buyer.command(*map(str, words))]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        if below:
            with contextlib.suppress(OSError), open(f"/proc/{self.child.pid}/autogroup", "w", encoding="ascii") as group:
                group.write("-10")

    def end(self, seconds=30):
        """What the clients saw."""
        out, err = self.child.communicate(timeout=seconds)
        if self.child.returncode:
            raise AssertionError(f"the flood ended with {self.child.returncode}: {err}")
        return json.loads(out)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.communicate()


class From:
    """A namespace whose connections come from one of its addresses."""

    def __init__(self, namespace, address):
        self.namespace, self.source = namespace, address

    def connect(self, address, timeout=10):
        s = self.namespace.socket()
        s.settimeout(timeout)
        try:
            s.bind((self.source, 0))
            s.connect(address)
        except BaseException:
            s.close()
            raise
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


class Honest:
    """Requests at a steady pace until told to stop: every other one from the buyer's own address, which is known to the
    node, the rest each from a network that it has not seen lately."""

    _next = 0

    def __init__(self, world, session, per_second=20):
        self.world, self.session, self.pace = world, session, 1 / per_second
        self.latencies, self.failures, self.asked = {"known": [], "new": []}, {"known": [], "new": []}, 0
        self._stop = threading.Event()
        self._threads = []
        self._pacer = threading.Thread(target=self._run, daemon=True)
        self._pacer.start()

    def _run(self):
        due = time.monotonic()
        while not self._stop.is_set():
            thread = threading.Thread(target=self._one, args=(self.asked,), daemon=True)
            thread.start()
            self._threads.append(thread)
            self.asked += 1
            due += self.pace
            time.sleep(max(0, due - time.monotonic()))

    def _one(self, n):
        kind, namespace = "known", self.world.topology.buyer
        if n % 2:
            kind = "new"
            Honest._next += 1
            network, host = HONEST[Honest._next % len(HONEST)], 1 + Honest._next // len(HONEST) % 250
            namespace = From(namespace, f"{network}.{host}")
        start = time.monotonic()
        try:
            proxy = Proxy(namespace, (NODE_WAN, PORT), pin=self.world.proxy.pin)
            hello = client_hello(sni="target.test")
            stream = proxy.hello(self.session, hello, "target.test", timeout=15)
            back = b""
            while len(back) < len(hello):
                more = stream.read()
                if not more:
                    raise EOFError("the tunnel ended")
                back += more
            # Not a FIN: the target would keep its half, and the tunnel its place, for a minute.
            stream.reset()
        except (OSError, EOFError, AssertionError) as e:
            self.failures[kind].append(repr(e))
        else:
            self.latencies[kind].append((time.monotonic() - start) * 1000)

    def end(self):
        """Waits for those under way; gives requests, share that succeeded, p50 and p95 in ms, for each kind."""
        self._stop.set()
        self._pacer.join()
        for thread in self._threads:
            thread.join(20)
        return {kind: self._figures(kind) for kind in self.latencies}

    def _figures(self, kind):
        good, bad = sorted(self.latencies[kind]), self.failures[kind]
        asked = len(good) + len(bad)
        return {
            "asked": asked,
            "success": len(good) / asked if asked else 0.0,
            "p50": statistics.median(good) if good else None,
            "p95": good[min(len(good) - 1, int(len(good) * 0.95))] if good else None,
            "failures": bad,
        }


class Peak:
    """The node's largest resident size and descriptors, sampled ten times a second."""

    def __init__(self, process):
        self.process, self.rss_kb, self.descriptors = process, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._cpu, self._start = process.cpu_seconds(), time.monotonic()
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.1):
            self.rss_kb = max(self.rss_kb, self.process.rss_kb())
            self.descriptors = max(self.descriptors, self.process.descriptors())

    def end(self):
        self._stop.set()
        self._thread.join()
        self.cpu_percent = 100 * (self.process.cpu_seconds() - self._cpu) / (time.monotonic() - self._start)
        return self
