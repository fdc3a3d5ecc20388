# Sealed keys and the locked node: the release binary, a real terminal (pty), and openssl as the oracle.
. "$(dirname "$0")/../../scripts/lib.sh"
command -v openssl >/dev/null || need_apt openssl || { skip keys "openssl is not installed"; report; exit; }
binary=$(build_node) || { check "the binary builds" false; report; exit; }
counted keys python3 -B "$root/tests/keys/run.py" "$binary" "$@"
report
