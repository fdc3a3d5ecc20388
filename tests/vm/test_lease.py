"""Leases on a router's kernel: what passes, what is offloaded, and what never reaches a target."""
import json
import os
import pathlib
import subprocess
import time

from attacks import ATTACKS, BAD, DIES_BEHIND, GOOD, MULTIPATH
from closed import ClosedPorts
from harness.hello import client_hello, hello_retry_request
from harness.stream import RESET, Tcp, ending
from kills import Kills
from reuse import ReuseAttacks
from vmlab import image
from vmlab.kinds import KINDS
from vmlab.leases import LeaseWorld, Refused
from vmlab.packets import ACK, PSH, RST, SYN, URG


class Plain(Kills, ClosedPorts, LeaseWorld):
    """No firewall but ours."""

    # Words of the names of the attacks on the hello that are played.
    attacks = ("",)

    def opened(self):
        """A lease for the target, and a connection over it that is accepted and has carried a little."""
        lease = self.holder.lease(GOOD)
        stream = self.dial(lease)
        first = client_hello(sni=GOOD)
        stream.write(first)
        self.assertEqual(self.echoed(stream, len(first)), first)
        return lease, stream

    def echoed(self, stream, size):
        data = b""
        while len(data) < size:
            more = stream.read()
            if not more:
                break
            data += more
        return data

    def test_a_download_is_offloaded_after_the_hello(self):
        received, sent = self.lab.origin()
        lease = self.holder.lease("origin.lab.test")
        status, content = self.get(lease, "origin.lab.test", "/bytes/3000000")
        self.assertEqual((status, len(content)), (200, 3_000_000))
        lease, stream = self.opened()
        for _ in range(10):
            stream.write(b"x" * 10_000)
            self.assertEqual(len(self.echoed(stream, 10_000)), 10_000)
        flows = self.flows(lease)
        self.assertEqual(len(flows), 1, flows)
        self.assertIn("[OFFLOAD]", flows[0])
        # Exact only by FINs, which therefore have left the fast path: a running count lacks a 128th.
        self.close(stream)
        self.until("the flows' end", lambda: self.own()["open"] == 0)
        after, own = self.lab.origin(), self.own()
        self.assertEqual(own["bytesIngress"], after[1] - sent + stream.received)
        self.assertEqual(own["bytesEgress"], after[0] - received + stream.sent)
        self.clean()

    def test_curl_needs_no_more_than_a_way_to_the_endpoint(self):
        lease = self.holder.lease("origin.lab.test")
        address, port = lease["address"]
        done = self.curl("--connect-to", f"origin.lab.test:443:{address}:{port}", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                         "https://origin.lab.test/bytes/1000000")  # fmt: skip
        self.assertEqual((done.stdout, done.stderr), (b"200 1000000", b""))
        self.clean()

    def test_a_download_by_curl_is_offloaded_while_it_runs(self):
        lease = self.holder.lease("origin.lab.test")
        address, port = lease["address"]
        words = self.curl_words("--limit-rate", "1M", "--connect-to", f"origin.lab.test:443:{address}:{port}", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                                "https://origin.lab.test/bytes/2000000")  # fmt: skip
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
            self.addCleanup(curl.kill)
            self.until("the fast path", lambda: "[OFFLOAD]" in "".join(self.flows(lease)))
            self.assertIsNone(curl.poll(), "seen while it ran")
            self.assertEqual(curl.communicate(timeout=30), (b"200 2000000", b""))
        self.until("the flow's end", lambda: self.own()["open"] == 0)
        self.clean()

    def test_a_renewed_lease_goes_on_for_its_whole_time(self):
        lease, stream = self.opened()
        whole = max(self.left(lease))
        # Before that it is renewed in name alone.
        self.assertEqual(self.holder.ask("POST", f"/leases/{lease['leaseId']}/renew").status, 200)
        self.until("some of its time is over", lambda: max(self.left(lease)) <= whole - 11, 15)
        reply = self.holder.ask("POST", f"/leases/{lease['leaseId']}/renew")
        self.assertEqual(reply.status, 200)
        again = json.loads(reply.body)
        self.assertEqual([again[name] for name in ("leaseId", "endpoint", "host")], [lease[name] for name in ("leaseId", "endpoint", "host")])
        self.assertGreater(again["expiresAt"], lease["expiresAt"])
        self.until("the kernel's word", lambda: min(self.left(lease)) >= whole - 1, 2)
        # What was open goes on, and the next connection begins.
        for one in (stream, self.dial(lease)):
            first = client_hello(sni=GOOD)
            one.write(first)
            self.assertEqual(self.echoed(one, len(first)), first)
            one.close()
        unknown = self.holder.ask("POST", f"/leases/{'0' * 32}/renew")
        self.assertEqual((unknown.status, unknown.slug), (404, "lease-unknown"))

    def test_another_name_never_reaches_the_target_and_both_sides_are_reset(self):
        lease = self.holder.lease(GOOD)
        before = len(self.target.connections)
        mark = self.arena.wire.mark()
        stream = self.dial(lease)
        stream.write(client_hello(sni=BAD))
        self.assertEqual(ending(stream), RESET)
        self.assertEqual(self.arena.wire.since(mark), b"")
        connection = self.target.next(before)
        self.assertEqual(connection.ended(), RESET)
        self.assertEqual(connection.got, b"")
        self.assert_lan_untouched()

    def test_a_hello_that_a_kernel_sends_byte_by_byte(self):
        lease = self.holder.lease(GOOD)
        stream = self.dial(lease)
        first = client_hello(sni=GOOD)
        for at in range(len(first)):
            stream.write(first[at : at + 1])
        self.assertEqual(self.echoed(stream, len(first)), first)
        stream.close()

    def test_attacks_on_the_hello(self):
        played = [attack for attack in ATTACKS if any(word in attack.name for word in self.attacks)]
        # A session that fails so often opens nothing for a while (`breakers.failureSamples`), and nothing would be shown by that.
        for group in (played[at : at + 10] for at in range(0, len(played), 10)):
            self.setUp()
            port = self.holder.lease(GOOD)["address"][1]
            for attack in group:
                with self.subTest(attack=attack.name):
                    self.assertEqual(self.arena.forbidden(attack, port), b"")
                    self.assertIn(self.arena.control(attack, port), (True, None))
            self.assertTrue(self.arena.control(ATTACKS[0], port), "the session still opens connections")
        self.assertEqual(self.arena.leaks(), [])
        self.assert_lan_untouched()

    def test_the_range_is_closed_to_all_but_the_lease(self):
        own = self.holder.lease(GOOD)["address"][1]
        self.assert_all_closed_but(own)
        self.assert_closed_to("44.3.3.7", own)
        self.assert_lan_untouched()

    def test_leases_to_what_is_not_the_internet_are_refused(self):
        for host in ["lan.test", "mixed.test", "own-wan.test", "own-lan.test", "gateway.test", "cgnat.test", "loopback.test", "nat64.test"]:
            with self.subTest(host=host), self.assertRaises(Refused) as refused:
                self.holder.lease(host)
            self.assertEqual(refused.exception.args, (403, "address-denied"))
        for host, slug in [("owner-blocked.test", "domain-blocked"), ("44.10.0.81", "address-denied")]:
            with self.subTest(host=host), self.assertRaises(Refused) as refused:
                self.holder.lease(host)
            self.assertEqual(refused.exception.args[1], slug)
        self.assert_lan_untouched()

    def test_the_middle_of_a_stream_opens_nothing(self):
        port = self.holder.lease(GOOD)["address"][1]
        for flags in (ACK, PSH | ACK, SYN | ACK, RST | ACK):
            with self.subTest(flags=flags):
                # Nobody answers a reset.
                self.assert_begins_nothing(port, flags, client_hello(sni=GOOD), not flags & RST)

    def test_multipath_opens_nothing(self):
        port = self.holder.lease(GOOD)["address"][1]
        for name, options in MULTIPATH.items():
            with self.subTest(option=name):
                mark = len(self.arena.wire.segments)
                peer = self.arena.peer(port)
                # It is sent again, as any stack does.
                self.assertFalse(peer.open(0.5, options))
                self.assertEqual(peer.ended, RESET)
                self.assertEqual([s for s in self.arena.arrivals(mark, peer.sport) if s.flags & SYN], [])
        # It was the option.
        self.assert_opens(port)

    def test_urgent_data_is_refused_whatever_it_says(self):
        """A stack takes an urgent byte out of the stream, and reads another hello than the judge."""
        peer, mark = self.arena.peer(self.holder.lease(GOOD)["address"][1]), len(self.arena.wire.segments)
        before = len(self.target.connections)
        self.assertTrue(peer.open())
        for _ in range(2):
            peer.send(PSH | ACK | URG, 0, client_hello(sni=GOOD))
            peer.wait(lambda s: s.flags & RST, 0.5)
        self.assertEqual((peer.ended, self.target.next(before).ended()), (RESET, RESET))
        self.assertEqual([s for s in self.arena.arrivals(mark, peer.sport) if s.data], [])

    def test_a_target_that_speaks_before_it_has_the_hello(self):
        """What was judged dies behind the router, and the target, a friend of the buyer's, answers it all the same: nothing is decided by that."""
        peer, before = self.arena.peer(self.holder.lease(GOOD)["address"][1]), len(self.target.connections)
        mark = len(self.arena.wire.segments)
        self.assertTrue(peer.open())
        target = self.target.next(before)
        peer.send(PSH | ACK, 0, client_hello(sni=GOOD), ttl=DIES_BEHIND)
        self.assertTrue([s for s in self.arena.arrivals(mark, peer.sport) if s.data], "it went through")
        target.send(b"\x17\3\3\0\x10" + bytes(16))
        self.assertTrue(peer.wait(lambda s: s.data))
        mark = self.arena.wire.mark()
        peer.send(PSH | ACK, 0, client_hello(sni=BAD))
        self.assertEqual((self.arena.wire.since(mark), target.got), (b"", b""))
        peer.send(RST)

    def asked_again(self, port, host):
        """A connection whose target has asked for another hello, and that has sent one for this host, twice as any stack does without an
        answer; and what the target had before."""
        peer, first = self.arena.peer(port), client_hello(sni=GOOD)
        with self.arena.answering(hello_retry_request()):
            self.assertTrue(peer.open())
            peer.send(PSH | ACK, 0, first)
            self.assertTrue(peer.wait(lambda s: s.data))
        self.assertEqual(peer.got, hello_retry_request())
        # As clients do for the sake of middleboxes (RFC 8446 appendix D.4).
        before, second = first + b"\x14\3\3\0\1\1", client_hello(sni=host)
        peer.send(PSH | ACK, len(first), before[len(first) :])
        for _ in range(2):
            peer.send(PSH | ACK, len(before), second)
            peer.wait(lambda s: s.flags & RST or s.ack == peer.start + 1 + len(before + second), 0.5)
        return peer, before, second

    def test_a_second_hello_that_the_target_asks_for(self):
        lease = self.holder.lease(GOOD)
        for host in (GOOD, BAD):
            with self.subTest(host=host):
                place, mark = len(self.target.connections), self.arena.wire.mark()
                peer, before, second = self.asked_again(lease["address"][1], host)
                target = self.target.next(place)
                if host == GOOD:
                    self.assertTrue(target.wait(lambda c, whole=before + second: c.got == whole))
                    self.assertRegex("".join(self.flows(lease)), rf"sport={peer.sport} .*\[OFFLOAD\]")
                    peer.send(RST, len(before + second))
                    self.assertEqual(target.ended(), RESET)
                else:
                    self.assertEqual((peer.ended, target.ended(), target.got), (RESET, RESET, before))
                    self.assertEqual(self.arena.wire.since(mark), before)

    def test_a_port_that_was_used_before_is_judged_again(self):
        lease = self.holder.lease(GOOD)
        port = lease["address"][1]
        peer = self.arena.peer(port)
        for round_ in range(2):
            self.assertTrue(peer.open(), round_)
            first = client_hello(sni=GOOD)
            peer.send(PSH | ACK, 0, first)
            peer.wait(lambda s: len(s.data) > 0)
            peer.send(RST, len(first))
            time.sleep(0.2)
            peer.start += 1_000_000
        mark = self.arena.wire.mark()
        if peer.open():
            peer.send(PSH | ACK, 0, client_hello(sni=BAD))
        self.assertEqual(self.arena.wire.since(mark), b"")
        peer.send(RST)

    def test_what_is_given_back_ends(self):
        lease, stream = self.opened()
        where = stream.sock.getsockname()
        self.assertEqual(self.holder.ask("DELETE", f"/leases/{lease['leaseId']}").status, 204)
        stream.timeout(5)
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            for _ in range(100):
                stream.write(b"z" * 100)
                stream.read()
                time.sleep(0.01)
        self.assert_nothing_left()
        stream.close()
        # The target still has that connection, and says so to the next one from there; the buyer's kernel resets it and comes again.
        with self.topology.buyer.socket() as again:
            again.settimeout(10)
            again.bind(where)
            again.connect(self.holder.lease(GOOD)["address"])
            first = client_hello(sni=GOOD)
            again.sendall(first)
            self.assertEqual(self.echoed(Tcp(again), len(first)), first)

    def test_the_buyers_connection_carries_its_leases(self):
        lease, _ = self.opened()
        self.holder.close()
        self.until("the flows' end", lambda: not self.flows(lease))
        self.assert_nothing_left()

    def test_bytes_are_the_origins(self):
        lease = self.holder.lease("origin.lab.test")
        received, sent = self.lab.origin()
        for size in [0, 1, 1000, 100_000, 2_000_000]:
            self.assertEqual(self.get(lease, "origin.lab.test", f"/bytes/{size}")[0], 200)
        self.until("the flows' end", lambda: self.own()["open"] == 0)
        after = self.lab.origin()
        own = self.own()
        self.assertEqual((own["bytesIngress"], own["bytesEgress"]), (after[1] - sent, after[0] - received))
        totals = self.settle(self.session)
        self.assertEqual((totals["bytesIngress"], totals["bytesEgress"]), (after[1] - sent, after[0] - received))
        self.clean(self.session)


