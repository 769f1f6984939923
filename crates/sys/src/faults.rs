//! Tests: every system call of `PageAllocator` counted, and made to fail; those of the others in `faults/`.
//!
//! After each failure the ledger of the fault layer must come back to nothing: nothing stays mapped,
//! nothing is lost. Only sessions map in this process, so that each finds `PARKED` as it left it.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::vec::Vec;

use terrace_core::{Access, Alignment, Allocator, Decommit, Protect};

use crate::{
    PageAllocator, page_size,
    prim::fault::{Call, Session},
};

mod numa;
mod regions;
mod tuned;

const ENOMEM: i32 = libc::ENOMEM;

/// A live block, marked in several places of every page.
struct Block {
    start: NonNull<u8>,
    len: usize,
    alignment: Alignment,
}

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

fn pages(count: usize) -> usize {
    count * page_size()
}

/// The places that are marked in a block of `len` bytes, and with what.
fn marks(len: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..len).step_by(509).chain([len - 1]).map(|offset| (offset, (offset / 509 * 7 + offset) as u8))
}

impl Block {
    fn new(len: usize, alignment: usize) -> Option<Self> {
        let alignment = Alignment::new(alignment).unwrap();
        let start = PageAllocator.alloc_zeroed(bytes(len), alignment).ok()?;
        assert!(alignment.is_aligned(start.addr().get()));
        let mut block = Self { start, len, alignment };
        // SAFETY: live, `len` bytes, read only by this thread.
        let contents = unsafe { block.memory().as_ref() };
        assert!(marks(len).all(|(offset, _)| contents[offset] == 0), "fresh pages are zero");
        block.mark();
        Some(block)
    }

    fn memory(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.start, self.len)
    }

    fn mark(&mut self) {
        // SAFETY: live, `len` bytes, reached only through this block.
        let contents = unsafe { self.memory().as_mut() };
        marks(self.len).for_each(|(offset, mark)| contents[offset] = mark);
    }

    /// Resizes or remaps, and checks that the contents stayed, and the place where it must.
    fn change(&mut self, new_len: usize, may_move: bool) -> bool {
        let (memory, start, old_len) = (self.memory(), self.start, self.len);
        let granted = if may_move {
            // SAFETY: live, with its alignment.
            unsafe { PageAllocator.remap(memory, self.alignment, bytes(new_len)) }
        } else {
            // SAFETY: as above.
            unsafe { PageAllocator.resize(memory, self.alignment, bytes(new_len)) }.then_some(start)
        };
        if let Some(start) = granted {
            assert!(self.alignment.is_aligned(start.addr().get()));
            (self.start, self.len) = (start, new_len);
        }
        self.check(old_len);
        self.mark();
        granted.is_some()
    }

    /// The marks of when the block had `marked` bytes, as far as it goes.
    fn check(&self, marked: usize) {
        // SAFETY: live, `len` bytes, read only by this thread.
        let contents = unsafe { self.memory().as_ref() };
        assert!(marks(marked).filter(|&(offset, _)| offset < self.len).all(|(offset, mark)| contents[offset] == mark));
    }

    fn free(self) {
        self.check(self.len);
        // SAFETY: live, and gone with `self`.
        unsafe { PageAllocator.free(self.memory(), self.alignment) };
    }

    fn decommit(&mut self) -> bool {
        let pages = NonNull::slice_from_raw_parts(self.start, self.len.next_multiple_of(page_size()));
        // SAFETY: the block's pages, read by nobody meanwhile.
        let emptied = unsafe { PageAllocator.decommit(pages) };
        if emptied {
            // SAFETY: live, `len` bytes, read only by this thread.
            let contents = unsafe { self.memory().as_ref() };
            assert!(marks(self.len).all(|(offset, _)| contents[offset] == 0), "emptied pages read as zero");
            self.mark();
        }
        emptied
    }

    fn protect(&mut self, access: Access) -> bool {
        let pages = NonNull::slice_from_raw_parts(self.start, self.len.next_multiple_of(page_size()));
        // SAFETY: the block's pages, not written meanwhile.
        unsafe { PageAllocator.protect(pages, access) }
    }
}

/// Frees what is parked, now that nothing fails, and finds that nothing is left.
fn nothing_is_left(session: &Session) {
    session.heal();
    for _list in 0..2 {
        Block::new(1, 1).expect("nothing fails any more").free();
    }
    assert_eq!(session.mapped(), 0, "bytes that are still mapped");
}

/// How many calls have been made.
fn made(session: &Session) -> usize {
    Call::ALL.iter().map(|&call| session.calls(call)).sum()
}

