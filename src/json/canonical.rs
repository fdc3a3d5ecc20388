//! The JSON Canonicalization Scheme, RFC 8785.
use super::Value;

/// The canonical text of a value.
pub(super) fn write(value: &Value) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
}

fn put(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(i) => put_number(*i as f64, out),
        Value::Float(f) => put_number(*f, out),
        Value::String(s) => put_string(s, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                put(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => put_object(members, out),
    }
}

/// Section 3.2.3: members ordered by the UTF-16 code units of their names.
fn put_object(members: &[(String, Value)], out: &mut String) {
    let mut order: Vec<&(String, Value)> = members.iter().collect();
    order.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (i, (name, value)) in order.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        put_string(name, out);
        out.push(':');
        put(value, out);
    }
    out.push('}');
}

/// Section 3.2.2.3: as ECMAScript prints a number. A value that is not finite has no JSON form; `null` is what
/// ECMAScript's own `JSON.stringify` writes for it.
fn put_number(number: f64, out: &mut String) {
    if number.is_finite() {
        put_finite(number, out);
    } else {
        out.push_str("null");
    }
}

/// Digits below which no two decimals of that length read back as the same number and are equally near to it.
const TIES: usize = 15;

/// Digits after which the expansion of a number that lies between two such decimals has ended: it has fewer than 20.
const EXPANDED: usize = 40;

/// ECMA-262 section 6.1.6.1.20.
fn put_finite(number: f64, out: &mut String) {
    let (digits, n) = shortest(number.abs());
    let k = i32::try_from(digits.len()).unwrap_or_default();
    let zeros = |count: i32, out: &mut String| (0..count).for_each(|_| out.push('0'));
    if number < 0.0 {
        out.push('-');
    }
    if k <= n && n <= 21 {
        out.push_str(&digits);
        zeros(n - k, out);
    } else if -6 < n && n <= 21 {
        let (whole, fraction) = digits.split_at_checked(n.max(0) as usize).unwrap_or((&digits, ""));
        out.push_str(if n <= 0 { "0" } else { whole });
        out.push('.');
        zeros(-n, out);
        out.push_str(fraction);
    } else {
        let (first, others) = digits.split_at_checked(1).unwrap_or((&digits, ""));
        for part in [first, if k > 1 { "." } else { "" }, others, if n > 0 { "e+" } else { "e" }] {
            out.push_str(part);
        }
        out.push_str(&(n - 1).to_string());
    }
}

/// The fewest digits that read back as the same number, and how many of them stand before the decimal point.
fn shortest(number: f64) -> (String, i32) {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    let digits = even(number, &digits, exponent).unwrap_or(digits);
    (digits, exponent.parse::<i32>().unwrap_or_default() + 1)
}

/// Where a number lies halfway between these digits and others, those that are even: the standard wants them, and the
/// library takes the greater.
fn even(number: f64, digits: &str, exponent: &str) -> Option<String> {
    if digits.len() < TIES || digits.ends_with(['0', '2', '4', '6', '8']) {
        return None;
    }
    let exact = format!("{number:.EXPANDED$e}");
    let exact = exact.split_once('e')?.0.replace('.', "");
    let lower = exact.trim_end_matches('0').strip_suffix('5')?;
    if lower.len() != digits.len() || lower.ends_with(['1', '3', '5', '7', '9']) {
        return None;
    }
    let (first, others) = lower.split_at_checked(1)?;
    let read_back = format!("{first}.{others}e{exponent}").parse();
    (read_back == Ok(number)).then(|| lower.to_owned())
}

/// Section 3.2.2.2: two-character escapes where there is one, `\u00xx` for the other controls, nothing else.
fn put_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                out.push_str("\\u00");
                out.push(if (c as u32) < 16 { '0' } else { '1' });
                out.push(char::from_digit(c as u32 % 16, 16).unwrap_or('0'));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        parse(text.as_bytes()).unwrap().canonical()
    }

    #[test]
    fn the_example_of_rfc_8785_section_3_2_2() {
        let text = r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#;
        assert_eq!(
            canonical(text),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    #[test]
    fn the_sorting_example_of_rfc_8785_section_3_2_3() {
        let text = "{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}";
        assert_eq!(
            canonical(text),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn the_numbers_of_rfc_8785_appendix_b() {
        for (bits, text) in [
            (0x0000000000000000u64, "0"),
            (0x3ff0000000000000, "1"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ] {
            assert_eq!(super::write(&super::Value::Float(f64::from_bits(bits))), text);
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(text in r#"[\{\}\[\]",:0-9a-eE.\\u -]{0,60}"#) {
            if let Ok(value) = parse(text.as_bytes()) {
                let once = value.canonical();
                prop_assert_eq!(parse(once.as_bytes()).unwrap().canonical(), once);
            }
        }

        #[test]
        fn numbers_are_printed_as_another_implementation_does(bits: u64, small in -1_000_000_000i64..1_000_000_000, places in 0i32..12) {
            let quarters = (bits % (1 << 53)) as f64 / [4.0, 8.0, 16.0, 1024.0][places as usize % 4];
            for number in [f64::from_bits(bits), bits as f64, quarters, small as f64 / 10f64.powi(places)] {
                if number.is_finite() {
                    let text = super::write(&super::Value::Float(number));
                    let theirs = ryu_js::Buffer::new().format_finite(number).to_owned();
                    prop_assert_eq!(&text, &theirs);
                    prop_assert_eq!(text.parse::<f64>().unwrap(), number);
                }
            }
        }

        #[test]
        fn any_string_survives(s in "\\PC*|[\\x00-\\x7f]*") {
            let text = super::write(&super::Value::String(s.clone()));
            let back = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(back.as_str(), Some(s.as_str()));
        }
    }
}
