use super::*;

pub const SCOPE: LeaseScope = LeaseScope {
    ports: (40_000, 40_999),
    marks: Marks { lease: 0x0400_0000, accepted: 0x0200_0000, refused: 0x0100_0000 },
};

/// What the golden text was made of, also by tests/netns/test_leases.py.
pub fn example() -> Rendered {
    let network = Network {
        wan: ["wan0".to_owned()].into(),
        inside: vec![
            ("44.2.2.0".parse().unwrap(), 24),
            ("192.168.1.0".parse().unwrap(), 24),
            ("2a10:2::".parse().unwrap(), 64),
        ],
        ..Network::default()
    };
    let flowtable = Flowtable { devices: ["wan0".to_owned()].into() };
    render(&SCOPE, &network, Some(&flowtable), true)
}

#[test]
fn the_text_is_the_golden_one() {
    let text = example().text;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guard/testdata/leases.nft");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_DOCS=1 cargo test writes it anew");
}

#[test]
fn what_the_batch_says_is_read_back_as_the_same_table() {
    use super::super::found::Found;
    let table = example().table;
    let mut found = Found::of(LEASES);
    let batch = super::super::messages::replace(&table);
    super::super::netlink::messages(&batch).for_each(|m| found.take(&m));
    assert_eq!(found.table(), Some(&table));
}

#[test]
fn every_name_in_a_rule_is_there() {
    use super::super::table::Expr;
    let table = example().table;
    for expr in table.chains.values().flat_map(|c| c.rules.iter().flatten()) {
        match expr {
            Expr::Goto { chain } => assert!(table.chains.contains_key(chain), "{chain}"),
            Expr::Lookup { set, .. } | Expr::Map { map: set } => {
                assert!(table.sets.contains_key(set), "{set}")
            }
            Expr::Counter { name } => assert!(table.counters.contains(name), "{name}"),
            Expr::FlowAdd { table: name } => assert!(table.flowtables.contains_key(name), "{name}"),
            _ => {}
        }
    }
}

#[test]
fn without_a_flowtable_nothing_speaks_of_one() {
    for none in [None, Some(&Flowtable::default())] {
        let rendered = render(&SCOPE, &Network::default(), none, false);
        assert!(rendered.table.flowtables.is_empty() && !rendered.text.contains("flow add"));
    }
}

#[test]
fn bits_are_the_masks_second_to_fourth() {
    assert_eq!(Marks::of(0x0f00_0000), Some(SCOPE.marks));
    assert_eq!(Marks::of(0x8000_0015), Some(Marks { lease: 16, accepted: 4, refused: 1 }));
    assert_eq!(Marks::of(0x8000_0014), None);
    assert_eq!(Marks::of(0), None);
}
