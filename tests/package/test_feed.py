"""scripts/package as a whole: what it writes, twice the same, signed so that others can check it; and the Makefile it reads."""

import base64
import gzip
import hashlib
import os
import pathlib
import re
import subprocess
import unittest

from support import EPOCH, GOLDEN, ROOT, VERSION, Scratch, listing, package, run, unpack_ipk

import adb
import apk
import keys
import recipe as recipes
from arches import ARCHES

MAKEFILE = ROOT / "openwrt" / "Makefile"
# What a router gets, with the modes and owners that it must have.
TREE = {
    "etc": "d0755 0:0",
    "etc/config": "d0755 0:0",
    "etc/config/echomesh": "-0600 0:0",
    "etc/init.d": "d0755 0:0",
    "etc/init.d/echomesh": "-0755 0:0",
    "etc/uci-defaults": "d0755 0:0",
    "etc/uci-defaults/80-echomesh": "-0755 0:0",
    "lib": "d0755 0:0",
    "lib/upgrade": "d0755 0:0",
    "lib/upgrade/keep.d": "d0755 0:0",
    "lib/upgrade/keep.d/echomesh": "-0644 0:0",
    "usr": "d0755 0:0",
    "usr/sbin": "d0755 0:0",
    "usr/sbin/echomesh": "-0755 0:0",
    "usr/share": "d0755 0:0",
    "usr/share/acl.d": "d0755 0:0",
    "usr/share/acl.d/echomesh.json": "-0644 0:0",
}
OWN = ["conffiles", "conffiles_static", "list", "rusers"]
BUILD_SYSTEM = """
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
RUST_ARCH_DEPENDS:=@(mips||mipsel)
define BuildPackage
all:
	$(call Package/$(1)/install,$(DESTDIR))
$(eval $(Package/$(1)))
$(foreach at,PKG_VERSION PKG_RELEASE DEPENDS USERID CARGO_RUSTFLAGS,$(info $(at)=$($(at))))
endef
"""


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@unittest.skipUnless(os.geteuid() == 0, "owners can be given by root alone")
class Tree(unittest.TestCase):
    def test_the_ipk_unpacks_to_the_right_tree(self):
        with Scratch() as scratch:
            out = package(scratch / "out")
            root, _ = unpack_ipk(out / f"echomesh_{VERSION}_x86_64.ipk", scratch)
            self.assertEqual(listing(root), TREE)

    def test_the_apk_holds_the_same_tree(self):
        with Scratch() as scratch:
            out = package(scratch / "out")
            _, blocks = adb.open_container((out / f"echomesh-{VERSION}.apk").read_bytes())
            found = {}
            for row in adb.values(blocks[0][1])[apk.PKG_PATHS][1:]:
                name, acl, held = (row + [None] * 3)[1:4]
                path = (name or b"").decode()
                found[path] = "d" + owned(acl)
                for file in (held or [None])[1:]:
                    found[f"{path}/{file[apk.FILE_NAME].decode()}"] = "-" + owned(file[apk.FILE_ACL])
        own = {f"lib/apk/packages/echomesh.{what}": "-0644 0:0" for what in OWN}
        above = {"": "d0755 0:0", "lib/apk": "d0755 0:0", "lib/apk/packages": "d0755 0:0"}
        self.assertEqual(found, {**TREE, **own, **above})

    def test_make_installs_the_same_tree(self):
        """The Makefile by GNU make with the feed's macros: what scripts/package reads there is what make would do."""
        run("make", "--version")
        with Scratch() as scratch:
            for name in ("rules.mk", "package.mk", "a/b/Makefile", "lang/rust/rust-package.mk", "bin/echomesh", "root/x"):
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                (scratch / name).write_text("")
            (scratch / "rules.mk").write_text(BUILD_SYSTEM)
            (scratch / "a/b").joinpath("files").symlink_to(ROOT / "openwrt" / "files")
            (scratch / "a/b/Makefile").write_text(MAKEFILE.read_text())
            (scratch / "root/x").unlink()
            words = [f"TOPDIR={scratch}", f"INCLUDE_DIR={scratch}", f"PKG_INSTALL_DIR={scratch}", f"DESTDIR={scratch}/root"]
            said = run("make", "-s", "-C", scratch / "a/b", *words)
            wide = run("make", "-s", "-C", scratch / "a/b", *words, "CONFIG_ARCH_64BIT=y", f"DESTDIR={scratch}/wide")
            found = listing(scratch / "root")
        kept = {path: mode for path, mode in TREE.items() if not path.startswith("lib")}
        self.assertEqual(found, kept)
        recipe = recipes.read(MAKEFILE)
        self.assertIn(f"PKG_VERSION={recipe.version}\nPKG_RELEASE={recipe.release}\n", said)
        self.assertIn(f"USERID={recipe.users}\n", said)
        # Timers of 32-bit routers depend on it.
        self.assertIn("CARGO_RUSTFLAGS=--cfg=libc_unstable_musl_v1_2\n", said)
        self.assertIn("CARGO_RUSTFLAGS=\n", wide)
        self.assertEqual([w[1:] for w in re.search("DEPENDS=(.*)", said)[1].split() if w[0] == "+"], recipe.depends)


