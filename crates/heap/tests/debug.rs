//! `DebugAllocator`: each mistake with the report that it gets, and correct programs, which get none.

mod support;

use std::{cell::RefCell, num::NonZeroUsize, ptr::NonNull, thread};

use proptest::prelude::*;
use support::{Ground, Shadow, align, cases, len, ops, slice};
use terrace_core::{
    Alignment, AllocStats, Allocator, AllocatorExt, GoodSize, Owns, Reset, ResetMode, Stats, SystemAllocator,
};
use terrace_heap::{
    ArenaAllocator, DebugAllocator, DebugConfig, FixedBufferAllocator,
    debug::{Handler, Mistake, Report},
};

/// Keeps what it is told.
#[derive(Default)]
struct Collect(RefCell<Vec<Report>>);

impl Handler for &Collect {
    fn report(&self, report: &Report) {
        self.0.borrow_mut().push(*report);
    }
}

impl Collect {
    fn mistakes(&self) -> Vec<Mistake> {
        self.0.borrow().iter().map(|report| report.mistake).collect()
    }

    /// The text of the one report, with addresses, places and threads by names that do not change.
    fn text(&self) -> String {
        let reports = self.0.borrow();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        let text = reports[0].to_string();
        let word = |word: &str| {
            let (word, comma) = word.strip_suffix(',').map_or((word, ""), |word| (word, ","));
            let (word, colon) = word.strip_suffix(':').map_or((word, ""), |word| (word, ":"));
            let known = match word {
                word if word.starts_with("0x") => "ADDRESS",
                word if word.starts_with(file!()) => "HERE",
                word => word,
            };
            format!("{known}{colon}{comma}")
        };
        let line = |line: &str| {
            let line = line.split_once(", thread ").map_or(line.to_owned(), |(place, _)| format!("{place}, thread N"));
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

type Debug<'c> = DebugAllocator<SystemAllocator, &'c Collect>;

fn debug(collect: &Collect, config: DebugConfig) -> Debug<'_> {
    DebugAllocator::with_handler(SystemAllocator, config, collect)
}

const WORD: Alignment = Alignment::of::<u64>();

fn block(debug: &dyn Allocator, bytes: usize) -> NonNull<[u8]> {
    slice(debug.alloc(len(bytes), WORD).unwrap(), bytes)
}

/// # Safety
/// As [`Allocator::free`], or as the test says.
#[track_caller]
unsafe fn free(debug: &dyn Allocator, memory: NonNull<[u8]>) {
    // SAFETY: the caller's promise.
    unsafe { debug.free(memory, WORD) };
}

/// Writes one byte, `offset` bytes from the block's first.
///
/// # Safety
/// The byte lies in a canary of the block, or in a block that is in quarantine.
unsafe fn poke(memory: NonNull<[u8]>, offset: isize) {
    // SAFETY: the caller's promise.
    let byte = unsafe { memory.cast::<u8>().offset(offset) };
    // SAFETY: as above.
    unsafe { byte.write(1) };
}

#[test]
fn a_leak_is_told_with_the_place_that_made_it_and_can_still_be_freed() {
    let collect = Collect::default();
    let mut debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    let check = debug.deinit();
    assert_eq!((check.leaks, check.leaked_bytes, check.mistakes), (1, 24, 0));
    assert_eq!(
        collect.text(),
        "leak of 24 bytes at ADDRESS, block 1\n  found at      HERE, thread N\n  allocated     HERE, thread N\n  \
         to do: free it when it is no longer needed, or let a collection or an arena own it"
    );
    // SAFETY: live still: deinit ends no block.
    unsafe { memory.cast::<u8>().write_bytes(7, 24) };
    // SAFETY: live, and not used again.
    unsafe { free(&debug, memory) };
    assert!(debug.deinit().is_clean());
    assert_eq!(debug.deinit().to_string(), "no leaks, no mistakes");
    drop(debug);
    assert_eq!(collect.mistakes(), [Mistake::Leak], "told once, also by the drop");
}

#[test]
fn a_drop_without_deinit_tells_of_leaks_too() {
    let (collect, ground) = (Collect::default(), Ground::default());
    let debug = DebugAllocator::with_handler(&ground, DebugConfig::new(), &collect);
    let memory = block(&debug, 5);
    drop(debug);
    assert_eq!(collect.mistakes(), [Mistake::Leak]);
    assert_eq!(ground.blocks(), 1, "all went back but the block that is live");
    // With canaries of 16 bytes it is 37 bytes long and begins 16 before what was handed out.
    // SAFETY: within the block.
    let start = unsafe { memory.cast::<u8>().sub(16) };
    // SAFETY: live, of the ground, not used again.
    unsafe { ground.free(slice(start, 37), WORD) };
}

#[test]
fn a_double_free_names_three_places() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: live.
    unsafe { free(&debug, memory) };
    // SAFETY: a mistake: not live; found before anything is freed.
    unsafe { free(&debug, memory) };
    assert_eq!(
        collect.text(),
        "double free of 24 bytes at ADDRESS, block 1\n  freed again   HERE, thread N\n  allocated     HERE, thread N\n  \
         freed         HERE, thread N\n  to do: free a block once: of the two places that free it, one is not its owner"
    );
    let reports = collect.0.borrow();
    let block = reports[0].block.unwrap();
    let lines = [block.allocated.site.line(), block.freed.unwrap().site.line(), reports[0].by.site.line()];
    assert!(lines[0] < lines[1] && lines[1] < lines[2], "in the order of the program: {lines:?}");
}

#[test]
fn a_block_that_two_threads_free_is_freed_once_and_both_threads_are_named() {
    struct Shared(std::sync::Mutex<Vec<Report>>);
    impl Handler for &Shared {
        fn report(&self, report: &Report) {
            self.0.lock().unwrap().push(*report);
        }
    }
    let shared = Shared(std::sync::Mutex::new(Vec::new()));
    let debug = DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), &shared);
    let address = block(&debug, 24).addr().get();
    thread::scope(|threads| {
        for _ in 0..2 {
            // SAFETY: the block is live, or found to be freed.
            threads.spawn(|| unsafe { debug.free_by_address(NonNull::new(address as *mut u8).unwrap()) });
        }
    });
    let reports = shared.0.lock().unwrap();
    let [report] = reports[..] else { panic!("{reports:?}") };
    assert_eq!(report.mistake, Mistake::DoubleFree);
    let freed = report.block.unwrap().freed.unwrap();
    assert!(freed.thread != 0 && report.by.thread != 0 && freed.thread != report.by.thread);
}

