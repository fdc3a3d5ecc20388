#!/bin/bash
# The guard and the node with a stand-in for OpenWrt's uci, in a network namespace of their own. UCI=/path/to/uci takes a real one and
# compares the stand-in with it. Arguments: names of tests.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip uci "the guard needs root"
  report
  exit
fi
need_apt iproute2 nftables util-linux python3 || die "the tests of UCI need these packages"
ECHOMESH=${ECHOMESH:-$(build_node)} || die "the node does not build"
export ECHOMESH
# A /tmp of their own, too: there are the uncommitted changes of whoever uses uci on this machine.
exec unshare --net --mount sh -c 'mount -t tmpfs tmpfs /tmp && ip link set lo up && exec python3 -B "$0" "$@"' "$root/tests/uci/test_uci.py" "$@"
