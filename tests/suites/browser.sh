#!/bin/bash
# Headless Chromium through the release binary; leaves a picture in target/browser.png.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

if [ "$(id -u)" -ne 0 ]; then
  skip browser "network namespaces need root"
  report
  exit
fi
need_apt iproute2 util-linux procps openssl chromium || die "the browser test needs these packages"
command -v node >/dev/null && command -v npm >/dev/null || need_apt nodejs npm || die "the browser test needs Node"
BROWSER_NODE=$(node_packages browser playwright-core@1.56.1) || die "playwright-core does not install"
ECHOMESH=$(build_node) || die "the node does not build"
ECHOMESH_LAB=$(build_lab)/echomesh-lab || die "the lab does not build"
export BROWSER_NODE ECHOMESH ECHOMESH_LAB
exec python3 "$root/tests/netns/run.py" --in "$root/tests/browser" "$@"
