#!/usr/bin/env python3
"""Runs the adversarial corpus (tests/corpus) against a node, from outside."""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests" / "netns")]

import corpus  # noqa: E402
import kinds  # noqa: E402

WIDTHS = (4, 26, 27, 20)


class Result:
    def __init__(self, attack, verdict, seen="", note="", expect=None):
        self.attack, self.verdict, self.seen, self.note = attack, verdict, seen, note
        self.expect = expect or attack.expect

    def line(self):
        cells = [self.verdict, self.attack.name, self.attack.what, self.seen or "-"]
        text = " ".join(fit(cell, width) for cell, width in zip(cells, WIDTHS)) + " "
        wanted = self.expect if self.verdict != "skip" else ""
        return (text + fit(wanted, 100 - len(text))).rstrip() + (f"\n     {self.note}" if self.note else "")


def fit(text, width):
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


class Run:
    """One pass through some attacks, with what each one must leave untouched."""

    def __init__(self, world):
        self.world = world
        self.results, self.touched = [], []

    def each(self, attacks, tell=True):
        category = None
        for attack in attacks:
            if tell and attack.category != category:
                category = attack.category
                print(f"-- {category}: tried, answered, expected", flush=True)
            result = self.one(attack)
            self.results.append(result)
            if tell:
                print(result.line(), flush=True)
        return self.results

    def one(self, attack):
        if missing := kinds.needs(attack) - self.world.provides:
            return Result(attack, "skip", note=f"needs {', '.join(sorted(missing))}")
        if self.world.stranger and attack.category == "hello":
            return Result(attack, "skip", note="a tunnel needs a session")
        for turn in range(3):
            before, counts = self.world.reached(), self.world.refusals()
            try:
                answer = kinds.run(attack, self.world)
            except (OSError, EOFError, AssertionError) as e:
                words = f"{type(e).__name__}: {e}"
            else:
                words = answer.words
            if words.startswith("429") and not attack.expect.startswith("429"):
                self.world.rest(turn)
                continue
            break
        words = self._with_slug(words, counts)
        return self._judge(attack, words, self._new(before, dialled(words)))

    def _with_slug(self, words, counts):
        """After a 200 the reason stands in the node's figures only."""
        last = words.rsplit(", ", 1)[-1]
        if counts is None or not last.startswith(("alert", "closed")):
            return words
        after = self.world.refusals()
        more = [slug for slug, n in after.items() if n > counts.get(slug, 0)]
        return " ".join([words, *more])

    def _new(self, before, awaited):
        """Connections since; a dialled one is waited for, lest it be taken for the next attack's."""
        end = time.monotonic() + 1
        while awaited and before and self.world.reached() == before and time.monotonic() < end:
            time.sleep(0.005)
        now = self.world.reached()
        return [(name, c) for name, all_of in now.items() for c in all_of[len(before[name]) :]]

    def _judge(self, attack, words, new):
        expect = self.world.expected(attack)
        if words != expect and not (self.world.node is None and _outside(expect) == words):
            return Result(attack, "FAIL", words, expect=expect)
        if attack.control:
            wrong = [name for name, _ in new if name != "target" and not name.startswith("void")]
        else:
            self.touched += [(attack, name, c) for name, c in new]
            may = dialled(attack.expect) or attack.category == "limits"
            wrong = [name for name, c in new if name != "target" or not may or c.got]
        if wrong:
            return Result(attack, "FAIL", words, f"it was refused, and yet {wrong[0]} was reached")
        return Result(attack, "ok", words, expect=expect)

    def late(self):
        """Attacks whose bytes came to the target after their turn."""
        return [attack.name for attack, _, connection in self.touched if connection.got]


def dialled(words):
    """Whether an answer like this comes after a connection to the target."""
    return words.startswith(("200", "alert", "closed", "carried"))


def _outside(expect):
    """What somebody without the node's figures sees: the alert's number, not the slug."""
    words = expect.split(" ")
    return " ".join(words[:2]) if words[0] == "alert" else expect.rsplit(" ", 1)[0] if "closed " in expect else expect


