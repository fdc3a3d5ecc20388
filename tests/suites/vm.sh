#!/bin/bash
# The packaged binary in virtual machines with a router's processor and memory. Arguments: patterns of test names.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip vm "TAP devices and network namespaces need root"
  report
  exit
fi
if [ ! -c /dev/net/tun ]; then
  skip vm "there is no /dev/net/tun"
  report
  exit
fi
need_apt iproute2 util-linux procps openssl curl python3 kmod qemu-system-mips qemu-system-x86 nftables make gcc-12 || die "the machines need these packages"
ECHOMESH=$("$root/cross/build" mipsel-unknown-linux-musl) || die "the node does not build for mipsel"
ECHOMESH_LAB=$(build_lab)/echomesh-lab || die "the lab does not build"
# What the machine gets is what opkg would unpack.
ECHOMESH_TREE=$root/target/vm/tree packages=$root/target/vm/packages
rm -rf "$ECHOMESH_TREE" "$packages"
mkdir -p "$ECHOMESH_TREE"
"$root/scripts/package" mipsel-unknown-linux-musl --binary "$ECHOMESH" --arch mipsel_24kc --out "$packages" >&2 || die "the package cannot be made"
tar -xzOf "$packages"/mipsel_24kc/*.ipk ./data.tar.gz | tar -xpzf - -C "$ECHOMESH_TREE" || die "the package cannot be unpacked"
# The x86_64 machines get the binary as it is, with this machine's libraries.
ECHOMESH_VM=$(build_node) || die "the node does not build"
export ECHOMESH ECHOMESH_LAB ECHOMESH_TREE ECHOMESH_VM
exec python3 "$root/tests/netns/run.py" --jobs 2 --in "$root/tests/vm" "$@"
