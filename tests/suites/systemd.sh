# The units for systemd: that they are valid, how exposed they leave the services, and that both run under them. The last is tried in
# a systemd of its own, the first process of namespaces of its own, where root can make them.
. "$(dirname "$0")/../../scripts/lib.sh"
units=$root/packaging/systemd
# Exposure by `systemd-analyze security`, in tenths: 0 nothing, 100 everything. A service without a line of hardening has 96.
declare -A bound=([echomesh]=13 [echomesh-guard]=22)

work=$(mktemp -d)
cgroup=
cleanup() {
  [ -z "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

verified() {
  local copy=$work/verify said
  mkdir -p "$copy"
  sed "s#/usr/bin/echomesh#$binary#" "$units/$1.service" >"$copy/$1.service"
  # The other unit is named in `After=`, and what this machine's own units say is not ours.
  said=$(systemd-analyze verify --man=no "$copy/$1.service" 2>&1 | grep -F "$1.service")
  [ -z "$said" ] || { say "$said"; return 1; }
}
exposed() { systemd-analyze security --offline=true --no-pager --threshold="$2" "$1" >"$work/security" 2>&1; }
bounded() { exposed "$units/$1.service" "${bound[$1]}" || { tail -n 2 "$work/security" >&2; return 1; }; }
bare_is_over_it() {
  printf '[Service]\nExecStart=%s\n' "$binary" >"$work/bare.service"
  ! exposed "$work/bare.service" 90
}
# Only what the unit says counts: each of these taken out is over the bound.
each_line_counts() {
  local line
  for line in NoNewPrivileges ProtectSystem CapabilityBoundingSet RestrictAddressFamilies PrivateUsers; do
    sed "/^$line=/d" "$units/echomesh.service" >"$work/without.service"
    exposed "$work/without.service" "${bound[echomesh]}" && { say "without $line the bound is kept"; return 1; }
  done
  return 0
}

boot() {
  mkdir -p "$work/over" "$work/result"
  # What systemd makes below the root of its hierarchy shall be below a group of its own, and gone afterwards.
  local hierarchy
  hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  cgroup=$hierarchy/echomesh-systemd-$$
  mkdir "$cgroup" || return 1
  (
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec timeout -k 1 100 unshare --kill-child --mount --pid --fork --cgroup --net --ipc --uts \
      bash "$root/tests/systemd/boot.sh" "$work" "$binary"
  ) >"$work/boot.log" 2>&1
}

need_apt systemd curl nftables || { skip "systemd" "systemd cannot be installed"; report; exit; }
binary=${NODE_BINARY:-$(build_node)} || die "the node cannot be built"
for unit in echomesh echomesh-guard; do
  check "$unit.service is valid" verified "$unit"
  check "$unit.service is exposed by ${bound[$unit]} tenths at the most" bounded "$unit"
done
check "a bare service is far above" bare_is_over_it
check "each line of the hardening counts" each_line_counts

if [ "$(id -u)" -ne 0 ]; then
  skip "the units under systemd" "needs root"
elif ! grep -q ' cgroup2 ' /proc/mounts || ! unshare --mount --pid --fork --cgroup true 2>/dev/null; then
  skip "the units under systemd" "needs a cgroup2 hierarchy and namespaces"
else
  boot
  if [ ! -s "$work/result/checks" ]; then
    tail -n 20 "$work/boot.log" >&2
    check "systemd runs in namespaces of its own" false
  else
    while read -r verdict name; do
      check "under systemd: $name" [ "$verdict" = ok ]
    done <"$work/result/checks"
    [ "$failed" -eq 0 ] || tail -n 60 "$work/result/log" "$work/result/error" "$work/boot.log" >&2
    check "all checks were made" [ "$(wc -l <"$work/result/checks")" -eq "$(grep -c '^check ' "$root/tests/systemd/check.sh")" ]
  fi
fi
report
