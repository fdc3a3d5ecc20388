#!/usr/bin/env python3
"""size.py [--record] TARGET NM BINARY SYMBOLS: holds a binary to its budget in size.toml, and says what grew.

--record writes what was measured as the new expectation; the budget stays: raise it by hand, with a reason in the commit.
"""
import gzip
import pathlib
import sys
import tomllib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crates import by_crate  # noqa: E402

PAGE = pathlib.Path(__file__).with_name("size.toml")
# Crates smaller than this are one line together.
SMALL = 4000


def measured(nm, binary, symbols):
    data = pathlib.Path(binary).read_bytes()
    crates = by_crate(nm, symbols)
    large = {crate: size for crate, size in crates.most_common() if size >= SMALL}
    large["all others"] = sum(crates.values()) - sum(large.values())
    return {"binary": len(data), "compressed": len(gzip.compress(data, 9, mtime=0)), "crates": large}


def grown(before, now):
    """Lines about the crates that changed, the largest change first."""
    change = {c: now.get(c, 0) - before.get(c, 0) for c in {*before, *now}}
    for crate, by in sorted(change.items(), key=lambda item: -abs(item[1])):
        if by:
            yield f"  {by:+9} {crate} (now {now.get(crate, 0)})"


def check(target, expected, now):
    """Whether the budget holds; prints what there is to say."""
    ok = True
    for what in ["binary", "compressed"]:
        budget, before = expected[f"{what}_budget"], expected[what]
        fits = now[what] <= budget
        ok &= fits
        print(f"{target}: {what} {now[what]} bytes, {now[what] - before:+} since it was recorded, budget {budget}{'' if fits else ': TOO LARGE'}")
    if now["binary"] != expected["binary"]:
        print("\n".join(grown(expected["crates"], now["crates"])))
    return ok


def write(document):
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    for target, entry in document.items():
        lines += ["", f"[{target}]"]
        lines += [f"{name} = {entry[name]}" for name in ["binary_budget", "compressed_budget", "binary", "compressed"]]
        lines += [f"[{target}.crates]", *(f'"{crate}" = {size}' for crate, size in entry["crates"].items())]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(words):
    record = words[:1] == ["--record"]
    target, *rest = words[1:] if record else words
    document = tomllib.loads(PAGE.read_text(encoding="utf-8"))
    now = measured(*rest)
    if record:
        budgets = {"binary_budget": now["binary"], "compressed_budget": now["compressed"]}
        document[target] = {**budgets, **document.get(target, {}), **now}
        write(document)
    return 0 if check(target, document[target], now) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
