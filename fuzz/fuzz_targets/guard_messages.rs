//! What is read from the guard's socket is what would be sent, and no answer of the kernel's upsets its readers.
#![no_main]
use echomesh::guard::messages::Found;
use echomesh::guard::netlink::messages;
use echomesh::guard::network::Answers;
use echomesh::guard::protocol::{Report, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = Report::decode(data) {
        assert_eq!(report.encode(), data);
    }
    if let Ok(request) = Request::decode(data) {
        assert_eq!(request.encode(), data);
    }
    let (mut found, mut answers) = (Found::default(), Answers::default());
    for message in messages(data) {
        found.take(&message);
        answers.take(&message);
    }
    let network = answers.network(Vec::new());
    assert!(network.inside.len() <= data.len());
});