def owned(acl):
    users = {b"root": 0}
    return f"{acl[apk.ACL_MODE]:04o} {users[acl[apk.ACL_USER]]}:{users[acl[apk.ACL_GROUP]]}"


class Same(unittest.TestCase):
    def test_two_runs_give_the_same_bytes(self):
        with Scratch() as scratch:
            keys.generate(scratch / "keys")
            first = package(scratch / "one", "--keys", scratch / "keys")
            elsewhere = {"TZ": "Asia/Manila", "LC_ALL": "C", "HOME": str(scratch), "PYTHONHASHSEED": "7"}
            second = package(scratch / "two", "--keys", scratch / "keys", env=elsewhere, cwd="/")
            self.assertEqual(files_of(first), files_of(second))
            self.assertEqual(len(files_of(first)), 6)

    def test_the_time_is_the_commits(self):
        commit = run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
        with Scratch() as scratch:
            control = unpack_ipk(package(scratch / "o", env={"SOURCE_DATE_EPOCH": ""}) / f"echomesh_{VERSION}_x86_64.ipk", scratch)[1]
            self.assertIn(f"SourceDateEpoch: {commit}\n", (control / "control").read_text())

    def test_a_new_version_leaves_no_old_package(self):
        with Scratch() as scratch:
            package(scratch)
            out = package(scratch, "--version", "9.0.1")
            names = sorted(p.name for p in out.iterdir())
            self.assertEqual(
                names, ["Packages", "Packages.gz", "echomesh-9.0.1-r1.apk", "echomesh_9.0.1-r1_x86_64.ipk", "packages.adb"]
            )


