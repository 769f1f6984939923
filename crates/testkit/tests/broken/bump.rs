//! `Bump` hands out a buffer from one end, as a fixed buffer does.
//!
//! ```text
//!  ├─ block ─┬pad┬── block ──┬─ last block ─┬┄┄ free ┄┄┤
//!                                       end ▲
//! ```
//!
//! - **I1** `base` points to `size` bytes that outlive every copy of the allocator.
//! - **I2** Every block lies inside them, whatever the fault: faults break the contract, not the test.

use std::{cell::Cell, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_testkit::Buffer;

/// What is wrong with a [`Bump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A block begins on the last byte of the one before.
    OverlapByOneByte,
    /// The offset is rounded up instead of the address.
    AlignmentOff,
    /// A resize moves the end before it finds that there is no room.
    RefusedResizeMovesTheEnd,
    /// A shrink of any block takes the end back to it.
    ReuseBeforeFree,
    /// Derived on state: two copies with an end each.
    DerivedClone,
    /// Sums wrap around.
    Overflow,
    /// Memory that was used before is handed out as zero.
    StaleZeroes,
    /// What does not fit is a panic.
    Panics,
}

#[derive(Clone)]
pub struct Bump {
    base: NonNull<u8>,
    size: usize,
    end: Cell<usize>,
    fault: Fault,
}

impl Bump {
    pub fn new(buffer: &mut Buffer, fault: Fault) -> Self {
        let bytes = buffer.bytes();
        let (base, size) = (NonNull::from(&mut *bytes).cast(), bytes.len());
        Self { base, size, end: Cell::new(0), fault }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn place(&self, len: usize, alignment: Alignment) -> Option<(usize, usize)> {
        let end = self.end.get();
        let base = self.base.addr().get();
        let start = match self.fault {
            Fault::AlignmentOff => alignment.forward(end)?,
            _ => alignment.forward(base + end)? - base,
        };
        if self.is(Fault::Overflow) && start.wrapping_add(len) <= self.size {
            return Some((start, start.wrapping_add(len)));
        }
        let start = if self.is(Fault::OverlapByOneByte) && alignment == Alignment::ONE && start > 0 {
            start - 1
        } else {
            start
        };
        let end = start.checked_add(len)?;
        (end <= self.size).then_some((start, end))
    }

    fn is_last(&self, memory: NonNull<[u8]>) -> bool {
        memory.addr().get() + memory.len() == self.base.addr().get() + self.end.get()
    }
}

// SAFETY: only without a fault. By I2 nothing outside the buffer is touched.
unsafe impl Allocator for Bump {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let place = self.place(len.get(), alignment);
        assert!(place.is_some() || !self.is(Fault::Panics), "no room");
        let (start, end) = place.ok_or(AllocError)?;
        self.end.set(end);
        // SAFETY: inside the buffer, by I1 and I2.
        Ok(unsafe { self.base.add(start) })
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        let start = memory.addr().get() - self.base.addr().get();
        if self.is(Fault::ReuseBeforeFree) && new_len.get() < memory.len() {
            self.end.set(start + new_len.get());
            return true;
        }
        if !self.is_last(memory) {
            return new_len.get() <= memory.len();
        }
        if self.is(Fault::RefusedResizeMovesTheEnd) {
            self.end.set(start);
        }
        match start.checked_add(new_len.get()) {
            Some(end) if end <= self.size => {
                self.end.set(end);
                true
            }
            _ => false,
        }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        if self.is_last(memory) {
            self.end.set(self.end.get() - memory.len());
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.alloc(len, alignment)?;
        if !self.is(Fault::StaleZeroes) {
            // SAFETY: inside the buffer, `len` bytes.
            unsafe { block.write_bytes(0, len.get()) };
        }
        Ok(block)
    }
}
