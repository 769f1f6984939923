//! What a trace says happened: one [`Event`] for each call that the recorded program made.
//!
//! Blocks have names, not addresses: a [`BlockId`] is a small slot number, taken when the block is
//! made and given back when it ends, so that a replayer's table is as large as the peak of live
//! blocks. Threads are numbered in order of appearance. The order of events is the recorded order
//! over all threads.
#![forbid(unsafe_code)]

/// A block's name: a slot number, reused once the block has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// A thread's name: 0 for the first that appears, then 1, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

/// One call, in the recorded order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who called.
    pub thread: ThreadId,
    /// What was called.
    pub op: Op,
}

/// What a call did. Lengths are the requested bytes, alignments base-2 logarithms (0 to 63).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new block. Where `block` is still live, the older block of that name ends unseen (an overlap).
    Alloc {
        /// Its name: that of an ended block, or the next number never used so far.
        block: BlockId,
        /// Bytes asked for.
        len: u64,
        /// The alignment asked for; without a wish, what the call always keeps (16 bytes for `malloc`).
        align_log2: u8,
        /// Which call made it.
        kind: AllocKind,
    },
    /// An existing block gets another length and perhaps another address; its name stays.
    Realloc {
        /// A live block.
        block: BlockId,
        /// Bytes asked for.
        len: u64,
        /// Whether the address changed.
        moved: bool,
    },
    /// A block ends.
    Free {
        /// A live block.
        block: BlockId,
        /// Which call ended it.
        kind: FreeKind,
    },
    /// The next `count` events of this thread are frees of kind [`FreeKind::Bulk`]: one reset.
    BulkFree {
        /// How many blocks end.
        count: u32,
    },
    /// A thread appears.
    ThreadStart,
    /// A thread ends.
    ThreadEnd,
    /// The program entered another phase; labels stand in the header.
    Mark {
        /// The label's place in the header's list, from 0.
        label: u32,
    },
    /// A call that changed nothing.
    Nothing(Nothing),
}

/// Which call made a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocKind {
    /// `malloc`, `alloc`.
    Plain,
    /// `calloc`, `alloc_zeroed`.
    Zeroed,
    /// `memalign` and its kin: the alignment was the caller's wish.
    Aligned,
    /// `realloc` of a null pointer.
    FromRealloc,
}

/// Which call ended a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeKind {
    /// `free`.
    Plain,
    /// `realloc` to size 0.
    FromRealloc,
    /// One of many that a reset ended together.
    Bulk,
    /// No call: a realloc, the next event, was given this block's address although the block was live.
    Overlap,
}

/// Calls that changed nothing, kept because a program that makes them spends time on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// `free(NULL)`.
    FreeNull,
    /// A free of a block that this trace never saw or that had ended.
    FreeUnknown,
    /// A realloc of such a block, or of null, to size 0 that gave nothing back either.
    ReallocUnknown,
    /// An allocation that was refused, or a realloc that left the old block as it was.
    Failed {
        /// Which call was refused; for a realloc, of null or not, [`AllocKind::FromRealloc`].
        kind: AllocKind,
        /// Bytes asked for.
        len: u64,
    },
}
