//! No message of the queue or of connection tracking upsets its reader, and a queued packet becomes a bare reset or nothing.
#![no_main]
use echomesh::guard::netlink::messages;
use echomesh::guard::nfqueue::Queued;
use echomesh::guard::{conntrack, reset};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for message in messages(data) {
        if let Some(queued) = Queued::read(&message) {
            assert!(queued.bytes.len() <= data.len());
            let rst = reset::of(queued.bytes);
            assert!(rst.is_none_or(|r| r.len() == 40 || r.len() == 60));
        }
        if let Some(conntrack::Told::There(entry) | conntrack::Told::Gone(entry)) = conntrack::read(&message)
        {
            // It can be named again.
            let batch = conntrack::delete([(entry.counted.ct, &entry.original)].into_iter(), 1);
            let named = messages(&batch).next().and_then(|m| conntrack::read(&m));
            let Some(conntrack::Told::Gone(named)) = named else { panic!("{named:?}") };
            assert_eq!((named.original, named.counted.ct), (entry.original, entry.counted.ct));
        }
    }
    let _ = reset::of(data);
});
