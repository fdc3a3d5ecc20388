# The property tests once more, each with PROPTEST_CASES (2048) cases: among the unit tests they run with proptest's 256.
# A property test is one that takes arguments.
. "$(dirname "$0")/../../scripts/lib.sh"
mapfile -t names < <(cd "$root" && grep -rl 'proptest! {' src | xargs perl -0777 -ne 'print "$1\n" while /#\[test\]\s*fn (\w+)\(\s*[^\s)]/g' | sort -u)
check "there are property tests" test "${#names[@]}" -gt 10
# The node as a whole writes a journal at every step: a tenth of the cases.
whole=nothing_passes_that_the_rules_refuse_and_all_that_passed_is_settled
PROPTEST_CASES=${PROPTEST_CASES:-2048} cargo_tests "property tests" --features lab --lib -- --skip "$whole" "${names[@]}"
PROPTEST_CASES=$((${PROPTEST_CASES:-2048} / 10)) cargo_tests "property test of the node" --features lab --lib -- "$whole"
report
