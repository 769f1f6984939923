//! `Passing` takes each block from its backing as it is, and keeps a list of them.
//!
//! ```text
//!   caller ──▶ Passing ──▶ backing        one block here is one block there
//!               list ▲
//! ```
//!
//! - **I1** The list has each block of the backing that is held, with the length that the backing knows.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator};

/// What is wrong with a [`Passing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    FreesOneByteMore,
    FreesOneByteLess,
    /// A shrink overwrites the last byte that it has to keep.
    ShrinkLosesTheTail,
    /// A shrink is granted without the backing's knowing.
    ShrinkForgetsTheTail,
    DoubleReturn,
    /// The last block that was allocated is kept back.
    LeakAtDeinit,
    /// A moving remap copies one byte too few.
    RemapLosesBytes,
    /// From the third refusal of the backing on, a refused request keeps a block.
    WrongAfterTheThirdFailure,
    /// A remap takes the new block, gives the old one back, and then refuses.
    RefusedGrowMoves,
    /// A refused alloc has already asked for a spare block.
    RefusalKeepsABlock,
    /// A header in front of the block, where the backing has nothing.
    WritesOutside,
    /// A note in a block that went back.
    WritesAfterFree,
    /// `remap` never tries.
    RemapRefuses,
    /// Unwinds when the backing refuses.
    Panics,
}

pub struct Passing<A: Allocator> {
    held: RefCell<Vec<(NonNull<[u8]>, Alignment)>>,
    refusals: Cell<usize>,
    fault: Fault,
    backing: A,
}

impl<A: Allocator> Passing<A> {
    pub fn new(backing: A, fault: Fault) -> Self {
        Self { held: RefCell::default(), refusals: Cell::new(0), fault, backing }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn hold(&self, block: NonNull<u8>, len: usize, alignment: Alignment) {
        self.held.borrow_mut().push((NonNull::slice_from_raw_parts(block, len), alignment));
    }

    fn forget(&self, memory: NonNull<[u8]>) {
        self.held.borrow_mut().retain(|(held, _)| held.addr() != memory.addr());
    }

    /// After a refusal of the backing.
    fn refused(&self, len: NonZeroUsize, alignment: Alignment) {
        assert!(!self.is(Fault::Panics), "the backing refused");
        self.refusals.set(self.refusals.get() + 1);
        let third = self.is(Fault::WrongAfterTheThirdFailure) && self.refusals.get() >= 3;
        if (third || self.is(Fault::RefusalKeepsABlock))
            && let Ok(spare) = self.backing.alloc(NonZeroUsize::MIN, alignment)
        {
            let _ = len;
            self.hold(spare, 1, alignment);
        }
    }

    /// A remap that allocates, copies and frees, which the contract leaves to the caller.
    ///
    /// # Safety
    /// As of `remap`.
    unsafe fn moved(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let new = self.backing.alloc(new_len, alignment).ok()?;
        let kept = memory.len().min(new_len.get()) - usize::from(self.is(Fault::RemapLosesBytes));
        // SAFETY: both live and apart.
        unsafe { new.copy_from_nonoverlapping(memory.cast(), kept) };
        self.forget(memory);
        // SAFETY: live, given up by the caller who gets `Some`; or the fault.
        unsafe { self.backing.free(memory, alignment) };
        self.hold(new, new_len.get(), alignment);
        (!self.is(Fault::RefusedGrowMoves)).then_some(new)
    }
}

// SAFETY: only without a fault. With one, the backing is a `Monitor`, which lets no harm through.
unsafe impl<A: Allocator> Allocator for Passing<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let Ok(block) = self.backing.alloc(len, alignment) else {
            self.refused(len, alignment);
            return Err(AllocError);
        };
        if self.is(Fault::WritesOutside) {
            // SAFETY: the ground has a margin in front of every block.
            let header = unsafe { block.sub(1) };
            // SAFETY: as above.
            unsafe { header.write(1) };
        }
        self.hold(block, len.get(), alignment);
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if self.is(Fault::ShrinkForgetsTheTail) && new_len.get() < memory.len() {
            return true;
        }
        // SAFETY: the caller's promise; by I1 the backing's block is the same.
        let granted = unsafe { self.backing.resize(memory, alignment, new_len) };
        if granted {
            self.forget(memory);
            self.hold(memory.cast(), new_len.get(), alignment);
        }
        if granted && self.is(Fault::ShrinkLosesTheTail) && new_len.get() < memory.len() {
            // SAFETY: the last byte of the block.
            let mut last = unsafe { memory.cast::<u8>().add(new_len.get() - 1) };
            // SAFETY: as above.
            *unsafe { last.as_mut() } ^= 0xFF;
        }
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.is(Fault::RemapRefuses) {
            return None;
        }
        // SAFETY: the caller's promise, passed on unchanged.
        if unsafe { self.resize(memory, alignment, new_len) } {
            return Some(memory.cast());
        }
        if self.is(Fault::RemapLosesBytes) || self.is(Fault::RefusedGrowMoves) {
            // SAFETY: as above.
            return unsafe { self.moved(memory, alignment, new_len) };
        }
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.forget(memory);
        let len = match self.fault {
            Fault::FreesOneByteMore => memory.len() + 1,
            Fault::FreesOneByteLess => memory.len().max(2) - 1,
            _ => memory.len(),
        };
        let named = NonNull::slice_from_raw_parts(memory.cast::<u8>(), len);
        // SAFETY: the caller's promise; by I1 the backing's block is the same.
        unsafe { self.backing.free(named, alignment) };
        if self.is(Fault::DoubleReturn) {
            // SAFETY: it is not, which is the fault; a `Monitor` stands below.
            unsafe { self.backing.free(named, alignment) };
        }
        if self.is(Fault::WritesAfterFree) {
            // SAFETY: the ground keeps what came back.
            unsafe { memory.cast::<u8>().write(1) };
        }
        if self.is(Fault::LeakAtDeinit)
            && let Ok(spare) = self.backing.alloc(NonZeroUsize::MIN, alignment)
        {
            let _ = spare; // For the next request, and never given back.
        }
    }
}

impl<A: Allocator> Drop for Passing<A> {
    fn drop(&mut self) {
        for (memory, alignment) in self.held.take() {
            // SAFETY: by I1 a live block of the backing.
            unsafe { self.backing.free(memory, alignment) };
        }
    }
}
