"""PUT /config: whole or not at all, kept, live. And what a release binary refuses."""
import json

from harness.netns import NODE_WAN
from harness.node import merged
from harness.process import Process
from harness.stream import RESET, ending
from harness.world import NODE_BINARY, World


class Config(World):
    def document(self):
        status, headers, body = self.node.request("GET", "/config")
        self.assertEqual(status, 200)
        return json.loads(body), headers["etag"]

    def test_a_change_is_kept_and_holds_after_a_restart(self):
        self.node.change(network={"blocklistDomains": ["owner-blocked.test", "more.test"]})
        on_disk = self.node.config_file.read_text(encoding="utf-8")
        self.assertIn("more.test", on_disk)
        self.node.stop()
        self.node.process = Process(self.node.process.child.args, self.node.directory / "node.log")
        from harness.control import wait_for

        wait_for("the node", self.node._answers, 10)
        self.assertIn("more.test", self.document()[0]["network"]["blocklistDomains"])
        self.node.wait_state("idle", "active")

    def test_an_old_etag_is_refused(self):
        document, old = self.document()
        self.node.change(network={"maxGBPerDay": 999})
        status, _, body = self.node.put_config(document, old)
        self.assertEqual(status, 412, body)
        self.assertEqual(self.document()[0]["network"]["maxGBPerDay"], 999)

    def test_a_bad_document_changes_nothing_and_names_every_fault(self):
        document, etag = self.document()
        bad = merged(document, {"network": {"maxMbps": "fast", "httpsOnly": False}, "nonsense": 1})
        status, headers, body = self.node.put_config(bad, etag)
        self.assertEqual((status, headers["content-type"]), (422, "application/problem+json"), body)
        for name in ["maxMbps", "httpsOnly", "nonsense"]:
            self.assertIn(name, body.decode())
        self.assertEqual(self.document(), (document, etag))

    def test_sessions_that_stay_legal_are_not_dropped(self):
        session = self.lab.open()
        kept, cut = self.proxy.tunnel(session), self.proxy.tunnel(session, "other.test")
        for stream in (kept, cut):
            stream.read()
        document, _ = self.document()
        blocked = document["network"]["blocklistDomains"]
        self.addCleanup(self.node.change, network={"blocklistDomains": blocked})
        self.node.change(network={"blocklistDomains": blocked + ["other.test"]})
        self.assertEqual(ending(cut), RESET)
        kept.write(b"q")
        self.assertEqual(kept.read(), b"q")
        kept.close()
        self.settle(session)
        self.clean(session)

    def test_without_the_token_nothing_is_told(self):
        for method, path in [("GET", "/status"), ("GET", "/config"), ("PUT", "/config"), ("POST", "/control"), ("GET", "/logs/export")]:
            self.assertEqual(self.node.request(method, path, {} if method != "GET" else None, authorised=False)[0], 401)

    def refused(self, **changes):
        path = self.directory / "bad.json"
        path.write_text(json.dumps(merged(self.node.config, changes)), encoding="utf-8")
        words = [NODE_BINARY, "run", "--config", str(path), "--run-dir", str(self.directory / "bad-run"), "--state-dir", str(self.directory / "bad-state")]
        child = Process(self.topology.node.command(*words), self.directory / f"bad-{self.id()}.log")
        self.addCleanup(child.kill)
        self.assertEqual(child.wait(10), 78, child.text())
        return child.text()

    def test_a_release_binary_refuses_the_lab_section(self):
        said = self.refused(lab={"allowAddresses": ["127.0.0.1"], "ports": [8443]})
        self.assertIn("lab", said)

    def test_a_plain_listener_off_loopback_is_refused(self):
        self.assertIn("listenPlain", self.refused(relay={"listenPlain": f"{NODE_WAN}:3128"}))

    def test_plain_http_egress_cannot_be_switched_on(self):
        self.assertIn("httpsOnly", self.refused(network={"httpsOnly": False}))

    def test_an_unconfigured_node_carries_nothing_and_calls_nobody(self):
        from harness.node import Node

        node = Node(self.topology.node, self.directory / "bare", NODE_BINARY, self.lab, coordinator={"url": None, "publicKey": None, "caFile": None})
        node.config["coordinator"] = {}
        node.config["relay"]["listen"] = f"{NODE_WAN}:9443"
        node.options = ["--api", "off"]
        before = [n["nodeId"] for n in self.lab.get("/nodes")]
        status = node.start().status()
        self.addCleanup(node.stop)
        self.assertEqual(status["state"], "unconfigured")
        self.assertEqual([n["nodeId"] for n in self.lab.get("/nodes")], before)
