//! A head that is taken is taken alike whatever follows it, and a name to be resolved is in normal form.
#![no_main]
use echomesh::relay::connect::{Ask, MAX_HEAD, parse};
use echomesh::relay::lease_ask::wanted;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(request)) = parse(data) else { return };
    assert!(request.head <= data.len() && request.head <= MAX_HEAD);
    let alone = parse(&data[..request.head]).ok().flatten().expect("the head alone is a head");
    assert_eq!((alone.head, &alone.ask), (request.head, &request.ask));
    let target = match request.ask {
        Ask::Connect(target) => target,
        // What follows the head of a request for a lease is its content.
        Ask::Lease(_, length) => wanted(data[request.head..].get(..length).unwrap_or_default()),
    };
    if let Ok(target) = target {
        assert!(target.port > 0);
        if target.literal.is_some() {
            return; // Denied whatever it is.
        }
        assert!(!target.host.bytes().any(|b| b.is_ascii_uppercase() || b <= b' ' || b == b'/' || b == b'@'));
        assert!(target.host.contains('.'), "{} is no name to resolve", target.host);
    }
});
