# Unit tests, in the modules they test, and the documentation's examples. The property tests have a suite of their own.
. "$(dirname "$0")/../../scripts/lib.sh"
cargo_tests "unit tests" --features lab --lib --bins
report
