"""The instructions that a machine has executed: the plugin, its file, and where they went."""
import array
import bisect
import mmap
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
# Of a record: address, instructions, times it ran; each a u64.
_WORDS, _SIZE = 3, 24
# MIPS: below is a process's own memory, above the kernel's (kseg0).
KERNEL = 0x80000000


def plugin(directory):
    """Builds the plugin; gives QEMU's words for it and the file it counts in."""
    program, counts = directory / "insns.so", directory / "insns.bin"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", program, HERE / "insns.c"], check=True)
    return ("-plugin", f"{program},counts={counts}"), counts


class Insns:
    """The counts of a running machine."""

    def __init__(self, path):
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)

    def now(self):
        """All records as they are."""
        number = int.from_bytes(self._map[:8], "little") + 1
        records = array.array("Q")
        records.frombytes(self._map[: number * _SIZE])
        return records


def spent(before, after):
    """Instructions between two readings."""
    return sum(n * c for n, c in zip(after[1::_WORDS], after[2::_WORDS])) - sum(n * c for n, c in zip(before[1::_WORDS], before[2::_WORDS]))


def calls(before, after, address):
    """How often the block at this address ran in between."""
    return sum(count - was for at, count, was in zip(after[::_WORDS], after[2::_WORDS], _padded(before, after)) if at & 0xFFFFFFFF == address)


def _padded(before, after):
    old = before[2::_WORDS]
    old.extend([0] * (len(after) // _WORDS - len(old)))
    return old


def blocks(before, after):
    """The same by address of the block, and how often each ran."""
    found = {}
    for address, n, count, was in zip(after[::_WORDS], after[1::_WORDS], after[2::_WORDS], _padded(before, after)):
        if count != was:
            instructions, times = found.get(address & 0xFFFFFFFF, (0, 0))
            found[address & 0xFFFFFFFF] = instructions + n * (count - was), times + count - was
    return found


def of_program(path):
    """A program's symbols as those of the kernel are written; none without such a file."""
    return subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout if path.exists() else ""


def by_symbol(found, kallsyms, program=""):
    """Instructions by function, the largest first, and how often it was called. A process's are the daemon's, which lies at the addresses it was linked for; without its symbols one line."""
    symbols = []
    for line in [*kallsyms.splitlines(), *program.splitlines()]:
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[1] in "tTwW":
            symbols.append((int(words[0], 16) & 0xFFFFFFFF, words[2].replace("\t", " ")))
    symbols.sort()
    starts = [s[0] for s in symbols]
    sums = {}
    for address, (n, times) in found.items():
        at = bisect.bisect_right(starts, address) - 1
        name = symbols[at][1] if at >= 0 else "?"
        if address < KERNEL:
            name = f"{name} (daemon)" if program else "(processes)"
        instructions, calls = sums.get(name, (0, 0))
        sums[name] = instructions + n, calls + (times if at >= 0 and starts[at] == address else 0)
    return sorted(((name, *both) for name, both in sums.items()), key=lambda item: -item[1])
