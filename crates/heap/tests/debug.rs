//! `DebugAllocator`: each mistake with the report that it gets, and correct programs, which get none.

mod support;

use std::{
    cell::RefCell,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use proptest::prelude::*;
use support::{
    Ground, Shadow, align, cases,
    collect::{Collect, WORD, block, debug, free, poke},
    len, ops, slice,
};
use terrace_core::{Alignment, Allocator, AllocatorExt, GoodSize, Owns, Reset, ResetMode, Stats, SystemAllocator};
use terrace_heap::{
    ArenaAllocator, DebugAllocator, DebugConfig, FixedBufferAllocator,
    debug::{Describe, Handler, Mistake, Report},
};

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

/// Whatever it is asked: how addresses are named, too.
#[test]
fn a_handler_that_is_asked_for_names_may_allocate_and_free_in_the_allocator_that_asks() {
    struct Naming;

    impl Handler for Naming {
        fn report(&self, _: &Report) {
            let known = DEBUG.alloc(len(1), align(1)).ok().and_then(|made| DEBUG.explain(made.as_ptr()));
            assert!(known.is_some());
        }

        fn describe(&self) -> Option<Describe> {
            let memory = block(&DEBUG, 100);
            // SAFETY: live, not used again.
            unsafe { free(&DEBUG, memory) };
            None
        }

        fn pause(&self, _: u32) {
            eprintln!("this thread waits for itself");
            std::process::abort();
        }
    }

    static DEBUG: DebugAllocator<SystemAllocator, Naming> =
        DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), Naming);
    let memory = block(&DEBUG, 24);
    // SAFETY: a canary.
    unsafe { poke(memory, 24) };
    // SAFETY: live; it may move, and is not used again.
    let _ = unsafe { DEBUG.remap(memory, WORD, len(20)) };
    assert_eq!(DEBUG.check_for_leaks().mistakes, 1);
}

/// A block that a report brings is none of those that the check was asked about: so it has an end.
#[test]
fn a_handler_that_keeps_a_block_for_each_leak_is_told_of_those_that_were_there() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    static DEBUG: DebugAllocator<SystemAllocator, fn(&Report)> =
        DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), |_| {
            assert!(TOLD.fetch_add(1, Ordering::Relaxed) < 100, "without end");
            let _kept = block(&DEBUG, 100);
        });
    let _leaked = [block(&DEBUG, 24), block(&DEBUG, 24)];
    assert_eq!(DEBUG.check_for_leaks().leaks, 2);
    assert_eq!(DEBUG.check_for_leaks().leaks, 4, "each report left one");
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

/// Panics at the question of this name.
struct AtEase(String);

impl AtEase {
    fn asked(&self, question: &str) {
        assert_ne!(self.0, question, "at ease");
    }
}

impl Handler for AtEase {
    const WALKS: bool = true;

    fn report(&self, _: &Report) {}

    fn thread(&self) -> usize {
        self.asked("thread");
        0
    }

    fn capture(&self, _: &mut [usize]) -> usize {
        self.asked("capture");
        0
    }

    fn describe(&self) -> Option<Describe> {
        self.asked("describe");
        None
    }
}

/// What ends the process happens in a child: this test started again, with the case in a variable.
#[test]
fn the_default_handler_prints_and_aborts_but_at_a_leak_and_a_panic_in_a_handler_aborts() {
    const CASE: &str = "TERRACE_DEBUG_CASE";
    let misuse = |debug: &dyn Allocator| {
        let memory = block(debug, 24);
        // SAFETY: live.
        unsafe { free(debug, memory) };
        // SAFETY: a mistake, which ends this process.
        unsafe { free(debug, memory) };
    };
    match std::env::var(CASE).as_deref() {
        Ok("mistake") => return misuse(&DebugAllocator::new(SystemAllocator)),
        Ok("panic") => {
            let debug =
                DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), |_: &Report| panic!("at ease"));
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| misuse(&debug)));
            return println!("unwound: {}", unwound.is_err());
        }
        Ok(question @ ("thread" | "capture" | "describe")) => {
            let debug = DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), AtEase(question.to_owned()));
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| misuse(&debug)));
            return println!("unwound: {}", unwound.is_err());
        }
        Ok(_) => {
            let debug = DebugAllocator::new(SystemAllocator);
            let _ = block(&debug, 24);
            drop(debug);
            return println!("still here");
        }
        Err(_) if cfg!(miri) => return,
        Err(_) => {}
    }
    let name = "the_default_handler_prints_and_aborts_but_at_a_leak_and_a_panic_in_a_handler_aborts";
    for (case, aborts, said) in [
        ("mistake", true, "terrace: double free of 24 bytes at 0x"),
        ("panic", true, "the handler of a DebugAllocator panicked"),
        ("thread", true, "the handler of a DebugAllocator panicked"),
        ("capture", true, "the handler of a DebugAllocator panicked"),
        ("describe", true, "the handler of a DebugAllocator panicked"),
        ("leak", false, "terrace: leak of 24 bytes at 0x"),
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        // A sanitizer would call this leak one too.
        child.args([name, "--exact", "--nocapture"]).env(CASE, case).env("ASAN_OPTIONS", "detect_leaks=0");
        let output = child.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains(said), "{case}: {err}");
        assert_eq!(output.status.success(), !aborts, "{case}: {err}");
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!((out.contains("still here"), out.contains("unwound")), (!aborts, false), "{case}");
    }
}