#[test]
fn a_pair_is_one_mmap_and_one_munmap() {
    let session = Session::start();
    for len in [1, page_size() - 1, page_size(), page_size() + 1, 100 * page_size()] {
        for alignment in [1, 8, page_size()] {
            let before = Call::ALL.map(|call| session.calls(call));
            let block = Block::new(len, alignment).unwrap();
            assert_eq!(session.mapped(), len.next_multiple_of(page_size()));
            block.free();
            let made: Vec<_> = Call::ALL.iter().zip(before).map(|(&call, old)| session.calls(call) - old).collect();
            assert_eq!((made[0], made[1], made.iter().sum()), (1, 1, 2), "{:?}", Call::ALL);
            assert_eq!(session.mapped(), 0);
        }
    }
}

#[test]
fn an_over_aligned_pair_is_at_most_three_munmaps() {
    let session = Session::start();
    for log2 in 0..=30 {
        let block = Block::new(3 * page_size(), 1 << log2).unwrap();
        assert_eq!(session.mapped(), 3 * page_size(), "both ends are trimmed");
        block.free();
    }
    assert_eq!((session.calls(Call::Map), session.mapped()), (31, 0));
    assert!(session.calls(Call::Unmap) <= 3 * 31);
}

#[test]
fn within_its_pages_a_block_changes_without_a_call() {
    let session = Session::start();
    let mut block = Block::new(page_size() + 1, 1).unwrap();
    session.fail(None, .., ENOMEM);
    for len in [2 * page_size(), page_size() + 1, page_size() + 7] {
        assert!(block.change(len, false) && block.change(len, true));
    }
    session.heal();
    block.free();
    assert_eq!((session.calls(Call::Map), session.calls(Call::Unmap), session.calls(Call::Remap)), (1, 1, 0));
}

#[test]
fn a_shrunk_block_gives_its_tail_back_at_once() {
    let session = Session::start();
    let mut block = Block::new(pages(10), 1).unwrap();
    assert!(block.change(pages(3) + 1, false));
    assert_eq!(session.mapped(), pages(4));
    assert!(block.change(1, true));
    assert_eq!(session.mapped(), pages(1));
    block.free();
    assert_eq!((session.mapped(), session.calls(Call::Remap)), (0, 0));
}

#[test]
fn what_no_memory_can_satisfy_is_refused_without_a_call() {
    let session = Session::start();
    let limit = isize::MAX as usize;
    for len in [usize::MAX, usize::MAX - page_size(), limit + 1, limit, limit - page_size() + 2] {
        for alignment in [1, page_size(), 2 * page_size(), 1 << 63] {
            assert!(Block::new(len, alignment).is_none());
        }
    }
    for len in [1, page_size(), limit - page_size() + 1] {
        assert!(Block::new(len, 1 << 63).is_none());
    }
    let mut block = Block::new(5, 1).unwrap();
    for len in [usize::MAX, limit + 1, limit] {
        assert!(!block.change(len, false) && !block.change(len, true));
    }
    block.free();
    assert_eq!((session.calls(Call::Map), session.calls(Call::Remap), session.mapped()), (1, 0, 0));
}

/// Every kind of call, with every result that may follow.
fn life_of_a_block(alignment: usize) {
    let Some(mut block) = Block::new(pages(3) - 5, alignment) else { return };
    for (count, may_move) in [(5, false), (64, true), (9, true), (4, false), (600, true), (601, false), (2, true)] {
        block.change(pages(count) - 1, may_move);
    }
    block.decommit();
    if block.protect(Access::Read) {
        block.check(block.len);
        while !block.protect(Access::ReadWrite) {} // Each fault ends, or the caller could not free the block.
    }
    block.free();
}

/// A few lives at once, so that blocks have neighbours.
fn lives() {
    let neighbours: Vec<_> = (1..4).map(|count| Block::new(pages(count), 1)).collect();
    life_of_a_block(1);
    let over_aligned = Block::new(pages(2), 16 * page_size());
    life_of_a_block(64 * page_size());
    neighbours.into_iter().chain([over_aligned]).flatten().for_each(Block::free);
}

#[test]
fn whichever_call_fails_nothing_stays_mapped_and_nothing_is_lost() {
    let session = Session::start();
    lives();
    let calls = made(&session);
    assert!(calls > 30, "the lives make calls of every kind: {calls}");
    nothing_is_left(&session);
    for errno in [ENOMEM, libc::EINVAL] {
        for first in 1..=calls {
            for last in [first, first + 1, first + 5] {
                session.fail(None, first..=last, errno);
                lives();
                nothing_is_left(&session);
            }
        }
    }
}

