#!/usr/bin/env python3
"""by_crate.py NM BINARY: the bytes of an unstripped binary by the crate that defines them, largest first.

A generic function goes to the crate whose types it was made for, if that is ours; what has no Rust name is C (ring's, or musl's).
"""
import collections
import re
import subprocess
import sys

OURS = "echomesh"


def crate_of(name):
    if not name.startswith("<") and "::" not in name:
        return "ring (C)" if "ring_core" in name or name.startswith(("GFp_", "fiat_", "x25519_", "bn_", "p256_", "p384_", "gcm_", "aes_nohw", "ecp_nistz")) else "C, others"
    if re.search(rf"\b{OURS}(\[[0-9a-f]+\])?::", name):
        return OURS
    first = re.match(r"<?(?:&|mut |dyn |\(|\[|\*const |\*mut )*([A-Za-z_0-9]+)(\[[0-9a-f]+\])?::", name)
    return first.group(1) if first else "generic, no crate"


def by_crate(nm, binary):
    """Bytes by crate, of text and data that have a name."""
    out = subprocess.run([nm, "-S", "-C", binary], check=True, capture_output=True, text=True).stdout
    sizes, seen = collections.Counter(), set()
    for line in out.splitlines():
        match = re.match(r"([0-9a-f]+) ([0-9a-f]+) ([tTrRdDwWVvuiB]) (.*)", line)
        if not match or match.group(3) == "B" or (match.group(1), match.group(2)) in seen:
            continue
        seen.add((match.group(1), match.group(2)))
        sizes[crate_of(match.group(4))] += int(match.group(2), 16)
    return sizes


if __name__ == "__main__":
    for crate, size in by_crate(*sys.argv[1:3]).most_common():
        print(f"{size:9} {crate}")
