//! The access log's files: lines in a few bounded segments, the oldest dropped first.
use super::access_log::line_instant;
use crate::time::Unix;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes that all segments together may have unless told otherwise.
pub const LOG_CAPACITY: u64 = 4 << 20;
/// Segments the capacity is divided into; dropping one drops an eighth of the log.
const SEGMENTS: u64 = 8;
/// Lines are gathered in memory until there are so many bytes, or until [`LogStore::flush`].
const BUFFER: usize = 16 << 10;
/// Longest line that is kept, bytes.
pub const MAX_LINE: usize = 4 << 10;

/// Reads the instant of a line; `None` if it has none.
pub type Instant = fn(&[u8]) -> Option<Unix>;

/// The store's files could not be used. Lines stay in memory and are tried again; beyond the buffer's bound the oldest
/// are dropped and counted.
#[derive(Debug)]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the access log cannot use {}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Lines on disk, newest in memory. Files are named `NAME.<number>`, mode 0600, and belong in memory-backed storage on
/// a router.
#[derive(Debug)]
pub struct LogStore {
    directory: PathBuf,
    name: String,
    segment_size: u64,
    /// Number and length of each segment, oldest first.
    segments: VecDeque<(u64, u64)>,
    newest: Option<File>,
    buffer: Vec<u8>,
    dropped: u64,
    taken: u64,
}

