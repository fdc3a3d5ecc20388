"""Figures that the design promises, of the release binary. Times are printed, and asserted with room for a busy machine."""
import statistics
import time

from harness.control import wait_for
from harness.stream import RESET, ending
from harness.world import World


class Figures(World):
    alone = True
    node_config = {
        "log": {"level": "info"},
        "network": {
            "perSession": {"maxNewPerSecond": 10_000, "maxNewPerHostPerSecond": 10_000, "maxConnections": 10_000},
            "perTarget": {"maxNewPerHostPerSecond": 10_000, "maxNewPerDomainPerSecond": 10_000},
        },
    }
    heartbeat_ms = 60_000

    def test_start_to_ready(self):
        times = []
        for _ in range(7):
            self.node.stop()
            self.node.start()
            times.append(self.node.ready_ms)
        print(f"     start to ready: median {statistics.median(times):.0f} ms, {min(times):.0f} to {max(times):.0f}")
        self.assertLess(statistics.median(times), 100)
        self.node.wait_state("idle", "active")

    def test_shutdown_with_a_hundred_live_tunnels(self):
        session = self.lab.open()
        before = len(self.target.connections)
        streams = [self.proxy.tunnel(session) for _ in range(100)]
        for stream in streams:
            stream.read()
        seconds = self.node.stop()
        print(f"     shutdown with 100 live tunnels: {seconds * 1000:.0f} ms, status {self.node.process.child.returncode}")
        self.assertEqual(self.node.process.child.returncode, 0, self.node.log()[-2000:])
        for stream in streams:
            stream.timeout(2)
            self.assertIn(ending(stream), (RESET, b""))
        for i in range(100):
            self.assertIsNotNone(self.target.next(before + i).ended(2))
        self.node.start()
        self.node.wait_state("idle", "active")
        self.assertLess(seconds, 1)

    def test_idle_memory(self):
        self.node.stop()
        self.node.start()
        self.node.wait_state("idle", "active")
        # Two seconds after the last of what seldom happens the node gives pages back; the addresses of the test's network are its last.
        time.sleep(5)
        rss, (anonymous, of_files), pss = self.node.process.rss_kb(), self.node.process.rss_parts_kb(), self.node.process.pss_kb()
        print(f"     idle RSS: {rss} kB ({anonymous} kB its own data, {of_files} kB code of program and C library); PSS {pss} kB")
        self.assertLess(rss, 4096)
        self.assertLess(anonymous, 1024)

    def test_idle_wake_ups(self):
        for session in self.node.sessions():
            self.lab.post("/close", {"sessionId": session, "waitMs": 10_000})
        wait_for("no session", lambda: self.node.status()["sessions"] == 0)
        time.sleep(3)
        before, start = self.node.process.wakeups(), time.monotonic()
        time.sleep(20)
        count = self.node.process.wakeups() - before
        per_second = count / (time.monotonic() - start)
        print(f"     idle context switches: {count} in 20 s ({per_second:.2f} per second)")
        self.assertLessEqual(per_second, 1)

    def test_memory_of_idle_tunnels_over_tls(self):
        session = self.lab.open()
        warm = self.proxy.tunnel(session)
        warm.read()
        before, descriptors = self.node.process.rss_kb(), self.node.process.descriptors()
        streams = [self.proxy.tunnel(session) for _ in range(300)]
        for stream in streams:
            stream.read()
        time.sleep(1)
        each = (self.node.process.rss_kb() - before) / 300
        print(f"     an idle tunnel over TLS: {each:.1f} kB, {(self.node.process.descriptors() - descriptors) / 300:.2f} descriptors")
        for stream in [*streams, warm]:
            stream.close()
        for connection in self.target.connections:
            connection.ended()
            connection.sock.close()
        self.assertLess(each, 24)
        wait_for("all tunnels' end", lambda: self.node.sessions()[session.id]["open"] == 0, 20)
        self.assertLessEqual(self.node.process.descriptors(), descriptors + 4)

    def test_nothing_is_written_to_the_state_while_idle(self):
        def sizes():
            return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in self.node.state_dir.rglob("*") if f.is_file()}

        time.sleep(2)
        before = sizes()
        time.sleep(12)
        self.assertEqual(sizes(), before)
