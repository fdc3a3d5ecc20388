"""What the kernel path costs a router, in instructions of a 24Kc: `scripts/bench kernel`."""
import argparse
import pathlib
import sys
import time
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(ROOT / "tests/vm"), str(ROOT / "tests/netns")]
import insns  # noqa: E402
from harness.buyer import Proxy  # noqa: E402
from harness.hello import client_hello  # noqa: E402
from harness.netns import LAN_HOST, NODE_WAN, TARGET  # noqa: E402
from harness.stream import Tcp  # noqa: E402
from vmlab import image  # noqa: E402
from vmlab.kinds import KINDS  # noqa: E402
from vmlab.leases import FW4, Holder, LeaseWorld  # noqa: E402

HOST = "target.test"
PORT = 39_001
_OFFLOAD = "meta l4proto { tcp, udp } flow add @ft"
_FLOWTABLE = "flowtable ft { hook ingress priority filter; devices = { eth0, eth1 }; counter; }"
_REDIRECTED = "ct status dnat accept"
# As fw4 writes it: its flowtable counts.
_ROUTER = FW4.replace("devices = { eth0, eth1 };", "devices = { eth0, eth1 }; counter;").replace("iifname eth1 oifname eth0 accept", f"iifname eth1 oifname eth0 accept; {_REDIRECTED}")
_ROUTER = _ROUTER.replace("tcp dport 8443 accept", f"tcp dport 8443 accept; {_REDIRECTED}")
# A router's firewall with the owner's offloading off, and on.
FIREWALL, OFFLOADING = _ROUTER.replace(_OFFLOAD, "").replace(_FLOWTABLE, ""), _ROUTER
assert "flow" not in FIREWALL, "as fw4 has it without flow_offloading"
# A port that is forwarded, from the Internet to the Internet as a lease is.
FORWARDED = f"""
table ip forwarded {{
    chain entry {{ type nat hook prerouting priority dstnat; iifname eth0 tcp dport {PORT} dnat to {TARGET}:443; }}
    chain exit {{ type nat hook postrouting priority 95; ct status dnat oifname eth0 masquerade; }}
}}
"""
# The same, and the packets of a connection that a lease's judge has to see (both SYNs, what follows them up to the target's first answer,
# both FINs) wait for a process that lets each go: what no judge can do without.
JUDGED = """
table ip judged {
    chain seen {
        ct direction original ct original packets < 4 counter queue to 7
        ct direction reply ct reply packets < 3 counter queue to 7
        tcp flags fin,rst counter queue to 7
    }
    chain forward { type filter hook forward priority -100; tcp dport 443 ct status dnat goto seen; tcp sport 443 ct status dnat goto seen; }
}
"""
PLAIN = 3128
# The way to the listener without TLS, which is on loopback alone.
DOOR = f"""
table ip door {{
    chain entry {{ type nat hook prerouting priority dstnat; iifname eth0 tcp dport {PLAIN} dnat to 127.0.0.1:{PLAIN}; }}
}}
"""


