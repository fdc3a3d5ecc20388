//! What the owner is asked, in its order, and how an answer becomes a value of the configuration.
use super::{regions, schedule};
use crate::config::forms::Form;
use crate::config::schema::{self, Kind};
use crate::json::{self, Value, array};

/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 4096;
/// The word for a list or an option that stays empty.
pub const NONE: &str = "none";
/// The path of the question about the key, which is no option of the configuration.
pub const KEY: &str = "";

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// One value, or none.
    Optional,
    /// Values with commas between them, or none.
    List,
    /// Windows of the week.
    Schedule,
    /// What becomes of the key.
    Key,
}

/// A question.
#[derive(Debug)]
pub struct Question {
    /// Its name on the command line and in the file of an interrupted setup.
    pub name: &'static str,
    /// The option that it is about; [`KEY`] for the key's.
    pub path: &'static str,
    /// A few words for the summary.
    pub label: &'static str,
    /// The question, lines of at most 78 columns.
    pub text: &'static str,
    /// How an answer is read.
    pub shape: Shape,
}

macro_rules! questions {
    ($($name:literal $path:expr, $label:literal, $shape:ident: $text:literal;)*) => {
        &[$(Question { name: $name, path: $path, label: $label, text: $text, shape: Shape::$shape }),*]
    };
}

/// All questions.
pub static QUESTIONS: &[Question] = questions! {
    "region" "node.regionAllow", "Regions", List:
        "Where is this line? The code of its country, or the region that your coordinator\nnames, such as PH-NCR; several with commas. /WORD searches the countries.";
    "max-mbps" "network.maxMbps", "Mbit/s", One:
        "How much of the line may be used at a time, in Mbit/s? Each direction carries up\nto this much.";
    "max-gb-per-day" "network.maxGBPerDay", "GB a day", One:
        "How much a day, in GB? Each direction carries up to this much.";
    "max-gb-per-month" "network.maxGBPerMonth", "GB a month", Optional:
        "How much a month, in GB, if your contract has a limit?";
    "schedule" "node.schedules", "Schedule", Schedule:
        "When, in local time? Such as: Mon-Fri 22:00-06:00; Sat,Sun 00:00-24:00";
    "coordinator" "coordinator.url", "Coordinator", Optional:
        "Which coordinator sends buyers? Its https URL. Without one nothing is carried.";
    "coordinator-key" "coordinator.publicKey", "Coordinator's key", One:
        "The coordinator's public key, from the page where it publishes it: what is not\nsigned with it is not obeyed.";
    "listen" "relay.listen", "Listener", One:
        "Where do buyers connect? Address and port; the port must be reachable from\noutside.";
    "name" "relay.names", "Public names", List:
        "By which names or addresses do they reach it, with commas between them? They\nstand in the listener's certificate.";
    "key" KEY, "Key", Key:
        "The node's key, which is its identity. new: made now. sealed: made now, with a\npassphrase that each start then needs. keep: made at the first start. Or the\npath of a key file to take over.";
};

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has not the shape of an answer.
    Shape(String),
    /// The schema refuses its value, in the schema's own words.
    Invalid(String),
}

impl Fault {
    /// The message.
    pub fn text(&self) -> &str {
        match self {
            Fault::Shape(text) | Fault::Invalid(text) => text,
        }
    }
}

/// What becomes of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The node makes it at its first start, or has one.
    Keep,
    /// It is made now.
    New,
    /// It is made now and sealed with a passphrase.
    Sealed,
    /// It is taken over from a file.
    Import(String),
}

impl KeyChoice {
    /// From an answer.
    pub fn parse(text: &str) -> Option<KeyChoice> {
        Some(match text {
            "keep" => KeyChoice::Keep,
            "new" => KeyChoice::New,
            "sealed" => KeyChoice::Sealed,
            path if Form::Path.problem(path).is_none() => KeyChoice::Import(path.to_owned()),
            _ => return None,
        })
    }
}

impl Question {
    /// The value of an answer; `None` leaves the option out.
    pub fn value(&self, text: &str) -> Result<Option<Value>, Fault> {
        let none = text.eq_ignore_ascii_case(NONE);
        match self.shape {
            Shape::Optional | Shape::List if none => Ok(None),
            Shape::One | Shape::Optional => Ok(Some(self.one(text))),
            Shape::List => {
                let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
                let items: Vec<String> = items.map(|t| self.item(t)).collect::<Result<_, _>>()?;
                Ok((!items.is_empty()).then(|| array(items)))
            }
            Shape::Schedule => match schedule::parse(text) {
                Some(Value::Array(windows)) if windows.is_empty() => Ok(None),
                Some(windows) => Ok(Some(windows)),
                None => {
                    Err(Fault::Shape(format!("\"{text}\" is no schedule; allowed: {}", schedule::ALLOWED)))
                }
            },
            Shape::Key => match KeyChoice::parse(text) {
                Some(_) => Ok(None),
                None => Err(Fault::Shape(format!(
                    "\"{text}\" is neither new, sealed nor keep, nor the path of a file: {}",
                    Form::Path.allowed()
                ))),
            },
        }
    }

