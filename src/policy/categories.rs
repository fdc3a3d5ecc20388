//! Categories of hosts that no buyer of tests and advertisements needs, and that an abuser wants first: denied unless
//! the owner allows a category. The names are in `data/categories`, one file each.
use super::hosts::{BadName, DomainSet};

/// A category and the names in it, as its file has them.
pub struct Category {
    /// Its name in the configuration.
    pub name: &'static str,
    lines: &'static str,
}

macro_rules! categories {
    ($($name:literal)*) => {
        /// All categories.
        pub const CATEGORIES: &[Category] = &[
            $(Category { name: $name, lines: include_str!(concat!("../../data/categories/", $name, ".txt")) }),*
        ];
        /// Their names.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

categories! { "banking" "government" "health" "identity" "mail" "payment" }

/// The hosts of all categories but those that are allowed; an entry covers itself and its subdomains.
///
/// # Errors
/// A line of the files that is no name.
pub fn denied(allowed: &[String]) -> Result<DomainSet, BadName> {
    let text: Vec<&str> =
        CATEGORIES.iter().filter(|c| !allowed.iter().any(|a| a == c.name)).map(|c| c.lines).collect();
    DomainSet::from_lines(&text.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_valid_and_denies_its_own() {
        for category in CATEGORIES {
            let own = DomainSet::from_lines(category.lines).unwrap();
            assert!(own.len() >= 20, "{} has {}", category.name, own.len());
            let others: Vec<String> =
                NAMES.iter().filter(|n| **n != category.name).map(|n| (*n).to_owned()).collect();
            assert_eq!(denied(&others).unwrap(), own, "{}", category.name);
        }
    }

    #[test]
    fn all_are_denied_unless_allowed() {
        let all = denied(&[]).unwrap();
        for host in [
            "mail.google.com",
            "smtp.gmail.com",
            "www.chase.com",
            "api.stripe.com",
            "www.irs.gov",
            "mychart.org",
        ] {
            assert!(all.covers(host), "{host}");
        }
        for host in ["www.google.com", "example.com", "news.yahoo.com", "www.apple.com"] {
            assert!(!all.covers(host), "{host}");
        }
        let but_mail = denied(&["mail".to_owned()]).unwrap();
        assert!(!but_mail.covers("mail.google.com") && but_mail.covers("www.chase.com"));
        let names: Vec<String> = NAMES.iter().map(|n| (*n).to_owned()).collect();
        assert!(denied(&names).unwrap().is_empty());
    }

    #[test]
    fn every_category_has_its_file_and_every_file_its_category() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/categories");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, NAMES);
    }
}
