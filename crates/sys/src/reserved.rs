//! [`ReservedAllocator`]: blocks side by side in a reservation, committed as they reach into it.
//!
//! ```text
//!  reservation
//!  ├─ block ─┬pad┬─ last block ──────▶ grows where it is, up to the reservation's end
//!  ├──────── committed ────────┤┄┄┄┄┄┄┄┄┄┄ addresses without memory ┄┄┄┄┄┄┄┄┄┄┄┤
//! ```
//!
//! - **I1** The extent is the reservation's, usable as far as it is committed.
//!
//! Costs: a few instructions a call, and one mprotect for each [`STEP`] that blocks reach into for the first time.

use core::{num::NonZeroUsize, ops::Range, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode};

use crate::{Reservation, extent::Extent, prim::page_size};

/// How much is committed at once, in bytes: a multiple of every page size.
const STEP: usize = 256 << 10;

/// Allocates from a [`Reservation`] of its own.
///
/// The last block grows, and shrinks, where it is: a vector that is alone in it never moves, however large it becomes,
/// and pointers into it stay valid while it grows. Any other block stays as large as it is, and what was not the last when it was
/// freed comes back with [`reset`](Reset::reset). (Put an `ArenaAllocator` or another on it to get more out of it.)
/// A reset gives memory back to the system, as far as it is told; `alloc_zeroed` writes only where something was.
///
/// Blocks share pages, so it has no [`PageSize`](terrace_core::PageSize). Two threads cannot use it at once.
///
/// ```
/// # #[cfg(feature = "allocator-api2-02")] {
/// use allocator_api2_02::vec::Vec;
/// use core::num::NonZeroUsize;
/// use terrace_sys::ReservedAllocator;
///
/// let region = ReservedAllocator::new(NonZeroUsize::new(1 << 36).unwrap())?; // 64 GiB of addresses
/// let mut log = Vec::new_in(&region);
/// log.push(0u64);
/// let first = log.as_ptr();
/// log.extend(1..100_000);
/// assert_eq!(log.as_ptr(), first, "it has not moved");
/// assert!(region.committed() < 2 << 20);
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// Blocks do not outlive it:
///
/// ```compile_fail,E0505
/// use allocator_api2_02::vec::Vec;
/// use core::num::NonZeroUsize;
/// use terrace_sys::ReservedAllocator;
///
/// let region = ReservedAllocator::new(NonZeroUsize::new(1 << 20).unwrap()).unwrap();
/// let mut log = Vec::new_in(&region);
/// drop(region);
/// log.push(1u8);
/// ```
///
/// nor a reset:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use core::num::NonZeroUsize;
/// use terrace_core::{Reset, ResetMode};
/// use terrace_sys::ReservedAllocator;
///
/// let mut region = ReservedAllocator::new(NonZeroUsize::new(1 << 20).unwrap()).unwrap();
/// let mut log = Vec::new_in(&region);
/// region.reset(ResetMode::FreeAll);
/// log.push(1u8);
/// ```
///
/// and no second thread gets at it:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_sys::ReservedAllocator>();
/// ```
#[derive(Debug)]
pub struct ReservedAllocator {
    extent: Extent,
    backing: Reservation,
}

// SAFETY: the reservation is its own and `Send`; its blocks are bytes, which may be written from any thread.
unsafe impl Send for ReservedAllocator {}

impl ReservedAllocator {
    /// Reserves `capacity` bytes of addresses, rounded up to whole pages. Takes no memory.
    ///
    /// # Errors
    /// [`AllocError`] where the system has no such run of addresses.
    pub fn new(capacity: NonZeroUsize) -> Result<Self, AllocError> {
        let backing = Reservation::new(capacity)?;
        // SAFETY: the reservation is this allocator's; it reads as zero when it is first committed.
        let extent = unsafe { Extent::new(backing.start(), backing.capacity(), STEP, 0) };
        Ok(Self { extent, backing })
    }

    /// Bytes that blocks can ever take, padding included.
    pub fn capacity(&self) -> usize {
        self.extent.capacity()
    }

    /// Bytes from the start to the end of the last block, padding included.
    pub fn end_index(&self) -> usize {
        self.extent.end()
    }

    /// Bytes for which the system has promised memory.
    pub fn committed(&self) -> usize {
        self.extent.ready()
    }

    /// Commits what blocks reach into; I1.
    fn committer(&self) -> impl FnOnce(Range<usize>) -> bool {
        |range| self.backing.commit(range).is_ok()
    }
}

// SAFETY: by the invariants of `Extent`, whose region is the reservation's (I1) and stays where it is when this moves.
unsafe impl Allocator for ReservedAllocator {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.extent.alloc(len, alignment, self.committer())
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        self.extent.resize(memory, new_len, self.committer())
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.extent.resize(memory, new_len, self.committer()).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        self.extent.free(memory);
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.extent.alloc_zeroed(len, alignment, self.committer())
    }
}

// SAFETY: exactly the addresses of the reservation are this allocator's.
unsafe impl Owns for ReservedAllocator {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.extent.owns(address)
    }
}

impl Reset for ReservedAllocator {
    /// Ends all blocks and gives memory back to the system, but for what `mode` retains. `false` where the system did
    /// not take it: it stays committed.
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.extent.reset();
        let committed = self.extent.ready();
        let keep = match mode {
            ResetMode::FreeAll => 0,
            ResetMode::RetainCapacity => committed,
            ResetMode::RetainWithLimit(limit) => committed.min(limit - limit % page_size()),
        };
        // SAFETY: all blocks have ended.
        let decommitted = unsafe { self.backing.decommit(keep..committed) };
        if decommitted {
            self.extent.retreat(keep);
        }
        decommitted
    }
}

terrace_core::bridge_collections!(impl['b] for &'b ReservedAllocator);
