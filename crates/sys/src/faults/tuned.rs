//! Tests: every system call of `TunedPageAllocator` counted, and made to fail.

use std::{format, vec::Vec};

use super::{ENOMEM, bytes, made, nothing_is_left, pages};
use crate::{
    PageOptions, TunedPageAllocator, Unavailable, page_size,
    prim::fault::{Call, Session},
};

use core::ptr::NonNull;
use terrace_core::{Access, Alignment, Allocator, Decommit, PageSize, Protect};

/// The size of huge page that is tried: of most machines the default.
fn huge() -> Alignment {
    Alignment::new(2 << 20).unwrap()
}

/// Each option, and the sensible ones together.
fn all_options() -> Vec<PageOptions> {
    let none = PageOptions::new();
    let (guards, populate, named) = (none.guard_pages(), none.populate(), none.name(c"faults"));
    let (transparent, grown) = (none.transparent_huge_pages(), none.huge_pages_where_grown(1));
    let explicit = none.explicit_huge_pages(huge());
    let together = transparent.guard_pages().populate().name(c"faults");
    [none, guards, populate, named, transparent, grown, explicit, together, explicit.guard_pages().populate()].into()
}

/// A live block, of which the first and last byte are marked.
struct Block {
    allocator: TunedPageAllocator,
    memory: NonNull<[u8]>,
    alignment: Alignment,
}

impl Block {
    fn new(options: PageOptions, len: usize, alignment: usize) -> Option<Self> {
        let (allocator, alignment) = (options.build(), Alignment::new(alignment).unwrap());
        let start = allocator.alloc_zeroed(bytes(len), alignment).ok()?;
        assert!(alignment.is_aligned(start.addr().get()));
        let mut block = Self { allocator, memory: NonNull::slice_from_raw_parts(start, len), alignment };
        assert!(block.contents().iter().step_by(509).all(|&byte| byte == 0));
        block.mark();
        Some(block)
    }

    fn contents(&mut self) -> &mut [u8] {
        // SAFETY: live, reached only through this block; fresh pages are zero.
        unsafe { self.memory.as_mut() }
    }

    fn mark(&mut self) {
        let contents = self.contents();
        let last = contents.len() - 1;
        (contents[0], contents[last]) = (0xA1, 0xA1);
    }

    /// Whether it was granted; the first byte, and where it shrinks not the last, is still there.
    fn change(&mut self, new_len: usize, may_move: bool) -> bool {
        let (start, old_len, allocator) = (self.memory.cast::<u8>(), self.memory.len(), self.allocator);
        let granted = if may_move {
            // SAFETY: live, with its alignment.
            unsafe { allocator.remap(self.memory, self.alignment, bytes(new_len)) }
        } else {
            // SAFETY: as above.
            unsafe { allocator.resize(self.memory, self.alignment, bytes(new_len)) }.then_some(start)
        };
        if let Some(start) = granted {
            assert!(self.alignment.is_aligned(start.addr().get()));
            self.memory = NonNull::slice_from_raw_parts(start, new_len);
        }
        let contents = self.contents();
        assert_eq!(contents[0], 0xA1);
        assert!(contents.get(old_len - 1).is_none_or(|&byte| byte == 0xA1));
        self.mark();
        granted.is_some()
    }

    /// Empties, and protects for a while, the first page.
    fn capabilities(&mut self) {
        let page = self.allocator.page_size().bytes();
        let first = NonNull::slice_from_raw_parts(self.memory.cast(), page);
        // SAFETY: a page of the block, used by nobody meanwhile.
        if unsafe { self.allocator.decommit(first) } {
            assert!(self.contents().iter().take(page - 1).all(|&byte| byte == 0));
        }
        // SAFETY: as above.
        if unsafe { self.allocator.protect(first, Access::None) } {
            // SAFETY: as above. Each fault ends, or the caller could not free the block.
            while !unsafe { self.allocator.protect(first, Access::ReadWrite) } {}
        }
        self.mark();
    }

    fn free(mut self) {
        assert_eq!(self.contents()[0], 0xA1);
        // SAFETY: live, with its alignment, gone with `self`.
        unsafe { self.allocator.free(self.memory, self.alignment) };
    }
}

