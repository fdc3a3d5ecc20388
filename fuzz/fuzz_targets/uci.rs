//! What UCI's text says is refused, or written and read back as the same document, in both of its forms.
#![no_main]
use echomesh::config::{self, Face, uci};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(sections) = uci::parse(text) else { return };
    assert!(sections.len() <= uci::MAX_SECTIONS);
    let Ok(document) = uci::document(&sections) else { return };
    let written = uci::write(&document, &sections);
    let again = config::read(written.as_bytes(), Face::Uci).unwrap_or_else(|e| panic!("{e}\n{written}"));
    assert_eq!(again.canonical(), document.canonical(), "{written}");
    let mut shown = String::new();
    for (i, section) in uci::parse(&written).expect("it was read just now").iter().enumerate() {
        let name = section.name.clone().unwrap_or_else(|| format!("cfg{i:06x}"));
        shown.push_str(&format!("echomesh.{name}={}\n", section.kind));
        for option in &section.options {
            let values: Vec<String> =
                option.values.iter().map(|v| format!("'{}'", v.replace('\'', r"'\''"))).collect();
            shown.push_str(&format!("echomesh.{name}.{}={}\n", option.name, values.join(" ")));
        }
    }
    let again = config::read(shown.as_bytes(), Face::Uci).unwrap_or_else(|e| panic!("{e}\n{shown}"));
    assert_eq!(again.canonical(), document.canonical(), "{shown}");
});
