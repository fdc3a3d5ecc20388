"""The formats byte by byte. The golden files were written by apk-tools 3.0.6 (`apk mkpkg`, `apk mkndx`) from the tree and the scripts of
`support.fixed_recipe`, and by usign."""

import gzip
import hashlib
import io
import struct
import tarfile
import unittest
import zlib

from support import EPOCH, GOLDEN, PROGRAM, Scratch, fixed_recipe, listing, unpack_ipk

import adb
import apk
import ipk

ARCH = "mipsel_24kc"


def golden(name):
    return (GOLDEN / name).read_bytes()


class Apk(unittest.TestCase):
    def setUp(self):
        self.package = apk.build(fixed_recipe(), PROGRAM, ARCH, EPOCH)
        self.schema, self.blocks = adb.open_container(self.package)

    def test_the_database_is_what_apk_mkpkg_writes(self):
        self.assertEqual(self.schema, b"pckg")
        self.assertEqual(self.blocks[0], (adb.ADB, golden("mkpkg.adb")))

    def test_the_index_is_what_apk_mkndx_writes(self):
        self.assertEqual(adb.open_container(apk.index([self.package])), (b"indx", [(adb.ADB, golden("mkndx.adb"))]))

    def test_the_container_by_hand(self):
        self.assertEqual(self.package[:4], b"ADBd")
        raw = zlib.decompress(self.package[4:], wbits=-15)
        self.assertEqual(raw[:8], b"ADB.pckg")
        (head,) = struct.unpack_from("<I", raw, 8)
        self.assertEqual(head, 4 + len(golden("mkpkg.adb")))
        self.assertEqual(len(raw) % 8, 0)

    def test_data_stands_under_the_places_of_its_file(self):
        paths = adb.values(self.blocks[0][1])[apk.PKG_PATHS]
        seen = {}
        for kind, payload in self.blocks[1:]:
            self.assertEqual(kind, adb.DATA)
            at, place = struct.unpack_from("<II", payload)
            file = paths[at][apk.DIR_FILES][place]
            self.assertEqual(file[apk.FILE_HASH], hashlib.sha256(payload[8:]).digest())
            self.assertEqual(file[apk.FILE_LENGTH], len(payload) - 8)
            seen[f"{(paths[at][apk.DIR_NAME] or b'').decode()}/{file[apk.FILE_NAME].decode()}"] = payload[8:]
        entries = apk.files(fixed_recipe(), PROGRAM)
        self.assertEqual(seen, {p: e.data for p, e in entries.items() if e.data})

    def test_the_service_is_stopped_before_it_is_removed(self):
        scripts = adb.values(self.blocks[0][1])[apk.PKG_SCRIPTS]
        self.assertIn(b"default_prerm", scripts[apk.PRE_DEINSTALL])
        self.assertIn(b'export pkgname="sample"', scripts[apk.PRE_DEINSTALL])
        self.assertIn(b"add_group_and_user\ndefault_postinst", scripts[apk.POST_INSTALL])
        self.assertIn(b"export PKG_UPGRADE=1", scripts[apk.POST_UPGRADE])

    def test_what_openwrts_scripts_look_for(self):
        own = {p.rpartition("/")[2]: e.data for p, e in apk.files(fixed_recipe(), PROGRAM).items() if "lib/apk/packages/" in p}
        self.assertEqual(own["sample.rusers"], b"sample=7000:sample=7000\n")
        self.assertEqual(own["sample.conffiles"], b"/etc/config/sample\n/etc/sample/\n")
        config = hashlib.sha256((GOLDEN / "sources" / "sample.config").read_bytes()).hexdigest()
        self.assertEqual(own["sample.conffiles_static"], f"/etc/config/sample {config}\n".encode())
        self.assertIn(b"/usr/sbin/sample\n", own["sample.list"])


