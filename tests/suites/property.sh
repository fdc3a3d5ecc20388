# The property tests once more, each with PROPTEST_CASES (2048) cases: among the unit tests they run with proptest's 256.
# A property test is one that takes arguments.
. "$(dirname "$0")/../../scripts/lib.sh"
mapfile -t names < <(cd "$root" && grep -rl 'proptest! {' src | xargs perl -0777 -ne 'print "$1\n" while /#\[test\]\s*fn (\w+)\(\s*[^\s)]/g' | sort -u)
check "there are property tests" test "${#names[@]}" -gt 10
PROPTEST_CASES=${PROPTEST_CASES:-2048} cargo_tests "property tests" --features lab --lib -- "${names[@]}"
report