#[test]
fn whichever_kind_of_call_fails_for_good_nothing_is_lost() {
    let session = Session::start();
    for call in [Call::Map, Call::Unmap, Call::Remap, Call::Decommit] {
        for first in 1..40 {
            session.fail(Some(call), first.., ENOMEM);
            lives();
            nothing_is_left(&session);
        }
    }
}

#[test]
fn a_failed_trim_unmaps_the_whole_reservation() {
    let session = Session::start();
    let alignment = 1 << 30; // The system does not start there by chance, so both ends are to be trimmed.
    for failing in [1, 2] {
        let before = session.calls(Call::Unmap);
        session.fail(Some(Call::Unmap), failing..=failing, ENOMEM);
        assert!(Block::new(pages(2), alignment).is_none());
        assert_eq!(session.calls(Call::Unmap) - before, failing + 1, "the trims, then all that is left");
        assert_eq!(session.mapped(), 0);
        session.heal();
    }
}

#[test]
fn a_block_that_cannot_be_unmapped_is_emptied_and_unmapped_later() {
    let session = Session::start();
    // So that one byte written is one page in memory.
    // SAFETY: takes plain numbers.
    let small_pages = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } == 0;
    let block = Block::new(pages(8), 1).unwrap();
    let start = block.start;
    session.fail(Some(Call::Unmap), 1..=1, ENOMEM);
    block.free();
    assert_eq!((session.mapped(), session.calls(Call::Decommit)), (pages(8), 1));
    if small_pages {
        assert_eq!(resident_pages(start, 8), 1, "only the page that holds the note");
    } else {
        std::eprintln!("skipped: what is resident, since huge pages cannot be forbidden here");
    }
    let next = Block::new(1, 1).unwrap();
    assert_eq!(session.calls(Call::Unmap), 1, "an alloc that is granted tries nothing else");
    next.free();
    assert_eq!(session.mapped(), 0, "a free has unmapped it too");
}

#[test]
fn a_refused_mapping_is_tried_again_without_what_is_parked() {
    let session = Session::start();
    let blocks = [(); 3].map(|()| Block::new(pages(8), 1).unwrap());
    session.fail(Some(Call::Unmap), 1..=3, ENOMEM);
    blocks.into_iter().for_each(Block::free);
    session.fail(Some(Call::Map), 1..=1, ENOMEM);
    let next = Block::new(1, 1).expect("there is room again");
    assert_eq!((session.mapped(), session.calls(Call::Map)), (pages(1), 3 + 2));
    next.free();
    session.fail(Some(Call::Map), 1..=1, ENOMEM);
    assert!(Block::new(1, 1).is_none(), "with nothing parked a refusal is final");
    assert_eq!((session.mapped(), session.calls(Call::Map)), (0, 3 + 2 + 1));
}

#[test]
fn a_tail_that_cannot_be_unmapped_is_unmapped_later() {
    let session = Session::start();
    let mut block = Block::new(pages(8), 1).unwrap();
    session.fail(Some(Call::Unmap), 1..=1, ENOMEM);
    assert!(block.change(pages(3), false), "the block has shrunk all the same");
    assert_eq!(session.mapped(), pages(8));
    block.free();
    assert_eq!(session.mapped(), 0, "a free that succeeds unmaps what is parked");
}

#[test]
fn a_refused_decommit_or_protect_changes_nothing() {
    let session = Session::start();
    let mut block = Block::new(pages(4), 1).unwrap();
    session.fail(None, 1..=2, ENOMEM);
    assert!(!block.decommit());
    assert!(!block.protect(Access::None));
    block.check(pages(4));
    assert!(block.decommit() && block.protect(Access::Read) && block.protect(Access::ReadWrite));
    block.free();
}

#[test]
fn no_pages_are_decommitted_or_protected_without_a_call() {
    let session = Session::start();
    let block = Block::new(1, 1).unwrap();
    let nothing = NonNull::slice_from_raw_parts(block.start, 0);
    session.fail(None, .., ENOMEM);
    // SAFETY: no page at all, at the beginning of a live block.
    assert!(unsafe { PageAllocator.decommit(nothing) });
    // SAFETY: as above.
    assert!(unsafe { PageAllocator.protect(nothing, Access::None) });
    session.heal();
    block.free();
}

fn resident_pages(start: NonNull<u8>, count: usize) -> usize {
    let mut residency = std::vec![0u8; count];
    // SAFETY: the pages are mapped; `residency` has a byte for each.
    let answer = unsafe { libc::mincore(start.as_ptr().cast(), pages(count), residency.as_mut_ptr()) };
    assert_eq!(answer, 0);
    residency.iter().filter(|&&page| page & 1 == 1).count()
}
