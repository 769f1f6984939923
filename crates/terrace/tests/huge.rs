//! Huge pages as the kernel's own files show them: what `HugePages` promotes and demotes, and regions of pages out of the nodes' pools.
//!
//! ```text
//!  owner has 511 of 512 frames    512 small pages          smaps: no huge page    frames anywhere
//!  the 512th: promoted            collapse ──▶ one page     smaps: 2 MiB           512 frames side by side, flagged as one
//!  one goes back: demoted         that page is given back   smaps: no huge page    511 frames, contents as before
//! ```
//!
//! A region of huge pages takes them out of the pools when it is made, node by node, and gives them back when its last handle is gone.
//!
//! Where the kernel joins no pages, has none in its pools, or does not tell of frames, the test says so; `.ci/run numa` runs it where it does both.

mod kernel;

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{env, fs, sync::Mutex};

use kernel::{IN_HUGE, are_whole, seen_or_said, smaps};
use terrace::{
    Alignment, Allocator, AllocatorExt, Decommit, NumaRegion, PageAllocator, PageOptions, Unavailable,
    frame::{
        FrameAllocator, Frames, HugeCounts, HugePages, HybridAllocator, MemoryMap, PageOwner, PageSize, Request,
        numa::{NodeSet, NumaPolicy},
    },
    numa::{self, NumaUnavailable, Place, Topology},
    page_size, presets,
};

const HUGE: usize = 2 << 20;

