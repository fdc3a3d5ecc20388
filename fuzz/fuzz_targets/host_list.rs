//! Lists of hosts from anywhere: no bytes make the importer fail, what it takes is a name, and it does not matter in
//! which pieces it comes.
#![no_main]
use echomesh::policy::hosts::normal;
use echomesh::policy::lists::{Importer, to_ascii};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut whole = Importer::default();
    whole.feed(bytes);
    let report = whole.end_list();
    let mut pieces = Importer::default();
    bytes.chunks(7).for_each(|piece| pieces.feed(piece));
    assert_eq!(pieces.end_list(), report);
    assert!(whole.finish().len() <= report.names);
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(to_ascii) {
        assert_eq!(normal(&name).as_deref(), Some(name.as_str()));
    }
});