def after_all(run, world, before):
    """The checks of the run as a whole."""
    yield "nothing of a refused attack reached a target late", not run.late(), ", ".join(run.late())
    lan = world.topology.lan.received() - world.lan_received
    yield "not one packet came to the LAN", lan == 0, f"{lan} packets"
    world.fresh()
    status, body, _ = world.proxy.get(world.session({"alpn": ["http/1.1"]}), "origin.lab.test", "/")
    yield "a page of the origin still comes through", status == 200 and b"It works" in body, f"{status}"
    for who, words in [("a stranger", []), ("a buyer", _credentials(world))]:
        done = _from_elsewhere(world, words)
        yield f"--against says the same to {who}: {done.stdout.strip().splitlines()[-1:]}", done.returncode == 0, _failures(done)
    violations = world.lab.violations()
    yield "the coordinator has nothing to object to", not violations, str(violations)[:200]
    world.let_go()
    time.sleep(1)
    after = world.figures()
    grown = f"{before['kB']} kB, {before['descriptors']} descriptors → {after['kB']} kB, {after['descriptors']}"
    yield f"memory and descriptors are as before ({grown})", (
        after["kB"] < before["kB"] + 4096 and after["descriptors"] <= before["descriptors"] + 8
    ), ""


def _credentials(world):
    session = world.session()
    return ["--session", session.id, "--token", session.token]


def _from_elsewhere(world, words):
    """What `--against` says of this node, from a machine of the Internet; of fewer refused hellos than trip the breaker of a session."""
    address = "%s:%d" % world.proxy.address
    command = [sys.executable, "-B", __file__, "--against", address, "--no-check", *words]
    command += [word for part in ("auth", "port", "obs", "sni-", "passes") for word in ("--only", part)]
    return subprocess.run(world.topology.buyer.command(*command), capture_output=True, text=True, timeout=240)


def _failures(done):
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("ok", "skip", "     ", "--")))


def parse(words):
    p = argparse.ArgumentParser(
        "scripts/audit",
        description="Tries every attack of tests/corpus against a node and says how each was answered. Without --against it brings up a "
        "node and everything around it in network namespaces of its own.",
    )
    p.add_argument("--against", metavar="HOST:PORT", help="a running node's listener; what needs the lab is skipped")
    p.add_argument("--session", metavar="ID", help="a session of that node, for what only buyers can try")
    p.add_argument("--token", metavar="T", help="its token")
    p.add_argument("--host", default="target.test", help="a host that the session may reach, for what must pass")
    p.add_argument("--only", metavar="PATTERN", action="append", default=[], help="attacks whose name matches; may repeat")
    p.add_argument("--category", metavar="NAME", action="append", default=[], help=f"{', '.join(kinds.CATEGORIES)}; may repeat")
    p.add_argument("--json", action="store_true", help="one JSON object per attack instead of the table")
    p.add_argument("--list", action="store_true", help="says what there is to try, and tries nothing")
    p.add_argument("--no-check", action="store_true", help="says nothing of the corpus itself")
    p.add_argument("--check", action="store_true", help="checks the corpus alone")
    return p.parse_args(words)


def world_of(options):
    import world

    if options.against:
        host, _, port = options.against.rpartition(":")
        return world.Outside((host.strip("[]"), int(port)), options.session, options.token, options.host)
    from harness.world import why_not

    if reason := why_not():
        raise SystemExit(f"{reason}; or name a running node with --against HOST:PORT")
    return world.Own(os.environ["ECHOMESH"], os.environ["ECHOMESH_LAB"])


def counts(results, checks=()):
    verdicts = [r.verdict for r in results] + ["ok" if ok else "FAIL" for ok in checks]
    return f"{verdicts.count('ok')} passed, {verdicts.count('FAIL')} failed, {verdicts.count('skip')} skipped"


def main(words):
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse(words)
    attacks = corpus.load()
    faults = [] if options.no_check else list(corpus.faults(attacks))
    for fault in faults:
        print(f"FAIL the corpus: {fault}")
    chosen = corpus.chosen(attacks, options.only, options.category)
    if options.check or options.list:
        for attack in chosen if options.list else []:
            print(f"{attack.category:10} {attack.name:28} {fit(attack.what, 34)} {attack.expect}")
        print(f"{int(not faults)} passed, {len(faults)} failed, 0 skipped")
        return 1 if faults else 0
    world = world_of(options)
    checks = [False] * len(faults)
    try:
        if world.node:
            world.session()
        before = world.figures()
        run = Run(world)
        results = run.each(chosen, not options.json)
        for name, ok, why in after_all(run, world, before) if world.node else []:
            checks.append(ok)
            if not options.json:
                print(f"{'ok  ' if ok else 'FAIL'} {name}" + ("" if ok else f": {why}"))
    finally:
        world.close()
    if options.json:
        for r in results:
            print(json.dumps({"name": r.attack.name, "category": r.attack.category, "tried": r.attack.what, "expected": r.expect,
                              "refusedWith": r.seen, "verdict": r.verdict, "note": r.note, "rules": list(r.attack.rules)}))
    line = counts(results, checks)
    print(line, file=sys.stderr if options.json else sys.stdout)
    return 1 if " 0 failed" not in line else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
