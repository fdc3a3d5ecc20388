//! A document against the schema: every problem at once.
use super::errors::{Problem, below, cut, shown};
use super::forms::{self, Form};
use super::schema::{self, Default, Kind, OPTIONS, Opt};
use crate::json::Value;

/// Problems after which the search ends: a text that is all wrong must not keep a slow processor busy.
const ENOUGH: usize = 100;

/// Windows of a schedule.
pub const MAX_SCHEDULES: usize = 64;

/// What is wrong with a document; empty if it is valid.
pub fn check(document: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !cfg!(feature = "lab") && document.member("lab").is_some() {
        let text = "this section switches checks off and is read by builds for the laboratory (feature `lab`) \
                    alone; take it out";
        problems.push(Problem::new("/lab", text));
    }
    section(document, "", "", &mut problems);
    if problems.is_empty() {
        across(document, &mut problems);
    }
    problems
}

fn section(value: &Value, path: &str, pointer: &str, problems: &mut Vec<Problem>) {
    let Some(members) = value.as_object() else {
        let found = if *value == Value::Null { "nothing".to_owned() } else { shown(value) };
        let names = schema::names_below(path).join(", ");
        problems
            .push(Problem::new(pointer, format!("{found} where a section is expected; allowed: {names}")));
        return;
    };
    for (name, member) in members {
        if problems.len() >= ENOUGH {
            return;
        }
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let inner_pointer = below(pointer, name);
        let list = format!("{inner}[]");
        // Only the schema's own paths have dots and brackets.
        if name.contains(['.', '[']) {
            problems.push(unknown(path, name, inner_pointer));
        } else if let Some(option) = schema::option(&inner) {
            problems.extend(value_problem(option, member).map(|(at, text)| at.problem(&inner_pointer, text)));
        } else if schema::is_section(&inner) {
            section(member, &inner, &inner_pointer, problems);
        } else if schema::is_section(&list) {
            sections(member, &list, &inner_pointer, problems);
        } else {
            problems.push(unknown(path, name, inner_pointer));
        }
    }
    for option in OPTIONS.iter().filter(|o| o.default == Default::Required) {
        let (parent, name) = option.path.rsplit_once('.').unwrap_or(("", option.path));
        if parent == path && value.member(name).is_none() {
            let text = format!("is missing; allowed: {}", option.allowed());
            problems.push(Problem::new(below(pointer, name), text));
        }
    }
}

fn sections(value: &Value, path: &str, pointer: &str, problems: &mut Vec<Problem>) {
    let Some(items) = value.as_array() else {
        problems
            .push(Problem::new(pointer, format!("{} where a list of sections is expected", shown(value))));
        return;
    };
    if items.len() > MAX_SCHEDULES {
        problems
            .push(Problem::new(pointer, format!("has {} entries; allowed: {MAX_SCHEDULES}", items.len())));
    }
    for (i, item) in items.iter().enumerate().take(MAX_SCHEDULES) {
        section(item, path, &below(pointer, &i.to_string()), problems);
    }
}

fn unknown(path: &str, name: &str, pointer: String) -> Problem {
    let names = schema::names_below(path);
    // Two slips, but not in a short name, where two make another word.
    let close = names.iter().find(|n| distance(&fold(n), &fold(name)) <= (n.len() / 3).min(2));
    let advice = close.map(|n| format!(": perhaps {n} is meant")).unwrap_or_default();
    Problem::new(pointer, format!("this name is not known{advice}; allowed: {}", names.join(", ")))
}

/// A name without what people vary: case, `-` and `_`.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).take(40).collect()
}

/// Edit distance (Levenshtein) of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut previous = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (previous + usize::from(ca != cb)).min(left + 1).min(above + 1);
            previous = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Where in an option the problem is.
enum At {
    Whole,
    Item(usize),
}

impl At {
    fn problem(self, pointer: &str, text: String) -> Problem {
        match self {
            At::Whole => Problem::new(pointer, text),
            At::Item(i) => Problem::new(below(pointer, &i.to_string()), text),
        }
    }
}

fn value_problem(option: &Opt, value: &Value) -> Option<(At, String)> {
    let (at, what) = match option.kind {
        _ if *value == Value::Null => (At::Whole, "has no value; give one or leave the name out".to_owned()),
        Kind::Bool => (At::Whole, bool_problem(value)?),
        Kind::True(why) => match value.as_bool() {
            Some(true) => return None,
            Some(false) => (At::Whole, format!("false is refused: {why}")),
            None => (At::Whole, bool_problem(value)?),
        },
        Kind::Int(min, max) => (At::Whole, int_problem(value, min, max)?),
        Kind::Number(min, max) => (At::Whole, number_problem(value, min, max)?),
        Kind::Choice(words) => (At::Whole, choice_problem(value, words)?),
        Kind::Text(form) => (At::Whole, text_problem(value, form)?),
        Kind::Texts(form, most) => list_problem(value, 0, most, |v| text_problem(v, form))?,
        Kind::Ints(min, max, most) => list_problem(value, 0, most, |v| int_problem(v, min, max))?,
        Kind::Choices(words, least) => {
            match list_problem(value, least, words.len(), |v| choice_problem(v, words)) {
                Some(found) => found,
                None => repeated(value.as_array().unwrap_or_default())?,
            }
        }
    };
    Some((at, format!("{what}; allowed: {}", option.allowed())))
}

