"""Packages and indexes for apk 3, as `apk mkpkg` and `apk mkndx` write them from what OpenWrt's package-pack.mk hands them."""

import hashlib
import struct

import adb
import recipe as recipes
from tree import Entry, conffiles, lines, tree, with_parents

# Places in the objects (apk_adb.h).
PKG_INFO, PKG_PATHS, PKG_SCRIPTS = 1, 2, 3
NAME, VERSION, HASHES, DESCRIPTION, ARCH, LICENSE, ORIGIN, MAINTAINER, URL = range(1, 10)
INSTALLED_SIZE, FILE_SIZE, DEPENDS = 0x0C, 0x0D, 0x0F
FILE_NAME, FILE_ACL, FILE_LENGTH, FILE_MTIME, FILE_HASH, FILE_TARGET = range(1, 7)
DIR_NAME, DIR_ACL, DIR_FILES = 1, 2, 3
ACL_MODE, ACL_USER, ACL_GROUP = 1, 2, 3
POST_INSTALL, PRE_DEINSTALL, POST_DEINSTALL, POST_UPGRADE = 3, 4, 5, 7
INDEX_PACKAGES = 2
# Bytes of the identity that stands in the package itself.
IDENTITY = 20

BEGIN = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
"""
LIBRARY = """[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
export root="${IPKG_INSTROOT}"
export pkgname="NAME"
"""
SHEBANG = "#!/bin/sh\n"


def scripts(recipe: recipes.Recipe) -> dict:
    """The scripts by their place. Without pre-deinstall the service would go on after the package is gone."""
    library = LIBRARY.replace("NAME", recipe.name)
    install = f"{library}add_group_and_user\ndefault_postinst\n"
    return {
        POST_INSTALL: BEGIN + install,
        PRE_DEINSTALL: f"{SHEBANG}{library}default_prerm\n",
        POST_DEINSTALL: recipe.postrm,
        POST_UPGRADE: f"{SHEBANG}export PKG_UPGRADE=1\n{BEGIN.removeprefix(SHEBANG)}{install}",
    }


def files(recipe: recipes.Recipe, program: bytes) -> dict:
    """The tree with what OpenWrt's scripts look for in lib/apk/packages."""
    entries = tree(recipe, program)
    own = f"lib/apk/packages/{recipe.name}"
    entries[f"{own}.rusers"] = Entry(0o644, lines([recipe.users]))
    entries[f"{own}.list"] = Entry(0o644, lines(sorted(f"/{p}" for p, e in entries.items() if e.data is not None)))
    entries[f"{own}.conffiles"] = Entry(0o644, lines(recipe.conffiles))
    sums = (f"{path} {hashlib.sha256(entries[path[1:]].data).hexdigest()}" for path in conffiles(recipe, entries))
    entries[f"{own}.conffiles_static"] = Entry(0o644, lines(sums))
    return with_parents(entries)


def build(recipe: recipes.Recipe, program: bytes, arch: str, epoch: int, sign=None) -> bytes:
    """The package. `sign` makes a signature block's payload from a schema and a database."""
    entries = files(recipe, program)
    database = package_database(recipe, entries, arch, epoch)
    blocks = [adb.block(adb.ADB, database)]
    if sign:
        blocks.append(adb.block(adb.SIG, sign(adb.PACKAGE, database)))
    for at, directory in enumerate(by_directory(entries), 1):
        for place, (_, entry) in enumerate(directory[2], 1):
            if entry.data:
                blocks.append(adb.block(adb.DATA, struct.pack("<II", at, place) + entry.data))
    return adb.container(adb.PACKAGE, blocks)


def by_directory(entries):
    """(path, entry, [(name, entry of a file)]), the root first, all sorted by bytes."""
    directories = [("", Entry(0o755))] + [(p, e) for p, e in entries.items() if e.data is None]
    held = {path: [] for path, _ in directories}
    for path, entry in entries.items():
        if entry.data is not None:
            above, _, name = path.rpartition("/")
            held[above].append((name, entry))
    return [(path, entry, sorted(held[path], key=lambda f: f[0].encode())) for path, entry in sorted(directories, key=lambda d: d[0].encode())]


def package_database(recipe, entries, arch, epoch):
    writer = adb.Writer()
    info = {
        NAME: writer.text(recipe.name),
        VERSION: writer.text(recipe.full_version),
        DESCRIPTION: writer.text(recipe.description),
        ARCH: writer.text(arch),
        LICENSE: writer.text(recipe.license),
        ORIGIN: writer.text(f"feeds/packages/net/{recipe.name}"),
        MAINTAINER: writer.text(recipe.maintainer),
        URL: writer.text(recipe.url),
        DEPENDS: dependencies(writer, recipe.depends),
    }
    paths = [directory_object(writer, *directory, epoch) for directory in by_directory(entries)]
    info[INSTALLED_SIZE] = writer.int(sum(len(e.data) for e in entries.values() if e.data))
    info[HASHES] = writer.blob(bytes(IDENTITY), shared=False)
    package = {PKG_INFO: writer.object(info), PKG_PATHS: writer.array(paths)}
    package[PKG_SCRIPTS] = writer.object({at: writer.text(text) for at, text in scripts(recipe).items()})
    writer.root(writer.object(package))
    at = (info[HASHES] & 0x0FFFFFFF) + 1
    writer.bytes[at : at + IDENTITY] = hashlib.sha256(writer.bytes).digest()[:IDENTITY]
    return bytes(writer.bytes)


def dependencies(writer, names):
    """Stored in the order given; the row is sorted, because readers look names up by halving."""
    rows = {name: writer.object({1: writer.text(name)}) for name in names}
    return writer.array([rows[name] for name in sorted(rows)])


def directory_object(writer, path, entry, held, epoch):
    rows = file_objects(writer, held, epoch)
    slots = {DIR_NAME: writer.text(path), DIR_ACL: owner_object(writer, entry.mode)}
    slots[DIR_FILES] = writer.array(rows)
    return writer.object(slots)


def file_objects(writer, held, epoch):
    rows = []
    for name, entry in held:
        slots = {
            FILE_NAME: writer.text(name),
            FILE_HASH: writer.blob(hashlib.sha256(entry.data).digest()),
            FILE_MTIME: writer.int(epoch),
            FILE_LENGTH: writer.int(len(entry.data)),
        }
        slots[FILE_ACL] = owner_object(writer, entry.mode)
        rows.append(writer.object(slots))
    return rows


def owner_object(writer, mode):
    return writer.object({ACL_MODE: writer.int(mode), ACL_USER: writer.text("root"), ACL_GROUP: writer.text("root")})


def index(packages: list, sign=None) -> bytes:
    """The index of these packages, sorted by name and version."""
    writer = adb.Writer()
    rows = []
    for data in packages:
        schema, blocks = adb.open_container(data)
        if schema != adb.PACKAGE:
            raise adb.AdbError("an index takes packages only")
        database = blocks[0][1]
        info = adb.values(database)[PKG_INFO]
        slots = {at: adb.copy(writer, value) for at, value in enumerate(info[1:], 1)}
        slots[FILE_SIZE] = writer.int(len(data))
        slots[HASHES] = writer.blob(hashlib.sha256(database).digest())
        rows.append(((info[NAME], info[VERSION]), writer.object(slots)))
    writer.root(writer.object({INDEX_PACKAGES: writer.array([row for _, row in sorted(rows)])}))
    database = bytes(writer.bytes)
    blocks = [adb.block(adb.ADB, database)]
    if sign:
        blocks.append(adb.block(adb.SIG, sign(adb.INDEX, database)))
    return adb.container(adb.INDEX, blocks)
