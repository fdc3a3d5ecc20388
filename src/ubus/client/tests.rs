//! The client against the recorded bytes, and against a ubusd that does what it should not.
use super::*;
use crate::json::{object, parse};
use crate::ubus::message::{MAX_BODY, first, write};
use crate::ubus::testdata::recorded;

const METHODS: [Signature; 2] =
    [("status", &[]), ("set", &[("name", Type::String), ("n", Type::Integer), ("on", Type::Boolean)])];

fn client() -> Client {
    Client::new("echomesh", METHODS.to_vec())
}

/// A client that ubusd has taken.
fn registered() -> Client {
    let mut client = client();
    for name in ["hello", "added", "add-status"] {
        client.receive(&recorded(name));
    }
    assert_eq!(client.poll(), Ok(Some(Event::Registered)));
    client.outgoing();
    client
}

fn invoked(client: &mut Client) -> Invocation {
    match client.poll() {
        Ok(Some(Event::Invoked(invocation))) => invocation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_greeting_is_answered_with_the_object_byte_by_byte() {
    let mut client = client();
    assert_eq!(client.outgoing(), [0u8; 0]);
    client.receive(&recorded("hello"));
    assert_eq!(client.poll(), Ok(None));
    assert_eq!(client.outgoing(), recorded("add-object"));
    client.receive(&recorded("added"));
    assert_eq!(client.poll(), Ok(None));
    assert!(!client.is_registered());
    client.receive(&recorded("add-status"));
    assert_eq!(client.poll(), Ok(Some(Event::Registered)));
    assert!(client.is_registered());
}

#[test]
fn a_call_comes_in_pieces_and_is_answered_byte_by_byte() {
    let mut client = registered();
    let (call, mut got) = (recorded("invoke"), None);
    for byte in call.chunks(1) {
        assert_eq!(got, None);
        client.receive(byte);
        got = client.poll().unwrap();
    }
    let Some(Event::Invoked(invocation)) = got else { panic!("{got:?}") };
    assert_eq!(invocation.method, "set");
    assert_eq!(invocation.arguments.unwrap().member("big"), Some(&Value::Int(5_000_000_000)));
    let status = client.answer(invocation.call, Status::Ok, None);
    assert_eq!((status, client.outgoing()), (Ok(()), recorded("status")));
    let body = object([("a", 1.into())]);
    client.answer(invocation.call, Status::Ok, Some(&body)).unwrap();
    let out = client.outgoing();
    let (data, length) = first(&out).unwrap().unwrap();
    assert_eq!((data.kind, data.seq, data.peer), (message::DATA, 2, 0xcb6d_74d5));
    assert_eq!(data.u32(at::OBJECT), Ok(Some(0x0984_0dd7)));
    assert_eq!(blob::read_members(data.find(at::DATA).unwrap().unwrap()), Ok(body));
    assert_eq!(out[length..], recorded("status"));
}

#[test]
fn an_event_is_sent_byte_by_byte() {
    let mut client = registered();
    client.send("echomesh.peer", &parse(br#"{"k":"v"}"#).unwrap()).unwrap();
    let (out, wanted) = (client.outgoing(), recorded("event"));
    assert_eq!((&out[..2], &out[4..]), (&wanted[..2], &wanted[4..]));
    assert_eq!(out[2..4], [0, 2]);
}

#[test]
fn calls_are_answered_in_any_order_and_unknown_methods_delivered() {
    let mut client = registered();
    let call = |seq, method: &str, flags: &[u8]| {
        write(message::INVOKE, seq, 7, |out| {
            message::put_u32(out, at::OBJECT, 0x0984_0dd7);
            message::put_text(out, at::METHOD, method);
            flags.iter().for_each(|flag| blob::put(out, at::NO_REPLY, |out| out.push(*flag)));
        })
    };
    client.receive(&[call(1, "a", &[]), call(2, "b", &[0]), call(3, "c", &[1])].concat());
    let [a, b, c] = [(); 3].map(|()| invoked(&mut client));
    assert_eq!((a.method.as_str(), b.method.as_str(), c.method.as_str()), ("a", "b", "c"));
    assert_eq!(a.arguments, Ok(object::<&str>([])));
    client.answer(b.call, Status::MethodNotFound, None).unwrap();
    client.answer(c.call, Status::Ok, None).unwrap();
    client.answer(a.call, Status::Ok, None).unwrap();
    let out = client.outgoing();
    let (one, length) = first(&out).unwrap().unwrap();
    assert_eq!((one.seq, one.u32(at::STATUS)), (2, Ok(Some(3))));
    let (two, other) = first(&out[length..]).unwrap().unwrap();
    assert_eq!((two.seq, two.u32(at::STATUS)), (1, Ok(Some(0))));
    assert_eq!(length + other, out.len(), "who does not wait is not answered");
}

#[test]
fn arguments_that_cannot_be_read_are_the_callers_fault_alone() {
    let mut client = registered();
    client.receive(&write(message::INVOKE, 9, 7, |out| {
        message::put_u32(out, at::OBJECT, 0x0984_0dd7);
        message::put_text(out, at::METHOD, "status");
        blob::put(out, at::DATA, |out| out.extend([1, 2, 3]));
    }));
    assert_eq!(invoked(&mut client).arguments, Err(Malformed("an attribute's tag is cut off")));
    client.receive(&recorded("invoke"));
    assert!(invoked(&mut client).arguments.is_ok());
}

#[test]
fn no_answer_is_larger_than_the_bus_carries() {
    let mut client = registered();
    client.receive(&recorded("invoke"));
    let call = invoked(&mut client).call;
    // Header of the blob, the object's number, the tag of the data, the tag and name of the text, and its NUL.
    let room = MAX_BODY - 4 - 8 - 4 - 8 - 1;
    let body = |length| object([("t", "x".repeat(length).into())]);
    assert_eq!(client.answer(call, Status::Ok, Some(&body(room))), Ok(()));
    let out = client.outgoing();
    assert_eq!(first(&out).unwrap().unwrap().1, 8 + MAX_BODY);
    assert_eq!(client.answer(call, Status::Ok, Some(&body(room + 1))), Err(TooLarge));
    assert_eq!(client.outgoing(), [0u8; 0]);
    assert_eq!(client.send("e", &body(room)), Err(TooLarge));
    assert_eq!(client.outgoing(), [0u8; 0]);
}

#[test]
fn a_message_of_the_limit_is_taken_and_one_above_is_not() {
    let text = |length: usize| {
        write(message::INVOKE, 1, 7, |out| {
            message::put_u32(out, at::OBJECT, 0x0984_0dd7);
            message::put_text(out, at::METHOD, "x");
            blob::put(out, at::DATA, |out| blob::put_value(out, "t", &"x".repeat(length).into()));
        })
    };
    let room = MAX_BODY - 4 - 8 - 8 - 4 - 12 - 1 + 4;
    let mut client = registered();
    client.receive(&text(room));
    assert_eq!(invoked(&mut client).arguments.unwrap().member("t").unwrap().as_str().unwrap().len(), room);
    client.receive(&text(room + 1)[..12]);
    assert_eq!(client.poll(), Err(Malformed("a message has a length that is not allowed")));
}

#[test]
fn a_refusal_is_told_and_a_strange_ubusd_left() {
    let status = |code| write(message::STATUS, ADD, 0, |out| message::put_u32(out, at::STATUS, code));
    let mut refused = client();
    refused.receive(&[recorded("hello"), status(2)].concat());
    assert_eq!(refused.poll(), Ok(Some(Event::Refused(2))));
    for bytes in [
        recorded("added"),
        vec![1; 12],
        write(message::HELLO, 0, 0, |_| {}).iter().map(|b| b ^ 0x80).collect(),
    ] {
        let mut client = client();
        client.receive(&bytes);
        assert!(client.poll().is_err(), "{bytes:?}");
    }
    let mut client = registered();
    let event = write(message::STATUS, 2, 1, |out| message::put_u32(out, at::STATUS, 6));
    client.receive(&event);
    assert_eq!(client.poll(), Ok(Some(Event::EventRefused(6))));
    // A subscriber, and what no version says today.
    client.receive(
        &[write(10, 0, 0, |out| blob::put(out, 9, |out| out.push(1))), write(99, 0, 0, |_| {})].concat(),
    );
    assert_eq!(client.poll(), Ok(None));
    client.receive(&write(message::INVOKE, 1, 7, |out| message::put_u32(out, at::OBJECT, 5)));
    assert_eq!(client.poll(), Err(Malformed("another object is called")));
}

#[test]
fn nothing_is_said_before_the_object_is_there() {
    let mut client = client();
    client.send("echomesh", &object([("a", 1.into())])).unwrap();
    assert_eq!(client.outgoing(), [0u8; 0]);
}

#[test]
fn pauses_grow_to_their_longest() {
    let mut backoff = Backoff::new();
    let seconds = [(); 8].map(|()| backoff.pause().as_secs());
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 64]);
    backoff.reset();
    assert_eq!(backoff.pause().as_secs(), 1);
}