#[test]
fn a_wrong_length_is_told_and_the_right_one_goes_back() {
    let (collect, ground) = (Collect::default(), Ground::default());
    let debug = DebugAllocator::with_handler(&ground, DebugConfig::new(), &collect);
    let memory = block(&debug, 24);
    // SAFETY: a mistake: its length is 24. `Ground` panics where a block does not come back as it went out.
    unsafe { free(&debug, slice(memory.cast(), 20)) };
    assert_eq!(
        collect.text(),
        "free with a wrong length, 20 bytes, of 24 bytes at ADDRESS, block 1\n  called at     HERE, thread N\n  \
         allocated     HERE, thread N\n  freed         HERE, thread N\n  \
         to do: bring the length of the last alloc, resize or remap, in bytes"
    );
}

#[test]
fn a_wrong_alignment_is_told() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: a mistake: its alignment is 8.
    unsafe { debug.free(memory, align(16)) };
    assert_eq!(
        collect.text(),
        "free with a wrong alignment, 16 instead of 8, of 24 bytes at ADDRESS, block 1\n  called at     HERE, thread N\n  \
         allocated     HERE, thread N\n  freed         HERE, thread N\n  \
         to do: bring the alignment of the alloc: it is part of a block, as its length is"
    );
}

#[test]
fn resize_and_remap_with_a_wrong_length_or_alignment_are_told_and_refused() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    let wrong = slice(memory.cast(), 25);
    // SAFETY: mistakes, each found before the backing is asked.
    unsafe { assert!(!debug.resize(wrong, WORD, len(10))) };
    // SAFETY: as above.
    unsafe { assert!(!debug.resize(memory, align(4), len(10))) };
    // SAFETY: as above.
    unsafe { assert!(debug.remap(wrong, WORD, len(10)).is_none()) };
    // SAFETY: as above.
    unsafe { assert!(debug.remap(memory, align(4), len(10)).is_none()) };
    let alignment = Mistake::WrongAlignment { given: align(4) };
    let length = Mistake::WrongLength { given: 25 };
    assert_eq!(collect.mistakes(), [length, alignment, length, alignment]);
    let text = collect.0.borrow()[0].to_string();
    assert!(text.starts_with("resize with a wrong length, 25 bytes, of 24 bytes at 0x"), "{text}");
    // SAFETY: live, with the length that it has.
    unsafe { free(&debug, memory) };
    assert_eq!(collect.0.borrow().len(), 4);
}

