//! [`FallbackAllocator`]: one allocator first, and another for what it refuses.
//!
//! ```text
//!              grants ──▶ first    an arena with a limit, a buffer, a pool …: it knows its own blocks (`Owns`)
//!   alloc ────┤
//!              refuses ─▶ second   the rest
//!
//!   resize, remap, free ──▶ first where it owns the address, else second
//! ```
//!
//! A block that cannot grow where it lies is refused, and the other side is not asked: the caller moves it by alloc,
//! copy and free, as always. D's `FallbackAllocator` decides alike; where its two sides have the same owner, it frees
//! to the wrong one.
//!
//! # Two sides that stand on one another
//!
//! `FallbackAllocator::new(&arena, SmpAllocator::new(&arena, …))` is a mistake that types do not rule out: each block
//! of the second side lies in memory of the arena, which would say that it owns the block, and be given it at `free`. So a
//! block of `second` that `first` owns goes straight back, and the request is refused: such a pair serves what its first
//! side serves, and nothing is ever freed to the wrong side.
//!
//! Costs: one question to `Owns` of the first side at `resize`, `remap`, `free`, and where the second side allocates.

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, Reset, ResetMode, bridge_collections};

/// Asks `first`, and `second` where that refuses.
///
/// Use it where a fast or bounded allocator serves most requests, and the few that it cannot serve must still
/// succeed. For a borrowed buffer first, [`BufferFirstAllocator`](crate::BufferFirstAllocator) is the shorter form.
///
/// Where `second` stands on `first`, its blocks lie in memory of `first`. Those that `first` would take for its own are given
/// back and the request is refused, so that none is ever freed to the wrong side.
///
/// - **I1** A live block that `first` owns is a live block of `first`; every other one is a live block of `second`.
///
/// ```
/// use terrace_core::{AllocatorExt, Stats, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, FallbackAllocator, StatsAllocator};
///
/// let arena = ArenaAllocator::new(SystemAllocator);
/// arena.set_limit(4096); // What a request may take of the fast memory;
/// let large = StatsAllocator::new(SystemAllocator);
/// let both = FallbackAllocator::new(&arena, &large); // an unusual one still works.
/// let usual = both.dupe(&[1u8; 100])?;
/// assert_eq!(large.stats().total_allocations, 0);
/// let unusual = both.dupe(&[2u8; 100_000])?;
/// assert_eq!(large.stats().total_allocations, 1);
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { both.free_slice(usual) };
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { both.free_slice(unusual) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct FallbackAllocator<P, Q> {
    first: P,
    second: Q,
}

impl<P: Allocator + Owns, Q: Allocator> FallbackAllocator<P, Q> {
    /// Serves from `first`, then from `second`; takes no memory itself.
    pub const fn new(first: P, second: Q) -> Self {
        Self { first, second }
    }

    /// A new block of `second`, unless `first` would take it for its own.
    #[inline]
    #[track_caller]
    fn apart(&self, block: NonNull<u8>, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.first.owns(block) {
            core::hint::cold_path();
            let memory = NonNull::slice_from_raw_parts(block, len.get());
            // SAFETY: `second` has just handed it out, and nobody has seen it.
            unsafe { self.second.free(memory, alignment) };
            return Err(AllocError);
        }
        Ok(block)
    }
}

// SAFETY: each side keeps the contract. A block of `first` is owned by it, by `Owns`. One of `second` is not when it is handed
// out (`apart`), and stays so: either it lies in a live block of `first`, where the answer does not change, or the memory
// under it is not handed out to anybody else while it lives, `first` included; nor can `remap` take it into memory of
// `first`, where its bytes could only be copied (clause 4). So I1 holds, and every block goes back to where it came from.
unsafe impl<P: Owns, Q: Allocator> Allocator for FallbackAllocator<P, Q> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.first.alloc(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.apart(self.second.alloc(len, alignment)?, len, alignment),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if self.first.owns(memory.cast()) {
            // SAFETY: by I1 a live block of `first`.
            unsafe { self.first.resize(memory, alignment, new_len) }
        } else {
            // SAFETY: by I1 a live block of `second`.
            unsafe { self.second.resize(memory, alignment, new_len) }
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.first.owns(memory.cast()) {
            // SAFETY: by I1 a live block of `first`.
            unsafe { self.first.remap(memory, alignment, new_len) }
        } else {
            // SAFETY: by I1 a live block of `second`.
            unsafe { self.second.remap(memory, alignment, new_len) }
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if self.first.owns(memory.cast()) {
            // SAFETY: by I1 a live block of `first`, which the caller gives up.
            unsafe { self.first.free(memory, alignment) }
        } else {
            // SAFETY: by I1 a live block of `second`, which the caller gives up.
            unsafe { self.second.free(memory, alignment) }
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.first.alloc_zeroed(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.apart(self.second.alloc_zeroed(len, alignment)?, len, alignment),
        }
    }
}

// SAFETY: by I1 a block is one side's, which owns it; outside of the memory of both, neither says `true`.
unsafe impl<P: Owns, Q: Owns> Owns for FallbackAllocator<P, Q> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.first.owns(address) || self.second.owns(address)
    }
}

// SAFETY: whichever side serves the request gives at least the lesser of both lengths, and each is at least `len`.
unsafe impl<P: Owns + GoodSize, Q: GoodSize> GoodSize for FallbackAllocator<P, Q> {
    /// The lesser of both: which side will serve is not known before.
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.first.good_size(len, alignment).min(self.second.good_size(len, alignment))
    }
}

impl<P: Reset, Q: Reset> Reset for FallbackAllocator<P, Q> {
    /// Ends the blocks of both sides; `false` where one of them says so.
    fn reset(&mut self, mode: ResetMode) -> bool {
        let first = self.first.reset(mode);
        self.second.reset(mode) && first
    }
}

bridge_collections!(impl['b, P: Owns, Q: Allocator] for &'b FallbackAllocator<P, Q>);

impl<P: fmt::Debug, Q: fmt::Debug> fmt::Debug for FallbackAllocator<P, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackAllocator").field("first", &self.first).field("second", &self.second).finish()
    }
}
