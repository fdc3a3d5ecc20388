//! From sections to a document of the schema.
use super::{ENABLED, Entry, MAIN, PACKAGE, Section, kinds, path_of, problem};
use crate::config::errors::{Problem, cut};
use crate::config::schema::{self, Kind, OPTIONS, Opt};
use crate::config::validate;
use crate::json::{self, Value};

/// The document that sections stand for, and where in UCI its members stand.
#[derive(Debug)]
struct Made {
    document: Value,
    places: Vec<Place>,
}

/// Where a member of the document came from.
#[derive(Debug)]
struct Place {
    pointer: String,
    name: String,
    line: usize,
}

/// The valid document of sections.
///
/// # Errors
/// All that is wrong, each with its place.
pub fn document(sections: &[Section]) -> Result<Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let made = make(sections, &mut problems);
    if problems.is_empty() {
        problems = validate::check(&made.document);
        problems.iter_mut().for_each(|p| made.locate(p));
    }
    if problems.is_empty() { Ok(made.document) } else { Err(problems) }
}

impl Made {
    /// Names the place of a problem that the schema has found.
    fn locate(&self, problem: &mut Problem) {
        let of = |p: &&Place| {
            problem
                .pointer
                .strip_prefix(p.pointer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let Some(place) = self.places.iter().filter(of).max_by_key(|p| p.pointer.len()) else {
            // Something is missing as a whole, section and all.
            let path = problem.pointer.trim_start_matches('/').replace('/', ".");
            problem.place = schema::option(&path).map(place_of);
            return;
        };
        let rest = problem.pointer.get(place.pointer.len()..).unwrap_or_default();
        // A member that is missing has a name here all the same; the item of a list has none.
        let missing = rest.strip_prefix('/').and_then(|name| {
            let list = place.pointer.rsplit_once('/').filter(|(_, i)| i.bytes().all(|b| b.is_ascii_digit()));
            let section = list.map_or(place.pointer.clone(), |(list, _)| format!("{list}[]"));
            schema::option(&format!("{section}/{name}").trim_start_matches('/').replace('/', "."))
        });
        let option =
            missing.and_then(|option| option.uci.split_once('.')).map(|(_, name)| format!(".{name}"));
        problem.place = Some(format!("{}{}", place.name, option.unwrap_or_default()));
        problem.line = Some(place.line);
    }
}

fn place_of(option: &Opt) -> String {
    let uci =
        option.uci.split_once('.').map(|(kind, name)| (if kind == PACKAGE { MAIN } else { kind }, name));
    uci.map(|(section, name)| format!("{PACKAGE}.{section}.{name}")).unwrap_or_default()
}

fn make(sections: &[Section], problems: &mut Vec<Problem>) -> Made {
    let mut made = Made { document: Value::Object(Vec::new()), places: Vec::new() };
    // In the schema's order, whatever the text's is.
    for kind in kinds() {
        let Some(path) = path_of(kind) else { continue };
        let of_kind: Vec<(usize, &Section)> =
            sections.iter().filter(|s| s.kind == kind).enumerate().collect();
        if let Some(list) = path.strip_suffix("[]") {
            let items = of_kind.iter().map(|(i, s)| {
                let pointer = format!("/{}/{i}", list.replace('.', "/"));
                made.places.push(Place { pointer: pointer.clone(), name: reference(s, *i), line: s.line });
                section(s, *i, &pointer, &mut made.places, problems)
            });
            let items: Vec<Value> = items.collect();
            if !items.is_empty() {
                schema::put(&mut made.document, list, Value::Array(items));
            }
            continue;
        }
        if let Some((i, again)) = of_kind.get(1) {
            let text = format!("a section of type {kind} stands there already; allowed: one");
            problems.push(problem(reference(again, *i), again.line, text));
        }
        let Some((i, first)) = of_kind.first() else { continue };
        let pointer = if path.is_empty() { String::new() } else { format!("/{}", path.replace('.', "/")) };
        made.places.push(Place { pointer: pointer.clone(), name: reference(first, *i), line: first.line });
        let members = section(first, *i, &pointer, &mut made.places, problems);
        if path.is_empty() {
            made.document = members;
        } else {
            let mut there = schema::find(&made.document, path).cloned().unwrap_or(Value::Object(Vec::new()));
            members.as_object().unwrap_or_default().iter().for_each(|(n, v)| there.set(n, v.clone()));
            schema::put(&mut made.document, path, there);
        }
    }
    for (i, stranger) in sections.iter().enumerate().filter(|(_, s)| path_of(&s.kind).is_none()) {
        let index = sections.iter().take(i).filter(|s| s.kind == stranger.kind).count();
        let text =
            format!("the section type {} is not known; allowed: {}", cut(&stranger.kind), kinds().join(", "));
        problems.push(problem(reference(stranger, index), stranger.line, text));
    }
    made
}

/// As `uci` takes it: by name, or by type and place among its like.
fn reference(section: &Section, index: usize) -> String {
    match &section.name {
        Some(name) => format!("{PACKAGE}.{}", cut(name)),
        None => format!("{PACKAGE}.@{}[{index}]", cut(&section.kind)),
    }
}

/// The members that a section gives.
fn section(
    section: &Section,
    index: usize,
    pointer: &str,
    places: &mut Vec<Place>,
    problems: &mut Vec<Problem>,
) -> Value {
    let mut members = Value::Object(Vec::new());
    for entry in &section.options {
        let uci = format!("{}.{}", section.kind, entry.name);
        let at = format!("{}.{}", reference(section, index), cut(&entry.name));
        let Some(option) = OPTIONS.iter().find(|o| o.uci == uci) else {
            if section.kind != PACKAGE || entry.name != ENABLED {
                let names = OPTIONS.iter().filter_map(|o| o.uci.split_once('.'));
                let names: Vec<&str> = names.filter(|(k, _)| *k == section.kind).map(|(_, n)| n).collect();
                let text = format!("this option is not known; allowed: {}", names.join(", "));
                problems.push(problem(at, entry.line, text));
            }
            continue;
        };
        match value(option, entry) {
            Ok(Some(value)) => {
                let name = option.path.rsplit('.').next().unwrap_or_default();
                places.push(Place { pointer: format!("{pointer}/{name}"), name: at, line: entry.line });
                members.set(name, value);
            }
            Ok(None) => {}
            Err(text) => {
                problems.push(problem(at, entry.line, format!("{text}; allowed: {}", option.allowed())))
            }
        }
    }
    members
}

/// The typed value of an option's texts. A text that is not of the type stays one, which the schema refuses by its own words.
fn value(option: &Opt, entry: &Entry) -> Result<Option<Value>, String> {
    let number = |text: &String| match json::parse(text.as_bytes()) {
        Ok(number @ (Value::Int(_) | Value::Float(_))) => number,
        _ => Value::String(text.clone()),
    };
    let texts = || Value::Array(entry.values.iter().cloned().map(Value::String).collect());
    match option.kind {
        // UCI has no empty lists: there it would not be written.
        Kind::Texts(..) | Kind::Choices(..) | Kind::Ints(..) if entry.values.is_empty() => return Ok(None),
        Kind::Texts(..) | Kind::Choices(..) => return Ok(Some(texts())),
        Kind::Ints(..) => return Ok(Some(Value::Array(entry.values.iter().map(number).collect()))),
        _ => {}
    }
    let [text] = entry.values.as_slice() else {
        return Err(format!("{} values stand where one is expected", entry.values.len()));
    };
    // libuci drops an option without text.
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(match option.kind {
        Kind::Int(..) | Kind::Number(..) => number(text),
        Kind::Bool | Kind::True(_) => match text.as_str() {
            "1" | "on" | "true" | "yes" | "enabled" => Value::Bool(true),
            "0" | "off" | "false" | "no" | "disabled" => Value::Bool(false),
            _ => Value::String(text.clone()),
        },
        _ => Value::String(text.clone()),
    }))
}
