"""Caps and quotas, on flows that live."""
import threading
import time

from harness.control import wait_for
from harness.hello import client_hello
from harness.stream import RESET, ending
from harness.world import World


class Rates(World):
    node_config = {"network": {"maxMbps": 400}}

    @staticmethod
    def target_answer(connection, data):
        """Sends without end, once."""
        if connection.sent == 0:
            connection.sent = 1
            threading.Thread(target=Rates.pour, args=(connection,), daemon=True).start()

    @staticmethod
    def pour(connection):
        try:
            while True:
                connection.sock.sendall(b"x" * 65536)
        except OSError:
            pass

    def measure(self, streams, seconds, warm=1.0):
        """Mbit/s of the tunnels together, after a while: as they arrive, for a reader that is late reads a backlog."""
        stop = threading.Event()

        def drain(stream):
            try:
                while not stop.is_set():
                    stream.read(1 << 18)
            except OSError:
                pass

        threads = [threading.Thread(target=drain, args=(stream,), daemon=True) for stream in streams]
        for thread in threads:
            thread.start()
        time.sleep(warm)
        begin, start = sum(stream.arrived() for stream in streams), time.monotonic()
        time.sleep(seconds)
        rate = (sum(stream.arrived() for stream in streams) - begin) * 8 / 1e6 / (time.monotonic() - start)
        stop.set()
        for thread in threads:
            thread.join(3)
        return rate

    def within(self, rate, wanted, share=0.1):
        print(f"     {rate:.1f} Mbit/s of {wanted}")
        self.assertAlmostEqual(rate, wanted, delta=wanted * share)

    def test_a_sessions_cap_holds_within_ten_percent_over_ten_seconds(self):
        session = self.lab.open(limits={"maxMbps": 40, "burstKB": 200})
        stream = self.proxy.tunnel(session)
        self.within(self.measure([stream], 10), 40)
        stream.close()

    def test_the_tunnels_of_a_session_share_its_cap(self):
        session = self.lab.open(limits={"maxMbps": 40, "burstKB": 200})
        streams = [self.proxy.tunnel(session) for _ in range(8)]
        self.within(self.measure(streams, 5), 40)
        for stream in streams:
            stream.close()

    def test_a_change_of_the_owners_cap_takes_effect_on_a_live_flow(self):
        session = self.lab.open()
        stream = self.proxy.tunnel(session)
        self.addCleanup(self.node.change, network={"maxMbps": 400})
        self.node.change(network={"maxMbps": 80})
        self.within(self.measure([stream], 4), 80)
        self.node.change(network={"maxMbps": 20})
        self.within(self.measure([stream], 10), 20)
        self.node.change(network={"maxMbps": 160})
        self.within(self.measure([stream], 5, warm=4), 160)
        stream.close()

    def test_the_owners_cap_holds_for_all_sessions_together(self):
        self.addCleanup(self.node.change, network={"maxMbps": 400})
        self.node.change(network={"maxMbps": 40})
        streams = [self.proxy.tunnel(self.lab.open()) for _ in range(3)]
        self.within(self.measure(streams, 8), 40)
        for stream in streams:
            stream.close()

    def test_a_stricter_policy_lowers_the_rate_of_a_live_flow(self):
        session = self.lab.open(limits={"maxMbps": 100})
        stream = self.proxy.tunnel(session)
        self.measure([stream], 1)
        self.lab.policy(session, limits={"maxMbps": 16, "burstKB": 100})
        self.within(self.measure([stream], 6, warm=2), 16)
        stream.close()

    def test_the_coordinator_cannot_raise_the_owners_cap(self):
        session = self.lab.open(limits={"maxMbps": 100_000})
        self.assertLessEqual(self.lab.session(session.id)["limits"]["maxMbps"], 400)


