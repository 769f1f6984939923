//! The index against sets.

use std::{collections::BTreeSet, vec::Vec};

use proptest::prelude::*;

use crate::{
    atomic::{AtomicU64, Ordering},
    index::*,
    word::WORD,
};

fn storage(items: usize) -> Vec<AtomicU64> {
    (0..index_words(items)).map(|_| AtomicU64::new(0)).collect()
}

proptest! {
    #[test]
    fn the_index_finds_what_a_set_finds(
        // One level, and the least and the most items of two and of three.
        items in prop::sample::select(&[1usize, 40, 64, 65, 4096, 4097, 9000, 262_144, 262_145]),
        steps in prop::collection::vec((any::<usize>(), any::<bool>(), 0u32..3), 1..200),
    ) {
        let words = storage(items);
        let index = Index::new(&words, items);
        let mut sets = [const { BTreeSet::new() }; 3];
        for (item, set, class) in steps {
            // Near one another half of the time, so that lines fill and empty.
            let item = if item % 2 == 0 { item % 70 % items } else { item % items };
            if set {
                index.set(item, class);
                sets[class as usize].insert(item);
            } else {
                index.clear(item, class);
                sets[class as usize].remove(&item);
            }
            for (class, set) in sets.iter().enumerate() {
                for from in [0, item, item + 1, items - 1, items, items + 100] {
                    prop_assert_eq!(index.next(class as u32, from), set.range(from..).next().copied());
                }
                prop_assert_eq!(index.has(item, class), set.contains(&item));
            }
        }
    }
}

#[test]
fn what_is_emptied_leaves_nothing_above() {
    let words = storage(300_000);
    let index = Index::new(&words, 300_000);
    for item in [0, 63, 64, 4095, 4096, 262_143, 262_144, 299_999] {
        index.set(item, 7);
        assert_eq!(index.next(7, 0), Some(item));
        index.clear(item, 7);
        assert!(words.iter().all(|word| word.load(Ordering::SeqCst) == 0), "after {item}");
    }
}

#[test]
fn marks_are_single_bits() {
    let words = storage(65);
    let index = Index::new(&words, 65);
    assert!(!index.mark(64, HELD) && index.mark(64, HELD) && index.has(64, HELD) && !index.has(64, SPLIT));
    index.unmark_group(1, 1, HELD);
    assert_eq!(index.group(1, HELD), 0);
}

/// As if whoever set the bit of an item had stopped before it went up, or another after it had cleared the level above.
#[test]
fn what_a_stopped_thread_left_out_is_mended() {
    let words = storage(9000);
    let index = Index::new(&words, 9000);
    words[(8192 / WORD) * LINE + 4].store(1, Ordering::SeqCst);
    assert_eq!(index.next(4, 0), None);
    index.set(8192, 4);
    assert_eq!(index.next(4, 0), None, "the bit is set already");
    index.mend();
    assert_eq!(index.next(4, 0), Some(8192));
    index.clear(8192, 4);
    assert!(words.iter().all(|word| word.load(Ordering::SeqCst) == 0), "no other row has changed");
}
