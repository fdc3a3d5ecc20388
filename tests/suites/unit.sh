# Unit tests, in the modules they test.
. "$(dirname "$0")/../../scripts/lib.sh"
command -v openssl >/dev/null || need_apt openssl || die "a test reads the node's key with openssl"
cargo_tests "unit tests" --features lab --lib --bins
report
