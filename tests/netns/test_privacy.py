"""What the node leaves on disk and in its log: no name, no payload, no token, no buyer's address; and the end of all of it."""
import json
import subprocess

from harness.hello import client_hello
from harness.netns import BUYER
from harness.world import NODE_BINARY, World

PAYLOAD = b"the-payload-of-a-buyer-0123456789"
NAMES = ["target.test", "owner-blocked.test", "mixed.test", "nobody.test"]


class Privacy(World):
    def traffic(self, session):
        """A tunnel that carries, one with a wrong SNI, and requests that are refused at every stage."""
        for sni, after in [("target.test", PAYLOAD), ("other.test", b"")]:
            stream = self.proxy.hello(session, client_hello(sni=sni) + after)
            stream.read()
            stream.close()
        for name in NAMES[1:]:
            self.proxy.connect(f"{name}:443", session)
        self.settle(session)

    def files(self):
        for directory in [self.node.run_dir, self.node.state_dir, self.directory / "node" / "key"]:
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    yield path, path.read_bytes()
        yield self.node.process.log, self.node.log().encode()

    def told(self, *secrets):
        return [(str(path), s) for path, text in self.files() for s in secrets if s in text]

    def test_nothing_on_disk_or_in_the_log_tells_who_asked_for_what(self):
        session = self.lab.open()
        self.traffic(session)
        self.node.export()
        self.assertGreaterEqual(len(self.node.lines()), 5, "there was traffic to be discreet about")
        secrets = [n.encode() for n in NAMES] + [b"other.test", PAYLOAD, session.token.encode(), session.basic().split()[1].encode(), BUYER.encode()]
        self.assertEqual(self.told(*secrets), [])
        export = self.node.export()
        self.assertEqual([s for s in secrets if s.decode() in export], [])

    def test_the_buyers_address_is_there_once_the_owner_has_turned_it_on(self):
        self.node.change(privacy={"logBuyerAddress": True})
        self.addCleanup(lambda: self.node.change(privacy={"logBuyerAddress": False}))
        session = self.lab.open()
        self.traffic(session)
        lines = [l for l in self.node.lines() if l["sessionId"] == session.id]
        self.assertEqual({l.get("buyerAddress") for l in lines}, {BUYER}, lines)
        # The digest in the signed bundles is of the same bytes.
        exported = self.directory / "export.jsonl"
        exported.write_text(self.node.export(), encoding="utf-8")
        bundles = self.directory / "bundles.jsonl"
        bundles.write_text(self.node.request("GET", "/logs/export?kind=bundles")[2].decode(), encoding="utf-8")
        done = subprocess.run([NODE_BINARY, "verify", exported, bundles], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Wipe(World):
    def echomesh(self, *words):
        options = ["--config", self.node.config_file, "--run-dir", self.node.run_dir, "--state-dir", self.node.state_dir]
        command = [NODE_BINARY, *words, *options]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def test_a_wipe_leaves_nothing_and_says_so(self):
        session = self.lab.open()
        stream = self.proxy.tunnel(session)
        stream.read()
        stream.close()
        self.settle(session)
        running = self.echomesh("wipe", "--yes")
        self.assertEqual(running.returncode, 4, running.stderr)
        self.assertIn("a node is running", running.stderr)
        self.node.stop()
        places = [self.node.run_dir, self.node.state_dir, self.directory / "node" / "key"]
        before = [p for place in places for p in place.rglob("*") if p.is_file()] + [self.node.config_file]
        unsure = self.echomesh("wipe")
        self.assertEqual(unsure.returncode, 4)
        self.assertIn("--yes", unsure.stderr)
        self.assertTrue(all(p.exists() for p in before), "without --yes nothing is touched")
        done = self.echomesh("wipe", "--yes")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual([p for place in places for p in place.rglob("*") if p.is_file()], [])
        for path in before:
            self.assertIn(f"removed {path}\n", done.stdout)
        self.assertFalse(self.node.config_file.exists())
        again = self.echomesh("wipe", "--yes")
        self.assertEqual(again.returncode, 0)
        self.assertIn("There was nothing to remove.", again.stdout)
