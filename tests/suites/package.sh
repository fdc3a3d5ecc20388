# The packages: formats byte by byte, tree and modes, signatures, a router's life cycle in a fake root, the init script.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

need_apt make openssl signify-openbsd busybox-static || die "the package tests need these packages"
python=$(golden_python) || die "the Python environment cannot be made"
if need_apt shellcheck; then
  check shellcheck shellcheck -x -P SCRIPTDIR "$root"/openwrt/files/echomesh.{init,defaults} "$root/openwrt/test.sh" "$root/scripts/package"
else
  skip shellcheck "the package shellcheck cannot be installed"
fi
ECHOMESH=$(build_node) || die "the node does not build"
export ECHOMESH
counted package "$python" -B "$root/tests/netns/run.py" --in "$root/tests/package" "$@"
report
