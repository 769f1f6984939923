//! [`PressureAllocator`]: tells when much is live, and when that is over.
//!
//! ```text
//!   live bytes
//!   threshold ┄┄┄┄┄┄┄┄┄┄┄┄●┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄●┄┄   ● High: told once
//!                        ╱ ╲  ╱╲          ╱
//!   half ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄┄╲╱┄┄╲┄┄┄┄┄┄┄┄╱┄┄┄┄   ○ Low: told once, and the next High may come
//!                      ╱          ○╲____╱
//! ```
//!
//! Between the two nothing is told, so that a program which works near the threshold is not told at every call
//! (hysteresis). A hook that has collected garbage answers `true`: the threshold then becomes twice what is live, and no
//! less than the one first set, as garbage collectors do it; see [`PressureAllocator::collected`].
//!
//! A transparent layer: blocks are the backing's own. The hook hears of a block after it has been made or ended. No lock
//! and no borrow is held while it runs; it may allocate and free, here too, and a panic in it aborts (clause 10 of the
//! contract). It is not called in the middle of itself, nor by two threads at once: what it misses then it is told at
//! the next block that is made or ended.
//!
//! Costs: one relaxed atomic operation and one compare at each end of a block.

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::{hook::AbortOnUnwind, transparent::pass_on_capabilities};

/// What the hook of a [`PressureAllocator`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// More than the threshold is live.
    High {
        /// Bytes live now.
        live: usize,
        /// The threshold, in bytes.
        threshold: usize,
    },
    /// After a `High`: no more than half of the threshold is live.
    Low {
        /// Bytes live now.
        live: usize,
        /// The threshold, in bytes.
        threshold: usize,
    },
}

/// Hears of pressure. Any `Fn(&Pressure) -> bool` is one.
pub trait OnPressure {
    /// `true` says that garbage was collected: the threshold becomes twice what is live.
    fn pressure(&self, pressure: &Pressure) -> bool;
}

impl<F: Fn(&Pressure) -> bool> OnPressure for F {
    fn pressure(&self, pressure: &Pressure) -> bool {
        self(pressure)
    }
}

/// Tells `hook` when more than a threshold of bytes is live, and when no more than half of it is.
///
/// Use it to start a garbage collector, to shed caches, to refuse new clients in time.
///
/// - **I1** `live` is the sum of the lengths of the live blocks whenever no call is under way.
/// - **I2** Between a `Low` and a `High` `above` is the threshold and `below` is 0; between a `High` and a `Low` `above` is
///   `usize::MAX` and `below` half the threshold and one.
///
/// ```
/// use std::cell::Cell;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{Pressure, PressureAllocator};
///
/// let collections = Cell::new(0);
/// let heap = PressureAllocator::new(SystemAllocator, |pressure: &Pressure| {
///     // A garbage collector would mark and sweep here.
///     collections.set(collections.get() + 1);
///     matches!(pressure, Pressure::High { .. })
/// });
/// assert_eq!(heap.threshold(), 1 << 20);
/// let blocks: Vec<_> = (0..2048).map(|_| heap.dupe(&[0u8; 1024]).unwrap()).collect();
/// assert_eq!((collections.get(), heap.threshold()), (1, 2 * (1 << 20) + 2 * 1024));
/// # for block in blocks {
/// #     // SAFETY: live, of this allocator, not used again.
/// #     unsafe { heap.free_slice(block) };
/// # }
/// # assert_eq!(heap.live_bytes(), 0);
/// ```
pub struct PressureAllocator<A, H> {
    live: AtomicUsize,
    above: AtomicUsize,
    below: AtomicUsize,
    threshold: AtomicUsize,
    /// The threshold never becomes less than this.
    least: AtomicUsize,
    busy: AtomicBool,
    hook: H,
    backing: A,
}

impl<A, H: OnPressure> PressureAllocator<A, H> {
    /// The threshold of a new one, in bytes.
    pub const THRESHOLD: usize = 1 << 20;

    /// Tells `hook` when more than [`THRESHOLD`](Self::THRESHOLD) is live; takes no memory itself.
    pub const fn new(backing: A, hook: H) -> Self {
        Self::with_threshold(backing, Self::THRESHOLD, hook)
    }

    /// Tells `hook` when more than `threshold` bytes are live.
    pub const fn with_threshold(backing: A, threshold: usize, hook: H) -> Self {
        Self {
            live: AtomicUsize::new(0),
            above: AtomicUsize::new(threshold),
            below: AtomicUsize::new(0),
            threshold: AtomicUsize::new(threshold),
            least: AtomicUsize::new(threshold),
            busy: AtomicBool::new(false),
            hook,
            backing,
        }
    }