#[test]
fn a_foreign_pointer_is_told_and_not_freed() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let word = SystemAllocator.dupe(b"not ours").unwrap();
    // SAFETY: a mistake: another allocator's block.
    unsafe { free(&debug, word) };
    assert_eq!(
        collect.text(),
        "free of a foreign pointer ADDRESS: no block begins there\n  called at     HERE, thread N\n  to do: free it \
         with the allocator that made it; a block freed long ago is known again with retain_metadata"
    );
    // SAFETY: live, of that allocator.
    assert_eq!(unsafe { word.as_ref() }, b"not ours");
    // SAFETY: live, of that allocator, not used again.
    unsafe { SystemAllocator.free_slice(word) };
}

#[test]
fn a_block_given_to_the_wrong_of_two_allocators_stays_with_its_own() {
    let collect = Collect::default();
    let (mine, mut yours) = (debug(&collect, DebugConfig::new()), debug(&collect, DebugConfig::new()));
    let memory = block(&yours, 24);
    // SAFETY: a mistake: the other's block.
    unsafe { free(&mine, memory) };
    assert_eq!(collect.mistakes(), [Mistake::Foreign]);
    assert_eq!(yours.check_for_leaks().leaks, 1);
    // SAFETY: live, of this one.
    unsafe { free(&yours, memory) };
    assert_eq!(yours.deinit().leaks, 0);
}

#[test]
fn a_pointer_into_a_block_is_told_with_the_offset() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: within the block.
    let inside = unsafe { memory.cast::<u8>().add(8) };
    // SAFETY: a mistake: no block begins there.
    unsafe { free(&debug, slice(inside, 16)) };
    assert_eq!(
        collect.text(),
        "free of ADDRESS, which is 8 bytes inside of 24 bytes at ADDRESS, block 1\n  called at     HERE, thread N\n  \
         allocated     HERE, thread N\n  to do: keep the pointer that alloc gave, and bring that one"
    );
    // SAFETY: live, of this allocator, not used again.
    unsafe { free(&debug, memory) };
}

#[test]
fn a_write_past_the_end_is_told_at_the_free() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    for offset in [26, 30] {
        // SAFETY: in the canary.
        unsafe { poke(memory, offset) };
    }
    // SAFETY: live, not used again.
    unsafe { free(&debug, memory) };
    assert_eq!(
        collect.text(),
        "write past the end of 24 bytes at ADDRESS: 5 bytes, 2 bytes behind the end, block 1\n  \
         found at      HERE, thread N\n  allocated     HERE, thread N\n  freed         HERE, thread N\n  \
         to do: look for an index at or above the length; guard_pages shows the write itself"
    );
}

#[test]
fn a_write_before_the_start_is_told_at_the_free() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: in the canary.
    unsafe { poke(memory, -3) };
    // SAFETY: live, not used again.
    unsafe { free(&debug, memory) };
    assert_eq!(
        collect.text(),
        "write before the start of 24 bytes at ADDRESS: 1 byte, from 3 bytes before it, block 1\n  \
         found at      HERE, thread N\n  allocated     HERE, thread N\n  freed         HERE, thread N\n  \
         to do: look for an index below 0; guard_pages or a larger canary shows more"
    );
}

#[test]
fn a_write_past_the_end_is_told_by_a_resize_a_remap_and_a_check_and_once_each() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig { enable_leak_detection: false, ..DebugConfig::new() });
    let memory = block(&debug, 24);
    let over = Mistake::Overrun { offset: 0, span: 1 };
    for round in 1..=3 {
        // SAFETY: in the canary.
        unsafe { poke(memory, 24) };
        match round {
            // SAFETY: live; std's allocator changes no length in place.
            1 => assert!(!unsafe { debug.resize(memory, WORD, len(10)) }),
            // SAFETY: as above.
            2 => assert!(unsafe { debug.remap(memory, WORD, len(10)) }.is_none()),
            _ => assert_eq!(debug.check_for_leaks().mistakes, 3),
        }
        assert_eq!(collect.mistakes(), vec![over; round]);
    }
    let about = collect.0.borrow()[1].block.unwrap();
    assert_eq!((about.len, about.serial), (24, 1), "the remap's report knows the block too");
    // SAFETY: live, not used again.
    unsafe { free(&debug, memory) };
    assert_eq!(collect.mistakes().len(), 3);
}

