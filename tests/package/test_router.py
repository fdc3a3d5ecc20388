"""A router's life with the package: installed off, its settings kept, stopped before it goes, its keys left; and what procd is told."""

import os
import subprocess
import unittest

from router import Router
from support import ROOT, VERSION, Scratch, package

import apk

FIREWALL = {
    "firewall.echomesh": "rule",
    "firewall.echomesh.name": "Allow-EchoMesh",
    "firewall.echomesh.src": "wan",
    "firewall.echomesh.proto": "tcp",
    "firewall.echomesh.dest_port": "8443",
    "firewall.echomesh.target": "ACCEPT",
    "firewall.echomesh.enabled": "0",
}
USER = "user echomesh=7878:echomesh=7878"
VALIDATE = "validate echomesh echomesh main enabled:bool:0"
GONE = ["nft delete table inet echomesh", "commit firewall"]


def instance(role, pause_s):
    """What procd is told of one of the two."""
    return [
        f"open_instance {role}",
        f"set_param command /usr/sbin/echomesh {role} --uci --user echomesh",
        "set_param file /usr/sbin/echomesh",
        "set_param limits nofile=8192 8192 core=0 0",
        f"set_param respawn 3600 {pause_s} 0",
        "set_param stdout 1",
        "set_param stderr 1",
        "close_instance",
    ]


OFF = ["start 1", VALIDATE, "set"]
ON = ["start 1", VALIDATE, *instance("guard", 2), *instance("run", 10), "set"]


@unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
class Life(unittest.TestCase):
    def setUp(self):
        scratch = Scratch()
        self.scratch = scratch.__enter__()
        self.addCleanup(scratch.__exit__)
        self.router = Router(self.scratch / "router")
        self.key = self.router.root / "etc/echomesh/node.key"
        self.config = self.router.root / "etc/config/echomesh"

    def packages(self, version=None):
        words = ["--version", version] if version else []
        out = package(self.scratch / f"out-{version}", *words)
        full = f"{version}-r1" if version else VERSION
        return out / f"echomesh_{full}_x86_64.ipk", out / f"echomesh-{full}.apk"

    def with_key(self):
        self.key.parent.mkdir(mode=0o700, exist_ok=True)
        self.key.write_text("secret")

    def test_opkg_installs_it_off_with_a_closed_port(self):
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.assertEqual(self.router.calls(), [USER, "commit firewall", "enable S95 K10", *OFF])
        self.assertEqual(self.router.uci(), FIREWALL)
        self.assertFalse((self.router.root / "etc/uci-defaults/80-echomesh").exists())
        self.assertFalse((self.router.root / "etc/echomesh").exists(), "the package brings no key and no place for one")

    def test_opkg_upgrades_and_what_the_owner_set_stays(self):
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.with_key()
        self.config.write_text("config echomesh 'main'\n\toption enabled '1'\n")
        self.router.run("/sbin/uci", "set", "echomesh.main.enabled=1")
        self.router.run("/sbin/uci", "set", "firewall.echomesh.enabled=1")
        self.router.calls()
        self.router.opkg(self.packages("9.0.0")[0], self.scratch / "b")
        self.assertEqual(self.router.calls(), ["stop", USER, *ON])
        self.assertIn("option enabled '1'", self.config.read_text())
        self.assertIn("option enabled '0'", self.config.with_name("echomesh-opkg").read_text())
        self.assertEqual(self.router.uci()["firewall.echomesh.enabled"], "1")
        self.assertEqual(self.key.read_text(), "secret")

    def test_opkg_takes_a_new_default_where_nothing_was_changed(self):
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.router.opkg(self.packages("9.0.0")[0], self.scratch / "b")
        self.assertFalse(self.config.with_name("echomesh-opkg").exists())

    def test_opkg_removal_stops_the_service_and_leaves_the_keys(self):
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.with_key()
        self.router.calls()
        self.router.opkg_remove()
        self.assertEqual(self.router.calls(), ["disable", "stop", *GONE])
        self.assertEqual(self.router.uci(), {})
        self.assertEqual(self.key.read_text(), "secret")
        self.assertFalse((self.router.root / "usr/sbin/echomesh").exists())
        self.assertFalse((self.router.root / "etc/init.d/echomesh").exists())

    def test_removal_without_a_firewall_ends_well(self):
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.router.put("uci", "")
        self.router.put("usr/sbin/nft", "#!/bin/sh\nexit 1\n")
        self.router.opkg_remove()

    def test_apk_installs_upgrades_and_removes(self):
        database = self.router.apk(self.packages()[1])
        self.assertEqual(self.router.calls(), [USER, "commit firewall", "enable S95 K10", *OFF])
        self.config.write_text("config echomesh 'main'\n\toption enabled '1'\n")
        self.with_key()
        self.router.apk(self.packages("9.0.0")[1], upgrade=True)
        # Neither enabled again nor stopped: procd sees that the file of its instances is another.
        self.assertEqual(self.router.calls(), [USER, *OFF])
        self.assertIn("'1'", self.config.read_text())
        beside = sorted(p.name for p in (self.router.root / "etc").rglob("*.apk-new"))
        self.assertEqual(beside, ["echomesh.apk-new"])
        self.router.apk_script(database, apk.PRE_DEINSTALL)
        self.assertEqual(self.router.calls(), ["disable", "stop"])
        self.router.apk_script(database, apk.POST_DEINSTALL)
        self.assertEqual(self.router.calls(), GONE)
        self.assertEqual(self.key.read_text(), "secret")

    def test_an_image_that_is_being_built_is_left_alone(self):
        """There IPKG_INSTROOT is the image's root, and the machine around it is the builder's."""
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.router.calls()
        self.router.run("/usr/lib/opkg/info/echomesh.postrm", "remove", IPKG_INSTROOT="/image")
        self.router.run("/usr/lib/opkg/info/echomesh.postinst", "configure", IPKG_NO_SCRIPT="1")
        self.assertEqual(self.router.calls(), [])

    def test_the_rule_is_for_the_port_that_is_listened_on(self):
        for listen, port in (("192.0.2.1:9000", "9000"), ("[::]:9443", "9443")):
            with self.subTest(listen):
                router = Router(self.scratch / f"router-{port}")
                router.run("/sbin/uci", "set", f"echomesh.relay.listen={listen}")
                router.opkg(self.packages()[0], self.scratch / port)
                self.assertEqual(router.uci()["firewall.echomesh.dest_port"], port)

    def test_a_rule_of_the_owner_is_never_touched(self):
        self.router.run("/sbin/uci", "set", "firewall.echomesh=rule")
        self.router.run("/sbin/uci", "set", "firewall.echomesh.dest_port=1")
        self.router.opkg(self.packages()[0], self.scratch / "a")
        self.assertEqual(self.router.uci(), {"firewall.echomesh": "rule", "firewall.echomesh.dest_port": "1"})


@unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
class Init(unittest.TestCase):
    def setUp(self):
        scratch = Scratch()
        self.router = Router(scratch.__enter__() / "router")
        self.addCleanup(scratch.__exit__)
        self.router.put("etc/init.d/echomesh", (ROOT / "openwrt/files/echomesh.init").read_text())

    def init(self, action, enabled=None, **options):
        if enabled is not None:
            self.router.run("/sbin/uci", "set", f"echomesh.main.enabled={enabled}")
        self.router.run("/etc/init.d/echomesh", action, **options)
        return self.router.calls()

    def test_off_unless_the_owner_switched_it_on(self):
        self.assertEqual(self.init("start"), OFF)
        self.assertEqual(self.init("start", "0"), OFF)

    def test_on_there_are_two_instances(self):
        self.assertEqual(self.init("start", "1"), ON)

    def test_a_wrong_value_is_named_and_starts_nothing(self):
        said = self.init("start", "maybe", check=False)
        self.assertEqual(said[:2], OFF[:2])
        self.assertRegex(said[2], "logger -t echomesh -p daemon.err /etc/config/echomesh: option enabled: write 0 or 1")
        self.assertNotIn("open_instance", " ".join(said))

    def test_a_reload_reaches_what_runs(self):
        self.router.put("running/echomesh.run", "")
        self.assertEqual(self.init("reload", "1"), [*ON, "send_signal echomesh * HUP"])

    def test_a_reload_starts_what_was_just_switched_on_and_sends_it_no_signal(self):
        self.assertEqual(self.init("reload", "1"), ON)

    def test_a_reload_stops_what_was_switched_off(self):
        self.router.put("running/echomesh.run", "")
        self.assertEqual(self.init("reload", "0")[:3], OFF)

    def test_what_brings_a_reload(self):
        self.assertEqual(
            self.init("triggers"),
            [
                "add_reload_trigger echomesh system",
                "add_reload_interface_trigger wan",
                "validation",
                "validate echomesh echomesh  enabled:bool:0",
            ],
        )

    def test_it_stays_small(self):
        lines = (ROOT / "openwrt/files/echomesh.init").read_text().splitlines()
        self.assertEqual(lines[0], "#!/bin/sh /etc/rc.common")
        self.assertLess(len(lines), 80)


@unittest.skipUnless("ECHOMESH" in os.environ, "no binary was built")
class FeedTest(unittest.TestCase):
    """openwrt/test.sh as the feed's CI runs it: with the name and the version of a package that is installed."""

    def status(self, *words):
        with Scratch() as scratch:
            (scratch / "echomesh").symlink_to(os.environ["ECHOMESH"])
            env = {"PATH": f"{scratch}:/usr/bin:/bin"}
            done = subprocess.run(["sh", str(ROOT / "openwrt/test.sh"), *words], env=env, capture_output=True, text=True)
            return done.returncode, done.stdout

    def test_the_installed_version_is_told(self):
        version = VERSION.rpartition("-r")[0]
        self.assertEqual(self.status("echomesh", version), (0, f"echomesh {version}\n"))
        self.assertEqual(self.status("echomesh", "9.9.9")[0], 1)
        self.assertEqual(self.status("another", "9.9.9"), (0, ""))


@unittest.skipUnless(os.geteuid() == 0, "to refuse to be root, one has to be")
@unittest.skipUnless("ECHOMESH" in os.environ, "no binary was built")
class NoUser(unittest.TestCase):
    """procd drops an unknown `user` silently and starts the program as root; the program refuses by itself."""

    def refused(self, *words):
        with Scratch() as scratch:
            command = [os.environ["ECHOMESH"], *words, "--run-dir", str(scratch / "run")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=scratch)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("--user nosuch: /etc/passwd has no such user", done.stderr)
            self.assertFalse((scratch / "run").exists(), "it left something behind as root")

    def test_both_roles(self):
        for role in ("run", "guard"):
            with self.subTest(role):
                self.refused(role, "--uci", "--user", "nosuch")


if __name__ == "__main__":
    unittest.main()
