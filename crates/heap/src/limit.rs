//! [`LimitAllocator`]: no more than so many bytes at once.
//!
//! ```text
//!   0 ───────── used ┄┄┄┄┄┄┄┄┄┄ limit
//!   ├─ live blocks ─┼─ request ─┤    fits: passed on, and given back where the backing refuses it
//!                   └─ request ───────────┤    does not: refused, the backing hears nothing
//! ```
//!
//! A transparent layer: blocks are the backing's own. What counts is the length that callers ask for, kept exactly
//! over `resize` and `remap`. Room is taken before the backing is asked and given back after it has freed, so that
//! the backing never holds more than the limit for this layer, whatever threads race and whatever a hook of the backing
//! does meanwhile. The price: a request that the backing is about to refuse may take room that another thread's then lacks.
//!
//! Costs: a load and a compare-and-swap on shared memory to take room, one atomic subtraction to give it back.

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::transparent::pass_on_capabilities;

/// Refuses what would make its live blocks longer, together, than a limit.
///
/// Use it where one part of a program (a request, a plug-in, a cache) must not take the memory of the others.
///
/// - **I1** `used` is the sum of the lengths of the live blocks, and of the rooms that calls under way have taken.
/// - **I2** `used` grows only to values up to `limit`.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::LimitAllocator;
///
/// let plug_in = LimitAllocator::new(SystemAllocator, 8);
/// let word = plug_in.dupe(b"green")?;
/// assert!(plug_in.dupe(b"blue").is_err(), "nine bytes would be too many");
/// assert_eq!((plug_in.used_bytes(), plug_in.limit()), (5, 8));
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { plug_in.free_slice(word) };
/// assert_eq!(plug_in.used_bytes(), 0);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct LimitAllocator<A> {
    used: AtomicUsize,
    limit: AtomicUsize,
    backing: A,
}

impl<A> LimitAllocator<A> {
    /// Passes on what keeps the live blocks within `limit` bytes; takes no memory itself.
    pub const fn new(backing: A, limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), backing }
    }

    /// The most bytes that may be live.
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Another limit, from the next request on. Below what is live it ends nothing, and refuses every request that
    /// asks for more.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }

    /// Bytes live now.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Relaxed)
    }

    // Relaxed throughout: the sum orders nothing else, and a compare-and-swap always sees its latest value.
    #[inline]
    fn take(&self, len: usize) -> Result<(), AllocError> {
        let mut used = self.used.load(Relaxed);
        loop {
            let sum = used.checked_add(len).ok_or(AllocError)?;
            if sum > self.limit.load(Relaxed) {
                return Err(AllocError);
            }
            match self.used.compare_exchange_weak(used, sum, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => used = now,
            }
        }
    }

    #[inline]
    fn give_back(&self, len: usize) {
        self.used.fetch_sub(len, Relaxed);
    }

    /// After a change of length: the tail that was cut off, or the room that the backing would not fill.
    #[inline]
    fn settle(&self, len: usize) {
        if len != 0 {
            self.give_back(len);
        }
    }
}

// SAFETY: blocks are `backing`'s own; a call reaches it unchanged or changes nothing.
unsafe impl<A: Allocator> Allocator for LimitAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.take(len.get())?;
        let block = self.backing.alloc(len, alignment);
        if block.is_err() {
            self.give_back(len.get());
        }
        block
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let more = new_len.get().saturating_sub(memory.len());
        if more != 0 && self.take(more).is_err() {
            return false;
        }
        // SAFETY: the caller's promise, passed on unchanged.
        let resized = unsafe { self.backing.resize(memory, alignment, new_len) };
        self.settle(if resized { memory.len().saturating_sub(new_len.get()) } else { more });
        resized
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let more = new_len.get().saturating_sub(memory.len());
        if more != 0 && self.take(more).is_err() {
            return None;
        }
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { self.backing.remap(memory, alignment, new_len) };
        self.settle(if block.is_some() { memory.len().saturating_sub(new_len.get()) } else { more });
        block
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) };
        self.give_back(memory.len());
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.take(len.get())?;
        let block = self.backing.alloc_zeroed(len, alignment);
        if block.is_err() {
            self.give_back(len.get());
        }
        block
    }
}

impl<A: BulkFree> BulkFree for LimitAllocator<A> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        let sum = blocks.iter().map(|block| block.len()).sum();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) };
        self.give_back(sum);
    }
}

impl<A: Reset> Reset for LimitAllocator<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        let kept = self.backing.reset(mode);
        *self.used.get_mut() = 0;
        kept
    }
}

impl<A: Stats> Stats for LimitAllocator<A> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[] for LimitAllocator<A>);
bridge_collections!(impl['b, A: Allocator] for &'b LimitAllocator<A>);

impl<A: fmt::Debug> fmt::Debug for LimitAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitAllocator")
            .field("used", &self.used_bytes())
            .field("limit", &self.limit())
            .field("backing", &self.backing)
            .finish()
    }
}
