//! [`SmpAllocator`]: the general-purpose allocator, for any number of threads, over any backing.
//!
//! ```text
//!   alloc, free    small.rs                            one thread, no lock
//!     │            `Slots` says which slot is the caller's
//!     ▼ magazine.rs   per slot and class three chains of free blocks (chain.rs)
//!   ──┼─────────────────────────────────────────────── one lock for 4 to 64 blocks
//!     ▼ depot.rs      per class some full chains, and the slabs that have free blocks
//!     │ slab.rs       a run of pages cut into blocks of one class (class.rs)
//!   ──┼─────────────────────────────────────────────── one lock for a slab
//!     ▼ pages.rs      runs of pages out of regions (region.rs, plan.rs, registry.rs)
//!   ──┼─────────────────────────────────────────────── supply.rs: the backing, called without a lock
//!   above 32 KiB      medium.rs: runs of pages of their own
//!   above 1 MiB       straight.rs: the backing's own blocks, written down in large.rs
//! ```
//!
//! The idea is Zig's `std.heap.SmpAllocator`: slots bounded by the processors, which threads take over from one another,
//! and a `free` that is told the length. The magazines are Bonwick's. What Zig's never does is to give small memory back.
//!
//! # The interface, for who builds on this
//!
//! | | |
//! |---|---|
//! | [`SmpAllocator::new`], [`with_decommit`](SmpAllocator::with_decommit), [`with_region_size`](SmpAllocator::with_region_size) | const: a `static` needs no further call; any number of instances |
//! | [`Allocator`] | `free` is told length and alignment, so the class needs no look-up |
//! | [`free_by_address`](SmpAllocator::free_by_address), [`size_by_address`](SmpAllocator::size_by_address), [`remap_by_address`](SmpAllocator::remap_by_address) | the same blocks for a caller who has the address alone, as C's `free` and `realloc` |
//! | [`GoodSize`], [`Owns`] | |
//! | [`trim`](SmpAllocator::trim), [`purge_idle`](SmpAllocator::purge_idle), [`has_idle`](SmpAllocator::has_idle) | give back what is not used now; what has not been used for a while |
//! | [`class_stats`](SmpAllocator::class_stats), [`medium_bytes`](SmpAllocator::medium_bytes) | slabs and blocks of each size class; what the blocks above have |
//! | [`lock_for_fork`](SmpAllocator::lock_for_fork), [`unlock_after_fork`](SmpAllocator::unlock_after_fork) | for the handlers of a fork |
//!
//! ```
//! use terrace_core::{AllocatorExt, SystemAllocator};
//! use terrace_heap::SmpAllocator;
//! use terrace_sync::NoSlots;
//!
//! static SMP: SmpAllocator<SystemAllocator, NoSlots> = SmpAllocator::new(SystemAllocator, NoSlots);
//!
//! let squares = SMP.alloc_slice::<u64>(100).unwrap();
//! SMP.trim();
//! # unsafe { SMP.free_slice(squares) };
//! ```

mod address;
mod chain;
mod class;
mod depot;
mod large;
mod magazine;
mod medium;
#[cfg(doctest)]
mod misuse;
mod pages;
mod plan;
mod region;
mod registry;
mod slab;
mod small;
mod straight;
mod supply;
#[cfg(test)]
mod tests;
mod upkeep;

use core::{
    num::NonZeroUsize,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, AllocError, Allocator, Decommit, GoodSize, Owns};
use terrace_sync::{
    Lock, Slots,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
};

use self::{
    class::{CLASSES, PAGE, class_of, size, small},
    depot::Depot,
    large::{Book, Large},
    magazine::Slot,
    medium::RUNS,
    pages::Pages,
    region::Region,
    supply::decommit_pages,
};

/// How many bytes of a backing a region takes, where nothing else is said.
pub const REGION: usize = 4 << 20;

/// Free pages that stay with their memory, beside a share of those in use.
const RETAINED: usize = 2048;
/// As many free pages as there may be, for who gives the rest back later.
const KEEP: usize = usize::MAX / 2;
/// Free pages with memory that make a purge worth while.
const MUCH: usize = 1024;
/// Between one look at what is idle and the next.
const PURGE_MILLIS: usize = 250;

