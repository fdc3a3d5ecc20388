//! Reading lists in the forms that people publish them in: hosts files, one name per line, adblock's domain rules. The
//! form is told line by line, since published lists mix them.
use super::idna::to_ascii;
use super::set::{Builder, Cover, NameSet};
use std::fmt;
use std::net::IpAddr;

/// Longest line, bytes; a longer one is passed over.
pub const MAX_LINE: usize = 1024;
/// Most names of a list; what comes after them is counted and not kept.
pub const MAX_NAMES: usize = 4_000_000;
/// Lines that a report quotes, and how much of each, characters.
const EXAMPLES: usize = 5;
const QUOTED: usize = 60;

/// Names that hosts files have for the machine itself.
const MACHINE: [&str; 12] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "0.0.0.0",
];

/// Why a line, or a name in it, was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// It is no name, or one that would have to be normalised first.
    NotAName,
    /// A rule for parts of pages, paths, or patterns: adblock's, but not a domain's.
    NotADomainRule,
    /// A domain rule that holds only under conditions (`$third-party`).
    Conditional,
    /// A rule that takes something out of a list (`@@`): a block list only ever blocks.
    Exception,
    /// A hosts line that sends a name somewhere instead of nowhere.
    Redirect,
    /// A line over [`MAX_LINE`] bytes.
    TooLong,
    /// Beyond [`MAX_NAMES`].
    TooMany,
}

impl Skipped {
    const ALL: [Skipped; 7] = [
        Skipped::NotAName,
        Skipped::NotADomainRule,
        Skipped::Conditional,
        Skipped::Exception,
        Skipped::Redirect,
        Skipped::TooLong,
        Skipped::TooMany,
    ];

    fn words(self) -> &'static str {
        match self {
            Skipped::NotAName => "no names",
            Skipped::NotADomainRule => "rules for other things than domains",
            Skipped::Conditional => "rules with conditions",
            Skipped::Exception => "exceptions",
            Skipped::Redirect => "redirections",
            Skipped::TooLong => "lines that are too long",
            Skipped::TooMany => "names beyond the most that are kept",
        }
    }
}

/// What an import took and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Names taken, repeated ones each time.
    pub names: usize,
    skipped: [u32; Skipped::ALL.len()],
    /// The first lines that were passed over: number and beginning.
    pub examples: Vec<(u32, String)>,
}

impl Report {
    /// How often something was passed over for this reason.
    pub fn skipped(&self, why: Skipped) -> u32 {
        self.skipped.get(why as usize).copied().unwrap_or(0)
    }

    /// How often anything was.
    pub fn all_skipped(&self) -> u32 {
        self.skipped.iter().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names", self.names)?;
        for why in Skipped::ALL.into_iter().filter(|w| self.skipped(*w) > 0) {
            write!(f, ", {} {} passed over", self.skipped(why), why.words())?;
        }
        for (at, (line, text)) in self.examples.iter().enumerate() {
            write!(f, "{}line {line}: {text:?}", if at == 0 { "; first " } else { ", " })?;
        }
        Ok(())
    }
}

/// Takes a list in pieces of any size.
#[derive(Debug, Default)]
pub struct Importer {
    builder: Builder,
    report: Report,
    line: Vec<u8>,
    too_long: bool,
    number: u32,
}

