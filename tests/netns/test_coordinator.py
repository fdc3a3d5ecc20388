"""The coordinator's side: what is accepted, what is refused and why, faults, absence, restarts."""
import json
import time

from harness.control import wait_for
from harness.netns import COORDINATOR
from harness.world import World


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


class Orders(World):
    # These tests forge more orders than a node puts up with from its coordinator.
    node_config = {"breakers": {"forgedOrders": 1000}}

    def tearDown(self):
        self.clean()

    def test_an_open_is_refused_for_the_first_reason_that_applies(self):
        stranger = "ed25519:" + "A" * 43 + "="
        for expected, order in [
            ("bad-signature", {"badSignature": True}),
            ("bad-signature", {"badSignature": True, "overrides": {"nodeId": stranger}}),
            ("wrong-node", {"overrides": {"nodeId": stranger, "issuedAt": ago(5000)}}),
            ("stale", {"overrides": {"issuedAt": ago(700)}}),
            ("stale", {"overrides": {"issuedAt": ago(-120)}}),
            ("malformed", {"overrides": {"expiresAt": ago(100), "notBefore": ago(50)}}),
            ("malformed", {"overrides": {"tokenHash": None}}),
            ("malformed", {"overrides": {"limits": {"maxMbps": "fast"}}}),
            ("malformed", {"policyProfile": {"ech": "perhaps"}}),
            ("not-yet-valid", {"notBeforeS": 200}),
            ("expired", {"overrides": {"notBefore": ago(100), "expiresAt": ago(10)}}),
            ("region-denied", {"overrides": {"regions": ["Mars-1"]}}),
            ("category-denied", {"overrides": {"category": "gambling"}}),
            ("port-denied", {"policyProfile": {"allowedPorts": [443, 25]}}),
            ("transport-unsupported", {"policyProfile": {"transports": ["carrier-pigeon"]}}),
            ("transport-unsupported", {"policyProfile": {"transports": []}}),
        ]:
            with self.subTest(f"{expected} {order}"):
                self.assertEqual(self.lab.answer(**order), expected)

    def test_the_same_open_again_is_ignored_and_a_different_one_is_refused(self):
        made = self.lab.post("/open", {"waitMs": 10_000})
        self.assertEqual(made["answer"], "accepted")
        self.lab.post("/signal", {"type": "open", "body": made["open"]})
        self.assertEqual(self.lab.answer(sessionId=made["sessionId"]), "duplicate-session")
        found = self.lab.session(made["sessionId"])
        self.assertEqual(found["state"], "active")
        self.assertEqual([o["answer"] for o in found["opens"]], ["accepted", "duplicate-session"])

    def test_a_known_session_is_not_opened_again_after_a_restart(self):
        made = self.lab.post("/open", {"waitMs": 10_000})
        self.lab.post("/close", {"sessionId": made["sessionId"], "waitMs": 10_000})
        self.node.kill()
        self.node.start()
        self.lab.post("/signal", {"type": "open", "body": made["open"]})
        self.assertEqual(self.lab.answer(sessionId=made["sessionId"]), "duplicate-session")
        self.assertEqual(self.lab.session(made["sessionId"])["state"], "settled")

    def test_a_category_the_owner_opted_out_of_is_refused(self):
        self.addCleanup(self.node.change, policy={"categoryOptOut": []})
        self.node.change(policy={"categoryOptOut": ["qa"]})
        self.assertEqual(self.lab.answer(), "category-denied")
        self.assertEqual(self.lab.answer(overrides={"category": "ad-verification"}), "accepted")

    def test_an_opt_out_refuses_flows_of_a_session_that_is_open(self):
        session = self.lab.open()
        self.addCleanup(self.node.change, policy={"categoryOptOut": []})
        self.node.change(policy={"categoryOptOut": ["qa"]})
        self.refused(self.proxy.connect("target.test:443", session), 403, "category-denied")

    def test_a_signal_that_makes_no_sense_does_not_stop_those_behind_it(self):
        for body in [{}, {"sessionId": 7}, [], "text", None, {"nodeId": "x" * 10_000}]:
            for kind in ["open", "close", "policy", "dance"]:
                self.lab.post("/signal", {"type": kind, "body": body if body is not None else {"a": None}})
        self.assertEqual(self.lab.answer(seconds=20), "accepted")
        self.lab.post("/violations")

    def test_a_hundred_signals_come_in_order(self):
        sessions = [self.lab.open(wait=None) for _ in range(40)]
        for session in sessions:
            self.lab.wait_session(session.id, "active", 30)
        for session in sessions:
            self.lab.close(session, wait=False)
        for session in sessions:
            self.lab.wait_session(session.id, "settled", 60)
            self.assertTrue(self.lab.verdict(session)["ok"], self.lab.verdict(session)["lines"])


