//! Lists of up to millions of host names: their formats, and how they are kept.
//!
//! What an entry covers: `name` itself and everything below it; `=name` itself alone; `*.name` what is below it, and not
//! itself. A name of a hosts file stands for itself alone, as it does for the programs that read such files.
mod idna;
mod import;
mod set;

pub use idna::to_ascii;
pub use import::{Importer, Report, Skipped};
pub use set::{Builder, Cover, NameSet};
