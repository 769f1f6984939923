//! [`LogAllocator`]: tells a sink of every call.
//!
//! ```text
//!   caller ──▶ LogAllocator ──▶ backing
//!                   │ Call { op, site }
//!                   ▼
//!                 sink            a counter, a printer, a trace file for the lab
//! ```
//!
//! A transparent layer: blocks are the backing's own. The sink hears of an `alloc`, `resize` or `remap` after
//! the backing has answered, and of a `free` or `reset` before it, so that in the sink's order no block is handed
//! out before the free that made room for it, whatever threads race. Bytes that a `resize` cut off or a
//! `remap` left may be heard of in another thread's `alloc` first.
//!
//! The sink is a hook (clause 10 of the contract): no lock is held while it runs, it may allocate, here
//! too, and a panic in it aborts. `decommit` and `protect`, which make and end no block, are passed on untold.
//! Costs: one call of the sink, nothing else.

use core::{fmt, num::NonZeroUsize, panic::Location, ptr::NonNull};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, Reset, ResetMode, Stats, bridge_collections,
};

use crate::{hook::AbortOnUnwind, transparent::pass_on_capabilities};

/// One call that went through a [`LogAllocator`].
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What was called, and what came of it.
    pub op: CallOp,
    /// Who called: by `#[track_caller]`, so through foreign collections it names those.
    pub site: &'static Location<'static>,
}

/// What was called, and what came of it. Lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOp {
    /// `alloc`, or `alloc_zeroed` where `zeroed`.
    Alloc {
        /// Bytes asked for.
        len: NonZeroUsize,
        /// Alignment asked for.
        alignment: Alignment,
        /// Whether zeroes were asked for.
        zeroed: bool,
        /// What the backing gave.
        result: Result<NonNull<u8>, AllocError>,
    },
    /// `resize`.
    Resize {
        /// The block as it was.
        memory: NonNull<[u8]>,
        /// Its alignment.
        alignment: Alignment,
        /// Bytes asked for.
        new_len: NonZeroUsize,
        /// What the backing said.
        granted: bool,
    },
    /// `remap`.
    Remap {
        /// The block as it was.
        memory: NonNull<[u8]>,
        /// Its alignment.
        alignment: Alignment,
        /// Bytes asked for.
        new_len: NonZeroUsize,
        /// Where the block is now, or the refusal.
        result: Option<NonNull<u8>>,
    },
    /// `free`, or one of the blocks of a `bulk_free`.
    Free {
        /// The block.
        memory: NonNull<[u8]>,
        /// Its alignment.
        alignment: Alignment,
    },
    /// `reset`: every block of this allocator ends.
    Reset {
        /// How much memory it keeps.
        mode: ResetMode,
    },
}

/// Hears of every call. Any `Fn(&Call)` is one.
pub trait Sink {
    /// One call, in the calling thread.
    fn record(&self, call: &Call);
}

impl<F: Fn(&Call)> Sink for F {
    fn record(&self, call: &Call) {
        self(call);
    }
}

/// Passes every call to `backing` and tells `sink`.
///
/// ```
/// use core::cell::Cell;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{Call, LogAllocator};
///
/// let calls = Cell::new(0);
/// let logged = LogAllocator::new(SystemAllocator, |call: &Call| {
///     assert!(call.site.file().ends_with(".rs"));
///     calls.set(calls.get() + 1);
/// });
/// let word = logged.dupe(b"red")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { logged.free_slice(word) };
/// assert_eq!(calls.get(), 2);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct LogAllocator<A, S> {
    sink: S,
    backing: A,
}

impl<A, S: Sink> LogAllocator<A, S> {
    /// Tells `sink` of every call; takes no memory itself.
    pub const fn new(backing: A, sink: S) -> Self {
        Self { sink, backing }
    }

    /// The sink, to ask what it heard.
    pub const fn sink(&self) -> &S {
        &self.sink
    }

    #[track_caller]
    fn tell(&self, op: CallOp) {
        let abort = AbortOnUnwind("the sink of a LogAllocator");
        self.sink.record(&Call { op, site: Location::caller() });
        core::mem::forget(abort);
    }
}

// SAFETY: blocks are `backing`'s own, and every call reaches it unchanged.
unsafe impl<A: Allocator, S: Sink> Allocator for LogAllocator<A, S> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let result = self.backing.alloc(len, alignment);
        self.tell(CallOp::Alloc { len, alignment, zeroed: false, result });
        result
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        let granted = unsafe { self.backing.resize(memory, alignment, new_len) };
        self.tell(CallOp::Resize { memory, alignment, new_len, granted });
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        let result = unsafe { self.backing.remap(memory, alignment, new_len) };
        self.tell(CallOp::Remap { memory, alignment, new_len, result });
        result
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.tell(CallOp::Free { memory, alignment });
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let result = self.backing.alloc_zeroed(len, alignment);
        self.tell(CallOp::Alloc { len, alignment, zeroed: true, result });
        result
    }
}

impl<A: BulkFree, S: Sink> BulkFree for LogAllocator<A, S> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for &memory in blocks {
            self.tell(CallOp::Free { memory, alignment });
        }
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.bulk_free(blocks, alignment) }
    }
}

impl<A: Reset, S: Sink> Reset for LogAllocator<A, S> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.tell(CallOp::Reset { mode });
        self.backing.reset(mode)
    }
}

impl<A: Stats, S> Stats for LogAllocator<A, S> {
    fn stats(&self) -> AllocStats {
        self.backing.stats()
    }
}

pass_on_capabilities!(impl[S: Sink] for LogAllocator<A, S>);
bridge_collections!(impl['b, A: Allocator, S: Sink] for &'b LogAllocator<A, S>);

impl<A: fmt::Debug, S> fmt::Debug for LogAllocator<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAllocator").field("backing", &self.backing).finish_non_exhaustive()
    }
}
