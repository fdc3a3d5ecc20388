# Parts of the node against the lab in one process: the tests of tests/*.rs and tests/*/main.rs that no other suite names.
. "$(dirname "$0")/../../scripts/lib.sh"
need_apt nftables iproute2 || die "tests/caps.rs makes a router of namespaces"
tests=()
for file in "$root"/tests/*.rs "$root"/tests/*/main.rs; do
  [ -f "$file" ] || continue
  name=$(basename "${file%/main.rs}" .rs)
  case $name in golden_*) continue ;; esac
  grep -qE -- "--test $name( |\$)" "$root"/tests/suites/*.sh || tests+=(--test "$name")
done
[ ${#tests[@]} -eq 0 ] || cargo_tests "integration tests" --features lab "${tests[@]}"
report
