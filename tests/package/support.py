"""What the package tests share: a fixed little package, a fake root, and runs of scripts/package."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
sys.path.insert(0, str(ROOT / "scripts" / "package.d"))

import recipe as recipes  # noqa: E402

EPOCH = 1_700_000_000
# Long enough that its length needs four bytes, and not compressible to nothing.
PROGRAM = b"#!/bin/sh\n" + b"".join(b"echo %d\n" % (n * n) for n in range(10_000))
TARGET = "x86_64-unknown-linux-musl"
VERSION = recipes.read(ROOT / "openwrt" / "Makefile").full_version


def fixed_recipe():
    """A recipe that no change of the project touches: the golden files were made from it."""
    sources = GOLDEN / "sources"
    return recipes.Recipe(
        name="sample",
        version="1.2.3_rc1",
        release="4",
        license="Apache-2.0",
        maintainer="Somebody <somebody@example.org>",
        section="net",
        url="https://example.org/sample",
        depends=["kmod-nft-core", "ca-bundle"],
        users="sample=7000:sample=7000",
        description="A sample. " + "It is long enough for a length of two bytes. " * 7,
        conffiles=["/etc/config/sample", "/etc/sample/"],
        directories=["usr/sbin", "etc/config", "etc/empty"],
        files={
            "usr/sbin/sample": (None, 0o755),
            "etc/config/sample": (sources / "sample.config", 0o600),
        },
        postrm="#!/bin/sh\nexit 0\n",
    )


class Scratch:
    """A directory that goes away with the test."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="echomesh-package-"))
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def run(*words, **options):
    """A program that must succeed; its standard output."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def package(out, *words, env=None, cwd=None, check=True):
    """scripts/package for the small program; the directory with the packages."""
    program = pathlib.Path(out) / "program"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_bytes(PROGRAM)
    command = [ROOT / "scripts" / "package", TARGET, "--binary", program, "--out", out, *words]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **(env or {})}
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, env=environment, cwd=cwd)
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return pathlib.Path(out) / "x86_64" if check else done


def unpack_ipk(ipk, into):
    """As opkg does it, by tar: the data into a root, the control files beside it."""
    parts, root, control = (into / name for name in ("parts", "root", "control"))
    for directory in (parts, root, control):
        directory.mkdir()
    run("tar", "-xzf", ipk, "-C", parts)
    run("tar", "-xpzf", parts / "data.tar.gz", "-C", root)
    run("tar", "-xpzf", parts / "control.tar.gz", "-C", control)
    return root, control


def listing(root):
    """Path -> mode, type and owner of everything below a directory."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        stat = path.lstat()
        kind = "d" if path.is_dir() and not path.is_symlink() else "-"
        found[str(path.relative_to(root))] = f"{kind}{stat.st_mode & 0o7777:04o} {stat.st_uid}:{stat.st_gid}"
    return found
