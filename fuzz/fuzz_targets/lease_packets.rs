//! Packets of one flow, as a buyer and a target might make them up: every one is answered at most once, what is kept is
//! bounded, and of a hello that was not accepted no byte is let through.
#![no_main]
use echomesh::guard::lease_wire::{CtId, Verdict};
use echomesh::lease::event::{Action, Note, Packet};
use echomesh::lease::gate::{Gate, MAX_MEMORY, Owner};
use echomesh::lease::segment::Segment;
use echomesh::policy::refusal::Refusal;
use echomesh::session::{Direction, HelloRules};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::net::IpAddr;

struct Anybody;

impl Owner for Anybody {
    fn admit(&mut self, _: CtId, _: u16, _: (IpAddr, u16)) -> Result<(), Refusal> {
        Ok(())
    }

    fn rules(&mut self, _: CtId) -> Option<HelloRules> {
        let alpn = ["h2".to_owned(), "http/1.1".to_owned()].into();
        Some(HelloRules { host: "origin.test".to_owned(), alpn, ech_deny: false })
    }
}

#[derive(Default)]
struct Seen {
    answered: BTreeMap<u32, Verdict>,
    accepted: bool,
    egress: u64,
}

impl Seen {
    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Verdict { packet, what } => assert_eq!(self.answered.insert(packet, what), None),
                Action::Passed { direction: Direction::Egress, payload, .. } => self.egress += u64::from(payload),
                Action::Note(Note::Accepted) => self.accepted = true,
                _ => {}
            }
        }
        assert!(self.accepted || self.egress == 0, "before the hello was accepted");
    }
}

// A record: bit 7 of its first byte is the direction, the rest is how long the packet is that follows; packets that begin
// with 0 are an IPv4 header short, which is put in front of them.
fuzz_target!(|data: &[u8]| {
    let (mut gate, mut seen, mut rest, mut now_us) = (Gate::new(8), Seen::default(), data, 0);
    let mut number = 0;
    while let Some(([kind, size], after)) = rest.split_first_chunk::<2>() {
        let size = usize::from(u16::from_be_bytes([kind & 0x7f, *size])).min(after.len());
        let (body, next) = after.split_at(size);
        let mut bytes = body.to_vec();
        if body.first() == Some(&0) {
            let length = u16::try_from(body.len() - 1 + 20).unwrap_or(0).to_be_bytes();
            bytes =
                [&[0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 6], &[7; 10][..], &body[1..]].concat();
        }
        let length = u32::try_from(bytes.len()).unwrap();
        if let Ok(segment) = Segment::parse(&bytes, length) {
            assert_eq!(segment.header + segment.payload.len(), bytes.len());
        }
        let buyer = (IpAddr::from([198, 51, 100, 7]), 50_000);
        let reply = kind & 0x80 != 0;
        let packet = Packet { number, ct: 1, port: 40_000, buyer, reply, length, bytes: &bytes };
        seen.take(gate.packet(&packet, now_us, &mut Anybody));
        (number, rest, now_us) = (number + 1, next, now_us + 100_000);
        seen.take(gate.tick(now_us));
        assert!(gate.memory() <= MAX_MEMORY);
    }
    seen.take(gate.end(1));
    assert!((0..number).all(|n| seen.answered.contains_key(&n)), "every packet is answered in the end");
});
