#!/usr/bin/env bash
# Runs inside: sets the node up as an owner would, starts both units and looks at what came of it. A line for each check in
# /result/checks: `ok NAME` or `bad NAME`.
set -uo pipefail
exec 3>/result/checks
check() {
  local name=$1
  shift
  if "$@" >>/result/log 2>&1; then echo "ok $name" >&3; else echo "bad $name" >&3; fi
}
show() { systemctl show "$1" -p "$2" --value; }
status_of() { echomesh status --json; }
until_true() { for _ in $(seq 1 100); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; return 1; }
of() { awk -v name="$2:" '$1 == name { print $2 }' "/proc/$(show "$1" MainPID)/status"; }
equal() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }

check "sysusers makes the user" systemd-sysusers /etc/sysusers.d/echomesh.conf
check "tmpfiles makes the directories" systemd-tmpfiles --create /etc/tmpfiles.d/echomesh.conf
uid=$(id -u echomesh)

systemctl start echomesh
check "a node that nobody set up is not started" equal "$(show echomesh ConditionResult) $(show echomesh ActiveState)" "no inactive"

check "setup writes for the service" echomesh setup --region PH --listen 127.0.0.1:18443 --key new --yes
check "its files are the service's" equal "$(stat -c '%a %u' /etc/echomesh/config.yaml /var/lib/echomesh/node.key | tr '\n' ' ')" "600 $uid 600 $uid "
sed -i 's/^version: 1$/version: 1\nsecurity:\n  guard: required/' /etc/echomesh/config.yaml

check "both units start" systemctl start echomesh-guard echomesh
check "the node answers" until_true status_of
check "the guard's table is in force" until_true sh -c 'echomesh status --json | grep -q "\"guard\":\"up\""'
check "every layer of the sandbox is on" sh -c 'echomesh status --json | grep -q "\"missing\":\[\],\"mode\":\"strict\""'
check "the node answers /healthz" sh -c 'curl -fsS --unix-socket /run/echomesh/api.sock http://localhost/healthz || curl -sS --unix-socket /run/echomesh/api.sock http://localhost/healthz | grep -q checks'
check "the node is its user, without rights" equal "$(of echomesh Uid) $(of echomesh CapEff) $(of echomesh CapBnd) $(of echomesh NoNewPrivs) $(of echomesh Seccomp)" "$uid 0000000000000000 0000000000000000 1 2"
check "the guard has CAP_NET_ADMIN alone" equal "$(of echomesh-guard Uid) $(of echomesh-guard CapEff) $(of echomesh-guard CapPrm) $(of echomesh-guard NoNewPrivs) $(of echomesh-guard Seccomp)" "0 0000000000001000 0000000000001000 1 2"
check "the manager's filters are over each beside its own" sh -c '[ "$1" -gt 1 ] && [ "$2" -gt 1 ]' sh "$(of echomesh Seccomp_filters)" "$(of echomesh-guard Seccomp_filters)"
check "the configuration can be changed through the API" echomesh config set network.maxMbps=12
check "and is on disk, the service's" sh -c 'grep -q "maxMbps: 12" /etc/echomesh/config.yaml && [ "$(stat -c %U /etc/echomesh/config.yaml)" = echomesh ]'
check "a reload is taken" systemctl reload echomesh echomesh-guard
check "and both go on" sh -c 'sleep 0.5; systemctl is-active echomesh echomesh-guard && echomesh status --json'
check "its view of the system is read-only" sh -c 'for at in /usr /var /etc; do nsenter -t "$(systemctl show echomesh -p MainPID --value)" -m touch "$at/was-here" && exit 1; done; nsenter -t "$(systemctl show echomesh -p MainPID --value)" -m touch /var/lib/echomesh/was-here && rm /var/lib/echomesh/was-here'
check "it stops by itself" systemctl stop echomesh
check "with success" equal "$(show echomesh Result)" success
check "the guard's socket stays" test -S /run/echomesh/guard.sock
check "and its table" sh -c 'nft list table inet echomesh'

printf 'version: 2\n' >/etc/echomesh/config.yaml
systemctl start echomesh
until_true sh -c '[ "$(systemctl show echomesh -p ActiveState --value)" = failed ]'
check "a configuration that is not valid is not tried again" equal "$(show echomesh ExecMainStatus) $(show echomesh NRestarts) $(show echomesh ActiveState)" "78 0 failed"
