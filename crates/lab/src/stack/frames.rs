//! [`FrameWord`]: the words for allocators of frames, which `region(SIZE, FRAMES)` makes bytes of, and `lab frames` asks for frames.
//!
//! ```text
//! region(1GiB, hybrid)         1 GiB of pages, cut into frames, handed out as bytes
//! region(1GiB, numa(hybrid))   the same as two simulated nodes, or with zones(hybrid) as zones: a [`RegionWord`]
//! region(1GiB, numa(hybrid, weighted(3, 1)))   three runs of the first node, one of the second: a [`Spread`]
//! ```
#![forbid(unsafe_code)]

use std::fmt;

/// Bytes of a frame: the sizes of regions are multiples of it.
pub const FRAME: u64 = terrace_frame::FRAME_BYTES;

/// An allocator of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameWord {
    /// A bit for each frame, first fit.
    Bitmap,
    /// Powers of two, without lists.
    Buddy,
    /// Powers of two, by lists and a lock for each.
    Classic,
    /// The bitmap below 512 frames, the buddy from there on, a slot for each thread.
    Hybrid,
}

/// What manages the frames of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionWord {
    /// One allocator over all of them.
    Frames(FrameWord),
    /// `numa(hybrid)`: two simulated nodes, a half each; threads stand on one or the other by their number.
    Numa(Spread),
    /// `zones(hybrid)`: a sixteenth, in whole 4 MiB, is DMA, the rest Normal, with watermarks.
    Zones,
}

/// Which of two nodes a block comes from, while both have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The thread's.
    Local,
    /// `interleave`: one and the other in turn, whoever asks.
    Interleave,
    /// `weighted(N, M)`: so many in turn of the first and of the second, 1 to 255 each.
    Weighted([u8; 2]),
}

/// What may stand behind `numa(hybrid`, as it is written.
pub const SPREADS: [&str; 2] = ["interleave", "weighted(3, 1)"];

impl RegionWord {
    /// Blocks are at most one such part of the region.
    pub fn parts(self) -> u64 {
        match self {
            Self::Frames(_) => 1,
            Self::Numa(_) | Self::Zones => 2,
        }
    }
}

impl fmt::Display for RegionWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(frames) => frames.fmt(f),
            Self::Numa(Spread::Local) => f.write_str("numa(hybrid)"),
            Self::Numa(Spread::Interleave) => f.write_str("numa(hybrid, interleave)"),
            Self::Numa(Spread::Weighted([first, second])) => write!(f, "numa(hybrid, weighted({first}, {second}))"),
            Self::Zones => f.write_str("zones(hybrid)"),
        }
    }
}

/// All of them, and what each means.
pub const FRAME_WORDS: [(&str, FrameWord, &str); 4] = [
    ("bitmap", FrameWord::Bitmap, "a bit for each frame, first fit, any count"),
    ("buddy", FrameWord::Buddy, "powers of two, lock-free, other counts with the tail given back"),
    ("classic", FrameWord::Classic, "powers of two by lists, a lock for each order"),
    ("hybrid", FrameWord::Hybrid, "bitmap below 512 frames, buddy from there on, a slot for each thread"),
];

/// The classic one's links reach so far.
pub const CLASSIC_FRAMES: u64 = (1 << 28) - 2;

impl FrameWord {
    /// The one of that name.
    pub fn named(word: &str) -> Option<Self> {
        FRAME_WORDS.iter().find(|(name, ..)| *name == word).map(|(_, frames, _)| *frames)
    }

    /// The names, as a sentence lists them.
    pub fn list() -> String {
        let [first @ .., last] = FRAME_WORDS.map(|(name, ..)| name);
        format!("{} and {last}", first.join(", "))
    }
}

impl fmt::Display for FrameWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = FRAME_WORDS.iter().find(|(_, frames, _)| frames == self);
        f.write_str(known.map_or("hybrid", |(name, ..)| name))
    }
}