#[test]
fn a_write_after_the_free_is_told_by_a_check_and_when_the_quarantine_ends() {
    let collect = Collect::default();
    let mut debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: live.
    unsafe { free(&debug, memory) };
    // SAFETY: a mistake; the block is in quarantine, so its memory is still the allocator's.
    unsafe { poke(memory, 4) };
    assert_eq!(debug.check_for_leaks().mistakes, 1);
    assert_eq!(
        collect.text(),
        "write after free to 24 bytes at ADDRESS: 1 byte, 4 bytes from its start, block 1\n  \
         found at      HERE, thread N\n  allocated     HERE, thread N\n  freed         HERE, thread N\n  \
         to do: look for a pointer that outlives the free, or free later; guard_pages shows the first wrong access"
    );
    // SAFETY: as above.
    unsafe { poke(memory, 7) };
    let _ = debug.deinit();
    assert_eq!(collect.mistakes()[1], Mistake::WriteAfterFree { offset: 7, span: 1 });
    assert_eq!(collect.mistakes().len(), 2);
}

#[test]
fn a_freed_block_in_any_other_call_is_told() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    // SAFETY: live.
    unsafe { free(&debug, memory) };
    // SAFETY: mistakes, found before the backing is asked.
    unsafe { assert!(!debug.resize(memory, WORD, len(30))) };
    // SAFETY: as above.
    unsafe { assert!(debug.remap(memory, WORD, len(30)).is_none()) };
    assert_eq!(debug.size_by_address(memory.cast()), None);
    assert_eq!(collect.mistakes(), [Mistake::UseAfterFree; 3]);
    let text = collect.0.borrow()[0].to_string();
    assert!(text.starts_with("resize of a freed block: 24 bytes at 0x"), "{text}");
}

#[test]
fn a_block_freed_past_the_allocator_is_told_when_it_comes_again() {
    let (collect, mut bytes) = (Collect::default(), [const { core::mem::MaybeUninit::uninit() }; 4096]);
    let fixed = FixedBufferAllocator::new(&mut bytes);
    let config = DebugConfig { canaries: 0, stack_trace_frames: 0, ..DebugConfig::new() };
    let debug = DebugAllocator::with_handler(&fixed, config, &collect);
    let _table = block(&debug, 8); // The larger table lies between this one and the next.
    let memory = block(&debug, 24);
    // SAFETY: a mistake, as far as `debug` is concerned; without canaries it is the backing's block.
    unsafe { free(&fixed, memory) };
    let again = block(&debug, 24);
    assert_eq!(again, memory);
    assert_eq!(collect.mistakes(), [Mistake::Overlap]);
    let text = collect.0.borrow()[0].to_string();
    assert!(text.starts_with("the backing has handed out a live block again: 24 bytes at 0x"), "{text}");
    assert_eq!(debug.stats().current_allocations, 2);
}

/// What C's functions call.
#[test]
fn by_address_finds_the_same_mistakes() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    let memory = block(&debug, 24);
    assert_eq!(debug.size_by_address(memory.cast()), Some(len(24)));
    // SAFETY: in the canary.
    unsafe { poke(memory, 24) };
    // SAFETY: live; std's allocator does not move it.
    unsafe { assert!(debug.remap_by_address(memory.cast(), len(48)).is_none()) };
    // SAFETY: within the block.
    let inside = unsafe { memory.cast::<u8>().add(1) };
    for address in [inside, memory.cast(), memory.cast(), NonNull::from(&collect).cast()] {
        // SAFETY: the second is live, the others are mistakes that are found.
        unsafe { debug.free_by_address(address) };
    }
    let over = Mistake::Overrun { offset: 0, span: 1 };
    assert_eq!(collect.mistakes(), [over, Mistake::Interior { offset: 1 }, Mistake::DoubleFree, Mistake::Foreign]);
}

