# The image of packaging/docker: its file tree, made from the Dockerfile without an engine, and the node in it as its user.
. "$(dirname "$0")/../../scripts/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
binary=${IMAGE_BINARY:-}
if [ -z "$binary" ] && [ -x "$root/cross/build" ]; then
  binary=$("$root/cross/build" x86_64-unknown-linux-musl 2>"$work/build.log") || { tail -n 5 "$work/build.log" >&2; binary=; }
fi
if [ -z "$binary" ]; then
  skip "docker image" "the static binary cannot be built here (cross/build x86_64-unknown-linux-musl)"
elif [ "$(uname -m)" != x86_64 ]; then
  skip "docker image" "the image's binary is for x86_64"
elif [ "$(id -u)" -ne 0 ] || ! unshare --mount --pid --net --fork true 2>/dev/null; then
  skip "docker image" "needs root and namespaces"
else
  need_apt ca-certificates
  "$root/scripts/image" "$work/context" "$binary" >/dev/null
  # shellcheck disable=SC2016
  counted "docker image" unshare --kill-child --mount --pid --net --fork --mount-proc \
    sh -c 'ip link set lo up && exec python3 -B "$0/tests/docker/test_image.py" "$1"' "$root" "$work/context"
fi
report
