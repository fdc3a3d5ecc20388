//! The first-run wizard as a state machine: an answer in, the next question or what is wrong with it out.
use super::questions::{Fault, KEY, KeyChoice, MAX_ANSWER, QUESTIONS, Question, Shape};
use super::regions;
use crate::cli::view::figures::wrap;
use crate::config::schema::{self, OPTIONS, Platform};
use crate::config::{self, Problem, commands};
use crate::json::{self, Value, object};

/// Columns of every page.
const WIDTH: usize = 80;
/// Column of the answers on the summary page.
const ANSWERS: usize = 24;

/// What the wizard starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// The configuration as it stands, or one with a version alone.
    pub document: Value,
    /// Whether it stands in a file already.
    pub exists: bool,
    /// What is told of the key that there is; it is not asked for then.
    pub key: Option<String>,
    /// The configuration's place, for the summary.
    pub place: String,
    /// Where what stands there stays, if it does.
    pub backup: Option<String>,
    /// Where the node is to run.
    pub platform: Platform,
}

/// What comes after a line that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Another question, or the summary.
    Next,
    /// The same again, after this text.
    Same(String),
    /// Everything is answered and agreed to: write it.
    Write,
    /// The owner asks whether the coordinator answers.
    Check,
    /// The owner goes away; what was answered is kept.
    Quit,
}

/// The wizard.
#[derive(Clone, Debug)]
pub struct Wizard {
    start: Start,
    /// The answers that were given, in their order.
    given: Vec<(&'static Question, String)>,
    document: Value,
    /// The question that is open; none of them on the summary page.
    at: usize,
}

impl Wizard {
    /// Nothing is answered yet.
    pub fn new(start: Start) -> Wizard {
        let document = start.document.clone();
        let mut wizard = Wizard { start, given: Vec::new(), document, at: 0 };
        wizard.at = wizard.open_from(0);
        wizard
    }

    /// Takes an answer to a question by its name, as a command line gives it.
    pub fn give(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        let question = QUESTIONS.iter().find(|q| q.name == name);
        let question = question.ok_or_else(|| Fault::Shape(format!("there is no question \"{name}\"")))?;
        self.set(question, text)?;
        self.at = self.open_from(0);
        Ok(())
    }

    /// Takes over what an interrupted setup had, as far as it still holds. Says how many answers that are.
    pub fn resume(&mut self, saved: &[u8]) -> usize {
        let saved = json::parse(saved).unwrap_or(Value::Null);
        let answers = saved.member("answers").and_then(Value::as_object).unwrap_or_default();
        let taken = answers.iter().filter(|(name, text)| {
            self.answer_of(name).is_none() && text.as_str().is_some_and(|text| self.give(name, text).is_ok())
        });
        taken.count()
    }

    /// The answers, to be kept until the setup is complete. A passphrase is none of them.
    pub fn progress(&self) -> String {
        let answers = object(self.given.iter().map(|(q, text)| (q.name, text.as_str().into())));
        object([("answers", answers), ("version", 1.into())]).canonical() + "\n"
    }

    /// The page to be shown now, with the prompt at its end.
    pub fn page(&self) -> String {
        let Some(question) = QUESTIONS.get(self.at) else { return self.summary() };
        let of = format!("{}/{}  {}\n", self.at + 1, QUESTIONS.len(), question.label);
        let default = match self.default(question).as_str() {
            "" => ":".to_owned(),
            answer => wrapped(&format!("[{answer}]:"), 0),
        };
        format!("\n{of}{}\n{default} ", question.text)
    }

    /// Takes a line that was typed.
    pub fn line(&mut self, line: &str) -> Reply {
        let line = line.trim();
        match line {
            "quit" => return Reply::Quit,
            "back" => return self.back(),
            _ if line.len() > MAX_ANSWER => {
                return Reply::Same(format!("an answer has at most {MAX_ANSWER} bytes"));
            }
            _ => {}
        }
        let Some(question) = QUESTIONS.get(self.at) else { return self.decide(line) };
        if line == "?" {
            let text = format!("{}\nback: the question before; quit: go on another time.", question.help());
            return Reply::Same(wrapped(&text, 0));
        }
        if let Some(word) = line.strip_prefix('/').filter(|_| question.path == "node.regionAllow") {
            let found = regions::search(word);
            let text =
                if found.is_empty() { format!("no country has \"{word}\" in its name") } else { found };
            return Reply::Same(text.trim_end().to_owned());
        }
        let answer = if line.is_empty() { self.default(question) } else { line.to_owned() };
        if answer.is_empty() {
            return Reply::Same("this needs an answer; back leads to the question before".to_owned());
        }
        match self.set(question, &answer) {
            Ok(()) => {
                self.at = self.open_from(self.at + 1);
                Reply::Next
            }
            Err(fault) => Reply::Same(wrapped(fault.text(), 0)),
        }
    }

    /// The document as it is to be written: what stood there, and the answers, in the schema's order.
    pub fn document(&self) -> Value {
        let mut document = object::<&str>([]);
        for option in OPTIONS {
            let path = option.path.split_once("[]").map_or(option.path, |(list, _)| list);
            if let Some(value) = schema::find(&self.document, path) {
                schema::put(&mut document, path, value.clone());
            }
        }
        document
    }

    /// What is to become of the key.
    pub fn key(&self) -> KeyChoice {
        let given = self.answer_of("key").filter(|_| self.start.key.is_none());
        given.and_then(KeyChoice::parse).unwrap_or(KeyChoice::Keep)
    }

    /// Everything that is wrong with the whole, in the schema's words.
    pub fn problems(&self) -> Option<String> {
        config::from_value(&self.document, self.start.platform).err().map(|e| e.to_string())
    }

