//! Against plain loops: any lengths, any places, any bytes, at every level.

mod common;

use std::cmp::Ordering;

use common::at_each_level;
use proptest::prelude::*;
use terrace_memops::{Level, bits, compare, copy, equal, features, fill, force, raw};

/// Beyond where the C library takes over, a little.
const MOST: usize = if cfg!(miri) { 3 << 10 } else { (1 << 20) + (1 << 10) };

/// Of a bitmap.
const WORDS: usize = if cfg!(miri) { 20 } else { 200 };

/// Lengths even over their logarithm, so that short and long ones are as frequent.
fn length() -> impl Strategy<Value = usize> {
    (0..=MOST.ilog2()).prop_flat_map(|log2| 0..=(2 << log2).min(MOST))
}

fn plain_compare(a: &[u8], b: &[u8]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return if a < b { Ordering::Less } else { Ordering::Greater };
        }
    }
    a.len().cmp(&b.len())
}

/// Bytes that repeat after more than any vector.
fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8 ^ seed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 96 }, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn copies_are_those_of_a_loop(to in 0..99usize, from in 0..99usize, len in length(), other in length(), seed: u8) {
        let source = bytes(seed, from + len);
        at_each_level(|level| {
            let mut room = vec![0; to + other + 99];
            let mut expected = room.clone();
            let copied = copy(&mut room[to..to + other], &source[from..]);
            assert_eq!(copied, len.min(other));
            for (to, from) in expected[to..].iter_mut().zip(&source[from..]).take(copied) {
                *to = *from;
            }
            assert!(room == expected, "{level:?}");
        });
    }

    #[test]
    fn fills_are_those_of_a_loop(to in 0..99usize, len in length(), byte: u8) {
        at_each_level(|level| {
            let mut room = vec![!byte; to + len + 99];
            fill(&mut room[to..to + len], byte);
            let mut inside = to..to + len;
            assert!(room.iter().enumerate().all(|(at, found)| (*found == byte) == inside.contains(&at)), "{level:?}");
            assert_eq!(inside.next().is_some(), len > 0);
        });
    }

    #[test]
    fn orders_are_those_of_a_loop(
        start in 0..99usize, (a, b) in (length(), length()), same: bool, seed: u8, place: prop::sample::Index, change: u8,
    ) {
        let left = bytes(seed, a);
        let mut right = bytes(seed, start + if same { a } else { b });
        for (at, byte) in right[start..].iter_mut().enumerate() {
            *byte = (at % 251) as u8 ^ seed;
        }
        if right.len() > start {
            let at = start + place.index(right.len() - start);
            right[at] ^= change;
        }
        let right = &right[start..];
        at_each_level(|level| {
            assert_eq!(compare(&left, right), plain_compare(&left, right), "{level:?}");
            assert_eq!(equal(&left, right), left == right, "{level:?}");
        });
    }

    #[test]
    fn bits_are_those_of_a_loop(
        into in prop::collection::vec(word(), 0..WORDS), mask in prop::collection::vec(word(), 0..WORDS), from in 0..65 * WORDS,
    ) {
        let set = |words: &[u64], bit: usize| words[bit / 64] >> (bit % 64) & 1 == 1;
        at_each_level(|level| {
            let mut rest = into.clone();
            bits::and_not(&mut rest, &mask);
            for (at, word) in rest.iter().enumerate() {
                assert_eq!(*word, into[at] & !mask.get(at).unwrap_or(&0), "{level:?}");
            }
            let ones: Vec<usize> = (0..rest.len() * 64).filter(|bit| set(&rest, *bit)).collect();
            assert_eq!(bits::count_ones(&rest), ones.len(), "{level:?}");
            let next = ones.iter().copied().find(|bit| *bit >= from);
            assert_eq!(bits::first_set_from(&rest, from), next, "{level:?}");
            let mut visited = vec![0; rest.len()];
            bits::for_each_word(&rest, |at, word| {
                assert_ne!(word, 0, "{level:?}");
                visited[at] = word;
            });
            assert_eq!(visited, rest, "{level:?}");
        });
    }
}

/// Many are zero, so that runs of them are passed over.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
}

#[test]
fn no_bytes_are_copied_filled_and_compared_wherever_they_are() {
    at_each_level(|_| {
        let nowhere = std::ptr::without_provenance_mut(1);
        // SAFETY: no byte is touched.
        unsafe { raw::copy(nowhere, nowhere, 0) };
        // SAFETY: as above.
        unsafe { raw::fill(nowhere, 1, 0) };
        // SAFETY: as above.
        assert!(unsafe { raw::compare(nowhere, nowhere, 0) }.is_eq());
    });
}

#[test]
fn a_level_that_the_machine_lacks_is_refused_and_changes_nothing() {
    at_each_level(|used| {
        let found: Vec<Level> = features().found().collect();
        for level in [Level::Sse2, Level::Avx2, Level::Avx512, Level::Neon, Level::Simd128] {
            if !found.contains(&level) {
                assert!(!force(Some(level)));
                assert_eq!(features().used(), used);
            }
        }
        assert!(
            found.contains(&Level::Portable) && found.iter().all(|level| features().compiled().any(|c| c == *level))
        );
        assert_eq!(features().has_simd(), used != Level::Portable);
    });
    // At most one machine's levels are there.
    assert!(features().compiled().count() <= 4);
}
