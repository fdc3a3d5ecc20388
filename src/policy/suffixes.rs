//! Registrable domains, as far as connections are counted by them.
//!
//! Only common public suffixes of two labels are known (`data/public-suffixes.txt`). A name below another one is counted
//! with its neighbours: that is the stricter side, and a hundredth of the whole list's size.

/// A label and the top-level domains below which it is a public suffix, line by line.
static SUFFIXES: &str = include_str!("../../data/public-suffixes.txt");

/// The registrable domain of a host in normal form: two labels, or three where the last two are a public suffix.
pub fn registrable(host: &str) -> &str {
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at);
    let (Some(last), Some(second)) = (dots.next(), dots.next()) else { return host };
    let part = |range: std::ops::RangeFrom<usize>| host.get(range).unwrap_or(host);
    let label = host.get(second + 1..last).unwrap_or_default();
    if !is_suffix(label, part(last + 1..)) {
        return part(second + 1..);
    }
    dots.next().map_or(host, |third| part(third + 1..))
}

fn is_suffix(label: &str, tld: &str) -> bool {
    let of_label = |line: &&'static str| line.split(' ').next() == Some(label);
    SUFFIXES.lines().find(of_label).is_some_and(|line| line.split(' ').skip(1).any(|known| known == tld))
}

#[cfg(test)]
mod tests {
    use super::registrable;
    use proptest::prelude::*;

    #[test]
    fn a_registrable_domain_has_one_label_more_than_its_public_suffix() {
        for (host, domain) in [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("www.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("example.com.ph", "example.com.ph"),
            ("x.y.example.com.bd", "example.com.bd"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(registrable(host), domain, "{host}");
        }
    }

    #[test]
    fn what_is_no_known_suffix_is_counted_together() {
        // `com.de` belongs to somebody, who could make as many names below it as he likes.
        assert_eq!(registrable("a.com.de"), "com.de");
        assert_eq!(registrable("one.city.kawasaki.jp"), "kawasaki.jp", "coarser than the list");
        assert_eq!(registrable("a.github.io"), "github.io");
        assert_eq!(registrable("a.#.uk"), "#.uk", "the file's comments are no suffixes");
    }

    proptest! {
        #[test]
        fn it_is_a_tail_of_the_host_at_a_label(host in "[a-z]{1,3}(\\.(co|com|uk|de|[a-z]{1,3})){0,5}") {
            let domain = registrable(&host);
            let tail = host.strip_suffix(domain);
            prop_assert!(tail.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
            prop_assert!(domain.split('.').count() <= 3);
            prop_assert_eq!(registrable(domain), domain);
        }
    }
}
