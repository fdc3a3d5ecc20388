"""The owner's and the coordinator's orders take effect on tunnels that live."""
import time

from harness.control import wait_for
from harness.hello import client_hello
from harness.stream import RESET, ending
from harness.world import World

LIMIT_MS = 250  # of the buyer's side; the design's figure is 100, printed below


class Kill(World):
    def tunnels(self, session, count, host="target.test"):
        before = len(self.target.connections)
        size = len(client_hello(sni=host))
        streams = [self.proxy.tunnel(session, host) for _ in range(count)]
        got = 0
        for stream in streams:
            while got < size:
                got += len(stream.read())
            got = 0
        return streams, [self.target.next(before + i) for i in range(count)]

    def all_reset(self, streams, start):
        """Milliseconds from `start` until the buyer saw the last reset."""
        for stream in streams:
            stream.timeout(15)
            self.assertEqual(ending(stream), RESET)
            stream.close()
        return (time.monotonic() - start) * 1000

    def start_again(self):
        self.node.control("start")
        self.node.wait_state("idle", "active")

    def test_pause_cuts_live_tunnels_refuses_new_ones_and_keeps_the_session(self):
        session = self.lab.open()
        streams, seen = self.tunnels(session, 50)
        self.addCleanup(self.start_again)
        start = time.monotonic()
        self.node.control("pause")
        ms = self.all_reset(streams, start)
        print(f"     pause: 50 tunnels reset {ms:.1f} ms after the order was sent")
        self.assertLess(ms, LIMIT_MS)
        self.assertEqual([c.ended(2) for c in seen], [RESET] * 50)
        self.refused(self.proxy.connect("target.test:443", session), 503, "paused")
        self.assertEqual(self.node.status()["state"], "paused")
        self.assertEqual(self.lab.session(session.id)["state"], "active")
        self.start_again()
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)
        self.settle(session)
        self.clean(session)

    def test_a_pause_outlives_a_restart(self):
        self.addCleanup(self.start_again)
        self.node.control("pause")
        self.node.stop()
        self.node.start()
        self.assertEqual(self.node.wait_state("paused")["state"], "paused")

    def test_pause_refuses_an_open(self):
        self.addCleanup(self.start_again)
        self.node.control("pause")
        self.assertEqual(self.lab.answer(), "paused")

    def test_stop_cuts_live_tunnels_and_settles_every_session(self):
        session = self.lab.open()
        streams, _ = self.tunnels(session, 10)
        self.addCleanup(self.start_again)
        start = time.monotonic()
        self.node.control("stop")
        ms = self.all_reset(streams, start)
        print(f"     stop: 10 tunnels reset {ms:.1f} ms after the order was sent")
        self.assertLess(ms, LIMIT_MS)
        found = self.lab.wait_session(session.id, "settled")
        closing = [t["body"] for t in found["transitions"] if t["transition"] == "closing"]
        self.assertEqual(closing[0]["reason"], "stopped")
        self.clean(session)

    def test_a_close_of_the_coordinator_cuts_and_settles(self):
        session = self.lab.open()
        streams, _ = self.tunnels(session, 5)
        start = time.monotonic()
        self.lab.close(session, "budget", wait=False)
        self.all_reset(streams, start)
        self.lab.wait_session(session.id, "settled")
        self.refused(self.proxy.connect("target.test:443", session), 403, "session-closed")
        self.clean(session)

    def test_the_owner_ends_one_session_and_the_other_goes_on(self):
        one, other = self.lab.open(), self.lab.open()
        (cut,), _ = self.tunnels(one, 1)
        (kept,), _ = self.tunnels(other, 1)
        status, _, body = self.node.request("DELETE", f"/sessions/{one.id}")
        self.assertIn(status, (200, 202, 204), body)
        self.all_reset([cut], time.monotonic())
        self.lab.wait_session(one.id, "settled")
        kept.write(b"x" * 100)
        self.assertEqual(kept.read(), b"x" * 100)
        self.assertEqual(self.node.request("DELETE", f"/sessions/{one.id}")[0], 404)
        kept.close()
        self.clean(one)

    def test_a_session_ends_at_its_expiry(self):
        session = self.lab.open(durationS=6)
        opened = time.monotonic()
        streams, _ = self.tunnels(session, 2)
        self.all_reset(streams, time.monotonic())
        self.assertAlmostEqual(time.monotonic() - opened, 6, delta=2)
        found = self.lab.wait_session(session.id, "settled")
        self.assertEqual([t["body"].get("reason") for t in found["transitions"] if t["transition"] == "closing"], ["expired"])
        self.clean(session)

    def test_a_session_begins_at_not_before(self):
        session = self.lab.open(wait="accepted", notBeforeS=3)
        self.refused(self.proxy.connect("target.test:443", session), 403, "session-closed")
        self.lab.wait_session(session.id, "active", 6)
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)

    def test_stricter_rules_of_the_coordinator_hold_for_live_flows(self):
        session = self.lab.open()
        (cut,), _ = self.tunnels(session, 1, "other.test")
        (kept,), _ = self.tunnels(session, 1, "target.test")
        self.lab.policy(session, policyProfile={"blockDomains": ["other.test"]})
        self.all_reset([cut], time.monotonic())
        self.refused(self.proxy.connect("other.test:443", session), 403, "domain-blocked")
        kept.write(b"y")
        self.assertEqual(kept.read(), b"y")
        kept.close()
        self.settle(session)
        self.clean(session)

    def test_a_policy_for_all_holds_for_every_open_session(self):
        sessions = [self.lab.open(), self.lab.open()]
        self.lab.policy(None, policyProfile={"allowDomains": ["origin.lab.test"]})
        for session in sessions:
            wait_for("the policy", lambda: self.proxy.connect("target.test:443", session).status == 403)
            self.refused(self.proxy.connect("target.test:443", session), 403, "domain-not-allowed")

    def test_a_forged_policy_and_a_forged_close_change_nothing(self):
        session = self.lab.open()
        (kept,), _ = self.tunnels(session, 1)
        self.lab.policy(session, policyProfile={"blockDomains": ["target.test"]}, badSignature=True)
        self.lab.post("/close", {"sessionId": session.id, "badSignature": True})
        time.sleep(1)
        kept.write(b"z")
        self.assertEqual(kept.read(), b"z")
        self.assertEqual(self.lab.session(session.id)["state"], "active")
        kept.close()

    def test_the_end_of_the_schedule_cuts_refuses_and_keeps_the_session(self):
        session = self.lab.open()
        streams, _ = self.tunnels(session, 3)
        day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][(time.localtime().tm_wday + 3) % 7]
        self.addCleanup(self.node.change, node={"schedules": []})
        self.node.change(node={"schedules": [{"days": [day], "start": "10:00", "end": "11:00"}]})
        self.all_reset(streams, time.monotonic())
        self.refused(self.proxy.connect("target.test:443", session), 503, "outside-schedule")
        self.assertEqual(self.lab.answer(), "outside-schedule")
        self.node.change(node={"schedules": []})
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)

    def test_a_wrong_region_seen_three_times_is_quarantine(self):
        session = self.lab.open()
        streams, _ = self.tunnels(session, 2)
        self.addCleanup(self.node.control, "clearQuarantine")
        self.addCleanup(self.lab.post, "/observe", {"region": "Test-Region", "confidence": 0.95})
        self.lab.post("/observe", {"region": "Elsewhere", "confidence": 0.95})
        self.node.wait_state("quarantined", seconds=40)
        self.all_reset(streams, time.monotonic())
        self.refused(self.proxy.connect("target.test:443", session), 503, "quarantined")
        found = self.lab.wait_session(session.id, "settled")
        self.assertEqual([t["body"].get("reason") for t in found["transitions"] if t["transition"] == "closing"], ["quarantined"])
        self.assertEqual(self.lab.answer(), "region-denied")
        self.lab.post("/observe", {"region": "Test-Region", "confidence": 0.95})
        wait_for("the region", lambda: self.node.status()["geo"]["region"] == "Test-Region", 20)
        self.assertEqual(self.lab.answer(), "quarantined")
        self.node.control("clearQuarantine")
        self.node.wait_state("idle", "active")
        self.assertEqual(self.lab.answer(), "accepted")
        self.clean(session)
