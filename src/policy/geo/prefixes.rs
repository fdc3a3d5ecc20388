//! The owner's file of address prefixes and their regions, read line by line: it may be far larger than memory.
use crate::config::forms;
use crate::policy::addresses::contains;
use std::io::BufRead;
use std::net::IpAddr;

/// Longest line, in bytes.
pub const MAX_LINE: usize = 256;

/// The region of the longest prefix that has the address. Lines are `prefix,region` in any order; what follows a second
/// comma is not read, nor are empty lines and those that begin with `#`.
///
/// # Errors
/// A sentence that names the line which is none of these: of a file that is damaged nothing is believed.
pub fn region_of(mut file: impl BufRead, address: IpAddr) -> Result<Option<String>, String> {
    let mut best: Option<(u8, String)> = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = std::io::Read::take(&mut file, MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|e| format!("line {number}: {e}"))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).ok().filter(|_| line.len() <= MAX_LINE).map(str::trim);
        let Some(text) = text else { return Err(format!("line {number} is too long, or no text")) };
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut fields = text.split(',').map(str::trim);
        let (prefix, region) =
            (fields.next().and_then(forms::prefix), fields.next().filter(|r| !r.is_empty()));
        let (Some(prefix), Some(region)) = (prefix, region) else {
            return Err(format!("line {number} is not prefix,region"));
        };
        if contains(prefix, address) && best.as_ref().is_none_or(|(length, _)| *length < prefix.1) {
            best = Some((prefix.1, region.to_owned()));
        }
    }
    Ok(best.map(|(_, region)| region))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str, address: &str) -> Result<Option<String>, String> {
        region_of(text.as_bytes(), address.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_decides_in_any_order() {
        let file = "# made up\n203.0.113.0/24,DE\n\n203.0.113.128/25, PH-NCR ,AS64500\n203.0.0.0/16,US\n2001:db8::/32,JP";
        for (address, region) in [
            ("203.0.113.129", Some("PH-NCR")),
            ("203.0.113.5", Some("DE")),
            ("203.0.9.9", Some("US")),
            ("198.51.100.1", None),
            ("2001:db8::1", Some("JP")),
        ] {
            assert_eq!(look(file, address).unwrap().as_deref(), region, "{address}");
        }
    }

    #[test]
    fn a_damaged_file_is_not_believed() {
        assert_eq!(
            look("203.0.113.0/24,DE\nx,PH\n", "203.0.113.1").unwrap_err(),
            "line 2 is not prefix,region"
        );
        assert!(look("203.0.113.0/24\n", "203.0.113.1").is_err());
        assert!(look("203.0.113.0/24, \n", "203.0.113.1").is_err());
        let longest = format!("203.0.113.0/24,DE,{}", "x".repeat(MAX_LINE - 18));
        assert_eq!(longest.len(), MAX_LINE);
        assert_eq!(look(&longest, "203.0.113.1").unwrap().as_deref(), Some("DE"));
        assert!(look(&format!("{longest}x"), "203.0.113.1").is_err(), "one byte more");
        assert!(region_of(&b"\xff,DE"[..], "203.0.113.1".parse().unwrap()).is_err());
    }
}