#[test]
fn a_reset_ends_blocks_without_a_leak_and_shows_what_was_overwritten() {
    let (collect, ground) = (Collect::default(), Ground::default());
    let mut debug = DebugAllocator::with_handler(ArenaAllocator::new(&ground), DebugConfig::new(), &collect);
    let memory = block(&debug, 24);
    let _ = block(&debug, 100);
    // SAFETY: in the canary.
    unsafe { poke(memory, 25) };
    assert!(debug.reset(ResetMode::RetainCapacity));
    assert_eq!(collect.mistakes(), [Mistake::Overrun { offset: 1, span: 1 }]);
    assert_eq!(debug.stats().current_allocations, 0);
    // SAFETY: a mistake: reset has ended it, and forgotten it.
    unsafe { free(&debug, memory) };
    assert_eq!(collect.mistakes()[1], Mistake::Foreign);
    assert_eq!(debug.deinit().leaks, 0);
}

#[test]
fn capabilities_answer_for_the_block_that_the_caller_sees() {
    let debug = DebugAllocator::with_handler(ArenaAllocator::new(SystemAllocator), DebugConfig::new(), |_: &Report| {
        panic!("a correct program");
    });
    let memory = block(&debug, 24);
    assert!(debug.owns(memory.cast()));
    let smp = terrace_heap::SmpAllocator::new(SystemAllocator, terrace_sync::NoSlots);
    let over = DebugAllocator::new(&smp);
    let good = over.good_size(len(20), WORD);
    assert_eq!(good.get() + 32, smp.good_size(len(20 + 32), WORD).get(), "32 bytes of canaries are not the caller's");
    // SAFETY: live, not used again.
    unsafe { free(&debug, memory) };
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn a_correct_program_is_never_reported_and_everything_goes_back(
        program in ops(5000),
        roomy in any::<bool>(),
        refuse in 0usize..20,
        quarantine in prop_oneof![Just(0), Just(200), Just(1 << 20)],
        (never_unmap, retain_metadata, enable_safety) in (any::<bool>(), any::<bool>(), any::<bool>()),
        (canaries, check_at) in (0usize..40, 0usize..80),
    ) {
        let (ground, collect) = (if roomy { Ground::roomy() } else { Ground::default() }, Collect::default());
        ground.refuse_in.set(refuse);
        let config = DebugConfig { quarantine, never_unmap, retain_metadata, enable_safety, canaries, ..DebugConfig::new() };
        let mut debug = DebugAllocator::with_handler(&ground, config, &collect);
        let mut shadow = Shadow::default();
        for (at, op) in program.iter().enumerate() {
            shadow.step(&debug, op);
            if at == check_at {
                let check = debug.check_for_leaks();
                prop_assert_eq!(check.leaks, shadow.live.len());
                prop_assert_eq!(check.leaked_bytes, shadow.live.iter().map(|live| live.memory.len()).sum::<usize>());
                collect.0.borrow_mut().clear();
            }
        }
        let bytes = shadow.live.iter().map(|live| live.memory.len() as u64).sum::<u64>();
        prop_assert_eq!((debug.stats().current_bytes, debug.stats().current_allocations), (bytes, shadow.live.len() as u64));
        shadow.free_all(&debug);
        prop_assert!(debug.deinit().is_clean());
        prop_assert_eq!(ground.blocks(), 0, "deinit gives all back");
        prop_assert_eq!(collect.mistakes(), []);
    }
}

/// The handler is told of everything after the lock is free.
#[test]
fn a_handler_may_allocate_and_free_in_the_allocator_that_calls_it() {
    thread_local! {
        static FREED: RefCell<usize> = const { RefCell::new(0) };
    }
    static DEBUG: DebugAllocator<SystemAllocator, fn(&Report)> =
        DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), |_| {
            let memory = block(&DEBUG, 100);
            // SAFETY: live, not used again.
            unsafe { free(&DEBUG, memory) };
            FREED.with(|freed| *freed.borrow_mut() += 1);
        });
    let memory = block(&DEBUG, 24);
    // SAFETY: the first is right, the second a mistake.
    unsafe { free(&DEBUG, memory) };
    // SAFETY: a mistake.
    unsafe { free(&DEBUG, memory) };
    assert_eq!(FREED.with(|freed| *freed.borrow()), 1);
    assert_eq!(DEBUG.stats().current_allocations, 0);
}