impl Importer {
    /// The next piece of the current list.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|b| *b == b'\n') {
            let (head, rest) = piece.split_at(end);
            self.extend(head);
            self.end_line();
            piece = rest.get(1..).unwrap_or_default();
        }
        self.extend(piece);
    }

    /// The end of the current list, whose last line need not have an end; another may follow. What was taken of it.
    pub fn end_list(&mut self) -> Report {
        if !self.line.is_empty() || self.too_long {
            self.end_line();
        }
        self.number = 0;
        std::mem::take(&mut self.report)
    }

    /// The set of all names.
    pub fn finish(mut self) -> NameSet {
        self.end_list();
        self.builder.finish()
    }

    fn extend(&mut self, part: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.too_long |= part.len() > room;
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end_line(&mut self) {
        self.number = self.number.saturating_add(1);
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            self.skip(Skipped::TooLong, &line);
        } else {
            let text = String::from_utf8_lossy(&line);
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            if let Err(why) = self.take(text.trim()) {
                self.skip(why, text.as_bytes());
            }
        }
        self.line = line;
        self.line.clear();
    }

    /// One line without white space around it.
    fn take(&mut self, line: &str) -> Result<(), Skipped> {
        if line.is_empty() || line.starts_with(['!', '#', '[']) {
            // `#` also begins adblock's rules for parts of pages, which are as good as comments here.
            return Ok(());
        }
        if line.starts_with("@@") {
            return Err(Skipped::Exception);
        }
        if let Some(rule) = line.strip_prefix("||") {
            return self.adblock(rule);
        }
        // A rule for parts of a site's pages; a comment begins after white space.
        let word = line.split_whitespace().next().unwrap_or_default();
        if ["##", "#@#", "#?#"].iter().any(|mark| word.contains(mark)) {
            return Err(Skipped::NotADomainRule);
        }
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Ok(address) = first.parse::<IpAddr>() {
            return self.hosts(address, words);
        }
        if words.next().is_some() || first.contains(['/', '^', '|', '$', ',', ':']) {
            return Err(Skipped::NotADomainRule);
        }
        self.plain(first)
    }

    /// `||name^`, with nothing behind it.
    fn adblock(&mut self, rule: &str) -> Result<(), Skipped> {
        let Some((name, rest)) = rule.split_once('^') else { return Err(Skipped::NotADomainRule) };
        if name.contains(['*', '/', ':']) {
            return Err(Skipped::NotADomainRule);
        }
        match rest {
            "" | "|" => self.name(name, Cover::Tree),
            rest if rest.starts_with('$') => Err(Skipped::Conditional),
            _ => Err(Skipped::NotADomainRule),
        }
    }

    /// `0.0.0.0 name name …`: names that are sent nowhere.
    fn hosts<'a>(&mut self, to: IpAddr, names: impl Iterator<Item = &'a str>) -> Result<(), Skipped> {
        if !(to.is_unspecified() || to.is_loopback()) {
            return Err(Skipped::Redirect);
        }
        let mut done = Ok(());
        for name in names.filter(|n| !MACHINE.contains(n)) {
            done = done.and(self.name(name, Cover::Exact));
        }
        done
    }

    fn plain(&mut self, word: &str) -> Result<(), Skipped> {
        if let Some(name) = word.strip_prefix('=') {
            self.name(name, Cover::Exact)
        } else if let Some(name) = word.strip_prefix("*.") {
            self.name(name, Cover::Below)
        } else {
            self.name(word.strip_prefix('.').unwrap_or(word), Cover::Tree)
        }
    }

    fn name(&mut self, name: &str, cover: Cover) -> Result<(), Skipped> {
        let name = to_ascii(name).ok_or(Skipped::NotAName)?;
        if self.builder.count() >= MAX_NAMES {
            return Err(Skipped::TooMany);
        }
        self.builder.add(&name, cover);
        self.report.names += 1;
        Ok(())
    }

    fn skip(&mut self, why: Skipped, line: &[u8]) {
        if let Some(count) = self.report.skipped.get_mut(why as usize) {
            *count = count.saturating_add(1);
        }
        if self.report.examples.len() < EXAMPLES {
            let quoted = String::from_utf8_lossy(line).trim().chars().take(QUOTED).collect();
            self.report.examples.push((self.number, quoted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn import(text: &str) -> (NameSet, Report) {
        let mut importer = Importer::default();
        importer.feed(text.as_bytes());
        let report = importer.end_list();
        (importer.finish(), report)
    }

    fn covered<'a>(set: &NameSet, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().copied().filter(|n| set.covers(n)).collect()
    }

    #[test]
    fn a_hosts_file_blocks_just_its_names() {
        let text = "# comment\r\n127.0.0.1 localhost\n0.0.0.0 0.0.0.0\n::1 ip6-localhost ip6-loopback\n\
            0.0.0.0\tads.test www.ads.test # why\n127.0.0.1 Tracker.test.\n:: six.test\n192.0.2.1 elsewhere.test\n";
        let (set, report) = import(text);
        let names = [
            "ads.test",
            "www.ads.test",
            "x.ads.test",
            "tracker.test",
            "six.test",
            "elsewhere.test",
            "localhost",
        ];
        assert_eq!(covered(&set, &names), ["ads.test", "www.ads.test", "tracker.test", "six.test"]);
        assert_eq!((report.names, report.skipped(Skipped::Redirect), report.all_skipped()), (4, 1, 1));
        assert_eq!(report.examples, [(8, "192.0.2.1 elsewhere.test".to_owned())]);
    }

    #[test]
    fn plain_lines_say_what_they_cover() {
        let (set, report) = import(
            "\u{feff}tree.test\n=exact.test\n*.below.test\n.dotted.test\nbücher.example # U-label\nlast.test",
        );
        let names = [
            "tree.test",
            "a.tree.test",
            "exact.test",
            "a.exact.test",
            "below.test",
            "a.below.test",
            "dotted.test",
            "a.dotted.test",
            "xn--bcher-kva.example",
            "last.test",
        ];
        let not = ["a.exact.test", "below.test"];
        let expected: Vec<&str> = names.iter().copied().filter(|n| !not.contains(n)).collect();
        assert_eq!((covered(&set, &names), report.all_skipped()), (expected, 0));
    }

    #[test]
    fn of_adblock_s_rules_those_for_whole_domains_are_taken() {
        let text = "[Adblock Plus 2.0]\n! Title: x\n||ads.test^\n||end.test^|\n||third.test^$third-party\n@@||good.test^\n\
            ||page.test^/banner\n||wild*.test^\n/banner.js\nexample.com##.ad\n##.ad\n||noend.test\n-ad-\n";
        let (set, report) = import(text);
        let names = [
            "ads.test",
            "a.ads.test",
            "end.test",
            "third.test",
            "good.test",
            "page.test",
            "noend.test",
            "example.com",
        ];
        assert_eq!(covered(&set, &names), ["ads.test", "a.ads.test", "end.test"]);
        let count = |why| report.skipped(why);
        assert_eq!((count(Skipped::Conditional), count(Skipped::Exception)), (1, 1));
        assert_eq!((count(Skipped::NotADomainRule), count(Skipped::NotAName)), (5, 1), "{report}");
        assert_eq!(report.examples.len(), 5);
    }

    #[test]
    fn a_report_says_what_was_passed_over() {
        let (_, report) = import("a.test\nb..test\n@@||c.test^\n");
        assert_eq!(
            report.to_string(),
            "1 names, 1 no names passed over, 1 exceptions passed over; first line 2: \"b..test\", line 3: \"@@||c.test^\""
        );
    }

    #[test]
    fn a_line_is_bounded() {
        let fits = "a.test # ".to_owned() + &"x".repeat(MAX_LINE - 9);
        let (set, report) = import(&format!("{fits}\n{fits}#\nb.test\n"));
        assert_eq!((set.len(), report.names, report.skipped(Skipped::TooLong)), (2, 2, 1));
    }

    #[test]
    fn lists_follow_one_another_in_one_set() {
        let mut importer = Importer::default();
        importer.feed(b"a.test\nb.test");
        assert_eq!(importer.end_list().names, 2);
        importer.feed(b"?\n");
        assert_eq!(importer.end_list().examples, [(1, "?".to_owned())]);
        assert_eq!(importer.finish().len(), 2);
    }

    proptest! {
        /// Whatever the pieces, the list is the same; and no bytes make it fail.
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..400) {
            let at = at.min(bytes.len());
            let mut pieces = Importer::default();
            pieces.feed(&bytes[..at]);
            pieces.feed(&bytes[at..]);
            let mut whole = Importer::default();
            whole.feed(&bytes);
            let report = pieces.end_list();
            prop_assert_eq!(&report, &whole.end_list());
            prop_assert!(pieces.finish().len() <= report.names);
        }
    }
}
