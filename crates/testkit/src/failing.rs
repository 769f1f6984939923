//! [`Failing`]: a backing that refuses on command, and counts what it was asked.
//!
//! ```text
//!   calls   alloc  alloc  resize  alloc  remap  …       counted together, 1 2 3 4 5 …
//!   nth 3                   ✗
//!   from 3                  ✗       ✗      ✗    ✗
//! ```
//!
//! Costs: one atomic step a call. Transparent otherwise: blocks are the backing's own.

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns};

/// Which calls of `alloc`, `resize` and `remap`, counted together from 1, are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// None.
    #[default]
    Never,
    /// This one alone.
    Nth(usize),
    /// This one and all after it.
    From(usize),
}

impl Refusal {
    fn refuses(self, call: usize) -> bool {
        match self {
            Self::Never => false,
            Self::Nth(n) => call == n,
            Self::From(n) => call >= n,
        }
    }
}

/// The counter and the plan; several backings of one program may share them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    refusal: Refusal,
    asked: AtomicUsize,
}

impl Calls {
    pub(crate) fn new(refusal: Refusal) -> Self {
        Self { refusal, asked: AtomicUsize::new(0) }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn refused(&self) -> bool {
        let before = self.asked.fetch_add(1, SeqCst);
        self.refusal.refuses(before + 1)
    }
}

/// Refuses the calls that its [`Refusal`] names; passes the others on.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_testkit::{Failing, Refusal};
///
/// let backing = Failing::new(SystemAllocator, Refusal::Nth(2));
/// let first = backing.create::<u64>()?;
/// assert!(backing.create::<u64>().is_err());
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { backing.destroy(first) };
/// assert_eq!(backing.asked(), 2);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Failing<A> {
    calls: Arc<Calls>,
    backing: A,
}

impl<A> Failing<A> {
    /// Counts from the first call of this allocator.
    pub fn new(backing: A, refusal: Refusal) -> Self {
        Self::counted_in(Arc::new(Calls::new(refusal)), backing)
    }

    pub(crate) fn counted_in(calls: Arc<Calls>, backing: A) -> Self {
        Self { calls, backing }
    }

    /// Calls of `alloc`, `resize` and `remap` so far, refused ones included.
    pub fn asked(&self) -> usize {
        self.calls.asked()
    }
}

// SAFETY: blocks are `backing`'s own; a refusal here does not reach it, so nothing changes (clause 3).
unsafe impl<A: Allocator> Allocator for Failing<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.calls.refused() { Err(AllocError) } else { self.backing.alloc(len, alignment) }
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        !self.calls.refused() && unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.calls.refused() {
            return None;
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.calls.refused() { Err(AllocError) } else { self.backing.alloc_zeroed(len, alignment) }
    }
}

// SAFETY: blocks are exactly `backing`'s.
unsafe impl<A: Owns> Owns for Failing<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.backing.owns(address)
    }
}

// SAFETY: nothing is added to a request.
unsafe impl<A: GoodSize> GoodSize for Failing<A> {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.backing.good_size(len, alignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plan_refuses_what_it_names() {
        for n in 1..5 {
            for call in 1..9 {
                assert!(!Refusal::Never.refuses(call));
                assert_eq!(Refusal::Nth(n).refuses(call), call == n);
                assert_eq!(Refusal::From(n).refuses(call), call >= n);
            }
        }
    }
}
