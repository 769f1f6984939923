//! Runs in words and blocks, against one bit after another.

use proptest::prelude::*;
use std::vec::Vec;

use crate::word::*;

fn has(bits: &Bits, at: usize) -> bool {
    bits[at / WORD] >> (at % WORD) & 1 == 1
}

fn first_run_by_bits(bits: &Bits, count: usize, alignment: u32) -> Option<usize> {
    (0..=BLOCK - count).step_by(1 << alignment).find(|&start| (start..start + count).all(|at| has(bits, at)))
}

fn max_order_by_bits(bits: &Bits) -> Option<u32> {
    (0..=BLOCK_ORDER).rev().find(|&order| first_run_by_bits(bits, 1 << order, order).is_some())
}

/// Every run of ones in a word, and the same run as the only hole.
#[test]
fn each_run_of_a_word_is_seen_as_it_is() {
    for start in 0..64 {
        for count in 1..=64 - start {
            let run = ones(start, count);
            assert_eq!(run.count_ones(), count);
            assert_eq!(run.trailing_zeros(), start);
            for word in [run, !run, 0, !0] {
                for order in 0..=6 {
                    let by_bits = (0..64).step_by(1 << order).filter(|&at| {
                        let run = ones(at, 1 << order);
                        word & run == run
                    });
                    let expected = by_bits.fold(0, |starts, at| starts | 1 << at);
                    assert_eq!(aligned_runs(word, order), expected, "{word:x} order {order}");
                }
                assert_eq!(max_order(word), (0..=6).rev().find(|&order| aligned_runs(word, order) != 0));
                for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                    let holds = |order: &u32| aligned_runs(word, *order) >> (bit & !((1 << order) - 1)) & 1 == 1;
                    assert_eq!(Some(order_at(word, bit)), (0..=6).rev().find(holds), "{word:x} at {bit}");
                }
            }
        }
    }
}

/// Of every word with one hole, and of every run: as many runs as asked, the first ones, and no bit besides.
#[test]
fn the_first_runs_of_a_word_are_taken_whole() {
    for start in 0..64 {
        for count in 1..=64 - start {
            for word in [ones(start, count), !ones(start, count)] {
                for order in 0..6 {
                    let mut expected = 0;
                    for most in 0..=64 {
                        assert_eq!(first_runs(word, order, most), expected, "{most} of order {order} in {word:x}");
                        let next = aligned_runs(word & !expected, order);
                        if next != 0 {
                            expected |= ones(next.trailing_zeros(), 1 << order);
                        }
                    }
                }
            }
        }
    }
}

/// Every set of whole words of a block.
#[test]
fn whole_words_are_counted_as_orders_above_a_word() {
    for set in 0u64..1 << WORDS {
        let bits: Bits = core::array::from_fn(|word| if set >> word & 1 == 1 { !0 } else { !1 });
        assert_eq!(whole_words(&bits), set);
        assert_eq!(max_order_of(&bits), max_order_by_bits(&bits), "{set:b}");
    }
}

/// Every run of a block, found alone and not found where one bit lacks.
#[test]
fn each_run_of_a_block_is_found() {
    for start in 0..BLOCK {
        for count in (1..=BLOCK - start).filter(|count| count % 7 == 1 || count.is_power_of_two()) {
            let bits = clipped(&[!0; WORDS], start, start + count);
            assert_eq!(bits.iter().map(|word| word.count_ones()).sum::<u32>() as usize, count);
            assert_eq!(first_run(&bits, count, 0), Some(start));
            assert!(count == BLOCK || first_run(&bits, count + 1, 0).is_none());
            let joined: Vec<_> = pieces(start, count).collect();
            assert_eq!(joined.iter().map(|(_, mask)| mask.count_ones()).sum::<u32>() as usize, count);
            assert!(joined.iter().all(|&(word, mask)| bits[word] == mask));
        }
    }
    assert_eq!(clipped(&[!0; WORDS], 9, 9), [0; WORDS]);
}

proptest! {
    #[test]
    fn runs_are_where_single_bits_say(
        seeds in prop::array::uniform8(any::<u64>()),
        more in prop::array::uniform8(0u8..4),
        count in 1usize..=BLOCK,
        alignment in 0u32..=9,
    ) {
        // Words that are full, empty, dense and sparse.
        let mut bits = seeds;
        for ((word, kind), next) in bits.iter_mut().zip(more).zip(seeds.iter().cycle().skip(1)) {
            *word = match kind { 0 => !0, 1 => *word | next, 2 => *word & next, _ => 0 };
        }
        prop_assert_eq!(first_run(&bits, count, alignment), first_run_by_bits(&bits, count, alignment));
        prop_assert_eq!(max_order_of(&bits), max_order_by_bits(&bits));
    }
}
