#!/bin/bash
# The demo, as a visitor runs it: status 0, under 60 seconds after the build, nothing left behind.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

need_apt curl || { skip demo "the demo needs curl"; report; exit; }
binaries=$(build_lab) || die "the lab does not build"
out=$root/target/demo.out
quick_enough() {
  local start=$SECONDS
  TMPDIR=$scratch timeout 120 "$binaries/echomesh-lab" demo >"$out" 2>&1 || { tail -n 40 "$out"; return 1; }
  [ $((SECONDS - start)) -lt 60 ] || { say "the demo took $((SECONDS - start)) s"; return 1; }
}
agrees() { grep -q '^✓ sums' "$out"; }
refuses() { [ "$(grep -c '^✓ refused' "$out")" -eq 4 ]; }
leaves_nothing() { [ -z "$(ls -A "$scratch")" ]; }
stops() {
  local pid
  TMPDIR=$scratch "$binaries/echomesh-lab" demo --keep >"$out" 2>&1 &
  pid=$!
  for _ in $(seq 300); do
    grep -q 'Ctrl-C ends it' "$out" && break
    sleep 0.2
  done
  kill -INT "$pid"
  wait "$pid"
  [ $? -eq 130 ] && leaves_nothing
}
scratch=$(mktemp -d)
check "the demo ends well and in time" quick_enough
check "all sums agree" agrees
check "every refusal is the right one" refuses
check "nothing is left behind" leaves_nothing
check "a kept demo ends on Ctrl-C and leaves nothing" stops
rm -rf "$scratch"
report