const PAGE_ALIGNMENT: Alignment = match Alignment::new(PAGE) {
    Some(alignment) => alignment,
    None => Alignment::ONE, // Not reached: a power of two.
};

/// How a backing is asked to take the memory of pages back.
type DecommitFn<A> = unsafe fn(&A, NonNull<[u8]>) -> bool;

/// The general-purpose allocator.
///
/// - **I1** Every block of at most 32 KiB, and of such an alignment, is one of a slab's of its class; every other
///   block is aligned to a page at least, and is a run of a region, or one of the backing's and in the book.
/// - **I2** `table` is null, and then blocks go from slabs and back to them, or is a run or a block of the backing with `slots.count() + 2` slots: number 0 is nobody's and empty,
///   the last is common to all who have no number, under `common`.
/// - **I3** Locks are taken in the order common, a depot, pages; the book alone; and none is held while
///   the backing is called (clause 10).
pub struct SmpAllocator<A: Allocator, S: Slots, const BYTES: usize = REGION> {
    table: AtomicPtr<Slot>,
    depots: [Lock<Depot<BYTES>>; CLASSES],
    pages: Pages<BYTES>,
    book: Lock<Book>,
    runs: [AtomicUsize; RUNS],
    common: Lock<()>,
    purged: AtomicUsize,
    idle: AtomicBool,
    decommit: Option<DecommitFn<A>>,
    slots: S,
    backing: A,
}

/// What is known of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// A block's bytes.
    pub size: usize,
    /// Slabs that the class has.
    pub slabs: usize,
    /// Blocks out of the slabs: live, in magazines, or in the depot.
    pub blocks_out: usize,
    /// Those of them that wait in the depot.
    pub blocks_in_depot: usize,
}

impl<A: Allocator, S: Slots> SmpAllocator<A, S> {
    terrace_sync::const_fn! {
        /// An allocator over `backing`, which is asked for nothing before the first block.
        ///
        /// What is idle goes back in whole regions of [`REGION`] bytes; [`with_decommit`](Self::with_decommit) gives more back.
        pub const fn new(backing: A, slots: S) -> Self {
            Self::with_region_size(backing, slots)
        }
    }

    terrace_sync::const_fn! {
        /// An allocator over a backing that can take the memory of single pages back.
        pub const fn with_decommit(backing: A, slots: S) -> Self
        where
            A: Decommit,
        {
            Self::build(backing, slots, Some(decommit_pages::<A>))
        }
    }
}

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    terrace_sync::const_fn! {
        /// As [`SmpAllocator::new`], with regions of `BYTES` bytes, a power of two from 64 KiB to 256 MiB: small ones for a
        /// backing that is small.
        ///
        /// The slots lie in the first region where they take less than half of it, about 12 of them in 64 KiB; more are a block of
        /// the backing's, asked for when the first small block has been served. Where that is refused every block takes
        /// a lock, until the next slab. For a small backing a provider with few slots saves memory.
        pub const fn with_region_size(backing: A, slots: S) -> Self {
            Self::build(backing, slots, None)
        }
    }

    terrace_sync::const_fn! {
        const fn build(backing: A, slots: S, decommit: Option<DecommitFn<A>>) -> Self {
            let _ = Region::<BYTES>::PLAN; // Refuses a bad size at compile time.
            Self {
                table: AtomicPtr::new(ptr::null_mut()),
                depots: terrace_sync::repeat!(Lock::new(Depot::new()); CLASSES),
                pages: Pages::new(),
                book: Lock::new(Book::new()),
                runs: terrace_sync::repeat!(AtomicUsize::new(0); RUNS),
                common: Lock::new(()),
                purged: AtomicUsize::new(0),
                idle: AtomicBool::new(false),
                decommit,
                slots,
                backing,
            }
        }
    }
}