impl LogStore {
    /// Opens the segments that are there. A last line without its end, of a process that died, does not count.
    pub fn open(directory: &Path, name: &str, capacity: u64) -> Result<LogStore, LogError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        // Of a process that died while it took old lines out.
        remove(&directory.join(format!("{name}.new")))?;
        let mut numbers: Vec<u64> = Vec::new();
        for entry in fs::read_dir(directory).map_err(at(directory))? {
            let file_name = entry.map_err(at(directory))?.file_name();
            let suffix = file_name.to_str().and_then(|n| n.strip_prefix(name)?.strip_prefix('.'));
            let number = suffix.and_then(|digits| digits.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut store = LogStore {
            directory: directory.to_owned(),
            name: name.to_owned(),
            segment_size: (capacity / SEGMENTS).max(MAX_LINE as u64),
            segments: VecDeque::new(),
            newest: None,
            buffer: Vec::new(),
            dropped: 0,
            taken: 0,
        };
        for number in numbers {
            let (length, lines) = whole_lines(&store.segment(number))?;
            store.taken += lines;
            store.segments.push_back((number, length));
        }
        store.drop_oldest();
        Ok(store)
    }

    /// Takes a line, line feed included, as the meter wrote it. One longer than [`MAX_LINE`] is not kept.
    pub fn append(&mut self, line: &[u8]) -> Result<(), LogError> {
        if line.len() > MAX_LINE {
            self.dropped += 1;
            return Ok(());
        }
        self.taken += 1;
        self.buffer.extend_from_slice(line);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes what is in memory. To be called when a bundle is sealed and at the end.
    pub fn flush(&mut self) -> Result<(), LogError> {
        let written = self.write_buffer();
        if written.is_ok() {
            self.buffer.clear();
        } else {
            self.newest = None;
            self.bound_buffer();
        }
        written
    }

    /// All lines whose `t` is `since` or later (all of them without it), oldest first, as they were appended.
    pub fn export(&self, since: Option<Unix>) -> Result<Vec<u8>, LogError> {
        let mut out = Vec::new();
        for (number, length) in &self.segments {
            let path = self.segment(*number);
            let text = fs::read(&path).map_err(at(&path))?;
            let whole = text.get(..usize::try_from(*length).unwrap_or(usize::MAX)).unwrap_or(&text);
            keep_since(whole, since, &mut out);
        }
        keep_since(&self.buffer, since, &mut out);
        Ok(out)
    }

    /// Removes the lines from before `before`, from the disk too; `instant` reads a line's. One that has none is removed:
    /// nobody could tell how long it has been kept.
    ///
    /// # Errors
    /// A segment that cannot be read or written; the others are done all the same.
    pub fn expire(&mut self, before: Unix, instant: Instant) -> Result<(), LogError> {
        let keeps = |line: &[u8]| instant(line).is_some_and(|t| t >= before);
        self.buffer = kept(&self.buffer, keeps);
        let mut done = Ok(());
        let mut left = VecDeque::new();
        for (number, length) in std::mem::take(&mut self.segments) {
            match expire_segment(&self.segment(number), length, keeps) {
                Ok(0) => {}
                Ok(length) => left.push_back((number, length)),
                Err(e) => {
                    left.push_back((number, length));
                    done = Err(e);
                }
            }
        }
        self.segments = left;
        // It may be another file now.
        self.newest = None;
        done
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.buffer.is_empty()
    }

    /// Lines that were there at the start, and all that came since: however many of them are still there.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Lines that could not be kept, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Removes all lines, from the disk too.
    pub fn wipe(&mut self) -> Result<(), LogError> {
        self.buffer.clear();
        self.newest = None;
        while let Some((number, _)) = self.segments.pop_front() {
            remove(&self.segment(number))?;
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = self.buffer.len() as u64;
        if self.segments.back().is_none_or(|(_, length)| length + bytes > self.segment_size) {
            let number = self.segments.back().map_or(0, |(number, _)| number + 1);
            self.segments.push_back((number, 0));
            self.newest = None;
            self.drop_oldest();
        }
        let Some(&(number, length)) = self.segments.back() else { return Ok(()) };
        let path = self.segment(number);
        let mut file = match self.newest.take() {
            Some(file) => file,
            None => open_segment(&path, length)?,
        };
        file.write_all(&self.buffer).map_err(at(&path))?;
        self.newest = Some(file);
        if let Some((_, length)) = self.segments.back_mut() {
            *length += bytes;
        }
        Ok(())
    }

    fn drop_oldest(&mut self) {
        while self.segments.len() as u64 > SEGMENTS {
            if let Some((number, _)) = self.segments.pop_front() {
                let _ = fs::remove_file(self.segment(number));
            }
        }
    }

    /// While the disk refuses, the oldest lines in memory give way.
    fn bound_buffer(&mut self) {
        let excess = self.buffer.len().saturating_sub(4 * BUFFER);
        if excess == 0 {
            return;
        }
        let line_end = self.buffer.iter().skip(excess).position(|b| *b == b'\n').unwrap_or(0);
        let cut = (excess + line_end + 1).min(self.buffer.len());
        self.dropped += self.buffer.drain(..cut).filter(|b| *b == b'\n').count() as u64;
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}.{number}", self.name))
    }
}

/// Opens the newest segment at its known length: what a failed write left behind is overwritten.
fn open_segment(path: &Path, length: u64) -> Result<File, LogError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let file = opened.map_err(at(path))?;
    file.set_len(length).map_err(at(path))?;
    Ok(file)
}

/// Length of a segment up to its last line feed, and its lines. The rest is overwritten by the next line.
fn whole_lines(path: &Path) -> Result<(u64, u64), LogError> {
    let text = fs::read(path).map_err(at(path))?;
    let length = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    Ok((length as u64, text.iter().filter(|b| **b == b'\n').count() as u64))
}

/// Leaves in a segment of `length` bytes what is to be kept; its length then, 0 if the file is gone.
fn expire_segment(path: &Path, length: u64, keeps: impl Fn(&[u8]) -> bool) -> Result<u64, LogError> {
    let text = fs::read(path).map_err(at(path))?;
    let whole = text.get(..usize::try_from(length).unwrap_or(usize::MAX)).unwrap_or(&text);
    let left = kept(whole, keeps);
    if left.is_empty() {
        remove(path)?;
    } else if left.len() < whole.len() {
        let aside = path.with_extension("new");
        let mut file = open_segment(&aside, 0)?;
        file.write_all(&left).map_err(at(&aside))?;
        fs::rename(&aside, path).map_err(at(path))?;
    }
    Ok(left.len() as u64)
}

fn kept(text: &[u8], keeps: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    text.split_inclusive(|b| *b == b'\n').filter(|line| keeps(line)).flatten().copied().collect()
}

fn keep_since(text: &[u8], since: Option<Unix>, out: &mut Vec<u8>) {
    let Some(since) = since else { return out.extend_from_slice(text) };
    out.extend(kept(text, |line| line_instant(line).is_some_and(|t| t >= since)));
}

fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError { path, source }
}

#[cfg(test)]
mod tests {
    use super::super::access_log::tests::line;
    use super::super::spool::Scratch;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text(t: i64) -> String {
        line().text(Unix(t))
    }

    fn open(dir: &Scratch, capacity: u64) -> LogStore {
        LogStore::open(&dir.0, "access", capacity).unwrap()
    }

    fn lines(bytes: &[u8]) -> usize {
        bytes.iter().filter(|b| **b == b'\n').count()
    }