    /// Bytes live now.
    pub fn live_bytes(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// The threshold now, in bytes.
    pub fn threshold(&self) -> usize {
        self.threshold.load(Relaxed)
    }

    /// Another threshold, and the least that a collection may set. The next block made above it is told of.
    pub fn set_threshold(&self, threshold: usize) {
        self.least.store(threshold, Relaxed);
        self.rearm(threshold);
    }

    /// After a garbage collection, for one that does not run inside the hook: the threshold becomes twice what is live,
    /// and no less than the one last set.
    pub fn collected(&self) {
        self.rearm(self.live_bytes().saturating_mul(2).max(self.least.load(Relaxed)));
    }

    /// The hook, to ask what it did.
    pub const fn hook(&self) -> &H {
        &self.hook
    }

    fn rearm(&self, threshold: usize) {
        self.threshold.store(threshold, Relaxed);
        self.below.store(0, Relaxed);
        self.above.store(threshold, Relaxed);
    }

    #[inline]
    fn grown(&self, more: usize) {
        // Blocks that are live together fit into the address space, so the sum does not wrap.
        let live = self.live.fetch_add(more, Relaxed).wrapping_add(more);
        if live > self.above.load(Relaxed) {
            self.tell_high();
        }
    }

    /// Bytes live without those: before the backing can hand them out again, so that no sum counts them twice.
    #[inline]
    fn less(&self, less: usize) -> usize {
        self.live.fetch_sub(less, Relaxed).wrapping_sub(less)
    }

    #[inline]
    fn shrunk(&self, live: usize) {
        if live < self.below.load(Relaxed) {
            self.tell_low();
        }
    }

    #[cold]
    fn tell_high(&self) {
        let Some(hook) = self.enter() else { return };
        let (live, threshold) = (self.live_bytes(), self.threshold());
        if live <= self.above.load(Relaxed) {
            return; // Another thread was told meanwhile, or the bytes have gone.
        }
        self.above.store(usize::MAX, Relaxed);
        self.below.store(threshold / 2 + 1, Relaxed);
        if hook.run(&Pressure::High { live, threshold }) {
            self.collected();
        }
    }

    #[cold]
    fn tell_low(&self) {
        let Some(hook) = self.enter() else { return };
        let (live, threshold) = (self.live_bytes(), self.threshold());
        if live >= self.below.load(Relaxed) {
            return; // As above.
        }
        self.rearm(threshold);
        if hook.run(&Pressure::Low { live, threshold }) {
            self.collected();
        }
    }

    /// The hook, unless it runs.
    fn enter(&self) -> Option<Turn<'_, H>> {
        // Acquire and Release: what one turn wrote is seen by the next one, on whatever thread.
        if self.busy.swap(true, Acquire) { None } else { Some(Turn { busy: &self.busy, hook: &self.hook }) }
    }
}

/// The right to run the hook.
struct Turn<'a, H> {
    busy: &'a AtomicBool,
    hook: &'a H,
}

impl<H: OnPressure> Turn<'_, H> {
    fn run(&self, pressure: &Pressure) -> bool {
        let abort = AbortOnUnwind("the hook of a PressureAllocator");
        let collected = self.hook.pressure(pressure);
        core::mem::forget(abort);
        collected
    }
}

impl<H> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        self.busy.store(false, Release);
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged.
unsafe impl<A: Allocator, H: OnPressure> Allocator for PressureAllocator<A, H> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.backing.alloc(len, alignment)?;
        self.grown(len.get());
        Ok(block)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        let resized = unsafe { self.backing.resize(memory, alignment, new_len) };
        if resized {
            self.resized(memory.len(), new_len.get());
        }
        resized
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        let block = unsafe { self.backing.remap(memory, alignment, new_len) }?;
        self.resized(memory.len(), new_len.get());
        Some(block)
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let live = self.less(memory.len());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) };
        self.shrunk(live);
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.backing.alloc_zeroed(len, alignment)?;
        self.grown(len.get());
        Ok(block)
    }
}

impl<A, H: OnPressure> PressureAllocator<A, H> {
    #[inline]
    fn resized(&self, old: usize, new: usize) {
        if new > old {
            self.grown(new - old);
        } else {
            self.shrunk(self.less(old - new));
        }
    }
}

impl<A: BulkFree, H: OnPressure> BulkFree for PressureAllocator<A, H> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        let live = self.less(blocks.iter().map(|block| block.len()).sum());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) };
        self.shrunk(live);
    }
}

impl<A: Reset, H: OnPressure> Reset for PressureAllocator<A, H> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        let kept = self.backing.reset(mode);
        *self.live.get_mut() = 0;
        self.shrunk(0);
        kept
    }
}

impl<A: Stats, H> Stats for PressureAllocator<A, H> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[H: OnPressure] for PressureAllocator<A, H>);
bridge_collections!(impl['b, A: Allocator, H: OnPressure] for &'b PressureAllocator<A, H>);

impl<A: fmt::Debug, H> fmt::Debug for PressureAllocator<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureAllocator")
            .field("live", &self.live.load(Relaxed))
            .field("threshold", &self.threshold.load(Relaxed))
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}
