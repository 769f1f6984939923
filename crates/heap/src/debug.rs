//! [`DebugAllocator`]: finds mistakes in the use of memory, over any backing.
//!
//! ```text
//!   caller ──▶ DebugAllocator ──▶ backing      each block between canaries, or pages that cannot be touched (shape.rs)
//!                │      │
//!                │      ├─ table.rs      what is known of each block, apart from it: a stray write cannot reach it
//!                │      └─ quarantine    freed blocks, filled with 0xDD, for a while (state.rs)
//!                ▼
//!             Handler ◀── Report         a value first, a text second (report.rs, text.rs)
//! ```
//!
//! The promises are those of Zig's `std.heap.DebugAllocator`; the shape is another, since it stands on any allocator.
//!
//! | mistake | found |
//! |---|---|
//! | leak | by [`check_for_leaks`](DebugAllocator::check_for_leaks), [`deinit`](DebugAllocator::deinit), drop |
//! | double free; use of a freed block in a call | at the call: as long as the block is in quarantine, or for ever with `retain_metadata` |
//! | free, resize or remap with a wrong length or alignment, of a foreign pointer, of another allocator's block | at the call |
//! | write past either end | at the next call for the block, at a check, at its free; at once among guard pages |
//! | write after free | when the block leaves the quarantine, at a check; at once among guard pages, and a read too |
//!
//! - **I1** A live block is `shape.before` bytes into a live block of `backing`, whose address and length its record has.
//! - **I2** While a record is `Ending` or `Busy`, the one call that made it so has the block; no other touches its bytes.
//! - **I3** A block's canaries, and a freed block's bytes where they are filled, are as they were written, unless the program wrote there.
//! - **I4** No lock is held while the backing or the handler is called (clause 10).
//! - **I5** A block's record has its seat in the table before the backing is asked for the block, and a larger table is asked for when a
//!   request has been granted: so a refused one leaves the backing as it was (clause 3). Where the table could not be made larger
//!   and is full, requests are refused until a block is freed.
//!
//! Costs: with tracking alone one lock a call, and two sums. With records a second look-up, about 110 bytes a block and twice 8 bytes a frame; canaries and
//! fill write a block's bytes once when it is made and once when it ends, and read them once.
//! `docs/measurements/layers.md` has the figures.

mod base;
mod by_address;
mod check;
mod config;
mod counts;
mod handler;
mod look;
mod pages;
mod record;
mod report;
mod seats;
mod shape;
mod state;
mod table;
mod tell;
#[cfg(test)]
mod tests;
mod text;
mod upkeep;
mod work;

use core::{
    fmt,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicUsize},
};

use terrace_core::{
    Alignment, AllocError, AllocStats, Allocator, BulkFree, GoodSize, Owns, Protect, Stats, bridge_collections,
};
use terrace_sync::Lock;

use self::{pages::Pages, shape::Shape, state::State};

#[cfg(feature = "std")]
pub use self::handler::Print;
pub use self::{
    config::{DebugConfig, MAX_FRAMES},
    handler::{Handler, PrintAndAbort},
    report::{Block, Check, Describe, Found, LimitReached, Mistake, Moment, Report, Trace},
};

/// Finds leaks, double frees, wrong lengths, writes where none belong and more, in what is asked of `backing`.
///
/// A mistake is told to the handler `H`, with the block and where it was made and freed: [`PrintAndAbort`] unless another
/// is given. Without a mistake it is an allocator like any other, for as many threads as its backing.
///
/// ```
/// use std::cell::RefCell;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::{DebugAllocator, DebugConfig, debug::{Mistake, Report}};
///
/// let reports = RefCell::new(Vec::new());
/// let collect = |report: &Report| reports.borrow_mut().push(*report);
/// let mut debug = DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), collect);
///
/// let word = debug.dupe(b"red")?;
/// assert_eq!(debug.deinit().leaks, 1);
/// assert_eq!(reports.borrow()[0].mistake, Mistake::Leak);
/// println!("{}", reports.borrow()[0]); // leak of 3 bytes at 0x…, block 1; allocated src/main.rs:10:18; to do: …
/// # unsafe { debug.free_slice(word) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct DebugAllocator<A: Allocator, H: Handler = PrintAndAbort> {
    config: DebugConfig,
    /// What `config` says of the most usual calls, so that they ask once.
    only_counts: bool,
    pages: Option<Pages<A>>,
    mistakes: AtomicUsize,
    /// Whether the table was to grow and could not.
    wanting: AtomicBool,
    state: Lock<State>,
    handler: H,
    backing: A,
}