    /// How the value in a document is answered: what is shown as the default.
    pub fn answer(&self, value: Option<&Value>) -> String {
        match (self.shape, value) {
            (Shape::Schedule, value) => schedule::text(value.unwrap_or(&Value::Null)),
            (_, Some(Value::Array(items))) if !items.is_empty() => {
                let items: Vec<String> = items.iter().map(plain).collect();
                items.join(", ")
            }
            (_, None | Some(Value::Array(_))) => NONE.to_owned(),
            (_, Some(value)) => plain(value),
        }
    }

    /// What `?` says: the schema's own words about the option.
    pub fn help(&self) -> String {
        match schema::option(self.path) {
            Some(option) => format!("{} {} Allowed: {}.", self.path, option.doc, option.allowed()),
            None if self.shape == Shape::Schedule => format!("{} Allowed: {}.", self.path, schedule::ALLOWED),
            None => "`echomesh help keys` has what can be done with a key later.".to_owned(),
        }
    }

    fn one(&self, text: &str) -> Value {
        let wants_number =
            schema::option(self.path).is_some_and(|o| matches!(o.kind, Kind::Number(..) | Kind::Int(..)));
        let number = json::parse(text.as_bytes()).ok().filter(|v| wants_number && v.as_f64().is_some());
        number.unwrap_or_else(|| text.into())
    }

    fn item(&self, text: &str) -> Result<String, Fault> {
        if self.path != "node.regionAllow" {
            return Ok(text.to_owned());
        }
        let region = regions::normal(text);
        let found = if regions::country(&region).is_none() { regions::search(text) } else { String::new() };
        if found.is_empty() {
            return Ok(region);
        }
        Err(Fault::Shape(format!("\"{text}\" is a country's name; write its code:\n{}", found.trim_end())))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.canonical(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> &'static Question {
        QUESTIONS.iter().find(|q| q.name == name).unwrap()
    }

    #[test]
    fn questions_fit_a_terminal_and_are_about_options_that_there_are() {
        for q in QUESTIONS {
            assert!(q.text.lines().all(|l| l.chars().count() <= 80) && q.label.len() <= 17, "{}", q.name);
            assert!(
                q.path == KEY || schema::option(q.path).is_some() || q.shape == Shape::Schedule,
                "{}",
                q.name
            );
            assert!(!q.help().is_empty());
        }
    }

    #[test]
    fn numbers_are_numbers_and_what_is_none_is_left_to_the_schema() {
        let mbps = question("max-mbps");
        assert_eq!(mbps.value("12.5"), Ok(Some(12.5.into())));
        assert_eq!(mbps.value("20"), Ok(Some(20.into())));
        assert_eq!(mbps.value("fast"), Ok(Some("fast".into())));
        assert_eq!(mbps.value("none"), Ok(Some("none".into())));
        assert_eq!(question("max-gb-per-month").value("None"), Ok(None));
    }

    #[test]
    fn lists_have_commas_and_regions_their_codes() {
        let regions = question("region");
        assert_eq!(regions.value("ph-NCR, PH-Mindanao,"), Ok(Some(array(["PH-NCR", "PH-Mindanao"]))));
        assert_eq!(regions.value("none"), Ok(None));
        assert_eq!(regions.value("Bench"), Ok(Some(array(["Bench"]))));
        let Err(Fault::Shape(text)) = regions.value("PH, philippines") else { panic!() };
        assert_eq!(text, "\"philippines\" is a country's name; write its code:\n  PH  Philippines");
    }

    #[test]
    fn every_value_is_shown_as_an_answer_that_gives_it_again() {
        for (name, typed) in [
            ("region", "PH-NCR, PH"),
            ("region", "none"),
            ("max-mbps", "12.5"),
            ("schedule", "Mon-Fri 22:00-06:00"),
            ("schedule", "always"),
            ("coordinator", "https://c.example"),
            ("coordinator", "none"),
            ("name", "a.example, 203.0.113.9"),
        ] {
            let q = question(name);
            let value = q.value(typed).unwrap();
            assert_eq!(q.answer(value.as_ref()), typed);
        }
    }

    #[test]
    fn a_key_is_a_word_or_a_path() {
        assert_eq!(KeyChoice::parse("/root/node.key"), Some(KeyChoice::Import("/root/node.key".into())));
        assert_eq!(KeyChoice::parse("sealed"), Some(KeyChoice::Sealed));
        assert!(
            matches!(question("key").value("old"), Err(Fault::Shape(t)) if t.starts_with("\"old\" is neither"))
        );
    }
}
