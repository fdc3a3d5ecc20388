use super::*;

#[test]
fn every_expression_is_read_as_it_was_written_and_no_other_is_ours() {
    let s = || "x".to_owned();
    for expr in [
        Expr::Meta { key: 10 },
        Expr::Ct { key: 3 },
        Expr::SetCt { key: 3 },
        Expr::Cmp { equal: true, value: vec![6] },
        Expr::Cmp { equal: false, value: vec![1, 2, 3, 4] },
        Expr::Bitwise { mask: vec![1; 4], xor: vec![0; 4] },
        Expr::Payload { base: 2, offset: 2, length: 2, register: 9 },
        Expr::TcpOption { kind: 30 },
        Expr::Lookup { set: s(), inverted: true },
        Expr::Lookup { set: s(), inverted: false },
        Expr::Counter { name: s() },
        Expr::Reject { tcp: true },
        Expr::Reject { tcp: false },
        Expr::Accept,
        Expr::Goto { chain: s() },
        Expr::SetMeta { key: 3 },
        Expr::Bound { lower: true, value: vec![1, 2] },
        Expr::Bound { lower: false, value: vec![1, 2] },
        Expr::Map { map: s() },
        Expr::Drop,
        Expr::Dnat { v6: false },
        Expr::Dnat { v6: true },
        Expr::Queue { number: 7878 },
        Expr::FlowAdd { table: s() },
        Expr::Fixed(Fixed::DestinationType),
        Expr::Fixed(Fixed::RouteMss),
        Expr::Fixed(Fixed::ToNetworkOrder),
        Expr::Fixed(Fixed::SetMss),
        Expr::Fixed(Fixed::Masquerade),
        Expr::Fixed(Fixed::CalledPort),
        Expr::Fixed(Fixed::Trickle),
    ] {
        let mut w = Writer::default();
        expr.encode(&mut w);
        let bytes = w.finish();
        assert_eq!(Expr::decode(nl::attribute(&bytes, 1).unwrap()), Some(expr));
    }
    let mut w = Writer::default();
    w.put_text(1, "immediate");
    w.nest(2, |w| verdict(w, 3, None));
    assert_eq!(Expr::decode(&w.finish()), None, "NF_QUEUE as a verdict");
    assert_eq!(Expr::decode(&[]), None);
}

fn decoded(name: &str, fill: impl FnOnce(&mut Writer)) -> Option<Expr> {
    let mut w = Writer::default();
    w.put_text(1, name);
    w.nest(2, fill);
    Expr::decode(&w.finish())
}

#[test]
fn what_the_kernel_adds_is_no_difference_and_what_changes_the_meaning_is() {
    let queue = |flags: u16, queues: u16| {
        decoded("queue", |w| {
            for (kind, value) in [(1, 7878), (2, queues), (3, flags)] {
                w.put(kind, &u16::to_be_bytes(value));
            }
        })
    };
    assert_eq!(queue(0, 1), Some(Expr::Queue { number: 7878 }));
    assert_eq!(queue(1, 1), None, "bypass");
    assert_eq!(queue(0, 4), None, "to several queues");
    let nat = |changed: u16, value| {
        decoded("nat", |w| {
            for (kind, usual) in [(1, 1), (2, 2), (3, 1), (4, 1), (5, 9), (6, 9), (7, 3)] {
                w.put_be32(kind, if kind == changed { value } else { usual });
            }
        })
    };
    assert_eq!(nat(0, 0), Some(Expr::Dnat { v6: false }));
    for (kind, value) in [(1, 0), (2, 10), (3, 2), (4, 2), (5, 2), (6, 2), (7, 7)] {
        assert_eq!(nat(kind, value), None, "attribute {kind} is {value}");
    }
    assert_eq!(decoded("masq", |w| w.put_be32(1, 0)), Some(Expr::Fixed(Fixed::Masquerade)));
    assert_eq!(decoded("masq", |w| w.put_be32(1, 4)), None, "random ports");
    assert_eq!(decoded("masq", |w| w.put_be32(2, 1)), None, "ports of its own");
}
