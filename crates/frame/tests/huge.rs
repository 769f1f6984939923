//! Promotion and demotion: blocks that become one owner's and cease to be, against a list of owners, and in a race.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use proptest::prelude::*;
use terrace_core::SystemAllocator;
use terrace_frame::{
    Frame, FrameAllocator, FrameError, Frames, HugeCounts, HugePages, HybridAllocator, MapEntry, MemoryMap, Misuse,
    PageOwner, PageSize, Request, Watermarks, ZoneConfig, ZonedAllocator,
};
use terrace_sync::NoSlots;

const BLOCK: usize = 512;

fn owner(tag: u16) -> PageOwner {
    PageOwner::new(tag).expect("1 to 32767")
}

/// Eight blocks and two halves, with a hole in the third.
fn map() -> MemoryMap {
    let frame = 4096;
    MemoryMap::new(&[
        MapEntry::usable(2048 * frame - 256 * frame, 9 * 512 * frame),
        MapEntry::reserved((2048 + 1100) * frame, frame),
    ])
    .expect("a map")
}

fn storage() -> Vec<u64> {
    vec![0; HugePages::metadata_bytes(map().span().count) / 8]
}

#[test]
fn a_block_is_a_page_from_its_last_frame_to_the_first_that_goes() {
    let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
    let mut words = storage();
    let pages = HugePages::new(&frames, &mut words).expect("enough storage");
    let (one, two) = (owner(1), owner(3));
    let block = Frames::new(2048, BLOCK);
    let at = |frame: usize| Request::frames(1).within(Frames::new(frame, 1));
    let free = frames.free_frames();

    // The first 511 are one owner's, the last is another's.
    let most = Request::frames(BLOCK - 1).within(Frames::new(block.start.0, BLOCK - 1));
    pages.alloc_for(one, &most).expect("it is free");
    let last = pages.alloc_for(two, &at(2048 + 511)).expect("it is free");
    assert_eq!((pages.page_size(block.start), pages.counts().promotions), (PageSize::Normal, 0));

    // It comes to the first owner.
    pages.free_for(two, last).expect("it is theirs");
    pages.alloc_for(one, &at(2048 + 511)).expect("it is free");
    assert_eq!((pages.page_size(block.start), pages.owner(last.start)), (PageSize::Large, Some(one)));
    assert_eq!(frames.free_frames(), free - BLOCK, "a promotion takes nothing");

    // A free in the middle ends it, and gives back one frame alone.
    pages.free_for(one, Frames::new(2048 + 100, 1)).expect("it is theirs");
    assert_eq!((pages.page_size(block.start), pages.owner(last.start)), (PageSize::Normal, None));
    assert_eq!(frames.free_frames(), free - BLOCK + 1, "a demotion gives nothing back but what was freed");
    pages.alloc_for(one, &at(2048 + 100)).expect("it is free");

    // All at once is an end, and no demotion.
    pages.free_for(one, block).expect("it is theirs");
    let counts = pages.counts();
    assert_eq!((counts.huge, counts.promotions, counts.demotions), (0, 2, 1));
    assert_eq!(frames.free_frames(), free);
}

#[test]
fn a_large_run_is_pages_at_once() {
    let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
    let mut words = storage();
    let pages = HugePages::new(&frames, &mut words).expect("enough storage");
    let run = pages.alloc_for(owner(9), &Request::frames(2 * BLOCK).aligned(2 * BLOCK)).expect("there is room");
    assert_eq!(pages.counts().huge, 2);
    // From the middle of the first to the middle of the second.
    pages.free_for(owner(9), Frames::new(run.start.0 + 256, BLOCK)).expect("they are theirs");
    assert_eq!((pages.counts().huge, pages.counts().demotions), (0, 2));
}

