# A lease from end to end: coordinator, resolver and origin in the Internet, guard and node on the router, and a buyer whose download the
# router's kernel forwards.
#   cargo build --release; cargo build --release --features lab --bin echomesh-lab
#   scripts/vmlab run tests/vm/scenarios/lease.sh target/release/echomesh
lab=${ECHOMESH_LAB:-target/release/echomesh-lab} dir=$VMLAB/lab tries=0
mkdir "$dir"
inet "$lab" up --dir "$dir" --region LAB-1 --confidence 1 --heartbeat 1000 --coordinator 44.10.0.1:443 --doh 44.10.0.53:443 --endpoint 44.10.0.90:443 \
  --origin 44.10.0.80:443 --zone coordinator.lab.test=44.10.0.1 --zone endpoint.lab.test=44.10.0.90 --zone origin.lab.test=44.10.0.80 >"$VMLAB/lab.log" 2>&1 &
member() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
ask() { inet "$lab" ask "$@" --dir "$dir"; }
until [ -e "$dir/lab.json" ]; do sleep 0.2; done

router 'mkdir -p /etc/echomesh; cat >/etc/echomesh/ca.pem' <"$dir/ca.pem"
router 'cat >/etc/echomesh/config.yaml' <<YAML
version: 1
node: {regionAllow: [LAB-1], idPath: /var/lib/echomesh/node.key}
security: {guard: required, dohUrl: "https://doh.lab.test/dns-query", dohBootstrap: [44.10.0.53], dohCaFile: /etc/echomesh/ca.pem}
coordinator: {url: "https://coordinator.lab.test", publicKey: "$(member coordinatorPublicKey <"$dir/lab.json")", caFile: /etc/echomesh/ca.pem}
relay: {listen: "0.0.0.0:8443", names: [node.lab.test]}
YAML
router '/mnt/echomesh version && mkdir -p /var/lib/echomesh /var/run/echomesh && chown -R echomesh:echomesh /etc/echomesh /var/lib/echomesh /var/run/echomesh || exit
for part in guard run; do setsid /mnt/echomesh $part --config /etc/echomesh/config.yaml --user echomesh >/tmp/$part.log 2>&1 & done'
is() {
  until router '/mnt/echomesh status' | grep "$1 for"; do
    [ $((tries += 1)) -lt 60 ] || { router 'cat /tmp/guard.log /tmp/run.log'; exit 1; }
    sleep 1
  done
}
is idle

# It is idle before the coordinator knows it.
until open=$(ask /open '{}' 2>&1) && grep -q sessionId <<<"$open"; do
  [ $((tries += 1)) -lt 60 ] || { printf '%s\n' "$open"; exit 1; }
  sleep 0.2
done
pin=$(ask /nodes | member spki)
# The node hears of it with its next heartbeat, counts it as open at once, and carries buyers when it says so.
is active
until ask /sessions | grep -q '"state":"active"'; do
  [ $((tries += 1)) -lt 60 ] || { ask /sessions; exit 1; }
  sleep 0.2
done
buyer "$lab" buyer --lab "$dir" --proxy https://44.2.2.2:8443 --pin "$pin" --session "$(member sessionId <<<"$open")" --token "$(member token <<<"$open")" \
  --get https://origin.lab.test/bytes/1000000 --lease
router '/mnt/echomesh status; cat /tmp/guard.log /tmp/run.log'
kill %1
