"""The node in its sandbox, `strict` and as a user of its own: it does all its work, and can do nothing else."""
import pathlib
import subprocess
import sys

from harness.control import wait_for
from harness.netns import NODE_WAN
from harness.node import Node
from harness.world import NODE_BINARY, World

USER = 54321
LAYERS = {"user", "capabilities", "no-new-privs", "no-dump", "landlock", "seccomp"}
READ = "import sys\ntry: open(sys.argv[1], 'rb').read()\nexcept PermissionError: sys.exit(13)"


def lines_of(path):
    return dict(line.split(":", 1) for line in pathlib.Path(path).read_text(encoding="ascii", errors="replace").splitlines() if ":" in line)


class Sandbox(World):
    node_user = USER
    node_config = {"security": {"sandboxMode": "strict"}}

    def other(self, name, user=None, **changes):
        """Another node on other files and another port, without a coordinator."""
        node = Node(self.topology.node, self.directory / name, NODE_BINARY, self.lab, **changes)
        node.config["coordinator"] = {}
        node.config["relay"] = {"listen": f"{NODE_WAN}:8444"}
        node.options, node.user = ["--api", "off"], user
        self.addCleanup(lambda: node.process and node.process.stop())
        return node

    def fails(self, node):
        """Its exit status and what it says."""
        node.start(wait=False)
        return node.process.wait(10), node.log()

    def carries(self):
        session = self.lab.open()
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)
        self.settle(session)
        self.clean(session)

    # ---- it works

    def test_it_carries_reloads_takes_a_config_drains_and_starts_again(self):
        found = self.node.status()["sandbox"]
        self.assertEqual(found["mode"], "strict")
        missing = {m["layer"] for m in found["missing"]}
        self.assertEqual(set(found["layers"]) | missing, LAYERS)
        self.assertLessEqual(missing, {"landlock"})
        self.carries()
        self.node.hang_up()
        wait_for("the reload", lambda: "configuration read again" in self.node.log(), 5)
        self.node.change(network={"blocklistDomains": ["owner-blocked.test", "more.test"]})
        self.assertIn("more.test", self.node.config_file.read_text(encoding="utf-8"))
        self.carries()
        for action in ["pause", "start"]:
            self.node.control(action)
        self.node.wait_state("idle", "active")
        self.assertTrue(self.node.lines())
        self.node.stop()
        self.assertEqual(self.node.process.wait(1), 0, self.node.log()[-1000:])
        self.node.start()
        self.node.wait_state("idle", "active")
        self.carries()

    def test_the_systems_resolver_and_its_threads_pass_the_filter(self):
        session = self.lab.open()
        self.addCleanup(self.node.change, security={"dnsOverHttps": True})
        self.node.change(security={"dnsOverHttps": False})
        # Nobody answers in this namespace; getaddrinfo opens and reads what it likes, and the node lives on.
        for host in ["target.test", "localhost.test"]:
            self.assertGreaterEqual(self.proxy.connect(f"{host}:443", session).status, 400)
        self.assertTrue(self.node.process.alive(), self.node.log()[-1000:])
        self.node.change(security={"dnsOverHttps": True})
        self.assertEqual(self.proxy.get(session, "origin.lab.test", "/")[0], 200)
        self.settle(session)

    # ---- and it can do nothing else

    def test_every_thread_is_covered(self):
        self.carries()
        tasks = list(pathlib.Path(f"/proc/{self.node.process.pid}/task").iterdir())
        self.assertGreaterEqual(len(tasks), 2, "async-io has a thread")
        for task in tasks:
            status = {name: value.split() for name, value in lines_of(task / "status").items()}
            self.assertEqual(status["Seccomp"], ["2"], task)
            self.assertEqual(status["NoNewPrivs"], ["1"], task)
            for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]:
                self.assertEqual(int(status[name][0], 16), 0, (task, name))
            self.assertEqual((status["Uid"], status["Gid"]), ([str(USER)] * 4, [str(USER)] * 4))
            self.assertEqual(status["Groups"], [])

    def test_nothing_of_its_memory_reaches_a_disk_or_its_users_other_programs(self):
        pid = self.node.process.pid
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        self.assertEqual(core.split()[4:6], ["0", "0"])
        self.assertEqual(self.as_user(USER, f"/proc/{pid}/mem"), 13)
        self.assertEqual(self.as_user(USER, f"/proc/{pid}/environ"), 13)

    def test_its_keys_are_its_own(self):
        key = pathlib.Path(self.node.config["node"]["idPath"])
        for path in [key, self.node.state_dir / "listener.key", self.node.run_dir / "api.token"]:
            found = path.stat()
            self.assertEqual((found.st_uid, found.st_mode & 0o777), (USER, 0o600), path)
            self.assertEqual(self.as_user(USER + 1, path), 13, path)
            self.assertEqual(self.as_user(USER, path), 0, path)

    def as_user(self, uid, path):
        """0 if that user can read the file, 13 if permission is denied."""
        words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", sys.executable, "-c", READ, str(path)]
        return subprocess.run(words, check=False).returncode

    # ---- and it says what is wrong

    def test_strict_does_not_run_as_root(self):
        status, text = self.fails(self.other("root", security={"sandboxMode": "strict"}))
        self.assertEqual(status, 78)
        self.assertIn("strict does not run without the layer user: the node runs as root; start it with --user", text)

    def test_standard_as_root_says_what_is_missing(self):
        node = self.other("standard").start()
        found = node.status()["sandbox"]
        self.assertEqual(found["mode"], "standard")
        self.assertIn("user", [m["layer"] for m in found["missing"]])
        self.assertIn("seccomp", found["layers"])
        self.assertIn("sandbox without user: the node runs as root", node.log())

    def test_off_is_off_and_says_so(self):
        node = self.other("off", security={"sandboxMode": "off"}).start()
        self.assertEqual(node.status()["sandbox"], {"mode": "off", "layers": [], "missing": []})
        self.assertEqual(lines_of(f"/proc/{node.process.pid}/status")["Seccomp"].strip(), "0")
        self.assertIn("sandboxMode is off", node.log())

    def test_a_directory_of_anothers_is_not_taken(self):
        node = self.other("foreign", USER)
        node.state_dir.mkdir()
        (node.state_dir / "photos").write_text("theirs", encoding="ascii")
        status, text = self.fails(node)
        self.assertEqual(status, 78)
        self.assertIn(f"chown -R {USER}:{USER} {node.state_dir}", text)
        self.assertEqual(node.state_dir.stat().st_uid, 0)

    def test_a_user_that_is_missing_is_named(self):
        node = self.other("missing")
        node.options += ["--user", "no-such-user"]
        status, text = self.fails(node)
        self.assertEqual(status, 78)
        self.assertIn("--user no-such-user: /etc/passwd has no such user; add one", text)
