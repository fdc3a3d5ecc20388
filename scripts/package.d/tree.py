"""The files of a package with their modes. All belong to root: what is the service user's is made by the program at its start."""

import dataclasses

import recipe as recipes


@dataclasses.dataclass
class Entry:
    """A file, or a directory if `data` is None."""

    mode: int
    data: bytes | None = None


def tree(recipe: recipes.Recipe, program: bytes) -> dict:
    """Path without the leading slash -> Entry, parents included, sorted."""
    entries = {path: Entry(0o755) for path in recipe.directories}
    for path, (source, mode) in recipe.files.items():
        entries[path] = Entry(mode, program if source is None else source.read_bytes())
    kept = [path for path in recipe.conffiles if path.lstrip("/") not in entries]
    if kept:
        # A conffile that the package does not bring is kept by sysupgrade alone, as package-pack.mk does it.
        entries[f"lib/upgrade/keep.d/{recipe.name}"] = Entry(0o644, lines(kept))
    return with_parents(entries)


def with_parents(entries: dict) -> dict:
    """The entries with every directory above them, sorted by path."""
    for path in list(entries):
        while "/" in path:
            path = path.rpartition("/")[0]
            entries.setdefault(path, Entry(0o755))
    return dict(sorted(entries.items()))


def conffiles(recipe: recipes.Recipe, entries: dict) -> list:
    """The conffiles that the package brings, sorted."""
    return sorted(path for path in recipe.conffiles if path.lstrip("/") in entries)


def lines(texts) -> bytes:
    """A file of these lines."""
    return "".join(f"{text}\n" for text in texts).encode()
