# shellcheck shell=bash
# The routers we build for, as OpenWrt names their ABIs: sourced by the scripts beside it.

targets=(mipsel-unknown-linux-musl mips-unknown-linux-musl armv7-unknown-linux-musleabi aarch64-unknown-linux-musl x86_64-unknown-linux-musl)

# flags_of TARGET: rustc's flags that this target needs.
flags_of() {
  case $1 in
    # zig's static position-independent executables crash at the first thread there.
    # Rust checks divisors itself; the compiler's own trap behind each division would be a second check.
    mips*) printf '%s\n' -Crelocation-model=static --cfg=echomesh_static -Cllvm-args=-mno-check-zero-division ;;
    # rustc's own start files and zig's would both define _start.
    *) printf '%s\n' -Clink-self-contained=no ;;
  esac
  case $1 in
    # Without it the crate libc hands musl 1.2 instants of 32 bits, rustix its own of 64.
    mips* | arm*) printf '%s\n' --cfg=libc_unstable_musl_v1_2 ;;
  esac
}

# binutils_of TARGET: the Debian package and the prefix of the binutils that know the target's sections.
binutils_of() {
  case $1 in
    mipsel-*) printf 'binutils-mipsel-linux-gnu mipsel-linux-gnu-\n' ;;
    mips-*) printf 'binutils-mips-linux-gnu mips-linux-gnu-\n' ;;
    armv7-*) printf 'binutils-arm-linux-gnueabi arm-linux-gnueabi-\n' ;;
    aarch64-*) printf 'binutils-aarch64-linux-gnu aarch64-linux-gnu-\n' ;;
    x86_64-*) printf 'binutils-x86-64-linux-gnu x86_64-linux-gnu-\n' ;;
  esac
}

# qemu_of TARGET: the emulator that runs its programs here; empty for the machine's own.
qemu_of() {
  case $1 in
    mipsel-*) printf 'qemu-mipsel-static\n' ;;
    mips-*) printf 'qemu-mips-static\n' ;;
    armv7-*) printf 'qemu-arm-static\n' ;;
    aarch64-*) printf 'qemu-aarch64-static\n' ;;
  esac
}