    /// The summary page.
    pub fn summary(&self) -> String {
        let mut head = format!("To be written to {}.", self.start.place);
        if self.start.exists {
            head.push_str(" Its comments go.");
        }
        if let (true, Some(backup)) = (self.start.exists, &self.start.backup) {
            head.push_str(&format!(" What stands there stays as {backup}."));
        }
        let mut text = format!("\n{}\n\n", wrapped(&head, 0));
        for (at, question) in QUESTIONS.iter().enumerate() {
            let answer = match (question.path, &self.start.key) {
                (KEY, Some(key)) => format!("{key}, not touched"),
                _ if !self.is_asked(question) => continue,
                _ => self.default(question),
            };
            let before = question.answer(self.value(&self.start.document, question).as_ref());
            let was = if question.path != KEY && self.start.exists && before != answer {
                format!(" (was: {before})")
            } else {
                String::new()
            };
            let head = format!("{:>4}  {:<width$}", at + 1, question.label, width = ANSWERS - 6);
            text.push_str(&format!("{head}{}\n", wrapped(&format!("{answer}{was}"), ANSWERS)));
        }
        if let Ok(config) = config::from_value(&self.document, self.start.platform) {
            for warning in commands::warnings(&config) {
                text.push_str(&format!("note: {}\n", wrapped(warning, 6)));
            }
        }
        let check = if self.has_coordinator() { ", check (ask coordinator)" } else { "" };
        text.push_str(&format!("\nyes (write it), a number (change it), back, quit{check}: "));
        text
    }

    fn decide(&mut self, line: &str) -> Reply {
        let number = line.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let asked = number.and_then(|n| Some((n, QUESTIONS.get(n)?))).filter(|(_, q)| self.is_asked(q));
        match (line, asked) {
            ("yes" | "y", _) => match self.problems() {
                None => Reply::Write,
                Some(problems) => Reply::Same(wrapped(&problems, 0)),
            },
            ("check", _) if self.has_coordinator() => Reply::Check,
            (_, Some((number, _))) => {
                self.at = number;
                Reply::Next
            }
            _ => Reply::Same("write yes, the number of a question above, back or quit".to_owned()),
        }
    }

    fn back(&mut self) -> Reply {
        let before = QUESTIONS.iter().take(self.at).rposition(|q| self.is_asked(q));
        match before {
            Some(before) => {
                self.at = before;
                Reply::Next
            }
            None => Reply::Same("this is the first question; quit leaves the setup".to_owned()),
        }
    }

    /// Sets an answer if the schema takes it. The answers to other questions stay.
    fn set(&mut self, question: &'static Question, text: &str) -> Result<(), Fault> {
        let value = question.value(text)?;
        let mut document = self.document.clone();
        if question.path != KEY {
            match value {
                Some(value) => schema::put(&mut document, question.path, value),
                None => remove(&mut document, question.path),
            }
        }
        if question.path == "coordinator.url" && schema::find(&document, question.path).is_none() {
            remove(&mut document, "coordinator.publicKey");
            self.given.retain(|(q, _)| q.path != "coordinator.publicKey");
        }
        let pointer = format!("/{}", question.path.replace('.', "/"));
        let errors = config::from_value(&document, self.start.platform).err();
        let is_own = |p: &&Problem| {
            p.pointer.strip_prefix(&pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own = errors.iter().flat_map(|e| &e.problems).find(is_own);
        if let Some(problem) = own.filter(|_| question.path != KEY) {
            return Err(Fault::Invalid(problem.to_string()));
        }
        self.document = document;
        self.given.retain(|(q, _)| q.name != question.name);
        self.given.push((question, text.to_owned()));
        Ok(())
    }

    /// The first question from there on that is asked and has no answer; the summary if there is none.
    fn open_from(&self, from: usize) -> usize {
        let open = |q: &Question| self.is_asked(q) && self.answer_of(q.name).is_none();
        let found = QUESTIONS.iter().enumerate().skip(from).find(|(_, q)| open(q));
        found.map_or(QUESTIONS.len(), |(at, _)| at)
    }

    fn is_asked(&self, question: &Question) -> bool {
        match question.path {
            KEY => self.start.key.is_none(),
            "coordinator.publicKey" => self.has_coordinator(),
            _ => true,
        }
    }

    fn has_coordinator(&self) -> bool {
        schema::find(&self.document, "coordinator.url").is_some()
    }

    fn answer_of(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(q, _)| q.name == name).map(|(_, text)| text.as_str())
    }

    /// What an empty line answers: what was answered before, what stands in the configuration, the schema's default.
    fn default(&self, question: &Question) -> String {
        match (question.shape, self.answer_of(question.name)) {
            (Shape::Key, given) => given.unwrap_or("new").to_owned(),
            (Shape::One, None) if self.value(&self.document, question).is_none() => String::new(),
            _ => question.answer(self.value(&self.document, question).as_ref()),
        }
    }

    fn value(&self, document: &Value, question: &Question) -> Option<Value> {
        let stands = schema::find(document, question.path).cloned();
        stands.or_else(|| schema::option(question.path)?.default_value(document, self.start.platform))
    }
}

/// Takes a value out, and the section around it if it is empty then.
fn remove(document: &mut Value, path: &str) {
    let Some((section, name)) = path.split_once('.') else { return drop(document.remove(path)) };
    let Some(mut inner) = document.member(section).cloned() else { return };
    remove(&mut inner, name);
    if inner.as_object().is_some_and(<[_]>::is_empty) {
        document.remove(section);
    } else {
        document.set(section, inner);
    }
}

/// A text for the terminal, its lines but the first from a column on.
pub fn wrapped(text: &str, column: usize) -> String {
    wrap(text, column, WIDTH)
}

#[cfg(test)]
mod tests;
