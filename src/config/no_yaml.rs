//! In a build without the feature `yaml`: what is said to those who hand it YAML.
use super::errors::Problem;
use crate::json::Value;

/// The lines of a document, of which there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {}

impl Lines {
    /// Never called.
    pub fn of(&self, _: &Value, _: &str) -> usize {
        match *self {}
    }
}

/// Refuses, and says what to do instead.
pub fn read(_: &str) -> Result<(Value, Lines), Vec<Problem>> {
    let text = "this build for routers reads no YAML; elsewhere, `echomesh config convert FILE --to json` (or uci) makes of it what it reads";
    Err(vec![Problem::new("", text)])
}
