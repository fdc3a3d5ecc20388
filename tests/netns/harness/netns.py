"""Network namespaces: made for one test run under unique names, removed with everything in them.

    inet   the Internet: invented global addresses on lo, where the lab and the tests' targets listen
    node   the router: WAN 44.2.2.2 towards inet, LAN 192.168.1.1
    lan    a machine at home, 192.168.1.10: nobody may ever reach it
    buyer  44.3.3.2
"""
import atexit
import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
import threading
import time

COORDINATOR, DOH, ORIGIN, ENDPOINT = "44.10.0.1", "44.10.0.53", "44.10.0.80", "44.10.0.90"
TARGET = "44.10.0.81"
ORIGIN6 = "2a10:44::80"
TARGET6 = "2a10:44::81"
GLOBALS = [COORDINATOR, DOH, ORIGIN, ENDPOINT, TARGET, "44.10.0.82", "44.10.0.83", "44.10.0.91"]
GLOBALS6 = [ORIGIN6, TARGET6]
NODE_WAN, NODE_LAN, LAN_HOST, BUYER = "44.2.2.2", "192.168.1.1", "192.168.1.10", "44.3.3.2"
NODE_WAN6, BUYER6 = "2a10:2::2", "2a10:3::2"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()
_here = threading.local()


def sh(*command):
    """Runs a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.stdout


class Namespace:
    """One network namespace."""

    def __init__(self, name):
        self.name = name
        self.path = f"/var/run/netns/{name}"
        sh("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")
        self.sysctl("net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=10000 65000", "net.core.somaxconn=4096")

    def ip(self, *words):
        return sh("ip", "-n", self.name, *words)

    def sysctl(self, *settings):
        for setting in settings:
            subprocess.run(self.command("sysctl", "-qw", setting), stderr=subprocess.DEVNULL, check=False)

    def command(self, *words):
        """The command line that runs in here; the pid is the program's own."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in here: sockets made now stay in here."""
        outer = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inner = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(inner, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.name}")
            yield
        finally:
            if _libc.setns(outer, _CLONE_NEWNET):
                os._exit(3)
            os.close(inner)
            os.close(outer)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.inside():
            return socket.socket(family, kind)

    def connect(self, address, timeout=10):
        s = self.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        s.settimeout(timeout)
        try:
            s.connect(address)
        except BaseException:
            s.close()
            raise
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def listen(self, address, backlog=512):
        s = self.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(address)
        s.listen(backlog)
        return s

    def received(self):
        """IP packets that ever reached this namespace for itself, loopback included."""
        with self.inside(), open("/proc/thread-self/net/snmp", encoding="ascii") as f:
            names, values = [line.split()[1:] for line in f if line.startswith("Ip:")]
        return int(dict(zip(names, values))["InReceives"])

    def remove(self):
        for _ in range(50):
            pids = [int(p) for p in sh("ip", "netns", "pids", self.name).split()]
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        subprocess.run(["ip", "netns", "del", self.name], check=False)


def remove_leftovers():
    """Removes the namespaces of a run that was killed: their names have the number of a process that is gone."""
    for line in sh("ip", "netns", "list").splitlines():
        found = re.fullmatch(r"em(\d+)x\d+-[inlbv]", line.split()[0])
        if found and not os.path.exists(f"/proc/{found[1]}"):
            subprocess.run(["ip", "netns", "del", found[0]], check=False)


class Topology:
    """The four namespaces and what joins them."""

    def __init__(self):
        remove_leftovers()
        self.tag = f"em{os.getpid()}x{next(_serial)}"
        self.namespaces = []
        atexit.register(self.remove)
        try:
            self.inet, self.node, self.lan, self.buyer = (self.add(x) for x in "inlb")
            self._wire()
        except BaseException:
            self.remove()
            raise

    def add(self, letter):
        """One more namespace (`v` beside the four), to be wired by the caller."""
        namespace = Namespace(f"{self.tag}-{letter}")
        self.namespaces.append(namespace)
        return namespace

    def _wire(self):
        for one, a, other, b in [
            (self.inet, "w0", self.node, "wan0"),
            (self.inet, "b0", self.buyer, "eth0"),
            (self.node, "lan0", self.lan, "eth0"),
        ]:
            sh("ip", "link", "add", a, "netns", one.name, "type", "veth", "peer", "name", b, "netns", other.name)
            one.ip("link", "set", a, "up")
            other.ip("link", "set", b, "up")
        for namespace, link, address in [
            (self.inet, "w0", "44.2.2.1/24"),
            (self.inet, "w0", "2a10:2::1/64"),
            (self.node, "wan0", f"{NODE_WAN}/24"),
            (self.node, "wan0", f"{NODE_WAN6}/64"),
            (self.inet, "b0", "44.3.3.1/24"),
            (self.buyer, "eth0", f"{BUYER}/24"),
            (self.inet, "b0", "2a10:3::1/64"),
            (self.buyer, "eth0", f"{BUYER6}/64"),
            (self.node, "lan0", f"{NODE_LAN}/24"),
            (self.lan, "eth0", f"{LAN_HOST}/24"),
            *((self.inet, "lo", f"{a}/32") for a in GLOBALS),
            *((self.inet, "lo", f"{a}/128") for a in GLOBALS6),
        ]:
            namespace.ip("addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        self.node.ip("route", "add", "default", "via", "44.2.2.1")
        self.node.ip("-6", "route", "add", "default", "via", "2a10:2::1")
        self.buyer.ip("route", "add", "default", "via", "44.3.3.1")
        self.buyer.ip("-6", "route", "add", "default", "via", "2a10:3::1")
        self.lan.ip("route", "add", "default", "via", NODE_LAN)
        self.inet.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        # An address of the inside that leaves the router would show up here as unroutable: it is dropped at once.
        for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7"]:
            self.inet.ip(*(["-6"] if ":" in private else []), "route", "add", "blackhole", private)

    def remove(self):
        for namespace in reversed(self.namespaces):
            namespace.remove()
        self.namespaces = []
