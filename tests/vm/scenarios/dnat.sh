# A connection that the router's kernel forwards by a plain DNAT rule, from the Internet to the Internet and through a flowtable:
# what a lease looks like to the kernel once its ClientHello is judged.
router nft -f - <<'RULES'
table inet demo {
    flowtable ft { hook ingress priority 0; devices = { eth0 }; }
    chain entry { type nat hook prerouting priority dstnat; iifname eth0 tcp dport 40001 dnat ip to 44.10.0.81:443; }
    chain forward { type filter hook forward priority filter; ct status dnat flow add @ft; }
    chain exit { type nat hook postrouting priority srcnat; ct status dnat oifname eth0 masquerade; }
}
RULES
inet timeout 60 python3 -c '
import socket
listener = socket.create_server(("44.10.0.81", 443))
connection, peer = listener.accept()
print("the target sees", peer[0], flush=True)
connection.sendall(connection.recv(100) * 100000)
connection.recv(1)' >"$VMLAB/target.log" 2>&1 &
sleep 1
buyer timeout 60 python3 -c '
import socket, subprocess
connection = socket.create_connection(("44.2.2.2", 40001), 20)
connection.sendall(b"0123456789")
size = 0
while size < 1000000:
    size += len(connection.recv(65536))
print("the buyer got", size, "bytes")
print(subprocess.run(["router", "conntrack -L -p tcp --dport 40001 2>&1"], stdout=-1, text=True).stdout)'
wait
cat "$VMLAB/target.log"