class Reader(unittest.TestCase):
    """What comes from elsewhere is refused, not guessed."""

    def refused(self, data, why):
        with self.assertRaisesRegex(adb.AdbError, why):
            _, blocks = adb.open_container(data)
            adb.values(blocks[0][1])

    def test_containers(self):
        good = adb.container(b"pckg", [adb.block(adb.ADB, golden("mkpkg.adb"))])
        self.refused(good[:-1], "cut off")
        self.refused(good + b"x", "something follows")
        self.refused(b"ADBd" + b"\xff" * 20, "not deflated")
        self.refused(b"PK\x03\x04", "no database")
        self.refused(b"ADB.pckg", "not a database")
        data, signature = adb.block(adb.DATA, b"x"), adb.block(adb.SIG, b"x")
        self.refused(adb.container(b"pckg", [adb.block(adb.ADB, golden("mkpkg.adb")), data, signature]), "in this order")
        self.refused(b"ADB.pckg" + adb.block(adb.ADB, b"x")[:-1] + b"\x01", "block 0 is not valid")

    def test_values(self):
        def database(root, rest=b""):
            return b"ADB.pckg" + adb.block(adb.ADB, bytes(4) + struct.pack("<I", root) + rest)

        self.refused(database(0x8 << 28 | 200), "beyond the end")
        self.refused(database(0x8 << 28 | 8, b"\x05abc"), "beyond the end")
        self.refused(database(0x7 << 28), "unknown type")
        self.refused(database(0xE << 28 | 8, struct.pack("<I", 1 << 20)), "too long")
        self.refused(database(0xE << 28 | 8, struct.pack("<II", 2, 0xE << 28 | 8)), "too deep")
        self.refused(b"ADB.pckg" + adb.block(adb.ADB, b"\x01" + bytes(7)), "version")

    def test_numbers_of_every_length(self):
        writer = adb.Writer()
        numbers = [0, 1, (1 << 28) - 1, 1 << 28, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
        blobs = [b"a" * 255, b"b" * 256, b"c" * 65535, b"d" * 65536]
        writer.root(writer.array([writer.int(n) for n in numbers] + [writer.blob(b) for b in blobs]))
        self.assertEqual(adb.values(bytes(writer.bytes)), [None, *numbers, *blobs])


class Ipk(unittest.TestCase):
    def build(self):
        return ipk.build(fixed_recipe(), PROGRAM, ARCH, EPOCH)

    def test_the_outer_archive(self):
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.build()[0]))) as outer:
            members = outer.getmembers()
            self.assertEqual([m.name for m in members], ["./debian-binary", "./data.tar.gz", "./control.tar.gz"])
            self.assertEqual(outer.extractfile(members[0]).read(), b"2.0\n")
            self.assertEqual({(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members}, {(0, 0, "", "", EPOCH)})

    def test_nothing_of_the_builder_is_in_it(self):
        # Bytes 4 to 7 of gzip are a time, and a flag says whether a file name follows.
        self.assertEqual(self.build()[0][:8], b"\x1f\x8b\x08\x00\x00\x00\x00\x00")

    def test_control(self):
        with Scratch() as scratch:
            (scratch / "p.ipk").write_bytes(self.build()[0])
            root, control = unpack_ipk(scratch / "p.ipk", scratch)
            fields = dict(line.split(": ", 1) for line in (control / "control").read_text().splitlines())
            self.assertEqual(fields["Package"], "sample")
            self.assertEqual(fields["Version"], "1.2.3_rc1-r4")
            self.assertEqual(fields["Architecture"], ARCH)
            self.assertEqual(fields["Require-User"], "sample=7000:sample=7000")
            self.assertEqual(fields["Depends"], "kmod-nft-core, ca-bundle")
            # A directory is no conffile for opkg: it would take its hash.
            self.assertEqual((control / "conffiles").read_text(), "/etc/config/sample\n")
            self.assertEqual((root / "lib/upgrade/keep.d/sample").read_text(), "/etc/sample/\n")
            modes = {name: mode[:5] for name, mode in listing(control).items()}
            self.assertEqual(
                modes,
                {"conffiles": "-0644", "control": "-0644", "postinst": "-0755", "postrm": "-0755", "prerm": "-0755"},
            )


if __name__ == "__main__":
    unittest.main()
