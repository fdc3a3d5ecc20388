# Parts of the node against the lab in one process: the tests of tests/*.rs that no other suite names.
. "$(dirname "$0")/../../scripts/lib.sh"
tests=()
for file in "$root"/tests/*.rs; do
  name=$(basename "$file" .rs)
  case $name in golden_*) continue ;; esac
  grep -qE -- "--test $name( |\$)" "$root"/tests/suites/*.sh || tests+=(--test "$name")
done
[ ${#tests[@]} -eq 0 ] || cargo_tests "integration tests" --features lab "${tests[@]}"
report