/// Every kind of call, with every result that may follow.
fn lives(options: PageOptions) {
    let neighbours: Vec<_> = (1..3).map(|count| Block::new(options, pages(count), 1)).collect();
    for alignment in [1, 64 * page_size()] {
        let Some(mut block) = Block::new(options, pages(3) - 5, alignment) else { continue };
        for (count, may_move) in [(5, false), (64, true), (9, false), (600, true), (601, false), (2, true)] {
            block.change(pages(count) - 1, may_move);
        }
        block.capabilities();
        block.free();
    }
    neighbours.into_iter().flatten().for_each(Block::free);
}

#[test]
fn whichever_call_fails_nothing_stays_mapped_and_nothing_is_lost() {
    let session = Session::start();
    for options in all_options() {
        let before = made(&session);
        lives(options);
        let calls = made(&session) - before;
        nothing_is_left(&session);
        for errno in [ENOMEM, libc::EINVAL] {
            for first in 1..=calls + 1 {
                for last in [first, first + 1, first + 5] {
                    session.fail(None, first..=last, errno);
                    lives(options);
                    nothing_is_left(&session);
                }
            }
        }
    }
}

#[test]
fn whichever_kind_of_call_fails_for_good_nothing_is_lost() {
    let session = Session::start();
    let kinds = Call::ALL.into_iter().filter(|&call| call != Call::Protect); // Blocks must become writable again.
    for (call, options) in kinds.flat_map(|call| all_options().into_iter().map(move |options| (call, options))) {
        for first in 1..20 {
            session.fail(Some(call), first.., ENOMEM);
            lives(options);
            nothing_is_left(&session);
        }
    }
}

#[test]
fn without_options_a_pair_is_one_mmap_and_one_munmap() {
    let session = Session::start();
    Block::new(PageOptions::new(), pages(3), 1).unwrap().free();
    assert_eq!((session.calls(Call::Map), session.calls(Call::Unmap), made(&session)), (1, 1, 2));
}

#[test]
fn each_guarded_block_is_returned_with_its_guards_in_one_call() {
    let session = Session::start();
    let guarded = PageOptions::new().guard_pages();
    for (len, alignment) in [(1, 1), (pages(2), 1), (pages(2) + 1, 8 * page_size()), (pages(1), 1 << 24)] {
        let block = Block::new(guarded, len, alignment).unwrap();
        assert_eq!(session.mapped(), len.next_multiple_of(page_size()) + pages(2));
        let before = session.calls(Call::Unmap);
        block.free();
        assert_eq!((session.calls(Call::Unmap) - before, session.mapped()), (1, 0));
    }
}

#[test]
fn a_guarded_block_that_cannot_be_unmapped_is_unmapped_later_with_its_guards() {
    let session = Session::start();
    let block = Block::new(PageOptions::new().guard_pages(), pages(3), 1).unwrap();
    session.fail(Some(Call::Unmap), 1..=1, ENOMEM);
    block.free();
    assert_eq!(session.mapped(), pages(5));
    Block::new(PageOptions::new(), 1, 1).unwrap().free();
    assert_eq!(session.mapped(), 0);
}

#[test]
fn a_guarded_block_keeps_its_pages() {
    let session = Session::start();
    let mut block = Block::new(PageOptions::new().guard_pages(), pages(3), 1).unwrap();
    let before = made(&session);
    for may_move in [false, true] {
        assert!(block.change(pages(2) + 1, may_move) && block.change(pages(3), may_move));
        assert!(!block.change(pages(3) + 1, may_move) && !block.change(pages(2), may_move));
    }
    assert_eq!(made(&session), before, "no call");
    block.free();
}

#[test]
fn a_guard_that_is_refused_refuses_the_block() {
    let session = Session::start();
    for failing in [1, 2] {
        session.fail(Some(Call::Protect), failing..=failing, ENOMEM);
        assert!(Block::new(PageOptions::new().guard_pages(), pages(2), 1).is_none());
        assert_eq!(session.mapped(), 0);
        session.heal();
    }
}