#[test]
fn what_is_not_the_owners_is_refused_and_nothing_changes() {
    let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
    let mut words = storage();
    let pages = HugePages::new(&frames, &mut words).expect("enough storage");
    let page = Request::frames(BLOCK).aligned(BLOCK);
    let (mine, theirs) =
        (pages.alloc_for(owner(1), &page).expect("room"), pages.alloc_for(owner(2), &page).expect("room"));
    let before = (frames.free_frames(), pages.counts());
    let both = Frames::new(mine.start.0.min(theirs.start.0), 2 * BLOCK);
    assert_eq!(pages.free_for(owner(1), theirs), Err(Misuse::WrongOwner));
    assert_eq!(pages.free_for(owner(1), both), Err(Misuse::WrongOwner), "the first block alone is theirs");
    assert_eq!(pages.free_for(owner(1), Frames::new(both.start.0 + BLOCK, BLOCK + 50)), Err(Misuse::WrongOwner));
    assert_eq!(pages.free_for(owner(1), Frames::new(0, 1)), Err(Misuse::Outside));
    assert_eq!(pages.free_for(owner(1), Frames::ALL), Err(Misuse::Outside));
    assert_eq!(pages.free_for(owner(1), Frames { count: 0, ..mine }), Err(Misuse::Outside));
    assert_eq!((frames.free_frames(), pages.counts()), before);
    assert_eq!([mine, theirs].map(|run| pages.owner(run.start)), [Some(owner(1)), Some(owner(2))]);

    // One of them went back directly: the backing finds it, and the rest is as it was.
    frames.free(Frames { count: 1, ..mine }).expect("it is handed out");
    let before = (frames.free_frames(), pages.counts());
    assert_eq!(pages.free_for(owner(1), mine), Err(Misuse::AlreadyFree));
    assert_eq!((frames.free_frames(), pages.counts()), before);
    assert_eq!(pages.owner(mine.start), Some(owner(1)), "its sums are what they were");
    assert_eq!(pages.alloc_for(owner(1), &Request::frames(0)), Err(FrameError::InvalidSize));
    let mut few = [0; 8];
    assert_eq!(HugePages::new(&frames, &mut few[..7]).expect_err("too little"), FrameError::InvalidSize);
}

/// Refuses what it is told to free, and has something done before.
struct Refusing<'a>(&'a dyn FrameAllocator, Cell<Option<&'a dyn Fn()>>);

// SAFETY: frames are those of the allocator behind it.
unsafe impl FrameAllocator for Refusing<'_> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        self.0.alloc(request)
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        match self.1.take() {
            Some(meanwhile) => {
                meanwhile();
                Err(Misuse::AlreadyFree)
            }
            None => self.0.free(frames),
        }
    }

    fn span(&self) -> Frames {
        self.0.span()
    }

    fn total_frames(&self) -> usize {
        self.0.total_frames()
    }

    fn free_frames(&self) -> usize {
        self.0.free_frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.0.is_free(frame)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.0.manages(frames)
    }
}

/// Another thread makes a block whole, or ends it, between the two steps of a free that is refused.
#[test]
fn a_refused_free_hides_no_promotion_and_no_demotion() {
    let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
    let backing = Refusing(&frames, Cell::new(None));
    let mut words = storage();
    let pages = HugePages::new(&backing, &mut words).expect("enough storage");
    let run = pages.alloc_for(owner(1), &Request::frames(BLOCK).aligned(BLOCK)).expect("room");
    let (last, other) = (Frames::new(run.start.0 + 511, 1), Frames::new(run.start.0 + 7, 1));
    pages.free_for(owner(1), last).expect("theirs");
    assert_eq!(pages.counts(), HugeCounts { huge: 0, promotions: 1, demotions: 1 });

    let takes = || assert!(pages.alloc_for(owner(1), &Request::frames(1).within(last)).is_ok());
    backing.1.set(Some(&takes));
    assert_eq!(pages.free_for(owner(1), other), Err(Misuse::AlreadyFree));
    assert_eq!((pages.owner(run.start), pages.counts().huge), (Some(owner(1)), 1));

    let ends = || assert_eq!(pages.free_for(owner(1), last), Ok(()));
    backing.1.set(Some(&ends));
    assert_eq!(pages.free_for(owner(1), other), Err(Misuse::AlreadyFree));
    assert_eq!(pages.owner(run.start), None);
    assert_eq!(pages.counts(), HugeCounts { huge: 0, promotions: 2, demotions: 2 });
}

