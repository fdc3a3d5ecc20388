"""What leases stand on: ports that are nobody else's, and a table that is what the guard says."""
import re
import time

from attacks import BAD, GOOD
from harness.hello import client_hello
from harness.stream import RESET, ending
from vmlab.leases import LeaseWorld, Refused

# Who has a port of leases: the reason for it, what makes it so, and what ends it.
MAPPING = ("table upnp, chain prerouting has port 40123",
           "nft 'add table inet upnp; add chain inet upnp prerouting { type nat hook prerouting priority dstnat; }; "
           "add rule inet upnp prerouting iifname eth0 tcp dport 40123 dnat ip to 192.168.1.10:22'", "nft delete table inet upnp")  # fmt: skip
LISTENER = ("port 40200", "setsid nc -l -p 40200 </dev/null >/dev/null 2>&1 & echo $! >/tmp/nc.pid", "nc -w 1 127.0.0.1 40200 </dev/null || true")
# Debian's links to what both targets are in are not in the machine.
IPTABLES = "for x in DNAT REDIRECT; do ln -sf libxt_NAT.so /usr/lib/libxt_$x.so; done; XTABLES_LIBDIR=/usr/lib xtables-nft-multi iptables"


def plain(text):
    """A table's text without what two equal ones may differ in: space, counts, order of parts and elements."""
    text = re.sub(r"packets \d+ bytes \d+", "", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"elements = \{ (.*?) \}", lambda m: "elements = " + " ".join(sorted(m[1].split(", "))), text)
    return sorted(part.strip(" }") for part in re.split(r" (?=(?:chain|set|map|counter|flowtable) \w+ \{)", text))


