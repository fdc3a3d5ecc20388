use super::*;

fn reader(pieces: &[(u32, &[u8])]) -> Result<Answer, Refusal> {
    let mut reader = AnswerReader::new(u32::MAX);
    pieces.iter().for_each(|(at, bytes)| reader.take(u32::MAX.wrapping_add(*at), bytes));
    reader.answer()
}

/// The start of a record with a ServerHello of this random.
fn hello(random: &[u8; 32]) -> Vec<u8> {
    [&[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3][..], random, &[0; 40]].concat()
}

#[test]
fn a_request_for_another_hello_is_told_from_an_answer() {
    let mut almost = RETRY;
    almost[31] ^= 1;
    assert_eq!(reader(&[(0, &hello(&RETRY))]), Ok(Answer::Retry));
    assert_eq!(reader(&[(0, &hello(&RETRY)[..ANSWER])]), Ok(Answer::Retry));
    assert_eq!(reader(&[(0, &hello(&RETRY)[..ANSWER - 1])]), Ok(Answer::Unknown));
    assert_eq!(reader(&[(0, &hello(&almost))]), Ok(Answer::Final));
    assert_eq!(reader(&[(0, &hello(&[0; 32])[..12])]), Ok(Answer::Final), "one byte is another");
    assert_eq!(reader(&[(0, &[21, 3, 3, 0, 2, 2, 40])]), Ok(Answer::Final), "an alert");
    assert_eq!(reader(&[(0, &[22, 3, 3, 0, 4, 0])]), Ok(Answer::Final), "a HelloRequest");
    assert_eq!(reader(&[(0, &[22, 3, 3, 0, 90])]), Ok(Answer::Unknown));
    assert_eq!(reader(&[(0, &[22, 3, 3, 0, 37, 2])]), Err(Refusal::NotTls));
    assert_eq!(reader(&[(0, &[22, 3, 3, 0, 38, 2])]), Ok(Answer::Unknown));
}

#[test]
fn an_answer_is_read_in_order() {
    let all = hello(&RETRY);
    for cut in 1..all.len() {
        let (a, b) = all.split_at(cut);
        let at = cut as u32;
        assert_eq!(reader(&[(0, a), (at, b)]), Ok(Answer::Retry), "{cut}");
        assert_eq!(reader(&[(0, a), (0, &all)]), Ok(Answer::Retry), "{cut}: sent again, and more");
        let behind = reader(&[(at, b)]);
        assert_eq!(behind, Ok(Answer::Unknown), "{cut}: behind a gap");
        assert_eq!(reader(&[(at, b), (0, a), (at, b)]), Ok(Answer::Retry), "{cut}: the gap is filled");
    }
    assert_eq!(reader(&[(0, b"")]), Ok(Answer::Unknown));
}

#[test]
fn records_behind_a_hello_go_on_byte_by_byte() {
    let hello = &include_bytes!("../../../fuzz/seeds/client_hello/curl.bin")[1..];
    let tail = [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 0], &[23, 3, 3, 1, 0], &[9; 256]].concat();
    let mut judged = 0;
    let mut judge = |_: &Hello| {
        judged += 1;
        Ok(())
    };
    let mut i = Inspector::new(0);
    for (place, byte) in hello.iter().chain(&tail).enumerate() {
        assert_eq!(i.take(place, &[*byte], &mut judge), Ok(Taken::New));
        let cleared = if place + 1 < hello.len() { 0 } else { place + 1 };
        assert_eq!((i.cleared(), i.settled_at().is_some()), (cleared, cleared > 0));
    }
    let end = hello.len() + tail.len();
    i.ask_again(end - 100);
    assert_eq!((i.settled_at(), i.stream().from(end - 100).len()), (None, 100));
    for (place, byte) in hello.iter().enumerate() {
        assert_eq!(i.take(end + place, &[*byte], &mut judge), Ok(Taken::New));
    }
    assert_eq!((i.settled_at(), i.cleared()), (Some(end + hello.len()), end + hello.len()));
    assert_eq!(i.take(end + hello.len(), &[22], &mut judge), Err(Refusal::NotTls), "a third one");
    assert_eq!(judged, 2);
}