#[test]
fn owners_stand_over_zones_too() {
    let map = MemoryMap::of(Frames::new(0, 8192)).expect("a map");
    let none = Some(Watermarks::NONE);
    let config = ZoneConfig { dma: none, normal: none, dma_reserve: Some(4096), ..ZoneConfig::default() };
    let mut words = vec![0; ZonedAllocator::metadata_bytes(&map, &config, 0).expect("zones") / 8];
    let zones = ZonedAllocator::new(&map, &config, &mut words).expect("zones");
    let mut words = vec![0; HugePages::metadata_bytes(8192) / 8];
    let pages = HugePages::new(&zones, &mut words).expect("enough storage");
    let runs: Vec<_> = (0..4096).map(|_| pages.alloc_for(owner(5), &Request::frames(1)).expect("room")).collect();
    assert_eq!(pages.counts().huge, 8, "all of Normal");
    assert!(pages.alloc_for(owner(5), &Request::frames(1)).is_err(), "the rest is DMA's reserve");
    runs.into_iter().for_each(|run| pages.free_for(owner(5), run).expect("theirs"));
    assert_eq!((pages.counts().huge, zones.free_frames()), (0, 8192));
}

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        tag: u16,
        count: usize,
    },
    /// Every frame of a block that is free.
    Rest {
        tag: u16,
        block: usize,
    },
    Free {
        which: usize,
        part: bool,
    },
    Wrong {
        which: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![3 => 1usize..200, 1 => Just(BLOCK), 1 => 500usize..1100];
    let step = prop_oneof![
        4 => (1u16..4, count).prop_map(|(tag, count)| Step::Alloc { tag, count }),
        3 => (1u16..4, 0usize..8).prop_map(|(tag, block)| Step::Rest { tag, block }),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(which, part)| Step::Free { which, part }),
        1 => any::<usize>().prop_map(|which| Step::Wrong { which }),
    ];
    prop::collection::vec(step, 1..60)
}

/// The owner of each frame that is handed out.
struct Model<'a> {
    pages: &'a HugePages<'a, &'a dyn FrameAllocator>,
    frames: &'a dyn FrameAllocator,
    of: Vec<u16>,
    runs: Vec<(Frames, u16)>,
    promotions: usize,
    demotions: usize,
}

