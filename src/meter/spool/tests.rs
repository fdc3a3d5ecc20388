use super::*;
use crate::json::object;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of the test's own, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("echomesh-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn record(n: i64) -> Value {
    object([("kind", "test".into()), ("n", n.into())])
}

fn numbers(records: &[Value]) -> Vec<i64> {
    records.iter().map(|r| r.member("n").unwrap().as_int().unwrap()).collect()
}

#[test]
fn records_come_back_in_order_after_a_restart() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, records, damage) = Journal::open(&path).unwrap();
    assert!(records.is_empty() && damage.is_none());
    j.append(&[record(1), record(2)]).unwrap();
    j.append(&[]).unwrap();
    j.append(&[record(3)]).unwrap();
    drop(j);
    let (j, records, damage) = Journal::open(&path).unwrap();
    assert_eq!((numbers(&records), damage), (vec![1, 2, 3], None));
    assert_eq!(j.length(), std::fs::metadata(&path).unwrap().len());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_torn_at_any_byte_keeps_its_whole_batches_and_its_rest() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    j.append(&[record(1)]).unwrap();
    let first = j.length() as usize;
    j.append(&[record(2), record(3)]).unwrap();
    drop(j);
    let text = std::fs::read(&path).unwrap();
    for torn in 0..=text.len() {
        let path = dir.0.join(format!("torn-{torn}"));
        std::fs::write(&path, &text[..torn]).unwrap();
        let (mut j, records, damage) = Journal::open(&path).unwrap();
        let (expected, whole) = match torn {
            t if t == text.len() => (vec![1, 2, 3], t),
            t if t >= first => (vec![1], first),
            _ => (vec![], 0),
        };
        assert_eq!(numbers(&records), expected, "torn at {torn}: a batch is there whole or not at all");
        assert_eq!(
            damage.as_ref().map(|d| (d.offset, d.bytes)),
            (torn > whole).then_some((whole as u64, (torn - whole) as u64))
        );
        if let Some(damage) = damage {
            assert_eq!(std::fs::read(damage.kept_in).unwrap(), &text[whole..torn]);
        }
        j.append(&[record(9)]).unwrap();
        drop(j);
        let (_, records, damage) = Journal::open(&path).unwrap();
        assert_eq!((numbers(&records).last(), damage), (Some(&9), None));
    }
}

#[test]
fn a_changed_byte_anywhere_is_damage() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    j.append(&[record(1)]).unwrap();
    drop(j);
    let text = std::fs::read(&path).unwrap();
    for i in 0..text.len() {
        let mut changed = text.clone();
        changed[i] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let (_, records, damage) = Journal::open(&path).unwrap();
        assert!(records.is_empty() && damage.is_some(), "byte {i}");
    }
}

#[test]
fn side_files_of_damage_are_bounded() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    for _ in 0..MAX_DAMAGED + 3 {
        std::fs::write(&path, "torn").unwrap();
        assert!(Journal::open(&path).unwrap().2.is_some());
    }
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), MAX_DAMAGED + 2);
}

#[test]
fn a_second_node_is_told_that_another_runs() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (first, ..) = Journal::open(&path).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Locked(_)));
    assert!(error.to_string().contains("another node runs"));
    drop(first);
    assert!(Journal::open(&path).is_ok());
}

#[test]
fn a_rewrite_replaces_the_content_and_appends_go_on() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    (0..100).for_each(|n| j.append(&[record(n)]).unwrap());
    let many: Vec<Value> = (200..330).map(record).collect();
    j.rewrite(&many).unwrap();
    j.append(&[record(7)]).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Locked(_))), "the lock outlives the rename");
    drop(j);
    let (_, records, damage) = Journal::open(&path).unwrap();
    assert_eq!(numbers(&records), (200..330).chain([7]).collect::<Vec<_>>());
    assert_eq!(damage, None);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_rewrite_that_died_half_way_leaves_the_old_journal() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    j.append(&[record(1)]).unwrap();
    drop(j);
    std::fs::write(dir.0.join("journal.new"), "half").unwrap();
    let (mut j, records, damage) = Journal::open(&path).unwrap();
    assert_eq!((numbers(&records), damage), (vec![1], None));
    j.rewrite(&[record(2)]).unwrap();
    drop(j);
    assert_eq!(numbers(&Journal::open(&path).unwrap().1), [2]);
}

#[test]
fn a_journal_that_has_doubled_wants_a_rewrite() {
    let dir = Scratch::new();
    let (mut j, ..) = Journal::open(&dir.0.join("journal")).unwrap();
    let large = Value::from("x".repeat(100 << 10));
    j.append(&[large.clone(), large.clone()]).unwrap();
    assert!(!j.needs_rewrite());
    j.append(std::slice::from_ref(&large)).unwrap();
    assert!(j.needs_rewrite());
    j.rewrite(&[large.clone(), large.clone(), large.clone()]).unwrap();
    assert!(!j.needs_rewrite());
}

#[test]
fn a_batch_or_a_journal_beyond_its_bound_is_refused_and_nothing_written() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    let too_large = Value::from("x".repeat(MAX_BATCH));
    assert!(matches!(j.append(&[too_large]), Err(JournalError::BatchTooLarge(_))));
    let fits = Value::from("x".repeat(MAX_BATCH - PREFIX - "[\"\"]\n".len()));
    for _ in 0..MAX_JOURNAL / MAX_BATCH as u64 {
        j.append(std::slice::from_ref(&fits)).unwrap();
    }
    assert!(matches!(j.append(&[record(1)]), Err(JournalError::Full)));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), MAX_JOURNAL);
}

#[test]
fn a_journal_that_cannot_be_written_says_so_and_keeps_what_it_had() {
    let dir = Scratch::new();
    let missing = dir.0.join("no/journal");
    assert!(matches!(Journal::open(&missing), Err(JournalError::Io { what: "open", .. })));
    let path = dir.0.join("journal");
    let (mut j, ..) = Journal::open(&path).unwrap();
    j.append(&[record(1)]).unwrap();
    j.file = File::open("/dev/full").unwrap();
    assert!(matches!(j.append(&[record(2)]), Err(JournalError::Io { what: "write to", .. })));
    assert!(matches!(j.append(&[record(3)]), Err(JournalError::Broken)));
    assert!(j.needs_rewrite());
    j.rewrite(&[record(1), record(4)]).unwrap();
    j.append(&[record(5)]).unwrap();
    drop(j);
    assert_eq!(numbers(&Journal::open(&path).unwrap().1), [1, 4, 5]);
}

#[test]
fn records_that_are_too_large_together_are_rewritten_apart() {
    let dir = Scratch::new();
    let path = dir.0.join("journal");
    let (mut journal, ..) = Journal::open(&path).unwrap();
    let large: Vec<Value> = (0..64).map(|_| Value::from("x".repeat(MAX_BATCH / 40))).collect();
    journal.rewrite(&large).unwrap();
    drop(journal);
    assert!(Journal::open(&path).unwrap().1 == large);
}
