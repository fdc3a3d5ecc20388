#!/bin/bash
# Cross-builds: size against cross/size.toml, the same bytes from another folder, and each binary run by qemu-user.
# CROSS_TARGETS: which targets (mipsel and x86_64; a release builds `all`).
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$root/cross/targets.sh"

read -ra wanted <<<"${CROSS_TARGETS:-mipsel-unknown-linux-musl x86_64-unknown-linux-musl}"
[ "${wanted[*]}" != all ] || wanted=("${targets[@]}")
need_toolchain
need_apt qemu-user-static || die "the binaries of other processors need qemu-user"

# says_version PROGRAM...: it starts, and knows its version.
says_version() {
  local said wanted
  wanted="echomesh $(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)"
  said=$("$@" --version) && [ "$said" = "$wanted" ]
}

# judges_config PROGRAM...: a good configuration is good, a bad one is named, and both with the right exit code.
judges_config() {
  local said
  "$@" config check "$root/tests/config_corpus/valid/full-shown.uci" >/dev/null || return 1
  said=$("$@" config check "$root/tests/config_corpus/valid/full.yaml" 2>&1)
  [ $? -eq 78 ] && grep -q 'reads no YAML' <<<"$said" || return 1
  said=$(printf '{"version":1,"network":{"maxMbps":-3}}' | "$@" config check /dev/stdin 2>&1)
  [ $? -eq 78 ] && grep -q maxMbps <<<"$said"
}

# same_bytes TARGET: this tree in another folder gives the same binary.
same_bytes() {
  local other
  other=$(mktemp -d)
  (cd "$root" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$other" 2>/dev/null)
  mkdir -p "$other/target/cross"
  ln -s "$root/target/venv" "$other/target/venv"
  for found in "$root"/target/cross/rust-src-*; do [ ! -d "$found" ] || ln -s "$found" "$other/target/cross/"; done
  "$other/cross/build" "$1" >/dev/null && cmp "$root/target/cross/bin/$1/echomesh" "$other/target/cross/bin/$1/echomesh"
  local same=$?
  rm -rf "$other"
  return $same
}

# no_more_ends_in_2038 TARGET: of musl's functions for instants of 32 bits the program has those that the standard library calls, and no others. Its clock
# fails in January 2038 (docs/decisions.md); where it no longer does, this list gets shorter.
no_more_ends_in_2038() {
  local package prefix headers renamed found
  read -r package prefix < <(binutils_of "$1")
  need_apt "$package"
  headers=$(find "$root/target/venv/zig" -type d -path '*/libc/include/generic-musl' | head -n 1)
  renamed=$(grep -rhoE '__REDIR\([a-z_0-9]+, *__[a-z_0-9]*64' "$headers" | sed -E 's/__REDIR\(([a-z_0-9]+),.*/\1/' | sort -u)
  [ -n "$renamed" ] || return 1
  found=$("${prefix}nm" --defined-only "$root/target/cross/bin/$1/echomesh.symbols" | awk '$2 ~ /[TW]/ { print $3 }' | sort -u | comm -12 - <(printf '%s\n' "$renamed"))
  [ "${found//$'\n'/ }" = "clock_gettime clock_nanosleep fstat lstat stat" ] || { say "of 32 bits: ${found//$'\n'/ }"; return 1; }
}

for target in "${wanted[@]}"; do
  counted "size of $target" "$root/cross/size" "$target"
  binary=$root/target/cross/bin/$target/echomesh
  # shellcheck disable=SC2046 # the machine's own target has no emulator: then there is no word
  check "$target says its version" says_version $(qemu_of "$target") "$binary"
  # shellcheck disable=SC2046
  check "$target judges configurations" judges_config $(qemu_of "$target") "$binary"
  case $target in mips* | arm*) check "$target has no more that ends in 2038" no_more_ends_in_2038 "$target" ;; esac
done
check "mipsel from another folder has the same bytes" same_bytes mipsel-unknown-linux-musl

# The main path, refusals and limits by the emulated binary, against the lab on this machine.
if [ "$(id -u)" -ne 0 ]; then
  skip "the scenario under qemu-user" "network namespaces need root"
  report
  exit
fi
need_apt iproute2 util-linux procps openssl || die "the namespace tests need these packages"
ECHOMESH_LAB=$(build_lab)/echomesh-lab || die "the lab does not build"
export ECHOMESH_LAB ECHOMESH EMULATED=1
for target in "${wanted[@]}"; do
  emulator=$(qemu_of "$target")
  [ -n "$emulator" ] || continue
  ECHOMESH=$root/target/cross/$emulator-echomesh
  printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$emulator" "$root/target/cross/bin/$target/echomesh" >"$ECHOMESH"
  chmod +x "$ECHOMESH"
  counted "$target carries and refuses" python3 "$root/tests/netns/run.py" test_path test_refusals
done
report
