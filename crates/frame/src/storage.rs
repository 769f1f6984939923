//! [`Storage`]: the words in which an allocator keeps its notes, a caller's slice or a block of a backing.
//!
//! ```text
//!  the caller's words     [ … │ the allocator's, from a cache line on, all zero at first │ … ]
//!  a backing's block      [     the same, exactly                                         ]   goes back when dropped
//! ```
//!
//! - **S1** `words` is reached through this value alone, from its making until it is dropped, by atomic operations
//!   only.
//! - **S2** `taken` is a block of its backing, with the length and alignment that it was asked for; it goes back once.
//!
//! Cost: none while the allocator works.

use core::{fmt, num::NonZeroUsize, ptr::NonNull, slice};

use terrace_core::{Alignment, Allocator};

use crate::{atomic::AtomicU64, plan::LINE, types::FrameError};

/// Words of metadata.
pub(crate) struct Storage<'m, B> {
    words: &'m [AtomicU64],
    taken: Option<Taken<'m, B>>,
}

/// A block of a backing, and how it goes back.
struct Taken<'m, B> {
    backing: &'m B,
    memory: NonNull<[u8]>,
    free: unsafe fn(&B, NonNull<[u8]>),
}

// SAFETY: by S1 the memory is this value's alone; a backing that is `Sync` may be reached from another thread.
unsafe impl<B: Sync> Send for Storage<'_, B> {}
// SAFETY: a shared reference reaches atomics only; the backing is reached in `drop`, by the owner.
unsafe impl<B: Sync> Sync for Storage<'_, B> {}

/// A cache line of words.
#[repr(C, align(64))]
struct Line([u64; LINE]);

impl<'m, B> Storage<'m, B> {
    /// `count` words of a caller's, from a cache line on.
    pub(crate) fn of_slice(words: &'m mut [u64], count: usize) -> Result<Self, FrameError> {
        // SAFETY: a line is eight words, and any of them are a line.
        let (_, lines, _) = unsafe { words.align_to_mut::<Line>() };
        let lines = lines.get_mut(..count.div_ceil(LINE)).ok_or(FrameError::InvalidSize)?;
        lines.iter_mut().for_each(|line| line.0 = [0; LINE]);
        let atomics = core::ptr::from_mut(lines).cast::<AtomicU64>();
        // SAFETY: an `AtomicU64` has the size and the bits of a `u64`, and lines are aligned to more than it needs;
        // `count` of them lie in the lines, which are this function's alone for 'm (S1).
        Ok(Self { words: unsafe { slice::from_raw_parts(atomics, count) }, taken: None })
    }

    /// `count` words of a backing's.
    pub(crate) fn of_backing(backing: &'m B, count: usize) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        let bytes = count.checked_mul(8).and_then(NonZeroUsize::new).ok_or(FrameError::InvalidSize)?;
        let start = backing.alloc_zeroed(bytes, Alignment::of::<Line>()).map_err(|_| FrameError::OutOfMemory)?;
        // SAFETY: a live block of `count` zeroed words, which only this value reaches until it gives it back (S1, S2).
        let words = unsafe { slice::from_raw_parts(start.cast::<AtomicU64>().as_ptr(), count) };
        let memory = NonNull::slice_from_raw_parts(start, bytes.get());
        // SAFETY: the caller's promise: a block of `of_backing`, not used again.
        let free = |backing: &B, memory: NonNull<[u8]>| unsafe { backing.free(memory, Alignment::of::<Line>()) };
        Ok(Self { words, taken: Some(Taken { backing, memory, free }) })
    }

    /// The words, for as long as this value is kept beside what is made of them.
    pub(crate) fn words(&self) -> &'m [AtomicU64] {
        self.words
    }
}

impl<B> Drop for Storage<'_, B> {
    fn drop(&mut self) {
        if let Some(Taken { backing, memory, free }) = self.taken.take() {
            // SAFETY: by S2; what was made of the words is dropped with the allocator that holds both, and lends them
            // to nobody.
            unsafe { free(backing, memory) };
        }
    }
}

impl<B> fmt::Debug for Storage<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} words)", self.words.len())
    }
}
