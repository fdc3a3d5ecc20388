//! The two forms of UCI's text: the file's (libuci, file.c) and that of `uci -X show` (cli.c, `uci_show_package`).
use super::{Entry, MAX_OPTIONS, MAX_SECTIONS, MAX_VALUES, PACKAGE, Section};
use crate::config::errors::{Problem, cut};

/// The sections of a text in either form.
///
/// A value is quoted as libuci reads it: `'…'` holds everything but a quote, `"…"` and bare words know the backslash, pieces
/// without a space between them are one value. What libuci takes besides and nobody writes (`;` between two commands, an option
/// that stands twice and counts the last time) is refused.
///
/// # Errors
/// The first thing that is neither, with its line.
pub fn parse(text: &str) -> Result<Vec<Section>, Problem> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut sections: Vec<Section> = Vec::new();
    let shown = text.trim_start().strip_prefix(PACKAGE).is_some_and(|rest| rest.starts_with('.'));
    loop {
        reader.space(true);
        let line = reader.line;
        let fault = |text: String| Problem { line: Some(line), ..Problem::new("", text) };
        if reader.rest.is_empty() {
            sections.iter_mut().for_each(|s| s.name = s.name.take().filter(|n| !is_generated(n)));
            return Ok(sections);
        }
        let done = if shown {
            shown_line(&mut reader, &mut sections)
        } else {
            file_line(&mut reader, &mut sections)
        };
        done.map_err(fault)?;
    }
}

/// What libuci takes for the name of a section or an option (util.c, `uci_validate_name`).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Names that `uci` shows for sections without one: `cfg` and six hexadecimal digits, without `-X` `@TYPE[INDEX]`.
fn is_generated(name: &str) -> bool {
    let digits = name.strip_prefix("cfg").unwrap_or_default();
    name.starts_with('@') || (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn file_line(reader: &mut Reader<'_>, sections: &mut Vec<Section>) -> Result<(), String> {
    let line = reader.line;
    let command = reader.word()?.unwrap_or_default();
    let mut words = Vec::new();
    while let Some(word) = reader.word()? {
        words.push(word);
        if words.len() > 2 {
            return Err("more words than the command takes; quote a value with spaces".to_owned());
        }
    }
    let mut words = words.into_iter();
    let (first, second) = (words.next(), words.next());
    match (command.as_str(), first) {
        ("package", Some(name)) if name == PACKAGE && second.is_none() => Ok(()),
        ("config", Some(kind)) => open(sections, kind, second, line),
        ("option" | "list", Some(name)) => {
            let value = second.ok_or("the value is missing")?;
            let list = command == "list";
            add(sections, (name, line), vec![value], list)
        }
        _ => Err(format!("\"{}\" begins no line; there are: config, option, list", cut(&command))),
    }
}

fn shown_line(reader: &mut Reader<'_>, sections: &mut Vec<Section>) -> Result<(), String> {
    let line = reader.line;
    let no_line = || "no line of `uci show echomesh`: echomesh.SECTION[.OPTION]=VALUE is expected".to_owned();
    let (place, _) = reader.rest.split_once('=').ok_or_else(no_line)?;
    let mut parts = place.split('.');
    let (package, section, option) = (parts.next(), parts.next(), parts.next());
    let (Some(PACKAGE), Some(section), None) = (package, section, parts.next()) else {
        return Err(no_line());
    };
    reader.rest = reader.rest.get(place.len() + 1..).unwrap_or_default();
    let mut values = Vec::new();
    while let Some(word) = reader.word()? {
        if values.len() >= MAX_VALUES {
            return Err("too many values".to_owned());
        }
        values.push(word);
    }
    match option {
        Some(option) if sections.last().is_some_and(|s| s.name.as_deref() == Some(section)) => {
            add(sections, (option.to_owned(), line), values, false)
        }
        Some(_) => Err(format!("section \"{}\" is not open here", cut(section))),
        None => {
            let kind = values.pop().filter(|_| values.is_empty()).ok_or_else(no_line)?;
            open(sections, kind, Some(section.to_owned()), line)
        }
    }
}

/// Opens a section.
fn open(sections: &mut Vec<Section>, kind: String, name: Option<String>, line: usize) -> Result<(), String> {
    if sections.len() >= MAX_SECTIONS {
        return Err(format!("more than {MAX_SECTIONS} sections"));
    }
    if let Some(wrong) = name.as_deref().filter(|n| !n.is_empty() && !is_name(n) && !is_generated(n)) {
        return Err(format!("\"{}\" is no name; allowed: letters, digits and _", cut(wrong)));
    }
    if name.is_some() && sections.iter().any(|s| s.name == name) {
        return Err(format!("the section \"{}\" stands twice", cut(&name.unwrap_or_default())));
    }
    sections.push(Section { kind, name: name.filter(|n| !n.is_empty()), options: Vec::new(), line });
    Ok(())
}

/// Adds values to the last section; only a list's may come in pieces.
fn add(
    sections: &mut [Section],
    (name, line): (String, usize),
    values: Vec<String>,
    list: bool,
) -> Result<(), String> {
    if !is_name(&name) {
        return Err(format!("\"{}\" is no name; allowed: letters, digits and _", cut(&name)));
    }
    let section = sections.last_mut().ok_or("an option stands before the first section")?;
    let full = section.options.len() >= MAX_OPTIONS;
    match section.options.iter_mut().find(|o| o.name == name) {
        Some(entry) if list && entry.list => {
            if entry.values.len() >= MAX_VALUES {
                return Err(format!("the list \"{}\" is too long", cut(&name)));
            }
            entry.values.extend(values);
            Ok(())
        }
        Some(_) => Err(format!("the option \"{}\" stands twice", cut(&name))),
        None if full => Err(format!("more than {MAX_OPTIONS} options in a section")),
        None => {
            section.options.push(Entry { name, values, line, list });
            Ok(())
        }
    }
}

/// What is left of the text.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Passes over white space and comments, over the ends of lines too if `lines`.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                '#' => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.rest = self.rest.get(end..).unwrap_or_default();
                }
                '\n' if !lines => return,
                c if c.is_ascii_whitespace() => _ = self.next(),
                _ => return,
            }
        }
    }

    /// The next word of the line.
    fn word(&mut self) -> Result<Option<String>, String> {
        self.space(false);
        let mut word = String::new();
        let mut is_there = false;
        while let Some(c) = self.peek().filter(|c| *c != '#' && !c.is_ascii_whitespace()) {
            is_there = true;
            self.next();
            match c {
                '\'' => self.quoted('\'', &mut word)?,
                '"' => self.quoted('"', &mut word)?,
                '\\' => self.escaped(&mut word),
                ';' => return Err("a bare ; stands here; quote the value".to_owned()),
                c => word.push(c),
            }
        }
        Ok(is_there.then_some(word))
    }

    fn quoted(&mut self, quote: char, word: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                None => return Err(format!("the text ends within {quote}")),
                Some(c) if c == quote => return Ok(()),
                Some('\\') if quote == '"' => self.escaped(word),
                Some(c) => word.push(c),
            }
        }
    }

    /// What a backslash stands before: itself, or the end of a line, which it takes away.
    fn escaped(&mut self, word: &mut String) {
        if let Some(c) = self.next().filter(|c| *c != '\n') {
            word.push(c);
        }
    }
}
