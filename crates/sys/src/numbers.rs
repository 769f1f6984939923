//! [`Numbers`]: which slot numbers are taken.
//!
//! ```text
//!   number   1 2 3 4 5 …          take_lowest: set the first 0, Acquire       take: set this one, Acquire
//!   bit      1 1 0 1 0 …          give_back:   clear it, Release
//! ```
//!
//! - **I1** A bit is 1 exactly while one caller has the number.
//! - **I2** Who sets a bit (Acquire) sees what was done by who cleared it (Release).
//!
//! Cost: one word for 64 numbers; a number is one exchange.
#![forbid(unsafe_code)]

use terrace_sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 4;

/// Numbers from 1 to [`MOST`](Self::MOST): bit `n - 1`.
pub(crate) struct Numbers {
    words: [AtomicU64; WORDS],
}

impl Numbers {
    /// The largest number there can be.
    pub(crate) const MOST: usize = WORDS * 64;

    terrace_sync::const_fn! {
        /// None is taken.
        pub(crate) const fn new() -> Self {
            Self { words: terrace_sync::repeat!(AtomicU64::new(0); WORDS) }
        }
    }

    /// Takes the lowest number of the first `count` that nobody has.
    pub(crate) fn take_lowest(&self, count: usize) -> Option<usize> {
        for (index, word) in self.words.iter().enumerate() {
            let fitting = count.saturating_sub(index * 64).min(64);
            let mask = if fitting == 64 { u64::MAX } else { (1 << fitting) - 1 };
            let mut taken = word.load(Ordering::Relaxed);
            while !taken & mask != 0 {
                let bit = (!taken & mask).trailing_zeros();
                // Acquire: I2.
                match word.compare_exchange_weak(taken, taken | 1 << bit, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(index * 64 + bit as usize + 1),
                    Err(now) => taken = now,
                }
            }
        }
        None
    }

    /// Takes `number`. `false`: somebody has it, or there is no such number.
    pub(crate) fn take(&self, number: usize) -> bool {
        self.place(number).is_some_and(|(word, bit)| {
            word.fetch_or(bit, Ordering::Acquire) & bit == 0 // Acquire: I2.
        })
    }

    /// Gives back a number that the caller has.
    pub(crate) fn give_back(&self, number: usize) {
        if let Some((word, bit)) = self.place(number) {
            word.fetch_and(!bit, Ordering::Release); // Release: I2.
        }
    }

    fn place(&self, number: usize) -> Option<(&AtomicU64, u64)> {
        let index = number.checked_sub(1)?;
        Some((self.words.get(index / 64)?, 1 << (index % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn as_many_are_given_as_there_are_and_no_more() {
        for count in 0..=Numbers::MOST {
            let numbers = Numbers::new();
            (1..=count).for_each(|number| assert_eq!(numbers.take_lowest(count), Some(number)));
            assert_eq!(numbers.take_lowest(count), None);
        }
        assert_eq!(Numbers::new().take_lowest(usize::MAX), Some(1));
    }

    #[test]
    fn a_number_that_is_none_is_not_taken() {
        let numbers = Numbers::new();
        for number in [0, Numbers::MOST + 1, usize::MAX] {
            assert!(!numbers.take(number));
            numbers.give_back(number);
        }
        assert!(numbers.take(Numbers::MOST));
    }

    proptest! {
        #[test]
        fn the_lowest_free_number_is_taken(ops in proptest::collection::vec((0u8..3, 1usize..=256), 1..200), count in 1usize..=256) {
            let (numbers, mut taken) = (Numbers::new(), BTreeSet::new());
            for (op, number) in ops {
                match op {
                    0 => {
                        let lowest = (1..=count).find(|number| !taken.contains(number));
                        prop_assert_eq!(numbers.take_lowest(count), lowest);
                        taken.extend(lowest);
                    }
                    1 => prop_assert_eq!(numbers.take(number), taken.insert(number)),
                    _ => {
                        taken.remove(&number);
                        numbers.give_back(number);
                    }
                }
            }
        }
    }
}
