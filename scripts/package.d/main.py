"""Makes the packages of one target, and the feed that holds them. Called by scripts/package."""

import argparse
import gzip
import hashlib
import pathlib
import re
import sys

import apk
import ipk
import recipe as recipes
from arches import ARCHES

ROOT = pathlib.Path(__file__).resolve().parents[2]
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*(_(alpha|beta|pre|rc)[0-9]*)?")
# What the index of a feed leaves out (package/Makefile of OpenWrt).
NOT_INDEXED = ("Maintainer", "Source", "SourceName", "Require-User", "SourceDateEpoch")


def main(words):
    options = arguments(words)
    if options.keygen:
        import keys

        names, mark = keys.generate(options.keygen)
        print(f"{options.keygen}: {', '.join(names)}; opkg's name of the key: {mark}")
        return 0
    recipe = recipes.read(ROOT / "openwrt" / "Makefile")
    if options.version:
        recipe.version = options.version
    arches = [options.arch] if options.arch else ARCHES[options.target]
    program = options.binary.read_bytes()
    for arch in arches:
        directory = options.out / arch
        feed(recipe, program, arch, options, directory)
        print(directory)
    return 0


def arguments(words):
    parser = argparse.ArgumentParser(prog="scripts/package")
    parser.add_argument("--target", choices=ARCHES, default="x86_64-unknown-linux-musl")
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--version")
    parser.add_argument("--arch", help="this one of OpenWrt's architectures alone")
    parser.add_argument("--keys", type=pathlib.Path, help="directory with the feed's keys; without it nothing is signed")
    parser.add_argument("--keygen", type=pathlib.Path, help="makes keys in this directory, and nothing else")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target" / "packages")
    options = parser.parse_args(words)
    if options.version and not VERSION.fullmatch(options.version):
        parser.error(f"--version {options.version}: write numbers with dots, such as 1.2.3 or 1.2.3_rc1")
    if options.arch and options.arch not in ARCHES[options.target]:
        parser.error(f"--arch {options.arch}: {options.target} has {', '.join(ARCHES[options.target])}")
    return options


def feed(recipe, program, arch, options, directory):
    """Writes both packages, both indexes and, with keys, their signatures."""
    signer = None
    if options.keys:
        import keys

        signer = keys.Signer(options.keys)
    sign = signer.database if signer else None
    directory.mkdir(parents=True, exist_ok=True)
    old, control = ipk.build(recipe, program, arch, options.epoch)
    new = apk.build(recipe, program, arch, options.epoch, sign)
    ipk_name = f"{recipe.name}_{recipe.full_version}_{arch}.ipk"
    packages = index(control, ipk_name, old)
    parts = {
        ipk_name: old,
        f"{recipe.name}-{recipe.full_version}.apk": new,
        "Packages": packages,
        "Packages.gz": gzip.compress(packages, compresslevel=9, mtime=0),
        "packages.adb": apk.index([new], sign),
    }
    if signer:
        parts["Packages.sig"] = signer.packages(packages).encode()
    for stale in directory.iterdir():
        if stale.name not in parts and re.search(r"\.(ipk|apk|sig)$", stale.name):
            stale.unlink()
    for name, data in parts.items():
        (directory / name).write_bytes(data)


def index(control: str, name: str, package: bytes) -> bytes:
    """`Packages`: the fields of each package with where it is and its hash, before the description."""
    kept = [line for line in control.splitlines() if line.split(":")[0] not in NOT_INDEXED]
    found = [f"Filename: {name}", f"Size: {len(package)}", f"SHA256sum: {hashlib.sha256(package).hexdigest()}"]
    return "\n".join([*kept[:-1], *found, kept[-1], "", ""]).encode()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
