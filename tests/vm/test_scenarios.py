"""`scripts/vmlab run`, with the scenario of a lease from end to end."""
import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Scenarios(unittest.TestCase):
    def run_by_hand(self, *words):
        """What somebody with these words at a prompt sees, and where it lies."""
        # Whoever has no terminal leaves an input open that never ends.
        read, write = os.pipe()
        self.addCleanup(os.close, write)
        self.addCleanup(os.close, read)
        words = [ROOT / "scripts/vmlab", "run", *words]
        done = subprocess.run(words, cwd=ROOT, stdin=read, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout, pathlib.Path(re.search(r"(?m)^logs: (.*)$", done.stdout)[1])

    def test_a_lease_from_end_to_end(self):
        shown, logs = self.run_by_hand("tests/vm/scenarios/lease.sh", os.environ["ECHOMESH_VM"])
        self.assertRegex(shown, r'"bytes":1000000,.*"endpoint":"44\.2\.2\.2:4\d{4}".*"status":200')
        self.assertRegex(shown, r"(?m)^Path +software")
        self.assertIn('"status":200', (logs / "scenario.log").read_text(encoding="utf-8"))

    def test_a_connection_by_dnat(self):
        shown, _ = self.run_by_hand("tests/vm/scenarios/dnat.sh")
        self.assertRegex(shown, r"(?m)^the buyer got 1000000 bytes$")
        self.assertRegex(shown, r"dport=40001 .*src=44\.10\.0\.81 .*\[OFFLOAD\]")
        self.assertRegex(shown, r"(?m)^the target sees 44\.2\.2\.2$")
