//! [`Combined`]: the words for layers that stand between others: limits, locks, and who serves what.
//!
//! ```text
//! limit(SIZE, a)   lock(a)   stats(a)            one backing
//! fallback(a, b)   segregate(SIZE, a, b)         two sides
//! ```
//!
//! What each does stands in the documentation of `terrace-heap`. Two combinators have no word: `on_oom`, whose hook
//! frees what only a program knows, and `compressed`, which hands out handles in place of blocks.
#![forbid(unsafe_code)]

use std::fmt;

use super::{SMP_PIECE, Size, Stack};

/// A combinator and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// `limit(SIZE, backing)`: at most so many bytes live.
    Limit(u64, Box<Stack>),
    /// `lock(backing)`: one thread at a time.
    Lock(Box<Stack>),
    /// `stats(backing)`: counts, by size and by place too.
    Stats(Box<Stack>),
    /// `fallback(first, second)`: the second serves what the first refuses.
    Fallback(Box<Stack>, Box<Stack>),
    /// `segregate(SIZE, small, large)`: blocks of at most so many bytes from the first, longer ones from the second.
    Segregate(u64, Box<Stack>, Box<Stack>),
}

/// How each word is written, and what it means.
pub const WORDS: [(&str, &str); 5] = [
    ("limit(SIZE, STACK)", "no more than SIZE bytes live at once"),
    ("lock(STACK)", "STACK for any threads, one at a time"),
    ("stats(STACK)", "counts what goes through it, by size and by place too"),
    ("fallback(STACK, STACK)", "the first, and the second for what it refuses"),
    ("segregate(SIZE, STACK, STACK)", "blocks up to SIZE from the first, longer ones from the second"),
];

impl Combined {
    /// All that it stands on, in the order in which it is written.
    pub fn parts(&self) -> Vec<&Stack> {
        match self {
            Self::Limit(_, backing) | Self::Lock(backing) | Self::Stats(backing) => vec![backing],
            Self::Fallback(one, two) | Self::Segregate(_, one, two) => vec![one, two],
        }
    }

    /// Whether many threads may call it at once.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Lock(_) => true,
            _ => self.parts().into_iter().all(Stack::is_shared),
        }
    }

    /// The length of the longest block, where that has a bound that no backing lifts.
    pub fn item_len(&self) -> Option<u64> {
        match self {
            Self::Limit(_, backing) | Self::Lock(backing) | Self::Stats(backing) => backing.item_len(),
            Self::Fallback(one, two) => Some(one.item_len()?.max(two.item_len()?)),
            Self::Segregate(_, _, large) => large.item_len(),
        }
    }

    /// As [`Stack::too_small_for_smp`]; `whole` is this as a stack.
    pub fn too_small_for_smp<'a>(&'a self, whole: &'a Stack) -> Option<&'a Stack> {
        match self {
            Self::Limit(size, _) if *size < SMP_PIECE => Some(whole),
            Self::Limit(_, backing) | Self::Lock(backing) | Self::Stats(backing) => backing.too_small_for_smp(),
            Self::Fallback(one, two) => one.too_small_for_smp().and(two.too_small_for_smp()),
            Self::Segregate(size, small, large) => {
                if *size < SMP_PIECE {
                    large.too_small_for_smp()
                } else {
                    small.too_small_for_smp()
                }
            }
        }
    }
}

impl fmt::Display for Combined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(bytes, backing) => write!(f, "limit({}, {backing})", Size(*bytes)),
            Self::Lock(backing) => write!(f, "lock({backing})"),
            Self::Stats(backing) => write!(f, "stats({backing})"),
            Self::Fallback(first, second) => write!(f, "fallback({first}, {second})"),
            Self::Segregate(bytes, small, large) => write!(f, "segregate({}, {small}, {large})", Size(*bytes)),
        }
    }
}
