# Every fuzz target for FUZZ_SECONDS (60) from its seeds, two at a time. Stable Rust, no cargo-fuzz: the sanitizer-coverage pass is
# switched on by hand, for the target only (`--target`), so that build scripts stay plain. What is found is kept in fuzz/artifacts.
. "$(dirname "$0")/../../scripts/lib.sh"
seconds=${FUZZ_SECONDS:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions"

command -v c++ >/dev/null || need_apt g++ || { skip fuzz "libFuzzer needs a C++ compiler"; report; exit; }
(cd "$root/fuzz" && RUSTFLAGS=$flags cargo build --release --locked --target "$host" --bins) >&2 ||
  { check "the fuzz targets build" false; report; exit; }

fuzz() {
  local name=$1 log=$root/fuzz/target/$1.log known
  mkdir -p "$root/fuzz/corpus/$name" "$root/fuzz/artifacts/$name" "$root/fuzz/seeds/$name"
  "$root/fuzz/target/$host/release/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=20000 \
    -artifact_prefix="$root/fuzz/artifacts/$name/" "$root/fuzz/corpus/$name" "$root/fuzz/seeds/$name" >"$log" 2>&1 || return 1
  # Coverage that does not grow past the seeds' first run would mean that nothing is instrumented.
  known=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)
  [ "${known:-0}" -gt 20 ]
}

run() {
  local name=$1 log=$root/fuzz/target/$1.log
  if fuzz "$name"; then
    echo "$name: $(grep -E 'cov: ' "$log" | tail -n 1 | sed 's/^#/run /')"
    : >"$log.ok"
  else
    tail -n 40 "$log"
  fi
}

names=()
for file in "$root"/fuzz/fuzz_targets/*.rs; do
  names+=("$(basename "$file" .rs)")
done
rm -f "$root"/fuzz/target/*.log.ok
for ((i = 0; i < ${#names[@]}; i += 2)); do
  run "${names[i]}" &
  [ -z "${names[i + 1]:-}" ] || run "${names[i + 1]}"
  wait
done
for name in "${names[@]}"; do
  check "fuzz $name" test -e "$root/fuzz/target/$name.log.ok"
done
report
