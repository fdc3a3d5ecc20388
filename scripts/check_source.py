"""Rules of the source that neither rustc nor clippy knows:
- no file over 600 lines; those over 400 are named;
- `unsafe` under src/sys/linux alone, each block under a SAFETY comment;
- the lab shares nothing with the node but the platform's signals and the sandbox that it tries, so that a mistake cannot cancel itself out;
- the pure modules, which docs/architecture.md lists, import no sockets, files, executor or clock;
- the node's tables are sorted vectors and not B-trees, which are made anew for each type (docs/decisions.md 164);
- no unfinished places, and nothing silenced without a reason."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMPURE = re.compile(
    r"\b(async_io|async_executor|blocking|futures_rustls|rustix|libc)::|\bstd::(fs|process|thread|os::unix::net|env)\b"
    r"|\bstd::net::(\{[^}]*)?(TcpStream|TcpListener|UdpSocket)|\bcrate::(clock|sys|log)\b|\b(Instant|SystemTime)::now\b"
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|#\[ignore\]")


def code_of(text):
    """The text without line comments and without the tests at its end; line numbers stay."""
    text = re.split(r"^#\[cfg\(test\)\]\nmod ", text, maxsplit=1, flags=re.M)[0]
    return [re.sub(r"//.*", "", line) for line in text.split("\n")]


def pure_paths():
    page = (ROOT / "docs" / "architecture.md").read_text()
    block = re.search(r"<!-- pure:begin -->(.*?)<!-- pure:end -->", page, re.S)
    if not block:
        raise SystemExit("docs/architecture.md has no list of pure modules")
    return re.findall(r"`(src/[\w/.]+)`", block[1])


def pure_files():
    for name in pure_paths():
        path = ROOT / name
        if not path.exists():
            yield name, None
        elif path.is_dir():
            yield from ((p.relative_to(ROOT).as_posix(), p) for p in sorted(path.rglob("*.rs")))
        else:
            yield name, path


def check_pure(fail):
    for name, path in pure_files():
        if path is None:
            fail(f"docs/architecture.md lists {name} as pure, and it does not exist")
            continue
        if is_test_module(path):
            continue
        for at, line in enumerate(code_of(path.read_text()), 1):
            if found := IMPURE.search(line):
                fail(f"{name}:{at}: a pure module may not use {found[0]}")


def check_unsafe(path, name, fail):
    lines = path.read_text().split("\n")
    for at, line in enumerate(code_of("\n".join(lines))):
        if not re.search(r"\bunsafe\b", re.sub(r'"[^"]*"', '""', line)):
            continue
        if not name.startswith("src/sys/linux"):
            fail(f"{name}:{at + 1}: unsafe is for src/sys/linux alone")
        elif "unsafe extern" not in line and not any("SAFETY" in before for before in lines[max(0, at - 8) : at + 1]):
            fail(f"{name}:{at + 1}: unsafe without a SAFETY comment")


def is_test_module(path):
    """Whether the module beside or above it declares this file for tests alone."""
    pattern = rf"#\[cfg\(test\)\]\n(#\[.*\]\n)?(pub )?mod {path.stem};"
    above = [path.parent / "mod.rs", path.parent.with_suffix(".rs"), path.parent / "lib.rs"]
    return path.stem == "tests" or any(p.exists() and re.search(pattern, p.read_text()) for p in above)


def check_lab(path, name, fail):
    if is_test_module(path):
        return
    for at, line in enumerate(code_of(path.read_text()), 1):
        if found := re.search(r"\bcrate::(?!lab\b|sys::linux::(signals|sandbox|net)\b)\w+", line):
            fail(f"{name}:{at}: the lab may not use {found[0]}")


def check_tables(path, name, fail):
    if is_test_module(path) or "/tests/" in name or name == "src/meter/verify.rs":
        return
    for at, line in enumerate(code_of(path.read_text()), 1):
        if re.search(r"\bBTree(Map|Set)\b", line):
            fail(f"{name}:{at}: a table of the node's is a SortedMap or SortedSet (src/sorted.rs)")


def main():
    faults, long = [], []
    files = [p for folder in ("src", "tests", "fuzz/fuzz_targets", "scripts") for p in sorted((ROOT / folder).rglob("*"))
             if p.is_file() and (p.suffix in (".rs", ".py", ".sh") or (folder == "scripts" and p.suffix == ""))]
    for path in files:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        count = text.count("\n")
        if count > 600:
            faults.append(f"{name} has {count} lines; 600 is the most")
        elif count > 400:
            long.append(f"{count} {name}")
        if path.suffix == ".rs":
            check_unsafe(path, name, faults.append)
        if name.startswith("src/lab/") and name != "src/lab/agreement.rs":  # the test that holds both against each other
            check_lab(path, name, faults.append)
        if name.startswith("src/") and not name.startswith("src/lab/"):
            check_tables(path, name, faults.append)
        for at, line in enumerate(text.split("\n"), 1):
            if name != "scripts/check_source.py" and UNFINISHED.search(line):
                faults.append(f"{name}:{at}: unfinished or silenced: {line.strip()}")
    check_pure(faults.append)
    for row in sorted(long, reverse=True):
        print(f"over 400 lines: {row}")
    for fault in faults:
        print(f"FAIL {fault}", file=sys.stderr)
    print(f"{0 if faults else 1} passed, {len(faults)} failed, 0 skipped")
    return 1 if faults else 0


sys.exit(main())
