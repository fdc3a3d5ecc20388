"""The bytes of an unstripped binary by the crate that defines them."""
import collections
import re
import subprocess

OURS = "echomesh"
# What C code is called in the crates that bring some.
_RING = ("GFp_", "LIMB", "bn_", "fe_", "fiat_", "gcm_", "aes_", "ecp_", "p256_", "p384_", "point_", "x25519_", "sha")


def crate_of(name):
    """A generic function goes to the crate whose types it was made for, if that is ours; what has no Rust name is C."""
    if "::" not in name:
        return "ring, in C" if "ring_core" in name or name.startswith(_RING) else "musl and others in C"
    if re.search(rf"\b{OURS}(\[[0-9a-f]+\])?::", name):
        return OURS
    first = re.match(r"[<&*( \[]*(?:mut |const |dyn )*([A-Za-z_0-9]+)(\[[0-9a-f]+\])?::", name)
    return first.group(1) if first else "generic, of no crate"


def by_crate(nm, binary):
    """Bytes by crate of all code and data that have a name."""
    out = subprocess.run([nm, "-S", "-C", binary], check=True, capture_output=True, text=True).stdout
    sizes, seen = collections.Counter(), set()
    for line in out.splitlines():
        match = re.match(r"([0-9a-f]+) ([0-9a-f]+) [tTrRdDwWvV] (.*)", line)
        # Functions that were folded into one have one address.
        if match and match[1] not in seen:
            seen.add(match[1])
            sizes[crate_of(match[3])] += int(match[2], 16)
    return sizes
