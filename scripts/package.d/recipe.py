"""Reads openwrt/Makefile, so that the package of the feed and those made here cannot differ. It knows the few forms that file uses and
refuses every other: what it does not understand would be missing from the package."""

import dataclasses
import pathlib
import re

# install(1) of OpenWrt's rules.mk: the mode of what is copied.
MODES = {"INSTALL_BIN": 0o755, "INSTALL_DATA": 0o644, "INSTALL_CONF": 0o600}
# The program as the feed's own build leaves it.
BUILT = "$(PKG_INSTALL_DIR)/bin/"
# Variables of the build system that a dependency list may name and that mean nothing on a router.
BUILD_ONLY = {"$(RUST_ARCH_DEPENDS)"}


class RecipeError(ValueError):
    """What in the Makefile is not understood."""


@dataclasses.dataclass
class Recipe:
    """What openwrt/Makefile says."""

    name: str
    version: str
    release: str
    license: str
    maintainer: str
    section: str
    url: str
    depends: list
    users: str
    description: str
    conffiles: list
    directories: list
    """Paths without the leading slash."""
    files: dict
    """Path without the leading slash -> (source: a path beside the Makefile, or None for the program, mode)."""
    postrm: str
    """The script as make would write it."""

    @property
    def full_version(self):
        """As OpenWrt's package.mk puts it together."""
        return f"{self.version}-r{self.release}"


def read(makefile: pathlib.Path) -> Recipe:
    """The recipe of a Makefile.

    Raises RecipeError for a line of `install` that is not understood, or a missing part."""
    text = makefile.read_text()
    blocks = dict(re.findall(r"^define (\S+)\n(.*?)^endef$", text, re.M | re.S))
    variables = dict(re.findall(r"^(PKG_\w+):=(.*)$", text, re.M))
    name = needed(variables, "PKG_NAME")
    fields = dict(re.findall(r"^  (\w+):=(.*)$", needed(blocks, f"Package/{name}"), re.M))
    directories, files = install(needed(blocks, f"Package/{name}/install"), makefile.parent)
    return Recipe(
        name=name,
        version=needed(variables, "PKG_VERSION"),
        release=needed(variables, "PKG_RELEASE"),
        license=needed(variables, "PKG_LICENSE"),
        maintainer=needed(variables, "PKG_MAINTAINER"),
        section=needed(fields, "SECTION"),
        url=needed(fields, "URL"),
        depends=dependencies(needed(fields, "DEPENDS")),
        users=needed(fields, "USERID"),
        description=" ".join(needed(blocks, f"Package/{name}/description").split()),
        conffiles=needed(blocks, f"Package/{name}/conffiles").split(),
        directories=directories,
        files=files,
        postrm=needed(blocks, f"Package/{name}/postrm").replace("$$", "$"),
    )


def needed(table, key):
    try:
        return table[key]
    except KeyError:
        raise RecipeError(f"openwrt/Makefile has no {key}") from None


def dependencies(text):
    names = []
    for word in text.split():
        if word in BUILD_ONLY:
            continue
        if not re.fullmatch(r"\+[a-z0-9-]+", word):
            raise RecipeError(f"openwrt/Makefile: DEPENDS: {word} is not understood")
        names.append(word[1:])
    return names


def install(block, beside):
    """Directories, and files with their sources and modes."""
    directories, files = [], {}
    for line in block.strip().splitlines():
        words = line.split()
        macro = re.fullmatch(r"\$\((\w+)\)", words[0])
        to = [word[len("$(1)/") :] for word in words if word.startswith("$(1)/")]
        if macro and macro[1] == "INSTALL_DIR" and len(to) == len(words) - 1:
            directories += to
        elif macro and macro[1] in MODES and len(words) == 3 and len(to) == 1:
            files[to[0]] = (source(words[1], beside), MODES[macro[1]])
        else:
            raise RecipeError(f"openwrt/Makefile: install: {line.strip()} is not understood")
    return directories, files


def source(word, beside):
    if word.startswith(BUILT):
        return None
    path = beside / word
    if not path.is_file():
        raise RecipeError(f"openwrt/Makefile: install: {word} does not exist")
    return path
