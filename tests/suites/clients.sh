#!/bin/bash
# Buyers' programs through the release binary, in network namespaces: curl, requests, httpx, undici, https-proxy-agent, openssl.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip clients "network namespaces need root"
  report
  exit
fi
need_apt iproute2 util-linux procps openssl curl python3-venv || die "the client tests need these packages"
command -v node >/dev/null && command -v npm >/dev/null || need_apt nodejs npm || die "the client tests need Node"
CLIENTS_PYTHON=$(venv clients requests==2.32.5 httpx==0.28.1) || die "requests and httpx do not install"
CLIENTS_NODE=$(node_packages clients undici@6.21.3 https-proxy-agent@7.0.6) || die "the Node packages do not install"
ECHOMESH=$(build_node) || die "the node does not build"
ECHOMESH_LAB=$(build_lab)/echomesh-lab || die "the lab does not build"
export CLIENTS_PYTHON CLIENTS_NODE ECHOMESH ECHOMESH_LAB
exec python3 "$root/tests/netns/run.py" --in "$root/tests/clients" "$@"
