//! The production files of `src/smp/` around a `SmpAllocator` with the same fields and fewer classes.
//!
//! Regions have one page for blocks, so every slab is a region of its own, and the table of slots is a block of the backing.

#[path = "../../src/smp/chain.rs"]
mod chain;
mod class;
#[path = "../../src/smp/depot.rs"]
mod depot;
#[path = "../../src/smp/large.rs"]
mod large;
#[path = "../../src/smp/magazine.rs"]
mod magazine;
#[path = "../../src/smp/medium.rs"]
mod medium;
#[path = "../../src/smp/pages.rs"]
mod pages;
#[path = "../../src/smp/plan.rs"]
mod plan;
#[path = "../../src/smp/region.rs"]
mod region;
#[path = "../../src/smp/registry.rs"]
pub mod registry;
#[path = "../../src/smp/slab.rs"]
mod slab;
#[path = "../../src/smp/small.rs"]
mod small;
#[path = "../../src/smp/supply.rs"]
mod supply;
#[path = "../../src/smp/upkeep.rs"]
mod upkeep;

use core::ptr::{self, NonNull};

use terrace_core::Alignment;
use terrace_core::Allocator;
use terrace_sync::{
    Lock, Slots,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize},
};

use self::{class::CLASSES, depot::Depot, large::Book, magazine::Slot, medium::RUNS, pages::Pages};

/// A region.
pub const BYTES: usize = 64 << 10;

const RETAINED: usize = 0;
const KEEP: usize = usize::MAX / 2;
const MUCH: usize = 1;
const PURGE_MILLIS: usize = usize::MAX;

type DecommitFn<A> = unsafe fn(&A, NonNull<[u8]>) -> bool;

pub struct SmpAllocator<A: Allocator, S: Slots, const BYTES: usize> {
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

#[allow(dead_code, reason = "as in production")]
pub struct ClassStats {
    pub size: usize,
    pub slabs: usize,
    pub blocks_out: usize,
    pub blocks_in_depot: usize,
}

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    pub fn new(backing: A, slots: S) -> Self {
        Self {
            table: AtomicPtr::new(ptr::null_mut()),
            depots: [Lock::new(Depot::new()), Lock::new(Depot::new())],
            pages: Pages::new(),
            book: Lock::new(Book::new()),
            runs: [const { AtomicUsize::new(0) }; RUNS],
            common: Lock::new(()),
            purged: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            decommit: None,
            slots,
            backing,
        }
    }

    pub fn slots(&self) -> &S {
        &self.slots
    }

    pub fn backing(&self) -> &A {
        &self.backing
    }

    /// A block of a class, as `alloc` gets it.
    pub fn alloc(&self, class: usize) -> NonNull<u8> {
        self.alloc_small(class).expect("memory")
    }

    /// A medium block of a page.
    pub fn alloc_page(&self) -> NonNull<u8> {
        let (len, one) = (class::LARGEST + 1, Alignment::ONE);
        let at_hand = self.medium_at_hand(len, one, false);
        at_hand.or_else(|| self.alloc_medium(len, one, false)).expect("a page")
    }

    /// # Safety
    /// As `free`: a live block of `alloc_page`, not used again.
    pub unsafe fn free_page(&self, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.free_medium(block) }
    }

    /// # Safety
    /// As `free`: a live block of the class, not used again.
    pub unsafe fn free(&self, class: usize, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { self.free_small(class, block) }
    }
}
