#!/usr/bin/env python3
"""Runs the namespace tests: run.py [--in DIR] [PATTERN...]; ends with `N passed, N failed, N skipped`.

A PATTERN is a substring of `module.Class.test`. ECHOMESH and ECHOMESH_LAB name the binaries; KEEP=1 keeps directories.
"""
import pathlib
import signal
import sys
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


def main(patterns):
    # As Ctrl-C: what stands is removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = str(HERE)
    if patterns[:1] == ["--in"]:
        where, patterns = patterns[1], patterns[2:]
    found = unittest.defaultTestLoader.discover(where, "test_*.py", where)
    chosen = unittest.TestSuite(
        t for t in each(found) if not patterns or any(p in t.id() for p in patterns)
    )
    # Classes stay together, so that each world is made once.
    runner = unittest.TextTestRunner(resultclass=Told, verbosity=0, stream=open("/dev/null", "w", encoding="utf-8"))
    try:
        result = runner.run(chosen)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
