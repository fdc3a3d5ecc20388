"""Every refusal a buyer can meet: status, Proxy-Status, problem body, alert; and that the target saw nothing."""
import base64
import json
import os
import socket
import time
import unittest

from harness.buyer import Session
from harness.hello import TLS11, TLS12, TLS13, client_hello, extension, fatal_alert
from harness.stream import RESET, Tcp, ending, read_all
from harness.world import World

PROHIBITED = "destination_ip_prohibited"


class BeforeThe200(World):
    def setUp(self):
        self.before = len(self.target.connections)
        self.session = self.lab.open(
            policyProfile={"blockDomains": ["profile-blocked.test"], "allowDomains": []}
        )

    def tearDown(self):
        self.assertEqual(len(self.target.connections), self.before, "the target was reached")
        self.clean()

    def ask(self, authority, session=None, **more):
        return self.proxy.connect(authority, session or self.session, **more)

    def test_auth_required_is_the_same_for_nobody_a_stranger_and_a_wrong_token(self):
        stranger = Session("00000000-0000-4000-8000-000000000000", self.session.token)
        wrong = Session(self.session.id, "x" * len(self.session.token))
        replies = [self.proxy.connect("target.test:443", s) for s in (None, stranger, wrong)]
        for reply in replies:
            self.refused(reply, 407, "auth-required")
            self.assertEqual(reply.header("proxy-authenticate"), 'Basic realm="echomesh"')
        self.assertEqual(len({reply.body for reply in replies}), 1)
        names = [sorted(n.lower() for n, _ in reply.headers if n.lower() != "date") for reply in replies]
        self.assertEqual(names[0], names[1])
        self.assertEqual(names[0], names[2])

    def test_credentials_of_other_shapes_are_refused_alike(self):
        raw = base64.b64encode(f"{self.session.id}:{self.session.token}".encode()).decode()
        upper = base64.b64encode(f"{self.session.id.upper()}:{self.session.token}".encode()).decode()
        for value in [f"Bearer {raw}", "Basic", "Basic !!!", f"Basic {upper}", "Basic " + base64.b64encode(b"nocolon").decode()]:
            if value == f"Basic {upper}" and self.session.id.upper() == self.session.id:
                continue
            with self.subTest(value[:12]):
                head = f"CONNECT target.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {value}\r\n\r\n"
                self.refused(self.proxy.send(head.encode()), 407, "auth-required")

    def test_other_credentials_than_proxy_authorization_do_not_count(self):
        head = f"CONNECT target.test:443 HTTP/1.1\r\nHost: x\r\nAuthorization: {self.session.basic()}\r\n\r\n"
        self.refused(self.proxy.send(head.encode()), 407, "auth-required")

    def test_not_https(self):
        for method, target in [("GET", "http://target.test/"), ("GET", "/"), ("POST", "https://target.test/"), ("OPTIONS", "*")]:
            with self.subTest(f"{method} {target}"):
                head = f"{method} {target} HTTP/1.1\r\nHost: target.test\r\nProxy-Authorization: {self.session.basic()}\r\n\r\n"
                self.refused(self.proxy.send(head.encode()), 403, "not-https")

    def test_port_denied(self):
        for port in [80, 22, 8443, 444, 1, 65535]:
            with self.subTest(port):
                self.refused(self.ask(f"target.test:{port}"), 403, "port-denied")

    def test_an_authority_that_is_none_is_refused_without_a_connection(self):
        for authority in ["target.test", "target.test:", "target.test:0", "target.test:65536", "target.test:0443", "user@target.test:443", ":443"]:
            with self.subTest(authority):
                reply = self.ask(authority)
                self.assertIn(reply.status, (400, 403))

    def test_address_denied_for_every_literal(self):
        for literal in [
            "192.168.1.10", "127.0.0.1", "44.10.0.81", "0xc0a8010a", "3232235786", "0300.0250.1.012", "192.168.266", "127.1", "0",
            "0.0.0.0", "[::1]", "[2a10:44::81]", "[::ffff:192.168.1.10]", "[fd00::10]", "[fe80::1]",
        ]:
            with self.subTest(literal):
                self.refused(self.ask(f"{literal}:443"), 403, "address-denied", PROHIBITED)

    def test_address_denied_for_names_without_a_dot(self):
        for name in ["localhost", "router", "openwrt"]:
            with self.subTest(name):
                self.refused(self.ask(f"{name}:443"), 403, "address-denied", PROHIBITED)

    def test_domain_blocked_by_owner_and_by_profile_with_subdomains(self):
        for host in ["owner-blocked.test", "a.b.owner-blocked.test", "OWNER-Blocked.Test", "owner-blocked.test.", "profile-blocked.test"]:
            with self.subTest(host):
                self.refused(self.ask(f"{host}:443"), 403, "domain-blocked")

    def test_an_alias_of_a_blocked_name_is_blocked(self):
        self.lab.post("/zone", {"name": "innocent.test", "cname": "x.owner-blocked.test"})
        self.lab.post("/zone", {"name": "x.owner-blocked.test", "addresses": ["44.10.0.81"]})
        self.refused(self.ask("innocent.test:443"), 403, "domain-blocked")

    def test_domain_not_allowed(self):
        session = self.lab.open(policyProfile={"allowDomains": ["other.test"], "blockDomains": ["no.other.test"]})
        self.refused(self.ask("target.test:443", session), 403, "domain-not-allowed")
        self.refused(self.ask("notother.test:443", session), 403, "domain-not-allowed")
        self.refused(self.ask("no.other.test:443", session), 403, "domain-blocked")

    def test_session_closed_before_not_before(self):
        session = self.lab.open(wait="accepted", notBeforeS=50)
        self.refused(self.ask("target.test:443", session), 403, "session-closed")

    def test_resolve_failed(self):
        for fail in ["nxdomain", "servfail", "refused", "garbage", "http"]:
            with self.subTest(fail):
                self.lab.post("/zone", {"name": f"{fail}.fail.test", "fail": fail})
                self.refused(self.ask(f"{fail}.fail.test:443"), 502, "resolve-failed", "dns_error")
        self.lab.post("/zone", {"name": "empty.fail.test", "addresses": []})
        self.refused(self.ask("empty.fail.test:443"), 502, "resolve-failed", "dns_error")

    def test_a_resolver_that_says_nothing_is_a_failure_in_bounded_time(self):
        self.lab.post("/zone", {"name": "silent.fail.test", "fail": "timeout"})
        start = time.monotonic()
        self.refused(self.ask("silent.fail.test:443", timeout=30), 502, "resolve-failed", "dns_error")
        self.assertLess(time.monotonic() - start, 15)

    @unittest.skipIf(os.environ.get("EMULATED"), "qemu-user hands on this machine's numbers of errors at sockets; tests/vm has it")
    def test_connect_failed(self):
        self.refused(self.ask("nobody.test:443"), 502, "connect-failed", "connection_refused")

    def test_connect_timeout(self):
        self.topology.inet.ip("route", "add", "44.99.0.1/32", "dev", "b0")
        self.topology.inet.ip("neigh", "replace", "44.99.0.1", "lladdr", "02:00:00:00:00:99", "dev", "b0")
        start = time.monotonic()
        self.refused(self.ask("unrouted.test:443", timeout=20), 504, "connect-timeout", "connection_timeout")
        self.assertAlmostEqual(time.monotonic() - start, 10, delta=2)

    def test_the_order_of_checks(self):
        blocked = "owner-blocked.test"
        self.refused(self.proxy.connect(f"{blocked}:80", None), 407, "auth-required")
        self.refused(self.ask(f"{blocked}:80"), 403, "port-denied")
        self.refused(self.ask("192.168.1.10:80"), 403, "port-denied")
        head = f"GET http://{blocked}:80/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {self.session.basic()}\r\n\r\n"
        self.refused(self.proxy.send(head.encode()), 403, "not-https")

    def test_refusals_are_counted_for_the_coordinator_and_errors_are_not(self):
        for host in ["owner-blocked.test", "lan.test", "nobody.test", "nxdomain.fail2.test"]:
            self.ask(f"{host}:443")
        totals = self.settle(self.session)
        self.assertEqual((totals["rejected"], totals["connections"]), (2, 0))
        bundle = self.lab.session(self.session.id)["bundles"][-1]
        self.assertEqual(bundle.get("bundle", bundle).get("errorRatePct", bundle.get("object", {}).get("errorRatePct")), 100)

    def test_status_counts_refusals_by_slug(self):
        was = self.node.status()["refusals"].get("domain-blocked", 0)
        self.ask("owner-blocked.test:443")
        self.assertEqual(self.node.status()["refusals"]["domain-blocked"], was + 1)


