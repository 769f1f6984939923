//! Promotion and demotion on real pages: what `HugePages` says of frames becomes so in memory, and the kernel's own files show it.
//!
//! ```text
//!  owner has 511 of 512 frames    512 small pages          smaps: no huge page    frames anywhere
//!  the 512th: promoted            collapse ──▶ one page     smaps: 2 MiB           512 frames side by side, flagged as one
//!  one goes back: demoted         that page is given back   smaps: no huge page    511 frames, contents as before
//! ```
//!
//! Where the kernel joins no pages, or does not tell of frames, the test says so; `.ci/run numa` runs it where it does both.

#[path = "../../sys/tests/kernel/mod.rs"]
mod kernel;

use core::{num::NonZeroUsize, ptr::NonNull};

use kernel::{IN_HUGE, are_whole, seen_or_said, smaps};
use terrace::{
    Alignment, Allocator, Decommit, PageAllocator,
    frame::{FrameAllocator, Frames, HugeCounts, HugePages, HybridAllocator, MemoryMap, PageOwner, PageSize, Request},
    numa::{self, NumaUnavailable},
    page_size,
};

const HUGE: usize = 2 << 20;

fn advise(pages: NonNull<[u8]>, advice: i32) {
    // SAFETY: pages of the test's own; what is advised changes no contents. Where the kernel knows of no huge pages it makes none.
    let _ = unsafe { libc::madvise(pages.cast::<u8>().as_ptr().cast(), pages.len(), advice) };
}

/// The page of a frame, for frames are numbered by addresses.
fn page_of(block: NonNull<[u8]>, frames: Frames) -> NonNull<[u8]> {
    let offset = frames.start.0 * 4096 - block.cast::<u8>().addr().get();
    // SAFETY: every caller's frames lie in the block.
    NonNull::slice_from_raw_parts(unsafe { block.cast::<u8>().add(offset) }, frames.count * 4096)
}

fn fill(page: NonNull<[u8]>, byte: u8) {
    // SAFETY: every caller's page is its own, and writable.
    unsafe { page.cast::<u8>().write_bytes(byte, page.len()) };
}

fn holds(page: NonNull<[u8]>, byte: u8) -> bool {
    // SAFETY: every caller's page is its own, and was filled.
    unsafe { page.as_ref() }.iter().all(|&found| found == byte)
}

#[test]
fn a_promoted_block_becomes_one_page_and_a_demoted_one_is_small_pages_again() {
    if page_size() != 4096 {
        eprintln!("skipped: pages of {} bytes are no frames", page_size());
        return;
    }
    let (len, huge) = (NonZeroUsize::new(4 * HUGE).unwrap(), Alignment::new(HUGE).unwrap());
    let start = PageAllocator.alloc(len, huge).expect("addresses");
    let block = NonNull::slice_from_raw_parts(start, len.get());
    advise(block, libc::MADV_NOHUGEPAGE); // So that the kernel makes none by itself.

    let span = Frames::new(start.addr().get() / 4096, 4 * IN_HUGE);
    let map = MemoryMap::of(span).unwrap();
    let mut notes = vec![0; HybridAllocator::metadata_bytes(span.count, 0) / 8];
    let frames = HybridAllocator::new(&map, &mut notes).unwrap();
    let mut sums = vec![0; HugePages::metadata_bytes(span.count) / 8];
    let pages = HugePages::new(&frames, &mut sums).unwrap();

    let owner = PageOwner::new(3).unwrap();
    let second = Frames::new(span.start.0 + IN_HUGE, IN_HUGE);
    let take = || pages.alloc_for(owner, &Request::frames(1).within(second)).expect("a frame of the second block");
    let in_memory = page_of(block, second);
    let address = in_memory.cast::<u8>().addr().get();
    for _ in 1..IN_HUGE {
        fill(page_of(block, take()), 7);
    }
    assert_eq!((pages.page_size(second.start), frames.free_frames()), (PageSize::Normal, 3 * IN_HUGE + 1));
    assert_eq!(smaps(address, "AnonHugePages"), Some(0));

    for round in 1..=3 {
        let last = take();
        fill(page_of(block, last), 7);
        assert_eq!((pages.page_size(second.start), frames.free_frames()), (PageSize::Large, 3 * IN_HUGE), "promoted");
        if let Some(seen) = seen_or_said(in_memory).filter(|_| round == 1) {
            let small = |page: kernel::Seen| !page.is_transparent() && !page.is_reserved();
            assert!(seen.iter().all(|page| page.is_some_and(small)), "not yet in memory");
        }
        advise(block, libc::MADV_HUGEPAGE);
        let joined = numa::collapse(in_memory);
        match joined {
            Ok(()) => {
                assert_eq!(smaps(address, "AnonHugePages"), Some(HUGE >> 10));
                if let Some(seen) = seen_or_said(in_memory) {
                    assert!(are_whole(&seen) && seen.iter().flatten().all(|page| page.is_transparent()));
                    eprintln!("promoted: one page of {IN_HUGE} frames, by smaps and kpageflags");
                }
            }
            Err(NumaUnavailable::Kernel | NumaUnavailable::Memory) => eprintln!("skipped the page: {joined:?}"),
            Err(why) => panic!("{why}"),
        }
        assert!(holds(in_memory, 7), "contents stay");
        assert_eq!(frames.free_frames(), 3 * IN_HUGE, "a promotion takes no frame");

        advise(block, libc::MADV_NOHUGEPAGE);
        pages.free_for(owner, last).expect("the owner's");
        assert_eq!((pages.page_size(second.start), frames.free_frames()), (PageSize::Normal, 3 * IN_HUGE + 1));
        assert_eq!(pages.counts(), HugeCounts { huge: 0, promotions: round, demotions: round });
        // SAFETY: whole pages of the block, which nobody uses any more.
        assert!(unsafe { PageAllocator.decommit(page_of(block, last)) });
        assert_eq!(smaps(address, "AnonHugePages"), Some(0), "no entry maps all of it");
        if let Some(seen) = seen_or_said(in_memory) {
            let gone = last.start.0 - second.start.0;
            assert!(seen.iter().enumerate().all(|(at, page)| page.is_none() == (at == gone)), "that page alone went");
            assert!(!are_whole(&seen));
        }
        let rest = (second.start.0..second.end()).filter(|&frame| frame != last.start.0);
        assert!(rest.map(|frame| page_of(block, Frames::new(frame, 1))).all(|page| holds(page, 7)), "the rest stays");
    }
    // SAFETY: live, of this length and alignment, and used no more.
    unsafe { PageAllocator.free(block, huge) };
}
