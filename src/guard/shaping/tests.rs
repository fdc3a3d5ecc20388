use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

fn cap(class: u16, kbps: u32) -> Cap {
    Cap { class, kbps }
}

/// A flow's ends, as the buyer's port and the one that NAT chose make them.
fn ends(buyer: u16, nat: u16) -> [Ends; 2] {
    let at = |last, port| (IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port).into();
    [Ends { from: at(1, 40_000), to: at(2, buyer) }, Ends { from: at(1, nat), to: at(3, 443) }]
}

/// The kernel, as far as it takes steps: what it refuses is a mistake of ours.
#[derive(Default)]
struct Kernel {
    found: Found,
    leads: BTreeMap<u32, u16>,
    queues: SortedSet<u16>,
    tables: usize,
}

impl Kernel {
    fn take(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Root => assert_eq!(std::mem::replace(&mut self.found.root, Root::Ours), Root::Kernel),
                Step::RemoveRoot => *self = Kernel::default(),
                Step::Class(class, parent, _) => {
                    assert!(
                        self.found.root == Root::Ours
                            && (parent == 0 || self.found.classes.contains(&parent))
                    );
                    self.found.classes.insert(class);
                }
                Step::RemoveClass(class) => {
                    assert!(self.leads.values().all(|c| *c != class), "a filter leads to it");
                    assert!(self.found.classes.remove(&class));
                    self.queues.remove(&class);
                }
                Step::Queue(class, _) => {
                    assert!(self.found.classes.contains(&class));
                    // `fq_codel_change`: flows cannot be told apart otherwise than at the beginning.
                    assert!(self.queues.insert(class), "it has a queue, which takes no change");
                }
                Step::Table(..) => self.tables += 1,
                Step::Link(family, side) => {
                    assert!(self.tables == 4);
                    assert!(self.found.links.insert(family as u32 * 2 + side as u32));
                }
                Step::Fragments(family, bit) => {
                    assert_eq!(self.found.links.len(), 4, "a flow's packets leave by those first");
                    assert!(self.found.fragments.insert(family as u32 * 16 + u32::from(bit)));
                }
                Step::Filter(place, ends, class) => {
                    assert!(self.found.classes.contains(&class) && (1..=0xfff).contains(&place.node));
                    let port = if place.side == Side::Source { ends.from } else { ends.to }.port();
                    assert_eq!(place.bucket, port.to_be_bytes()[1], "where the kernel looks for it");
                    assert!(self.found.filters.insert(place.handle()));
                    self.leads.insert(place.handle(), class);
                }
                Step::RemoveFilter(place) => {
                    assert!(self.found.filters.remove(&place.handle()));
                    self.leads.remove(&place.handle());
                }
            }
        }
    }
}

fn classes(steps: &[Step]) -> BTreeMap<u16, Rate> {
    steps
        .iter()
        .filter_map(|s| if let Step::Class(c, _, rate) = s { Some((*c, *rate)) } else { None })
        .collect()
}

#[test]
fn nothing_is_touched_without_a_cap() {
    let mut shaping = Shaping::default();
    assert_eq!(shaping.caps(&[], 0), Ok(vec![]));
    assert!(!shaping.stands() && shaping.equals(&Found::default()));
    assert_eq!(shaping.begin(1, 1, ends(5, 6)), Err(Full::Class), "a flow without its session's class");
}

#[test]
fn the_same_caps_take_no_steps_and_a_change_takes_one() {
    let mut shaping = Shaping::default();
    assert!(shaping.caps(&[cap(1, 8_000), cap(2, 0)], 20_000).unwrap().contains(&Step::Root));
    assert_eq!(shaping.caps(&[cap(2, 0), cap(1, 8_000)], 20_000), Ok(vec![]));
    let steps = shaping.caps(&[cap(1, 8_000), cap(2, 9_000)], 20_000).unwrap();
    assert_eq!(classes(&steps).len(), 1);
    assert_eq!(steps.len(), 1);
    let steps = shaping.caps(&[cap(1, 8_000), cap(2, 9_000)], 2_000).unwrap();
    let changed: Vec<u16> = classes(&steps).into_keys().collect();
    assert_eq!(changed, [1, 0x101, 0x102, FRAGMENTS], "all may take less now");
    assert_eq!(shaping.caps(&[cap(65, 1)], 0), Err(Full::Class));
    assert_eq!(shaping.caps(&[cap(0, 1)], 0), Err(Full::Class));
}

