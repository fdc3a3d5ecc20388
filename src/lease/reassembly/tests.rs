use super::*;
use proptest::prelude::*;

#[test]
fn bytes_in_any_order_come_out_in_theirs() {
    let mut s = Stream::new(u32::MAX - 1);
    assert_eq!((s.place(u32::MAX - 1), s.place(2), s.place(u32::MAX - 2)), (Some(0), Some(4), None));
    assert_eq!(s.take(4, b"ef"), Taken::New);
    assert_eq!(s.take(2, b"cd"), Taken::New);
    assert_eq!((s.end(), s.from(0), s.pieces.len()), (0, &b""[..], 1));
    assert_eq!(s.take(0, b"abc"), Taken::New);
    assert_eq!((s.end(), s.from(0), s.from(4), s.from(7)), (6, &b"abcdef"[..], &b"ef"[..], &b""[..]));
    assert_eq!(s.take(1, b"bcde"), Taken::Known);
    assert_eq!(s.take(3, b""), Taken::Known);
}

#[test]
fn an_overlap_must_agree() {
    let mut s = Stream::new(0);
    s.take(0, b"abc");
    s.take(6, b"ghi");
    assert_eq!(s.take(2, b"Cd"), Taken::Conflict);
    assert_eq!(s.take(3, b"defG"), Taken::Conflict);
    assert_eq!(s.take(8, b"I"), Taken::Conflict);
    assert_eq!((s.end(), s.take(2, b"cdefghijk"), s.from(0)), (3, Taken::New, &b"abcdefghijk"[..]));
}

#[test]
fn the_window_and_the_number_of_gaps_are_bounded() {
    let mut s = Stream::new(0);
    assert_eq!(s.take(WINDOW - 1, b"z"), Taken::New);
    assert_eq!(s.take(WINDOW - 1, b"zz"), Taken::Outside);
    assert_eq!(s.take(usize::MAX / 2, b"z"), Taken::Outside);
    for n in 1..MAX_PIECES {
        assert_eq!(s.take(2 * n, b"x"), Taken::New);
    }
    assert_eq!(s.take(2 * MAX_PIECES, b"x"), Taken::Outside);
    assert_eq!(s.take(3, b"y"), Taken::New, "what closes a gap needs no other place");
    assert_eq!(s.take(2 * MAX_PIECES, b"x"), Taken::New);
    assert_eq!(s.take(0, &vec![0; 2 * WINDOW]), Taken::Conflict);
    let mut s = Stream::new(0);
    assert_eq!(s.take(0, &vec![0; 2 * WINDOW]), Taken::Outside);
    assert_eq!((s.end(), s.memory()), (WINDOW, WINDOW), "what fits is read");
}

#[test]
fn what_is_forgotten_counts_as_known() {
    let mut s = Stream::new(0);
    s.take(0, &[7; WINDOW]);
    s.forget(1000);
    assert_eq!((s.from(0), s.from(1000).len(), s.end()), (&[][..], WINDOW - 1000, WINDOW));
    assert_eq!(s.take(0, &[9; 1000]), Taken::Known);
    assert_eq!(s.take(0, &[9; 1001]), Taken::Conflict);
    assert_eq!(s.take(WINDOW, &[8; 1000]), Taken::New);
    assert_eq!(s.take(WINDOW, &[8; 1001]), Taken::Outside);
    s.forget(usize::MAX);
    assert_eq!(s.end(), WINDOW + 1000);
}

proptest! {
    /// Against a plain array: the same bytes without gap, the same answer about what is known, and bounded memory.
    #[test]
    fn any_pieces_of_one_text_are_put_together(
        length in 1usize..3000, cuts in prop::collection::vec((any::<u16>(), 1usize..400, any::<bool>()), 1..120),
    ) {
        let text: Vec<u8> = (0..length).map(|n| (n * n / 7) as u8).collect();
        let (mut s, mut known) = (Stream::new(77), vec![false; length]);
        for (place, size, change) in cuts {
            let from = usize::from(place) % length;
            let to = (from + size).min(length);
            let mut piece = text[from..to].to_vec();
            let overlaps = known[from..to].iter().position(|k| *k).filter(|_| change);
            if let Some(at) = overlaps {
                piece[at] ^= 1;
                prop_assert_eq!(s.take(from, &piece), Taken::Conflict);
                continue;
            }
            let new = known[from..to].iter().any(|k| !k);
            match s.take(from, &piece) {
                Taken::New => prop_assert!(new),
                Taken::Known => prop_assert!(!new),
                Taken::Outside => {
                    prop_assert!(s.pieces.len() >= MAX_PIECES);
                    return Ok(());
                }
                Taken::Conflict => prop_assert!(false),
            }
            known[from..to].fill(true);
            let end = known.iter().position(|k| !k).unwrap_or(length);
            prop_assert_eq!(s.from(0), &text[..end]);
            prop_assert!(s.pieces.len() <= MAX_PIECES);
            prop_assert_eq!(s.known(), known.iter().filter(|k| **k).count());
        }
    }

    /// The buffers of a stream never take more than a flow may have.
    #[test]
    fn memory_is_bounded(pieces in prop::collection::vec((0usize..WINDOW + 99, 1usize..3000), 1..400)) {
        let mut s = Stream::new(0);
        for (place, size) in pieces {
            s.take(place, &vec![0; size]);
            prop_assert!(s.memory() <= 24 * 1024, "{}", s.memory());
        }
    }
}
