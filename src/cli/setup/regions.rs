//! Regions by name: the codes of countries, as the coordinator's regions begin.

/// `data/countries.txt`: 247 countries in 3 kB.
static COUNTRIES: &str = include_str!("../../../data/countries.txt");
/// Matches that a search tells.
const MAX_FOUND: usize = 15;

/// Codes and names of all countries, in the order of the codes.
fn countries() -> impl Iterator<Item = (&'static str, &'static str)> {
    COUNTRIES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
}

/// The name of the country that a region's code stands for: `PH`, `PH-NCR`.
pub fn country(region: &str) -> Option<&'static str> {
    let code = region.split('-').next().unwrap_or_default();
    countries().find(|(known, _)| *known == code).map(|(_, name)| name)
}

/// The region with its country's code in capitals, if it begins with one.
pub fn normal(region: &str) -> String {
    let (code, rest) = region.split_at_checked(2).unwrap_or((region, ""));
    let upper = code.to_ascii_uppercase();
    let is_code = rest.is_empty() || rest.starts_with('-');
    if is_code && country(&upper).is_some() { upper + rest } else { region.to_owned() }
}

/// Countries whose code is the word or whose name has it, one on each line; empty if there is none.
pub fn search(word: &str) -> String {
    let word = word.trim().to_lowercase();
    let fits = |code: &str, name: &str| code.to_lowercase() == word || name.to_lowercase().contains(&word);
    let found: Vec<_> = countries().filter(|(code, name)| fits(code, name)).collect();
    let mut text: String =
        found.iter().take(MAX_FOUND).map(|(code, name)| format!("  {code}  {name}\n")).collect();
    if found.len() > MAX_FOUND {
        text.push_str(&format!("  and {} more; search for a longer word\n", found.len() - MAX_FOUND));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_found_by_code_and_by_part_of_the_name() {
        assert_eq!(search("philip"), "  PH  Philippines\n");
        assert_eq!(search(" ph "), "  PH  Philippines\n");
        assert_eq!(search("ivoire"), "  CI  Cote d'Ivoire\n");
        assert!(search("korea").lines().eq(["  KP  Korea (North)", "  KR  Korea (South)"]));
        assert_eq!(search("atlantis"), "");
    }

    #[test]
    fn a_search_tells_so_many_and_no_more() {
        let all = search("");
        assert_eq!(all.lines().count(), MAX_FOUND + 1);
        assert!(
            all.ends_with(&format!("  and {} more; search for a longer word\n", 247 - MAX_FOUND)),
            "{all}"
        );
        assert!(countries().all(|(code, name)| code.len() == 2 && name.is_ascii() && name.len() < 60));
    }

    #[test]
    fn only_a_country_s_code_is_put_into_capitals() {
        for (typed, region) in [
            ("ph", "PH"),
            ("ph-NCR", "PH-NCR"),
            ("PH-Mindanao", "PH-Mindanao"),
            ("xx-1", "xx-1"),
            ("phl", "phl"),
            ("p", "p"),
            ("é1", "é1"),
        ] {
            assert_eq!(normal(typed), region);
        }
        assert_eq!((country("PH-NCR"), country("Bench")), (Some("Philippines"), None));
    }
}