/// What each field of `DebugConfig` changes.
mod fields {
    use super::*;

    #[test]
    fn enable_leak_detection_off_tells_of_no_leak() {
        for on in [true, false] {
            let collect = Collect::default();
            let mut debug = debug(&collect, DebugConfig { enable_leak_detection: on, ..DebugConfig::new() });
            let memory = block(&debug, 24);
            assert_eq!((debug.deinit().leaks == 1, collect.mistakes().len() == 1), (on, on));
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
        }
    }

    #[test]
    fn enable_tracking_off_counts_nothing() {
        for on in [true, false] {
            let collect = Collect::default();
            let debug = debug(&collect, DebugConfig { enable_tracking: on, ..DebugConfig::new() });
            let memory = block(&debug, 24);
            let counted = AllocStats {
                total_allocations: 1,
                current_allocations: 1,
                peak_allocations: 1,
                bytes_allocated: 24,
                current_bytes: 24,
                peak_bytes: 24,
                ..AllocStats::default()
            };
            assert_eq!(debug.stats(), if on { counted } else { AllocStats::default() });
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
        }
    }

    #[test]
    fn enable_safety_off_writes_no_canary_and_holds_nothing_back() {
        for on in [true, false] {
            let (collect, ground) = (Collect::default(), Ground::default());
            let config = DebugConfig { enable_safety: on, ..DebugConfig::new() };
            let debug = DebugAllocator::with_handler(&ground, config, &collect);
            let memory = block(&debug, 24);
            let fresh = ground.held();
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
            assert_eq!(ground.held() < fresh, !on, "held back, or not");
            // SAFETY: a mistake.
            unsafe { free(&debug, memory) };
            assert_eq!(collect.mistakes(), [if on { Mistake::DoubleFree } else { Mistake::Foreign }]);
        }
    }

    /// Later than the quarantine would have let it go.
    #[test]
    fn never_unmap_finds_a_late_write_after_a_free() {
        for on in [true, false] {
            let (collect, ground) = (Collect::default(), Ground::default());
            let config = DebugConfig { never_unmap: on, quarantine: 0, ..DebugConfig::new() };
            let mut debug = DebugAllocator::with_handler(&ground, config, &collect);
            let memory = block(&debug, 24);
            // SAFETY: live.
            unsafe { free(&debug, memory) };
            let held = ground.blocks();
            for _ in 0..100 {
                let more = block(&debug, 24);
                // SAFETY: live, not used again.
                unsafe { free(&debug, more) };
            }
            assert_eq!(ground.blocks() >= held + 100, on);
            if on {
                // SAFETY: a mistake; the memory is still held.
                unsafe { poke(memory, 0) };
            }
            let mistakes = debug.deinit().mistakes;
            assert_eq!(mistakes == 1, on);
            assert_eq!(ground.blocks(), 0, "at the end it goes back");
        }
    }

    #[test]
    fn retain_metadata_knows_a_double_free_after_the_memory_has_gone() {
        for on in [true, false] {
            let collect = Collect::default();
            let debug = debug(&collect, DebugConfig { retain_metadata: on, quarantine: 0, ..DebugConfig::new() });
            let memory = block(&debug, 24);
            // SAFETY: live.
            unsafe { free(&debug, memory) };
            // SAFETY: a mistake.
            unsafe { free(&debug, memory) };
            assert_eq!(collect.mistakes(), [if on { Mistake::DoubleFree } else { Mistake::Foreign }]);
            assert_eq!(collect.0.borrow()[0].block.is_some(), on, "both places, or none");
        }
    }

    // `thread_safe` needs the lock to be held by another: src/debug/tests.rs.

