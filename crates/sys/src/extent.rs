//! Blocks side by side in a region that becomes usable as they reach into it: what `ReservedAllocator` and
//! `MappedFile` have in common.
//!
//! ```text
//!  start                        end        touched   ready              capacity
//!  ├─ block ─┬pad┬─ last block ─┬┄┄┄ free ┄┄┄┬┄ zero ┄┬┄┄ zero, not usable ┄┄┤
//! ```
//!
//! Only the last block grows, in place, and only its end comes back before all blocks end, as in
//! `FixedBufferAllocator` of terrace-heap. How more of the region becomes usable is the owner's business, passed as `make_ready`.
//!
//! - **I1** `start` begins `capacity` bytes, at most `isize::MAX`, mapped, of the owner alone.
//! - **I2** The first `ready` bytes can be read and written.
//! - **I3** `end <= ready <= capacity`; live blocks are disjoint and lie below `end`.
//! - **I4** From `touched` on the region reads as zero (once it is usable).
//!
//! Costs: a few instructions a call; `make_ready` once a step.

use core::{cell::Cell, num::NonZeroUsize, ops::Range, ptr::NonNull};

use terrace_core::{Alignment, AllocError};

use crate::bump;

#[derive(Debug)]
pub(crate) struct Extent {
    start: NonNull<u8>,
    capacity: usize,
    step: usize,
    end: Cell<usize>,
    ready: Cell<usize>,
    touched: Cell<usize>,
}

impl Extent {
    /// A region without blocks, of which nothing is usable, and where from `touched` on all is zero.
    ///
    /// # Safety
    /// I1, and I4 of `touched`.
    pub(crate) unsafe fn new(start: NonNull<u8>, capacity: usize, step: usize, touched: usize) -> Self {
        Self { start, capacity, step, end: Cell::new(0), ready: Cell::new(0), touched: Cell::new(touched) }
    }

    pub(crate) fn end(&self) -> usize {
        self.end.get()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready.get()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn owns(&self, address: NonNull<u8>) -> bool {
        address.addr().get().wrapping_sub(self.start.addr().get()) < self.capacity
    }

    /// Ends all blocks.
    pub(crate) fn reset(&mut self) {
        self.end.set(0);
    }

    /// All from `ready` on is reserved again, and zero when it next becomes usable.
    ///
    /// pre: no block is live; `ready` is at most what it was.
    pub(crate) fn retreat(&mut self, ready: usize) {
        debug_assert!(self.end.get() == 0 && ready <= self.ready.get());
        self.ready.set(ready);
        self.touched.set(self.touched.get().min(ready));
    }

    /// The whole region may be written to from now on; keeps I4.
    #[cfg(feature = "mapped-file")]
    pub(crate) fn soil(&mut self) {
        self.touched.set(self.capacity);
    }

    /// Makes the region usable up to `end`; `make_ready` says whether the offsets given to it are.
    pub(crate) fn reach(&self, end: usize, make_ready: impl FnOnce(Range<usize>) -> bool) -> bool {
        if end <= self.ready.get() {
            return true;
        }
        let ready = bump::next_ready(end, self.capacity, self.step);
        let granted = make_ready(self.ready.get()..ready);
        if granted {
            self.ready.set(ready); // I2.
        }
        granted
    }

    /// A block, and how many of its first bytes may not be zero.
    #[inline]
    fn place(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        make_ready: impl FnOnce(Range<usize>) -> bool,
    ) -> Result<(NonNull<u8>, usize), AllocError> {
        let placed = bump::place(self.start.addr().get(), self.end.get(), self.capacity, len.get(), alignment);
        let Some((from, to)) = placed else { return Err(AllocError) };
        if !self.reach(to, make_ready) {
            return Err(AllocError);
        }
        let soiled = self.touched.get().clamp(from, to) - from;
        self.set_end(to);
        // SAFETY: `from` is within the region (I1).
        Ok((unsafe { self.start.add(from) }, soiled))
    }

    #[inline]
    pub(crate) fn alloc(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        make_ready: impl FnOnce(Range<usize>) -> bool,
    ) -> Result<NonNull<u8>, AllocError> {
        self.place(len, alignment, make_ready).map(|(block, _)| block)
    }

    pub(crate) fn alloc_zeroed(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        make_ready: impl FnOnce(Range<usize>) -> bool,
    ) -> Result<NonNull<u8>, AllocError> {
        let (block, soiled) = self.place(len, alignment, make_ready)?;
        // SAFETY: the block's first bytes; by I2 they can be written.
        unsafe { block.write_bytes(0, soiled) };
        Ok(block)
    }

    /// Whether the block now has `new_len` bytes.
    ///
    /// pre: `memory` is a live block.
    #[inline]
    pub(crate) fn resize(
        &self,
        memory: NonNull<[u8]>,
        new_len: NonZeroUsize,
        make_ready: impl FnOnce(Range<usize>) -> bool,
    ) -> bool {
        let from = self.offset(memory);
        if from + memory.len() != self.end.get() {
            return new_len.get() <= memory.len();
        }
        let Some(to) = from.checked_add(new_len.get()).filter(|&to| to <= self.capacity) else { return false };
        let granted = self.reach(to, make_ready);
        if granted {
            self.set_end(to);
        }
        granted
    }

    /// pre: `memory` is a live block; it ends here.
    #[inline]
    pub(crate) fn free(&self, memory: NonNull<[u8]>) {
        let from = self.offset(memory);
        if from + memory.len() == self.end.get() {
            self.end.set(from);
        }
    }

    /// Where a live block begins; by I3 it does not underflow.
    fn offset(&self, memory: NonNull<[u8]>) -> usize {
        memory.addr().get() - self.start.addr().get()
    }

    /// Keeps I4: what lies below `end` may be written to.
    fn set_end(&self, end: usize) {
        self.end.set(end);
        self.touched.set(self.touched.get().max(end));
    }
}
