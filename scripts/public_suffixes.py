#!/usr/bin/env python3
"""Makes data/public-suffixes.txt from the Public Suffix List, or checks that no entry is finer than the list.

usage: public_suffixes.py make|check [LIST]

The node groups hosts by registrable domain to count connections. A missing suffix groups too coarsely, which is the
stricter side; an entry that is no suffix would let one owner of a domain pass for many, so `check` fails on one.
"""
import collections
import pathlib
import sys

LIST = "/usr/share/publicsuffix/public_suffix_list.dat"
DATA = pathlib.Path(__file__).parent.parent / "data" / "public-suffixes.txt"
LABELS = 16
HEAD = """# Second-level public suffixes, after the ICANN part of the Public Suffix List (publicsuffix.org, MPL 2.0):
# a label, then the top-level domains below which it is one. What is not listed counts as a plain domain of
# two labels. Made by scripts/public_suffixes.py.
"""


def rules(path):
    """Suffixes of two labels, and top-level domains below which every label is one."""
    two, wild, part = set(), set(), False
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        part = (part or "===BEGIN ICANN" in line) and "===END ICANN" not in line
        rule = line.strip()
        if not part or not rule or rule.startswith(("//", "!")):
            continue
        if rule.startswith("*.") and rule.count(".") == 1:
            wild.add(rule[2:])
        elif rule.count(".") == 1 and rule.isascii():
            two.add(tuple(rule.split(".")))
    return two, wild


def make(two, wild):
    counts = collections.Counter(label for label, _ in two)
    lines = []
    for label, _ in counts.most_common(LABELS):
        tlds = sorted({tld for of, tld in two if of == label} | wild)
        lines.append(f"{label} {' '.join(tlds)}\n")
    DATA.write_text(HEAD + "".join(lines), encoding="ascii")


def check(two, wild):
    wrong, seen = [], 0
    for line in DATA.read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            continue
        label, *tlds = line.split()
        seen += len(tlds)
        wrong += [f"{label}.{tld}" for tld in tlds if (label, tld) not in two and tld not in wild]
    for name in wrong:
        print(f"{name} is no public suffix by the list: take it out of {DATA.name}")
    print(f"{1 if not wrong else 0} passed, {1 if wrong else 0} failed, 0 skipped ({seen} suffixes)")
    return bool(wrong)


def main():
    mode, path = sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2] if len(sys.argv) > 2 else LIST
    if mode not in ("make", "check"):
        sys.exit(__doc__)
    found = rules(path)
    sys.exit(make(*found) if mode == "make" else check(*found))


main()
