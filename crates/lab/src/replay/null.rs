//! [`Null`]: no allocator at all. What a replay over it costs is the replayer's own cost.
//!
//! ```text
//! one mapping, never unmapped
//! | lane of thread 0        | lane of thread 1        | …
//! | WINDOW | longest block  | WINDOW | longest block  |
//!   ^ blocks begin here, round and round: the touch writes hit warm memory
//! ```
//!
//! A block is the next piece of the thread's window, which is small enough to stay in the cache, so
//! that the writes of the touch policy cost what they cost at best. What a real stack takes
//! longer, by its own work, by page faults and by cache misses of where it put the blocks, is its own.
//! A lane for each thread, so that no two threads write one cache line, which no stack would make them do.
//!
//! - **N1** Lane `i` ends where lane `i + 1` begins, and has `WINDOW + min(longest block of thread i, TOUCH_MAX)` bytes.
//! - **N2** A thread that has entered is handed addresses inside the first `WINDOW` bytes of its own lane alone.
//!
//! Cost: about a nanosecond a block; it never refuses.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, Allocator};
use terrace_sys::PageAllocator;

use super::{target::Target, touch::TOUCH_MAX};

/// One page: warm in the nearest cache after the first turn, as the memory of a good allocator may be.
const WINDOW: usize = 4 << 10;
/// Blocks begin at multiples of this, as malloc's do.
const STEP: usize = 16;
/// No more than this is written in advance.
const WARM_MAX: usize = 256 << 20;

thread_local! {
    /// The begin of this thread's lane and the offset of its next block.
    static LANE: Cell<(*mut u8, usize)> = const { Cell::new((ptr::null_mut(), 0)) };
}

/// Hands out memory that is not meant to be kept.
pub struct Null {
    lanes: Vec<NonNull<u8>>,
}

// SAFETY: the addresses are only handed to the threads that they belong to (N2).
unsafe impl Sync for Null {}
// SAFETY: as above.
unsafe impl Send for Null {}

impl Null {
    /// Lanes for threads whose longest blocks are so long.
    ///
    /// # Errors
    /// Where the machine has no room for them.
    pub fn new(longest: &[u64]) -> anyhow::Result<Self> {
        let len_of = |longest: u64| WINDOW + (longest.min(TOUCH_MAX as u64) as usize).next_multiple_of(WINDOW);
        let total: usize = longest.iter().map(|longest| len_of(*longest)).sum();
        let no_room = || anyhow::anyhow!("no room for the null allocator's {total} bytes; close other programs");
        let len = NonZeroUsize::new(total.max(WINDOW)).ok_or_else(no_room)?;
        let mapping = PageAllocator.alloc(len, Alignment::ONE).map_err(|_| no_room())?;
        // SAFETY: at most the mapping's length.
        unsafe { mapping.write_bytes(1, total.min(WARM_MAX)) };
        let mut begin = mapping;
        let lanes = longest.iter().map(|longest| {
            let lane = begin;
            // SAFETY: the lengths add up to `total`.
            begin = unsafe { begin.add(len_of(*longest)) };
            lane
        });
        Ok(Self { lanes: lanes.collect() })
    }
}

// SAFETY: by N1 and N2 a block of a thread has the rest of the window and `min(len, TOUCH_MAX)`
// bytes more in that thread's lane, which no other thread is handed.
unsafe impl Target for Null {
    fn enter(&self, index: usize) {
        LANE.set((self.lanes[index].as_ptr(), 0));
    }

    #[inline]
    fn alloc(&self, len: NonZeroUsize, _: Alignment, _: bool) -> Option<NonNull<u8>> {
        let (lane, offset) = LANE.get();
        let next = offset.wrapping_add(len.get()).wrapping_add(STEP - 1) & (WINDOW - STEP);
        LANE.set((lane, next));
        // SAFETY: `offset < WINDOW`, inside the lane (N1).
        NonNull::new(unsafe { lane.add(offset) })
    }

    #[inline]
    unsafe fn realloc(&self, _: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // In this thread's lane, for another thread may still write in the old one.
        self.alloc(new_len, alignment, false)
    }

    #[inline]
    unsafe fn free(&self, _: NonNull<[u8]>, _: Alignment) {}
}
