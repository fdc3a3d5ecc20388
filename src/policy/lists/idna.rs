//! Names with other letters than ASCII's as A-labels (RFC 5890, RFC 3492; mapped as UTS 46 does, non-transitional).
//!
//! The tables of UTS 46 would be larger than everything else in `policy`. What needs them, composition and
//! compatibility forms, is not guessed at: such a name is refused, and whoever imports a list with one is told.
use crate::policy::hosts::normal;

// Parameters of Punycode, RFC 3492 section 5.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 128;

/// A name in normal form: lower case, A-labels, no final dot. `None` if it is no name, or one whose letters would have
/// to be composed or replaced first.
pub fn to_ascii(name: &str) -> Option<String> {
    if name.is_ascii() {
        return normal(name);
    }
    let mut out = String::new();
    for (at, label) in name.split(['.', '\u{3002}']).enumerate() {
        if at > 0 {
            out.push('.');
        }
        if label.is_ascii() {
            out.push_str(label);
        } else {
            let letters: Vec<char> = label.chars().flat_map(char::to_lowercase).collect();
            if !letters.iter().all(|c| stands_for_itself(*c)) {
                return None;
            }
            out.push_str("xn--");
            punycode(&letters, &mut out)?;
        }
    }
    normal(&out)
}

/// Whether UTS 46 leaves a lower-case letter as it is. Refused are those that compose with the letter before them
/// (U+0300 to U+036F), the invisible, and the blocks of compatibility forms.
fn stands_for_itself(c: char) -> bool {
    match c {
        'a'..='z' | '0'..='9' | '-' | '_' => true,
        '\0'..='\u{b6}' | '\u{b8}'..='\u{de}' | '\u{f7}' => false,
        '\u{132}'..='\u{133}' | '\u{13f}'..='\u{140}' | '\u{149}' | '\u{17f}' | '\u{1c4}'..='\u{1cc}' => {
            false
        }
        '\u{2b0}'..='\u{2b8}' | '\u{2d8}'..='\u{2dd}' | '\u{300}'..='\u{37a}' | '\u{387}' => false,
        '\u{3d0}'..='\u{3d6}' | '\u{3f0}'..='\u{3f9}' | '\u{587}' | '\u{61c}' | '\u{675}'..='\u{678}' => {
            false
        }
        '\u{1100}'..='\u{11ff}'
        | '\u{180b}'..='\u{180f}'
        | '\u{1d2c}'..='\u{1d7f}'
        | '\u{1e9a}'..='\u{1e9b}' => false,
        '\u{1f71}' | '\u{1f73}' | '\u{1f75}' | '\u{1f77}' | '\u{1f79}' | '\u{1f7b}' | '\u{1f7d}' => false,
        '\u{2000}'..='\u{2bff}' | '\u{2e80}'..='\u{3004}' | '\u{3008}'..='\u{3040}' => false,
        '\u{3099}'..='\u{309c}' | '\u{309f}' | '\u{30ff}' | '\u{3131}'..='\u{33ff}' => false,
        '\u{e000}'..='\u{ffff}' => false,
        '\u{1d400}'..='\u{1f2ff}' | '\u{2f800}'..='\u{10ffff}' => false,
        _ => true,
    }
}

/// RFC 3492 section 6.3; `None` if a number would not fit, as the RFC demands.
fn punycode(label: &[char], out: &mut String) -> Option<()> {
    let basic = label.iter().filter(|c| c.is_ascii());
    let mut handled = u32::try_from(basic.clone().count()).ok()?;
    out.extend(basic);
    if handled > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias, first) = (INITIAL_N, 0u32, INITIAL_BIAS, handled);
    let total = u32::try_from(label.len()).ok()?;
    while handled < total {
        let next = label.iter().map(|c| u32::from(*c)).filter(|c| *c >= n).min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for c in label.iter().map(|c| u32::from(*c)) {
            if c < n {
                delta = delta.checked_add(1)?;
            }
            if c == n {
                digits(delta, bias, out);
                bias = adapt(delta, handled + 1, handled == first);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n = n.checked_add(1)?;
    }
    Some(())
}

/// A delta as a variable-length integer.
fn digits(delta: u32, bias: u32, out: &mut String) {
    let (mut q, mut k) = (delta, BASE);
    loop {
        let t = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if q < t {
            out.extend(digit(q));
            return;
        }
        out.extend(digit(t + (q - t) % (BASE - t)));
        q = (q - t) / (BASE - t);
        k += BASE;
    }
}

/// a to z are 0 to 25, 0 to 9 are 26 to 35.
fn digit(value: u32) -> Option<char> {
    let letter = if value < 26 { u32::from('a') + value } else { u32::from('0') + value - 26 };
    char::from_u32(letter)
}

/// RFC 3492 section 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's `idna` package (UTS 46, non-transitional) makes of them.
    #[test]
    fn names_become_what_another_implementation_makes_of_them() {
        for (name, ascii) in [
            ("Bücher.Example", "xn--bcher-kva.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("παράδειγμα.δοκιμή", "xn--hxajbheg2az3al.xn--jxalpdlp"),
            ("ПРИМЕР.рф", "xn--e1afmkfd.xn--p1ai"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("उदाहरण.परीक्षा", "xn--p1b6ci4b4b3a.xn--11b5bs3a9aj6g"),
            ("ليهمابتكلموشعربي", "xn--mgbcah9ar9a4efegftvvn"),
            ("한국.kr", "xn--3e0b707e.kr"),
            ("www.mañana.com.", "www.xn--maana-pta.com"),
        ] {
            assert_eq!(to_ascii(name).as_deref(), Some(ascii), "{name}");
        }
    }

    #[test]
    fn what_would_have_to_be_composed_or_replaced_is_refused() {
        for name in [
            "bu\u{308}cher.example",
            "ｅxample.com",
            "a\u{200d}b.test",
            "x²é.test",
            "ǆé.test",
            "ﬁé.test",
            "a é.test",
        ] {
            assert_eq!(to_ascii(name), None, "{name}");
        }
        let long = "é".repeat(80);
        assert_eq!(to_ascii(&long), None, "a label has at most 63 octets");
    }

    #[test]
    fn ascii_names_are_as_elsewhere() {
        assert_eq!(to_ascii("WWW.Example.").as_deref(), Some("www.example"));
        assert_eq!(to_ascii("a..b"), None);
        assert_eq!(to_ascii("xn--bcher-kva.example").as_deref(), Some("xn--bcher-kva.example"));
    }
}
