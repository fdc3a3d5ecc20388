//! What is taken from one face is written in both faces and read back as the same document and configuration.
#![no_main]
use echomesh::config::{self, Face, Platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    let face = if choice & 1 == 0 { Face::Yaml } else { Face::Json };
    let platform = if choice & 2 == 0 { Platform::OpenWrt } else { Platform::Other };
    let Ok(document) = config::read(text, face) else { return };
    let parsed = config::parse(text, face, platform).expect("a valid document has a configuration");
    for other in [Face::Yaml, Face::Json] {
        let written = config::write(&document, other);
        let again = config::read(written.as_bytes(), other).unwrap_or_else(|e| panic!("{e}\n{written}"));
        assert_eq!(again.canonical(), document.canonical());
        assert_eq!(config::parse(written.as_bytes(), other, platform).as_ref(), Ok(&parsed));
    }
});
