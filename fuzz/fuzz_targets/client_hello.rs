//! Any cut of the bytes gives the same verdict as the whole, no byte is lost, and a refused hello stays refused.
#![no_main]
use echomesh::policy::hosts::DomainSet;
use echomesh::session::HelloRules;
use echomesh::tls::client_hello::{HelloReader, Progress, alert_record, judge};
use libfuzzer_sys::fuzz_target;

fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> (HelloReader, Progress, usize) {
    let mut reader = HelloReader::default();
    let (mut progress, mut fed) = (Progress::NeedMore, 0);
    for piece in pieces {
        progress = reader.feed(piece);
        fed += piece.len();
        if progress != Progress::NeedMore {
            break;
        }
    }
    (reader, progress, fed)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let (whole, verdict, _) = read(&mut std::iter::once(bytes));
    let (pieces, in_pieces, fed) = read(&mut bytes.chunks(usize::from(cut) + 1));
    assert_eq!(verdict, in_pieces);
    assert_eq!(whole.hello(), pieces.hello());
    assert_eq!(pieces.into_raw(), &bytes[..fed]);
    let Some(hello) = whole.hello() else { return };
    let rules = HelloRules {
        host: "www.example.com".to_owned(),
        alpn: ["h2".to_owned()].into(),
        ech_deny: cut & 1 == 1,
    };
    if let Err(refusal) = judge(hello, &rules, &DomainSet::default()) {
        assert!(refusal.status().is_none(), "a refusal after the 200 has no status");
        assert!(!alert_record(refusal).is_empty());
    }
});
