"""Child processes, ended by their pid."""
import os
import signal
import subprocess
import time


class Process:
    """A program of a test, with its output in a file."""

    def __init__(self, command, log, env=None):
        self.log = log
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
            )
        self.pid = self.child.pid

    def alive(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, seconds):
        """Exit status, or None if it still runs."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, seconds=5):
        """SIGTERM, then SIGKILL; gives seconds until it was gone."""
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        if self.wait(seconds) is None:
            self.kill()
        return time.monotonic() - start

    def kill(self):
        self.signal(signal.SIGKILL)
        self.child.wait()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    # ---- figures out of /proc

    def _status(self, *names):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            found = dict(line.rstrip().split(":", 1) for line in f)
        return [int(found[name].split()[0]) for name in names]

    def rss_kb(self):
        return self._status("VmRSS")[0]

    def rss_parts_kb(self):
        """Anonymous pages, and those of mapped files."""
        return self._status("RssAnon", "RssFile")

    def pss_kb(self):
        """Resident pages, those that several processes share by their share."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))

    def wakeups(self):
        """Context switches of all threads so far."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status", encoding="ascii") as f:
                total += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
        return total

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))
