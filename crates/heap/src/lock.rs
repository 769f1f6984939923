//! [`LockAllocator`]: makes any allocator one for many threads.
//!
//! ```text
//!   thread 1 ──▶ ┌──────────────────────────┐
//!   thread 2 ──▶ │ holder: 0, or who is in  │ ──▶ backing, one thread at a time
//!   thread 3 ──▶ └──────────────────────────┘
//!                   the holder itself comes back (a hook of the backing): let in
//! ```
//!
//! A transparent layer: blocks are the backing's own.
//!
//! # A hook that comes back
//!
//! A backing may have hooks, and clause 10 of the contract lets a hook allocate and free in the middle of a call,
//! from the allocator above too. A plain lock would wait for itself. An error in place of that would do for `alloc`, but
//! `free` has none to give. So the lock knows who holds it, and lets that thread in again: then the backing sees a call in
//! the middle of its own call, from the same thread, which the same clause asks it to stand. What no lock can serve is
//! a hook that *waits for another thread* which allocates here: it must not. Nor may a signal handler allocate here, as with any
//! malloc: it would be let in at a moment that no hook of the backing has chosen.
//!
//! Who is who, and how to wait, is the caller's knowledge: [`StdThreads`] with std; in a kernel [`Threads`] numbers the
//! CPUs, with interrupts off.
//!
//! Costs: a compare-and-swap and a store a call where nobody else is in; a word of memory. Waiting spins a little,
//! then yields.

use core::{fmt, num::NonZeroUsize, ops::Deref, ptr::NonNull};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};
use terrace_sync::const_fn;

use crate::{
    atomic::{AtomicUsize, Ordering},
    transparent::pass_on_capabilities,
};

/// Tells callers apart.
///
/// # Safety
/// [`current`](Self::current) gives two callers that run at the same time, or one in the middle of the other, the same
/// number only where they are one thread: a [`LockAllocator`] lets both to its backing.
/// Neither function unwinds: what calls them is in the middle of an allocator's call.
pub unsafe trait Threads {
    /// Whoever calls: the same number as long as it lives.
    fn current(&self) -> NonZeroUsize;

    /// Waits a moment for another caller, after `tries` failed tries.
    fn pause(&self, tries: u32) {
        for _ in 0..1 << tries.min(6) {
            core::hint::spin_loop();
        }
    }
}

/// The threads of std, told apart by where their thread-local variables lie. A waiting one spins six times, then yields.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug, Default)]
pub struct StdThreads;

#[cfg(feature = "std")]
std::thread_local! {
    /// Only its address is used. Without a destructor, so that it is there as long as the thread is.
    static HERE: u8 = const { 0 };
}

// SAFETY: threads that live at the same time have thread-local variables at different addresses.
#[cfg(feature = "std")]
unsafe impl Threads for StdThreads {
    #[inline]
    fn current(&self) -> NonZeroUsize {
        HERE.with(|here| NonNull::from(here).addr())
    }

    fn pause(&self, tries: u32) {
        if tries < 6 {
            for _ in 0..1 << tries {
                core::hint::spin_loop();
            }
        } else {
            std::thread::yield_now();
        }
    }
}

/// Lets one thread at a time to `backing`.
///
/// Use it to share what is made for one thread: an arena of a parser's worker threads, a pool. Where many threads
/// allocate all the time take [`SmpAllocator`](crate::SmpAllocator) or [`SyncArena`](crate::SyncArena), which have no lock.
///
/// A hook of the backing that comes back into the lock, in the thread that holds it, is let in: a plain lock would wait for
/// itself. It must not wait for another thread that allocates here.
///
/// - **I1** `holder` is the number of the one thread that has a `Held`, and 0 where there is none; `backing` is reached
///   through a `Held`, or by `&mut self`.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use std::thread;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, LockAllocator};
///
/// let shared = LockAllocator::new(ArenaAllocator::new(SystemAllocator));
/// thread::scope(|threads| {
///     for _ in 0..2 {
///         threads.spawn(|| shared.dupe(b"red").is_ok());
///     }
/// });
/// # }
/// ```
pub struct LockAllocator<A, T> {
    holder: AtomicUsize,
    threads: T,
    backing: A,
}

