//! The recorded bytes.
const TRANSCRIPT: &str = include_str!("testdata/transcript.txt");

/// The bytes under a name.
pub fn recorded(name: &str) -> Vec<u8> {
    let line = TRANSCRIPT.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    let digits = line.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
    digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
}