class Faults(World):
    def setUp(self):
        self.addCleanup(self.lab.fault, "clear")

    def tearDown(self):
        self.clean()

    def away(self):
        self.topology.inet.ip("addr", "del", f"{COORDINATOR}/32", "dev", "lo")

    def back(self):
        if COORDINATOR not in self.topology.inet.ip("addr"):
            self.topology.inet.ip("addr", "add", f"{COORDINATOR}/32", "dev", "lo")

    def test_sessions_go_on_while_the_coordinator_is_away_and_settle_when_it_is_back(self):
        session = self.lab.open(durationS=12)
        opened = time.monotonic()
        self.addCleanup(self.back)
        self.away()
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/bytes/100000")[0], 200)
        time.sleep(max(0, 14 - (time.monotonic() - opened)))
        self.refused(self.proxy.connect("target.test:443", session), 403, "session-closed")
        self.assertNotEqual(self.lab.session(session.id)["state"], "settled")
        self.back()
        found = self.lab.wait_session(session.id, "settled", 90)
        self.assertGreater(found["totals"]["bytesIngress"], 100_000)
        self.lab.fault("clear")
        self.assertTrue(self.lab.verdict(session)["ok"], self.lab.verdict(session))

    def test_the_status_says_that_the_coordinator_is_away(self):
        self.addCleanup(self.back)

        def link():
            return self.node.status()["coordinator"]

        was = wait_for("the link", lambda: link()["backoffMs"] == 0 and link()["state"], 90)
        self.lab.fault("drop", times=-1)
        found = wait_for("another state", lambda: link()["state"] != was and link(), 60)
        self.assertTrue(0 < found["backoffMs"] <= 60_000, found)
        self.lab.fault("clear")
        wait_for("the old state", lambda: link()["state"] == was, 90)

    def test_retry_after_is_obeyed(self):
        session = self.lab.open()
        self.lab.fault("status", path="/sessions/control", status=503, retryAfter=4, times=1)
        self.lab.fault("status", path="/attest/metering", status=503, retryAfter=4, times=1)
        start = time.monotonic()
        self.lab.close(session, seconds=40)
        self.assertGreater(time.monotonic() - start, 3.5)

    def test_an_answer_that_is_lost_makes_the_same_bundle_again(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/5000")
        self.lab.fault("lose-answer", path="/attest/metering", times=2)
        self.lab.close(session, seconds=60)
        self.assertTrue(self.lab.verdict(session)["ok"], self.lab.verdict(session))
        self.assertEqual(len(self.lab.session(session.id)["bundles"]), 1)

    def test_a_node_that_was_forgotten_registers_again(self):
        before = self.lab.nodes()[0]["registrations"]
        self.lab.fault("forget-node")
        wait_for("another registration", lambda: self.lab.nodes() and self.lab.nodes()[0]["registrations"] > before, 60)
        self.assertEqual(self.lab.answer(), "accepted")

    def test_a_forgotten_cursor_starts_over_and_opens_nothing_twice(self):
        made = self.lab.post("/open", {"waitMs": 10_000})
        self.lab.fault("forget-cursor")
        other = self.lab.post("/open", {"waitMs": 70_000})
        self.assertEqual(other["answer"], "accepted")
        found = self.lab.session(made["sessionId"])
        self.assertEqual([o["answer"] for o in found["opens"]], ["accepted"])

    def test_garbage_redirects_and_huge_answers_are_survived(self):
        for kind, more in [
            ("garbage", {}), ("oversize", {}), ("status", {"status": 302, "location": "https://origin.lab.test/"}),
            ("status", {"status": 500}), ("status", {"status": 429, "retryAfter": 1}), ("drop", {}),
        ]:
            self.lab.fault(kind, path="/sessions/control", times=1, **more)
        before = self.lab.get("/origin")["connections"]
        self.assertEqual(self.lab.answer(seconds=60), "accepted")
        self.assertEqual(self.lab.get("/origin")["connections"], before, "a redirect was followed")

    def test_a_refused_bundle_is_final(self):
        session = self.lab.open()
        self.lab.fault("refuse-bundles", times=1)
        found = self.lab.close(session, seconds=30)
        self.assertEqual([b["status"] for b in found["bundles"]], ["refused"])
        self.lab.post("/violations")

    def test_a_wrong_clock_is_corrected_from_the_coordinators_answer(self):
        self.addCleanup(self.lab.resync)
        self.addCleanup(self.lab.fault, "clear")
        for offset in [3_600_000, -7_200_000]:
            with self.subTest(offset):
                self.node.stop()
                self.lab.fault("clock", offsetMs=offset)
                before = self.lab.get("/nodes")[0]["registrations"]
                self.node.start()
                wait_for("registration", lambda: self.lab.get("/nodes")[0]["registrations"] > before, 30)
                session = self.lab.open()
                self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)
                self.settle(session)
                self.assertTrue(self.lab.verdict(session)["ok"], self.lab.verdict(session))

    def test_a_clock_that_jumps_while_the_node_runs_is_followed(self):
        session = self.lab.open()
        self.lab.fault("clock", offsetMs=400_000)
        self.addCleanup(self.lab.resync)
        self.addCleanup(self.lab.fault, "clear")
        # An order that comes before the node has seen the new time would be ahead of it, and so `stale`.
        self.lab.resync()
        self.proxy.get(session, "origin.lab.test", "/")
        self.lab.close(session, seconds=60)
        self.assertTrue(self.lab.verdict(session)["ok"], self.lab.verdict(session))


