"""Many connections and many leases: that all bytes are counted, and that nothing is left behind."""
import json
import os
import subprocess
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from harness.netns import NODE_WAN
from harness.node import PORT
from harness.world import LAB_BINARY
from vmlab.leases import Holder, LeaseWorld
from vmlab.mixed import ABORTED, CLEAN, KINDS, Gauge, Mixed

# How many leases are opened and closed, how many connections over few leases, and how many are counted; by hand: 20000, 20000 and 1000.
LEASES = int(os.environ.get("VMLAB_LEASES", "1200"))
FLOWS = int(os.environ.get("VMLAB_FLOWS", "1200"))
CONNECTIONS = int(os.environ.get("VMLAB_CONNECTIONS", "72"))
MANY, MANY_ADDRESS = "many.test", "44.10.0.83"

# Two of a hundred packets of leases' connections, in each direction, before the router counts them or after.
LOSS = """
table netdev loss {
  chain some {
    type filter hook HOOK device eth0 priority -100;
    ip saddr { 44.3.3.2, 44.10.0.83 } ip daddr 44.2.2.2 tcp dport != 8443 numgen random mod 100 < 2 drop
    ip saddr 44.2.2.2 ip daddr { 44.3.3.2, 44.10.0.83 } tcp sport != 8443 numgen random mod 100 < 2 drop
  }
}"""


