# shellcheck shell=bash
# The node with its plain listener, which exists for loopback alone: a measure of the engine.
ours_config() { # LISTEN-TLS [LISTEN-PLAIN]
  local coordinator doh key
  read -r coordinator doh key < <(python3 -c '
import json, sys
lab = json.load(open(sys.argv[1]))
print(lab["coordinator"]["url"], lab["doh"]["url"], lab["coordinatorPublicKey"])' "$D/lab/lab.json")
  cat <<X
version: 1
node: {idPath: "$D/node.key", regionAllow: ["Bench"]}
network: {maxMbps: 100000, maxGBPerDay: 100000, perSession: {maxConnections: 8192, maxNewPerSecond: 10000, maxNewPerHostPerSecond: 10000}, perTarget: {maxConnectionsPerHost: 8192, maxConnectionsPerDomain: 8192, maxNewPerHostPerSecond: 10000, maxNewPerDomainPerSecond: 10000}}
breakers: {sessionBurst: 1000000, nodeBurst: 1000000, failureSamples: 100000}
security: {dnsOverHttps: true, dohUrl: "$doh", dohBootstrap: ["127.0.0.1"], dohCaFile: "$D/lab/ca.pem", sandboxMode: "standard", guard: "optional"}
coordinator: {url: "$coordinator", publicKey: "$key", caFile: "$D/lab/ca.pem"}
relay: {listen: "$1", names: ["node.bench.test"]${2:+, listenPlain: "$2"}}
log: {level: "warn"}
lab: {allowAddresses: ["$OADDR"], ports: [$OPORT]}
X
}
ours_lab() { # a fresh coordinator and resolver, which are not measured
  [ -e "$D/lab.pid" ] && kill "$(cat "$D/lab.pid")" 2>/dev/null
  rm -rf "$D/lab" "$D/state" "$D/run" "$D/node.key"
  bg @LAB@ up --dir "$D/lab" --coordinator 127.0.0.1:0 --doh 127.0.0.1:0 --allowed-port "$OPORT" --zone "origin.test=$OADDR"
  echo $! >"$D/lab.pid"
  for _ in $(seq 100); do [ -e "$D/lab/lab.json" ] && return 0; sleep 0.05; done
  return 1
}
ours_session() { # opens one, and sets X
  local auth
  for _ in $(seq 100); do
    auth=$($R @LAB@ ask /open '{"waitMs":15000}' --dir "$D/lab" 2>/dev/null |
      python3 -c 'import json,sys; o = json.load(sys.stdin); print(o["sessionId"] + ":" + o["token"]) if o["state"] == "active" else 0' 2>/dev/null)
    [ -n "$auth" ] && break
    sleep 0.1
  done
  X="--auth $auth --sni origin.test --connect-host origin.test:$OPORT"
}
peer_ours() {
  ours_lab || return 1
  ours_config "127.0.0.1:$((PORT + 1000))" "127.0.0.1:$PORT" >"$D/conf"
  bg @NODE@ run --config "$D/conf" --run-dir "$D/run" --state-dir "$D/state" --api off
  PID=$! KIND=connect
  ours_session
}