class Head(World):
    """Heads that are no requests: bounded, answered or closed, and never a tunnel."""

    def setUp(self):
        self.session = self.lab.open()

    def answer(self, data, timeout=20):
        stream = self.proxy.dial(timeout)
        try:
            stream.write(data)
            return read_all(stream)
        except (ConnectionResetError, BrokenPipeError):
            return RESET
        finally:
            stream.close()

    def test_nonsense_is_no_tunnel(self):
        for data in [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"HELLO\r\n\r\n", b"CONNECT target.test:443\r\n\r\n", b"\0" * 100 + b"\r\n\r\n"]:
            with self.subTest(data[:10]):
                answer = self.answer(data)
                self.assertTrue(answer in (b"", RESET) or answer.startswith(b"HTTP/1.1 4"), answer[:80])

    def test_a_head_without_end_is_cut_off(self):
        data = b"CONNECT target.test:443 HTTP/1.1\r\n" + b"X-Fill: " + b"x" * 100_000
        answer = self.answer(data)
        self.assertTrue(answer in (b"", RESET) or answer.startswith(b"HTTP/1.1 4"), answer[:80])

    def test_a_client_that_never_speaks_is_let_go_after_ten_seconds(self):
        start = time.monotonic()
        raw = Tcp(self.topology.buyer.connect(self.proxy.address, 30))
        self.assertIn(ending(raw), (b"", RESET))
        self.assertAlmostEqual(time.monotonic() - start, 10, delta=3)

    def test_plain_http_on_the_tls_port_gets_nothing(self):
        raw = Tcp(self.topology.buyer.connect(self.proxy.address, 15))
        raw.write(b"CONNECT target.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = ending(raw)
        self.assertTrue(answer == RESET or not answer.startswith(b"HTTP"), answer)


class AfterThe200(World):
    """One fatal alert record, then the end; the target got a connection and not one byte."""

    def setUp(self):
        self.before = len(self.target.connections)
        self.session = self.lab.open()

    def answer(self, hello, session=None, host="target.test", timeout=15):
        stream = self.proxy.hello(session or self.session, hello, host, timeout)
        got = ending(stream)
        stream.close()
        seen = self.target.next(self.before)
        seen.ended()
        self.assertEqual(seen.got, b"", "the target got bytes of a refused hello")
        self.before += 1
        return got

    def tearDown(self):
        self.clean()

    def alert(self, description, hello, session=None, host="target.test"):
        self.assertEqual(self.answer(hello, session, host), fatal_alert(description))

    def slug(self):
        lines = [x for x in self.node.lines() if x["sessionId"] == self.session.id]
        return lines[-1].get("slug") if lines else None

    def test_sni_missing(self):
        self.alert(112, client_hello(sni=None))
        self.assertEqual(self.slug(), "sni-missing")

    def test_sni_mismatch(self):
        for sni in ["other.test", "www.target.test", "target.test.", "target.tes", "TARGET.testx"]:
            with self.subTest(sni):
                if sni == "target.test.":
                    continue  # RFC 6066 section 3 forbids the dot; whether it is equal is open
                self.alert(112, client_hello(sni=sni))
                self.assertEqual(self.slug(), "sni-mismatch")

    def test_sni_in_other_case_is_the_same_name(self):
        stream = self.proxy.hello(self.session, client_hello(sni="Target.TEST"))
        self.assertTrue(self.target.next(self.before).wait(lambda c: c.got))
        self.before += 1
        stream.close()

    def test_two_server_names_are_a_mismatch(self):
        self.alert(112, client_hello(sni="target.test", extra=extension(0, b"\0\x0d\0\0\x0aother.test")))

    def test_alpn_denied_if_any_offered_name_is_not_listed(self):
        session = self.lab.open(policyProfile={"alpn": ["http/1.1"]})
        self.alert(120, client_hello(alpn=["http/1.1", "h2"]), session)
        self.alert(120, client_hello(alpn=["h2"]), session)

    def test_an_empty_alpn_list_allows_only_hellos_without(self):
        session = self.lab.open(policyProfile={"alpn": []})
        self.alert(120, client_hello(alpn=["http/1.1"]), session)
        stream = self.proxy.hello(session, client_hello(alpn=None))
        self.assertTrue(self.target.next(self.before).wait(lambda c: c.got))
        self.before += 1
        stream.close()

    def test_ech_denied_by_profile(self):
        session = self.lab.open(policyProfile={"ech": "deny"})
        self.alert(49, client_hello(ech=True), session)

    def test_ech_denied_to_a_known_public_name(self):
        self.alert(49, client_hello(sni="cloudflare-ech.com", ech=True), host="cloudflare-ech.com")
        self.assertEqual(self.slug(), "ech-denied")
        stream = self.proxy.tunnel(self.session, "cloudflare-ech.com")
        self.assertTrue(self.target.next(self.before).wait(lambda c: c.got))
        self.before += 1
        stream.close()

    def test_ech_with_the_hosts_own_outer_name_passes(self):
        stream = self.proxy.hello(self.session, client_hello(ech=True))
        self.assertTrue(self.target.next(self.before).wait(lambda c: c.got))
        self.before += 1
        stream.close()

    def test_tls_version(self):
        self.alert(49, client_hello(versions=None, legacy=TLS11))
        self.assertEqual(self.slug(), "tls-version")
        self.alert(49, client_hello(versions=[TLS11], legacy=TLS12))
        for versions, legacy in [(None, TLS12), ([TLS13], TLS12), ([TLS12, TLS11], TLS12)]:
            stream = self.proxy.hello(self.session, client_hello(versions=versions, legacy=legacy))
            self.assertTrue(self.target.next(self.before).wait(lambda c: c.got))
            self.before += 1
            stream.close()

    def test_not_tls_closes_without_an_alert(self):
        for data in [b"GET / HTTP/1.1\r\nHost: target.test\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\0\x05\x02\0\0\1\0"]:
            with self.subTest(data[:8]):
                self.assertEqual(self.answer(data), b"")
                self.assertEqual(self.slug(), "not-tls")

    def test_hello_timeout(self):
        start = time.monotonic()
        got = self.answer(client_hello()[:40], timeout=20)
        self.assertEqual(got, fatal_alert(49))
        self.assertAlmostEqual(time.monotonic() - start, 10, delta=2)
        self.assertEqual(self.slug(), "hello-timeout")

    def test_a_hello_over_16_kib_is_refused_at_once(self):
        start = time.monotonic()
        self.alert(49, client_hello(pad=17_000))
        self.assertLess(time.monotonic() - start, 5)

    def test_refused_hellos_are_rejections_without_bytes(self):
        self.answer(client_hello(sni="other.test"))
        totals = self.settle(self.session)
        self.assertEqual(
            [totals[k] for k in ("rejected", "connections", "bytesIngress", "bytesEgress")], [1, 0, 0, 0]
        )
