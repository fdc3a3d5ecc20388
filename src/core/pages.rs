//! Pages of an archive: places of lines that stay the same while older lines are dropped.
use crate::api::Page;

/// Most bytes of a page, unless its first line alone has more: far below what the bus carries.
const MAX_BYTES: usize = 256 << 10;

/// A page of the lines `all`, the last of which is the one before place `end`. Lines that `keeps` refuses are passed over.
/// `None` if the archive has never had that place.
pub fn page(
    all: &[u8],
    (start, end): (u64, u64),
    place: Option<u64>,
    most: usize,
    keeps: impl Fn(&[u8]) -> bool,
) -> Option<Page> {
    let lines: Vec<&[u8]> = all.split_inclusive(|b| *b == b'\n').collect();
    let first = end.saturating_sub(lines.len() as u64);
    let from = place.unwrap_or(first);
    if !(start..=end).contains(&from) {
        return None;
    }
    // What was dropped meanwhile cannot be shown.
    let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
    let mut page = Page { lines: Vec::new(), next: end, more: false };
    let mut bytes = 0;
    for (at, line) in (first..).zip(&lines).skip(skip).filter(|(_, line)| keeps(line)) {
        bytes += line.len();
        if page.lines.len() == most || (bytes > MAX_BYTES && !page.lines.is_empty()) {
            return Some(Page { next: at, more: true, ..page });
        }
        page.lines.push(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned());
    }
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
        range.flat_map(|n| format!("{n}\n").into_bytes()).collect()
    }

    fn pages(all: &[u8], span: (u64, u64), most: usize, keeps: fn(&[u8]) -> bool) -> Vec<Vec<String>> {
        let (mut place, mut pages) = (None, Vec::new());
        loop {
            let page = page(all, span, place, most, keeps).unwrap();
            place = Some(page.next);
            pages.push(page.lines);
            if !page.more {
                return pages;
            }
        }
    }

    #[test]
    fn pages_have_every_line_once() {
        for most in [1, 2, 3, 7, 8] {
            let pages = pages(&lines(0..7), (100, 107), most, |_| true);
            assert!(pages.iter().all(|p| p.len() <= most && !p.is_empty()));
            let all: Vec<u32> = pages.concat().iter().map(|l| l.parse().unwrap()).collect();
            assert_eq!(all, (0..7).collect::<Vec<_>>());
        }
        let kept = pages(&lines(0..7), (100, 107), 2, |line| line != b"3\n");
        assert_eq!(kept, [vec!["0", "1"], vec!["2", "4"], vec!["5", "6"]]);
    }

    #[test]
    fn places_stay_when_lines_come_and_go() {
        let first = page(&lines(0..5), (100, 105), None, 3, |_| true).unwrap();
        assert_eq!((first.next, first.more), (103, true));
        // Two more lines; the first two have been dropped.
        let next = page(&lines(2..7), (100, 107), Some(first.next), 9, |_| true).unwrap();
        assert_eq!(
            (next.lines, next.next, next.more),
            (vec!["3".into(), "4".into(), "5".into(), "6".into()], 107, false)
        );
        // All that was to come has been dropped.
        let late = page(&lines(9..10), (100, 110), Some(first.next), 9, |_| true).unwrap();
        assert_eq!(late.lines, ["9"]);
        let nothing = page(b"", (100, 107), Some(107), 9, |_| true).unwrap();
        assert_eq!((nothing.lines.len(), nothing.next, nothing.more), (0, 107, false));
    }

    #[test]
    fn places_of_another_process_are_none() {
        for place in [0, 99, 108, u64::MAX] {
            assert_eq!(page(&lines(0..7), (100, 107), Some(place), 9, |_| true), None);
        }
    }

    #[test]
    fn a_page_has_few_bytes_but_never_no_line() {
        let long = [vec![b'x'; MAX_BYTES + 5], b"\n".to_vec(), lines(0..1)].concat();
        let first = page(&long, (0, 2), None, 9, |_| true).unwrap();
        assert_eq!((first.lines.len(), first.next, first.more), (1, 1, true));
    }
}