class Bench(LeaseWorld):
    """The world of the tests with a counter in it."""

    kind = KINDS["mipsel"]
    memory_mb = 128
    heartbeat_ms = 60_000
    asked = None
    rows = []
    node_config = {
        "network": {"maxMbps": 20_000, "perSession": {"maxConnections": 512, "maxNewPerSecond": 1000, "maxNewPerHostPerSecond": 1000}},
        "relay": {"maxHandshakesPerSecond": 10_000},
        "log": {"level": "info"},
    }

    @staticmethod
    def target_answer(connection, data):
        """Echoes the hello; a number of bytes that is asked for is sent."""
        if len(data) != 8:
            return connection.send(data)
        left = int.from_bytes(data, "big")
        while left > 0:
            connection.send(bytes(min(left, 262144)))
            left -= 262144

    @classmethod
    def files(cls):
        return [*image.directories("usr", "usr/sbin"), ("usr/sbin/echomesh", 0o100755, pathlib.Path(cls.asked.binary).read_bytes()), ("usr/sbin/queue", 0o100755, pathlib.Path(cls.asked.queue).read_bytes())]

    @classmethod
    def qemu_words(cls):
        words, cls.counts = insns.plugin(cls.directory)
        return words

    # ---- a measurement

    @classmethod
    def settled(cls, seconds=1.0):
        """A reading after what is under way has ended."""
        time.sleep(seconds)
        return cls.counter.now(), time.monotonic()

    @classmethod
    def idle(cls, name, seconds=10):
        """Instructions a second of a machine that nobody uses."""
        before, began = cls.settled()
        after, ended = cls.settled(seconds)
        cls.idle_rate = insns.spent(before, after) / (ended - began)
        cls.told(f"idle, {name}", "M instructions a second", cls.idle_rate / 1e6)

    @classmethod
    def spent(cls, do):
        """What this took, less what the machine takes anyway."""
        before, began = cls.settled(0.5)
        do()
        after, ended = cls.settled()
        cls.sent = insns.calls(before, after, cls.sends)
        if cls.asked.where:
            cls.last = insns.blocks(before, after)
        return insns.spent(before, after) - cls.idle_rate * (ended - began), ended - began

    @classmethod
    def hello(cls, stream):
        first = client_hello(sni=HOST)
        stream.write(first)
        cls.read(stream, len(first))
        return stream

    @staticmethod
    def read(stream, size):
        while size > 0:
            data = stream.read(min(size, 262144))
            if not data:
                raise EOFError(f"{size} bytes are missing")
            size -= len(data)

    @classmethod
    def bulk(cls, name, dial):
        size = cls.asked.megabytes << 20
        stream = cls.hello(dial())

        def download():
            stream.write(size.to_bytes(8, "big"))
            cls.read(stream, size)

        try:
            spent, seconds = cls.spent(download)
        finally:
            stream.close()
        cls.told(name, "G instructions per GiB", spent / size * 2**30 / 1e9, f"{size * 8e-6 / seconds:.0f} Mbit/s, {cls.sent / size * 2**30 / 1e3:.0f} k packets a GiB")

    @classmethod
    def setups(cls, name, dial):
        count = cls.asked.connections
        cls.hello(dial()).close()

        def one_after_the_other():
            for _ in range(count):
                cls.hello(dial()).close()

        spent, seconds = cls.spent(one_after_the_other)
        cls.told(name, "k instructions per connection", spent / count / 1e3, f"{seconds:.0f} s")

    @classmethod
    def told(cls, name, unit, value, more=""):
        cls.rows.append((name, unit, value))
        print(f"{value:10.3f} {unit:32} {name}  {more}", flush=True)
        if cls.asked.where and cls.asked.where in name and cls.last:
            total = sum(n for n, _ in cls.last.values())
            for symbol, n, calls in insns.by_symbol(cls.last, cls.kallsyms, cls.symbols)[: cls.asked.lines]:
                print(f"           {100 * n / total:6.2f} %  {n / 1e6:10.2f} M  {calls:9}  {symbol}")
            cls.last = None

    # ---- the rows

    @classmethod
    def at_home(cls):
        return Tcp(cls.topology.lan.connect((TARGET, 443), 30))

    @classmethod
    def from_outside(cls):
        return Tcp(cls.topology.buyer.connect((NODE_WAN, PORT), 30))

    @classmethod
    def tables(cls, *texts):
        cls.machine.ok("nft flush ruleset && nft -f - <<'RULES'\n" + "\n".join(texts) + "\nRULES")

    @classmethod
    def both(cls, name, dial):
        for _ in range(cls.asked.repeats):
            cls.bulk(name, dial)
        cls.setups(name, dial)

    @classmethod
    def before_guard(cls, machine):
        cls.machine, cls.counter, cls.last = machine, insns.Insns(cls.counts), None
        cls.kallsyms = machine.sh("cat /proc/kallsyms")
        # What GRO has joined is one packet: how well it does differs between runs, and the costs with it.
        cls.sends = next(int(line.split()[0], 16) & 0xFFFFFFFF for line in cls.kallsyms.splitlines() if line.endswith(" __dev_queue_xmit"))
        cls.symbols = insns.of_program(pathlib.Path(f"{cls.asked.binary}.symbols"))
        for namespace in (cls.topology.buyer, cls.topology.lan):
            # No more on the way than the machine's device has room for: nothing is lost, nothing is sent twice.
            namespace.sysctl("net.ipv4.tcp_rmem=4096 131072 262144")
        cls.topology.inet.ip("route", "add", f"{LAN_HOST}/32", "via", NODE_WAN)
        cls.idle("no daemon")
        for name, tables, dial in [
            ("LAN, routed, no firewall", [], cls.at_home),
            ("LAN, firewall and NAT", [FIREWALL], cls.at_home),
            ("LAN, firewall and NAT, flowtable", [OFFLOADING], cls.at_home),
            ("port forwarded", [FIREWALL, FORWARDED], cls.from_outside),
            ("port forwarded, flowtable", [OFFLOADING, FORWARDED], cls.from_outside),
        ]:
            if cls.wants(name):
                cls.tables(*tables)
                cls.both(name, dial)
        name = "port forwarded, its set-up queued"
        if cls.wants(name):
            cls.tables(FIREWALL, FORWARDED, JUDGED)
            cls.machine.ok("queue 7 </dev/null >/dev/null 2>&1 & echo $! >/tmp/queue.pid; sleep 1")
            cls.setups(name, cls.from_outside)
            print(cls.machine.ok("kill $(cat /tmp/queue.pid); nft list chain ip judged seen"), flush=True)
        cls.tables(FIREWALL)

    @classmethod
    def wants(cls, name):
        return not cls.asked.only or any(part in name for part in cls.asked.only)

    def setUp(self):
        self.session = self.lab.open(seconds=3600)
        self.holder = Holder(self, self.session)
        self.addCleanup(self.holder.close)

    def leased(self):
        return lambda lease=self.holder.lease(HOST): self.dial(lease, 30)

    def relayed(self, proxy):
        def dial():
            reply = proxy.connect(f"{HOST}:443", self.session, timeout=30)
            assert reply.status == 200, (reply.status, reply.body)
            return reply.stream

        return dial

    def runTest(self):
        self.idle("daemon")
        self.row("LAN, firewall and NAT, daemon idle", lambda: self.at_home)
        for name, network in [
            ("lease, flowtable", {}),
            ("lease, flowtable, capped", {"maxMbps": 9_000}),
            ("lease, no flowtable", {"maxMbps": 20_000, "offload": "off"}),
            ("lease, no flowtable but the router's", {"maxMbps": 20_000, "offload": "off"}),
        ]:
            if self.wants(name):
                # The guard's own tables stay.
                router = OFFLOADING if "router's" in name else FIREWALL
                self.machine.ok(f"nft -f - <<'RULES'\ndelete table inet fw4\n{router}\nRULES")
                self.again(network)
                dial = self.leased()
                # The table of a lease is read back from time to time: that is no cost of a connection.
                self.idle(name, 6)
                self.row(name, lambda dial=dial: dial)
                self.leases(name)
        if self.wants("relay, TLS"):
            self.again({"offload": "auto"})
            self.idle("daemon, no lease")
        self.row("relay, TLS", lambda: self.relayed(self.proxy))
        if self.wants("relay, no guard, TLS") or self.wants("relay, no guard, plain"):
            self.without_guard()
            self.idle("daemon without guard")
            self.row("relay, no guard, TLS", lambda: self.relayed(self.proxy))
            self.row("relay, no guard, plain", lambda: self.relayed(Proxy(self.topology.buyer, (NODE_WAN, PLAIN), tls=False)))

    def without_guard(self):
        """The guard lets no answer of the listener without TLS out to a buyer; for once, there is none, and a rule of the router's leads there."""
        self.holder.close()
        self.node.change(security={"guard": "optional"}, relay={"listenPlain": f"127.0.0.1:{PLAIN}"})
        self.machine.ok("kill $(cat /tmp/guard.pid); sleep 1; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet")
        self.tables(FIREWALL, DOOR)
        time.sleep(3)
        self.setUp()

    def again(self, network):
        """A session and a buyer's connection under another configuration, and once the guard has seen the router's tables."""
        self.holder.close()
        self.node.change(network=network)
        time.sleep(8)
        self.setUp()

    def leases(self, name, count=20):
        """What a lease takes that nobody uses: asked for, and given back."""
        def one_after_the_other():
            for _ in range(count):
                self.holder.ask("DELETE", f"/leases/{self.holder.lease(HOST)['leaseId']}")

        spent, _ = self.spent(one_after_the_other)
        self.told(name, "k instructions per lease", spent / count / 1e3)

    def row(self, name, made):
        if self.wants(name):
            self.both(name, made())



