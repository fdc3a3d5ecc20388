#!/usr/bin/env python3
"""Runs the namespace tests: run.py [--in DIR] [--jobs N] [PATTERN...]; ends with `N passed, N failed, N skipped`.

A PATTERN is a substring of `module.Class.test`. ECHOMESH and ECHOMESH_LAB name the binaries; KEEP=1 keeps directories.
With jobs, so many classes run at once, each in a process of its own: most of them wait. A class with `alone = True` measures, and runs
when no other does.
"""
import argparse
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


class Told(unittest.TextTestResult):
    """One line per test with its time; reasons of skips in full."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.passed = 0

    def startTest(self, test):
        self.began = time.monotonic()
        unittest.TestResult.startTest(self, test)

    def _line(self, word, test):
        print(f"{word} {test.id() if hasattr(test, 'id') else test} ({time.monotonic() - getattr(self, 'began', time.monotonic()):.1f} s)", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self._line("ok  ", test)

    def addError(self, test, err):
        unittest.TestResult.addError(self, test, err)
        self._line("FAIL", test)
        print(self.errors[-1][1], flush=True)

    def addFailure(self, test, err):
        unittest.TestResult.addFailure(self, test, err)
        self._line("FAIL", test)
        print(self.failures[-1][1], flush=True)

    def addSubTest(self, test, subtest, err):
        unittest.TestResult.addSubTest(self, test, subtest, err)
        if err:
            self._line("FAIL", subtest)
            print((self.failures or self.errors)[-1][1] if issubclass(err[0], test.failureException) else self.errors[-1][1], flush=True)

    def addSkip(self, test, reason):
        unittest.TestResult.addSkip(self, test, reason)
        print(f"skipped {test}: {reason}", flush=True)

    def printErrors(self):
        pass


def each(suite):
    for test in suite:
        yield from each(test) if isinstance(test, unittest.TestSuite) else [test]


def name_of(test):
    return f"{type(test).__module__}.{type(test).__qualname__}."


def run_here(tests):
    # Classes stay together, so that each world is made once.
    runner = unittest.TextTestRunner(resultclass=Told, verbosity=0, stream=open("/dev/null", "w", encoding="utf-8"))
    result = runner.run(unittest.TestSuite(tests))
    return result.passed, len(result.failures) + len(result.errors), len(result.skipped)


class Processes:
    """Classes of tests in processes of their own. What one says is printed when it has ended."""

    def __init__(self, where, patterns):
        self.command = [sys.executable, __file__, "--in", where]
        self.patterns = patterns
        self.counts = [0, 0, 0]
        self.lock = threading.Lock()
        self.live = set()

    def run(self, tests):
        # A pattern must not let more of the class in than was asked for.
        ids = [t.id() for t in tests] if self.patterns else [name_of(tests[0])]
        # Ctrl-C reaches it through us, once.
        child = subprocess.Popen([*self.command, *ids], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", process_group=0)
        with self.lock:
            self.live.add(child)
        said, _ = child.communicate()
        *lines, last = said.rstrip("\n").split("\n")
        found = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", last)
        if not found:
            # It died; that is a failure whatever it was about to say.
            lines, found = [*lines, last, f"FAIL {name_of(tests[0])} ended with {child.returncode}"], None
        with self.lock:
            self.live.discard(child)
            print("\n".join(lines), flush=True)
            self.counts = [n + int(m) for n, m in zip(self.counts, found.groups() if found else (0, 1, 0))]

    def all(self, classes, jobs):
        left = list(reversed(classes))

        def work():
            while True:
                with self.lock:
                    if not left:
                        return
                    tests = left.pop()
                self.run(tests)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end(self):
        with self.lock:
            for child in self.live:
                child.send_signal(signal.SIGTERM)
            live = list(self.live)
        for child in live:
            child.wait(30)


def run_apart(tests, jobs, where, patterns):
    classes = {}
    for test in tests:
        classes.setdefault(type(test), []).append(test)
    processes = Processes(where, patterns)
    try:
        together = [found for one, found in classes.items() if not getattr(one, "alone", False)]
        # The long ones first, so that none is left over at the end.
        processes.all(sorted(together, key=len, reverse=True), jobs)
        processes.all([found for one, found in classes.items() if getattr(one, "alone", False)], 1)
    except KeyboardInterrupt:
        processes.end()
        raise
    return processes.counts


def main():
    # As Ctrl-C: what stands is removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    words = argparse.ArgumentParser()
    words.add_argument("--in", dest="where", default=str(HERE))
    words.add_argument("--jobs", type=int, default=1)
    words.add_argument("patterns", nargs="*")
    asked = words.parse_args()
    found = unittest.defaultTestLoader.discover(asked.where, "test_*.py", asked.where)
    chosen = [t for t in each(found) if not asked.patterns or any(p in t.id() for p in asked.patterns)]
    # A module that cannot be loaded has no class of its own.
    apart = asked.jobs > 1 and not any(isinstance(t, unittest.loader._FailedTest) for t in chosen)
    try:
        passed, failed, skipped = run_apart(chosen, asked.jobs, asked.where, asked.patterns) if apart else run_here(chosen)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