#[test]
fn a_rate_is_that_of_the_payload() {
    let mut shaping = Shaping::default();
    let rates = classes(&shaping.caps(&[cap(1, 8_000), cap(2, 0), cap(64, 90_000)], 20_000).unwrap());
    // 8 Mbit/s of payload: 1,000,000 bytes, in 685 segments of 1,514 bytes on the wire.
    assert!(rates[&0x101].ceil.abs_diff(685 * 1514) < 1514, "{:?}", rates[&0x101]);
    assert_eq!(rates[&1].ceil, rates[&1].rate, "what all have together is not exceeded");
    assert_eq!(rates[&0x102].ceil, rates[&1].ceil, "no cap of its own: that of all");
    assert_eq!(rates[&0x140].ceil, rates[&1].ceil, "a cap above that of all");
    let granted: u64 = (1..=MAX_SESSIONS).map(|_| rates[&0x102].rate).sum::<u64>() + rates[&FRAGMENTS].rate;
    assert!(granted <= rates[&1].ceil, "{granted}");
    assert!(rates[&OTHERS].ceil > 1_000_000_000 && rates[&OTHERS].priority < rates[&0x101].priority);
    let mut shaping = Shaping::default();
    let rates = classes(&shaping.caps(&[cap(1, u32::MAX)], 0).unwrap());
    assert_eq!(rates[&0x101].rate, rates[&0x101].ceil, "without a cap of all nothing is lent");
}

#[test]
fn a_class_without_a_lease_drains_before_it_goes() {
    let (mut shaping, mut kernel) = (Shaping::default(), Kernel::default());
    kernel.take(&shaping.caps(&[cap(1, 4_000), cap(2, 4_000)], 20_000).unwrap());
    kernel.take(&shaping.begin(7, 1, ends(5, 6)).unwrap());
    let steps = shaping.caps(&[cap(2, 4_000)], 20_000).unwrap();
    kernel.take(&steps);
    assert!(shaping.is_draining() && !shaping.has(1) && kernel.found.filters.is_empty());
    assert_eq!(classes(&steps)[&0x101].ceil, UNLIMITED, "what waits is not held back any longer");
    assert!(kernel.found.classes.contains(&0x101) && shaping.equals(&kernel.found));
    kernel.take(&shaping.drained());
    assert!(!kernel.found.classes.contains(&0x101) && !shaping.is_draining());
    assert_eq!(shaping.drained(), []);
    // A session that comes back meanwhile has its cap, and keeps it.
    kernel.take(&shaping.caps(&[], 20_000).unwrap());
    let steps = shaping.caps(&[cap(2, 4_000)], 20_000).unwrap();
    kernel.take(&steps);
    assert!(classes(&steps)[&0x102].ceil < UNLIMITED);
    assert_eq!(shaping.drained(), []);
    assert!(shaping.equals(&kernel.found));
}

#[test]
fn a_queue_is_as_long_as_its_cap_and_memory_allow() {
    let of = |kbps| match queue(kbps) {
        Queue::SmallFair { packets, memory, target_us, .. } => (packets, memory, target_us),
        other => panic!("{other:?}"),
    };
    // 400 ms of 518 kB a second.
    assert_eq!(of(4_000), (136, 207_397, 399_999));
    let (packets, memory, target_us) = of(100_000);
    assert_eq!((packets, memory), (1000, 1_048_576));
    assert!((80_000..81_000).contains(&target_us), "as long as that much takes: {target_us}");
    assert_eq!(of(1), (64, 65_536, 400_000));
    assert_eq!(of(0), (1000, 1_048_576, 5_000));
}

#[test]
fn fragments_have_a_sixteenth_of_the_smallest_cap() {
    let mut shaping = Shaping::default();
    let steps = shaping.caps(&[cap(1, 8_000), cap(2, 0)], 20_000).unwrap();
    assert_eq!(steps.iter().filter(|s| matches!(s, Step::Fragments(..))).count(), 14);
    let rates = classes(&steps);
    assert_eq!(rates[&FRAGMENTS].ceil, rates[&0x101].ceil / 16);
    let rates = classes(&shaping.caps(&[cap(1, 8_000), cap(3, 1_600)], 20_000).unwrap());
    assert_eq!(rates[&FRAGMENTS].ceil, rates[&0x103].ceil / 16);
    let rates = classes(&shaping.caps(&[cap(2, 0)], 20_000).unwrap());
    assert_eq!(rates[&FRAGMENTS].ceil, on_the_wire(20_000) / 16, "of all together, where no session has one");
    let rates = classes(&shaping.caps(&[], 20_000).unwrap());
    assert_eq!(rates[&FRAGMENTS].ceil, UNLIMITED, "nobody has a cap: nobody's fragments are held down");
}

