"""A browser as the buyer: headless Chromium through `--proxy-server=https://…`."""
import base64
import hashlib
import json
import os
import pathlib
import subprocess

from harness.netns import NODE_WAN, ORIGIN
from harness.node import PORT
from harness.stream import Tcp, Tls, any_context
from harness.world import ROOT, World

HERE = pathlib.Path(__file__).resolve().parent


class Browser(World):
    def origin_pin(self):
        stream = Tls(Tcp(self.topology.node.connect((ORIGIN, 443))), any_context(), "origin.lab.test")
        pin = stream.spki_pin()
        stream.close()
        return pin

    def test_chromium_shows_an_https_page_and_is_refused_a_blocked_one(self):
        session = self.lab.open()
        picture = ROOT / "target/browser.png"
        env = {
            "PROXY": f"https://{NODE_WAN}:{PORT}",
            "PROXY_USER": session.id,
            "PROXY_PASSWORD": session.token,
            # Both keys are pinned; nothing else of certificate checking is switched off.
            "SPKI": ",".join(p.removeprefix("sha256//") for p in (self.proxy.pin, self.origin_pin())),
            "URL": "https://origin.lab.test/",
            "BLOCKED": "https://owner-blocked.test/",
            "PICTURE": str(picture),
        }
        done = subprocess.run(
            self.topology.buyer.command("node", str(HERE / "browse.mjs")), capture_output=True, check=False, timeout=180, env={**os.environ, **env}
        )
        self.assertEqual(done.returncode, 0, done.stdout.decode() + done.stderr.decode())
        seen = json.loads(done.stdout.decode().strip().splitlines()[-1])
        self.assertEqual((seen["status"], seen["heading"]), (200, "It works"), seen)
        self.assertIn("ERR_TUNNEL_CONNECTION_FAILED", seen["blocked"])
        self.assertGreater(picture.stat().st_size, 1000)
        totals = self.settle(session)
        self.assertGreaterEqual(totals["connections"], 1)
        self.assertGreaterEqual(totals["rejected"], 1)
        self.clean(session)

    def test_chromium_takes_neither_another_proxy_key_nor_wrong_credentials(self):
        session = self.lab.open()
        stranger = base64.b64encode(hashlib.sha256(b"another key").digest()).decode()
        for name, spki, token in [
            ("another key", f"{stranger},{self.origin_pin().removeprefix('sha256//')}", session.token),
            ("wrong token", ",".join(p.removeprefix("sha256//") for p in (self.proxy.pin, self.origin_pin())), "x" * 40),
        ]:
            with self.subTest(name):
                env = {
                    "PROXY": f"https://{NODE_WAN}:{PORT}", "PROXY_USER": session.id, "PROXY_PASSWORD": token, "SPKI": spki,
                    "URL": "https://origin.lab.test/", "BLOCKED": "https://owner-blocked.test/", "PICTURE": "",
                }
                before = self.lab.get("/origin")["connections"]
                done = subprocess.run(
                    self.topology.buyer.command("node", str(HERE / "browse.mjs")), capture_output=True, check=False, timeout=180,
                    env={**os.environ, **env},
                )
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertEqual(self.lab.get("/origin")["connections"], before)
