//! [`FailingAllocator`]: refuses the calls that it is told to refuse.
//!
//! ```text
//!   caller ──▶ FailingAllocator ──▶ backing
//!                │ call number n: in a refused range, or drawn by the seed?
//!                └─▶ AllocError, false, None; the backing hears nothing
//! ```
//!
//! For tests of what happens when there is no memory. Zig's `std.testing.FailingAllocator` and more: `alloc` has one
//! numbering, `resize` and `remap` together another, both from 0; a range of numbers is refused, such as `7..=7` for the
//! eighth call alone or `7..` for all from there on, or some calls at random, repeatably, by a seed.
//!
//! A transparent layer: blocks are the backing's own. Costs: one relaxed atomic increment and a few compares a call.

use core::{
    fmt,
    num::NonZeroUsize,
    ops::{Bound, RangeBounds},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::transparent::pass_on_capabilities;

/// Refuses chosen calls; passes the others to `backing`.
///
/// - **I1** A refused call does not reach `backing`, and every other one reaches it unchanged.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::FailingAllocator;
///
/// let failing = FailingAllocator::new(SystemAllocator);
/// failing.refuse_allocs(1..); // one is granted, then none
/// let word = failing.dupe(b"red")?;
/// assert!(failing.dupe(b"green").is_err());
/// assert_eq!((failing.allocs(), failing.refusals()), (2, 1));
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { failing.free_slice(word) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// Every call of some work fails once, one run for each:
///
/// ```
/// # use terrace_core::{AllocError, Allocator, AllocatorExt, SystemAllocator};
/// # use terrace_heap::FailingAllocator;
/// fn work(allocator: &dyn Allocator) -> Result<(), AllocError> {
///     let one = allocator.create::<u64>()?;
///     let two = allocator.create::<u64>().inspect_err(|_| {
///         // SAFETY: live, of this allocator, not used again.
///         unsafe { allocator.destroy(one) }
///     })?;
///     // SAFETY: live, of this allocator, not used again.
///     unsafe { allocator.destroy(two) };
///     // SAFETY: live, of this allocator, not used again.
///     unsafe { allocator.destroy(one) };
///     Ok(())
/// }
/// for n in 0.. {
///     let failing = FailingAllocator::new(SystemAllocator);
///     failing.refuse_allocs(n..=n);
///     let outcome = work(&failing);
///     assert_eq!(outcome.is_err(), failing.refusals() > 0);
///     if failing.refusals() == 0 {
///         break; // It has fewer calls than n.
///     }
/// }
/// ```
pub struct FailingAllocator<A> {
    alloc: Refusals,
    resize: Refusals,
    refused: AtomicU64,
    backing: A,
}

/// Which calls of one numbering are refused.
struct Refusals {
    calls: AtomicU64,
    /// Those from here to before `end`, …
    start: AtomicU64,
    end: AtomicU64,
    /// … and of the others so many in a million, drawn by the seed.
    per_million: AtomicU32,
    seed: AtomicU64,
}

impl Refusals {
    const fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            per_million: AtomicU32::new(0),
            seed: AtomicU64::new(0),
        }
    }

    /// Numbers a call and decides over it. Relaxed: a number is drawn once, and nothing else is ordered by it.
    fn refuse_next(&self) -> bool {
        let call = self.calls.fetch_add(1, Relaxed);
        let in_range = (self.start.load(Relaxed)..self.end.load(Relaxed)).contains(&call);
        in_range || draw(self.seed.load(Relaxed), call) < self.per_million.load(Relaxed)
    }

    fn refuse(&self, calls: impl RangeBounds<u64>) {
        let start = match calls.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match calls.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.start.store(start, Relaxed);
        self.end.store(end, Relaxed);
    }

    fn refuse_randomly(&self, per_million: u32, seed: u64) {
        self.per_million.store(per_million, Relaxed);
        self.seed.store(seed, Relaxed);
    }
}

/// A number below a million that depends on the seed and the call alone, whatever threads race: splitmix64's mixer.
fn draw(seed: u64, call: u64) -> u32 {
    let mut bits = seed.wrapping_add((call + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) % 1_000_000) as u32
}

impl<A> FailingAllocator<A> {
    /// Refuses nothing yet; takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { alloc: Refusals::new(), resize: Refusals::new(), refused: AtomicU64::new(0), backing }
    }

    /// Refuses the calls of `alloc` and `alloc_zeroed` with these numbers, counted from 0 since the allocator was made,
    /// in place of those named before. `..` refuses all, `0..0` none.
    pub fn refuse_allocs(&self, calls: impl RangeBounds<u64>) {
        self.alloc.refuse(calls);
    }

    /// As [`refuse_allocs`](Self::refuse_allocs), for `resize` and `remap`, which are counted together.
    pub fn refuse_resizes(&self, calls: impl RangeBounds<u64>) {
        self.resize.refuse(calls);
    }

    /// Refuses besides about `per_million` of a million calls of `alloc`, `resize` and `remap`: with the same seed
    /// always those with the same numbers. 0 ends it, 1,000,000 refuses all.
    pub fn refuse_randomly(&self, per_million: u32, seed: u64) {
        self.alloc.refuse_randomly(per_million, seed);
        self.resize.refuse_randomly(per_million, !seed);
    }

    /// Calls of `alloc` and `alloc_zeroed` so far, the refused ones too: the number of the next one.
    pub fn allocs(&self) -> u64 {
        self.alloc.calls.load(Relaxed)
    }

    /// Calls of `resize` and `remap` so far, the refused ones too: the number of the next one.
    pub fn resizes(&self) -> u64 {
        self.resize.calls.load(Relaxed)
    }

    /// Calls refused here so far, not counting those that the backing refused.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    #[inline]
    fn refuses(&self, refusals: &Refusals) -> bool {
        let refuses = refusals.refuse_next();
        if refuses {
            self.refused.fetch_add(1, Relaxed);
        }
        refuses
    }
}

// SAFETY: blocks are `backing`'s own; by I1 a call reaches it unchanged or changes nothing.
unsafe impl<A: Allocator> Allocator for FailingAllocator<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if self.refuses(&self.alloc) {
            return Err(AllocError);
        }
        self.backing.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if self.refuses(&self.resize) {
            return false;
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.refuses(&self.resize) {
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
        if self.refuses(&self.alloc) {
            return Err(AllocError);
        }
        self.backing.alloc_zeroed(len, alignment)
    }
}

impl<A: BulkFree> BulkFree for FailingAllocator<A> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset> Reset for FailingAllocator<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.backing.reset(mode)
    }
}

impl<A: Stats> Stats for FailingAllocator<A> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[] for FailingAllocator<A>);
bridge_collections!(impl['b, A: Allocator] for &'b FailingAllocator<A>);

impl<A: fmt::Debug> fmt::Debug for FailingAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingAllocator")
            .field("allocs", &self.allocs())
            .field("resizes", &self.resizes())
            .field("refusals", &self.refusals())
            .field("backing", &self.backing)
            .finish()
    }
}
