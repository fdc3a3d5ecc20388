"""What really arrives: IP packets of one device, as the receiving machine sees them."""
import ipaddress
import socket
import struct
import threading

# Neighbour discovery, router solicitation and group reports are the kernel's own, whatever a user does.
_KERNELS_OWN = {130, 131, 132, 133, 134, 135, 136, 143}


class Sniffer:
    """Collects (source, destination, protocol, destination port or ICMP type, payload bytes) of a device's packets."""

    def __init__(self, namespace, device):
        with namespace.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind((device, 0))
        self.packets, self._stop = [], False
        self.socket.settimeout(0.1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop:
            try:
                frame, where = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            if where[2] != socket.PACKET_OUTGOING:
                found = parse(frame[14:], int.from_bytes(frame[12:14], "big"))
                if found:
                    self.packets.append(found)

    def close(self):
        self._stop = True
        self._thread.join()
        self.socket.close()


def parse(packet, kind):
    if kind == 0x0800 and len(packet) >= 20:
        head, protocol = (packet[0] & 15) * 4, packet[9]
        source, destination = ipaddress.ip_address(packet[12:16]), ipaddress.ip_address(packet[16:20])
        body = packet[head : int.from_bytes(packet[2:4], "big")]
    elif kind == 0x86DD and len(packet) >= 40:
        protocol, source, destination = packet[6], ipaddress.ip_address(packet[8:24]), ipaddress.ip_address(packet[24:40])
        body = packet[40:]
        if protocol == 0 and len(body) > 8:  # hop-by-hop, before group reports
            protocol, body = body[0], body[8:]
        if protocol == 58 and body and body[0] in _KERNELS_OWN:
            return None
    else:
        return None
    port = struct.unpack("!H", body[2:4])[0] if protocol in (6, 17, 132, 136) and len(body) >= 4 else (body[0] if body else None)
    data = len(body) - (body[12] >> 4) * 4 if protocol == 6 and len(body) >= 20 else len(body)
    return str(source), str(destination), protocol, port, data