fn bool_problem(value: &Value) -> Option<String> {
    value.as_bool().is_none().then(|| format!("{} is not a boolean", shown(value)))
}

fn int_problem(value: &Value, min: i64, max: i64) -> Option<String> {
    match value.as_int() {
        Some(i) if (min..=max).contains(&i) => None,
        Some(_) => Some(format!("{} is out of range", shown(value))),
        None => Some(format!("{} is not a whole number", shown(value))),
    }
}

fn number_problem(value: &Value, min: f64, max: f64) -> Option<String> {
    match value.as_f64() {
        Some(n) if (min..=max).contains(&n) => None,
        Some(_) => Some(format!("{} is out of range", shown(value))),
        None => Some(format!("{} is not a number", shown(value))),
    }
}

fn choice_problem(value: &Value, words: &[&str]) -> Option<String> {
    let known = value.as_str().is_some_and(|s| words.contains(&s));
    (!known).then(|| format!("{} is not one of the words known here", shown(value)))
}

fn text_problem(value: &Value, form: Form) -> Option<String> {
    let Some(text) = value.as_str() else {
        return Some(format!("{} is not a text", shown(value)));
    };
    let why = form.problem(text)?;
    let colon = if why.is_empty() { "" } else { ": " };
    // Before an `@` stands a password.
    let secret = form == Form::HttpsUrl && text.contains('@');
    let found = if secret { "what stands here".to_owned() } else { shown(value) };
    Some(format!("{found} is not {}{colon}{why}", form.name()))
}

fn list_problem(
    value: &Value,
    least: usize,
    most: usize,
    item_problem: impl Fn(&Value) -> Option<String>,
) -> Option<(At, String)> {
    let Some(items) = value.as_array() else {
        return Some((At::Whole, format!("{} is not a list", shown(value))));
    };
    if items.len() < least {
        return Some((At::Whole, "the list is empty".to_owned()));
    }
    if items.len() > most {
        return Some((At::Whole, format!("the list has {} entries", items.len())));
    }
    items.iter().enumerate().find_map(|(i, v)| item_problem(v).map(|text| (At::Item(i), text)))
}

fn repeated(items: &[Value]) -> Option<(At, String)> {
    let twice = |i: usize, v: &Value| items.iter().take(i).any(|earlier| earlier == v);
    let (i, value) = items.iter().enumerate().find(|(i, v)| twice(*i, v))?;
    Some((At::Item(i), format!("{} stands twice", cut(&shown(value)))))
}

/// Rules that need more than one option. They are asked only of a document whose options are valid one by one.
fn across(document: &Value, problems: &mut Vec<Problem>) {
    let has = |path: &str| schema::find(document, path).is_some();
    if has("coordinator.url") && !has("coordinator.publicKey") {
        let text = "is missing: with coordinator.url the node must know the key that signs the orders";
        problems.push(Problem::new("/coordinator/publicKey", text));
    }
    if has("security.dohBootstrap") && !has("security.dohUrl") {
        let text = "stands without security.dohUrl, whose addresses it gives";
        problems.push(Problem::new("/security/dohBootstrap", text));
    }
    let keys =
        schema::find(document, "updates.publicKeys").and_then(Value::as_array).map_or(0, <[Value]>::len);
    let threshold = schema::find(document, "updates.threshold").and_then(Value::as_int).unwrap_or(1);
    // Without keys nothing is installed, whatever the threshold: only one that was asked for is a mistake.
    if usize::try_from(threshold).is_ok_and(|t| t > keys.max(1)) {
        let text =
            format!("{threshold} signatures are wanted of {keys} keys; allowed: at most as many as keys");
        problems.push(Problem::new("/updates/threshold", text));
    }
    let schedules = schema::find(document, "node.schedules").and_then(Value::as_array).unwrap_or_default();
    for (i, window) in schedules.iter().enumerate() {
        let minute = |name| window.member(name).and_then(Value::as_str).and_then(forms::end_minute);
        if minute("start") == minute("end") {
            let text = "is the start: the window would be empty; a whole day is 00:00 to 24:00";
            problems.push(Problem::new(format!("/node/schedules/{i}/end"), text));
        }
    }
}