// SAFETY: by I1 blocks are distinct: of a slab, each is out once, or distinct blocks of the backing. What one thread frees
// reaches another through a lock or with the slot's number, both of which order the two (clause 6).
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Allocator for SmpAllocator<A, S, BYTES> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match small(len.get(), alignment.bytes()) {
            Some(len) => self.alloc_small(class_of(len)),
            None => self.alloc_large(len, alignment, false),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        match (small(memory.len(), alignment.bytes()), small(new_len.get(), alignment.bytes())) {
            (Some(old), Some(new)) => class_of(old) == class_of(new),
            // SAFETY: by I1 a large block.
            (None, None) => unsafe { self.resize_large(memory.cast(), new_len) },
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        match (small(memory.len(), alignment.bytes()), small(new_len.get(), alignment.bytes())) {
            (Some(old), Some(new)) => (class_of(old) == class_of(new)).then_some(memory.cast()),
            // SAFETY: by I1 a large block.
            (None, None) => unsafe { self.remap_large(memory.cast(), new_len) },
            _ => None,
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        match small(memory.len(), alignment.bytes()) {
            // SAFETY: by I1 a block of that class, which the caller gives up.
            Some(len) => unsafe { self.free_small(class_of(len), memory.cast()) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.free_large(memory.cast()) },
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if small(len.get(), alignment.bytes()).is_none() {
            return self.alloc_large(len, alignment, true);
        }
        let block = self.alloc(len, alignment)?;
        // SAFETY: the block is live and has `len` bytes.
        unsafe { block.write_bytes(0, len.get()) };
        Ok(block)
    }
}

// SAFETY: by I1 a block lies in a region or is in the book, and nothing else is.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Owns for SmpAllocator<A, S, BYTES> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.pages.registry.contains(address) || self.book().get(address).is_some()
    }
}

// SAFETY: a class is at least as large as what it is for; otherwise the length itself.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> GoodSize for SmpAllocator<A, S, BYTES> {
    #[inline]
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        small(len.get(), alignment.bytes()).and_then(|len| NonZeroUsize::new(size(class_of(len)))).unwrap_or(len)
    }
}

// Nothing unwinds in the middle of a change (clause 10), so what is seen after a panic is whole.
impl<A: Allocator + UnwindSafe, S: Slots + UnwindSafe, const BYTES: usize> UnwindSafe for SmpAllocator<A, S, BYTES> {}
impl<A: Allocator + RefUnwindSafe, S: Slots + RefUnwindSafe, const BYTES: usize> RefUnwindSafe
    for SmpAllocator<A, S, BYTES>
{
}

terrace_core::bridge_collections!(impl['b, A: Allocator, S: Slots, const BYTES: usize] for &'b SmpAllocator<A, S, BYTES>);

impl<A: Allocator, S: Slots, const BYTES: usize> Drop for SmpAllocator<A, S, BYTES> {
    /// Everything goes back to the backing, live blocks too.
    fn drop(&mut self) {
        let places = self.book().places();
        for place in 0..places {
            let found = self.book().block(place);
            let Some((address, Large { len, alignment })) = found else { continue };
            // The block's provenance was exposed when it was entered.
            let Some(block) = NonNull::new(ptr::with_exposed_provenance_mut(address)) else { continue };
            // SAFETY: by I1 the backing's, as the book had it.
            unsafe { self.backing.free(NonNull::slice_from_raw_parts(block, len.get()), alignment) };
        }
        let table = self.book().pop_table();
        if let Some((table, bytes)) = table {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, which the book gave up.
            unsafe { self.backing.free(memory, Book::ALIGNMENT) };
        }
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            // SAFETY: by I2 from `create_table`; nobody is here but us.
            unsafe { self.free_table(table.cast()) };
        }
        for start in self.pages.registry.regions() {
            let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else { continue };
            // SAFETY: in the registry, so a region; its provenance was exposed. No block of it is used again.
            unsafe { self.free_region(start) };
        }
        while let Some((table, bytes)) = self.pages.registry.pop_table() {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, which the registry gave up.
            unsafe { self.backing.free(memory, registry::Table::ALIGNMENT) };
        }
    }
}
