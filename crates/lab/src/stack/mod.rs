//! The stack of allocators as an expression: `smp(page)`, `buffer_first(64KiB, arena(page))`, `system`.
//!
//! ```text
//! text ──parse──▶ Stack ──Display──▶ the same text, spelled one way
//!                   │
//!                   └──▶ crate::replay::dispatch makes the allocator
//! ```
//!
//! - **I1** Printing a `Stack` and parsing what was printed gives an equal `Stack`.
//! - **I2** No text makes the parser panic or recurse deeper than [`MAX_DEPTH`].
#![forbid(unsafe_code)]

pub mod combined;
pub mod frames;
mod parse;
mod suggest;

use std::fmt::{self, Write};

use combined::Combined;
use frames::RegionWord;
pub use parse::{ParseError, parse_size};

/// Layers that may stand on one another in one expression; deeper is a mistake or an attack.
pub const MAX_DEPTH: usize = 32;

/// Allocators that stand on one another, the outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// `page`: the operating system's pages.
    Page,
    /// `system`: the C library's malloc.
    System,
    /// `mimalloc`: a peer, there when the lab was built with the feature of that name.
    Mimalloc,
    /// A name of [`terrace::manager::register`]: an allocator of the program that the lab is part of.
    Plugin(&'static str),
    /// `smp(backing)`: the general-purpose allocator.
    Smp(Box<Stack>),
    /// `debug(backing)`: finds mistakes in the calls that the trace makes, and in the backing's answers.
    Debug(Box<Stack>),
    /// `arena(backing)`.
    Arena(Box<Stack>),
    /// `sync_arena(backing)`: an arena for many threads.
    SyncArena(Box<Stack>),
    /// `stack(backing)`: last in, first out.
    Lifo(Box<Stack>),
    /// `fixed(SIZE)`: one buffer of so many bytes.
    Fixed(u64),
    /// `buffer_first(SIZE, backing)`: a buffer of so many bytes, and `backing` for what does not fit.
    BufferFirst(u64, Box<Stack>),
    /// `pool(SIZE, backing)`: items of so many bytes, for blocks of at most that length.
    Pool(u64, Box<Stack>),
    /// `region(SIZE, FRAMES)`: so many bytes of pages, cut into frames.
    Region(u64, RegionWord),
    /// Any combinator.
    Combined(Combined),
}

/// `smp` asks its backing for pieces of this size, aligned to it,
const SMP_PIECE: u64 = terrace_heap::smp::REGION as u64;
/// so that a buffer that lies anywhere must be twice as large to hold one.
const SMP_BUFFER_MIN: u64 = 2 * SMP_PIECE;