class Restarts(World):
    def setUp(self):
        self.addCleanup(self.lab.fault, "clear")

    def again(self):
        self.node.start()
        wait_for("the coordinator", lambda: self.node.status()["coordinator"]["lastContact"], 30)

    def bundles_in_state(self):
        """Signed bundles in the state directory, as text."""
        found = set()
        for file in self.node.state_dir.rglob("*"):
            if file.is_file():
                for line in file.read_bytes().splitlines():
                    at = line.find(b'"accessLogHash"')
                    if at >= 0:
                        found.add(line)
        return found

    def restart_with_bundles(self, end):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/70000")
        self.lab.fault("status", path="/attest/metering", status=503, times=-1)
        self.lab.close(session, wait=False)
        wait_for("closing", lambda: self.lab.session(session.id)["state"] == "closing", 20)
        wait_for("a bundle on disk", self.bundles_in_state, 10)
        end()
        self.again()
        self.lab.fault("clear")
        found = self.lab.wait_session(session.id, "settled", 90)
        self.assertGreater(found["totals"]["bytesIngress"], 70_000)
        self.assertEqual(len(found["bundles"]), 1)
        self.clean(session)

    def test_unacknowledged_bundles_survive_sigterm(self):
        self.restart_with_bundles(self.node.stop)

    def test_unacknowledged_bundles_survive_sigkill(self):
        self.restart_with_bundles(self.node.kill)

    def test_a_bundle_the_coordinator_has_is_repeated_byte_for_byte_after_sigkill(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/70000")
        self.lab.fault("lose-answer", path="/attest/metering", times=-1)
        self.lab.close(session, wait=False)
        wait_for("a bundle at the coordinator", lambda: self.lab.session(session.id)["bundles"], 20)
        self.node.kill()
        self.again()
        self.lab.fault("clear")
        found = self.lab.wait_session(session.id, "settled", 90)
        self.assertEqual(len(found["bundles"]), 1)
        self.clean(session)

    def test_an_open_session_goes_on_after_sigterm(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/bytes/50000")
        self.node.stop()
        self.again()
        state = wait_for("the session", lambda: self.lab.session(session.id)["state"], 10)
        if state == "active":
            self.assertEqual(self.proxy.get(session, "origin.lab.test", "/bytes/50000")[0], 200)
            self.lab.close(session)
        self.lab.wait_session(session.id, "settled", 60)
        self.clean(session)

    def test_an_open_session_never_counts_twice_after_sigkill(self):
        session = self.lab.open()
        received, sent = self.lab.origin()
        self.proxy.get(session, "origin.lab.test", "/bytes/50000")
        self.node.kill()
        self.again()
        if self.lab.session(session.id)["state"] == "active":
            self.proxy.connect("origin.lab.test:443", session)
            self.lab.close(session, wait=False)
        found = self.lab.wait_session(session.id, "settled", 60)
        now = self.lab.origin()
        self.assertLessEqual(found["totals"]["bytesIngress"], now[1] - sent)
        self.assertLessEqual(found["totals"]["bytesEgress"], now[0] - received)
        self.clean(session)

    def test_an_order_is_not_lost_by_a_kill_right_after_it(self):
        session = self.lab.open(wait="accepted")
        self.node.kill()
        self.again()
        self.lab.wait_session(session.id, "active", 30)
        self.lab.close(session)
        self.clean(session)

    def test_a_second_node_on_the_same_state_is_refused(self):
        from harness.node import Node
        from harness.world import NODE_BINARY

        other = Node(self.topology.node, self.node.directory, NODE_BINARY, self.lab)
        other.config["relay"]["listen"] = "44.2.2.2:9443"
        config = json.dumps(other.config)
        path = self.node.directory / "second.json"
        path.write_text(config, encoding="utf-8")
        from harness.process import Process

        words = [NODE_BINARY, "run", "--config", path, "--run-dir", self.node.directory / "run2", "--state-dir", self.node.state_dir, "--api", "off"]
        second = Process(self.topology.node.command(*map(str, words)), self.node.directory / "second.log")
        self.addCleanup(second.kill)
        self.assertNotIn(second.wait(10), (0, None), second.text())
        self.assertTrue(self.node.process.alive())
