//! What `echomesh config …` does with files, as functions from arguments to text.
use super::describe::example;
use super::schema::Platform;
use super::store::{Store, StoreError, read_bounded};
use super::{Config, Face, read, uci, write};
use std::fmt;
use std::path::Path;

/// Exit code for a configuration that is not valid (`EX_CONFIG` of sysexits.h).
pub const BAD_CONFIG: u8 = 78;
/// Exit code for everything else that fails.
pub const FAILED: u8 = 1;

/// Why a command failed: what to print and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// [`BAD_CONFIG`] or [`FAILED`].
    pub code: u8,
    /// For the standard error, without a line feed at the end.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match error {
            StoreError::Missing(_) | StoreError::Invalid(..) => BAD_CONFIG,
            StoreError::Unreadable(..) | StoreError::NotWritten(..) => FAILED,
        };
        Failure { code, text: error.to_string() }
    }
}

/// `config check FILE`: one line if the file is valid, with what a person should know about it.
pub fn check(path: &Path, platform: Platform) -> Result<String, Failure> {
    let config = Store::open(path, platform).load()?;
    let mut out = format!("{}: valid\n", path.display());
    for warning in warnings(&config) {
        out.push_str(&format!("{}: note: {warning}\n", path.display()));
    }
    Ok(out)
}

/// `config show [FILE]`: the complete configuration, defaults included.
pub fn show(path: &Path, platform: Platform, face: Face) -> Result<String, Failure> {
    Ok(write(&Store::open(path, platform).load()?.to_value(), face))
}

/// `config init`: a file to begin with, in a form that this build reads.
pub fn init(platform: Platform) -> String {
    if cfg!(feature = "yaml") { example(platform) } else { uci::example() }
}

/// `config convert FILE --to yaml|json`: the same members in the other face, none added.
pub fn convert(path: &Path, to: Face) -> Result<String, Failure> {
    let text = read_bounded(path)?;
    let document =
        read(&text, Face::of(path)).map_err(|e| Failure::from(StoreError::Invalid(path.to_owned(), e)))?;
    Ok(write(&document, to))
}

/// What is allowed but probably not meant.
pub fn warnings(config: &Config) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if config.coordinator.url.is_none() {
        warnings.push("without coordinator.url the node is unconfigured and carries nothing");
    } else if config.node.region_allow.is_empty() {
        warnings.push("without node.regionAllow every session is refused");
    }
    if config.updates.auto_update && config.updates.public_keys.is_empty() {
        warnings.push("without updates.publicKeys no release is installed");
    }
    if !config.security.dns_over_https {
        warnings
            .push("security.dnsOverHttps is off: whoever answers the system's DNS decides where names lead");
    }
    let (first, last) = config.lease.ports;
    if (first..=last).contains(&config.relay.listen.port()) {
        warnings.push("the port of relay.listen is one of lease.ports, so there are no leases");
    }
    if config.lease.mark_mask.count_ones() < 4 {
        warnings.push("lease.markMask has fewer than 4 bits, so there are no leases");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_corpus").join(name)
    }

    #[test]
    fn check_says_what_is_valid_and_what_is_not() {
        let good = check(&corpus("valid/spec.yaml"), Platform::OpenWrt).unwrap();
        assert!(good.contains("spec.yaml: valid\n") && good.contains("the node is unconfigured"), "{good}");
        assert_eq!(check(&corpus("valid/full.yaml"), Platform::OpenWrt).unwrap().lines().count(), 2);
        let bad = check(&corpus("invalid/version-two.yaml"), Platform::OpenWrt).unwrap_err();
        assert_eq!(bad.code, BAD_CONFIG);
        assert!(bad.text.ends_with("version-two.yaml:1: version: 2 is out of range; allowed: 1"), "{bad}");
        assert_eq!(check(&corpus("valid"), Platform::OpenWrt).unwrap_err().code, FAILED);
    }

    #[test]
    fn what_leaves_no_leases_is_said() {
        let of = |lease: &str| {
            let text = format!(r#"{{"version":1,"relay":{{"listen":"0.0.0.0:8443"}},"lease":{{{lease}}}}}"#);
            let config = crate::config::parse(text.as_bytes(), Face::Json, Platform::Other).unwrap();
            warnings(&config).join("; ").matches("no leases").count()
        };
        for (lease, notes) in [
            (r#""ports":"8444-9000","markMask":"0x0f""#, 0),
            (r#""ports":"8000-8443""#, 1),
            (r#""ports":"8443-8443","markMask":"0x0e000000""#, 2),
        ] {
            assert_eq!(of(lease), notes, "{lease}");
        }
    }

    #[test]
    fn convert_adds_nothing_and_show_adds_the_defaults() {
        assert_eq!(convert(&corpus("valid/minimal.yaml"), Face::Json).unwrap(), "{\n  \"version\": 1\n}\n");
        assert_eq!(convert(&corpus("valid/minimal.json"), Face::Yaml).unwrap(), "version: 1\n");
        let shown = show(&corpus("valid/minimal.json"), Platform::Other, Face::Yaml).unwrap();
        assert!(shown.contains("  maxMbps: 10\n"), "{shown}");
    }
}