class Counts(World):
    def kb(self, session):
        return self.proxy.get(session, "origin.lab.test", "/bytes/1000")[0]

    def test_connections_at_a_time(self):
        session = self.lab.open(limits={"maxConnections": 3})
        streams = [self.proxy.tunnel(session) for _ in range(3)]
        reply = self.proxy.connect("target.test:443", session)
        self.refused(reply, 429, "rate-limited")
        self.assertGreaterEqual(int(reply.header("retry-after")), 1)
        streams.pop().close()
        wait_for("a free place", lambda: self.proxy.connect("target.test:443", session).status == 200)

    def test_new_connections_per_second(self):
        session = self.lab.open(limits={"maxNewPerSecond": 4})
        replies = [self.proxy.connect("target.test:443", session) for _ in range(12)]
        good = [r for r in replies if r.status == 200]
        self.assertTrue(4 <= len(good) < 12, [r.status for r in replies])
        self.refused(next(r for r in replies if r.status != 200), 429, "rate-limited")
        time.sleep(1.2)
        self.assertEqual(self.proxy.connect("target.test:443", session).status, 200)

    def test_new_connections_per_host_per_second(self):
        session = self.lab.open(limits={"maxNewPerHostPerSecond": 2})
        replies = [self.proxy.connect("target.test:443", session) for _ in range(8)]
        self.assertTrue(any(r.status == 429 for r in replies), [r.status for r in replies])
        self.assertEqual(self.proxy.connect("other.test:443", session).status, 200)

    def test_a_sessions_day_quota_cuts_refuses_and_keeps_the_session(self):
        session = self.lab.open(limits={"maxGBPerDay": 0.003})
        with self.assertRaises((ConnectionResetError, EOFError)):
            self.proxy.get(session, "origin.lab.test", "/bytes/20000000")
        reply = self.proxy.connect("origin.lab.test:443", session)
        self.refused(reply, 429, "quota-reached")
        self.assertGreaterEqual(int(reply.header("retry-after")), 1)
        self.assertEqual(self.lab.session(session.id)["state"], "active")
        totals = self.settle(session)
        carried = totals["bytesIngress"] + totals["bytesEgress"]
        self.assertAlmostEqual(carried, 3_000_000, delta=300_000)
        self.clean(session)

    def test_a_sessions_whole_quota_ends_it(self):
        session = self.lab.open(limits={"maxGB": 0.002})
        with self.assertRaises((ConnectionResetError, EOFError)):
            self.proxy.get(session, "origin.lab.test", "/bytes/20000000")
        found = self.lab.wait_session(session.id, "settled")
        self.assertEqual([t["body"].get("reason") for t in found["transitions"] if t["transition"] == "closing"], ["quota"])
        self.refused(self.proxy.connect("origin.lab.test:443", session), 403, "session-closed")
        self.clean(session)

    def test_the_owners_day_quota_holds_over_a_restart(self):
        session = self.lab.open()
        today = self.node.status()["today"]
        used = today["ingressBytes"] + today["egressBytes"]
        self.addCleanup(self.node.change, network={"maxGBPerDay": 1000})
        self.node.change(network={"maxGBPerDay": (used + 2_000_000) / 1e9})
        stream = self.proxy.https(session, "origin.lab.test")
        stream.write(b"GET /bytes/50000000 HTTP/1.1\r\nHost: origin.lab.test\r\n\r\n")
        self.assertEqual(ending(stream), RESET)
        self.refused(self.proxy.connect("origin.lab.test:443", session), 429, "quota-reached")
        self.node.stop()
        self.node.start()
        wait_for("the listener", lambda: self.node.status()["state"] in ("idle", "active"))
        self.refused(self.proxy.connect("origin.lab.test:443", self.lab.open()), 429, "quota-reached")

    def test_the_effective_limit_is_the_lower_one(self):
        self.addCleanup(self.node.change, network={"perSession": {}})
        self.node.change(network={"perSession": {"maxMbps": 50, "maxConnections": 10, "maxGB": 5}})
        session = self.lab.open(limits={"maxMbps": 80, "maxConnections": 4, "maxNewPerSecond": 9})
        limits = self.lab.session(session.id)["limits"]
        self.assertEqual([limits.get(k) for k in ("maxMbps", "maxConnections", "maxGB", "maxNewPerSecond")], [50, 4, 5, 9])
        self.clean()

    def test_hellos_of_refused_flows_are_not_counted(self):
        session = self.lab.open()
        stream = self.proxy.hello(session, client_hello(sni="wrong.test"))
        ending(stream)
        node = self.node.sessions()[session.id]
        self.assertEqual((node["bytesIngress"], node["bytesEgress"], node["rejected"]), (0, 0, 1))
