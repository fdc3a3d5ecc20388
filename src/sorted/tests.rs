use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u32),
    Remove(u8),
    Edit(u8),
    Retain(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_u8, any::<u32>()).prop_map(|(k, v)| Step::Insert(k, v)),
        (0..40_u8).prop_map(Step::Remove),
        (0..40_u8).prop_map(Step::Edit),
        (1..6_u8).prop_map(Step::Retain),
    ]
}

proptest! {
    #[test]
    fn a_map_does_what_a_tree_does(begin in vec((0..40_u8, any::<u32>()), 0..60), steps in vec(step(), 0..80)) {
        let mut tree: BTreeMap<u8, u32> = begin.iter().copied().collect();
        let mut map: SortedMap<u8, u32> = begin.into_iter().collect();
        for step in steps {
            match step {
                Step::Insert(k, v) => prop_assert_eq!(map.insert(k, v), tree.insert(k, v)),
                Step::Remove(k) => prop_assert_eq!(map.remove(&k), tree.remove(&k)),
                Step::Edit(k) => {
                    let value = map.edit(k, || 7, |v| { *v = v.wrapping_add(1); *v });
                    let other = tree.entry(k).or_insert(7);
                    *other = other.wrapping_add(1);
                    prop_assert_eq!(value, *other);
                }
                Step::Retain(n) => {
                    map.retain(|k, v| { *v = v.wrapping_mul(3); k % n != 0 });
                    tree.retain(|k, v| { *v = v.wrapping_mul(3); k % n != 0 });
                }
            }
            prop_assert_eq!(map.len(), tree.len());
            prop_assert!(map.iter().eq(tree.iter()));
            for k in 0..40 {
                prop_assert_eq!(map.get(&k), tree.get(&k));
                prop_assert_eq!(map.contains_key(&k), tree.contains_key(&k));
            }
        }
    }

    #[test]
    fn a_set_does_what_a_tree_does(begin in vec(0..40_u8, 0..60), steps in vec(step(), 0..80)) {
        let mut tree: BTreeSet<u8> = begin.iter().copied().collect();
        let mut set: SortedSet<u8> = begin.into_iter().collect();
        for step in steps {
            match step {
                Step::Insert(k, _) | Step::Edit(k) => prop_assert_eq!(set.insert(k), tree.insert(k)),
                Step::Remove(k) => prop_assert_eq!(set.remove(&k), tree.remove(&k)),
                Step::Retain(n) => {
                    set.retain(|k| k % n != 0);
                    tree.retain(|k| k % n != 0);
                }
            }
            prop_assert!(set.iter().eq(tree.iter()));
            prop_assert!((0..40).all(|k| set.contains(&k) == tree.contains(&k)));
        }
    }
}
