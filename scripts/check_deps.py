"""The rules of deny.toml on `cargo metadata`; see scripts/check-deps."""

import copy
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def satisfied(expression, allowed):
    """Whether an SPDX expression (or the old slash form) can be met with allowed licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def term():
        nonlocal at
        if tokens[at] == "(":
            at += 1
            value = any_of()
            at += 1
            return value
        name = tokens[at]
        at += 1
        if at < len(tokens) and tokens[at] == "WITH":
            name += " WITH " + tokens[at + 1]
            at += 2
        return name in allowed

    def all_of():
        nonlocal at
        value = term()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            value = term() and value
        return value

    def any_of():
        nonlocal at
        value = all_of()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            value = all_of() or value
        return value

    return any_of()


def spec_matches(spec, package):
    name, _, version = spec.partition("@")
    return name == package["name"] and (not version or package["version"].startswith(version))


def faults(metadata, rules):
    packages = [p for p in metadata["packages"] if p["source"]]
    members = [p for p in metadata["packages"] if not p["source"]]
    allowed = set(rules["licenses"]["allow"])
    excepted = {e["crate"]: set(e["allow"]) for e in rules["licenses"].get("exceptions", [])}
    for p in packages:
        label = f"{p['name']} {p['version']}"
        if not p["license"]:
            yield f"{label} names no licence"
        elif not satisfied(p["license"], allowed | excepted.get(p["name"], set())):
            yield f"{label}: licence {p['license']} is not allowed"
        if not any(p["source"] == f"registry+{url}" for url in rules["sources"]["allow-registry"]):
            yield f"{label} comes from {p['source']}, which is no allowed registry"
        for ban in rules["bans"]["deny"]:
            if spec_matches(ban["crate"], p):
                yield f"{label} is banned: {ban['reason']}"
    seen = {}
    for p in packages:
        if not any(spec_matches(skip["crate"], p) for skip in rules["bans"]["skip"]):
            seen.setdefault(p["name"], []).append(p["version"])
    for name, versions in seen.items():
        if len(versions) > 1:
            yield f"{name} is there in several versions: {', '.join(sorted(versions))}"
    for member in members:
        for d in member["dependencies"]:
            if d["source"] and d["req"] == "*":
                yield f"{member['name']}: {d['name']} has no version requirement"
            if d["source"] and d["uses_default_features"] and member["name"] == "echomesh" and (d["name"] not in NO_FEATURES):
                yield f"{member['name']}: {d['name']} has its default features on; name the ones that are needed"


# Crates without any features, in which `default-features = false` would say nothing.
NO_FEATURES = {"tinyjson"}


def self_test(metadata, rules):
    """Breaks each rule once and expects exactly that fault."""
    def case(change, expected):
        broken, by = copy.deepcopy(metadata), copy.deepcopy(rules)
        change(broken, by)
        found = list(faults(broken, by))
        return len(found) >= 1 and all(expected in f for f in found)

    def outside(meta):
        return next(p for p in meta["packages"] if p["source"] and p["name"] == "httparse")

    def direct(meta):
        member = next(p for p in meta["packages"] if p["name"] == "echomesh")
        return next(d for d in member["dependencies"] if d["name"] == "httparse")

    cases = [
        case(lambda m, r: outside(m).update(license="GPL-3.0-only"), "is not allowed"),
        case(lambda m, r: outside(m).update(license="MIT AND GPL-3.0-only"), "is not allowed"),
        case(lambda m, r: outside(m).update(license=None), "no licence"),
        case(lambda m, r: outside(m).update(source="git+https://example.org/x"), "no allowed registry"),
        case(lambda m, r: outside(m).update(name="openssl-sys"), "is banned"),
        case(lambda m, r: m["packages"].append({**outside(m), "version": "0.9.0"}), "several versions"),
        case(lambda m, r: direct(m).update(uses_default_features=True), "default features on"),
        case(lambda m, r: direct(m).update(req="*"), "no version requirement"),
        satisfied("(MIT OR GPL-3.0-only) AND ISC", {"MIT", "ISC"}),
        not satisfied("MIT AND (GPL-3.0-only OR ISC)", {"MIT"}),
    ]
    for at, good in enumerate(cases):
        if not good:
            print(f"FAIL self-test {at}", file=sys.stderr)
    return cases.count(True), cases.count(False)


def metadata_of(manifest):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--manifest-path", str(ROOT / manifest)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    passed = failed = 0
    for manifest in ("Cargo.toml", "fuzz/Cargo.toml"):
        found = list(faults(metadata_of(manifest), rules))
        for fault in found:
            print(f"FAIL {manifest}: {fault}", file=sys.stderr)
        passed, failed = passed + (not found), failed + len(found)
    if "--self-test" in sys.argv:
        good, bad = self_test(metadata_of("Cargo.toml"), rules)
        passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
