# shellcheck shell=bash
# The node as buyers use it.
peer_ours_tls() {
  ours_lab || return 1
  ours_config "$PADDR:$PORT" >"$D/conf"
  bg @NODE@ run --config "$D/conf" --run-dir "$D/run" --state-dir "$D/state" --api off
  PID=$! KIND=connect-tls
  ours_session
}
