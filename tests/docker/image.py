"""A Dockerfile of `FROM scratch` and COPY lines, and the file tree that it describes, without an engine.

What it cannot follow is an error: a line that the test passes over would be a line that nobody has tried.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import shutil


@dataclasses.dataclass
class Image:
    env: dict = dataclasses.field(default_factory=dict)
    user: tuple = (0, 0)
    volumes: list = dataclasses.field(default_factory=list)
    healthcheck: list = dataclasses.field(default_factory=list)
    entrypoint: list = dataclasses.field(default_factory=list)
    cmd: list = dataclasses.field(default_factory=list)
    stop_signal: str = "SIGTERM"
    ports: list = dataclasses.field(default_factory=list)


def flags_of(words):
    """The options of an instruction, and what follows them."""
    flags = {}
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        flags[name] = value
    return flags, words


def make_directories(path, owner):
    """An engine makes the directories on the way to a file: 0755, and the owner of what is copied for the last of them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755)
    if not path.exists():
        path.mkdir(mode=0o755)
        os.chown(path, *owner)


def copy(words, context, tree):
    flags, names = flags_of(words)
    if unknown := flags.keys() - {"chmod", "chown"}:
        raise ValueError(f"COPY --{unknown.pop()}")
    owner = tuple(int(n) for n in flags.get("chown", "0:0").split(":"))
    *sources, target = names
    for name in sources:
        source = context / name
        into = tree / target.lstrip("/")
        if source.is_dir():
            make_directories(into, owner)
            if any(source.iterdir()):
                raise ValueError(f"COPY {name}: only empty directories are followed")
            continue
        make_directories(into.parent, (0, 0))
        shutil.copyfile(source, into)
        os.chown(into, *owner)
        into.chmod(int(flags["chmod"], 8))


def assemble(context, tree):
    """The tree of the context's Dockerfile, made in `tree`, and what a container is started with."""
    image = Image()
    text = (context / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines[0] != "FROM scratch":
        raise ValueError(lines[0])
    for line in lines[1:]:
        word, _, rest = line.partition(" ")
        match word:
            case "COPY":
                copy(shlex.split(rest), context, tree)
            case "ENV":
                name, _, value = rest.partition("=")
                image.env[name] = value
            case "USER":
                uid, gid = rest.split(":")
                image.user = (int(uid), int(gid))
            case "VOLUME":
                image.volumes = json.loads(rest)
            case "EXPOSE":
                image.ports = rest.split()
            case "STOPSIGNAL":
                image.stop_signal = rest
            case "HEALTHCHECK":
                _, words = flags_of(rest.split(" "))
                if words.pop(0) != "CMD":
                    raise ValueError(line)
                image.healthcheck = json.loads(" ".join(words))
            case "ENTRYPOINT":
                image.entrypoint = json.loads(rest)
            case "CMD":
                image.cmd = json.loads(rest)
            case _:
                raise ValueError(line)
    return image


def files(tree):
    """Every path of the tree: (mode, uid, gid)."""
    found = {}
    for path in sorted(pathlib.Path(tree).rglob("*")):
        at = path.lstat()
        found["/" + path.relative_to(tree).as_posix()] = (oct(at.st_mode & 0o7777), at.st_uid, at.st_gid)
    return found
