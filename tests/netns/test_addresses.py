"""The LAN is unreachable: whatever a name resolves to, nothing that is not public is dialled."""
import time

from harness.control import wait_for
from harness.netns import LAN_HOST, NODE_LAN, NODE_WAN, TARGET
from harness.target import Target
from harness.world import World

PROHIBITED = "destination_ip_prohibited"


class Addresses(World):
    def setUp(self):
        self.session = self.lab.open()
        self.before = len(self.target.connections)

    def tearDown(self):
        self.assertEqual(len(self.target.connections), self.before, "a public address beside a denied one was dialled")
        self.clean()

    def denied(self, host):
        reply = self.proxy.connect(f"{host}:443", self.session)
        self.refused(reply, 403, "address-denied", PROHIBITED)

    def test_names_of_special_addresses_are_denied(self):
        for host in ["lan.test", "zero.test", "loopback.test", "mapped.test", "nat64.test", "sixtofour.test", "cgnat.test",
                     "linklocal.test", "multicast.test", "reserved.test"]:
            with self.subTest(host):
                self.denied(host)

    def test_one_denied_address_refuses_the_name(self):
        for host in ["mixed.test", "mixed6.test"]:
            with self.subTest(host):
                self.denied(host)

    def test_the_nodes_own_addresses_are_denied(self):
        for host in ["own-wan.test", "own-lan.test"]:
            with self.subTest(host):
                self.denied(host)

    def test_connected_prefixes_are_denied_though_they_are_public(self):
        for host in ["gateway.test", "neighbour.test"]:
            with self.subTest(host):
                self.denied(host)

    def test_an_alias_of_an_inner_name_is_denied(self):
        self.lab.post("/zone", {"name": "alias.test", "cname": "deep.alias.test"})
        self.lab.post("/zone", {"name": "deep.alias.test", "cname": "lan.test"})
        self.denied("alias.test")

    def test_a_name_that_is_rebound_after_its_ttl_is_denied(self):
        other = Target(self.topology.inet, ("44.10.0.83", 443))
        self.addCleanup(other.close)
        self.lab.post("/zone", {"name": "rebind.test", "addresses": ["44.10.0.83"], "ttl": 1})
        reply = self.proxy.connect("rebind.test:443", self.session)
        self.assertEqual(reply.status, 200)
        reply.stream.close()
        self.lab.post("/zone", {"name": "rebind.test", "addresses": [LAN_HOST], "ttl": 1})
        time.sleep(1.5)
        self.denied("rebind.test")

    def test_every_special_range_is_denied_at_both_ends(self):
        edges = {
            "0.0.0.0": "0.255.255.255", "10.0.0.0": "10.255.255.255", "100.64.0.0": "100.127.255.255", "127.0.0.0": "127.255.255.255",
            "169.254.0.0": "169.254.255.255", "172.16.0.0": "172.31.255.255", "192.0.0.0": "192.0.0.255", "192.0.2.0": "192.0.2.255",
            "192.168.0.0": "192.168.255.255", "198.18.0.0": "198.19.255.255", "198.51.100.0": "198.51.100.255",
            "203.0.113.0": "203.0.113.255", "224.0.0.0": "239.255.255.255", "240.0.0.0": "255.255.255.255",
            "::": "::1", "fc00::": "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::": "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ff00::": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "100::": "100::ffff",
            "::ffff:10.0.0.1": "64:ff9b::7f00:1",
        }
        for number, address in enumerate([a for pair in edges.items() for a in pair]):
            with self.subTest(address):
                self.lab.post("/zone", {"name": f"edge{number}.test", "addresses": [address]})
                self.denied(f"edge{number}.test")

    def test_a_listener_on_the_nodes_lan_address_is_not_reached(self):
        inner = Target(self.topology.node, (NODE_LAN, 443))
        self.addCleanup(inner.close)
        self.denied("own-lan.test")
        self.assertEqual(inner.connections, [])

    def test_a_network_behind_another_router_of_the_house_is_denied(self):
        for family, network, router, host in [("-4", "44.78.0.0/24", LAN_HOST, "44.78.0.5"), ("-6", "2a10:78::/56", "fe80::77", "2a10:78:0:42::5")]:
            device = ["dev", "lan0"] if family == "-6" else []
            self.topology.node.ip(family, "route", "add", network, "via", router, *device)
            self.addCleanup(self.topology.node.ip, family, "route", "del", network)
            self.lab.post("/zone", {"name": "routed.test", "addresses": [host], "ttl": 1})
            time.sleep(6)
            self.denied("routed.test")

    def test_an_address_that_the_node_gets_later_is_denied(self):
        self.topology.node.ip("addr", "add", "44.77.0.1/24", "dev", "lan0")
        self.addCleanup(self.topology.node.ip, "addr", "del", "44.77.0.1/24", "dev", "lan0")
        self.lab.post("/zone", {"name": "later.test", "addresses": ["44.77.0.9"]})

        def judged():
            reply = self.proxy.connect("later.test:443", self.session, timeout=30)
            return reply.status == 403 and reply.slug == "address-denied"

        wait_for("the new prefix to be denied", judged, 90, every=5)

    def test_no_resolver_but_the_pinned_one_is_asked(self):
        spies = [Target(ns, (address, 53)) for ns, address in [(self.topology.lan, LAN_HOST), (self.topology.node, NODE_WAN)]]
        self.addCleanup(lambda: [spy.close() for spy in spies])
        self.denied("lan.test")
        self.assertEqual([spy.connections for spy in spies], [[], []])
        self.assertEqual(TARGET in str(self.lab.get("/zone")["names"]["target.test"]), True)
