# The release binary on a bus of the tests' own: every method, errors, events, pages, bounds, a bus that goes and comes again.
. "$(dirname "$0")/../../scripts/lib.sh"
ECHOMESH=$(build_node) || die "the node does not build"
export ECHOMESH
exec python3 -B "$root/tests/ubus/test_ubus.py" "$@"