impl<A: Allocator> DebugAllocator<A> {
    terrace_sync::const_fn! {
        /// Looks for everything but accesses by page, and aborts at a mistake.
        pub const fn new(backing: A) -> Self {
            Self::with_handler(backing, DebugConfig::new(), PrintAndAbort)
        }
    }
}

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    terrace_sync::const_fn! {
        /// Looks for what `config` says, and tells `handler`. It asks the backing for nothing before the first block.
        ///
        /// # Panics
        /// Where `config` wants guard pages, for which there is [`with_pages`](Self::with_pages); in a `static` at compile time.
        pub const fn with_handler(backing: A, config: DebugConfig, handler: H) -> Self {
            assert!(!config.guard_pages, "guard_pages needs a backing that can protect pages: DebugAllocator::with_pages");
            Self::build(backing, config, handler, None)
        }
    }

    terrace_sync::const_fn! {
        /// As [`with_handler`](Self::with_handler), over a backing whose pages can be protected; with
        /// [`guard_pages`](DebugConfig::guard_pages) each block is among pages of its own.
        pub const fn with_pages(backing: A, config: DebugConfig, handler: H) -> Self
        where
            A: Protect,
        {
            Self::build(backing, config, handler, Some(Pages::of()))
        }
    }

    terrace_sync::const_fn! {
        const fn build(backing: A, config: DebugConfig, handler: H, pages: Option<Pages<A>>) -> Self {
            let state = Lock::new(State::new(if H::WALKS { config.frames() } else { 0 }));
            Self {
                config,
                only_counts: config.only_counts(),
                pages,
                mistakes: AtomicUsize::new(0),
                wanting: AtomicBool::new(false),
                state,
                handler,
                backing,
            }
        }
    }

    /// What it looks for.
    pub const fn config(&self) -> &DebugConfig {
        &self.config
    }

    /// The layer below, to ask it something. What is freed there behind this allocator's back is a mistake.
    pub const fn backing(&self) -> &A {
        &self.backing
    }

    /// The handler, to ask what it heard.
    pub const fn handler(&self) -> &H {
        &self.handler
    }
}

// SAFETY: by I1 live blocks are distinct live blocks of `backing`, each with its own part of one; a freed block's goes back once
// (`work.rs`), after its record says that it is no longer live. What races meets in the lock (clause 6).
unsafe impl<A: Allocator, H: Handler> Allocator for DebugAllocator<A, H> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.make(len, alignment, false)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged; what it breaks is found as far as records are kept.
        unsafe { self.change_length(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: as above.
        unsafe { self.change_place(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: as above.
        unsafe { self.end(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.make(len, alignment, true)
    }
}

impl<A: BulkFree, H: Handler> BulkFree for DebugAllocator<A, H> {
    /// One by one: each is looked at.
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        for &memory in blocks {
            // SAFETY: the caller's promise for each of them.
            unsafe { self.free(memory, alignment) };
        }
    }
}

// SAFETY: every block lies in one of the backing's, which says where those are.
unsafe impl<A: Owns, H: Handler> Owns for DebugAllocator<A, H> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.backing.owns(address)
    }
}

// SAFETY: at least `len`, and no more than what the backing says, which is at most `isize::MAX` where a shape exists.
unsafe impl<A: GoodSize, H: Handler> GoodSize for DebugAllocator<A, H> {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        let Some(shape) = self.shape(len.get(), alignment).filter(|shape| shape.guards.1 == 0) else { return len };
        let around = shape.whole - len.get();
        let whole = NonZeroUsize::new(shape.whole).unwrap_or(len);
        let good = self.backing.good_size(whole, shape.alignment).get() - around;
        NonZeroUsize::new(good).map_or(len, |good| good.max(len))
    }
}

impl<A: Allocator, H: Handler> Stats for DebugAllocator<A, H> {
    /// All zero where neither tracking nor a limit is asked for.
    fn stats(&self) -> AllocStats {
        self.lock(Found::Check).counts.stats()
    }
}

bridge_collections!(impl['b, A: Allocator, H: Handler] for &'b DebugAllocator<A, H>);

impl<A: Allocator + fmt::Debug, H: Handler> fmt::Debug for DebugAllocator<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugAllocator")
            .field("config", &self.config)
            .field("backing", &self.backing)
            .finish_non_exhaustive()
    }
}

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Where a block of `len` bytes would lie; `None`: no memory holds it.
    fn shape(&self, len: usize, alignment: Alignment) -> Option<Shape> {
        match self.pages.filter(|_| self.config.paged()) {
            Some(pages) => Shape::paged(len, alignment, pages.size(&self.backing)),
            None => Shape::plain(len, alignment, self.config.canary()),
        }
    }
}