// SAFETY: by I1 one thread at a time reaches `backing`, and the Release of whoever leaves happens before the Acquire of
// whoever enters next; so sharing the lock only moves the backing from thread to thread.
unsafe impl<A: Send, T: Sync> Sync for LockAllocator<A, T> {}

#[cfg(feature = "std")]
impl<A> LockAllocator<A, StdThreads> {
    const_fn! {
        /// For the threads of std; takes no memory itself.
        pub const fn new(backing: A) -> Self {
            Self { holder: AtomicUsize::new(0), threads: StdThreads, backing }
        }
    }
}

/// The right to the backing, until it is dropped.
struct Held<'a, A, T> {
    lock: &'a LockAllocator<A, T>,
    /// Who is the holder afterwards: nobody, or this thread still, where another `Held` of its was there before.
    after: usize,
}

impl<A, T> Deref for Held<'_, A, T> {
    type Target = A;

    #[inline]
    fn deref(&self) -> &A {
        &self.lock.backing
    }
}

impl<A, T> Drop for Held<'_, A, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of whoever enters next.
        self.lock.holder.store(self.after, Ordering::Release);
    }
}

impl<A, T: Threads> LockAllocator<A, T> {
    const_fn! {
        /// For callers that `threads` tells apart; takes no memory itself.
        pub const fn with_threads(backing: A, threads: T) -> Self {
            Self { holder: AtomicUsize::new(0), threads, backing }
        }
    }

    #[inline]
    fn lock(&self) -> Held<'_, A, T> {
        let me = self.threads.current();
        let after = if self.try_enter(me).is_ok() { 0 } else { self.wait(me) };
        Held { lock: self, after }
    }

    #[inline]
    fn try_enter(&self, me: NonZeroUsize) -> Result<usize, usize> {
        // Acquire: pairs with the Release of whoever left. Relaxed where it fails: then nothing is read.
        self.holder.compare_exchange(0, me.get(), Ordering::Acquire, Ordering::Relaxed)
    }

    /// Enters, and says who is to be the holder afterwards.
    #[cold]
    fn wait(&self, me: NonZeroUsize) -> usize {
        let mut tries = 0;
        loop {
            match self.try_enter(me) {
                Ok(_) => return 0,
                // Only this thread writes this number, so it is in already (I1).
                Err(holder) if holder == me.get() => return holder,
                Err(_) => self.threads.pause(tries),
            }
            tries = tries.saturating_add(1);
        }
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged, one thread at a time (I1).
unsafe impl<A: Allocator, T: Threads> Allocator for LockAllocator<A, T> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.lock().alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let backing = self.lock();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { backing.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let backing = self.lock();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { backing.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let backing = self.lock();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.lock().alloc_zeroed(len, alignment)
    }
}

impl<A: BulkFree, T: Threads> BulkFree for LockAllocator<A, T> {
    /// All of `blocks` under one lock.
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        let backing = self.lock();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset, T> Reset for LockAllocator<A, T> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.backing.reset(mode)
    }
}

impl<A: Stats, T: Threads> Stats for LockAllocator<A, T> {
    fn stats(&self) -> AllocStats {
        self.lock().stats()
    }
}

pass_on_capabilities!(impl[T: Threads] for LockAllocator<A, T>, |layer| layer.lock());
bridge_collections!(impl['b, A: Allocator, T: Threads] for &'b LockAllocator<A, T>);

impl<A, T> fmt::Debug for LockAllocator<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockAllocator")
            .field("held", &(self.holder.load(Ordering::Relaxed) != 0))
            .finish_non_exhaustive()
    }
}
