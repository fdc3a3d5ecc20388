"""A broken node: everything a process without privileges can try to send. Run as the service user; prints what the
kernel said to each attempt as a JSON object. The receiving machines tell what came of it."""
import contextlib
import errno
import json
import socket
import sys

INET, INET6, TCP, UDP, RAW = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
MPTCP, SCTP, UDPLITE = 262, 132, 136
BINDTODEVICE, MARK, IP_OPTIONS, FREEBIND, RTHDR = 25, 36, 4, 15, 57
said = {}


@contextlib.contextmanager
def attempt(name):
    try:
        yield
        said[name] = "sent"
    except OSError as e:
        said[name] = errno.errorcode.get(e.errno, str(e))


def stream(name, address, family=None, protocol=0, options=(), bind=None):
    family = family or (INET6 if ":" in address[0] else INET)
    with attempt(name), socket.socket(family, TCP, protocol) as s:
        s.settimeout(1)
        for option in options:
            s.setsockopt(*option)
        if bind:
            s.bind(bind)
        s.connect(address)
        s.sendall(b"x" * 100)


def datagram(name, address, protocol=0, options=(), kind=UDP, data=b"x" * 100):
    family = INET6 if ":" in address[0] else INET
    with attempt(name), socket.socket(family, kind, protocol) as s:
        for option in options:
            s.setsockopt(*option)
        s.sendto(data, address)


def main(goals):
    lan, lan6, router = goals["lan"], goals["lan6"], goals["gateway"]
    for port in (22, 53, 80, 443, 8443):
        stream(f"lan tcp {port}", (lan, port))
        datagram(f"lan udp {port}", (lan, port))
    stream("lan tcp6 443", (lan6, 443))
    datagram("lan udp6 443", (lan6, 443))
    stream("lan mapped", (f"::ffff:{lan}", 443))
    stream("lan link-local", ("fe80::10%lan0", 443))
    datagram("lan link-local udp", ("fe80::10%lan0", 443))
    datagram("multicast", ("239.1.2.3", 443), options=[(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(goals["own_lan"]))])
    datagram("mdns", ("224.0.0.251", 5353), options=[(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(goals["own_lan"]))])
    datagram("multicast6", ("ff02::fb%lan0", 5353))
    datagram("broadcast", ("192.168.1.255", 9), options=[(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)])
    datagram("all broadcast", ("255.255.255.255", 67), options=[(socket.SOL_SOCKET, socket.SO_BROADCAST, 1), (socket.SOL_SOCKET, BINDTODEVICE, b"lan0\0")])
    echo = b"\x08\0\0\0\0\1\0\1" + bytes(8)
    datagram("lan ping", (lan, 0), socket.IPPROTO_ICMP, data=echo)
    datagram("wan ping", (goals["target"], 0), socket.IPPROTO_ICMP, data=echo)
    datagram("raw", (lan, 0), socket.IPPROTO_ICMP, kind=RAW, data=echo)
    datagram("raw ip", (lan, 0), socket.IPPROTO_RAW, kind=RAW, data=bytes(40))
    datagram("udp-lite", (lan, 443), UDPLITE)
    datagram("udp-lite wan", (goals["target"], 443), UDPLITE)
    stream("sctp", (lan, 443), protocol=SCTP)
    stream("sctp wan", (goals["target"], 443), protocol=SCTP)
    with attempt("packet socket"):
        socket.socket(17, RAW, 0x0300).close()
    with attempt("mark"), socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, MARK, 0x08000000)
    for port in (22, 443):
        stream(f"gateway {port}", (router, port))
        stream(f"own lan {port}", (goals["own_lan"], port))
        stream(f"own wan {port}", (goals["own_wan"], port))
        stream(f"neighbour {port}", (goals["neighbour"], port))
    stream("others' loopback", ("127.0.0.1", goals["loopback"]))
    stream("others' loopback, other name", ("127.9.9.9", goals["loopback"]))
    stream("others' loopback, v6", ("::1", goals["loopback"]))
    datagram("others' loopback udp", ("127.0.0.1", goals["loopback"]))
    for port in (22, 25, 53, 80, 8443):
        stream(f"wan tcp {port}", (goals["target"], port))
    for port in (53, 443):
        datagram(f"wan udp {port}", (goals["target"], port))
    stream("multipath", (goals["target"], 443), protocol=MPTCP)
    stream("source route", (goals["target"], 443), options=[(socket.IPPROTO_IP, IP_OPTIONS, bytes([1, 131, 7, 4]) + socket.inet_aton(lan))])
    stream("record route", (goals["target"], 443), options=[(socket.IPPROTO_IP, IP_OPTIONS, bytes([7, 7, 4, 0, 0, 0, 0, 0]))])
    segments = bytes([0, 2, 4, 1, 0, 0, 0, 0]) + socket.inet_pton(INET6, lan6)
    stream("segment route", (goals["target6"], 443), options=[(socket.IPPROTO_IPV6, RTHDR, segments)])
    stream("by the LAN's device", (goals["target"], 443), options=[(socket.SOL_SOCKET, BINDTODEVICE, b"lan0\0")])
    stream("from the listener's port", (lan, 443), options=[(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), (socket.SOL_SOCKET, 15, 1)], bind=(goals["own_lan"], 8443))
    stream("fast open", (lan, 443), options=[(socket.IPPROTO_TCP, 30, 1)])
    with attempt("fast open data"), socket.socket() as s:
        s.sendto(b"x" * 10, 0x20000000, (lan, 443))
    stream("allowed", (goals["target"], 443))
    stream("allowed6", (goals["target6"], 443))
    print(json.dumps(said))


main(json.loads(sys.argv[1]))
