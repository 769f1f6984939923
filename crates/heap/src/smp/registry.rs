//! [`Registry`]: the addresses of all regions, asked without a lock.
//!
//! ```text
//!   table ──▶ [ head: former, length ] [ 0 | region | 1 | 0 | region | 0 | … ]     hashed, linear probing
//!                  └──▶ a smaller one, which some reader may still be at
//! ```
//!
//! Who frees a block by its address alone, or asks whose it is, has to know whether that address lies in a region before it may
//! look there. Writers are under the lock of `pages.rs`; readers are not.
//!
//! - **I1** A table's entries are 0, never used; 1, used no more; or a region's address. A probe ends at a 0.
//! - **I2** A table's length is a power of two; an entry at least is 0, so that every probe ends. Past a half a larger table is
//!   asked for, after the region that needed it has come: so no refusal comes behind a grant (clause 3), and a table that is
//!   refused only makes probes longer.
//! - **I3** A table is given back only with the registry, so that a reader may be late. Each is twice the one before
//!   it, so the former ones together are smaller than the last.
//!
//! Cost: a hit is one or two loads; 16 bytes a region.

use core::{
    cell::UnsafeCell,
    num::NonZeroUsize,
    ptr::{self, NonNull},
    slice,
};

use terrace_core::Alignment;
use terrace_sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const NEVER: usize = 0;
const NO_MORE: usize = 1;
/// Entries of the first table, which lies in the registry itself.
const FIRST: usize = 16;

/// What a table begins with.
#[repr(C)]
pub(crate) struct Table {
    former: *mut Table,
    entries: usize,
}

impl Table {
    pub(crate) const ALIGNMENT: Alignment = Alignment::of::<Self>();

    /// # Safety
    /// `this` is a table that lives as long as `'a`.
    unsafe fn entries<'a>(this: NonNull<Self>) -> &'a [AtomicUsize] {
        // SAFETY: the caller's promise.
        let len = unsafe { this.as_ref() }.entries;
        // SAFETY: the entries lie behind the head.
        let start = unsafe { this.add(1) }.cast::<AtomicUsize>();
        // SAFETY: so many of them, written by `install`.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }
    }

    fn bytes(entries: usize) -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(size_of::<Self>() - 1 + entries * size_of::<usize>())
    }
}

/// The set of regions of `BYTES` bytes.
pub(crate) struct Registry<const BYTES: usize> {
    /// The table in use, where it is no longer `first`.
    table: AtomicPtr<Table>,
    first: [AtomicUsize; FIRST],
    counts: UnsafeCell<Counts>,
}

/// The lock's.
struct Counts {
    /// Entries that are not [`NEVER`].
    used: usize,
    /// Those that are still to come.
    reserved: usize,
    /// Whether the last larger table that was asked for was refused.
    refused: bool,
}

// SAFETY: `counts` is reached under the lock of `pages.rs`, by the promises of all who do.
unsafe impl<const BYTES: usize> Sync for Registry<BYTES> {}

impl<const BYTES: usize> Registry<BYTES> {
    terrace_sync::const_fn! {
        pub(crate) const fn new() -> Self {
            let first = terrace_sync::repeat!(AtomicUsize::new(NEVER); FIRST);
            Self { table: AtomicPtr::new(ptr::null_mut()), first, counts: UnsafeCell::new(Counts { used: 0, reserved: 0, refused: false }) }
        }
    }

    fn entries(&self) -> &[AtomicUsize] {
        // Acquire: pairs with the Release of `install`, so that the entries are there.
        match NonNull::new(self.table.load(Ordering::Acquire)) {
            // SAFETY: by I3 it lives as long as the registry.
            Some(table) => unsafe { Table::entries(table) },
            None => &self.first,
        }
    }

    /// Whether `address` lies in a region.
    #[inline]
    pub(crate) fn contains(&self, address: NonNull<u8>) -> bool {
        let region = address.addr().get() & !(BYTES - 1);
        let entries = self.entries();
        for at in probe::<BYTES>(region, entries.len()) {
            // Relaxed: whoever holds a block of a region was told of it by somebody who had seen the entry.
            match entries[at].load(Ordering::Relaxed) {
                NEVER => return false,
                entry if entry == region => return true,
                _ => {}
            }
        }
        false
    }

    /// Keeps a place for a region that is still to be asked for. `Err`: there is none; where a table of so many bytes may
    /// be had it is to be [installed](Self::install) first, for many have come at once.
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`.
    pub(crate) unsafe fn reserve(&self) -> Result<(), Option<NonZeroUsize>> {
        let len = self.entries().len();
        // SAFETY: the caller has the lock.
        let counts = unsafe { &mut *self.counts.get() };
        if counts.used + counts.reserved + 1 >= len {
            return Err((!counts.refused).then(|| Table::bytes(len * 2)));
        }
        counts.reserved += 1;
        Ok(())
    }

    /// Notes that a larger table was refused.
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`.
    pub(crate) unsafe fn note_refused(&self) {
        // SAFETY: the caller has the lock.
        unsafe { (*self.counts.get()).refused = true };
    }

