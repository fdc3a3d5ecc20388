"""The main path: what passes, byte for byte, and who counts what."""
import json
import os
import subprocess
import threading

from harness.control import wait_for
from harness.hello import client_hello, record
from harness.stream import read_all
from harness.world import World


class Path(World):
    def curl(self, session, *words, trusted=None):
        address, port = self.proxy.address
        command = self.topology.buyer.command(
            "curl", "-q", "-sS", "--max-time", "60", "--proxy", f"https://node.lab.test:{port}",
            "--resolve", f"node.lab.test:{port}:{address}", "--proxy-cacert", str(trusted or self.proxy_pem),
            "--proxy-user", f"{session.id}:{session.token}", "--cacert", str(self.lab.ca_file), *words,
        )
        return subprocess.run(command, capture_output=True, check=False)

    def bundles(self, session):
        found = self.lab.session(session.id)
        return found["bytesIngress"], found["bytesEgress"]

    def test_curl_fetches_a_page_through_tls(self):
        session = self.lab.open()
        done = self.curl(session, "https://origin.lab.test/")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"It works", done.stdout)
        self.settle(session)
        self.clean(session)

    def test_curl_refuses_another_certificate_than_the_one_with_the_registered_key(self):
        session = self.lab.open()
        other = self.directory / "other.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null",
             "-out", str(other), "-subj", "/CN=echomesh", "-addext", "subjectAltName=DNS:node.lab.test"],
            check=True, capture_output=True,
        )
        done = self.curl(session, "https://origin.lab.test/", trusted=other)
        self.assertEqual((done.returncode, done.stdout), (60, b""))

    def test_origin_node_bundles_and_totals_count_the_same_bytes(self):
        session = self.lab.open()
        received, sent = self.lab.origin()
        for size in [0, 1, 100_000, 30_000_000]:
            done = self.curl(session, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", f"https://origin.lab.test/bytes/{size}")
            self.assertEqual(done.stdout.decode(), f"200 {size}", done.stderr)
        upload = os.path.join(self.directory, "upload")
        with open(upload, "wb") as f:
            f.write(os.urandom(5_000_000))
        done = self.curl(session, "-X", "POST", "-T", upload, "https://origin.lab.test/upload")
        self.assertEqual((done.stdout, done.stderr), (b'{"bytes":5000000}', b""))
        wait_for("the flows' end", lambda: self.node.sessions()[session.id]["open"] == 0)
        after = self.lab.origin()
        at_origin = (after[1] - sent, after[0] - received)
        self.assertGreater(at_origin[0], 30_100_001)
        self.assertGreater(at_origin[1], 5_000_000)
        node = self.node.sessions()[session.id]
        totals = self.settle(session)
        self.assertEqual((node["bytesIngress"], node["bytesEgress"]), at_origin)
        self.assertEqual(self.bundles(session), at_origin)
        self.assertEqual((totals["bytesIngress"], totals["bytesEgress"]), at_origin)
        self.assertEqual((totals["connections"], totals["rejected"]), (5, 0))
        lines = [x for x in self.node.lines() if x["sessionId"] == session.id]
        self.assertEqual((sum(x["ingress"] for x in lines), sum(x["egress"] for x in lines)), at_origin)
        self.clean(session)

    def test_the_exported_log_hashes_to_what_the_bundles_say(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/")
        self.proxy.connect("nowhere.invalid:443", session)
        self.settle(session)
        judged = self.lab.post("/access-log", self.node.export().encode())
        self.assertTrue(judged["ok"], judged)
        self.assertGreaterEqual(judged["covered"], 2)
        self.clean(session)

    def test_the_target_gets_the_very_bytes_of_the_hello_however_it_is_split(self):
        session = self.lab.open()
        hello = client_hello(sni="target.test", pad=1200)
        for name, pieces in {
            "bytewise": [hello[i : i + 1] for i in range(len(hello))],
            "in records of 100": [record(hello[5:], 100)],
            "with data behind": [hello + b"early" * 1000],
        }.items():
            with self.subTest(name):
                before = len(self.target.connections)
                stream = self.proxy.hello(session, b"")
                for piece in pieces:
                    stream.write(piece)
                seen = self.target.next(before)
                whole = b"".join(pieces)
                self.assertTrue(seen.wait(lambda c: len(c.got) >= len(whole)), len(seen.got))
                self.assertEqual(seen.got, whole)
                stream.close()
        self.settle(session)
        self.clean(session)

    def test_a_hello_right_behind_the_connect_is_kept(self):
        session = self.lab.open()
        before, hello = len(self.target.connections), client_hello(sni="target.test")
        reply = self.proxy.connect("target.test:443", session, after=hello)
        self.assertEqual(reply.status, 200)
        self.assertTrue(self.target.next(before).wait(lambda c: c.got == hello))
        reply.stream.close()

    def test_the_buyers_fin_is_passed_on_and_the_answer_still_comes(self):
        session = self.lab.open()
        before = len(self.target.connections)
        stream = self.proxy.tunnel(session)
        seen = self.target.next(before)
        echoed = len(stream.read())
        stream.close_write()
        self.assertEqual(seen.ended(), "fin")
        seen.send(b"late" * 100_000)
        seen.close_write()
        self.assertEqual(read_all(stream), b"late" * 100_000)
        self.assertGreater(echoed, 0)
        self.settle(session)
        self.clean(session)

    def test_the_targets_fin_is_passed_on_and_the_buyer_may_go_on(self):
        session = self.lab.open()
        before = len(self.target.connections)
        stream = self.proxy.tunnel(session)
        seen = self.target.next(before)
        size = len(client_hello(sni="target.test"))
        # Only when the answer is here is the target's thread surely done with it.
        echoed = b""
        while len(echoed) < size:
            more = stream.read()
            self.assertTrue(more)
            echoed += more
        seen.close_write()
        self.target_answer, answer = (lambda c, d: None), self.target_answer
        type(self).target_answer = staticmethod(lambda c, d: None)
        self.addCleanup(setattr, type(self), "target_answer", staticmethod(answer))
        self.assertEqual(read_all(stream), b"")
        stream.write(b"still here" * 1000)
        stream.close_write()
        self.assertTrue(seen.wait(lambda c: len(c.got) == size + 10_000))
        self.assertEqual(seen.ended(), "fin")

    def test_a_reset_of_the_target_reaches_the_buyer(self):
        session = self.lab.open()
        before = len(self.target.connections)
        stream = self.proxy.tunnel(session)
        seen = self.target.next(before)
        stream.read()
        seen.reset()
        with self.assertRaises(ConnectionResetError):
            while stream.read():
                pass

    def test_a_slow_buyer_holds_the_target_back(self):
        session = self.lab.open()
        before = len(self.target.connections)
        stream = self.proxy.tunnel(session)
        seen = self.target.next(before)
        stream.read()
        seen.sock.settimeout(None)
        done = threading.Event()
        size = 64 << 20

        def push():
            seen.send(b"x" * size)
            done.set()

        rss = self.node.process.rss_kb()
        threading.Thread(target=push, daemon=True).start()
        self.assertFalse(done.wait(1.5), "64 MiB went somewhere though nobody read them")
        self.assertLess(self.node.process.rss_kb() - rss, 4096)
        got = 0
        while got < size:
            got += len(stream.read(1 << 20))
        self.assertTrue(done.wait(10))
        stream.close()

    def test_an_ipv6_target_is_reached(self):
        from harness.netns import NODE_WAN6, TARGET6
        from harness.target import Target

        target = Target(self.topology.inet, (TARGET6, 443))
        self.addCleanup(target.close)
        session = self.lab.open()
        stream = self.proxy.tunnel(session, "target6.test")
        self.assertEqual(target.next(0).peer[0], NODE_WAN6)
        stream.close()

    def test_no_buyer_address_reaches_the_target(self):
        session = self.lab.open()
        before = len(self.target.connections)
        self.proxy.tunnel(session).close()
        self.assertEqual(self.target.next(before).peer[0], "44.2.2.2")

    def test_an_export_line_says_what_happened_and_names_nobody(self):
        session = self.lab.open()
        self.proxy.get(session, "origin.lab.test", "/")
        self.refused(self.proxy.connect("owner-blocked.test:443", session), 403, "domain-blocked")
        wait_for("the line", lambda: len([x for x in self.node.lines() if x["sessionId"] == session.id]) == 2)
        text = "".join(x for x in self.node.export().splitlines() if session.id in x)
        good, bad = [x for x in self.node.lines() if x["sessionId"] == session.id]
        self.assertEqual(set(good), {"t", "sessionId", "buyer", "hostHash", "port", "status", "ingress", "egress", "durationMs", "path"})
        self.assertEqual((good["status"], good["port"], good["path"]), (200, 443, "relay"))
        self.assertEqual((bad["status"], bad["slug"], bad["ingress"], bad["egress"]), (403, "domain-blocked", 0, 0))
        for secret in ["origin.lab.test", "owner-blocked", "44.3.3.2", "44.10.", session.token]:
            self.assertNotIn(secret, text)
