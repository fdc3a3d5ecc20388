//! Commands that work on files, without a running node.
use super::args::Arguments;
use super::{Done, Exit, Failure, out};
use crate::config::{Face, Platform, commands, usual_path};
use crate::meter;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Largest file that `verify` reads, in bytes: some 80,000 bundles.
const MAX_EXPORT: u64 = 64 << 20;

/// `config check [FILE]`
pub fn check(arguments: &Arguments) -> Done {
    let text = commands::check(&config_file(arguments), Platform::detect()).map_err(config_failure)?;
    out::print(&text)
}

/// `config show [FILE]`
pub fn show(arguments: &Arguments) -> Done {
    let path = config_file(arguments);
    let face = face(arguments)?.unwrap_or(Face::of(&path));
    out::print(&commands::show(&path, Platform::detect(), face).map_err(config_failure)?)
}

/// `config init`
pub fn init(arguments: &Arguments) -> Done {
    out::save(arguments.value("out"), &commands::init(Platform::detect()))
}

/// `config convert FILE`: without `--to` into the other form.
pub fn convert(arguments: &Arguments) -> Done {
    let path = arguments.operands.first().map(PathBuf::from).unwrap_or_default();
    let other = match Face::of(&path) {
        Face::Yaml => Face::Json,
        _ if cfg!(feature = "yaml") => Face::Yaml,
        Face::Json => Face::Uci,
        Face::Uci => Face::Json,
    };
    let text = commands::convert(&path, face(arguments)?.unwrap_or(other)).map_err(config_failure)?;
    out::save(arguments.value("out"), &text)
}

/// `verify FILE...`
pub fn verify(arguments: &Arguments) -> Done {
    let mut files = Vec::new();
    for path in &arguments.operands {
        files.push((path.to_string_lossy().into_owned(), read(Path::new(path))?));
    }
    let named: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_slice())).collect();
    let report = meter::verify(&named);
    out::print(&format!("{}\n", report.to_string().trim_end()))?;
    match report.is_ok() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Refused, "the export does not hold")),
    }
}

fn config_file(arguments: &Arguments) -> PathBuf {
    arguments
        .operands
        .first()
        .map_or_else(|| usual_path(arguments.value("config").map(Path::new)), PathBuf::from)
}

fn face(arguments: &Arguments) -> Result<Option<Face>, Failure> {
    match arguments.text("to")? {
        None => Ok(None),
        Some("yaml") => Ok(Some(Face::Yaml)),
        Some("json") => Ok(Some(Face::Json)),
        Some("uci") => Ok(Some(Face::Uci)),
        Some(other) => Err(Failure::new(Exit::Usage, format!("--to {other}: there are yaml, json and uci"))),
    }
}

/// A failure of the configuration as one of this program.
pub fn config_failure(failure: commands::Failure) -> Failure {
    let exit = if failure.code == commands::BAD_CONFIG { Exit::Config } else { Exit::Failed };
    Failure::new(exit, failure.text)
}

/// A whole file of bounded size.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_EXPORT + 1).read_to_end(&mut text));
    let failed = |what: String| Failure::new(Exit::Failed, format!("{}: {what}", path.display()));
    match read {
        Ok(_) if text.len() as u64 > MAX_EXPORT => Err(failed(format!("has more than {MAX_EXPORT} bytes"))),
        Ok(_) => Ok(text),
        Err(e) => Err(failed(e.to_string())),
    }
}
