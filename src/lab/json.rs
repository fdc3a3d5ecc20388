//! Strict JSON over tinyjson: what that parser lets pass (duplicate names, depth) is refused here, and the
//! RFC 8785 form is written by hand with the standard library's shortest digits.
use std::collections::HashSet;
use std::fmt::Write as _;

/// A JSON value; numbers are IEEE 754 doubles, as RFC 8785 wants them.
pub type Json = tinyjson::JsonValue;

/// Deepest nesting the lab reads.
const MAX_DEPTH: usize = 64;

/// Parses one JSON text. Errors say what is wrong in words.
pub fn parse(bytes: &[u8]) -> Result<Json, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "JSON is UTF-8".to_owned())?;
    scan(text)?;
    text.parse::<Json>().map_err(|error| error.to_string())
}

/// Builds an object from pairs.
pub fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A string value.
pub fn text(value: impl Into<String>) -> Json {
    Json::String(value.into())
}

/// A number from an integer that fits into 2^53.
pub fn number(value: impl TryInto<i64>) -> Json {
    let value: i64 = value.try_into().unwrap_or(i64::MAX);
    Json::Number(value as f64)
}

/// Reading members without ceremony.
pub trait Members {
    /// The member of that name, if this is an object and has one.
    fn member(&self, name: &str) -> Option<&Json>;
    /// A string member.
    fn str(&self, name: &str) -> Option<&str>;
    /// An integer member within ±(2^53−1).
    fn int(&self, name: &str) -> Option<i64>;
    /// An array member; empty if missing.
    fn list(&self, name: &str) -> &[Json];
    /// Sets a member of an object; `Null` removes it.
    fn set(&mut self, name: &str, value: Json);
}

impl Members for Json {
    fn member(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(map) => map.get(name),
            _ => None,
        }
    }

    fn str(&self, name: &str) -> Option<&str> {
        self.member(name).and_then(as_str)
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.member(name).and_then(as_int)
    }

    fn list(&self, name: &str) -> &[Json] {
        match self.member(name) {
            Some(Json::Array(items)) => items,
            _ => &[],
        }
    }

    fn set(&mut self, name: &str, value: Json) {
        if let Json::Object(map) = self {
            match value {
                Json::Null => map.remove(name),
                value => map.insert(name.to_owned(), value),
            };
        }
    }
}

/// The string in a value.
pub fn as_str(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => Some(text),
        _ => None,
    }
}

/// The integer in a value, if it is one and within ±(2^53−1).
pub fn as_int(value: &Json) -> Option<i64> {
    match value {
        Json::Number(n) if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_991.0 => Some(*n as i64),
        _ => None,
    }
}

/// The RFC 8785 form of a value.
pub fn canonical(value: &Json) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Json) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Boolean(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Json::Number(n) => out.push_str(&es_number(*n)),
        Json::String(text) => write_string(out, text),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Json::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            // RFC 8785 section 3.2.3 sorts by UTF-16 code units, not by code points.
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_value(out, map.get(name).unwrap_or(&Json::Null));
            }
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
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
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// ECMAScript's Number::toString (ECMA-262 section 6.1.6.1.20); not finite becomes `null`.
fn es_number(n: f64) -> String {
    if !n.is_finite() {
        return "null".to_owned();
    }
    if n == 0.0 {
        return "0".to_owned();
    }
    let shortest = format!("{:e}", n.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = even_of_two(digits, n.abs());
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(1);
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let body = if (count..=21).contains(&point) {
        format!("{digits}{}", zeros(point - count))
    } else if (1..=21).contains(&point) {
        let (whole, part) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{part}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{:+}", point - 1)
    };
    if n < 0.0 { format!("-{body}") } else { body }
}

/// Of two shortest forms equally near to the value RFC 8785 wants the even one; the standard library rounds up.
fn even_of_two(mut digits: String, n: f64) -> String {
    // A tie has one significant digit more, a 5, and then nothing; 770 places show any double exactly.
    let exact = format!("{n:.770e}");
    let exact: String =
        exact.split('e').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    let lower = digits.pop().and_then(|last| last.to_digit(10)).unwrap_or(0);
    let down = char::from_digit(lower.saturating_sub(1), 10).unwrap_or('0');
    let tie = lower % 2 == 1 && exact.trim_end_matches('0') == format!("{digits}{down}5");
    digits.push(if tie { down } else { char::from_digit(lower, 10).unwrap_or('0') });
    digits
}

/// Refuses duplicate names and deep nesting; everything else is the parser's business.
fn scan(text: &str) -> Result<(), String> {
    let mut open: Vec<HashSet<String>> = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut last: Option<String> = None;
    while let Some((start, c)) = chars.next() {
        match c {
            '"' => {
                let end = loop {
                    match chars.next() {
                        Some((_, '\\')) => drop(chars.next()),
                        Some((at, '"')) => break at,
                        Some(_) => {}
                        None => return Err("a string does not end".to_owned()),
                    }
                };
                last = text.get(start..=end).map(str::to_owned);
                continue;
            }
            '{' | '[' => {
                open.push(HashSet::new());
                if open.len() > MAX_DEPTH {
                    return Err(format!("nested deeper than {MAX_DEPTH}"));
                }
            }
            '}' | ']' => drop(open.pop()),
            ':' => {
                let raw = last.take().unwrap_or_default();
                let name = match raw.parse::<Json>() {
                    Ok(Json::String(name)) => name,
                    _ => return Err("a member name is not a string".to_owned()),
                };
                let names = open.last_mut().ok_or("a colon outside an object")?;
                if !names.insert(name.clone()) {
                    return Err(format!("duplicate member name {name:?}"));
                }
            }
            _ => continue,
        }
        last = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8785_example_of_the_whole_document() {
        let input = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let wanted = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
            \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(&parse(input.as_bytes()).unwrap()), wanted);
    }

    #[test]
    fn rfc8785_sorting_example_is_by_utf16() {
        let input = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control",
            "\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let text = canonical(&parse(input.as_bytes()).unwrap());
        let order =
            ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"].map(|w| text.find(w).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn rfc8785_appendix_b_numbers() {
        for (bits, wanted) in [
            (0x0000_0000_0000_0000u64, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(es_number(f64::from_bits(bits)), wanted, "{bits:x}");
        }
    }

    #[test]
    fn duplicate_names_are_refused_even_when_escaped() {
        assert!(parse(br#"{"a":1,"\u0061":2}"#).unwrap_err().contains("duplicate"));
        assert!(parse(br#"{"a":{"a":1},"b":{"a":":"}}"#).is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().contains("deeper"));
    }
}