#[test]
fn a_population_that_is_refused_refuses_the_block_or_its_growth() {
    let session = Session::start();
    let populated = PageOptions::new().populate();
    if populated.check().is_err() {
        return std::eprintln!("this kernel populates nothing: nothing tried");
    }
    session.fail(Some(Call::Populate), 1..=1, ENOMEM);
    assert!(Block::new(populated, pages(2), 1).is_none());
    let mut block = Block::new(populated, pages(2), 1).unwrap();
    assert!(block.change(pages(1), false));
    session.heal();
    session.fail(Some(Call::Populate), .., ENOMEM);
    for may_move in [false, true] {
        assert!(!block.change(pages(4), may_move), "in place nothing is populated");
        assert_eq!(session.mapped(), pages(1), "what had grown is gone");
    }
    session.heal();
    block.free();
    assert_eq!(session.mapped(), 0);
}

#[test]
fn a_wish_that_is_not_fulfilled_is_told_by_check_alone() {
    let session = Session::start();
    let none = PageOptions::new();
    let wishes = [
        (Call::AdviseHuge, none.transparent_huge_pages(), Unavailable::TransparentHugePages),
        (Call::AdviseHuge, none.huge_pages_where_grown(1), Unavailable::TransparentHugePages),
        (Call::Name, none.name(c"wish"), Unavailable::Name),
    ];
    for (call, options, says) in wishes {
        session.fail(Some(call), .., libc::EINVAL);
        Block::new(options, 1, 1).unwrap().free();
        assert_eq!(options.check(), Err(says));
        session.heal();
    }
    assert_eq!(session.mapped(), 0);
}

#[test]
fn check_tells_why_an_order_is_refused() {
    let session = Session::start();
    let none = PageOptions::new();
    let size = huge();
    let explicit = none.explicit_huge_pages(size);
    let orders = [
        (Call::MapHuge, ENOMEM, explicit, Unavailable::HugePages { size }),
        (Call::MapHuge, libc::EINVAL, explicit, Unavailable::HugePageSize { size }),
        (Call::MapHuge, libc::ENOSYS, explicit, Unavailable::HugePageSize { size }),
        (Call::Populate, libc::EINVAL, none.populate(), Unavailable::Populate),
        (Call::Populate, libc::EFAULT, none.populate(), Unavailable::Memory),
        (Call::Protect, ENOMEM, none.guard_pages(), Unavailable::Memory),
        (Call::Map, ENOMEM, none, Unavailable::Memory),
    ];
    for (call, errno, options, says) in orders {
        session.fail(Some(call), .., errno);
        assert!(Block::new(options, 1, 1).is_none());
        assert_eq!(options.check(), Err(says));
        session.heal();
    }
    assert_eq!((none.check(), session.mapped()), (Ok(()), 0));
    assert!(format!("{}", Unavailable::HugePages { size }).contains("/proc/sys/vm/nr_hugepages"));
}

/// A size of 1 would be written into the call as "the default size", and every length be rounded wrongly.
#[test]
fn a_huge_page_no_larger_than_a_page_is_refused_without_a_call() {
    let session = Session::start();
    for log2 in 0..=page_size().trailing_zeros() {
        let size = Alignment::from_log2(log2).unwrap();
        let options = PageOptions::new().explicit_huge_pages(size);
        assert!(Block::new(options, 1, 1).is_none());
        assert_eq!(options.check(), Err(Unavailable::HugePageSize { size }));
    }
    assert_eq!(made(&session), 0);
}

#[test]
fn what_no_memory_can_satisfy_is_refused_without_a_call() {
    let session = Session::start();
    let limit = isize::MAX as usize;
    let sizes = (0..usize::BITS).map(|log2| Alignment::from_log2(log2).unwrap());
    let explicit = sizes.map(|size| PageOptions::new().explicit_huge_pages(size).guard_pages());
    for options in all_options().into_iter().chain(explicit) {
        for len in [usize::MAX, limit + 1, limit] {
            for alignment in [1, 2 * page_size(), 1 << 63] {
                assert!(Block::new(options, len, alignment).is_none());
            }
        }
        assert!(Block::new(options, 1, 1 << 63).is_none());
    }
    let guarded = PageOptions::new().guard_pages();
    assert!(Block::new(guarded, limit - page_size() + 1, 1).is_none(), "with its guards it is too long");
    assert_eq!(made(&session), 0);
}
