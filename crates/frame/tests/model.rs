//! Every allocator of frames before one judge.

mod judge;

use std::cell::Cell;

use judge::{Traits, batches_are_calls_in_a_row, holey, refuses_what_is_bad, run, steps};
use proptest::prelude::*;
use terrace_core::SystemAllocator;
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, FrameError, Frames, HybridAllocator,
    MemoryMap, Misuse, Order, Request, Watermarks, ZoneConfig, ZonedAllocator,
};
use terrace_sync::{NoSlots, Slots};

const ONE: Traits = Traits { boundaries: false, leaf: 1, exact: true, places: true };
const SMALL: usize = 32_768;

fn leaf(log2: u32) -> Order {
    Order::new(log2).expect("up to 20")
}

fn small_map() -> MemoryMap {
    MemoryMap::of(Frames::new(SMALL, SMALL)).expect("a map")
}

/// Callers come from one slot after the other, and from none.
#[derive(Default)]
struct Turns(Cell<usize>);

// SAFETY: one thread, which leaves before it enters again.
unsafe impl Slots for Turns {
    fn count(&self) -> usize {
        3
    }

    fn enter(&self) -> usize {
        self.0.set((self.0.get() + 1) % 4);
        self.0.get()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn a_bitmap_does_what_a_set_does(program in steps()) {
        let frames = BitmapAllocator::new_in(&holey(), &SystemAllocator).expect("memory");
        run(&frames, &holey(), ONE, &program);
    }

    #[test]
    fn a_buddy_does_what_a_set_does(program in steps()) {
        let frames = BuddyAllocator::new_in(&holey(), Order::MIN, &SystemAllocator).expect("memory");
        run(&frames, &holey(), Traits { places: false, ..ONE }, &program);
    }

    #[test]
    fn a_buddy_of_large_leaves_does_what_a_set_does(program in steps()) {
        let frames = BuddyAllocator::new_in(&holey(), leaf(4), &SystemAllocator).expect("memory");
        run(&frames, &holey(), Traits { leaf: 16, places: false, ..ONE }, &program);
    }

    #[test]
    fn the_classic_buddy_does_what_a_set_does(program in steps()) {
        let frames = ClassicBuddyAllocator::new_in(&holey(), &SystemAllocator).expect("memory");
        run(&frames, &holey(), Traits { boundaries: true, places: false, ..ONE }, &program);
    }

    #[test]
    fn a_hybrid_does_what_a_set_does(program in steps()) {
        let frames = HybridAllocator::new_in(&holey(), NoSlots, &SystemAllocator).expect("memory");
        run(&frames, &holey(), ONE, &program);
    }

    #[test]
    fn a_hybrid_with_slots_does_what_a_set_does(program in steps(), threshold in 1usize..=512) {
        let frames = HybridAllocator::new_in(&holey(), Turns::default(), &SystemAllocator).expect("memory");
        // A threshold of 1 leaves what lies in no whole block alone.
        let exact = threshold > 1;
        run(&frames.with_threshold(threshold), &holey(), Traits { exact, ..ONE }, &program);
    }

    /// In memory that has whole groups of 64 blocks.
    #[test]
    fn a_hybrid_of_groups_does_what_a_set_does(program in steps()) {
        let map = MemoryMap::of(Frames::new(32_500, 70_000)).expect("a map");
        let frames = HybridAllocator::new_in(&map, Turns::default(), &SystemAllocator).expect("memory");
        run(&frames, &map, ONE, &program);
    }

    /// What ordinary requests get of two zones; a run is of one of them.
    #[test]
    fn zones_do_what_a_set_does(program in steps()) {
        let none = Some(Watermarks::NONE);
        let config = ZoneConfig { dma_end: Frame(40_000), dma: none, normal: none, dma_reserve: Some(0), ..ZoneConfig::default() };
        let mut words = vec![0; ZonedAllocator::metadata_bytes(&holey(), &config, 0).expect("zones") / 8];
        let zones = ZonedAllocator::new(&holey(), &config, &mut words).expect("zones");
        run(&zones, &holey(), Traits { places: false, ..ONE }, &program);
    }
}

#[test]
fn bad_requests_and_frees_are_refused() {
    let map = small_map();
    refuses_what_is_bad(&BitmapAllocator::new_in(&map, &SystemAllocator).expect("memory"), &map);
    refuses_what_is_bad(&ClassicBuddyAllocator::new_in(&map, &SystemAllocator).expect("memory"), &map);
    refuses_what_is_bad(&HybridAllocator::new_in(&map, NoSlots, &SystemAllocator).expect("memory"), &map);
    refuses_what_is_bad(&HybridAllocator::new_in(&map, Turns::default(), &SystemAllocator).expect("memory"), &map);
    for log2 in [0, 5, 9] {
        refuses_what_is_bad(&BuddyAllocator::new_in(&map, leaf(log2), &SystemAllocator).expect("memory"), &map);
    }
}

#[test]
fn batches_go_as_far_as_they_can() {
    let map = small_map();
    batches_are_calls_in_a_row(&BitmapAllocator::new_in(&map, &SystemAllocator).expect("memory"));
    batches_are_calls_in_a_row(&ClassicBuddyAllocator::new_in(&map, &SystemAllocator).expect("memory"));
    batches_are_calls_in_a_row(&HybridAllocator::new_in(&map, Turns::default(), &SystemAllocator).expect("memory"));
    batches_are_calls_in_a_row(&BuddyAllocator::new_in(&map, Order::MIN, &SystemAllocator).expect("memory"));
}

/// Of two pages that go back at once one is partly free: a misuse, by its index, and the other's is no matter.
#[test]
fn a_batch_with_a_page_that_is_partly_free_is_misuse() {
    let (map, page) = (small_map(), leaf(9));
    let hybrid = HybridAllocator::new_in(&map, Turns::default(), &SystemAllocator).expect("memory");
    let mut pages = [Frame(0); 2];
    assert_eq!(hybrid.alloc_batch(page, &mut pages), 2);
    assert_eq!(hybrid.free(Frames::new(pages[1].0 + 7, 1)), Ok(()));
    assert_eq!(hybrid.free_batch(page, &pages), Err((1, Misuse::AlreadyFree)));
    assert_eq!(hybrid.free_frames(), map.count() - 511);
}

/// Words that come back one by one are found as the larger run that they are.
#[test]
fn words_that_come_back_are_one_run() {
    let map = small_map();
    let hybrid = HybridAllocator::new_in(&map, Turns::default(), &SystemAllocator).expect("memory");
    let word = leaf(6);
    while hybrid.alloc_order(word).is_ok() {}
    let block = map.span().start.0.next_multiple_of(512);
    for (words, order) in [(2..4, 7), (4..8, 8)] {
        hybrid.drain();
        words.for_each(|at| assert_eq!(hybrid.free_order(Frame(block + at * 64), word), Ok(())));
        assert!(hybrid.alloc_order(leaf(order)).is_ok(), "order {order}");
        assert_eq!(hybrid.free_frames(), 0);
    }
}

/// What `metadata_bytes` says is enough wherever the slice begins, and a word less than what is needed is refused.
#[test]
fn storage_that_is_too_small_is_refused() {
    for map in [small_map(), holey(), MemoryMap::of(Frames::new(32_767, 2)).expect("a map")] {
        let span = map.span().count;
        let mut words = vec![u64::MAX; ClassicBuddyAllocator::metadata_bytes(span) / 8 + 8000];
        for skip in 0..8 {
            let bytes = BitmapAllocator::metadata_bytes(span);
            assert!(BitmapAllocator::new(&map, &mut words[skip..skip + bytes / 8]).is_ok());
            assert_eq!(BitmapAllocator::new(&map, &mut words[..skip]).unwrap_err(), FrameError::InvalidSize);
            let bytes = BuddyAllocator::metadata_bytes(span, leaf(9));
            assert!(BuddyAllocator::with_leaf(&map, leaf(9), &mut words[skip..skip + bytes / 8]).is_ok());
            assert_eq!(BuddyAllocator::new(&map, &mut words[..skip]).unwrap_err(), FrameError::InvalidSize);
            let bytes = HybridAllocator::metadata_bytes(span, 3);
            let enough = &mut words[skip..skip + bytes / 8];
            assert!(HybridAllocator::with_slots(&map, Turns::default(), enough).is_ok());
            assert_eq!(HybridAllocator::new(&map, &mut words[..skip]).unwrap_err(), FrameError::InvalidSize);
            let bytes = ClassicBuddyAllocator::metadata_bytes(span);
            assert!(ClassicBuddyAllocator::new(&map, &mut words[skip..skip + bytes / 8]).is_ok());
            assert_eq!(
                ClassicBuddyAllocator::new(&map, &mut words[..skip.min(1)]).unwrap_err(),
                FrameError::InvalidSize
            );
        }
    }
}

/// Its first frame makes a run of two, its last one of eight.
#[test]
fn a_run_at_the_end_of_what_came_back_is_found() {
    let map = MemoryMap::of(Frames::new(0, 24)).expect("a map");
    let bitmap = BitmapAllocator::new_in(&map, &SystemAllocator).expect("memory");
    let hybrid = HybridAllocator::new_in(&map, NoSlots, &SystemAllocator).expect("memory");
    for frames in [&bitmap as &dyn FrameAllocator, &hybrid] {
        assert_eq!(frames.alloc(&Request::frames(10)), Ok(Frames::new(0, 10)));
        assert_eq!(frames.alloc(&Request::frames(7)), Ok(Frames::new(10, 7)));
        let eight = Order::new(3).expect("up to 20");
        assert_eq!(frames.alloc_order(eight), Err(FrameError::OutOfMemory));
        assert_eq!(frames.free(Frames::new(10, 7)), Ok(()));
        assert_eq!(frames.alloc_order(eight), Ok(Frame(16)));
    }
}

/// Three threads one after the other, each without a number until it asks for one.
#[derive(Default)]
struct Threads {
    now: Cell<usize>,
    numbers: [Cell<usize>; 3],
    given: Cell<usize>,
}

// SAFETY: one thread, and a number is one caller's.
unsafe impl Slots for Threads {
    fn count(&self) -> usize {
        3
    }