class Signed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = Scratch()
        cls.path = cls.scratch.__enter__()
        keys.generate(cls.path / "keys")
        cls.out = package(cls.path / "out", "--keys", cls.path / "keys")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.__exit__()

    def signify(self, data):
        (self.path / "message").write_bytes(data)
        words = ["signify-openbsd", "-V", "-q", "-p", self.path / "keys/usign.pub", "-x", self.out / "Packages.sig"]
        return subprocess.run([str(w) for w in [*words, "-m", self.path / "message"]], capture_output=True).returncode == 0

    def test_signify_accepts_the_index_and_no_other(self):
        packages = (self.out / "Packages").read_bytes()
        self.assertTrue(self.signify(packages))
        self.assertFalse(self.signify(packages.replace(b"r1", b"r2", 1)))

    def openssl(self, schema, database, signature, public):
        head, raw = signature[:18], signature[18:]
        (self.path / "sig").write_bytes(raw)
        signed = schema + head + hashlib.sha512(database).digest()
        (self.path / "signed").write_bytes(signed)
        words = ["openssl", "dgst", "-sha512", "-verify", public, "-signature", self.path / "sig", self.path / "signed"]
        return subprocess.run([str(w) for w in words], capture_output=True).returncode == 0

    def test_openssl_accepts_package_and_index(self):
        public = self.path / "keys/apk.pub.pem"
        for name in (f"echomesh-{VERSION}.apk", "packages.adb"):
            schema, blocks = adb.open_container((self.out / name).read_bytes())
            self.assertEqual([kind for kind, _ in blocks[:2]], [adb.ADB, adb.SIG])
            database, signature = blocks[0][1], blocks[1][1]
            self.assertTrue(self.openssl(schema, database, signature, public), name)
            self.assertFalse(self.openssl(schema, database[:-1] + b"\x01", signature, public), name)
            # A package's signature is none of an index.
            other = adb.INDEX if schema == adb.PACKAGE else adb.PACKAGE
            self.assertFalse(self.openssl(other, database, signature, public), name)

    def test_apks_own_signature_covers_the_same_bytes(self):
        database, signature = ((GOLDEN / f"mkpkg.{end}").read_bytes() for end in ("adb", "sig"))
        self.assertTrue(self.openssl(adb.PACKAGE, database, signature, GOLDEN / "mkpkg.pub.pem"))
        from cryptography.hazmat.primitives import serialization

        point = serialization.load_pem_public_key((GOLDEN / "mkpkg.pub.pem").read_bytes()).public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.assertEqual(signature[:18], b"\x00\x04" + hashlib.sha512(point).digest()[:16])

    def test_usigns_own_signature_is_the_same(self):
        text = (GOLDEN / "usign.key").read_text()
        mark, seed = keys.usign_secret(text)
        signature = keys.Ed25519PrivateKey.from_private_bytes(seed).sign((GOLDEN / "message").read_bytes())
        made = keys.armour(f"signed by key {mark.hex()}", b"Ed" + mark + signature)
        self.assertEqual(made, (GOLDEN / "usign.sig").read_text())

    def test_keys_are_secret_and_never_overwritten(self):
        modes = {p.name: p.stat().st_mode & 0o777 for p in (self.path / "keys").iterdir()}
        self.assertEqual(modes, {"usign.key": 0o600, "apk.pem": 0o600, "usign.pub": 0o644, "apk.pub.pem": 0o644})
        with self.assertRaises(FileExistsError):
            keys.generate(self.path / "keys")

    def test_the_command_makes_keys_and_says_what_is_wrong_with_them(self):
        command = [str(ROOT / "scripts/package"), "keygen", str(self.path / "made")]
        said = run(*command)
        self.assertRegex(said, "usign.key, usign.pub, apk.pem, apk.pub.pem; opkg's name of the key: [0-9a-f]{16}")
        again = subprocess.run(command, capture_output=True, text=True)
        self.assertNotEqual(again.returncode, 0)
        self.assertRegex(again.stderr, "File exists")
        (self.path / "made/usign.key").write_text("hello")
        done = package(self.path / "none", "--keys", self.path / "made", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "^not a usign key")

    def test_without_keys_nothing_is_signed(self):
        with Scratch() as scratch:
            out = package(scratch)
            self.assertFalse((out / "Packages.sig").exists())
            for name in (f"echomesh-{VERSION}.apk", "packages.adb"):
                self.assertNotIn(adb.SIG, [kind for kind, _ in adb.open_container((out / name).read_bytes())[1]])

    def test_what_is_no_key_is_refused(self):
        good = (GOLDEN / "usign.key").read_text()
        comment, raw = good.splitlines()[0], bytearray(base64.b64decode(good.splitlines()[1]))

        def changed(at):
            other = bytearray(raw)
            other[at] ^= 1
            return f"{comment}\n{base64.b64encode(other).decode()}\n"

        for text, why in [
            ((GOLDEN / "usign.pub").read_text(), "not a usign secret key"),
            ("hello", "not a usign key"),
            (good.replace("untrusted comment: ", "", 1), "not a usign secret key"),
            (changed(50), "damaged"),
            (changed(7), "passphrase"),
            (changed(0), "not a usign secret key"),
        ]:
            with self.assertRaisesRegex(keys.KeyFormatError, why):
                keys.usign_secret(text)


