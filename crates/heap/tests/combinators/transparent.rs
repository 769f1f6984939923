//! Transparent layers pass on every capability: one backing that has them all, under each of them.

use std::{cell::RefCell, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{
    Access, Alignment, AllocError, AllocStats, Allocator, BulkFree, Decommit, GoodSize, Owns, PageSize, Protect, Reset,
    ResetMode, Stats, SystemAllocator,
};
use terrace_heap::{
    Call, FailingAllocator, Histograms, LimitAllocator, LockAllocator, LogAllocator, OnOomAllocator, OutOfMemory,
    Pressure, PressureAllocator, StatsAllocator, ZeroedAllocator,
};

use crate::support::{align, len, slice};

/// Whole pages of 4096 bytes, one block at a time; notes what it is asked.
struct Pages<'a> {
    block: RefCell<Option<NonNull<u8>>>,
    heard: &'a RefCell<Vec<&'static str>>,
}

const PAGE: usize = 4096;

impl<'a> Pages<'a> {
    fn new(heard: &'a RefCell<Vec<&'static str>>) -> Self {
        Self { block: RefCell::default(), heard }
    }

    fn hear(&self, call: &'static str) {
        self.heard.borrow_mut().push(call);
    }
}

// SAFETY: a block is one page of the system allocator's, and there is one at a time.
unsafe impl Allocator for Pages<'_> {
    fn alloc(&self, bytes: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.hear("alloc");
        if self.block.borrow().is_some() || bytes.get() > PAGE || alignment.bytes() > PAGE {
            return Err(AllocError);
        }
        let block = SystemAllocator.alloc(len(PAGE), align(PAGE))?;
        *self.block.borrow_mut() = Some(block);
        Ok(block)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        self.hear("resize");
        new_len.get() <= PAGE
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.hear("remap");
        (new_len.get() <= PAGE).then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        self.hear("free");
        self.block.take();
        // SAFETY: the one block, of this length and alignment there.
        unsafe { SystemAllocator.free(slice(memory.cast(), PAGE), align(PAGE)) };
    }

    fn alloc_zeroed(&self, bytes: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.alloc(bytes, alignment)?;
        self.hear("zeroed");
        // SAFETY: a new block of a page.
        unsafe { block.write_bytes(0, PAGE) };
        Ok(block)
    }
}

// SAFETY: the one block's page is all that there is.
unsafe impl Owns for Pages<'_> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.hear("owns");
        self.block
            .borrow()
            .is_some_and(|block| (block.addr().get()..block.addr().get() + PAGE).contains(&address.addr().get()))
    }
}

// SAFETY: a block has a whole page.
unsafe impl GoodSize for Pages<'_> {
    fn good_size(&self, bytes: NonZeroUsize, _: Alignment) -> NonZeroUsize {
        self.hear("good_size");
        bytes.max(len(PAGE))
    }
}

impl BulkFree for Pages<'_> {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        self.hear("bulk_free");
        for &block in blocks {
            // SAFETY: the caller's promise for each.
            unsafe { self.free(block, alignment) };
        }
    }
}

impl Stats for Pages<'_> {
    fn stats(&self) -> AllocStats {
        self.hear("stats");
        AllocStats { total_allocations: 77, ..AllocStats::default() }
    }
}

impl Reset for Pages<'_> {
    fn reset(&mut self, _: ResetMode) -> bool {
        self.hear("reset");
        true
    }
}

// SAFETY: a block is one page, alone in it.
unsafe impl PageSize for Pages<'_> {
    fn page_size(&self) -> Alignment {
        self.hear("page_size");
        align(PAGE)
    }
}

// SAFETY: `true` after the bytes were made zero.
unsafe impl Decommit for Pages<'_> {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        self.hear("decommit");
        // SAFETY: within the one block, by the caller's promise.
        unsafe { pages.cast::<u8>().write_bytes(0, pages.len()) };
        true
    }
}

// SAFETY: never `true`.
unsafe impl Protect for Pages<'_> {
    unsafe fn protect(&self, _: NonNull<[u8]>, _: Access) -> bool {
        self.hear("protect");
        false
    }
}

/// Asks everything, once, through `layer`.
fn ask<L>(mut layer: L)
where
    L: Owns + GoodSize + BulkFree + Stats + Reset + PageSize + Decommit + Protect,
{
    let at = align(8);
    let block = layer.alloc(len(100), at).unwrap();
    assert!(layer.owns(block) && !layer.owns(NonNull::dangling()));
    assert_eq!((layer.good_size(len(100), at).get(), layer.page_size().bytes()), (PAGE, PAGE));
    let page = slice(block, PAGE);
    // SAFETY: the whole of the one live block.
    assert!(unsafe { layer.decommit(page) });
    // SAFETY: likewise.
    assert!(!unsafe { layer.protect(page, Access::Read) });
    // SAFETY: live.
    assert!(unsafe { layer.resize(slice(block, 100), at, len(200)) });
    // SAFETY: live.
    assert!(unsafe { layer.remap(slice(block, 200), at, len(300)) }.is_some());
    // SAFETY: live, once, and not used again.
    unsafe { layer.bulk_free(&[slice(block, 300)], at) };
    let block = layer.alloc_zeroed(len(5), at).unwrap();
    // SAFETY: live, and not used again.
    unsafe { layer.free(slice(block, 5), at) };
    assert!(layer.reset(ResetMode::FreeAll));
    layer.stats();
}

const EACH: [&str; 16] = [
    "alloc",
    "owns",
    "owns",
    "good_size",
    "page_size",
    "decommit",
    "protect",
    "resize",
    "remap",
    "bulk_free",
    "free",
    "alloc",
    "zeroed",
    "free",
    "reset",
    "stats",
];

#[test]
fn every_transparent_layer_passes_on_every_capability() {
    let heard = RefCell::new(Vec::new());
    let pages = || Pages::new(&heard);
    let hears = |name: &str, wanted: &[&str]| assert_eq!(heard.take(), wanted, "{name}");
    ask(pages());
    hears("the backing itself", &EACH);
    ask(LogAllocator::new(pages(), |_: &Call| ()));
    hears("log", &EACH);
    ask(FailingAllocator::new(pages()));
    hears("failing", &EACH);
    ask(LimitAllocator::new(pages(), 1000));
    hears("limit", &EACH);
    ask(LockAllocator::new(pages()));
    hears("lock", &EACH);
    ask(OnOomAllocator::new(pages(), 1, |_: &OutOfMemory| false));
    hears("on_oom", &EACH);
    ask(PressureAllocator::with_threshold(pages(), 10, |_: &Pressure| false));
    hears("pressure", &EACH);
    ask(StatsAllocator::new(pages()));
    hears("stats, which counts by itself", &EACH[..15]);
    ask(StatsAllocator::with_histograms(pages(), Histograms::<4>::new()));
    hears("stats with histograms", &EACH[..15]);
    ask(ZeroedAllocator::new(pages()));
    let mut zeroed = EACH.to_vec();
    zeroed.insert(1, "zeroed"); // Its `alloc` is the backing's `alloc_zeroed`.
    hears("zeroed", &zeroed);
}
