//! YAML 1.2 (core schema) to a document, with the line of every node.
//!
//! What makes YAML treacherous is refused: anchors, aliases, tags, several documents, names that stand twice.
use super::errors::{Problem, below};
use crate::json::{MAX_INTEGER, Value};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// Deepest nesting; the schema needs four levels.
pub const MAX_DEPTH: usize = 16;

/// Problems after which reading stops.
const ENOUGH: usize = 100;

/// The lines of a document, in the shape of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    line: usize,
    below: Vec<Lines>,
}

impl Lines {
    /// The line of the node at a pointer, or of the nearest node around it.
    pub fn of(&self, mut value: &Value, pointer: &str) -> usize {
        let mut at = self;
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            let next = match value {
                Value::Object(members) => {
                    members.iter().position(|(n, _)| *n == name).and_then(|i| Some((i, &members.get(i)?.1)))
                }
                Value::Array(items) => name.parse::<usize>().ok().and_then(|i| Some((i, items.get(i)?))),
                _ => None,
            };
            let Some((inner, lines)) = next.and_then(|(i, v)| Some((v, at.below.get(i)?))) else { break };
            (value, at) = (inner, lines);
        }
        at.line
    }
}

/// Reads one YAML document.
pub fn read(text: &str) -> Result<(Value, Lines), Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(text), problems: Vec::new() };
    let result = reader.document();
    match result {
        Ok(read) if reader.problems.is_empty() => Ok(read),
        Ok(_) => Err(reader.problems),
        Err(Stop(problem)) => {
            reader.problems.extend(problem);
            Err(reader.problems)
        }
    }
}

/// Reading cannot go on, for this reason or for those already noted.
struct Stop(Option<Problem>);

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(Value, Lines), Stop> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => {
                    return Err(at_line(
                        1,
                        "",
                        "the file is empty; `echomesh config init` prints one to begin with",
                    ));
                }
                (event, span) => {
                    let read = self.node(event, span, "", MAX_DEPTH)?;
                    self.end()?;
                    return Ok(read);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Stop> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    return Err(at_line(span.start.line(), "", "a second document begins; allowed: one"));
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(not_yaml(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        pointer: &str,
        depth: usize,
    ) -> Result<(Value, Lines), Stop> {
        let line = span.start.line();
        let leaf = |value| Ok((value, Lines { line, below: Vec::new() }));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(line, pointer, anchor, tag.is_some())?;
                leaf(if style == ScalarStyle::Plain {
                    plain(&text)
                } else {
                    Value::String(text.into_owned())
                })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(line, pointer, anchor, tag.is_some())?;
                self.sequence(line, pointer, deeper(line, depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(line, pointer, anchor, tag.is_some())?;
                self.mapping(line, pointer, deeper(line, depth)?)
            }
            Event::Alias(_) => {
                self.note(line, pointer, "an alias (*) is not allowed; write the value itself")?;
                leaf(Value::Null)
            }
            _ => Err(at_line(line, pointer, "the text ends where a value is expected")),
        }
    }

    fn sequence(&mut self, line: usize, pointer: &str, depth: usize) -> Result<(Value, Lines), Stop> {
        let (mut items, mut lines) = (Vec::new(), Vec::new());
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((Value::Array(items), Lines { line, below: lines })),
                (event, span) => {
                    let (item, item_lines) =
                        self.node(event, span, &below(pointer, &items.len().to_string()), depth)?;
                    items.push(item);
                    lines.push(item_lines);
                }
            }
        }
    }

    fn mapping(&mut self, line: usize, pointer: &str, depth: usize) -> Result<(Value, Lines), Stop> {
        let mut members: Vec<(String, Value)> = Vec::new();
        let mut lines = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (name, key_line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok((Value::Object(members), Lines { line, below: lines })),
                (Event::Scalar(name, _, anchor, tag), span) => {
                    let line = span.start.line();
                    self.refuse_extras(line, pointer, anchor, tag.is_some())?;
                    (name.into_owned(), line)
                }
                (_, span) => {
                    return Err(at_line(span.start.line(), pointer, "a name is expected before the colon"));
                }
            };
            let inner = below(pointer, &name);
            if !seen.insert(name.clone()) {
                self.note(key_line, &inner, "this name stands twice in its section")?;
            }
            let (event, span) = self.next()?;
            let (value, mut value_lines) = self.node(event, span, &inner, depth)?;
            value_lines.line = key_line;
            members.push((name, value));
            lines.push(value_lines);
        }
    }

    fn refuse_extras(&mut self, line: usize, pointer: &str, anchor: usize, tag: bool) -> Result<(), Stop> {
        if anchor != 0 {
            self.note(line, pointer, "an anchor (&) is not allowed")?;
        }
        if tag { self.note(line, pointer, "a tag (!) is not allowed") } else { Ok(()) }
    }

    fn note(&mut self, line: usize, pointer: &str, text: &str) -> Result<(), Stop> {
        self.problems.push(Problem { line: Some(line), ..Problem::new(pointer, text) });
        if self.problems.len() < ENOUGH { Ok(()) } else { Err(Stop(None)) }
    }
}

fn at_line(line: usize, pointer: &str, text: &str) -> Stop {
    Stop(Some(Problem { line: Some(line), ..Problem::new(pointer, text) }))
}

fn not_yaml(error: &ScanError) -> Stop {
    at_line(error.marker().line(), "", &format!("not YAML: {}", error.info()))
}

fn deeper(line: usize, depth: usize) -> Result<usize, Stop> {
    let text = format!("nested deeper than {MAX_DEPTH} levels");
    depth.checked_sub(1).ok_or_else(|| at_line(line, "", &text))
}

/// A scalar without quotes, by the core schema of YAML 1.2.2 section 10.3.2. What it calls octal, hexadecimal,
/// infinite or not a number stays text, as do decimals with a leading zero, which older readers take for octal:
/// no option wants such a number, and a mask or a version may look like one.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let exponent_fits = exponent.is_none_or(|e| digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    let fraction_fits = match fraction {
        Some("") => digits(whole),
        Some(fraction) => digits(fraction) && (whole.is_empty() || digits(whole)),
        None => digits(whole),
    };
    if !exponent_fits || !fraction_fits || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if exponent.is_none() && fraction.is_none() {
        let safe = text.parse::<i64>().ok().filter(|i| (-MAX_INTEGER..=MAX_INTEGER).contains(i));
        if let Some(i) = safe {
            return Some(Value::Int(i));
        }
    }
    text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Value::Float)
}
