#!/bin/bash
# The release binary in network namespaces with invented global addresses. Arguments: patterns of test names.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip netns "network namespaces need root"
  report
  exit
fi
need_apt iproute2 nftables util-linux procps openssl curl python3 faketime || die "the namespace tests need these packages"
ECHOMESH=$(build_node) || die "the node does not build"
ECHOMESH_LAB=$(build_lab)/echomesh-lab || die "the lab does not build"
export ECHOMESH ECHOMESH_LAB
exec python3 "$root/tests/netns/run.py" --jobs 2 "$@"
