//! What is parsed is written canonically, and that text is its own canonical form.
#![no_main]
use echomesh::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = json::parse(data) else { return };
    let written = value.canonical();
    let again = json::parse(written.as_bytes()).expect("its own writing is taken");
    assert_eq!(again.canonical(), written);
});