def only(*names):
    """Takes the inherited tests away that are not among these: what they show has nothing to do with the difference."""

    def cut(cls):
        for name in dir(cls):
            if name.startswith("test_") and name not in vars(cls) and not any(part in name for part in names):
                setattr(cls, name, None)
        return cls

    return cut


@only("offloaded", "another_name", "attacks", "bytes", "multipath")
class BehindFw4(Plain):
    """A firewall that offloads every flow first thing."""

    fw4 = True


@only("download", "another_name", "attacks", "pause", "bytes", "port_", "fast_path", "overwrites", "renewed", "multipath")
class Newer(ReuseAttacks, Plain):
    """Linux 6.12, behind that firewall."""

    # What the kernel has a say in; the rest is read by the same program.
    attacks = ("IP fragments", "the SYN", "SYN and", "MD5", "behind the router", "Multipath", "asks for")
    kind = KINDS["x86_64-6.12"]
    fw4 = True


@only("offloaded", "another_name", "pause", "bytes", "fast_path", "renewed")
class Mipsel(ReuseAttacks, Plain):
    """A router's processor, and the program of its package."""

    kind = KINDS["mipsel"]
    memory_mb = 128

    @classmethod
    def files(cls):
        binary = pathlib.Path(os.environ["ECHOMESH"])
        return [*image.directories("usr", "usr/sbin"), ("usr/sbin/echomesh", 0o100755, binary.read_bytes())]
