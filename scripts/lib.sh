# Shared by scripts/* and tests/suites/*: sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# need_apt PKG...: installs the Debian packages that are missing; fails if it may not.
need_apt() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || { say "missing packages: ${missing[*]}"; return 1; }
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { say "missing packages, and no root to install them: ${missing[*]}"; return 1; }
    as_root=(sudo -n)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }' sh "${missing[@]}" >&2
}

# need_toolchain: Rust and a C compiler, without which nothing can be built. Rust is not installed by force.
need_toolchain() {
  command -v cc >/dev/null || need_apt gcc libc6-dev || die "Please install a C compiler (Debian: apt install gcc libc6-dev)"
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || die "Please install Rust 1.88 or later: https://rustup.rs, or: apt install cargo (Debian 13 backports)"
}

# need_python: Python with all of its standard library; python3-minimal has a part of it.
need_python() {
  python3 -c 'import json, unittest' 2>/dev/null || need_apt python3 python3-venv || die "Please install python3 (Debian: apt install python3 python3-venv)"
}

# venv NAME PKG...: a Python environment under target/ with exactly these packages; prints its python.
venv() {
  local name=$1 dir wanted
  shift
  dir=$root/target/venv/$name
  wanted="$*"
  if [ "$(cat "$dir/.wanted" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$dir"
    mkdir -p "$root/target/venv"
    python3 -m venv "$dir" >&2 || { need_apt python3-venv && python3 -m venv "$dir" >&2; } || return 1
    "$dir/bin/pip" install -q --disable-pip-version-check "$@" >&2 || return 1
    printf '%s' "$wanted" >"$dir/.wanted"
  fi
  printf '%s\n' "$dir/bin/python"
}

# golden_python: the python of everything that is checked by an independent implementation.
golden_python() { venv golden cryptography==50.0.2 blake3==1.0.11 jsonschema==4.26.0 pyyaml==6.0.3; }

# node_packages NAME PKG@VERSION...: npm packages under target/; prints the directory to require them from.
node_packages() {
  local dir=$root/target/npm/$1 wanted
  shift
  wanted="$*"
  if [ "$(cat "$dir/.wanted" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    printf '{"private":true}' >"$dir/package.json"
    (cd "$dir" && npm install --silent --no-audit --no-fund --ignore-scripts "$@" >&2) || return 1
    printf '%s' "$wanted" >"$dir/.wanted"
  fi
  printf '%s\n' "$dir"
}

# build_node: the release binary, without the lab; prints its path. NODE_PROFILE=lab builds in a third of the time, for
# those who change something and look at it often.
build_node() {
  local profile=${NODE_PROFILE:-release}
  (cd "$root" && cargo build --profile "$profile" --locked --bin echomesh >&2) || return 1
  printf '%s\n' "$root/target/$profile/echomesh"
}

# build_lab: both binaries with the feature `lab`, in a directory of their own; prints that directory.
build_lab() {
  (cd "$root" && cargo build --profile lab --locked --features lab --bins --target-dir target/lab >&2) || return 1
  printf '%s\n' "$root/target/lab/lab"
}

# build_mutants: the node from which rules can be taken out, and the lab, in a directory of their own; prints that directory.
build_mutants() {
  (cd "$root" && cargo build --profile lab --locked --features mutants --bins --target-dir target/mutants >&2) || return 1
  printf '%s\n' "$root/target/mutants/lab"
}

# can_make_namespaces: whether network namespaces can be made here: by root, or in a user namespace.
can_make_namespaces() { [ "$(id -u)" -eq 0 ] || unshare -Urmn true 2>/dev/null; }

# with_namespaces COMMAND...: becomes the command, as root or as root of a user namespace of its own.
with_namespaces() {
  [ "$(id -u)" -eq 0 ] && exec "$@"
  can_make_namespaces || die "network namespaces need root, or unprivileged user namespaces"
  exec unshare -Urmn sh -c 'mount -t tmpfs run /run && exec "$@"' sh "$@"
}

# Counting of checks inside a suite: `check NAME COMMAND...`, `skip NAME REASON`, then `report`.
passed=0 failed=0 skipped=0
check() {
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    say "FAIL $name"
  fi
}
skip() {
  skipped=$((skipped + 1))
  printf 'skipped %s: %s\n' "$1" "$2"
}
report() {
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

# counted NAME COMMAND...: runs a command that ends with `N passed, N failed, N skipped` and adds those numbers;
# a command that dies without that line, or fails while it says 0 failed, is a failure.
counted() {
  local name=$1 out status line
  shift
  out=$(mktemp)
  "$@" 2>&1 | tee "$out"
  status=${PIPESTATUS[0]}
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$out" | tail -n 1)
  rm -f "$out"
  add_counts "$name" "$status" "$line"
}
add_counts() {
  local name=$1 status=$2 p f s
  if [ -z "$3" ]; then
    failed=$((failed + 1))
    say "FAIL $name: ended (status $status) without its counts"
    return
  fi
  read -r p f s < <(printf '%s\n' "$3" | tr -cs '0-9' ' ' | sed 's/^ //')
  [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && { f=1; say "FAIL $name: status $status with no failure counted"; }
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# cargo_tests NAME ARG...: `cargo test ARG...`; adds up every `test result:` line. An ignored test prints its reason itself.
cargo_tests() {
  local name=$1 out status p f s
  shift
  out=$(mktemp)
  (cd "$root" && cargo test --locked --no-fail-fast "$@" 2>&1) | tee "$out" | grep -vE '^(test .* ok|running [0-9]+ tests?|)$|^ *(Compiling|Downloaded|Downloading|Running|Finished) '
  status=${PIPESTATUS[0]}
  # A test that another one runs in a process of its own (`ignored, run by ...`) is no skip.
  read -r p f s < <(awk '/^test result:/ { p += $4; f += $6; s += $8 } /\.\.\. ignored, run by / { s-- }
    END { printf "%d %d %d\n", p, f, s }' "$out")
  rm -f "$out"
  [ "$status" -ne 0 ] && [ "$f" -eq 0 ] && { f=1; say "FAIL $name: cargo ended with status $status"; }
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
