"""Packages for opkg: a gzipped tar of ./debian-binary, ./data.tar.gz and ./control.tar.gz (OpenWrt's scripts/ipkg-build)."""

import gzip
import io
import tarfile

import recipe as recipes
from tree import Entry, conffiles, lines, tree

# What package-pack.mk writes for every package.
POSTINST = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"""
PRERM = """#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"""


def control(recipe: recipes.Recipe, arch: str, epoch: int, installed: int) -> str:
    """The package's fields, in package-pack.mk's order."""
    fields = {
        "Package": recipe.name,
        "Version": recipe.full_version,
        "Depends": ", ".join(recipe.depends),
        "Source": f"feeds/packages/net/{recipe.name}",
        "SourceName": recipe.name,
        "License": recipe.license,
        "Section": recipe.section,
        "Require-User": recipe.users,
        "SourceDateEpoch": epoch,
        "URL": recipe.url,
        "Maintainer": recipe.maintainer,
        "Architecture": arch,
        "Installed-Size": installed,
        "Description": recipe.description,
    }
    # opkg crashes at a field without a value.
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value != "")


def build(recipe: recipes.Recipe, program: bytes, arch: str, epoch: int) -> tuple:
    """The package, and the text of its control file."""
    entries = tree(recipe, program)
    data = tar(entries, epoch)
    text = control(recipe, arch, epoch, len(data))
    parts = {
        "conffiles": Entry(0o644, lines(conffiles(recipe, entries))),
        "control": Entry(0o644, text.encode()),
        "postinst": Entry(0o755, POSTINST.encode()),
        "postrm": Entry(0o755, recipe.postrm.encode()),
        "prerm": Entry(0o755, PRERM.encode()),
    }
    members = {
        "debian-binary": Entry(0o644, b"2.0\n"),
        "data.tar.gz": Entry(0o644, compress(data)),
        "control.tar.gz": Entry(0o644, compress(tar(parts, epoch))),
    }
    return compress(tar(members, epoch, root=False)), text


def tar(entries: dict, epoch: int, root: bool = True) -> bytes:
    """A GNU tar in the entries' order: owned by 0:0, all of one time, names beginning with ./"""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        if root:
            archive.addfile(info(".", Entry(0o755), epoch))
        for path, entry in entries.items():
            data = None if entry.data is None else io.BytesIO(entry.data)
            archive.addfile(info(f"./{path}", entry, epoch), data)
    return out.getvalue()


def info(name, entry, epoch):
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE if entry.data is None else tarfile.REGTYPE
    member.size = len(entry.data or b"")
    member.mode, member.mtime = entry.mode, epoch
    return member


def compress(data: bytes) -> bytes:
    """gzip without name and time."""
    return gzip.compress(data, compresslevel=9, mtime=0)