    fn enter(&self) -> usize {
        self.numbers[self.now.get()].get()
    }

    fn claim(&self) -> bool {
        self.given.set(self.given.get() + 1);
        self.numbers[self.now.get()].set(self.given.get());
        true
    }
}

/// Whoever found what it wanted at the place of those without a number stayed there, and threads shared a word.
#[test]
fn a_caller_without_a_number_gets_one_and_then_has_words_of_its_own() {
    for (log2, apart) in [(0, 9), (3, 9), (6, 12), (9, 15)] {
        let callers = Threads::default();
        let map = MemoryMap::of(Frames::new(0, 1 << 20)).expect("a map");
        let hybrid = HybridAllocator::new_in(&map, &callers, &SystemAllocator).expect("memory");
        let places = [0, 1, 2].map(|caller| {
            callers.now.set(caller);
            let runs = [0; 2].map(|_| hybrid.alloc_order(leaf(log2)).expect("there is room"));
            assert_eq!(callers.numbers[caller].get(), caller + 1, "order {log2}");
            runs[1].0 >> apart
        });
        assert!(places[0] != places[1] && places[1] != places[2] && places[0] != places[2], "order {log2}: {places:?}");
    }
}

/// The limits cut two groups of 64 blocks that are free as wholes, and only the second has a run as wanted.
#[test]
fn a_run_inside_limits_is_found_in_the_second_of_two_groups_too() {
    const GROUP: usize = 64 * 512;
    for (order, before) in [(10, 1), (13, 15), (14, 31)] {
        let map = MemoryMap::of(Frames::new(0, 2 * GROUP)).expect("a map");
        let hybrid = HybridAllocator::new_in(&map, NoSlots, &SystemAllocator).expect("memory");
        let within = Frames::new(GROUP - before * 512, before * 512 + (512 << (order - 9)) + 1);
        let request = Request::order(leaf(order)).within(within);
        assert_eq!(hybrid.alloc(&request).map(|run| run.start), Ok(Frame(GROUP)), "order {order}");
        assert_eq!(hybrid.free_order(Frame(GROUP), leaf(order)), Ok(()));
        // What was cut is whole again.
        assert!([15, 15].map(|order| hybrid.alloc_order(leaf(order))).iter().all(Result::is_ok));
    }
}
