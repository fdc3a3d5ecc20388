"""Lists of hosts: the owner's files, the coordinator's lists, sensitive categories; on requests and on live tunnels."""
import contextlib
import itertools
import os

from harness.control import wait_for
from harness.world import World

VERSIONS = itertools.count(1)


class Lists(World):
    def setUp(self):
        self.session = self.lab.open()

    def named(self, *lists):
        """The coordinator's next registration names these lists, of ever higher versions, and the node registers again."""
        for one in lists:
            one.setdefault("version", next(VERSIONS))
        self.lab.post("/lists", {"lists": list(lists)})
        before = self.lab.nodes()[0]["registrations"] if "registrations" in self.lab.nodes()[0] else None
        self.lab.fault("forget-node")
        wait_for("the registration", lambda: self.lab.nodes() and (before is None or self.lab.nodes()[0]["registrations"] > before), 30)

    def slug(self, host="target.test"):
        reply = self.proxy.connect(f"{host}:443", self.session)
        if reply.status == 200:
            reply.stream.close()
        return reply.slug if reply.status != 200 else None

    def becomes(self, slug, host="target.test", seconds=20):
        def is_so():
            # A list that comes while the node dials ends that tunnel too.
            with contextlib.suppress(ConnectionResetError):
                return self.slug(host) == slug

        wait_for(f"{host}: {slug}", is_so, seconds)

    def alerts(self):
        return {a["code"]: a["detail"] for a in self.node.status()["alerts"]}

    def tearDown(self):
        self.named()
        self.becomes(None)
        self.clean()


class OfTheCoordinator(Lists):
    def test_a_list_is_fetched_verified_and_in_force_and_ends_live_tunnels(self):
        stream = self.proxy.tunnel(self.session)
        stream.read()
        self.named({"name": "ads", "content": "# ads\n||target.test^\n0.0.0.0 nobody.test\n"})
        self.becomes("domain-blocked")
        # So is everything until it is here.
        self.becomes(None, "other.test")
        self.assertEqual(self.slug(), "domain-blocked")
        self.assertEqual(self.slug("nobody.test"), "domain-blocked")
        with self.assertRaises((OSError, EOFError)):
            stream.write(b"x" * 1000)
            if not stream.read():
                raise EOFError

    def test_a_list_ends_the_live_tunnels_whose_host_is_an_alias_of_what_it_blocks(self):
        self.lab.post("/zone", {"name": "shop.test", "cname": "edge.tracker.test"})
        self.lab.post("/zone", {"name": "edge.tracker.test", "cname": "target.test"})
        # A list that was never here blocks everything until it is: the later version is what is tried.
        self.named({"name": "trackers", "content": "nobody.test"})
        self.becomes("domain-blocked", "nobody.test")
        self.becomes(None)
        through, beside = self.proxy.tunnel(self.session, "shop.test"), self.proxy.tunnel(self.session)
        through.read()
        beside.read()
        self.named({"name": "trackers", "content": "||tracker.test^"})
        self.becomes("domain-blocked", "shop.test")
        with self.assertRaises((OSError, EOFError)):
            through.write(b"x" * 1000)
            if not through.read():
                raise EOFError
        self.assertIsNone(self.slug())
        beside.write(b"x" * 1000)
        beside.close()

    def test_until_a_list_is_here_nothing_is_carried_and_an_earlier_version_stays(self):
        self.named({"name": "ads", "content": "nobody.test", "fault": "hash"})
        wait_for("the alert", lambda: "list-unavailable" in self.alerts(), 20)
        self.assertIn("hash", self.alerts()["list-unavailable"])
        self.assertEqual(self.slug(), "domain-blocked")
        self.named({"name": "ads", "content": "nobody.test"})
        self.becomes(None)
        self.named({"name": "ads", "content": "target.test", "fault": "hash"})
        wait_for("the alert", lambda: "list-unavailable" in self.alerts(), 20)
        self.assertEqual((self.slug(), self.slug("nobody.test")), (None, "domain-blocked"))

    def test_an_old_version_played_again_after_the_list_was_withdrawn_stops_everything(self):
        old, new = next(VERSIONS), next(VERSIONS)
        self.named({"name": "ads", "content": "nobody.test", "version": new})
        self.becomes("domain-blocked", "nobody.test")
        self.named()
        wait_for("the withdrawal", lambda: self.slug("nobody.test") != "domain-blocked", 20)
        self.named({"name": "ads", "content": "elsewhere.test", "version": old})
        wait_for("the alert", lambda: "list-refused" in self.alerts(), 20)
        self.assertIn(f"{new} was seen before", self.alerts()["list-refused"])
        self.assertEqual(self.slug(), "domain-blocked")

    def test_a_forged_list_is_not_fetched_and_stops_everything(self):
        self.named({"name": "ads", "content": "nobody.test", "fault": "signature"})
        wait_for("the alert", lambda: "list-refused" in self.alerts(), 20)
        self.assertEqual(self.slug(), "domain-blocked")

    def test_a_list_is_no_way_to_make_the_node_fetch_from_the_lan(self):
        for url in ["https://lan.test/list", "https://192.168.1.10/list", "http://target.test/list", "https://target.test:8443/x"]:
            with self.subTest(url):
                self.named({"name": "ads", "content": "x.test", "url": url})
                wait_for("the alert", lambda: "list-unavailable" in self.alerts(), 20)
                self.named()
                wait_for("no alert", lambda: "list-unavailable" not in self.alerts() or self.slug() is None, 20)
        self.assert_lan_untouched()

    def test_hosts_of_a_category_list_are_sensitive(self):
        self.named({"name": "category:mail", "content": "target.test"})
        self.becomes("category-denied")


class OfTheOwner(Lists):
    def files(self, **files):
        for name, content in files.items():
            path = self.directory / "node" / name
            path.write_text(content, encoding="utf-8")
            os.chmod(path, 0o644)
        return [str(self.directory / "node" / name) for name in files]

    def tearDown(self):
        self.node.change(network={"blocklistFiles": [], "allowlistFiles": []}, policy={"hostCategoriesAllowed": []})
        super().tearDown()

    def test_a_file_blocks_and_is_read_again_on_sighup(self):
        self.node.change(network={"blocklistFiles": self.files(hosts="0.0.0.0 target.test\n")})
        self.becomes("domain-blocked")
        self.files(hosts="0.0.0.0 other.test\n")
        self.node.hang_up()
        self.becomes(None)
        self.assertEqual(self.slug("other.test"), "domain-blocked")

    def test_a_file_that_cannot_be_read_leaves_the_last_good_one_in_force(self):
        paths = self.files(hosts="0.0.0.0 target.test\n")
        self.node.change(network={"blocklistFiles": paths})
        self.becomes("domain-blocked")
        os.unlink(paths[0])
        self.node.hang_up()
        wait_for("the alert", lambda: "list-unreadable" in self.alerts(), 10)
        self.assertIn(paths[0], self.alerts()["list-unreadable"])
        self.assertEqual(self.slug(), "domain-blocked")

    def test_an_allow_file_allows_its_names_alone(self):
        self.node.change(network={"allowlistFiles": self.files(allowed="target.test\n")})
        self.becomes("domain-not-allowed", "other.test")
        self.assertIsNone(self.slug("target.test"))

    def test_sensitive_hosts_are_denied_unless_the_owner_allows_them(self):
        self.assertEqual(self.slug("mail.google.com"), "category-denied")
        self.node.change(policy={"hostCategoriesAllowed": ["mail"]})
        self.assertEqual(self.slug("mail.google.com"), "resolve-failed")
