//! How many words a block has. The models in `tests/loom_*.rs` compile the other files with less.
#![forbid(unsafe_code)]

/// The logarithm of the words in a block: 8 words, a cache line, 512 frames, 2 MiB.
pub(crate) const WORDS_ORDER: u32 = 3;
