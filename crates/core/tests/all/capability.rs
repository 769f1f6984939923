//! Every capability through every handle that may have it, and through `dyn`.

use std::{cell::Cell, num::NonZeroUsize, ptr::NonNull, rc::Rc, sync::Arc};

use terrace_core::{
    Access, Alignment, AllocError, AllocStats, Allocator, Bridge, BulkFree, Decommit, GoodSize, Owns, PageSize,
    Protect, Reset, ResetMode, Stats, SystemAllocator,
};

/// Gives each question an answer of its own, and writes orders down.
#[derive(Default)]
struct Everything {
    orders: Cell<u32>,
    last_reset: Cell<Option<ResetMode>>,
}

// SAFETY: every call goes to the system's allocator, which keeps the contract.
unsafe impl Allocator for Everything {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        SystemAllocator.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.free(memory, alignment) }
    }
}

// SAFETY: (of all five) nobody rests on these answers but the tests below, which only compare them.
unsafe impl Owns for Everything {
    fn owns(&self, address: NonNull<u8>) -> bool {
        address.addr().get() == 16
    }
}

// SAFETY: as above.
unsafe impl GoodSize for Everything {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        len.saturating_add(alignment.bytes())
    }
}

// SAFETY: as above.
unsafe impl PageSize for Everything {
    fn page_size(&self) -> Alignment {
        Alignment::new(16384).unwrap()
    }
}

// SAFETY: as above.
unsafe impl Decommit for Everything {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        pages.len() == 1
    }
}

// SAFETY: as above.
unsafe impl Protect for Everything {
    unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool {
        pages.len() == 1 && access == Access::Read
    }
}

impl BulkFree for Everything {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], _alignment: Alignment) {
        self.orders.set(self.orders.get() + blocks.len() as u32);
    }
}

impl Stats for Everything {
    fn stats(&self) -> AllocStats {
        AllocStats { total_allocations: 3, peak_bytes: 5, ..AllocStats::default() }
    }
}

impl Reset for Everything {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.last_reset.set(Some(mode));
        mode == ResetMode::RetainCapacity
    }
}

fn at(address: usize) -> NonNull<u8> {
    Alignment::new(address).unwrap().dangling()
}

fn answers<A: Owns + GoodSize + BulkFree + Stats + Decommit + Protect>(a: A) {
    assert!(a.owns(at(16)) && !a.owns(at(32)));
    assert_eq!(a.good_size(NonZeroUsize::MIN, Alignment::new(8).unwrap()).get(), 9);
    assert_eq!(a.page_size().bytes(), 16384);
    assert_eq!(a.stats().total_allocations, 3);
    assert_eq!(a.stats().peak_bytes, 5);
    let (one, two) = (NonNull::slice_from_raw_parts(at(16), 1), NonNull::slice_from_raw_parts(at(16), 2));
    // SAFETY: `Everything` looks at the length only, here and below.
    assert!(unsafe { a.decommit(one) });
    // SAFETY: as above.
    assert!(!unsafe { a.decommit(two) });
    // SAFETY: as above.
    assert!(unsafe { a.protect(one, Access::Read) });
    // SAFETY: as above.
    assert!(!unsafe { a.protect(one, Access::None) });
    // SAFETY: as above.
    unsafe { a.bulk_free(&[one, two], Alignment::ONE) };
}

#[test]
fn every_handle_passes_every_question_on() {
    let everything = Rc::new(Everything::default());
    answers(&*everything);
    let mut unique = &*everything;
    answers::<&mut &Everything>(&mut unique);
    answers(Box::new(&*everything));
    answers(everything.clone());
    answers(Bridge::new(&*everything));
    #[expect(clippy::arc_with_non_send_sync, reason = "what counts here is the handle, not its threads")]
    answers(Arc::new(&*everything));
    assert_eq!(everything.orders.get(), 12, "six orders of two blocks");
}

#[test]
fn only_a_handle_that_nobody_shares_passes_a_reset_on() {
    fn resets(mut a: impl Reset) {
        assert!(a.reset(ResetMode::RetainCapacity));
        assert!(!a.reset(ResetMode::RetainWithLimit(7)));
    }
    let mut everything = Everything::default();
    resets(&mut everything);
    assert_eq!(everything.last_reset.take(), Some(ResetMode::RetainWithLimit(7)));
    resets(&mut &mut everything);
    assert_eq!(everything.last_reset.take(), Some(ResetMode::RetainWithLimit(7)));
    resets(Box::new(&mut everything));
    assert_eq!(everything.last_reset.take(), Some(ResetMode::RetainWithLimit(7)));
    resets(Box::new(everything) as Box<dyn Reset>);
}

#[test]
fn every_capability_can_be_asked_through_dyn() {
    let everything = Everything::default();
    let dynamic: (&dyn Owns, &dyn GoodSize, &dyn PageSize, &dyn Stats) =
        (&everything, &everything, &everything, &everything);
    assert!((&dynamic.0).owns(at(16)));
    assert_eq!((&dynamic.1).good_size(NonZeroUsize::MIN, Alignment::ONE).get(), 2);
    assert_eq!((&dynamic.2).page_size().bytes(), 16384);
    assert_eq!((&dynamic.3).stats().total_allocations, 3);
    let pages = NonNull::slice_from_raw_parts(at(16), 1);
    let decommit: &dyn Decommit = &everything;
    // SAFETY: `Everything` looks at the length only, here and below.
    assert!(unsafe { decommit.decommit(pages) });
    let protect: &dyn Protect = &everything;
    // SAFETY: as above.
    assert!(unsafe { protect.protect(pages, Access::Read) });
    let bulk_free: &dyn BulkFree = &everything;
    // SAFETY: as above.
    unsafe { bulk_free.bulk_free(&[pages], Alignment::ONE) };
    assert_eq!(everything.orders.get(), 1);
}
