use super::*;
use proptest::prelude::*;

fn framing(fields: &str) -> Result<Framing, Malformed> {
    let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
    request_framing(&request_head(text.as_bytes()).unwrap().unwrap().0.headers)
}

fn read(mut reader: BodyReader, mut input: &[u8]) -> Result<(Vec<u8>, bool), Malformed> {
    let mut out = Vec::new();
    loop {
        match reader.next(input)? {
            Piece::Data(r) => {
                out.extend_from_slice(&input[r.clone()]);
                input = &input[r.end..];
            }
            Piece::More(_) => return Ok((out, false)),
            Piece::End(_) => return Ok((out, true)),
        }
    }
}

#[test]
fn a_head_is_read_when_it_is_whole() {
    let text = b"HTTP/1.1 204 No Content\r\nContent-TYPE: a\r\nConnection: x, Close\r\n\r\nrest";
    assert_eq!(response_head(&text[..20]), Ok(None));
    let (head, length) = response_head(text).unwrap().unwrap();
    assert_eq!((head.status, head.headers.get("content-type")), (204, Some("a")));
    assert!(!head.keep_alive);
    assert_eq!(&text[length..], b"rest");
    assert_eq!(response_head(b"SSH-2.0-x\r\n"), Err(Malformed::Head));
}

#[test]
fn a_head_is_bounded() {
    let fits = |n: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(n));
    let room = MAX_HEAD - fits(0).len();
    assert!(request_head(fits(room).as_bytes()).unwrap().is_some());
    assert_eq!(request_head(fits(room + 1).as_bytes()), Err(Malformed::HeadTooLarge));
    assert_eq!(request_head(&[b'A'; MAX_HEAD]), Err(Malformed::HeadTooLarge));
    let many = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert!(request_head(many(MAX_HEADERS).as_bytes()).unwrap().is_some());
    assert_eq!(request_head(many(MAX_HEADERS + 1).as_bytes()), Err(Malformed::HeadTooLarge));
}

#[test]
fn ambiguous_framing_is_refused() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(framing("Content-Length: 5, 6\r\n"), Err(Malformed::Length));
    assert_eq!(framing("Content-Length: +5\r\n"), Err(Malformed::Length));
    assert_eq!(framing("Content-Length:\r\n"), Err(Malformed::Length));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(framing("Transfer-Encoding: gzip, chunked\r\n"), Err(Malformed::Coding));
    assert_eq!(
        framing("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        Err(Malformed::LengthAndCoding)
    );
}

#[test]
fn chunks_are_joined_and_trailers_dropped() {
    let chunked = || BodyReader::new(Framing::Chunked);
    let body = b"3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nT: u\r\n\r\nnext";
    assert_eq!(read(chunked(), body), Ok((b"abcde".to_vec(), true)));
    assert_eq!(read(chunked(), b"3\r\nabcX"), Err(Malformed::Chunk));
    assert_eq!(read(chunked(), b"x\r\n"), Err(Malformed::Chunk));
    let endless = format!("0\r\n{}", "T: u\r\n".repeat(1000));
    assert_eq!(read(chunked(), endless.as_bytes()), Err(Malformed::Chunk));
    assert_eq!(read(chunked(), &[b'1'; MAX_CHUNK_LINE]), Err(Malformed::Chunk));
}

#[test]
fn the_end_of_the_stream_ends_only_a_body_without_length() {
    assert!(BodyReader::new(Framing::ToEnd).end_of_stream().is_ok());
    assert_eq!(BodyReader::new(Framing::Length(1)).end_of_stream(), Err(Malformed::Truncated));
    assert_eq!(BodyReader::new(Framing::Chunked).end_of_stream(), Err(Malformed::Truncated));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = Unix(784_111_777);
    assert_eq!(retry_after_s("120", now), Some(120));
    assert_eq!(retry_after_s("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(60));
    assert_eq!(retry_after_s("Sun, 06 Nov 1994 08:40:37 GMT", now), Some(0));
    assert_eq!(retry_after_s("99999999999999999999999", now), Some(u64::MAX));
    for bad in ["", "soon", "-1", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nov 1994"] {
        assert_eq!(retry_after_s(bad, now), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_split_of_a_chunked_body_reads_the_same(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        step in 1usize..9,
    ) {
        let mut wire = Vec::new();
        for p in &parts {
            wire.extend(format!("{:x}\r\n", p.len()).bytes());
            wire.extend(p);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        let (mut reader, mut pending, mut out, mut ended) =
            (BodyReader::new(Framing::Chunked), Vec::new(), Vec::new(), false);
        for piece in wire.chunks(step) {
            pending.extend_from_slice(piece);
            loop {
                match reader.next(&pending).unwrap() {
                    Piece::Data(r) => {
                        out.extend_from_slice(&pending[r.clone()]);
                        pending.drain(..r.end);
                    }
                    Piece::More(n) => {
                        pending.drain(..n);
                        break;
                    }
                    Piece::End(_) => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        prop_assert!(ended);
        prop_assert_eq!(out, parts.concat());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = response_head(&bytes);
        let _ = request_head(&bytes);
        let _ = read(BodyReader::new(Framing::Chunked), &bytes);
    }
}
