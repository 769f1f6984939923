//! [`OnOomAllocator`]: where there is no memory, a hook may free some, and the request is made again.
//!
//! ```text
//!   alloc ──▶ backing ──▶ block
//!                │ refuses
//!                ▼
//!              hook ── true: something was freed ──▶ the request again, up to `retries` times
//!                └──── false ──▶ AllocError
//! ```
//!
//! A transparent layer: blocks are the backing's own. Only `alloc` and `alloc_zeroed` come to the hook: a refused
//! `resize` or `remap` says nothing about memory, and its caller allocates next.
//!
//! No lock and no borrow is held while the hook runs; it may allocate and free, here too, and a panic in it aborts
//! (clause 10 of the contract). One hook runs at a time: a request that is refused meanwhile, of the hook itself or of
//! another thread, is refused for good. So a hook that needs memory and finds none does not call itself without end, and
//! nobody waits for anybody.
//!
//! Costs: nothing where the backing grants.

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::{hook::AbortOnUnwind, transparent::pass_on_capabilities};

/// A request that the backing has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub len: NonZeroUsize,
    /// Alignment asked for.
    pub alignment: Alignment,
    /// How often the hook was called for this request before.
    pub attempt: u32,
}

/// Frees what it can when there is no memory. Any `Fn(&OutOfMemory) -> bool` is one.
pub trait Reclaim {
    /// Whether something was freed, so that it is worth asking again.
    fn reclaim(&self, refused: &OutOfMemory) -> bool;
}

impl<F: Fn(&OutOfMemory) -> bool> Reclaim for F {
    fn reclaim(&self, refused: &OutOfMemory) -> bool {
        self(refused)
    }
}

/// Asks `hook` to free something where `backing` refuses, and asks `backing` again.
///
/// Use it where memory is held that can be had back: caches, free lists, garbage.
///
/// - **I1** `busy` is set exactly while the hook runs.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{FreeListAllocator, LimitAllocator, OnOomAllocator, OutOfMemory};
///
/// let limited = LimitAllocator::new(SystemAllocator, 1000);
/// let cache = FreeListAllocator::new(&limited, 1..=600, 8);
/// let buffer = cache.alloc_slice::<u8>(600)?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { cache.free_slice(buffer) };
/// assert!(limited.dupe(&[0u8; 700]).is_err(), "the cache has 600 of the 1000 bytes");
///
/// let reclaiming = OnOomAllocator::new(&limited, 1, |_: &OutOfMemory| {
///     let kept = cache.kept_blocks();
///     cache.trim();
///     kept > 0
/// });
/// let large = reclaiming.dupe(&[0u8; 700])?;
/// # // SAFETY: live, of this allocator, not used again.
/// # unsafe { reclaiming.free_slice(large) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct OnOomAllocator<A, H> {
    busy: AtomicBool,
    retries: u32,
    hook: H,
    backing: A,
}

impl<A, H: Reclaim> OnOomAllocator<A, H> {
    /// For each refused request `hook` is called up to `retries` times; takes no memory itself.
    pub const fn new(backing: A, retries: u32, hook: H) -> Self {
        Self { busy: AtomicBool::new(false), retries, hook, backing }
    }

    /// The hook, to ask what it did.
    pub const fn hook(&self) -> &H {
        &self.hook
    }
}

impl<A: Allocator, H: Reclaim> OnOomAllocator<A, H> {
    #[cold]
    #[track_caller]
    fn again(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        for attempt in 0..self.retries {
            if !self.reclaimed(&OutOfMemory { len, alignment, attempt }) {
                break;
            }
            let block =
                if zeroed { self.backing.alloc_zeroed(len, alignment) } else { self.backing.alloc(len, alignment) };
            if block.is_ok() {
                return block;
            }
        }
        Err(AllocError)
    }

    /// Whether the hook was free, and says that something was freed.
    fn reclaimed(&self, refused: &OutOfMemory) -> bool {
        // Acquire and Release: one hook's doings are seen by the next one, on whatever thread.
        if self.busy.swap(true, Acquire) {
            return false;
        }
        let abort = AbortOnUnwind("the hook of an OnOomAllocator");
        let reclaimed = self.hook.reclaim(refused);
        core::mem::forget(abort);
        self.busy.store(false, Release);
        reclaimed
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged.
unsafe impl<A: Allocator, H: Reclaim> Allocator for OnOomAllocator<A, H> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.backing.alloc(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.again(len, alignment, false),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.backing.alloc_zeroed(len, alignment) {
            Ok(block) => Ok(block),
            Err(AllocError) => self.again(len, alignment, true),
        }
    }
}

impl<A: BulkFree, H: Reclaim> BulkFree for OnOomAllocator<A, H> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset, H> Reset for OnOomAllocator<A, H> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.backing.reset(mode)
    }
}

impl<A: Stats, H> Stats for OnOomAllocator<A, H> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[H: Reclaim] for OnOomAllocator<A, H>);
bridge_collections!(impl['b, A: Allocator, H: Reclaim] for &'b OnOomAllocator<A, H>);

impl<A: fmt::Debug, H> fmt::Debug for OnOomAllocator<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnOomAllocator")
            .field("retries", &self.retries)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}