    /// Gives up a place that was [reserved](Self::reserve).
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`.
    pub(crate) unsafe fn give_up(&self) {
        // SAFETY: the caller has the lock.
        unsafe { (*self.counts.get()).reserved -= 1 };
    }

    /// Enters a region for which a place was [reserved](Self::reserve). Returns the bytes of a larger table, where one is to
    /// be [installed](Self::install) now.
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`.
    pub(crate) unsafe fn insert(&self, region: NonNull<u8>) -> Option<NonZeroUsize> {
        let entries = self.entries();
        // SAFETY: the caller has the lock.
        let counts = unsafe { &mut *self.counts.get() };
        counts.reserved -= 1;
        counts.used += usize::from(enter::<BYTES>(entries, region.addr().get()));
        (counts.used * 2 > entries.len()).then(|| Table::bytes(entries.len() * 2))
    }

    /// Replaces the table by an empty one of `bytes` bytes with the same regions. `false`: the table has become as large
    /// by itself; nothing has changed.
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`. The memory is a block of the backing, aligned for a table, which the registry
    /// keeps where the answer is `true`.
    pub(crate) unsafe fn install(&self, memory: NonNull<u8>, bytes: NonZeroUsize) -> bool {
        let len = (bytes.get() - size_of::<Table>()) / size_of::<usize>();
        if self.entries().len() >= len {
            return false;
        }
        let table = memory.cast::<Table>();
        // SAFETY: inside the memory, behind the head.
        let start = unsafe { table.add(1) }.cast::<usize>();
        // SAFETY: so many words lie there.
        unsafe { start.write_bytes(0, len) };
        let former = self.table.load(Ordering::Relaxed);
        // SAFETY: the memory begins with room for a head.
        unsafe { table.write(Table { former, entries: len }) };
        // SAFETY: written just now.
        let entries = unsafe { Table::entries(table) };
        let entered = self.regions().filter(|&region| enter::<BYTES>(entries, region)).count();
        // SAFETY: the caller has the lock.
        let counts = unsafe { &mut *self.counts.get() };
        (counts.used, counts.refused) = (entered, false);
        // Release: pairs with the Acquire of `entries`.
        self.table.store(table.as_ptr(), Ordering::Release);
        true
    }

    /// Strikes a region.
    ///
    /// # Safety
    /// The caller has the lock of `pages.rs`. No block of the region is live.
    pub(crate) unsafe fn remove(&self, region: NonNull<u8>) {
        let (entries, region) = (self.entries(), region.addr().get());
        let mut places = probe::<BYTES>(region, entries.len());
        let Some(at) = places.find(|&at| entries[at].load(Ordering::Relaxed) == region) else { return };
        entries[at].store(NO_MORE, Ordering::Relaxed);
        // Where a probe would end at the next one anyway, it may end here, and before.
        let mask = entries.len() - 1;
        let is = |at: usize, what: usize| entries[at & mask].load(Ordering::Relaxed) == what;
        let mut last = at;
        while is(last + 1, NEVER) && is(last, NO_MORE) {
            entries[last].store(NEVER, Ordering::Relaxed);
            // SAFETY: the caller has the lock.
            unsafe { (*self.counts.get()).used -= 1 };
            last = last.wrapping_sub(1) & mask;
        }
    }

    /// All regions.
    pub(crate) fn regions(&self) -> impl Iterator<Item = usize> {
        self.entries().iter().map(|entry| entry.load(Ordering::Relaxed)).filter(|&entry| entry > NO_MORE)
    }

    /// Takes the newest table out, with its length in bytes, to be given back.
    pub(crate) fn pop_table(&mut self) -> Option<(NonNull<u8>, NonZeroUsize)> {
        let table = NonNull::new(self.table.load(Ordering::Relaxed))?;
        // SAFETY: by I3 it lives.
        let Table { former, entries } = unsafe { table.as_ref() };
        self.table.store(*former, Ordering::Relaxed);
        Some((table.cast(), Table::bytes(*entries)))
    }
}

/// The places of a region, in the order in which they are looked at.
#[inline]
fn probe<const BYTES: usize>(region: usize, len: usize) -> impl Iterator<Item = usize> {
    let mask = len - 1;
    (0..len).map(move |step| (region / BYTES + step) & mask)
}

/// Enters a region that is not there; whether a place was taken that was never used.
fn enter<const BYTES: usize>(entries: &[AtomicUsize], region: usize) -> bool {
    for at in probe::<BYTES>(region, entries.len()) {
        let entry = entries[at].load(Ordering::Relaxed);
        if entry <= NO_MORE {
            entries[at].store(region, Ordering::Relaxed);
            return entry == NEVER;
        }
    }
    false
}
