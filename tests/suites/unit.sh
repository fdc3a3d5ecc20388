# Unit tests, in the modules they test.
. "$(dirname "$0")/../../scripts/lib.sh"
cargo_tests "unit tests" --features lab --lib --bins
report