class Index(unittest.TestCase):
    def test_the_index_finds_the_package(self):
        with Scratch() as scratch:
            out = package(scratch)
            packages = (out / "Packages").read_bytes()
            self.assertEqual(gzip.decompress((out / "Packages.gz").read_bytes()), packages)
            self.assertTrue(packages.endswith(b"\n\n"))
            fields = dict(line.split(": ", 1) for line in packages.decode().splitlines() if line)
            ipk = (out / fields["Filename"]).read_bytes()
            self.assertEqual(int(fields["Size"]), len(ipk))
            self.assertEqual(fields["SHA256sum"], hashlib.sha256(ipk).hexdigest())
            self.assertNotIn("Maintainer", fields)

    def test_the_targets_are_those_that_are_built_for(self):
        script = f'. "{ROOT}/cross/targets.sh" && printf "%s\\n" "${{targets[@]}}"'
        self.assertEqual(run("bash", "-c", script).split(), list(ARCHES))

    def test_every_architecture_of_a_target_gets_its_own(self):
        self.assertEqual(len({a for row in ARCHES.values() for a in row}), sum(len(row) for row in ARCHES.values()))
        with Scratch() as scratch:
            (scratch / "p").write_bytes(b"x")
            target = "mipsel-unknown-linux-musl"
            said = run(
                ROOT / "scripts/package", target, "--binary", scratch / "p", "--out", scratch,
                env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)},
            )
            self.assertEqual(said.split(), [str(scratch / arch) for arch in ARCHES[target]])
            for arch in ARCHES[target]:
                self.assertIn(f"Architecture: {arch}\n", (scratch / arch / "Packages").read_text())


class Refused(unittest.TestCase):
    def refused(self, why, *words):
        with Scratch() as scratch:
            done = package(scratch, *words, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stderr, why)

    def test_versions_that_apk_would_refuse(self):
        self.refused("--version v1", "--version", "v1")
        self.refused("--version 1.0-r2", "--version", "1.0-r2")

    def test_an_architecture_of_another_target(self):
        self.refused("--arch mips_24kc: x86_64-unknown-linux-musl has x86_64", "--arch", "mips_24kc")

    def test_lines_of_the_makefile_that_are_not_understood(self):
        text = MAKEFILE.read_text()
        install = "\t$(INSTALL_DIR) $(1)/usr/sbin\n"
        for replaced, why in [
            (text.replace(install, install + "\tcp -a ./files/* $(1)/\n"), "cp -a .* is not understood"),
            (text.replace(install, install + "\t$(INSTALL_BIN) ./files/none $(1)/none\n"), "./files/none does not exist"),
            (text.replace("+ca-bundle", "+ca-bundle:x"), r"DEPENDS: \+ca-bundle:x"),
            (text.replace("define Package/echomesh/postrm", "define Package/other/postrm"), "has no Package/echomesh/postrm"),
        ]:
            with Scratch() as scratch:
                (scratch / "files").symlink_to(ROOT / "openwrt" / "files")
                (scratch / "Makefile").write_text(replaced)
                with self.assertRaisesRegex(recipes.RecipeError, why):
                    recipes.read(scratch / "Makefile")

    def test_one_version_everywhere(self):
        cargo = re.search('^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
        self.assertEqual(recipes.read(MAKEFILE).version, cargo)


class Makefile(unittest.TestCase):
    def test_as_reviewers_want_it(self):
        text = MAKEFILE.read_text()
        for block in re.findall(r"^define (?:Build|Package/\w+/install)\n(.*?)^endef", text, re.M | re.S):
            self.assertTrue(all(line.startswith("\t") for line in block.splitlines()))
        conffiles = recipes.read(MAKEFILE).conffiles
        self.assertEqual(conffiles, ["/etc/config/echomesh", "/etc/echomesh/"])
        self.assertNotIn("\r", text)
        self.assertIsNone(re.search(r"\$\((call|eval) [^)]*PKG_NAME", text))
        self.assertRegex((ROOT / "openwrt/test.sh").read_text(), r"--version")
        self.assertTrue(os.access(pathlib.Path(ROOT / "openwrt/test.sh"), os.X_OK))


if __name__ == "__main__":
    unittest.main()
