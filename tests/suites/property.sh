# Property tests run among the unit tests with proptest's default of 256 cases; here the same ones run with more.
. "$(dirname "$0")/../../scripts/lib.sh"
PROPTEST_CASES=${PROPTEST_CASES:-2048} cargo_tests "property tests" --features lab --lib -- propert
report