#[test]
fn a_chain_and_all_flows_are_bounded() {
    let mut shaping = Shaping::default();
    _ = shaping.caps(&[cap(1, 1_000)], 0).unwrap();
    for n in 0..64u16 {
        assert_eq!(shaping.begin(n.into(), 1, ends(n << 8, n)).unwrap().len(), 2);
    }
    let before = format!("{shaping:?}");
    assert_eq!(
        shaping.begin(64, 1, ends(64 << 8, 64)),
        Err(Full::Flows),
        "all of a chain's places are taken"
    );
    assert_eq!(format!("{shaping:?}"), before, "and the other direction's is free again");
    assert_eq!(shaping.end(7).len(), 2);
    assert!(shaping.begin(64, 1, ends(64 << 8, 64)).is_ok());
    assert_eq!(shaping.begin(64, 1, ends(1, 1)), Err(Full::Known));

    let mut shaping = Shaping::default();
    _ = shaping.caps(&[cap(1, 1_000)], 0).unwrap();
    let flow = |n: u32| ends((n & 0xff) as u16, (n & 0xff) as u16);
    for n in 0..4096 {
        assert!(shaping.begin(n, 1, flow(n)).is_ok(), "{n}");
    }
    assert_eq!(shaping.begin(4096, 1, flow(4096)), Err(Full::Flows));
}

#[test]
fn a_flow_of_two_families_gets_no_filter() {
    let mut shaping = Shaping::default();
    _ = shaping.caps(&[cap(1, 1_000)], 0).unwrap();
    let mut two = ends(1, 2);
    two[1].from = "[2001:db8::1]:2".parse().unwrap();
    assert_eq!(shaping.begin(1, 1, two), Err(Full::Ends));
    assert!(shaping.chains.is_empty());
}

#[test]
fn a_change_of_the_kernels_is_seen() {
    let mut shaping = Shaping::default();
    let mut kernel = Kernel::default();
    kernel.take(&shaping.caps(&[cap(3, 1_000)], 0).unwrap());
    kernel.take(&shaping.begin(1, 3, ends(1, 2)).unwrap());
    assert!(shaping.equals(&kernel.found));
    let other = |change: fn(&mut Found)| {
        let mut found = kernel.found.clone();
        change(&mut found);
        !shaping.equals(&found)
    };
    assert!(other(|f| f.root = Root::Kernel));
    assert!(other(|f| f.root = Root::Other("cake".to_owned())));
    assert!(other(|f| lose(&mut f.classes)));
    assert!(other(|f| _ = f.classes.insert(9)));
    assert!(other(|f| lose(&mut f.filters)));
    assert!(other(|f| _ = f.filters.insert(9)));
    assert!(other(|f| lose(&mut f.links)));
    assert!(other(|f| lose(&mut f.fragments)));
    shaping.forget();
    assert!(!shaping.equals(&kernel.found), "ours was left there");
}

/// Without one of its members.
fn lose(set: &mut SortedSet<impl Ord + Copy>) {
    let first = *set.first().unwrap();
    assert!(set.remove(&first));
}

#[derive(Clone, Debug)]
enum Do {
    Caps(Vec<(u16, u32)>, u32),
    Begin(u32, u16, u16, u16),
    End(u32),
    Drained,
}

fn doing() -> impl Strategy<Value = Do> {
    let caps = (proptest::collection::vec((1..6u16, 0..50_000u32), 0..6), 0..3u32);
    prop_oneof![
        caps.prop_map(|(caps, total)| Do::Caps(caps, total * 10_000)),
        (0..40u32, 0..7u16, 0..4u16, any::<u16>())
            .prop_map(|(ct, class, low, nat)| Do::Begin(ct, class, low, nat)),
        (0..40u32).prop_map(Do::End),
        Just(Do::Drained),
    ]
}

proptest! {
    #[test]
    fn the_kernel_has_what_is_wanted_after_any_steps(things in proptest::collection::vec(doing(), 1..80)) {
        let (mut shaping, mut kernel) = (Shaping::default(), Kernel::default());
        for thing in things {
            let steps = match thing {
                Do::Caps(caps, total) => {
                    let caps: Vec<Cap> = caps.iter().map(|(c, k)| cap(*c, *k)).collect();
                    shaping.caps(&caps, total).unwrap()
                }
                Do::Begin(ct, class, low, nat) => shaping.begin(ct, class, ends(low, nat)).unwrap_or_default(),
                Do::End(ct) => shaping.end(ct),
                Do::Drained => shaping.drained(),
            };
            kernel.take(&steps);
            prop_assert!(shaping.equals(&kernel.found));
        }
    }
}
