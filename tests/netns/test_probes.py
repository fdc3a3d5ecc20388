"""Probes: only what the coordinator signed, only approved endpoints, never twice."""
import base64
import os
import time

from harness.world import World


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


class Probes(World):
    def setUp(self):
        self.session = self.lab.open()
        self.addCleanup(self.lab.fault, "clear")

    def tearDown(self):
        self.assert_lan_untouched()

    def probe(self, seconds=20, **ask):
        return self.lab.post("/probe", {"sessionId": self.session.id, "waitMs": seconds * 1000, **ask})

    def served(self):
        return self.lab.get("/endpoint")["served"]

    def test_a_probe_passes_and_is_counted_nowhere(self):
        before = self.node.sessions()[self.session.id]
        done = self.probe(size=4 << 20)
        self.assertEqual((done["verdict"], done["wrong"]), ("passed", []))
        report = done["report"]
        self.assertEqual(report["bytes"], 4 << 20)
        for name in ["durationMs", "rttMs", "tlsMs"]:
            self.assertGreaterEqual(report[name], 0)
        after = self.node.sessions()[self.session.id]
        self.assertEqual([before[k] for k in ("bytesIngress", "bytesEgress")], [after[k] for k in ("bytesIngress", "bytesEgress")])
        self.assertGreaterEqual(self.node.status()["probes"]["passed"], 1)
        self.clean()

    def test_the_smallest_and_the_greatest_size_pass(self):
        for size in [1 << 20, 64 << 20]:
            self.assertEqual(self.probe(60, size=size).get("verdict"), "passed")

    def test_follow_ups_in_a_row_are_answered(self):
        before = self.served()
        self.assertEqual(self.probe(followUps=3).get("verdict"), "passed")
        end = time.monotonic() + 20
        while self.served() < before + 4 and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(self.served(), before + 4)
        self.clean()

    def refused(self, slug, fetched=0, **ask):
        before = self.served()
        done = self.probe(**ask)
        self.assertEqual((done["verdict"], done["refused"]), ("refused", slug), done)
        self.assertEqual(self.served(), before + fetched)

    def test_refusals(self):
        other = "ed25519:" + "A" * 43 + "="
        self.refused("wrong-node", overrides={"nodeId": other})
        self.refused("stale", overrides={"issuedAt": ago(-200)})
        self.refused("stale", overrides={"issuedAt": ago(700)})
        self.refused("expired", overrides={"issuedAt": ago(30), "ttl": 10})
        self.refused("expired", overrides={"ttl": 301})
        self.refused("expired", overrides={"ttl": 0})
        self.refused("size-denied", overrides={"size": (64 << 20) + 1})
        self.refused("size-denied", overrides={"size": 1000})
        self.refused("session-unknown", overrides={"sessionId": "00000000-0000-4000-8000-000000000000"})

    def test_endpoints_that_are_not_approved_are_never_asked(self):
        connections = len(self.target.connections)
        for endpoint in [
            "https://target.test/probe", "https://origin.lab.test/", "https://192.168.1.10/probe", "http://192.168.1.10/probe",
            "https://endpoint.lab.test:8443/probe", "https://user@endpoint.lab.test/probe", "https://endpoint.lab.test/probe?x=1",
            "https://endpoint.lab.test/probe#x", "ftp://endpoint.lab.test/probe", "https://endpoint.lab.test.evil.test/probe", "nonsense",
        ]:
            with self.subTest(endpoint):
                self.refused("endpoint-denied", endpoint=endpoint)
        self.assertEqual(len(self.target.connections), connections)

    def test_plain_http_is_fetched_on_port_80_only_and_only_if_the_owner_allows_it(self):
        self.addCleanup(self.node.change, policy={"allowPlainHttpProbes": False})
        for allowed in [False, True]:
            self.node.change(policy={"allowPlainHttpProbes": allowed})
            time.sleep(0.5)
            if allowed:
                done = self.probe(endpoint="http://endpoint.lab.test/probe")
                self.assertEqual(done["verdict"], "passed", done)
            else:
                self.refused("endpoint-denied", endpoint="http://endpoint.lab.test/probe")
            self.refused("endpoint-denied", endpoint="http://endpoint.lab.test:8080/probe")

    def test_an_approved_name_that_points_inside_is_not_fetched(self):
        self.addCleanup(time.sleep, 1.5)
        self.addCleanup(self.lab.post, "/zone", {"name": "endpoint.lab.test", "addresses": ["44.10.0.90"], "ttl": 1})
        self.lab.post("/zone", {"name": "endpoint.lab.test", "addresses": ["192.168.1.10"], "ttl": 1})
        self.node.stop()
        self.node.start()
        self.session = self.lab.open()
        done = self.probe(30)
        self.assertEqual(done["verdict"], "refused", done)
        self.assertIn(done["refused"], ("endpoint-denied", "fetch-failed"))

    def test_a_nonce_is_answered_once_over_a_restart_too(self):
        nonce = base64.b64encode(os.urandom(18)).decode()
        self.assertEqual(self.probe(overrides={"nonce": nonce}).get("verdict"), "passed")
        self.node.kill()
        self.node.start()
        self.session = self.lab.open()
        before = self.served()
        self.probe(8, overrides={"nonce": nonce})
        time.sleep(1.5)
        self.assertEqual(self.served(), before)
        # The lab takes `nonce-reused` for a second answer.
        self.lab.post("/violations")

    def test_what_the_endpoint_gets_wrong(self):
        for fault, slug in [
            ("probe-signature", "endpoint-untrusted"), ("probe-hash", "endpoint-untrusted"), ("probe-nonce", "endpoint-untrusted"),
            ("probe-trailer", "fetch-failed"), ("probe-short", "fetch-failed"), ("probe-status", "fetch-failed"),
        ]:
            with self.subTest(fault):
                self.lab.fault(fault)
                done = self.probe()
                self.assertEqual((done["verdict"], done["refused"]), ("refused", slug), done)

    def test_a_forged_request_gets_no_answer_but_an_alert(self):
        before = self.served()
        done = self.probe(4, badSignature=True)
        self.assertEqual((done["verdict"], self.served()), ("waiting", before))
        self.assertTrue(self.node.status()["alerts"])
        self.clean()
