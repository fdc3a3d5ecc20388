# The daemon against files that another implementation made: tests/golden_*.rs, and the vectors of the RFCs.
. "$(dirname "$0")/../../scripts/lib.sh"
tests=()
for file in "$root"/tests/golden_*.rs; do
  tests+=(--test "$(basename "$file" .rs)")
done
cargo_tests "golden files" --features lab "${tests[@]}"
report
