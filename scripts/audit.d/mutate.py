#!/usr/bin/env python3
"""Takes every rule out of a node, one after the other, and tries the attacks that name it: each has to be seen to get through, or
to meet another refusal. An attack that is answered as ever is a survivor: it shows nothing of its rule."""
import argparse
import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import main as audit  # noqa: E402 (sets the paths)
import corpus  # noqa: E402


def groups(attacks):
    """Attacks by the rules that are taken out together."""
    found = {}
    for attack in attacks:
        if not attack.control:
            found.setdefault(attack.rules, []).append(attack)
    return dict(sorted(found.items()))


def one(run, world, switch, rules, attack, told):
    """Tries one attack without its rules; True if it was answered otherwise."""
    switch.write_text(",".join(rules), encoding="ascii")
    if not world.alive():
        world.revive()
    result = run.one(attack)
    switch.write_text("", encoding="ascii")
    died = not world.alive()
    seen = "the node died" if died else result.note or result.seen
    if result.verdict == "skip":
        told("skip", attack, rules, seen)
    else:
        told("ok" if result.verdict == "FAIL" else "LIVES", attack, rules, seen)
    return result.verdict


def ordinary(binary):
    """A node that is not made for this run must not know how to take a rule out."""
    with open(binary, "rb") as f:
        return b"ECHOMESH_TAKE_OUT" not in f.read()


def main(words):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    p = argparse.ArgumentParser("scripts/mutate", description=__doc__)
    p.add_argument("--only", action="append", default=[], metavar="PATTERN", help="attacks whose name matches")
    p.add_argument("--category", action="append", default=[], metavar="NAME")
    p.add_argument("--rule", action="append", default=[], metavar="NAME", help="attacks that name this rule")
    options = p.parse_args(words)
    attacks = corpus.chosen(corpus.load(), options.only, options.category)
    attacks = [a for a in attacks if not options.rule or set(options.rule) & set(a.rules)]
    faults = list(corpus.faults(corpus.load()))
    for fault in faults:
        print(f"FAIL the corpus: {fault}")
    verdicts = ["FAIL"] * len(faults)
    import world as worlds

    started = time.monotonic()
    directory = worlds.pathlib.Path(worlds.tempfile.mkdtemp(prefix="echomesh-mutate-"))
    switch = directory / "out"
    switch.write_text("", encoding="ascii")
    os.environ["ECHOMESH_TAKE_OUT"] = f"@{switch}"
    # The sandbox would keep the node from reading the file with the rules that are out.
    world = worlds.Own(os.environ["ECHOMESH_MUTANTS"], os.environ["ECHOMESH_LAB"], security={"sandboxMode": "off"})

    def told(verdict, attack, rules, seen):
        if verdict != "note":
            verdicts.append({"ok": "ok", "skip": "skip"}.get(verdict, "FAIL"))
        print(f"{verdict:5} {audit.fit('+'.join(rules), 40)} {audit.fit(attack.name, 28)} {seen}"[:100].rstrip(), flush=True)

    try:
        world.session()
        run = audit.Run(world)
        for attack in [a for a in attacks if a.control]:
            result = run.one(attack)
            if result.verdict == "FAIL":
                verdicts.append("FAIL")
                print(f"FAIL  with every rule in place: {result.line()}")
        for rules, lines in groups(attacks).items():
            for attack in lines:
                one(run, world, switch, rules, attack, told)
    finally:
        world.close()
        subprocess.run(["rm", "-rf", str(directory)], check=False)
    if binary := os.environ.get("ECHOMESH"):
        verdicts.append("ok" if ordinary(binary) else "FAIL")
        print(f"{verdicts[-1]:5} an ordinary build has no word of ECHOMESH_TAKE_OUT")
    print(f"{len(groups(attacks))} sets of rules in {time.monotonic() - started:.0f} s")
    print(f"{verdicts.count('ok')} passed, {verdicts.count('FAIL')} failed, {verdicts.count('skip')} skipped")
    return 1 if "FAIL" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
