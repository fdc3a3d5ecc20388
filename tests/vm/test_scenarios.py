"""`scripts/vmlab run`, with the scenario of a lease from end to end."""
import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Scenarios(unittest.TestCase):
    def test_a_lease_from_end_to_end(self):
        # Whoever has no terminal leaves an input open that never ends.
        read, write = os.pipe()
        self.addCleanup(os.close, write)
        self.addCleanup(os.close, read)
        words = [ROOT / "scripts/vmlab", "run", "tests/vm/scenarios/lease.sh", os.environ["ECHOMESH_VM"]]
        done = subprocess.run(words, cwd=ROOT, stdin=read, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r'"bytes":1000000,.*"endpoint":"44\.2\.2\.2:4\d{4}".*"status":200')
        self.assertRegex(done.stdout, r"(?m)^Path +software")
        logs = pathlib.Path(re.search(r"(?m)^logs: (.*)$", done.stdout)[1])
        self.assertIn('"status":200', (logs / "scenario.log").read_text(encoding="utf-8"))
