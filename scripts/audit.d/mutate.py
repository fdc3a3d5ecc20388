#!/usr/bin/env python3
"""Takes every rule out of a node, one after the other, and tries the attacks that name it: each has to be seen to get through, or
to meet another refusal. An attack that is answered as ever is a survivor: it shows nothing of its rule."""
import argparse
import os
import re
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


def shared_out(words, jobs):
    """Runs the parts side by side, each with a node and namespaces of its own: most of the time is waiting. Tells of one after the
    other; their closing lines become one."""
    command = [sys.executable, __file__, *words]
    parts = [subprocess.Popen([*command, "--part", f"{n}/{jobs}"], stdout=subprocess.PIPE, text=True) for n in range(jobs)]
    total, failed = [0, 0, 0], False
    try:
        for part in parts:
            last = ""
            for line in part.stdout:
                if not (found := re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped\n", line)):
                    print(line, end="", flush=True)
                last = found or last
            status = part.wait()
            if not last:
                print(f"FAIL a part ended with status {status} before it had counted", flush=True)
            counts = [int(n) for n in last.groups()] if last else [0, 1, 0]
            total = [a + b for a, b in zip(total, counts)]
            failed |= status != 0
    finally:
        for part in parts:
            if part.poll() is None:
                part.terminate()
                part.wait()
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if failed or total[1] else 0


def main(words):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    p = argparse.ArgumentParser("scripts/mutate", description=__doc__)
    p.add_argument("--only", action="append", default=[], metavar="PATTERN", help="attacks whose name matches")
    p.add_argument("--category", action="append", default=[], metavar="NAME")
    p.add_argument("--rule", action="append", default=[], metavar="NAME", help="attacks that name this rule")
    p.add_argument("--jobs", type=int, default=2, metavar="N", help="so many nodes at the same time (2)")
    p.add_argument("--part", metavar="K/N", help=argparse.SUPPRESS)
    options = p.parse_args(words)
    if not options.part:
        return shared_out(words, max(1, options.jobs))
    part, parts = (int(n) for n in options.part.split("/"))
    attacks = corpus.chosen(corpus.load(), options.only, options.category)
    attacks = [a for a in attacks if not options.rule or set(options.rule) & set(a.rules)]
    faults = list(corpus.faults(corpus.load())) if part == 0 else []
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
        ours = list(groups(attacks).items())[part::parts]
        for rules, lines in ours:
            for attack in lines:
                one(run, world, switch, rules, attack, told)
    finally:
        world.close()
        subprocess.run(["rm", "-rf", str(directory)], check=False)
    if part == 0 and (binary := os.environ.get("ECHOMESH")):
        verdicts.append("ok" if ordinary(binary) else "FAIL")
        print(f"{verdicts[-1]:5} an ordinary build has no word of ECHOMESH_TAKE_OUT")
    print(f"{len(ours)} sets of rules in {time.monotonic() - started:.0f} s")
    print(f"{verdicts.count('ok')} passed, {verdicts.count('FAIL')} failed, {verdicts.count('skip')} skipped")
    return 1 if "FAIL" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
