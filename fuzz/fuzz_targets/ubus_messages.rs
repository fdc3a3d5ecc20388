//! Whatever ubusd sends, the client answers it or gives the connection up; what is read is what would be sent.
#![no_main]
use echomesh::json::object;
use echomesh::ubus::client::Event;
use echomesh::ubus::{Client, MAX_BODY, Status, Type, blob};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = blob::read_members(data) {
        let mut bytes = Vec::new();
        blob::put_members(&mut bytes, value.as_object().unwrap());
        assert_eq!(blob::read_members(&bytes), Ok(value));
    }
    let mut client = Client::new("echomesh", vec![("set", &[("n", Type::Integer)])]);
    for piece in data.chunks(100) {
        client.receive(piece);
        loop {
            match client.poll() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(Event::Invoked(invocation))) => {
                    let body = invocation.arguments.unwrap_or_else(|_| object([("bad", true.into())]));
                    let answered = client.answer(invocation.call, Status::Ok, Some(&body));
                    assert!(answered.is_ok() || data.len() > MAX_BODY / 4);
                }
                Ok(Some(_)) => {}
            }
        }
        client.outgoing();
    }
});
