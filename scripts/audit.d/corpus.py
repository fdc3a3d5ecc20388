"""The corpus: attacks as data (tests/corpus/README.md), and the checks that keep it honest."""
import fnmatch
import pathlib
import re
import tomllib
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus"
MEMBERS = {"name", "what", "why", "expect", "rule", "needs", "try", "control"}


@dataclass
class Attack:
    """One record. `tries` is what its category makes of it; `rules` are taken out together."""

    name: str
    category: str
    what: str
    expect: str
    rules: tuple = ()
    needs: frozenset = frozenset()
    control: bool = False
    why: str = ""
    tries: dict = field(default_factory=dict)

    @property
    def key(self):
        return repr(sorted((k, repr(v)) for k, v in self.tries.items()))


def load():
    """Every record of every file; a mistake in one is an error that names it."""
    found = []
    for path in sorted(CORPUS.glob("*.toml")):
        with open(path, "rb") as f:
            document = tomllib.load(f)
        for number, record in enumerate(document.get("attack", []), 1):
            found.append(_attack(path, number, record))
    return found


def _attack(path, number, record):
    where = f"{path.name}, record {number} ({record.get('name')})"
    for name in ("name", "what", "expect", "try"):
        if not record.get(name):
            raise SystemExit(f"{where}: it has no `{name}`")
    if extra := set(record) - MEMBERS:
        raise SystemExit(f"{where}: nobody knows {sorted(extra)}")
    control = bool(record.get("control"))
    rules = record.get("rule", [])
    rules = tuple([rules] if isinstance(rules, str) else rules)
    if control == bool(rules):
        raise SystemExit(f"{where}: an attack names its `rule`, a control has none")
    return Attack(
        record["name"], path.stem, record["what"], record["expect"], rules, frozenset(record.get("needs", [])),
        control, record.get("why", ""), record["try"],
    )


def rules_of_source():
    """Every rule that can be taken out of the node."""
    found = set()
    for path in sorted((ROOT / "src").rglob("*.rs")):
        text = path.read_text(encoding="utf-8")
        if path.name != "mutant.rs":
            found.update(re.findall(r'(?<!row_)\bout\(\s*"([^"]+)"', text))
            if re.search(r"\bout\(rule\)", text):
                # A rule that a variable of this name holds: the literals that stand beside what they rule.
                found.update(re.findall(r'\(&mut [\w.]+, "([a-z]+(?:-[a-z]+)+)"\)', text))
            for table in re.findall(r'row_out\(\s*"([^"]+)"', text):
                found.update(f"{table}:{row}" for row in _rows(text, table))
        found.update(re.findall(r'\bmend\(\s*"([^"]+)"', text))
        found.update(re.findall(r'(?<!row_)\bout\(\s*"([a-z][^"]+)"\)', text) if path.name == "mutant.rs" else [])
    return found - {"any", "rule-name"}


def _rows(text, table):
    constant = table.upper().replace("-", "_")
    body = re.search(rf"const {constant}: \[[^=]*= \[(.*?)\n\];", text, re.S)
    for family, words, bits in re.findall(r"\(Ipv(\d)Addr::new\(([^)]*)\), (\d+)\)", body[1]):
        import ipaddress

        numbers = [int(w, 0) for w in words.split(",")]
        if family == "4":
            yield f"{'.'.join(map(str, numbers))}/{bits}"
        else:
            value = 0
            for number in numbers:
                value = value << 16 | number
            yield f"{_as_rust(ipaddress.IPv6Address(value))}/{bits}"


def _as_rust(address):
    """Rust writes mapped addresses with a dotted end."""
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def excused():
    """Rules without a line, and why: `rule  reason` a line."""
    found = {}
    for line in (CORPUS / "rules-without-a-line.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            rule, _, reason = line.partition(" ")
            found[rule] = reason.strip()
    return found


def faults(attacks):
    """What is wrong with the corpus as a whole."""
    names, tried = {}, {}
    for attack in attacks:
        if attack.name in names:
            yield f"two records are called {attack.name}"
        names[attack.name] = attack
        key = (attack.category, attack.key, attack.expect if attack.control else "")
        if key in tried:
            yield f"{attack.name} tries what {tried[key]} tries"
        tried[key] = attack.name
        if not attack.control and not attack.why:
            yield f"{attack.name} does not say why it is another attack than the rest"
    known, used, free = rules_of_source(), {r for a in attacks for r in a.rules}, excused()
    yield from (f"rule {r} is in no source file" for r in sorted(used - known))
    yield from (f"rule {r} has no line in the corpus" for r in sorted(known - used - set(free)))
    yield from (f"rules-without-a-line.txt: {r} is no rule, or has a line" for r in sorted(set(free) - (known - used)))


def chosen(attacks, patterns, categories):
    """Those whose name matches a pattern (a substring, or with * and ?) and whose category is asked for."""

    def fits(attack):
        one = any(fnmatch.fnmatchcase(attack.name, p) or p in attack.name for p in patterns) or not patterns
        return one and (not categories or attack.category in categories)

    return [attack for attack in attacks if fits(attack)]
