//! Rules that a mutation run takes out, by name, to see that an attack of the corpus succeeds without each. Only builds
//! with feature `mutants`, which are never packaged, can take one out; in every other build each function here is a
//! constant when it is compiled. `ECHOMESH_TAKE_OUT` holds names with commas between them, or `@FILE` with such a list,
//! which is read at every rule: so a run goes through its rules without a new start for each.

#[cfg(feature = "mutants")]
mod trust;
#[cfg(feature = "mutants")]
pub use trust::trust;

/// Whether the rule of this name is taken out.
#[cfg(feature = "mutants")]
pub fn out(rule: &str) -> bool {
    static TAKEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    match TAKEN.get_or_init(|| std::env::var("ECHOMESH_TAKE_OUT").ok()).as_deref() {
        None => false,
        Some(names) => match names.strip_prefix('@') {
            Some(file) => is_named(&std::fs::read_to_string(file).unwrap_or_default(), rule),
            None => is_named(names, rule),
        },
    }
}

/// Whether the rule of this name is taken out: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn out(_: &str) -> bool {
    false
}

/// Whether one row of a table of prefixes is taken out: the rule `TABLE:PREFIX/LENGTH`.
#[cfg(feature = "mutants")]
pub fn row_out(table: &str, prefix: impl std::fmt::Display, length: u8) -> bool {
    out(&format!("{table}:{prefix}/{length}"))
}

/// Whether one row of a table of prefixes is taken out: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn row_out<P>(_: &str, _: P, _: u8) -> bool {
    false
}

#[cfg(any(test, feature = "mutants"))]
fn is_named(list: &str, rule: &str) -> bool {
    list.split([',', '\n']).any(|name| name.trim() == rule)
}

/// A head as a careless reader would understand it: each rule of HTTP's grammar (RFC 9112) that is out is mended in the
/// bytes before they are parsed. Every mend keeps the length.
#[cfg(feature = "mutants")]
pub fn mended(head: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let mut bytes = head.to_vec();
    let mut mend = |rule: &str, from: &[u8], to: &[u8]| {
        while let Some(at) = bytes.windows(from.len()).position(|w| out(rule) && w == from) {
            bytes.splice(at..at + from.len(), to.iter().copied());
        }
    };
    mend("head-obs-fold", b"\r\n ", b"   ");
    mend("head-obs-fold", b"\r\n\t", b"   ");
    mend("head-space-before-colon", b" : ", b":  ");
    mend("head-nul", b"\0", b"_");
    mend("head-control-character", b"\x07", b"_");
    mend("head-bare-cr", b"\rX", b" X");
    mend("head-version", b"HTTP/2.0", b"HTTP/1.1");
    mend("head-version", b"HTTP/0.9", b"HTTP/1.1");
    mend("head-version", b"http/1.1", b"HTTP/1.1");
    mend("head-version", b"HTTP/1.2", b"HTTP/1.1");
    mend("head-spaces-in-request-line", b"CONNECT  ", b"CONNECTX ");
    mend("head-spaces-in-request-line", b"443 extra HTTP", b"443       HTTP");
    mend("head-field-name", b"X\x20Y:", b"X_Y:");
    mend("head-field-name", b"X\xc3\xa4:", b"X__:");
    mend("head-field-name", b"\r\n:", b" _:");
    mend("head-spaces-in-request-line", b": 443 HTTP", b":443  HTTP");
    std::borrow::Cow::Owned(bytes)
}

/// The head as it stands.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub fn mended(head: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    head.into()
}

/// Base64 as a careless reader would take it, for the rules of it that are out.
#[cfg(feature = "mutants")]
pub fn careless_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let padding = if out("auth-base64-padding") {
        DecodePaddingMode::Indifferent
    } else {
        DecodePaddingMode::RequireCanonical
    };
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(padding)
        .with_decode_allow_trailing_bits(out("auth-base64-stray-bits"));
    let text = if out("auth-base64-spaces") { text.replace(' ', "") } else { text.to_owned() };
    GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(text).ok()
}

/// Nothing: what is not canonical is no base64.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn careless_base64(_: &str) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "mutants"))]
    #[test]
    fn no_rule_is_out_in_an_ordinary_build() {
        const OUT: bool = super::out("any");
        const { assert!(!OUT) };
        assert!(!super::row_out("any", 1, 2));
        assert_eq!(super::mended(b"a\0b"), &b"a\0b"[..]);
    }

    #[test]
    fn a_list_names_whole_rules() {
        assert!(super::is_named("a,b-c\nd", "b-c") && super::is_named("a,b\n d", "d"));
        assert!(!super::is_named("ab,c", "a") && !super::is_named("", "a"));
    }
}