    #[test]
    fn memory_limit_refuses_what_would_exceed_it_and_says_so() {
        struct Told(RefCell<Vec<String>>);
        impl Handler for &Told {
            fn report(&self, report: &Report) {
                panic!("{report}");
            }
            fn refused(&self, why: &terrace_heap::debug::LimitReached) {
                self.0.borrow_mut().push(why.to_string());
            }
        }
        for safe in [true, false] {
            let (told, ground) = (Told(RefCell::default()), Ground::roomy());
            let config = if safe { DebugConfig::new() } else { DebugConfig::tracking() };
            let config = DebugConfig { memory_limit: Some(100), ..config };
            let debug = DebugAllocator::with_handler(&ground, config, &told);
            let memory = block(&debug, 60);
            let asked = ground.allocs.get();
            assert!(debug.alloc(len(41), WORD).is_err());
            assert_eq!(ground.allocs.get(), asked, "the backing is not asked");
            // SAFETY: live.
            assert!(!unsafe { debug.resize(memory, WORD, len(101)) });
            // SAFETY: live.
            assert!(unsafe { debug.remap(memory, WORD, len(101)) }.is_none());
            let texts = told.0.borrow();
            assert_eq!(texts.len(), 3);
            assert!(texts[0].starts_with("refused: 41 bytes more at crates/heap/tests/debug.rs:"), "{texts:?}");
            assert!(texts[0].ends_with(", with 60 live of a memory limit of 100"), "{texts:?}");
            // SAFETY: live.
            assert!(unsafe { debug.resize(memory, WORD, len(100)) }, "up to the limit");
            // SAFETY: live, not used again.
            unsafe { free(&debug, slice(memory.cast(), 100)) };
            let all = block(&debug, 100);
            // SAFETY: live, not used again.
            unsafe { free(&debug, all) };
        }
    }

    #[test]
    fn stack_trace_frames_are_as_many_as_asked_for() {
        struct Walker(RefCell<Option<Report>>);
        impl Handler for &Walker {
            fn report(&self, report: &Report) {
                *self.0.borrow_mut() = Some(*report);
            }
            fn capture(&self, frames: &mut [usize]) -> usize {
                (1..).zip(frames.iter_mut()).for_each(|(number, frame)| *frame = number * 0x100);
                frames.len()
            }
            fn describe(&self) -> Option<terrace_heap::debug::Describe> {
                Some(|frame, f| write!(f, "function {}", frame / 0x100))
            }
        }
        for frames in [0, 3, 40] {
            let walker = Walker(RefCell::default());
            let config = DebugConfig { stack_trace_frames: frames, ..DebugConfig::new() };
            let mut debug = DebugAllocator::with_handler(SystemAllocator, config, &walker);
            let blocks: Vec<_> = (0..10).map(|_| block(&debug, 24)).collect(); // The table grows meanwhile.
            for &memory in &blocks[1..] {
                // SAFETY: live.
                unsafe { free(&debug, memory) };
            }
            let _ = debug.deinit();
            let report = walker.0.borrow().unwrap();
            let kept: Vec<usize> = (1..=frames.min(terrace_heap::debug::MAX_FRAMES)).map(|n| n * 0x100).collect();
            assert_eq!(report.block.unwrap().allocated.trace.frames(), kept);
            assert_eq!(report.to_string().contains("\n                function 3\n"), frames >= 3, "{report}");
            // SAFETY: live, not used again.
            unsafe { free(&debug, blocks[0]) };
        }
    }

    #[test]
    fn verbose_log_tells_of_every_call() {
        struct Log(RefCell<Vec<String>>);
        impl Handler for &Log {
            fn report(&self, report: &Report) {
                panic!("{report}");
            }
            fn call(&self, call: &terrace_heap::Call) {
                let name = format!("{:?}", call.op);
                let name = name.split_once(' ').map_or(name.as_str(), |(name, _)| name);
                self.0.borrow_mut().push(format!("{name} {}", call.site.file().ends_with("debug.rs")));
            }
        }
        for on in [true, false] {
            let log = Log(RefCell::default());
            let config = DebugConfig { verbose_log: on, ..DebugConfig::new() };
            let debug = DebugAllocator::with_handler(SystemAllocator, config, &log);
            let memory = block(&debug, 24);
            // SAFETY: live.
            unsafe { debug.resize(memory, WORD, len(30)) };
            // SAFETY: live.
            unsafe { debug.remap(memory, WORD, len(30)) };
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
            let told = ["Alloc true", "Resize true", "Remap true", "Free true"];
            assert_eq!(*log.0.borrow(), if on { told.to_vec() } else { Vec::new() });
        }
    }

