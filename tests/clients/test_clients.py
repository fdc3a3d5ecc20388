"""Clients as buyers use them, each a program of its own in the buyer's namespace."""
import json
import os
import pathlib
import shutil
import subprocess

from harness.netns import NODE_WAN
from harness.node import PORT
from harness.world import World

HERE = pathlib.Path(__file__).resolve().parent
PLAIN = "127.0.0.1:3128"
SIZE = 5_000_000


class Clients(World):
    node_config = {"relay": {"listenPlain": PLAIN}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        hosts = pathlib.Path("/etc/netns") / cls.topology.buyer.name
        hosts.mkdir(parents=True)
        cls.addClassCleanup(shutil.rmtree, hosts)
        (hosts / "hosts").write_text(f"127.0.0.1 localhost\n{NODE_WAN} node.lab.test\n", encoding="ascii")

    def setUp(self):
        self.session = self.lab.open()

    def run_client(self, *words, **env):
        """Runs it in the buyer's namespace and under its hosts file; gives what it printed."""
        own = {
            "PROXY": f"https://node.lab.test:{PORT}",
            "PROXY_USER": self.session.id,
            "PROXY_PASSWORD": self.session.token,
            "PROXY_AUTH_URL": f"https://{self.session.id}:{self.session.token}@node.lab.test:{PORT}",
            "PROXY_PEM": str(self.proxy_pem),
            "CA": str(self.lab.ca_file),
            "URL": "https://origin.lab.test",
            "SIZE": str(SIZE),
        }
        command = ["ip", "netns", "exec", self.topology.buyer.name, *map(str, words)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, env={**os.environ, **own, **env})
        self.assertEqual(done.returncode, 0, done.stdout.decode() + done.stderr.decode())
        return done.stdout.decode()

    def fetched(self, text, connections=None):
        """The client's report, and the books after it."""
        report = json.loads(text.strip().splitlines()[-1])
        self.assertEqual((report["page"], report["bytes"], report["refused"]), (200, SIZE, 403), report)
        totals = self.settle(self.session)
        self.assertGreater(totals["bytesIngress"], SIZE)
        self.assertGreaterEqual(totals["rejected"], 1)
        if connections:
            self.assertEqual(totals["connections"], connections)
        self.clean(self.session)

    def test_curl(self):
        def curl(path):
            return self.run_client(
                "sh", "-c",
                'curl -q -sS -o /dev/null -w "%{http_code} %{http_connect} %{size_download}" --proxy "$PROXY" --proxy-cacert "$PROXY_PEM" '
                '--proxy-user "$PROXY_USER:$PROXY_PASSWORD" --cacert "$CA" "$0" || true', path,
            ).split()

        self.assertEqual(curl("https://origin.lab.test/")[:2], ["200", "200"])
        self.assertEqual(curl(f"https://origin.lab.test/bytes/{SIZE}"), ["200", "200", str(SIZE)])
        self.assertEqual(curl("https://owner-blocked.test/")[:2], ["000", "403"])
        self.settle(self.session)
        self.clean(self.session)

    def test_curl_with_http2_to_the_origin_and_a_ca_file_for_the_proxy(self):
        text = self.run_client(
            "sh", "-c",
            'curl -q -sS --http2 -o /dev/null -w "%{http_code} %{size_download}" --proxy "$PROXY" --proxy-cacert "$PROXY_PEM" '
            '--proxy-user "$PROXY_USER:$PROXY_PASSWORD" --cacert "$CA" "$URL/bytes/1000"',
        )
        self.assertEqual(text, "200 1000")

    def test_python_requests(self):
        self.fetched(self.run_client(os.environ["CLIENTS_PYTHON"], HERE / "with_requests.py"))

    def test_python_httpx(self):
        self.fetched(self.run_client(os.environ["CLIENTS_PYTHON"], HERE / "with_httpx.py"))

    def test_node_undici(self):
        self.fetched(self.run_client("node", HERE / "with_undici.mjs"))

    def test_node_https_proxy_agent(self):
        self.fetched(self.run_client("node", HERE / "with_agent.mjs"))

    def test_openssl_s_client_on_the_plain_listener(self):
        for option in ["-tls1_2", "-tls1_3"]:
            with self.subTest(option):
                command = self.topology.node.command(
                    "openssl", "s_client", "-quiet", "-verify_return_error", option, "-proxy", PLAIN, "-proxy_user", self.session.id,
                    "-proxy_pass", f"pass:{self.session.token}", "-connect", "origin.lab.test:443", "-servername", "origin.lab.test",
                    "-verify_hostname", "origin.lab.test", "-CAfile", str(self.lab.ca_file),
                )
                ask = b"GET / HTTP/1.1\r\nHost: origin.lab.test\r\nConnection: close\r\n\r\n"
                done = subprocess.run(command, input=ask, capture_output=True, check=False, timeout=20)
                self.assertIn(b"It works", done.stdout, done.stderr)

    def test_openssl_sees_the_alert_of_a_refused_hello(self):
        command = self.topology.node.command(
            "openssl", "s_client", "-proxy", PLAIN, "-proxy_user", self.session.id, "-proxy_pass", f"pass:{self.session.token}",
            "-connect", "origin.lab.test:443", "-servername", "other.test", "-CAfile", str(self.lab.ca_file),
        )
        done = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=20)
        self.assertIn(b"unrecognized name", done.stderr + done.stdout)
