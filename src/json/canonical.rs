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
        out.push_str(ryu_js::Buffer::new().format_finite(number));
    } else {
        out.push_str("null");
    }
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
        fn any_string_survives(s in "\\PC*|[\\x00-\\x7f]*") {
            let text = super::write(&super::Value::String(s.clone()));
            let back = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(back.as_str(), Some(s.as_str()));
        }
    }
}