    #[test]
    fn the_export_is_what_was_appended_before_and_after_a_restart() {
        let dir = Scratch::new();
        let mut store = open(&dir, LOG_CAPACITY);
        let all: String = (0..200).map(text).collect();
        (0..100).for_each(|t| store.append(text(t).as_bytes()).unwrap());
        store.flush().unwrap();
        drop(store);
        let mut store = open(&dir, LOG_CAPACITY);
        (100..200).for_each(|t| store.append(text(t).as_bytes()).unwrap());
        assert_eq!(store.export(None).unwrap(), all.as_bytes());
        let mode = fs::metadata(dir.0.join("access.0")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn since_is_inclusive() {
        let dir = Scratch::new();
        let mut store = open(&dir, LOG_CAPACITY);
        for t in [10, 11, 12] {
            store.append(text(t).as_bytes()).unwrap();
        }
        assert_eq!(store.export(Some(Unix(11))).unwrap(), (text(11) + &text(12)).as_bytes());
    }

    #[test]
    fn the_files_stay_within_the_capacity_and_the_oldest_lines_go() {
        let dir = Scratch::new();
        let capacity = 256 << 10;
        let mut store = open(&dir, capacity);
        for t in 0..3000 {
            store.append(text(t).as_bytes()).unwrap();
            let on_disk =
                fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
            assert!(on_disk <= capacity);
        }
        let export = store.export(None).unwrap();
        assert!(lines(&export) > 500 && lines(&export) < 3000);
        assert!(export.ends_with(text(2999).as_bytes()) && !export.starts_with(text(0).as_bytes()));
    }

    #[test]
    fn a_line_that_a_dead_process_left_half_written_is_cut_off() {
        let dir = Scratch::new();
        fs::write(dir.0.join("access.3"), text(1) + "{\"buyer\":\"ac").unwrap();
        fs::write(dir.0.join("access.other"), "not ours").unwrap();
        let mut store = open(&dir, LOG_CAPACITY);
        store.append(text(2).as_bytes()).unwrap();
        store.flush().unwrap();
        assert_eq!(store.export(None).unwrap(), (text(1) + &text(2)).as_bytes());
    }

    #[test]
    fn while_the_disk_refuses_memory_stays_bounded_and_losses_are_counted() {
        let dir = Scratch::new();
        let mut store = open(&dir, LOG_CAPACITY);
        fs::create_dir(dir.0.join("access.0")).unwrap();
        let failed = (0..1000).filter(|t| store.append(text(*t).as_bytes()).is_err()).count();
        assert!(failed > 0 && store.buffer.len() <= 4 * BUFFER);
        assert_eq!(store.dropped() as usize + lines(&store.buffer), 1000);
        fs::remove_dir(dir.0.join("access.0")).unwrap();
        store.flush().unwrap();
        assert!(store.export(None).unwrap().ends_with(text(999).as_bytes()));
        assert!(store.buffer.is_empty());
    }

    #[test]
    fn lines_that_are_too_old_leave_disk_and_memory() {
        let dir = Scratch::new();
        let mut store = open(&dir, 64 << 10);
        for t in 0..300 {
            store.append(text(t).as_bytes()).unwrap();
        }
        store.flush().unwrap();
        store.append(text(10).as_bytes()).unwrap();
        store.append(text(400).as_bytes()).unwrap();
        store.append(b"no line\n").unwrap();
        let files = || fs::read_dir(&dir.0).unwrap().count();
        let before = files();
        store.expire(Unix(250), line_instant).unwrap();
        let left: String = (250..300).chain([400]).map(text).collect();
        assert_eq!(String::from_utf8(store.export(None).unwrap()).unwrap(), left);
        assert!(files() < before, "{before} files are still there");
        store.append(text(401).as_bytes()).unwrap();
        store.flush().unwrap();
        drop(store);
        let mut store = open(&dir, 64 << 10);
        assert_eq!(store.export(None).unwrap(), (left + &text(401)).as_bytes());
        store.expire(Unix(1000), line_instant).unwrap();
        assert_eq!((files(), store.export(None).unwrap().len()), (0, 0));
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let dir = Scratch::new();
        let mut store = open(&dir, LOG_CAPACITY);
        store.append(&[b'x'; MAX_LINE]).unwrap();
        store.append(&[b'x'; MAX_LINE + 1]).unwrap();
        assert_eq!((store.buffer.len(), store.dropped()), (MAX_LINE, 1));
    }

    #[test]
    fn a_wipe_leaves_no_line() {
        let dir = Scratch::new();
        let mut store = open(&dir, LOG_CAPACITY);
        store.append(text(1).as_bytes()).unwrap();
        store.flush().unwrap();
        store.append(text(2).as_bytes()).unwrap();
        store.wipe().unwrap();
        assert!(store.export(None).unwrap().is_empty());
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
    }
}
