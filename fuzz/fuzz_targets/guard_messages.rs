//! What is read from the guard's socket is what would be sent, and no answer of the kernel's upsets its readers.
#![no_main]
use echomesh::guard::found::Found;
use echomesh::guard::netlink::messages;
use echomesh::guard::network::{Answers, Wanted};
use echomesh::guard::protocol::{Report, Request};
use echomesh::guard::table::NAME;
use echomesh::guard::tc;
use echomesh::policy::wan::Choice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(report) = Report::decode(data) {
        assert_eq!(report.encode(), data);
    }
    if let Ok(request) = Request::decode(data) {
        assert_eq!(request.encode(), data);
    }
    let (mut found, mut answers) = (Found::of(NAME), Answers::default());
    let mut traffic = tc::Found::of(3);
    for message in messages(data) {
        traffic.take(&message);
        assert!(tc::ours(&message).is_none_or(|device| device != 3 || traffic.root == tc::Root::Ours));
        _ = tc::is_foreign(&message, 3, 7);
        found.take(&message);
        answers.take(&message);
    }
    assert!(traffic.classes.len() + traffic.filters.len() + traffic.links.len() <= data.len() / 36);
    let wanted = Wanted { choice: Choice::Auto, binds: true };
    let network = answers.network(&wanted, Vec::new());
    assert!(network.inside.len() <= data.len());
    // What is told of a line is what can be told.
    let report = Report::Wan(network.uplinks.clone());
    let odd_name = |n: &String| !echomesh::policy::wan::is_device_name(n);
    if !network.wan.iter().any(odd_name) {
        assert_eq!(Report::decode(&report.encode()), Ok(report));
    }
});
