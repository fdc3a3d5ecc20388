//! A lease with packets through it, as the guard passes them on.
use super::fake_guard::{FakeGuard, lease, leasing, says};
use super::*;
use crate::guard::lease_wire::{Counted, CtId, Grant, LeaseReport, LeaseRequest, PASSED, Verdict};
use crate::lease::segment::tests::{Made, SYN_OPTIONS};
use crate::lease::service::Connection;
use std::rc::Rc;
use std::task::{Context, Waker};

pub const ALPN: &str = r#"{"policyProfile":{"name":"p","allowDomains":[],"blockDomains":[],"allowedPorts":[443],
    "alpn":["h2","http/1.1"],"transports":["relay","lease"],"ech":"outer"}}"#;
pub const SYN: u8 = 2;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x11;
pub const RST: u8 = 4;
/// Bytes of the header of every segment of these but the SYNs.
pub const HEADER: u64 = 40;
/// Bytes of the options of both SYNs.
const SYN_OPTIONS_BYTES: [u64; 2] = [20, 4];

pub fn hello() -> &'static [u8] {
    &include_bytes!("../../../fuzz/seeds/client_hello/curl.bin")[1..]
}

fn server_hello() -> Vec<u8> {
    [&[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3][..], &[7; 32], &[0; 40]].concat()
}

pub struct Wire {
    pub bench: Bench,
    pub guard: Rc<FakeGuard>,
    pub grant: Grant,
    pub connection: Connection,
    packets: u32,
}

impl Wire {
    /// A lease for `origin.test`.
    pub fn new(config: &str, order: &str) -> Wire {
        let (bench, guard) = leasing(config, order);
        let connection = bench.node.leases.connect().unwrap();
        let (_, grant) = lease(&bench, &guard, &connection, "origin.test");
        Wire { bench, guard, grant, connection, packets: 0 }
    }

    /// A packet of a flow; what the guard is told.
    pub fn packet(&mut self, ct: CtId, reply: bool, made: Made) -> Vec<LeaseRequest> {
        self.packets += 1;
        self.numbered(self.packets, ct, reply, made)
    }

    /// A packet that the guard has let pass.
    pub fn passed(&mut self, ct: CtId, reply: bool, made: Made) {
        assert_eq!(self.numbered(PASSED, ct, reply, made), []);
    }

    fn numbered(&mut self, packet: u32, ct: CtId, reply: bool, made: Made) -> Vec<LeaseRequest> {
        let bytes = made.bytes();
        let report = LeaseReport::Packet {
            packet,
            ct,
            port: self.grant.port,
            buyer: (bench::BUYER, 50_000),
            reply,
            length: bytes.len() as u32,
            bytes,
        };
        says(&self.bench, report);
        self.guard.take()
    }

    pub fn verdict(&mut self, ct: CtId, reply: bool, made: Made) -> Verdict {
        match self.packet(ct, reply, made)[..] {
            [LeaseRequest::Verdict { what, .. }] => what,
            ref other => panic!("{other:?}"),
        }
    }

    pub fn buyer(&mut self, ct: CtId, flags: u8, seq: u32, payload: &[u8]) -> Verdict {
        self.verdict(ct, false, Made::new(flags, seq, 9_001, payload))
    }

    pub fn target(&mut self, ct: CtId, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Verdict {
        self.verdict(ct, true, Made::new(flags, seq, ack, payload))
    }

    /// Up to the hello.
    pub fn establish(&mut self, ct: CtId) {
        let syn = Made::new(SYN, 100, 0, b"").with_options(&SYN_OPTIONS);
        assert_eq!(self.verdict(ct, false, syn), Verdict::Stop);
        self.bench.pass_ms(20);
        let answer = Made::new(SYN | ACK, 9_000, 101, b"").with_options(&SYN_OPTIONS[..4]);
        assert_eq!(self.verdict(ct, true, answer), Verdict::Stop);
        assert_eq!(self.buyer(ct, ACK, 101, b""), Verdict::Stop);
    }

    /// Up to the target's answer; the sequence number behind the hello.
    pub fn accept(&mut self, ct: CtId) -> u32 {
        self.establish(ct);
        let end = 101 + hello().len() as u32;
        assert_eq!(self.buyer(ct, ACK, 101, hello()), Verdict::Stop);
        assert_eq!(self.target(ct, ACK, 9_001, end, &server_hello()), Verdict::Accept);
        end
    }

    /// Ends what the node ends; what the guard is told.
    pub fn ends(&self) -> Vec<LeaseRequest> {
        self.bench.node.leases.end_flows(&mut Context::from_waker(Waker::noop()));
        self.guard.take()
    }

    pub fn closed(&self, ct: CtId, packets: [u64; 2], payload: [u64; 2]) {
        let [out, back] = SYN_OPTIONS_BYTES;
        let bytes = [packets[0] * HEADER + out + payload[0], packets[1] * HEADER + back + payload[1]];
        says(&self.bench, LeaseReport::Closed(Counted { ct, packets, bytes }));
    }

    pub fn totals(&self) -> (u64, u64, u64, u64) {
        let sessions = self.bench.node.sessions.borrow();
        let totals = sessions[ID].meter.borrow().totals().clone();
        (totals.bytes_ingress, totals.bytes_egress, totals.connections, totals.rejected)
    }

    pub fn live(&self) -> usize {
        self.bench.node.ledger.live_flows()
    }

    /// The newest line of the access log.
    pub fn line(&self) -> crate::json::Value {
        self.bench.node.ledger.flush_log();
        let mut all = String::new();
        for file in std::fs::read_dir(self.bench.dir.0.join("log")).unwrap().map(|f| f.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().starts_with("access") {
                all.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap()));
            }
        }
        crate::json::parse(all.lines().last().unwrap().as_bytes()).unwrap()
    }
}