def table(rows):
    """The least of each row's figures, for docs/performance.md: what else the host does makes for smaller batches, never for larger ones."""
    units = list(dict.fromkeys(unit for _, unit, _ in rows))
    least = {}
    for name, unit, value in rows:
        least[name, unit] = min(value, least.get((name, unit), value))
    yield "| | " + " | ".join(units) + " |"
    yield "| --- |" + " --- |" * len(units)
    for name in dict.fromkeys(name for name, _, _ in rows):
        yield f"| {name} | " + " | ".join(f"{least[name, unit]:,.2f}" if (name, unit) in least else "" for unit in units) + " |"


def main():
    words = argparse.ArgumentParser(prog="scripts/bench kernel", description="Instructions of a router's processor, by path.")
    words.add_argument("--binary", required=True)
    words.add_argument("--queue", required=True, help="queue.c, built for the machine")
    words.add_argument("--megabytes", type=int, default=128)
    words.add_argument("--connections", type=int, default=200)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--only", nargs="*", default=[])
    words.add_argument("--where", metavar="ROW")
    words.add_argument("--lines", type=int, default=40)
    Bench.asked = words.parse_args()
    result = unittest.TestResult()
    unittest.TestSuite([Bench()]).run(result)
    for _, text in result.errors + result.failures:
        print(text)
    print("\n".join(table(Bench.rows)))
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