class Grounds(LeaseWorld):
    def offload(self):
        return self.node.status()["offload"]

    def refused_for(self, whose, do, undo, sign="lease.ports"):
        """While what is done stands, leases end and none is given; afterwards they are again."""
        lease = self.holder.lease(GOOD)
        stream = self.dial(lease)
        stream.write(client_hello(sni=GOOD))
        self.machine.ok(do)
        try:
            self.until("the clash", lambda: whose in self.offload()["reason"], 15)
            self.assertEqual(self.flows(lease), [])
            self.assert_none()
        finally:
            self.machine.ok(undo)
        self.until("an end of the clash", lambda: sign not in self.offload()["reason"], 15)
        self.holder.lease(GOOD)

    def assert_none(self):
        with self.assertRaises(Refused) as refused:
            self.holder.lease(GOOD)
        self.assertEqual(refused.exception.args, (503, "lease-unavailable"))
        self.assertNotIn("echomesh_lease", self.machine.ok("nft list tables"))

    def refused_from_the_start(self, whose, do, undo):
        """A guard that begins while what is done stands gives none, and says why; afterwards it does."""
        self.machine.ok(do)
        try:
            self.another_guard()
            offload = self.offload()
            self.assertEqual(offload["active"], "relay")
            self.assertIn(whose, offload["reason"])
            self.assert_none()
        finally:
            self.machine.ok(undo)
        self.until("an end of the clash", lambda: self.offload()["active"] == "software", 15)
        self.holder.lease(GOOD)

    def test_a_mapping_like_a_upnp_daemons_ends_leases(self):
        self.refused_for(*MAPPING)

    def test_a_mapping_that_is_there_first_leaves_none(self):
        self.refused_from_the_start(*MAPPING)

    def test_a_mapping_by_iptables_ends_leases(self):
        for target in ("REDIRECT --to-ports 80", "DNAT --to-destination 192.168.1.10:22"):
            with self.subTest(target=target):
                add, delete = (f"{IPTABLES} -t nat -{verb} PREROUTING -i eth0 -p tcp --dport 40010 -j {target}" for verb in "AD")
                self.refused_for("table nat, chain PREROUTING has port 40010", add, delete)

    def test_a_flowtable_that_comes_before_the_judge_ends_leases(self):
        chain = "type filter hook forward priority -150"
        self.refused_for("table early, chain f hands connections to a flowtable before leases are judged",
                         "nft 'add table inet early; add flowtable inet early t { hook ingress priority 0; devices = { eth0 }; counter; }; "
                         f"add chain inet early f {{ {chain}; }}; add rule inet early f meta l4proto tcp flow add @t'",
                         "nft delete table inet early", "before leases")  # fmt: skip

    def test_a_program_that_listens_in_the_range_ends_leases(self):
        self.refused_for(*LISTENER)

    def test_a_program_that_listens_there_first_leaves_none(self):
        self.refused_from_the_start(*LISTENER)

    def test_without_connection_trackings_counters_there_are_no_leases(self):
        switch = "/proc/sys/net/netfilter/nf_conntrack_acct"
        why = "connections are not counted"
        self.refused_for(why, f"echo 0 >{switch}", f"echo 1 >{switch}", why)
        # What begins before anybody has looked at the switch is seen by what it lacks.
        seen, tries = False, 0
        while not seen and tries < 4:
            tries += 1
            lease = self.holder.lease(GOOD)
            self.machine.ok(f"echo 0 >{switch}")
            try:
                stream = self.dial(lease)
                stream.write(client_hello(sni=GOOD))
                self.until("its end", lambda: why in self.offload()["reason"] and self.flows(lease) == [], 10)
            finally:
                self.machine.ok(f"echo 1 >{switch}")
            seen = "has a connection that it does not count" in self.machine.ok("cat /tmp/guard.log")
            self.until("counters", lambda: why not in self.offload()["reason"], 15)
        self.assertTrue(seen)

    def test_a_mapping_elsewhere_is_nobodys_business(self):
        self.holder.lease(GOOD)
        rule = "iifname eth0 tcp dport { 80, 39999, 41000-50000 } dnat ip to 192.168.1.10"
        self.machine.ok(f"nft 'add table inet upnp; add chain inet upnp prerouting {{ type nat hook prerouting priority dstnat; }}; add rule inet upnp prerouting {rule}'")
        theirs = "PREROUTING -i eth0 -p tcp --dport 50:60 -j REDIRECT --to-ports 80"
        self.machine.ok(f"{IPTABLES} -t nat -A {theirs}")
        self.addCleanup(self.machine.ok, f"{IPTABLES} -t nat -D {theirs}")
        try:
            self.still(7, lambda: "lease.ports" not in self.offload()["reason"])
            self.holder.lease(GOOD)
        finally:
            self.machine.ok("nft delete table inet upnp")

    def still(self, seconds, test):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertTrue(test())
            time.sleep(0.5)

    def test_a_reload_with_another_mask_lets_no_hello_through(self):
        """One bit further down, what comes by a lease would have the bit of what was accepted."""
        config = self.node.config
        self.addCleanup(self.reload, config)
        self.reload({**config, "lease": {"markMask": "0x07800000"}})
        lease = self.holder.lease(GOOD)
        mark = self.arena.wire.mark()
        streams = [self.dial(lease) for _ in range(10)]
        for stream in streams:
            stream.write(client_hello(sni=BAD))
        time.sleep(1)
        self.assertEqual(self.arena.wire.since(mark), b"")
        self.assertEqual([ending(stream) for stream in streams], [RESET] * len(streams))
        self.echo(lease)

    def reload(self, config):
        self.node.config = config
        self.node.write()
        self.machine.ok("kill -HUP $(cat /tmp/guard.pid)")
        time.sleep(0.5)

    def echo(self, lease):
        """How many connections the kernel has of the lease once one is accepted."""
        stream, hello = self.dial(lease), client_hello(sni=GOOD)
        self.addCleanup(stream.close)
        stream.write(hello)
        self.assertEqual(stream.read(), hello)
        return len(self.flows(lease))

    def test_what_a_guard_cannot_end_stays_behind_its_queue(self):
        """The next guard finds the queue taken, by a predecessor that is neither alive nor gone."""
        lease = self.holder.lease(GOOD)
        self.assertEqual(self.echo(lease), 1)
        self.machine.ok("kill -STOP $(cat /tmp/guard.pid)")
        undecided = self.arena.peer(lease["address"][1])
        undecided.syn()
        self.machine.ok("mkdir -p /tmp/next; chown echomesh /tmp/next; setsid echomesh guard --config /etc/echomesh/config.json --run-dir /tmp/next "
                        "--user echomesh >/tmp/next.log 2>&1 & echo $! >/tmp/next.pid")  # fmt: skip
        self.until("the next guard", lambda: "guard ready" in self.machine.sh("cat /tmp/next.log"))
        self.still(3, lambda: "echomesh_lease" in self.machine.ok("nft list tables"))
        self.assertEqual(len(self.flows(lease)), 1)
        said = self.machine.ok("cat /tmp/next.log")
        self.assertEqual(said.count("what was there of leases cannot be ended"), 2, said)
        # The predecessor goes, and with it what was there.
        self.machine.ok("kill -9 $(cat /tmp/guard.pid)")
        self.until("an end of all", lambda: "echomesh_lease" not in self.machine.ok("nft list tables"))
        self.assertEqual(self.flows(lease), [])
        self.machine.ok("kill $(cat /tmp/next.pid); sleep 0.5")
        self.node.start_guard()
        self.node.wait_state("active", "idle")
        self.until("leases", lambda: self.offload()["active"] == "software")

    def test_the_kernels_table_is_the_one_that_is_printed(self):
        self.holder.lease(GOOD)
        listed = self.machine.ok("nft list table inet echomesh_lease")
        _, name, printed = self.machine.ok("echomesh guard --print --config /etc/echomesh/config.json --user echomesh").partition("table inet echomesh_lease")
        without = re.sub(r"\tflowtable ft \{.*?\n\t\}\n\n", "", listed, flags=re.S)
        without = re.sub(r"\t\t[^\n]*flow add @ft\n", "", without)
        without = re.sub(r"\n\t\telements = \{ [^}]*timeout[^}]*\}", "", without)
        # The machine has no /etc/protocols.
        for number, protocol in [(1, "icmp"), (6, "tcp"), (58, "ipv6-icmp")]:
            without = re.sub(rf"(meta l4proto|ip6 nexthdr) ((?:!= )?){number}\b", rf"\1 \2{protocol}", without)
        self.assertIn("flow add @ft", listed)
        self.assertEqual(plain(without), plain(name + printed))
