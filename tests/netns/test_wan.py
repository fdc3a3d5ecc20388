"""The line to the Internet: dialled again, flapping, with another address, beside a second one, lost. Buyers come by a device
of their own here, so that they see what the node does while its line is gone."""
import threading
import time

from harness.buyer import Proxy
from harness.control import wait_for
from harness.netns import ORIGIN, TARGET, sh
from harness.node import PORT
from harness.sniffer import Sniffer
from harness.stream import RESET, ending
from harness.world import World
from test_guard import Guarded

SIDE, SIDE_BUYER = "44.5.5.1", "44.5.5.2"
FIRST, SECOND = "44.2.2.2", "44.4.4.2"
OPEN = {"listen": f"0.0.0.0:{PORT}"}


class Line:
    """What each test starts from: wan0 with the default route of metric 100, wan1 with an address and no route."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        node, inet, buyer = cls.topology.node, cls.topology.inet, cls.topology.buyer
        cls.link(node, "side0", f"{SIDE}/24", buyer, "side", f"{SIDE_BUYER}/24")
        cls.link(node, "wan1", f"{SECOND}/24", inet, "w1", "44.4.4.1/24")
        cls.proxy = Proxy(buyer, (SIDE, PORT), pin=cls.proxy.pin, ca_file=cls.proxy.ca_file)

    @staticmethod
    def link(one, a, a_address, other, b, b_address):
        sh("ip", "link", "add", a, "netns", one.name, "type", "veth", "peer", "name", b, "netns", other.name)
        for namespace, device, address in [(one, a, a_address), (other, b, b_address)]:
            namespace.ip("addr", "add", address, "dev", device)
            namespace.ip("link", "set", device, "up")

    def setUp(self):
        super().setUp()
        node = self.topology.node
        for _ in range(4):
            try:
                node.ip("route", "del", "default")
            except RuntimeError:
                break
        self.plug()
        node.ip("addr", "flush", "dev", "wan0")
        node.ip("addr", "add", f"{FIRST}/24", "dev", "wan0")
        self.default()
        wait_for("the first line", lambda: self.wan()["ipv4"] == {"device": "wan0", "addresses": [FIRST]}, 5)
        self.node.wait_state("idle", "active")
        self.session = self.lab.open()
        self.works()

    # ---- what happens to the line

    def default(self, device="wan0", gateway="44.2.2.1", metric=100):
        self.topology.node.ip("route", "add", "default", "via", gateway, "dev", device, "metric", str(metric))

    def unplug(self):
        """As PPPoE does: the device is gone, and its addresses and routes with it."""
        self.topology.node.ip("link", "del", "wan0")

    def plug(self, address=FIRST):
        if "wan0" not in self.topology.node.ip("-br", "link"):
            self.link(self.topology.node, "wan0", f"{address}/24", self.topology.inet, "w0", "44.2.2.1/24")
        self.topology.node.ip("link", "set", "wan0", "up")

    def index(self):
        return int(self.topology.node.ip("-o", "link", "show", "wan0").split(":")[0])

    # ---- what is seen of it

    def wan(self):
        return self.node.get("/diagnostics")["wan"]

    def alerts(self):
        return [a["code"] for a in self.node.status()["alerts"]]

    def fetch(self):
        """Whether a request succeeds now."""
        try:
            return self.proxy.get(self.session, "origin.lab.test", "/bytes/50000", discard=True)[:2] == (200, 50000)
        except (AssertionError, OSError, EOFError):
            return False

    def works(self, seconds=5):
        start = time.monotonic()
        wait_for("a request that succeeds", self.fetch, seconds, every=0.05)
        return time.monotonic() - start

    def live(self):
        """A tunnel that carries, and the target's end of it."""
        before = len(self.target.connections)
        tunnel = self.proxy.tunnel(self.session)
        self.assertTrue(self.target.next(before).wait(lambda c: c.got))
        # The target sends the hello back; what follows is the end.
        want = len(self.target.connections[before].got)
        while want > 0:
            want -= len(tunnel.read(want))
        return tunnel, self.target.connections[before]

    def download(self):
        """A long download in a thread; gives where it ends up."""
        result = {}

        def run():
            try:
                result["got"] = self.proxy.get(self.session, "origin.lab.test", "/bytes/4000000000", discard=True)[1]
            except (OSError, EOFError, AssertionError) as e:
                result["error"] = e
            result["end"] = time.monotonic()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        result["thread"] = thread
        return result

    def reset_soon(self, tunnel, seconds=2):
        start = time.monotonic()
        tunnel.timeout(seconds + 3)
        self.assertEqual(ending(tunnel), RESET)
        self.assertLess(time.monotonic() - start, seconds)

    def refused_at_once(self, *slugs):
        start = time.monotonic()
        reply = self.proxy.connect("target.test:443", self.session)
        self.assertEqual(reply.status, 502)
        self.assertIn(reply.slug, slugs)
        self.assertLess(time.monotonic() - start, 1)

    def online(self, seconds=3):
        """The coordinator hears from the node."""
        before = self.lab.get("/nodes")[0]["heartbeats"]
        wait_for("a heartbeat", lambda: self.lab.get("/nodes")[0]["heartbeats"] > before, seconds)
        wait_for("online", lambda: self.node.status()["coordinator"]["state"] == "online", seconds)

    def no_harm(self):
        """Nobody was accused, the end of what the old line carried is no news, and the LAN saw nothing."""
        status = self.node.status()
        self.assertIn(status["state"], ("idle", "active"))
        self.assertEqual([a for a in status["alerts"] if a["code"] == "guard-refused" and "late" in a["detail"]], [])
        self.assert_lan_untouched()

    def sent_by(self, sniffer, source):
        """What the node sent to the Internet by a device."""
        sniffer.close()
        return [p for p in sniffer.packets if p[0] == source and p[1] != SIDE_BUYER]

    # ---- the tests

    def test_a_line_that_is_dialled_again(self):
        tunnel, _ = self.live()
        going = self.download()
        wait_for("bytes", lambda: self.lab.origin()[1] > 1_000_000, 5)
        old = self.index()
        self.unplug()
        gone = time.monotonic()
        self.reset_soon(tunnel)
        going["thread"].join(3)
        self.assertFalse(going["thread"].is_alive(), "the download hangs")
        self.assertLess(going["end"] - gone, 2)
        self.refused_at_once("resolve-failed", "connect-failed")
        wan = self.wan()
        self.assertIsNone(wan["ipv4"])
        self.assertIn("default route", wan["reason"])
        self.assertIn("wan-down", self.alerts())
        # Long enough for the coordinator's client to back off.
        time.sleep(8)
        self.plug("44.2.2.9")
        self.default()
        back = self.works(3)
        self.online()
        self.assertNotEqual(self.index(), old)
        self.assertEqual(self.wan()["ipv4"], {"device": "wan0", "addresses": ["44.2.2.9"]})
        self.assertNotIn("wan-down", self.alerts())
        print(f"     dialled again: flows reset {going['end'] - gone:.2f} s after the loss, service {back:.2f} s after the return")
        self.no_harm()

    def test_a_flap(self):
        tunnel, _ = self.live()
        node = self.topology.node
        for _ in range(3):
            node.ip("link", "set", "wan0", "down")
            time.sleep(0.05)
            node.ip("link", "set", "wan0", "up")
            self.default()
        self.works(3)
        self.online()
        tunnel.close()
        self.no_harm()

    def test_another_address_on_the_same_device(self):
        tunnel, connection = self.live()
        self.assertEqual(connection.peer[0], FIRST)
        node = self.topology.node
        # The kernel drops the routes by an address with it.
        node.ip("addr", "del", f"{FIRST}/24", "dev", "wan0")
        node.ip("addr", "add", "44.2.2.7/24", "dev", "wan0")
        self.default()
        self.reset_soon(tunnel)
        self.works(3)
        self.online()
        self.assertEqual(self.live()[1].peer[0], "44.2.2.7")
        self.no_harm()

    def test_a_second_and_worse_line_changes_nothing(self):
        tunnel, connection = self.live()
        other = Sniffer(self.topology.inet, "w1")
        self.default("wan1", "44.4.4.1", 200)
        self.works()
        self.online(15)
        self.assertIsNone(connection.end)
        self.assertEqual(self.sent_by(other, SECOND), [])
        self.assertEqual(self.wan()["ipv4"]["device"], "wan0")
        tunnel.close()

    def test_a_second_and_better_line_takes_over_and_back(self):
        tunnel, _ = self.live()
        self.default("wan1", "44.4.4.1", 50)
        self.reset_soon(tunnel)
        wait_for("the second line", lambda: self.wan()["ipv4"] == {"device": "wan1", "addresses": [SECOND]}, 2)
        first = Sniffer(self.topology.inet, "w0")
        self.works(3)
        self.online()
        tunnel, connection = self.live()
        self.assertEqual(connection.peer[0], SECOND)
        self.assertEqual([p for p in self.sent_by(first, FIRST) if p[4]], [])
        self.topology.node.ip("route", "del", "default", "via", "44.4.4.1")
        self.reset_soon(tunnel)
        self.works(3)
        self.assertEqual(self.live()[1].peer[0], FIRST)
        self.no_harm()

    def test_a_vpns_routes_do_not_draw_the_node_in(self):
        """More specific routes than the default one, as a VPN's client sets them: the kernel would follow them."""
        tunnel, connection = self.live()
        node, other = self.topology.node, Sniffer(self.topology.inet, "w1")
        halves = ["0.0.0.0/1", "128.0.0.0/1"]
        for half in halves:
            node.ip("route", "add", half, "via", "44.4.4.1", "dev", "wan1")
        try:
            for address in [ORIGIN, TARGET]:
                self.assertIn("wan1", node.ip("route", "get", address), "the kernel's own choice")
            time.sleep(0.2)
            self.works()
            self.online(15)
            self.assertEqual(self.live()[1].peer[0], FIRST)
            self.assertIsNone(connection.end)
            self.assertEqual(self.sent_by(other, SECOND), [])
        finally:
            for half in halves:
                node.ip("route", "del", half)
        tunnel.close()
        self.no_harm()

    def test_the_last_route_is_lost_and_comes_back(self):
        tunnel, _ = self.live()
        self.topology.node.ip("route", "del", "default")
        self.reset_soon(tunnel)
        # The kernel refuses what is dialled before the node has heard of the loss.
        wait_for("the alert", lambda: "wan-down" in self.alerts(), 2)
        self.refused_at_once("resolve-failed", "connect-failed")
        self.default()
        self.works(3)
        self.online()
        self.no_harm()

    def test_the_owner_names_the_device(self):
        self.default("wan1", "44.4.4.1", 200)
        first = None
        try:
            self.name_device("wan1")
            wait_for("the named line", lambda: (self.wan()["ipv4"] or {}).get("device") == "wan1", 3)
            first = Sniffer(self.topology.inet, "w0")
            self.works(3)
            self.online()
            self.assertEqual(self.live()[1].peer[0], SECOND)
            self.assertEqual([p for p in self.sent_by(first, FIRST) if p[4]], [])
            self.name_device("wan7")
            wait_for("no line", lambda: self.wan()["ipv4"] is None, 3)
            self.refused_at_once("resolve-failed", "connect-failed")
            self.assertIn("wanDevice", self.wan()["reason"])
        finally:
            self.name_device("auto")
            self.topology.node.ip("route", "del", "default", "via", "44.4.4.1")
        self.works(3)
        self.no_harm()

    def name_device(self, name):
        self.node.change(network={"wanDevice": name})


class Alone(Line, World):
    """Without a guard: the node reads the network itself."""

    node_config = {"relay": OPEN}


class Held(Line, Guarded):
    """With a guard, whose table follows the line."""

    node_config = {"relay": OPEN, "security": {"guard": "required"}}

    def name_device(self, name):
        super().name_device(name)
        self.node.guard.signal(1)

    def no_harm(self):
        super().no_harm()
        self.assertEqual(self.guard_state(), "up")
        device = self.wan()["ipv4"]["device"]
        found = self.nft("list", "set", "inet", "echomesh", "wan")
        self.assertIn(f'"{device}"', found)
        self.assertNotIn("side0", found)
