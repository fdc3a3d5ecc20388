use super::*;
use proptest::prelude::*;

fn vec16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec16(data)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &vec16(&[&[0][..], &vec16(name)].concat()))
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|n| [&[u8::try_from(n.len()).unwrap()], n.as_bytes()].concat()).collect();
    extension(ALPN, &vec16(&list))
}

fn versions(list: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = list.iter().flat_map(|v| v.to_be_bytes()).collect();
    extension(SUPPORTED_VERSIONS, &[&[u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat())
}

fn message(legacy: u16, extensions: &[u8]) -> Vec<u8> {
    let mut body = [&legacy.to_be_bytes()[..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    if !extensions.is_empty() {
        body.extend(vec16(extensions));
    }
    [&[1, 0][..], &vec16(&body)].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vec16(fragment)].concat()
}

fn read(bytes: &[u8]) -> Result<Hello, Progress> {
    let mut reader = HelloReader::default();
    match reader.feed(bytes) {
        Progress::Complete => Ok(reader.hello().cloned().unwrap()),
        other => Err(other),
    }
}

fn hello(extensions: &[u8]) -> Hello {
    read(&record(&message(TLS12, extensions))).unwrap()
}

fn rules(alpn: &[&str], ech_deny: bool) -> HelloRules {
    HelloRules { host: "origin.test".into(), alpn: alpn.iter().map(|a| (*a).to_owned()).collect(), ech_deny }
}

fn verdict(extensions: &[Vec<u8>]) -> Result<(), Refusal> {
    judge(&hello(&extensions.concat()), &rules(&["h2", "http/1.1"], false), ech_public_names())
}

fn good() -> Vec<Vec<u8>> {
    vec![sni(b"origin.test"), alpn(&["h2", "http/1.1"]), versions(&[0x0a0a, TLS13, TLS12])]
}

#[test]
fn a_good_hello_passes() {
    assert_eq!(verdict(&good()), Ok(()));
    assert_eq!(verdict(&[sni(b"ORIGIN.Test.")]), Ok(()));
}

#[test]
fn the_sni_must_be_there() {
    assert_eq!(verdict(&[alpn(&["h2"])]), Err(Refusal::SniMissing));
    assert_eq!(verdict(&[]), Err(Refusal::SniMissing));
    assert_eq!(verdict(&[extension(SERVER_NAME, &[])]), Err(Refusal::SniMissing));
    assert_eq!(verdict(&[sni(b"")]), Err(Refusal::SniMissing));
}

#[test]
fn the_sni_must_be_the_host_and_nothing_else() {
    let two = vec16(&[&[0][..], &vec16(b"origin.test"), &[0], &vec16(b"origin.test")].concat());
    let other_type = vec16(&[&[1][..], &vec16(b"origin.test")].concat());
    for bad in [
        sni(b"other.test"),
        sni(b"sub.origin.test"),
        sni(b"origin.test\0"),
        sni(b"origin.test\0.evil.test"),
        sni(b"127.0.0.1"),
        sni("origin.tést".as_bytes()),
        sni(b"origin.test.."),
        extension(SERVER_NAME, &two),
        extension(SERVER_NAME, &other_type),
        extension(SERVER_NAME, &[&vec16(&[&[0][..], &vec16(b"origin.test")].concat())[..], &[0]].concat()),
        [sni(b"origin.test"), sni(b"origin.test")].concat(),
        [sni(b"origin.test"), extension(SERVER_NAME, &[])].concat(),
    ] {
        assert_eq!(verdict(std::slice::from_ref(&bad)), Err(Refusal::SniMismatch), "{bad:?}");
    }
}

#[test]
fn every_offered_protocol_must_be_listed() {
    assert_eq!(verdict(&[sni(b"origin.test"), alpn(&["h2", "h3"])]), Err(Refusal::AlpnDenied));
    assert_eq!(verdict(&[sni(b"origin.test"), alpn(&["H2"])]), Err(Refusal::AlpnDenied));
    assert_eq!(verdict(&[sni(b"origin.test"), alpn(&[])]), Err(Refusal::AlpnDenied));
    assert_eq!(verdict(&[sni(b"origin.test"), alpn(&["h2", ""])]), Err(Refusal::AlpnDenied));
    let none = rules(&[], false);
    assert_eq!(judge(&hello(&sni(b"origin.test")), &none, ech_public_names()), Ok(()));
    let h2 = hello(&[sni(b"origin.test"), alpn(&["h2"])].concat());
    assert_eq!(judge(&h2, &none, ech_public_names()), Err(Refusal::AlpnDenied));
}

#[test]
fn drafts_of_ech_and_its_forerunner_count_as_ech() {
    for kind in [0xfe08, 0xfe0c, 0xfe0d, 0xffce] {
        assert!(hello(&[sni(b"origin.test"), extension(kind, &[0; 40])].concat()).ech, "{kind:x}");
    }
    assert!(!hello(&[sni(b"origin.test"), extension(0xfe07, &[])].concat()).ech);
}

#[test]
fn ech_is_judged_by_rule_and_public_name() {
    let ech = extension(*ENCRYPTED_CLIENT_HELLO.end(), &[0; 40]);
    let with = |name: &str| hello(&[sni(name.as_bytes()), ech.clone()].concat());
    let at = |host: &str, ech_deny| HelloRules { host: host.into(), ..rules(&[], ech_deny) };
    let names = ech_public_names();
    assert_eq!(judge(&with("origin.test"), &at("origin.test", false), names), Ok(()));
    assert_eq!(judge(&with("origin.test"), &at("origin.test", true), names), Err(Refusal::EchDenied));
    let public = "cloudflare-ech.com";
    assert_eq!(judge(&with(public), &at(public, false), names), Err(Refusal::EchDenied));
    assert_eq!(judge(&hello(&sni(public.as_bytes())), &at(public, true), names), Ok(()));
}

#[test]
fn a_version_from_1_2_up_must_be_offered() {
    let name = sni(b"origin.test");
    let old = read(&record(&message(0x0302, &name))).unwrap();
    assert_eq!(judge(&old, &rules(&[], false), ech_public_names()), Err(Refusal::TlsVersion));
    assert_eq!(verdict(&[name.clone(), versions(&[0x0302, 0x0301])]), Err(Refusal::TlsVersion));
    assert_eq!(verdict(&[name.clone(), versions(&[0x0a0a])]), Err(Refusal::TlsVersion));
    assert_eq!(verdict(&[name.clone(), extension(SUPPORTED_VERSIONS, &[3, 3, 4])]), Err(Refusal::TlsVersion));
    let only_legacy_is_old = read(&record(&message(0x0301, &[name, versions(&[TLS13])].concat()))).unwrap();
    assert!(only_legacy_is_old.modern);
}

#[test]
fn the_first_reason_is_given() {
    let ech = extension(*ENCRYPTED_CLIENT_HELLO.end(), &[]);
    let deny = rules(&["h2"], true);
    let all = [alpn(&["h3"]), ech.clone(), versions(&[0x0301])].concat();
    let judged = |e: &[u8]| judge(&hello(e), &deny, ech_public_names());
    assert_eq!(judged(&all), Err(Refusal::SniMissing));
    assert_eq!(judged(&[sni(b"x.test"), all.clone()].concat()), Err(Refusal::SniMismatch));
    assert_eq!(judged(&[sni(b"origin.test"), all].concat()), Err(Refusal::AlpnDenied));
    assert_eq!(judged(&[sni(b"origin.test"), ech, versions(&[0x0301])].concat()), Err(Refusal::EchDenied));
}

#[test]
fn what_cannot_be_tls_is_told_at_once() {
    let not_tls = Err(Progress::Refused(Refusal::NotTls));
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"G",
        &[0x80, 0x2e, 1, 3, 1],
        &[22, 2],
        &[22, 3, 5],
        &[22, 3, 1, 0, 0],
        &[22, 3, 1, 0x40, 1],
        &[23, 3, 3, 0, 1, 0],
        &[22, 3, 1, 0, 4, 2],
    ] {
        assert_eq!(read(bytes), not_tls, "{bytes:?}");
    }
}

#[test]
fn a_broken_hello_is_not_tls() {
    let not_tls = Err(Progress::Refused(Refusal::NotTls));
    let good = message(TLS12, &good().concat());
    let mut trailing = record(&[&good[..], &[1, 0, 0, 0]].concat());
    assert_eq!(read(&trailing), not_tls);
    trailing.truncate(RECORD_HEADER + good.len());
    assert_eq!(read(&trailing), not_tls, "known from the record's length");
    assert_eq!(read(&record(&message(TLS12, &[alpn(&["h2"]), alpn(&["h2"])].concat()))), not_tls);
    assert_eq!(read(&record(&message(TLS12, &[0, 0, 0, 9]))), not_tls);
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    let length = cut.len() - 4;
    cut[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    assert_eq!(read(&record(&cut)), not_tls);
}

#[test]
fn a_hello_that_a_strict_reader_refuses_is_not_tls() {
    let extensions = vec16(&sni(b"origin.test"));
    let of = |session: &[u8], suites: &[u8], compression: &[u8], tail: &[u8]| {
        let body = [
            &TLS12.to_be_bytes()[..],
            &[7; 32],
            &[u8::try_from(session.len()).unwrap()],
            session,
            &vec16(suites),
            &[u8::try_from(compression.len()).unwrap()],
            compression,
            &extensions,
            tail,
        ];
        read(&record(&[&[1, 0][..], &vec16(&body.concat())].concat()))
    };
    assert!(of(&[9; 32], &[0x13, 1], &[0], &[]).is_ok());
    let not_tls = Err(Progress::Refused(Refusal::NotTls));
    assert_eq!(of(&[9; 33], &[0x13, 1], &[0], &[]), not_tls, "a session id of 33 bytes");
    assert_eq!(of(&[], &[], &[0], &[]), not_tls, "no cipher suite");
    assert_eq!(of(&[], &[0x13, 1, 0], &[0], &[]), not_tls, "half a cipher suite");
    assert_eq!(of(&[], &[0x13, 1], &[], &[]), not_tls, "no compression method");
    assert_eq!(of(&[], &[0x13, 1], &[0], &[0]), not_tls, "a byte after the extensions");
}

#[test]
fn an_extension_that_readers_could_take_in_two_ways_allows_nothing() {
    assert_eq!(hello(&sni(b"127.0.0.1")).sni, Sni::Invalid);
    assert_eq!(hello(&sni(b"127.0.0.1.")).sni, Sni::Invalid);
    for bad in [&[0, 3, 2, b'h', b'2', 0][..], &[0, 4, 2, b'h', b'2', 0], &[0, 4, 2, b'h', b'2'], &[0]] {
        assert_eq!(hello(&extension(ALPN, bad)).alpn, Some(Vec::new()), "{bad:?}");
    }
    for bad in [&[3, 3, 4, 3][..], &[2, 3, 4, 0], &[4, 3, 4], &[]] {
        assert!(!hello(&extension(SUPPORTED_VERSIONS, bad)).modern, "{bad:?}");
    }
}

fn padded(raw_length: usize) -> Vec<u8> {
    let base = record(&message(TLS12, &[sni(b"origin.test"), extension(21, &[])].concat())).len();
    record(&message(TLS12, &[sni(b"origin.test"), extension(21, &vec![0; raw_length - base])].concat()))
}

#[test]
fn a_hello_may_fill_the_limit_and_no_more() {
    assert_eq!(padded(MAX_HELLO).len(), MAX_HELLO);
    assert!(read(&padded(MAX_HELLO)).is_ok());
    assert_eq!(read(&padded(MAX_HELLO + 1)), Err(Progress::Refused(Refusal::HelloTimeout)));
    assert_eq!(
        read(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]),
        Err(Progress::Refused(Refusal::HelloTimeout))
    );
    let one_byte_records: Vec<u8> =
        message(TLS12, &good().concat()).repeat(40).iter().flat_map(|b| record(&[*b])).collect();
    assert!(read(&one_byte_records).is_ok(), "complete before the limit");
    let slow: Vec<u8> = padded(8000)[5..].iter().flat_map(|b| record(&[*b])).collect();
    assert_eq!(read(&slow), Err(Progress::Refused(Refusal::HelloTimeout)));
}

#[test]
fn bytes_after_the_hello_are_kept_for_the_target() {
    let sent =
        [record(&message(TLS12, &good().concat())), vec![20, 3, 3, 0, 1, 1], vec![0xab; 20_000]].concat();
    let mut reader = HelloReader::default();
    assert_eq!(reader.feed(&sent[..50]), Progress::NeedMore);
    assert_eq!(reader.feed(&sent[50..]), Progress::Complete);
    assert_eq!(reader.into_raw(), sent);
}

#[test]
fn hellos_of_real_clients_are_read() {
    for (name, bytes) in golden() {
        let hello = read(&bytes).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(hello.sni, Sni::Name("origin.test".into()), "{name}");
        assert!(hello.modern, "{name}");
        assert_eq!(hello.ech, name.starts_with("chromium"), "{name}");
        assert_eq!(hello.alpn.is_some(), !name.starts_with("openssl"), "{name}");
    }
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/hello");
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "bin"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    all.sort();
    assert!(all.len() >= 4, "the golden hellos are missing");
    all
}

/// Feeds pieces that end at `cuts`, and gives the last progress and the hello.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Progress, Option<Hello>) {
    let mut reader = HelloReader::default();
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let (mut at, mut last) = (0, Progress::NeedMore);
    for end in ends {
        last = reader.feed(&bytes[at..end]);
        at = end;
    }
    (last, reader.hello().cloned())
}

#[test]
fn byte_by_byte_is_the_same_for_every_real_client() {
    for (name, bytes) in golden() {
        let all: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(in_pieces(&bytes, &all), in_pieces(&bytes, &[]), "{name}");
    }
}

proptest! {
    #[test]
    fn any_split_of_tcp_and_of_records_gives_the_same(
        record_sizes in proptest::collection::vec(1usize..200, 1..40),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = message(TLS12, &good().concat());
        let (mut rest, mut bytes) = (&whole[..], Vec::new());
        for size in record_sizes {
            let (now, later) = rest.split_at(size.min(rest.len()));
            if !now.is_empty() {
                bytes.extend(record(now));
            }
            rest = later;
        }
        if !rest.is_empty() {
            bytes.extend(record(rest));
        }
        prop_assert_eq!(in_pieces(&bytes, &cuts), (Progress::Complete, Some(hello(&good().concat()))));
    }

    #[test]
    fn any_bytes_give_the_same_in_any_pieces(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        start in 0usize..12,
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let hello = record(&message(TLS12, &good().concat()));
        for (to, from) in bytes.iter_mut().zip(&hello[..start]) {
            *to = *from;
        }
        prop_assert_eq!(in_pieces(&bytes, &cuts), in_pieces(&bytes, &[]));
    }

    #[test]
    fn a_flipped_byte_never_opens_another_host(at in any::<usize>(), flip in 1u8..) {
        let mut bytes = record(&message(TLS12, &good().concat()));
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(hello) = read(&bytes)
            && judge(&hello, &rules(&["h2", "http/1.1"], false), ech_public_names()).is_ok()
        {
            prop_assert_eq!(hello.sni, Sni::Name("origin.test".into()));
        }
    }
}
