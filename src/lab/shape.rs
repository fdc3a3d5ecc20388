//! Checking the members of a message against a table: names, types, forms.
use super::clock::parse_instant;
use super::json::{Json, Members, as_int, as_str};
use super::{keys, text};

/// The form a value must have.
pub enum Shape {
    /// Any string.
    Text,
    /// An integer ≥ 0.
    Count,
    /// Any number.
    Number,
    /// A whole-second instant.
    Instant,
    /// `b3:` and 64 lower-case hex digits.
    Hash,
    /// A NodeID.
    NodeId,
    /// A lower-case UUID.
    Uuid,
    /// Standard base64 of that many bytes (0: any number).
    Base64(usize),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list of values of one form, with a greatest length.
    List(&'static Shape, usize),
    /// An object with these members and no others.
    Object(&'static [Member]),
    /// Not looked at here.
    Any,
}

/// One member of an object: name, whether it must be there, form.
pub struct Member(pub &'static str, pub bool, pub Shape);

/// A member that must be there.
pub const fn must(name: &'static str, shape: Shape) -> Member {
    Member(name, true, shape)
}

/// A member that may be missing.
pub const fn may(name: &'static str, shape: Shape) -> Member {
    Member(name, false, shape)
}

/// Everything that is wrong with a value, each as `pointer: what`.
pub fn check(value: &Json, shape: &Shape) -> Vec<String> {
    let mut wrong = Vec::new();
    walk("", value, shape, &mut wrong);
    wrong
}

fn walk(at: &str, value: &Json, shape: &Shape, wrong: &mut Vec<String>) {
    let text = as_str(value);
    let problem = match shape {
        Shape::Any => None,
        Shape::Text => text.is_none().then_some("not a string"),
        Shape::Count => as_int(value).is_none_or(|n| n < 0).then_some("not an integer ≥ 0"),
        Shape::Number => (!matches!(value, Json::Number(_))).then_some("not a number"),
        Shape::Instant => text.and_then(parse_instant).is_none().then_some("not YYYY-MM-DDTHH:MM:SSZ"),
        Shape::Hash => (!text.is_some_and(is_hash)).then_some("not b3: and 64 hex digits"),
        Shape::NodeId => text.and_then(keys::node_public).is_none().then_some("not a NodeID"),
        Shape::Uuid => (!text.is_some_and(is_uuid)).then_some("not a lower-case UUID"),
        Shape::Base64(len) => {
            let raw = text.and_then(text::unbase64);
            (!raw.is_some_and(|raw| *len == 0 || raw.len() == *len))
                .then_some("not base64 of the right length")
        }
        Shape::OneOf(allowed) => {
            (!text.is_some_and(|text| allowed.contains(&text))).then_some("not an allowed value")
        }
        Shape::List(item, most) => return walk_list(at, value, item, *most, wrong),
        Shape::Object(members) => return walk_object(at, value, members, wrong),
    };
    if let Some(problem) = problem {
        wrong.push(format!("{at}: {problem} ({})", super::json::canonical(value)));
    }
}

fn walk_list(at: &str, value: &Json, item: &Shape, most: usize, wrong: &mut Vec<String>) {
    let Json::Array(items) = value else {
        return wrong.push(format!("{at}: not an array"));
    };
    if items.len() > most {
        wrong.push(format!("{at}: {} items, more than {most}", items.len()));
    }
    for (i, value) in items.iter().take(most).enumerate() {
        walk(&format!("{at}/{i}"), value, item, wrong);
    }
}

fn walk_object(at: &str, value: &Json, members: &[Member], wrong: &mut Vec<String>) {
    let Json::Object(map) = value else {
        return wrong.push(format!("{at}: not an object"));
    };
    for Member(name, needed, shape) in members {
        match value.member(name) {
            Some(inner) => walk(&format!("{at}/{name}"), inner, shape, wrong),
            None if *needed => wrong.push(format!("{at}/{name}: missing")),
            None => {}
        }
    }
    let mut unknown: Vec<&String> = map.keys().filter(|key| members.iter().all(|m| m.0 != *key)).collect();
    unknown.sort();
    wrong.extend(unknown.iter().map(|name| format!("{at}/{name}: not in the contract")));
}

fn is_hash(text: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("b3:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(lower_hex))
}

fn is_uuid(text: &str) -> bool {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = |(i, b): (usize, u8)| if [8, 13, 18, 23].contains(&i) { b == b'-' } else { lower_hex(b) };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::json::parse;

    const SHAPE: Shape = Shape::Object(&[
        must("id", Shape::Uuid),
        must("n", Shape::Count),
        may("tags", Shape::List(&Shape::OneOf(&["a", "b"]), 2)),
    ]);

    fn wrong(text: &str) -> Vec<String> {
        check(&parse(text.as_bytes()).unwrap(), &SHAPE)
    }

    #[test]
    fn a_right_message_has_nothing_wrong() {
        assert!(wrong(r#"{"id":"c2b9f8c8-0000-4000-8000-000000000000","n":3,"tags":["a"]}"#).is_empty());
    }

    #[test]
    fn each_wrong_member_is_named() {
        let found =
            wrong(r#"{"id":"C2B9F8C8-0000-4000-8000-000000000000","n":-1,"tags":["c","a","b"],"x":1}"#);
        for start in ["/id: not", "/n: not", "/tags: 3 items", "/tags/0: not", "/x: not in"] {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:?}");
        }
        assert_eq!(wrong("{}").len(), 2);
    }
}