class Scale(LeaseWorld):
    # As fast as the machine can: what stops buyers who are too fast has its own tests.
    node_config = {
        "network": {**LeaseWorld.node_config["network"], "perTarget": {"maxNewPerHostPerSecond": 10_000, "maxNewPerDomainPerSecond": 10_000}},
        "breakers": {"sessionBurst": 1_000_000, "nodeBurst": 1_000_000},
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mixed = Mixed(cls.topology, (MANY_ADDRESS, 443), MANY)
        cls.addClassCleanup(cls.mixed.close)
        # Between target and router.
        cls.gauge = Gauge(cls.topology.inet, "w0", MANY_ADDRESS, 443)
        cls.addClassCleanup(cls.gauge.close)
        # Between buyer and router; the port is the lease's.
        cls.near = Gauge(cls.topology.buyer, "eth0", NODE_WAN, 0)
        cls.addClassCleanup(cls.near.close)

    def counted(self, kinds, count):
        """Connections over a session of their own: what was read at the ends, what crossed the target's link and the buyer's, what the
        node counted."""
        self.session = self.lab.open(seconds=600)
        holder = Holder(self, self.session)
        lease = holder.lease(MANY)
        self.near.port = lease["address"][1]
        self.gauge.read(), self.near.read()
        read = self.mixed.many(lease, kinds, count, seed=5)
        self.until("the flows' end", lambda: self.own()["open"] == 0, 60)
        own = self.own()
        holder.close()
        return zip(("egress", "ingress"), read, self.gauge.read(), self.near.read(), (own["bytesEgress"], own["bytesIngress"]))

    def compare(self, kinds, count, name):
        """Clean ends to the byte. What was aborted, or came over a line that loses packets: what was read, less 1 %, to what crossed the
        router: the link before it, or where packets are lost before it, the one behind. What a buyer has not read that gave up counts as well."""
        with self.subTest(kinds=kinds, on=name):
            for way, read, far, near, counted in self.counted(kinds, count):
                links = (near, far) if way == "egress" else (far, near)
                crossed = links["lost before" in name]
                print(f"     {count} {name}, {', '.join(kinds)}: {way} {read} read, {crossed} crossed the router, {counted} counted")
                if set(kinds) <= set(CLEAN) and "lost" not in name:
                    self.assertEqual(counted, read, way)
                else:
                    self.assertGreaterEqual(counted, 0.99 * read, way)
                self.assertLessEqual(counted, crossed, way)
                if way == "ingress" and "lost" not in name:
                    # Ends that a target says itself are less what was sent twice.
                    self.assertGreaterEqual(counted, (0.99 if len(kinds) == 1 else 0.98) * min(links), way)

    def each(self, name, share):
        """All clean kinds in one session, the others in another; where there are many connections, each kind in its own, to know whose fault it is."""
        groups = [(kind,) for kind in KINDS] if CONNECTIONS >= 500 else [CLEAN, ABORTED]
        for group in groups:
            self.compare(group, CONNECTIONS * len(group) // len(KINDS) // share, name)

    def test_bytes_of_mixed_connections(self):
        for gro in ("on", "off"):
            self.segments(gro)
            self.each(f"gro {gro}", 2)

    def test_bytes_where_packets_are_lost(self):
        self.segments("off")
        for where, hook in (("before", "ingress"), ("behind", "egress")):
            self.machine.ok(f"nft -f - <<'RULES'\n{LOSS.replace('HOOK', hook)}\nRULES")
            self.addCleanup(self.machine.sh, "nft delete table netdev loss")
            self.each(f"lost {where}", 2)
            self.machine.ok("nft delete table netdev loss")

    @unittest.skipIf(CONNECTIONS < 500, "a run by hand: VMLAB_CONNECTIONS")
    def test_bytes_on_a_line_that_loses(self):
        """What the router sends is lost by its own device: to the target and to the buyer, behind what counts."""
        self.addCleanup(self.machine.sh, "tc qdisc del dev eth0 root")
        for gro in ("on", "off"):
            self.segments(gro)
            self.machine.ok("tc qdisc replace dev eth0 root netem loss 2% limit 10000")
            for kind in CLEAN:
                self.compare((kind,), CONNECTIONS // len(CLEAN), f"lost behind, netem 2 %, gro {gro}")
            self.machine.ok("tc qdisc del dev eth0 root")

    def segments(self, gro):
        """What crosses the router is put together by kernels, or is not."""
        most = "65535" if gro == "on" else "1"
        for namespace, device in ((self.topology.buyer, "eth0"), (self.topology.inet, "b0"), (self.topology.inet, "w0")):
            namespace.ip("link", "set", device, "gso_max_segs", most)
        self.machine.ok(f"ethtool -K eth0 gro {gro} gso {gro} tso {gro}")

    def figures(self):
        """Of `run` and `guard`: anonymous kB (the pages of a program's file come and go), descriptors, ticks of the processor; then the kernel's connections and its memory, kB."""
        text = self.machine.ok("""
for p in run guard; do pid=$(cat /tmp/$p.pid)
  awk '/RssAnon/ {print $2}' /proc/$pid/status; ls /proc/$pid/fd | wc -l; awk '{print $14 + $15}' /proc/$pid/stat
done
conntrack -C; awk '/SUnreclaim/ {print $2}' /proc/meminfo""")
        names = [f"{p} {what}" for p in ("run", "guard") for what in ("kB", "fds", "ticks")] + ["connections", "kernel kB"]
        return dict(zip(names, map(int, text.split()), strict=True))

    def churn(self, count, at_once=4):
        """Leases that are opened, used every tenth time, and given back, by some buyers at once."""

        def some(number):
            holder = Holder(self, self.session)
            for turn in range(count // at_once):
                lease = holder.lease(MANY)
                if turn % 10 == number:
                    self.mixed.one(lease, 500, 500, "target first")
                # Some are given back in mid-connection, which the kernel then ends.
                stays = self.mixed.half(lease) if turn % 20 == number + at_once else None
                self.assertEqual(holder.ask("DELETE", f"/leases/{lease['leaseId']}").status, 204)
                if stays:
                    stays.close()
            holder.close()

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(some, range(at_once)))

    def flood(self, count):
        """Connections of all kinds over three leases, as fast as they go."""
        holders = [Holder(self, self.session) for _ in range(3)]
        leases = [holder.lease(MANY) for holder in holders]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: self.mixed.one(leases[n % 3], 500, 500, KINDS[n % len(KINDS)]), range(count)))
        self.assertEqual(self.elements(), 3)
        for holder in holders:
            holder.close()

    def soak(self, what, count, work):
        self.session = self.lab.open(seconds=3600)
        shots = []
        # The first part warms up: pools and caches grow to their size.
        for part in (count // 4, count // 4, count // 2):
            began = time.monotonic()
            work(part)
            took = time.monotonic() - began
            self.until("the flows' end", lambda: self.own()["open"] == 0, 60)
            self.until("the leases' end", lambda: self.elements() == 0)
            self.assert_nothing_left()
            shots.append(self.figures())
            print(f"     {part} {what} in {took:.1f} s: {shots[-1]}")
        _, before, after = shots
        # A heartbeat that is under way has a descriptor. An allocator takes its memory by steps, once in tens of thousands of connections.
        for name, most in [("run kB", 400), ("guard kB", 256), ("run fds", 1), ("guard fds", 0), ("connections", 60), ("kernel kB", 2048)]:
            self.assertLessEqual(after[name] - before[name], most, name)

    def test_many_leases_leave_nothing(self):
        self.soak("leases", LEASES, self.churn)

    def test_many_flows_over_few_leases_leave_nothing(self):
        self.soak("connections", FLOWS, self.flood)

    def test_a_router_that_stands_still_keeps_its_leases(self):
        """The guard is asked for something, and then neither process gets on for longer than it has to answer."""
        ended, kept = self.holder.lease(MANY), Holder(self, self.session)
        self.addCleanup(kept.close)
        lease = kept.lease(MANY)
        guard, run = (f"$(cat /tmp/{name}.pid)" for name in ("guard", "run"))
        self.addCleanup(self.machine.sh, f"kill -CONT {run} {guard}")
        self.machine.ok(f"kill -STOP {guard}")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.holder.ask, "DELETE", f"/leases/{ended['leaseId']}")
            time.sleep(0.3)
            self.machine.ok(f"kill -STOP {run}; sleep 2; kill -CONT {run}; kill -CONT {guard}")
            self.assertEqual(asked.result().status, 204)
        self.assertEqual(self.mixed.one(lease, 500, 500, "target first"), (self.mixed.hello + 517, 590))
        self.assertNotIn("given up", self.node.log())

    def shim(self, session):
        """The lab's CONNECT proxy that asks for leases, as a buyer starts it; its address."""
        words = ["buyer", "--proxy", f"https://{NODE_WAN}:{PORT}", "--pin", self.proxy.pin, "--session", session.id, "--token", session.token,
                 "--listen", "127.0.0.1:0", "--lease"]  # fmt: skip
        program = subprocess.Popen(self.topology.buyer.command(LAB_BINARY, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)
        return json.loads(program.stdout.readline())["listening"]

    def test_curl_uses_leases_by_a_local_proxy(self):
        session = self.lab.open(seconds=600)
        shim = self.shim(session)

        def curl(url, *more):
            return self.curl("-x", f"http://{shim}", "-o", "/dev/null", "-w", "%{http_connect} %{http_code} %{size_download}", *more, url)

        received, sent = self.lab.origin()
        for _ in range(3):
            done = curl("https://origin.lab.test/bytes/100000")
            self.assertEqual((done.stdout, done.stderr), (b"200 200 100000", b""))
        self.session = session
        self.until("the flows' end", lambda: self.own()["open"] == 0, 20)
        after = self.lab.origin()
        self.assertEqual((self.own()["bytesIngress"], self.own()["bytesEgress"]), (after[1] - sent, after[0] - received))
        # One lease for the three; a second host has its own.
        self.assertEqual(self.elements(), 1)
        self.assertEqual(curl("https://target.test/", "--max-time", "3").stdout[:4], b"200 ")
        self.assertEqual(self.elements(), 2)
        # What the node refuses reaches curl with its reason.
        for url, status, slug in [("https://owner-blocked.test/", b"403", b"domain-blocked"), ("https://lan.test/", b"403", b"address-denied"),
                                  ("https://origin.lab.test:8443/", b"403", b"port-denied")]:  # fmt: skip
            done = curl(url, "-v")
            self.assertEqual(done.stdout, status + b" 000 0")
            self.assertIn(b'details="' + slug + b'"', done.stderr)
        # The leases are taken away, which nobody tells the proxy; it asks again.
        self.machine.ok("nft delete table inet echomesh_lease")
        self.until("the guard's look", lambda: self.elements() == 0)
        self.until("leases", lambda: curl("https://origin.lab.test/bytes/10").stdout == b"200 200 10", 20)
        self.assert_lan_untouched()

    def elements(self):
        """Leases in the kernel."""
        text = self.machine.sh("nft list set inet echomesh_lease open4 2>/dev/null")
        return text.count("expires")

    def test_a_buyer_by_leases_alone(self):
        """The lab's buyer without its local proxy: one lease, connections to it directly, and its end."""
        self.session = self.lab.open(seconds=600)
        received, sent = self.lab.origin()

        def buyer(url, *more):
            words = ["buyer", "--proxy", f"https://{NODE_WAN}:{PORT}", "--pin", self.proxy.pin, "--session", self.session.id, "--token", self.session.token,
                     "--lab", str(self.lab.directory), "--get", url, "--lease", *more]  # fmt: skip
            done = subprocess.run(self.topology.buyer.command(LAB_BINARY, *words), capture_output=True, text=True, check=False, timeout=60)
            return done.returncode, done.stderr, [json.loads(line) for line in done.stdout.splitlines()]

        code, complaints, lines = buyer("https://origin.lab.test/bytes/100000", "--repeat", "4")
        self.assertEqual((code, complaints, len(lines)), (0, "", 5))
        self.assertEqual((lines[-1]["ok"], lines[-1]["bytes"]), (4, 400_000))
        self.assertEqual(len({line["endpoint"] for line in lines[:-1]}), 1)
        self.until("the flows' end", lambda: self.own()["open"] == 0, 20)
        after = self.lab.origin()
        own = self.own()
        # This buyer gives its lease back when its last connection has ended.
        self.assertEqual((own["bytesIngress"], own["bytesEgress"]), (after[1] - sent, after[0] - received))
        self.assert_nothing_left()
        code, _, lines = buyer("https://owner-blocked.test/")
        self.assertEqual((code, lines[0]["status"], lines[0]["slug"]), (1, 403, "domain-blocked"))
        self.assert_lan_untouched()

    def test_curl_is_told_when_the_node_is_gone(self):
        shim = self.shim(self.lab.open(seconds=600))
        self.machine.ok("kill -9 $(cat /tmp/run.pid)")
        done = self.curl("-x", f"http://{shim}", "-v", "https://origin.lab.test/")
        self.assertIn(b"HTTP/1.1 502 ", done.stderr)
        self.assertIn(b'details="lease-connection"', done.stderr)
        self.assertNotEqual(done.returncode, 0)
        self.node.start_run()
        self.node.wait_state("idle", "active")
