//! What each field of `DebugConfig` changes.

mod support;

use std::cell::RefCell;

use support::{
    Ground,
    collect::{Collect, WORD, block, debug, free, poke},
    len, slice,
};
use terrace_core::{AllocStats, Allocator, Stats, SystemAllocator};
use terrace_heap::{
    DebugAllocator, DebugConfig,
    debug::{Handler, Mistake, Report},
};

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
        assert!(texts[0].starts_with("refused: 41 bytes more at crates/heap/tests/debug_config.rs:"), "{texts:?}");
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
        const WALKS: bool = true;
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
            self.0.borrow_mut().push(format!("{name} {}", call.site.file().ends_with("debug_config.rs")));
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
        let debug =
            DebugAllocator::with_handler(&ground, DebugConfig { quarantine: bytes, ..DebugConfig::new() }, &collect);
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
