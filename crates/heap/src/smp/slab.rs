//! [`Slab`]: a run of pages cut into blocks of one class, and the books about it.
//!
//! ```text
//!   books, in the region's table            the run
//!   ┌──────────────────────────┐            ┌─────┬─────┬─────┬─────┬─────┬╌╌╌╌╌╌╌╌╌╌╌╌┐
//!   │ free ────────────────────┼──────────▶ │free │ out │free │ out │ out │ never cut  │
//!   │ free_len 2, cut 5        │            └─────┴─────┴─────┴─────┴─────┴╌╌╌╌╌╌╌╌╌╌╌╌┘
//!   └──────────────────────────┘
//! ```
//!
//! A block is cut when it is first asked for, so pages that nobody needed are not touched.
//!
//! - **I1** `out + free_len == cut <= capacity`, where `out` blocks are live, in magazines or in the depot.
//! - **I2** `free` is a chain of `free_len` blocks of this slab, ended by null.
//! - **I3** The books are reached under the lock of the class.

use core::ptr::{self, NonNull};

use super::{
    chain::{Block, Chain},
    class::{capacity, size},
};

/// The books of one slab.
#[repr(C)]
pub(crate) struct Slab {
    free: *mut Block,
    /// Neighbours in the class's list of slabs that have blocks to give.
    pub(crate) next: *mut Slab,
    pub(crate) previous: *mut Slab,
    free_len: u16,
    cut: u16,
    class: u8,
}

impl Slab {
    pub(crate) fn new(class: usize) -> Self {
        let null = ptr::null_mut();
        Self { free: ptr::null_mut(), next: null, previous: null, free_len: 0, cut: 0, class: class as u8 }
    }

    /// Whether no block is left to give.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.free_len == 0 && usize::from(self.cut) == capacity(usize::from(self.class))
    }

    /// Whether every block is back.
    pub(crate) fn is_unused(&self) -> bool {
        self.free_len == self.cut
    }

    /// Moves up to `most` blocks in front of `chain`: those that were freed first, then fresh ones, in rising order but for the first.
    ///
    /// # Safety
    /// The slab is not exhausted and its run begins at `run`. The chain is of the same class and the caller's.
    pub(crate) unsafe fn give(&mut self, run: NonNull<u8>, most: u32, chain: Option<Chain>) -> Chain {
        let (behind, mut len) = chain.map_or((ptr::null_mut(), 0), |chain| (chain.head.as_ptr(), chain.len));
        if let Some(head) = NonNull::new(self.free) {
            let mut last = head;
            let count = most.min(u32::from(self.free_len));
            for _ in 1..count {
                // SAFETY: by I2 linked.
                let next = unsafe { Block::next(last) };
                // SAFETY: by I2 followed by another.
                last = unsafe { NonNull::new_unchecked(next) };
            }
            // SAFETY: by I2 linked.
            self.free = unsafe { Block::next(last) };
            self.free_len -= count as u16;
            // SAFETY: the block is no longer the slab's.
            unsafe { Block::link(last, behind) };
            return Chain { head, len: len + count, branched: false };
        }
        let bytes = size(usize::from(self.class));
        let fresh = most.min((capacity(usize::from(self.class)) - usize::from(self.cut)) as u32);
        let mut head = behind;
        let (first, end) = (usize::from(self.cut), usize::from(self.cut) + fresh as usize);
        // A block at a page's beginning takes longer to free by its address: it comes last.
        for number in (first..first + 1).chain((first + 1..end).rev()) {
            // SAFETY: below the capacity, so inside the run.
            let block = unsafe { run.add(number * bytes) }.cast();
            // SAFETY: never cut before, so nobody else's.
            unsafe { Block::link(block, head) };
            head = block.as_ptr();
        }
        self.cut += fresh as u16;
        len += fresh;
        // SAFETY: not exhausted, so there was a fresh block.
        Chain { head: unsafe { NonNull::new_unchecked(head) }, len, branched: false }
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// A block that this slab gave, and the caller's.
    pub(crate) unsafe fn take_back(&mut self, block: NonNull<Block>) {
        // SAFETY: the caller gives the block up.
        unsafe { Block::link(block, self.free) };
        self.free = block.as_ptr();
        self.free_len += 1;
    }
}
