//! [`Reservation`]: addresses now, memory later.
//!
//! ```text
//!  start                                                          start + capacity
//!  +----------------+--------------------+-----------+------------------+
//!  | committed: RW  | reserved: untouch- | committed | reserved         |
//!  |                | able, no memory    |           |                  |
//!  +----------------+--------------------+-----------+------------------+
//!  note: one page elsewhere, for the day that the system refuses to unmap (`parked.rs`)
//! ```
//!
//! - **I1** `start` begins a range (in `prim`'s sense) of `capacity` bytes, whole pages, of this reservation alone.
//! - **I2** `note` begins a writable page of this reservation alone.
//! - **I3** What is committed can be read and written; the first time since it was last reserved it reads as zero.
//!
//! Costs: two mmaps, and as many munmaps in the end; up to two munmaps more for an alignment above the page. A
//! commit is one mprotect, a decommit one madvise and one mprotect. No memory but what is committed and touched.

use core::{num::NonZeroUsize, ops::Range, ptr::NonNull};

use terrace_core::{Access, Alignment, AllocError};

use crate::{
    giving_back::{cut, map_by, map_pages, release, release_noted},
    plan::{self, whole_pages},
    prim::{self, page_size},
};

/// A range of addresses that nobody else gets, and whose pages are made usable, and given back, part by part.
///
/// For whoever wants one large thing at one address that is to grow: a heap, a table, the column of a database. As
/// an allocator it is [`ReservedAllocator`](crate::ReservedAllocator). Dropping it unmaps everything.
///
/// Offsets are in bytes from [`start`](Self::start) and multiples of [`page_size`].
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_sys::{Reservation, page_size};
///
/// let table = Reservation::new(NonZeroUsize::new(1 << 30).unwrap())?; // a GiB of addresses, no memory
/// table.commit(0..page_size())?;
/// // SAFETY: committed, and used by nobody else.
/// unsafe { table.start().write(7) };
/// // SAFETY: nobody uses the page any more.
/// assert!(unsafe { table.decommit(0..page_size()) });
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
#[derive(Debug)]
pub struct Reservation {
    start: NonNull<u8>,
    capacity: usize,
    note: NonNull<u8>,
}

// SAFETY: by I1 and I2 the addresses are its own, and the system takes calls about them from any thread.
unsafe impl Send for Reservation {}
// SAFETY: as above; what `commit` and `decommit` do to the same pages at once is one of the two.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `len` bytes, rounded up to whole pages.
    ///
    /// # Errors
    /// [`AllocError`] where the system has no such run of addresses, or its limit on them (`RLIMIT_AS`) is reached.
    pub fn new(len: NonZeroUsize) -> Result<Self, AllocError> {
        Self::with_alignment(len, Alignment::ONE)
    }

    /// As [`new`](Self::new), at a multiple of `alignment` too.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_alignment(len: NonZeroUsize, alignment: Alignment) -> Result<Self, AllocError> {
        let page = page_size();
        let capacity = whole_pages(len.get(), page).ok_or(AllocError)?;
        let alignment = alignment.bytes().max(page);
        let reserved = plan::over_reserve(capacity, alignment, page).ok_or(AllocError)?;
        let note = map_pages(page)?;
        let Ok(start) = map_by(|| prim::reserve(reserved)) else {
            // SAFETY: just mapped, a page of its own.
            unsafe { release(note, page) };
            return Err(AllocError);
        };
        let trims = plan::trims(start.addr().get(), reserved, capacity, alignment);
        // SAFETY: the range and the note are ours, and of nobody yet.
        let start = unsafe { cut(note, start, reserved, trims) }?;
        Ok(Self { start, capacity, note })
    }

    /// Where it begins. The pointer may be used for all that is committed.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes: what was asked for, in whole pages.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the pages at the offsets `range` readable and writable, and has the system promise memory for them.
    /// Those that were reserved read as zero; those that were committed stay as they are.
    ///
    /// # Errors
    /// [`AllocError`] where the system does not promise the memory, or has no map left for the process: what was
    /// committed stays so, with its contents, and of the rest some pages may be committed. And where `range` is
    /// not of whole pages within the reservation: nothing has changed.
    pub fn commit(&self, range: Range<usize>) -> Result<(), AllocError> {
        let Some(len) = self.whole(&range) else { return Err(AllocError) };
        if len == 0 {
            return Ok(());
        }
        // SAFETY: within the reservation.
        let start = unsafe { self.start.add(range.start) };
        // SAFETY: by I1 a range; what could be done to it can be done still.
        Ok(unsafe { prim::protect(start, len, Access::ReadWrite) }?)
    }

    /// Gives the memory of the pages at the offsets `range` back; nobody can touch them until they are committed again.
    ///
    /// `false` where the system refuses, since pages are locked or the process has no map left: they are committed
    /// still, each with its contents or empty. And where `range` is not of whole pages within the reservation:
    /// nothing has changed.
    ///
    /// (A system that counts promises, `vm.overcommit_memory = 2`, counts these pages until the drop.)
    ///
    /// # Safety
    /// Nobody uses what lies in these pages any more.
    pub unsafe fn decommit(&self, range: Range<usize>) -> bool {
        let Some(len) = self.whole(&range) else { return false };
        if len == 0 {
            return true;
        }
        // SAFETY: within the reservation.
        let start = unsafe { self.start.add(range.start) };
        // Emptied first: where the second call fails, the pages are committed, and empty, which is a state too.
        // SAFETY: by I1 a range, given up by the caller's promise.
        let emptied = unsafe { prim::decommit(start, len) };
        // SAFETY: as above.
        emptied.is_ok() && unsafe { prim::protect(start, len, Access::None) }.is_ok()
    }

    /// The length of `range`, where it is of whole pages within the reservation.
    fn whole(&self, range: &Range<usize>) -> Option<usize> {
        let whole = |offset: usize| offset.is_multiple_of(page_size());
        let within = range.start <= range.end && range.end <= self.capacity;
        (within && whole(range.start) && whole(range.end)).then(|| range.end - range.start)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: by I1 and I2; nobody uses either after this.
        unsafe { release_noted(self.note, self.start, self.capacity) };
    }
}
