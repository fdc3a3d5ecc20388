//! What the node must refuse whatever else holds: orders that nobody may give, and requests that nobody may make.
use super::bench::{BUYER, Bench, TOKEN, coordinator, open_order, profile};
use crate::json::{Value, array, object};
use crate::session::{Credentials, Denied, Flow, Gate, Target};
use crate::signed::{Kind, NodeKey, sign};
use crate::time::Unix;

fn stranger() -> NodeKey {
    NodeKey::from_seed(&[3; 32]).unwrap()
}

/// An order to open a session that is wrong in one way.
pub fn open(bench: &mut Bench, id: &str, how: u8) {
    let mut order = open_order(id, bench.now());
    let mut set = |name: &str, seconds: i64| order.set(name, Unix(bench.now() + seconds).to_string());
    let how = how % 11;
    match how {
        1 => set("issuedAt", -660),
        2 => set("issuedAt", 120),
        3 => set("notBefore", 200),
        4 => {
            set("notBefore", -100);
            set("expiresAt", -10);
        }
        5 => {
            set("notBefore", 40);
            set("expiresAt", 30);
        }
        6 => order.set("nodeId", stranger().node_id()),
        7 => order.set("regions", array(["DE-BE"])),
        8 => order.set("category", "gambling"),
        9 => order.set("policyProfile", profile(r#"{"allowedPorts":[443,25]}"#)),
        10 => order.set("tokenHash", "b3:00"),
        _ => {}
    }
    sign(Kind::SessionOpen, &mut order, &if how == 0 { stranger() } else { coordinator() });
    bench.raw_signals(vec![("open", order)]).unwrap();
}

/// A policy for all sessions that would loosen everything, and is wrong in one way.
pub fn policy(bench: &mut Bench, how: u8) {
    let how = how % 3;
    let node = if how == 1 { stranger().node_id() } else { bench.node.key.node_id() };
    let ahead = if how == 2 { 120 } else { 0 };
    let mut body = object([
        ("sessionId", Value::Null),
        ("nodeId", node.into()),
        ("issuedAt", Unix(bench.now() + ahead).to_string().into()),
        ("policyProfile", profile("{}")),
        ("limits", object::<&str>([])),
    ]);
    sign(Kind::Policy, &mut body, &if how == 0 { stranger() } else { coordinator() });
    bench.raw_signals(vec![("policy", body)]).unwrap();
}

/// A request that is wrong in one way, whatever the session allows.
pub fn request(bench: &Bench, id: &str, how: u8) -> Result<Flow, Denied> {
    let how = how % 5;
    let token = if how == 0 { b"9".repeat(20) } else { TOKEN.to_vec() };
    let credentials = Credentials { session_id: id.to_owned(), token };
    let host = match how {
        3 => "44.10.0.81",
        4 => "mail.google.com",
        _ => "b.test",
    };
    let target =
        Target { host: host.to_owned(), port: if how == 2 { 8443 } else { 443 }, literal: host.parse().ok() };
    bench.node.admit(Some(BUYER), Some(&credentials).filter(|_| how != 1), Ok(&target))
}