impl Stack {
    /// The stack that `text` writes.
    ///
    /// # Errors
    /// Where `text` is no stack; the error shows the character and what was expected there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// Whether many threads may call it at once: what `Sync` says of its Rust type.
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Page | Self::System | Self::Mimalloc | Self::Plugin(_) | Self::Region(..) => true,
            Self::Smp(backing) | Self::Debug(backing) | Self::SyncArena(backing) => backing.is_shared(),
            Self::Arena(_) | Self::Lifo(_) | Self::Fixed(_) | Self::BufferFirst(..) | Self::Pool(..) => false,
            Self::Combined(combined) => combined.is_shared(),
        }
    }

    /// The length of the longest block, where it is a pool.
    pub fn item_len(&self) -> Option<u64> {
        match self {
            // An item that is free holds a pointer.
            Self::Pool(size, _) => Some((*size).max(size_of::<usize>() as u64)),
            Self::Combined(combined) => combined.item_len(),
            _ => None,
        }
    }

    /// The layer for whose sake `smp` on this stack could serve nothing, and the bytes that it would have to have.
    pub fn too_small_for_smp(&self) -> Option<(&Self, u64)> {
        self.too_small_for(SMP_BUFFER_MIN)
    }

    pub fn too_small_for(&self, bytes: u64) -> Option<(&Self, u64)> {
        match self {
            Self::Page | Self::System | Self::Mimalloc | Self::Plugin(_) => None,
            Self::Smp(backing) | Self::Arena(backing) | Self::SyncArena(backing) | Self::Lifo(backing) => {
                backing.too_small_for(bytes)
            }
            // What stands before a block is as long as its alignment is strict.
            Self::Debug(backing) => backing.too_small_for(bytes.saturating_mul(2)),
            Self::Fixed(size) => (*size < bytes).then_some((self, bytes)),
            Self::Region(size, frames) => {
                let bytes = bytes.saturating_mul(frames.parts());
                (*size < bytes).then_some((self, bytes))
            }
            Self::BufferFirst(size, backing) => {
                if *size < bytes {
                    backing.too_small_for(bytes)
                } else {
                    None
                }
            }
            Self::Pool(..) => Some((self, bytes)),
            Self::Combined(combined) => combined.too_small_for(self, bytes),
        }
    }

    /// The layer for whose sake it cannot tell its own blocks from those of others, as the first side of a fallback must.
    pub fn stranger(&self) -> Option<&Self> {
        match self {
            Self::Page | Self::System | Self::Mimalloc | Self::Plugin(_) => Some(self),
            Self::BufferFirst(_, backing) | Self::Debug(backing) => backing.stranger(),
            Self::Combined(combined) => combined.parts().into_iter().find_map(Self::stranger),
            _ => None,
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page => f.write_str("page"),
            Self::System => f.write_str("system"),
            Self::Mimalloc => f.write_str("mimalloc"),
            Self::Plugin(name) => f.write_str(name),
            Self::Smp(backing) => write!(f, "smp({backing})"),
            Self::Debug(backing) => write!(f, "debug({backing})"),
            Self::Arena(backing) => write!(f, "arena({backing})"),
            Self::SyncArena(backing) => write!(f, "sync_arena({backing})"),
            Self::Lifo(backing) => write!(f, "stack({backing})"),
            Self::Fixed(bytes) => write!(f, "fixed({})", Size(*bytes)),
            Self::BufferFirst(bytes, backing) => write!(f, "buffer_first({}, {backing})", Size(*bytes)),
            Self::Pool(bytes, backing) => write!(f, "pool({}, {backing})", Size(*bytes)),
            Self::Region(bytes, frames) => write!(f, "region({}, {frames})", Size(*bytes)),
            Self::Combined(combined) => combined.fmt(f),
        }
    }
}

/// A number of bytes, printed in the largest unit that divides it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The units of a SIZE, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// How each word is written, and what it means.
const WORDS: [(&str, &str); 12] = [
    ("page", "the operating system's pages, one mapping a block"),
    ("system", "the C library's malloc"),
    ("smp(STACK)", "the general-purpose allocator of Terrace, for any threads"),
    ("debug(STACK)", "finds mistakes: double frees, wrong lengths, writes past an end"),
    ("arena(STACK)", "blocks side by side in big pieces, given back at the end"),
    ("sync_arena(STACK)", "the same for threads that share it"),
    ("stack(STACK)", "last in, first out"),
    ("fixed(SIZE)", "one buffer of SIZE bytes, for instance fixed(64KiB)"),
    ("buffer_first(SIZE, STACK)", "one buffer, and STACK for what does not fit"),
    ("pool(SIZE, STACK)", "items of SIZE bytes, for blocks of at most that length"),
    (
        "region(SIZE, FRAMES)",
        "SIZE bytes in frames of 4KiB; FRAMES: bitmap, buddy, classic, hybrid, zones(hybrid), \
         numa(hybrid), numa(hybrid, interleave), numa(hybrid, weighted(3, 1))",
    ),
    ("mimalloc", "the peer of that name (build with --features mimalloc)"),
];

/// The words, one a line, for the help and the errors.
pub fn words() -> String {
    let plugins = plugins().into_iter().map(|name| (name, "registered by this program"));
    all_words().copied().chain(plugins).fold(String::new(), |mut text, (word, meaning)| {
        let _ = write!(text, "\n  {word:<29} {meaning}");
        text
    })
}

fn all_words() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    WORDS.iter().chain(&combined::WORDS)
}

/// The names that the program has registered.
fn plugins() -> Vec<&'static str> {
    terrace::manager::names()
}

/// Whether a word already means something, so that no plug-in can have it.
pub fn is_taken(name: &str) -> bool {
    parse::PEERS.contains(&name) || parse::names_frames(name) || all_words().any(|(word, _)| word_of(word) == name)
}

