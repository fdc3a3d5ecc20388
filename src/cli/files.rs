//! Commands that work on files, without a running node.
use super::args::Arguments;
use super::{Done, Exit, Failure};

/// Any of them.
pub fn command(arguments: &Arguments) -> Done {
    Err(Failure::new(Exit::Failed, format!("{} is not in this build", arguments.command.name)))
}
