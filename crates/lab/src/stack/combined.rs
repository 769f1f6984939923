//! [`Combined`]: the words for layers that stand between others: limits, locks, and who serves what.
//!
//! ```text
//! lock(a)   stats(a)   affix(a)   zeroed(a)                     one backing
//! limit(SIZE, a)   free_list(SIZE, a)   pressure(SIZE, a)       one backing, and a size
//! fallback(a, b)   segregate(SIZE, a, b)                        two sides
//! bucketize(SIZE, a, b, …)                                      up to eight
//! ```
//!
//! What each does stands in the documentation of `terrace-heap`. Two combinators have no word: `OnOomAllocator`, whose
//! hook frees what only a program knows, and `Compressed`, which hands out handles in place of blocks.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Size, Stack};

/// A combinator and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// One that stands on a single backing.
    Layer(Layer, Box<Stack>),
    /// `fallback(first, second)`: the second serves what the first refuses.
    Fallback(Box<Stack>, Box<Stack>),
    /// `segregate(SIZE, small, large)`: blocks of at most so many bytes from the first, longer ones from the second.
    Segregate(u64, Box<Stack>, Box<Stack>),
    /// `bucketize(SIZE, …)`: blocks of at most so many bytes from the first, of at most twice as many from the second, …
    Bucketize(u64, Vec<Stack>),
}

/// As many stacks as `bucketize` takes: each number of buckets is a type of its own.
pub const MAX_BUCKETS: usize = 8;

/// A combinator of one backing, with its size where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// `limit(SIZE, backing)`: at most so many bytes live.
    Limit(u64),
    /// `free_list(SIZE, backing)`: keeps freed blocks of at most so many bytes.
    FreeList(u64),
    /// `pressure(SIZE, backing)`: watches whether more than so many bytes are live.
    Pressure(u64),
    /// `lock(backing)`: one thread at a time.
    Lock,
    /// `affix(backing)`: a word before and a word behind each block.
    Affix,
    /// `zeroed(backing)`: every block is zero.
    Zeroed,
    /// `stats(backing)`: counts, by size and by place too.
    Stats,
}

/// How each word is written, and what it means.
pub const WORDS: [(&str, &str); 10] = [
    ("limit(SIZE, STACK)", "no more than SIZE bytes live at once"),
    ("free_list(SIZE, STACK)", "keeps up to 1024 freed blocks of at most SIZE bytes"),
    ("pressure(SIZE, STACK)", "tells when more than SIZE bytes are live"),
    ("lock(STACK)", "STACK for any threads, one at a time"),
    ("affix(STACK)", "eight bytes before and eight behind each block"),
    ("zeroed(STACK)", "every block is zero"),
    ("stats(STACK)", "counts what goes through it, by size and by place too"),
    ("fallback(STACK, STACK)", "the first, and the second for what it refuses"),
    ("segregate(SIZE, STACK, STACK)", "blocks up to SIZE from the first, longer ones from the second"),
    ("bucketize(SIZE, STACK, …)", "blocks up to SIZE from the first, up to twice SIZE from the second, …"),
];

impl Layer {
    /// The layer of that name, of `size` bytes where it has a size.
    pub fn named(word: &str, size: u64) -> Option<Self> {
        Some(match word {
            "limit" => Self::Limit(size),
            "free_list" => Self::FreeList(size),
            "lock" => Self::Lock,
            "affix" => Self::Affix,
            "pressure" => Self::Pressure(size),
            "zeroed" => Self::Zeroed,
            "stats" => Self::Stats,
            _ => return None,
        })
    }

    /// Its word, and its size where it has one.
    pub fn word(self) -> (&'static str, Option<u64>) {
        match self {
            Self::Limit(size) => ("limit", Some(size)),
            Self::FreeList(size) => ("free_list", Some(size)),
            Self::Lock => ("lock", None),
            Self::Affix => ("affix", None),
            Self::Pressure(size) => ("pressure", Some(size)),
            Self::Zeroed => ("zeroed", None),
            Self::Stats => ("stats", None),
        }
    }
}

impl Combined {
    /// All that it stands on, in the order in which it is written.
    pub fn parts(&self) -> Vec<&Stack> {
        match self {
            Self::Layer(_, backing) => vec![backing],
            Self::Fallback(one, two) | Self::Segregate(_, one, two) => vec![one, two],
            Self::Bucketize(_, buckets) => buckets.iter().collect(),
        }
    }

    /// Whether many threads may call it at once.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Layer(Layer::Lock, _) => true,
            Self::Layer(Layer::FreeList(_), _) => false,
            _ => self.parts().into_iter().all(Stack::is_shared),
        }
    }

    /// The length of the longest block, where that has a bound that no backing lifts.
    pub fn item_len(&self) -> Option<u64> {
        match self {
            Self::Layer(_, backing) => backing.item_len(),
            Self::Fallback(one, two) => Some(one.item_len()?.max(two.item_len()?)),
            Self::Segregate(_, _, large) => large.item_len(),
            Self::Bucketize(step, buckets) => Some(step.saturating_mul(buckets.len() as u64)),
        }
    }

    /// As [`Stack::too_small_for`]; `whole` is this as a stack.
    pub fn too_small_for<'a>(&'a self, whole: &'a Stack, bytes: u64) -> Option<(&'a Stack, u64)> {
        // A buffer has to have twice the request, wherever it lies; what counts lengths sees the request alone.
        let request = bytes / 2;
        match self {
            Self::Layer(Layer::Limit(size), _) if *size < request => Some((whole, request)),
            Self::Layer(_, backing) => backing.too_small_for(bytes),
            Self::Fallback(one, two) => one.too_small_for(bytes).and(two.too_small_for(bytes)),
            Self::Bucketize(step, buckets) => {
                match buckets.get(request.saturating_sub(1).checked_div(*step).unwrap_or(0) as usize) {
                    Some(bucket) => bucket.too_small_for(bytes),
                    None => Some((whole, bytes)),
                }
            }
            Self::Segregate(size, small, large) => {
                if *size < request {
                    large.too_small_for(bytes)
                } else {
                    small.too_small_for(bytes)
                }
            }
        }
    }
}

impl fmt::Display for Combined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(layer, backing) => match layer.word() {
                (word, Some(bytes)) => write!(f, "{word}({}, {backing})", Size(bytes)),
                (word, None) => write!(f, "{word}({backing})"),
            },
            Self::Fallback(first, second) => write!(f, "fallback({first}, {second})"),
            Self::Segregate(bytes, small, large) => write!(f, "segregate({}, {small}, {large})", Size(*bytes)),
            Self::Bucketize(step, buckets) => {
                write!(f, "bucketize({}", Size(*step))?;
                buckets.iter().try_for_each(|bucket| write!(f, ", {bucket}"))?;
                f.write_str(")")
            }
        }
    }
}
