# shellcheck shell=bash
# What a cross-build needs and Rust's stable toolchain does not bring; everything lands under target/cross: sourced by `build`.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/targets.sh"

# C compiler and linker for every target, with musl's headers and start files. 0.17 replaces parts of musl by its own.
zig() { venv zig ziglang==0.15.2 cargo-zigbuild==0.24.1; }

# rust_library: the sources of the standard library, of exactly this compiler; prints their directory.
rust_library() {
  local version sysroot dir
  version=$(rustc --version | cut -d' ' -f2)
  sysroot=$(rustc --print sysroot)
  dir=$sysroot/lib/rustlib/src/rust/library
  [ -d "$dir" ] || dir=$root/target/cross/rust-src-$version/usr/src/rustc-$version/library
  [ -d "$dir" ] || { command -v rustup >/dev/null && timeout 120 rustup component add rust-src >&2 && dir=$sysroot/lib/rustlib/src/rust/library; }
  [ -d "$dir" ] || rust_library_of_debian "$version" >&2
  [ -d "$dir" ] || die "The sources of Rust $version's standard library are needed: rustup component add rust-src"
  printf '%s\n' "$dir"
}

# Debian has them for each compiler in its backports; this machine's own sources say where Debian is.
rust_library_of_debian() {
  local version=$1 apt=$root/target/cross/apt archive package
  archive=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null)
  [ -n "$archive" ] || return 1
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : >"$apt/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie-backports main\n' "$archive" >"$apt/sources"
  cat >"$apt/conf" <<CONF
Dir::Etc::sourcelist "$apt/sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
APT::Sandbox::User "root";
CONF
  APT_CONFIG=$apt/conf apt-get -qq update || return 1
  package=$(APT_CONFIG=$apt/conf apt-cache madison rust-src | awk -v want="$version" '$3 ~ "^" want "\\+" { print $3; exit }')
  [ -n "$package" ] || { say "Debian's backports have no rust-src of $version"; return 1; }
  (cd "$apt" && APT_CONFIG=$apt/conf apt-get -qq download "rust-src=$package") || return 1
  dpkg -x "$apt"/rust-src_*.deb "$root/target/cross/rust-src-$version" && rm -f "$apt"/rust-src_*.deb
}