impl Model<'_> {
    fn whose(&self, block: usize) -> Option<PageOwner> {
        let tags = &self.of[block * BLOCK..(block + 1) * BLOCK];
        PageOwner::new(tags[0]).filter(|owner| tags.iter().all(|&tag| tag == owner.tag()))
    }

    fn alloc(&mut self, tag: u16, request: &Request) {
        let Ok(run) = self.pages.alloc_for(owner(tag), request) else { return };
        assert!(self.of[run.start.0..run.end()].iter().all(|&tag| tag == 0));
        self.of[run.start.0..run.end()].fill(tag);
        self.runs.push((run, tag));
        // None of its blocks was whole, for it was free.
        let blocks = run.start.0 / BLOCK..run.end().div_ceil(BLOCK);
        self.promotions += blocks.filter(|&block| self.whose(block).is_some()).count();
    }

    fn free(&mut self, run: Frames, tag: u16) {
        let blocks = run.start.0 / BLOCK..run.end().div_ceil(BLOCK);
        let whole: Vec<_> = blocks.filter(|&block| self.whose(block).is_some()).collect();
        assert_eq!(self.pages.free_for(owner(tag), run), Ok(()));
        self.of[run.start.0..run.end()].fill(0);
        let rest = |block: &&usize| self.of[*block * BLOCK..(*block + 1) * BLOCK].iter().any(|&tag| tag != 0);
        self.demotions += whole.iter().filter(rest).count();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Alloc { tag, count } => self.alloc(tag, &Request::frames(count)),
            Step::Rest { tag, block } => {
                let block = Frames::new(2048 + block * BLOCK, BLOCK);
                (0..BLOCK).for_each(|_| self.alloc(tag, &Request::frames(1).within(block)));
            }
            Step::Free { which, part } => {
                let Some(at) = which.checked_rem(self.runs.len()) else { return };
                let (run, tag) = self.runs.swap_remove(at);
                let first = if part { run.count.div_ceil(2) } else { run.count };
                self.free(Frames { count: first, ..run }, tag);
                if first < run.count {
                    self.runs.push((Frames::new(run.start.0 + first, run.count - first), tag));
                }
            }
            Step::Wrong { which } => {
                let Some(at) = which.checked_rem(self.runs.len()) else { return };
                let (run, tag) = self.runs[at];
                if run.start.0 / BLOCK == (run.end() - 1) / BLOCK && self.whose(run.start.0 / BLOCK).is_some() {
                    let other = owner(if tag == 1 { 2 } else { 1 });
                    assert_eq!(self.pages.free_for(other, run), Err(Misuse::WrongOwner));
                }
            }
        }
        let seen: Vec<_> = (3..13).map(|block| self.pages.owner(Frame(block * BLOCK))).collect();
        assert_eq!(seen, (3..13).map(|block| self.whose(block)).collect::<Vec<_>>());
        let counts = self.pages.counts();
        let huge = seen.iter().flatten().count();
        let taken = self.of.iter().filter(|&&tag| tag != 0).count();
        assert_eq!((counts.huge, counts.promotions, counts.demotions), (huge, self.promotions, self.demotions));
        assert_eq!(self.frames.free_frames() + taken, self.frames.total_frames(), "no frame came or went");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn a_block_is_huge_exactly_while_it_is_one_owners(program in steps()) {
        let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
        let mut words = storage();
        let backing: &dyn FrameAllocator = &frames;
        let pages = HugePages::new(backing, &mut words).expect("enough storage");
        let (of, runs) = (vec![0; 13 * BLOCK], Vec::new());
        let mut model = Model { pages: &pages, frames: backing, of, runs, promotions: 0, demotions: 0 };
        program.iter().for_each(|step| model.step(step));
    }
}

/// Threads that are owners take and free in the same blocks. A thread alone knows which frames it has, and a block all of
/// which it has must be its page at that moment.
#[test]
fn owners_in_a_race_see_their_pages() {
    let frames = HybridAllocator::new_in(&map(), NoSlots, &SystemAllocator).expect("memory");
    let mut words = storage();
    let pages = HugePages::new(&frames, &mut words).expect("enough storage");
    let (barrier, wrong, seen) = (Barrier::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for tag in 1..=3u16 {
            let (pages, barrier, wrong, seen) = (&pages, &barrier, &wrong, &seen);
            scope.spawn(move || {
                let mut mine: BTreeMap<usize, Vec<Frames>> = BTreeMap::new();
                barrier.wait();
                for round in 0..40usize {
                    for _ in 0..1400 {
                        let Ok(run) = pages.alloc_for(owner(tag), &Request::frames(1)) else { break };
                        mine.entry(run.start.0 / BLOCK).or_default().push(run);
                    }
                    for (block, runs) in &mine {
                        let page = pages.owner(Frame(block * BLOCK)) == Some(owner(tag));
                        wrong.fetch_add(usize::from(page != (runs.len() == BLOCK)), Ordering::Relaxed);
                        seen.fetch_add(usize::from(page), Ordering::Relaxed);
                    }
                    for (block, runs) in &mut mine {
                        let kept = if (block + round).is_multiple_of(3) { 0 } else { runs.len() - runs.len().min(37) };
                        for run in runs.drain(kept..) {
                            wrong.fetch_add(usize::from(pages.free_for(owner(tag), run).is_err()), Ordering::Relaxed);
                        }
                    }
                }
                for run in mine.into_values().flatten() {
                    wrong.fetch_add(usize::from(pages.free_for(owner(tag), run).is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(wrong.into_inner(), 0);
    eprintln!("{} pages seen by their owners, {:?}", seen.into_inner(), pages.counts());
    assert_eq!((pages.counts().huge, frames.free_frames()), (0, frames.total_frames()));
}