/// `smp` of `smp(STACK)`.
fn word_of(written: &str) -> &str {
    written.split_once('(').map_or(written, |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::{combined::Layer, frames::Spread, *};
    use proptest::prelude::*;

    fn any_stack() -> impl Strategy<Value = Stack> {
        let size = prop_oneof![1..=u64::MAX, (1u64..1 << 30).prop_map(|n| n << 10), Just(1u64 << 63)];
        let mut leaves =
            vec![Just(Stack::Page).boxed(), Just(Stack::System).boxed(), size.prop_map(Stack::Fixed).boxed()];
        let words = frames::FRAME_WORDS.map(|(_, word, _)| RegionWord::Frames(word));
        let spreads = [Spread::Local, Spread::Interleave, Spread::Weighted([3, 255])].map(RegionWord::Numa);
        let words = [&words[..], &spreads, &[RegionWord::Zones]].concat();
        let region = (1u64..1 << 27, proptest::sample::select(words))
            .prop_map(|(count, word)| Stack::Region(count * frames::FRAME, word));
        leaves.push(region.boxed());
        if cfg!(feature = "mimalloc") {
            leaves.push(Just(Stack::Mimalloc).boxed());
        }
        let leaf = proptest::strategy::Union::new(leaves);
        leaf.prop_recursive(8, 8, 1, |inner| {
            (inner.clone(), inner, 0..12, 1..=u64::MAX, 0usize..8).prop_map(|(stack, other, layer, size, which)| {
                let sized = [Layer::Limit(size), Layer::FreeList(size), Layer::Pressure(size)][which % 3];
                let plain = [Layer::Lock, Layer::Stats, Layer::Affix, Layer::Zeroed][which % 4];
                let (backing, other) = (Box::new(stack), Box::new(other));
                match layer {
                    0 if backing.too_small_for_smp().is_none() => Stack::Smp(backing),
                    0 | 1 => Stack::Arena(backing),
                    2 => Stack::SyncArena(backing),
                    3 => Stack::Lifo(backing),
                    4 => Stack::BufferFirst(size, backing),
                    5 => Stack::Combined(Combined::Layer(sized, backing)),
                    6 => Stack::Combined(Combined::Layer(plain, backing)),
                    10 => Stack::Combined(Combined::Bucketize(size, vec![*backing, *other])),
                    11 => Stack::Debug(backing),
                    7 if backing.stranger().is_none() => Stack::Combined(Combined::Fallback(backing, other)),
                    7 | 8 => Stack::Combined(Combined::Segregate(size, backing, other)),
                    _ => Stack::Pool(size, backing),
                }
            })
        })
    }

    #[test]
    fn threads_share_what_has_no_layer_of_one_thread() {
        for (text, shared) in [
            ("smp(page)", true),
            ("smp(sync_arena(system))", true),
            ("smp(arena(page))", false),
            ("debug(smp(page))", true),
            ("debug(arena(page))", false),
            ("sync_arena(fixed(64KiB))", false),
            ("smp(region(64MiB, hybrid))", true),
            ("arena(region(64MiB, hybrid))", false),
            ("smp(region(64MiB, numa(hybrid)))", true),
            ("region(64MiB, numa(hybrid, interleave))", true),
            ("region(64MiB, zones(hybrid))", true),
            ("stack(page)", false),
            ("pool(64, page)", false),
            ("buffer_first(64KiB, smp(page))", false),
            ("lock(arena(page))", true),
            ("free_list(64, page)", false),
            ("limit(1MiB, arena(page))", false),
            ("limit(1MiB, lock(arena(page)))", true),
            ("fallback(smp(page), page)", true),
            ("fallback(arena(page), page)", false),
            ("segregate(64, page, lock(pool(64, page)))", true),
            ("segregate(64, page, pool(64, page))", false),
            ("bucketize(64, page, page)", true),
            ("bucketize(64, page, arena(page))", false),
        ] {
            assert_eq!(Stack::parse(text).unwrap().is_shared(), shared, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_stack(stack in any_stack()) {
            prop_assert_eq!(Stack::parse(&stack.to_string()).unwrap(), stack);
        }

        #[test]
        fn spaces_are_free(stack in any_stack(), spaces in proptest::collection::vec(0usize..3, 64)) {
            let mut gaps = spaces.into_iter().cycle();
            let spaced = stack.to_string().replace('(', " ( ").replace(',', " ,").replace(')', &format!("{})", " ".repeat(gaps.next().unwrap())));
            prop_assert_eq!(Stack::parse(&format!("  {spaced}\t")).unwrap(), stack);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            if let Err(error) = Stack::parse(&text) {
                let _ = error.to_string();
            }
        }

        #[test]
        fn no_text_of_its_own_letters_makes_the_parser_panic(text in "[a-ik-z0-9KMGiB(),_ é]{0,60}") {
            if let Err(error) = Stack::parse(&text) {
                let _ = error.to_string();
            }
        }
    }
}
