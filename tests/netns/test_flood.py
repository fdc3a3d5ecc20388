"""Ten thousand clients that hold up the listener, and honest requests beside them."""
import resource
import time

from harness.control import wait_for
from harness.flood import Flood, Honest, Peak, route
from harness.world import World

MOST_RSS_KB = 32 * 1024
ALL = "silent,half,tls,head,spam,record"


class Floods(World):
    alone = True
    node_config = {"network": {"perSession": {"maxConnections": 4096, "maxNewPerSecond": 1000, "maxNewPerHostPerSecond": 1000}}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        route(cls.topology)

    def flood(self, sources, stride, mix=ALL, seconds=10, clients=10_000):
        session = self.lab.open()
        self.proxy.tunnel(session).close()
        flood = Flood(self.topology, sources, mix, clients=clients, seconds=seconds, stride=stride)
        self.addCleanup(flood.kill)
        time.sleep(2)
        peak, honest = Peak(self.node.process), Honest(self, session)
        alerted = wait_for("the alert", lambda: [a for a in self.node.status()["alerts"] if a["code"] == "flood"], seconds)
        time.sleep(max(0, seconds - 4))
        figures, peak, seen = honest.end(), peak.end(), flood.end()
        print(f"     {sources} sources, {mix}: RSS {peak.rss_kb} kB, {peak.descriptors} descriptors, CPU {peak.cpu_percent:.0f} %; "
              f"honest {figures}; flood {seen}; refusals {self.node.status()['refusals']}")
        self.assertEqual(len(alerted), 1)
        self.assertLessEqual(peak.rss_kb, MOST_RSS_KB)
        self.assertGreaterEqual(seen["connected"], clients / 2)
        for kind, found in figures.items():
            self.assertGreaterEqual(found["success"], 0.99, (kind, found))
        return session

    def test_a_flood_from_one_address_takes_neither_memory_nor_the_place_of_others(self):
        self.clean(self.settled(self.flood(1, 1)))

    def test_a_flood_from_a_network_takes_neither_memory_nor_the_place_of_others(self):
        self.clean(self.settled(self.flood(256, 1)))

    def test_a_flood_from_many_networks_takes_neither_memory_nor_the_place_of_others(self):
        # 44.64.1.1, 44.64.2.1, ...: each in a /24 of its own.
        self.clean(self.settled(self.flood(255, 256)))

    def settled(self, session):
        self.settle(session)
        return session

    def test_descriptors_that_run_out_are_won_back_from_strangers(self):
        session = self.lab.open()
        self.proxy.tunnel(session).close()
        pid, before = self.node.process.pid, self.node.process.descriptors()
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 40, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
        self.addCleanup(resource.prlimit, pid, resource.RLIMIT_NOFILE, limits)
        flood = Flood(self.topology, 64, "silent", clients=200, seconds=6, stride=256, again=100)
        self.addCleanup(flood.kill)
        time.sleep(1.5)
        start = self.node.process.cpu_seconds()
        honest = Honest(self, session, per_second=5)
        time.sleep(3)
        used = self.node.process.cpu_seconds() - start
        figures = honest.end()
        flood.end()
        print(f"     without descriptors: CPU {used:.2f} s in 3 s; honest {figures}")
        self.assertLess(used, 2, "no busy loop")
        self.assertGreater(figures["known"]["success"], 0, figures)