    #[test]
    fn quarantine_lets_the_oldest_go_above_its_bytes() {
        for (bytes, held) in [(0, 0), (56 * 3, 3), (56 * 3 + 55, 3), (1 << 20, 8)] {
            let (collect, ground) = (Collect::default(), Ground::default());
            let debug = DebugAllocator::with_handler(
                &ground,
                DebugConfig { quarantine: bytes, ..DebugConfig::new() },
                &collect,
            );
            let blocks: Vec<_> = (0..8).map(|_| block(&debug, 24)).collect(); // 56 bytes each, with canaries.
            let before = ground.blocks();
            for &memory in &blocks {
                // SAFETY: live.
                unsafe { free(&debug, memory) };
            }
            assert_eq!(before - ground.blocks(), 8 - held, "{bytes}");
            for &memory in &blocks {
                // SAFETY: mistakes.
                unsafe { free(&debug, memory) };
            }
            let double = collect.mistakes().iter().filter(|&&mistake| mistake == Mistake::DoubleFree).count();
            assert_eq!(double, held, "the youngest are known");
        }
    }

    // `guard_pages` needs pages: tests/debug_pages.rs of the workspace.

    #[test]
    fn canaries_are_as_wide_as_asked_for() {
        for canaries in [0, 1, 16, 100] {
            let (collect, ground) = (Collect::default(), Ground::default());
            let debug = DebugAllocator::with_handler(&ground, DebugConfig { canaries, ..DebugConfig::new() }, &collect);
            let memory = block(&debug, 24);
            let front = WORD.forward(canaries).unwrap();
            let user = ground.held();
            assert!(user >= front + 24 + canaries);
            if canaries > 0 {
                // SAFETY: the last byte of the canary behind.
                unsafe { poke(memory, 23 + canaries as isize) };
                // SAFETY: the first byte of the canary before.
                unsafe { poke(memory, -(canaries as isize)) };
            }
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
            let under = Mistake::Underrun { before: canaries, span: 1 };
            let over = Mistake::Overrun { offset: canaries.wrapping_sub(1), span: 1 };
            assert_eq!(collect.mistakes(), if canaries > 0 { vec![under, over] } else { vec![] });
        }
    }

    #[test]
    fn fill_shows_fresh_and_freed_bytes() {
        for on in [true, false] {
            let (collect, ground) = (Collect::default(), Ground::roomy());
            let debug = DebugAllocator::with_handler(&ground, DebugConfig { fill: on, ..DebugConfig::new() }, &collect);
            let memory = block(&debug, 24);
            // SAFETY: live; `Ground` has written all of it.
            assert_eq!(unsafe { memory.as_ref() }[..] == [0xAA; 24], on);
            // SAFETY: live, and as long.
            unsafe { memory.cast::<u8>().write_bytes(1, 24) };
            // SAFETY: live.
            assert!(unsafe { debug.resize(memory, WORD, len(40)) });
            let memory = slice(memory.cast(), 40);
            // SAFETY: live, all written.
            let bytes = unsafe { memory.as_ref() };
            assert_eq!((bytes[23], bytes[24..] == [0xAA; 16]), (1, on), "what has grown is fresh");
            // SAFETY: live, not used again.
            unsafe { free(&debug, memory) };
            // SAFETY: a mistake, but in quarantine, so that the memory is there to be read.
            assert_eq!(unsafe { memory.as_ref() }[..] == [0xDD; 40], on);
        }
    }
}

/// An over-aligned block keeps its alignment, and its canaries.
#[test]
fn strict_alignments_are_kept() {
    let collect = Collect::default();
    let debug = debug(&collect, DebugConfig::new());
    for log2 in 0..14 {
        let alignment = align(1 << log2);
        let memory = slice(debug.alloc(len(100), alignment).unwrap(), 100);
        assert!(alignment.is_aligned(memory.addr().get()));
        // SAFETY: live, not used again.
        unsafe { debug.free(memory, alignment) };
    }
    assert_eq!(collect.mistakes(), []);
}

#[test]
fn what_no_memory_holds_is_refused() {
    let debug = DebugAllocator::new(SystemAllocator);
    for bytes in [isize::MAX as usize, isize::MAX as usize - 20, usize::MAX] {
        for log2 in [0, 4, usize::BITS - 1] {
            let alignment = Alignment::from_log2(log2).unwrap();
            assert!(debug.alloc(NonZeroUsize::new(bytes).unwrap(), alignment).is_err());
        }
    }
}
