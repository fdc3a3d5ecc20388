"""The packaged binary on a router's processor with 64 MB of memory: guard, node, 200 requests, 50 MB."""
from vmlab.world import VmWorld


class Mipsel(VmWorld):
    node_config = {"network": {"maxMbps": 1000, "perSession": {"maxNewPerSecond": 1000, "maxNewPerHostPerSecond": 1000}}}

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > before:
            print(self.machine.sh("tail -n 30 /tmp/run.log /tmp/guard.log; ps | grep echomesh; free; dmesg | tail -n 5"))

    def test_two_hundred_requests_and_a_download_that_takes_the_processor_for_longer_than_a_guard_may_be_silent(self):
        session = self.lab.open(seconds=120)
        for _ in range(200):
            status, content, _ = self.proxy.get(session, "origin.lab.test", "/bytes/1000")
            self.assertEqual((status, len(content)), (200, 1000))
        status, size, seconds = self.proxy.get(session, "origin.lab.test", "/bytes/120000000", discard=True)
        self.assertEqual((status, size), (200, 120_000_000))
        run, guard = self.node.rss_kb()
        print(f"     120 MB in {seconds:.1f} s; resident: run {run} kB, guard {guard} kB")
        totals = self.settle(session)
        self.assertGreater(totals["bytesIngress"], 120_000_000 + 200 * 1000)
        self.clean(session)

    def test_refusals_are_the_same_as_anywhere(self):
        session = self.lab.open(seconds=60)
        self.refused(self.proxy.connect("lan.test:443", session), 403, "address-denied", "destination_ip_prohibited")
        self.refused(self.proxy.connect("owner-blocked.test:443", session), 403, "domain-blocked")
        self.refused(self.proxy.connect("nobody.test:443", session), 502, "connect-failed", "connection_refused")
        self.clean()

    def test_the_guard_is_in_force_and_nothing_is_carried_without_it(self):
        session = self.lab.open(seconds=60)
        self.assertEqual(self.node.status()["guard"], "up")
        self.machine.ok("kill -9 $(cat /tmp/guard.pid)")
        self.node.wait_state("guard-down")
        self.refused(self.proxy.connect("target.test:443", session), 503, "guard-down")
        self.node.start_guard()
        self.node.wait_state("active")
        self.settle(session)
        self.clean(session)

    def test_the_package_lies_there_and_its_own_words_hold(self):
        listed = self.machine.ok("cd / && stat -c '%a %u:%g %n' usr/sbin/echomesh etc/init.d/echomesh etc/config/echomesh")
        self.assertEqual(
            listed.split("\n")[:3],
            ["755 0:0 usr/sbin/echomesh", "755 0:0 etc/init.d/echomesh", "600 0:0 etc/config/echomesh"],
        )
        self.machine.ok("echomesh config check /etc/config/echomesh")
        for role in ("run", "guard"):
            said = self.machine.sh(f"echomesh {role} --uci --user nosuch --run-dir /tmp/none 2>&1; echo ended $?; ls -d /tmp/none")
            self.assertIn("--user nosuch: /etc/passwd has no such user", said)
            self.assertRegex(said, "ended (2|78)")
            self.assertNotRegex(said, "(?m)^/tmp/none$")