/// Pools are the machine's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

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
    let _turn = TURN.lock();
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
        match numa::collapse(in_memory) {
            Ok(()) => {
                assert_eq!(smaps(address, "AnonHugePages"), Some(HUGE >> 10));
                if let Some(seen) = seen_or_said(in_memory) {
                    assert!(are_whole(&seen) && seen.iter().flatten().all(|page| page.is_transparent()));
                    eprintln!("promoted: one page of {IN_HUGE} frames, by smaps and kpageflags");
                }
            }
            Err(why @ (NumaUnavailable::Kernel | NumaUnavailable::Memory)) => eprintln!("skipped the page: {why}"),
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

fn size() -> Alignment {
    Alignment::new(HUGE).unwrap()
}

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

fn block(region: &impl Allocator, len: usize) -> Option<NonNull<[u8]>> {
    Some(NonNull::slice_from_raw_parts(region.alloc(bytes(len), Alignment::ONE).ok()?, len))
}

fn free(region: &impl Allocator, blocks: impl IntoIterator<Item = NonNull<[u8]>>) {
    for block in blocks {
        // SAFETY: every caller got it by `block` from this allocator, and uses it no more.
        unsafe { region.free(block, Alignment::ONE) };
    }
}

/// Free pages in the pools of the nodes with memory, by the kernel's numbers of these.
fn pools() -> Vec<(usize, usize)> {
    let topology = Topology::read().unwrap_or_else(|_| Topology::one_node());
    let free = |node: usize| {
        let path = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages");
        fs::read_to_string(path).ok()?.trim().parse::<usize>().ok()
    };
    let with_memory = topology.nodes().iter().filter(|node| node.bytes > 0);
    with_memory.filter_map(|node| Some((node.number, free(node.number)?))).collect()
}

/// A region of so many huge pages of each node, or the reason why this machine has none, which is said.
fn region(test: &str, pages: usize) -> Option<NumaRegion> {
    let made = NumaRegion::with_huge_pages(size(), bytes(pages * HUGE));
    let Err(why) = made else { return made.ok() };
    assert!(env::var_os("TERRACE_NUMA_TOPOLOGY").is_none(), "this machine must have them: {why}");
    assert!(why.to_string().contains("hugepages"), "where their number is set: {why}");
    eprintln!("skipped {test}: {why}");
    None
}

#[test]
fn a_regions_huge_pages_lie_on_their_nodes_and_go_back_to_the_pools() {
    let _turn = TURN.lock();
    let before = pools();
    let Some(region) = region("a region of huge pages", 2) else { return };
    let taken: Vec<_> = before.iter().map(|&(node, free)| (node, free - 2)).collect();
    assert_eq!(pools(), taken, "two of each node, when it was made");
    for node in (0..region.nodes()).filter(|&node| region.filled_bytes(node) > 0) {
        assert_eq!(region.filled_bytes(node), 2 * HUGE);
        let number = region.number_of(node).unwrap();
        let handle = region.on(node, NumaPolicy::Bind(NodeSet::one(node))).unwrap();
        let held: Vec<_> = core::iter::from_fn(|| block(&handle, HUGE / 2)).collect();
        assert_eq!(held.len(), 4, "all of node {node}'s, and no more");
        for &block in &held {
            fill(block, 7);
            assert_eq!(smaps(block.cast::<u8>().addr().get(), "KernelPageSize"), Some(2048));
            let mut here = true;
            if region.unplaced().is_none() {
                numa::places(block, |place| here &= place == Place::Node(number)).expect("the kernel says it");
            }
            assert!(here, "on node {node}");
            if let Some(seen) = seen_or_said(block) {
                assert!(seen.iter().all(|page| page.is_some_and(|page| page.is_reserved())), "out of the pool");
            }
        }
        eprintln!("node {node}: {} MiB in huge pages", held.len());
        let other = block(&region.on(node, NumaPolicy::Local).unwrap(), 4096);
        assert!(other.is_none_or(|other| region.node_of(other.cast()) != Some(node)), "the nearest, or nothing");
        free(&region, held.into_iter().chain(other));
    }
    region.trim();
    assert_eq!(pools(), taken, "what is idle stays the region's");
    drop(region);
    assert_eq!(pools(), before, "all of it went back");
}

#[test]
fn a_node_with_too_few_huge_pages_is_named_and_nothing_is_taken() {
    let _turn = TURN.lock();
    let before = pools();
    let absurd = NumaRegion::with_huge_pages(size(), NonZeroUsize::MAX).map(|_| ());
    assert!(matches!(absurd, Err(Unavailable::Memory | Unavailable::HugePages { .. })), "{absurd:?}");
    let odd = Alignment::new(8192).unwrap();
    assert!(
        matches!(NumaRegion::with_huge_pages(odd, bytes(1)).err(), Some(Unavailable::HugePageSize { size }) if size == odd)
    );
    let Some(_) = region("nodes with too few huge pages", 1) else { return };
    if let [(first, free), _, ..] = before[..] {
        let why = NumaRegion::with_huge_pages(size(), bytes((free + 1) * HUGE)).map(|_| ());
        let lacks = NumaUnavailable::NoHugePages { node: first };
        assert_eq!(why, Err(Unavailable::Node { node: first, why: lacks }), "the first of them");
    }
    if let [.., (last, free_pages)] = before[..]
        && before.len() > 1
        && free_pages > 1
    {
        // The pool as a whole has enough, and the last node has not: that is found when its part is touched.
        let of_last = PageOptions::new().explicit_huge_pages(size()).on_node(last).build();
        let held: Vec<_> = core::iter::from_fn(|| block(&of_last, HUGE)).take(2).collect();
        let why = NumaRegion::with_huge_pages(size(), bytes((free_pages - 1) * HUGE)).map(|_| ());
        eprintln!("{why:?}");
        let lacks = NumaUnavailable::NoHugePages { node: last };
        assert_eq!(why, Err(Unavailable::Node { node: last, why: lacks }));
        assert!(lacks.to_string().contains(&format!("node{last}/hugepages")), "{lacks}");
        free(&of_last, held);
    }
    assert_eq!(pools(), before, "nothing is lost");
}

#[test]
fn an_smp_for_each_node_stands_on_huge_pages() {
    let _turn = TURN.lock();
    let Some(region) = region("smp on huge pages", 4) else { return };
    let numa = presets::Numa::over(region).expect("memory");
    let numbers = numa.alloc_slice::<u64>(10_000).expect("memory");
    // SAFETY: live, and nobody else's.
    unsafe { numbers.cast::<u64>().write_bytes(1, numbers.len()) };
    assert_eq!(smaps(numbers.cast::<u8>().addr().get(), "KernelPageSize"), Some(2048));
    // SAFETY: live, of this allocator, not used again.
    unsafe { numa.free_slice(numbers) };
}
