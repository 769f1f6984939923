//! The manager's life, each test with a manager of its own: `static` ones, as the program's is.
//!
//! What only the program's own can show, its life before and without `init`, stands in `tests/manager_*.rs`.

use core::{num::NonZeroUsize, ptr};
use std::{
    boxed::Box,
    string::{String, ToString},
    sync::Mutex,
    thread,
    vec::Vec,
};

use terrace_core::{Alignment, AllocStats, Allocator, AllocatorExt, Stats};
use terrace_heap::{
    DebugConfig,
    debug::{Check, Handler, LimitReached, Mistake, PrintAndAbort, Report},
};

use super::{Configured, InitError, Manager};

/// Keeps what it is told, and goes on.
#[derive(Default)]
struct Collect {
    reports: Mutex<Vec<Report>>,
    refused: Mutex<usize>,
}

impl Handler for Collect {
    fn report(&self, report: &Report) {
        self.reports.lock().unwrap().push(*report);
    }

    fn refused(&self, _: &LimitReached) {
        *self.refused.lock().unwrap() += 1;
    }
}

impl Collect {
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }

    fn mistakes(&self) -> Vec<Mistake> {
        self.take().iter().map(|report| report.mistake).collect()
    }
}

/// A manager with `config`, and its handler; both stay, as in a program.
fn manager(config: DebugConfig) -> (&'static Manager, &'static Collect) {
    let (manager, collect) = (Box::leak(Box::new(Manager::new())), Box::leak(Box::<Collect>::default()));
    assert_eq!(manager.init(config, collect), Ok(()));
    (manager, collect)
}

const PAGED: DebugConfig = DebugConfig { guard_pages: true, ..DebugConfig::new() };

#[test]
fn it_keeps_the_contract_with_every_kind_of_layers() {
    for config in [DebugConfig::new(), DebugConfig::tracking(), PAGED] {
        terrace_testkit::conformance::all(|_start, check| {
            let (manager, collect) = manager(config);
            check(manager);
            assert_eq!(collect.mistakes(), []);
        });
        terrace_testkit::conformance::clause_6_threads(|_start, check| {
            let (manager, collect) = manager(config);
            check(manager);
            assert_eq!(collect.mistakes(), []);
        });
    }
}

#[test]
fn init_comes_once_and_before_the_first_block() {
    static FIRST: Manager = Manager::new();
    assert_eq!(FIRST.configured().0, Configured::NotYet);
    assert_eq!(FIRST.init(DebugConfig::tracking(), &PrintAndAbort), Ok(()));
    assert_eq!(FIRST.init(DebugConfig::new(), &PrintAndAbort), Err(InitError::AlreadyInitialized));
    assert_eq!(FIRST.configured(), (Configured::ByInit, DebugConfig::tracking()));

    static USED: Manager = Manager::new();
    let word = USED.dupe(b"red").unwrap();
    // SAFETY: live, of this allocator, not used again.
    unsafe { USED.free_slice(word) };
    assert_eq!(USED.init(DebugConfig::tracking(), &PrintAndAbort), Err(InitError::InUse));
    assert_eq!(USED.configured(), (Configured::ByDefault, DebugConfig::new()));
    assert!(InitError::InUse.to_string().contains("before the first block"));
}

#[test]
fn a_look_at_a_manager_that_nobody_used_settles_nothing() {
    static IDLE: Manager = Manager::new();
    assert_eq!(IDLE.stats(), AllocStats::default());
    assert_eq!((IDLE.check_for_leaks(), IDLE.deinit()), (Check::default(), Check::default()));
    assert_eq!(IDLE.init(DebugConfig::tracking(), &PrintAndAbort), Ok(()));
}

#[test]
fn of_threads_that_race_to_be_the_first_one_decides() {
    for _ in 0..50 {
        let manager = Box::leak(Box::new(Manager::new()));
        let won: usize = thread::scope(|scope| {
            let shared: &Manager = manager;
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| usize::from(shared.init(DebugConfig::tracking(), &PrintAndAbort).is_ok())))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((won, manager.configured().0), (1, Configured::ByInit));
        let _ = manager.alloc_slice::<u8>(1);
    }
}

#[test]
fn a_leak_is_told_with_its_place_and_nothing_is_destroyed() {
    for config in [DebugConfig::new(), PAGED] {
        let (manager, collect) = manager(config);
        let (word, line) = (manager.dupe(b"red").unwrap(), line!());
        for _ in 0..2 {
            let check = manager.check_for_leaks();
            assert_eq!((check.leaks, check.leaked_bytes, check.mistakes), (1, 3, 0));
            let [report] = collect.take()[..] else { panic!("one report") };
            let site = report.block.unwrap().allocated.site;
            assert_eq!((report.mistake, site.file(), site.line()), (Mistake::Leak, file!(), line));
            assert!(report.to_string().starts_with("leak of 3 bytes"), "{report}");
            // SAFETY: live: the check has ended nothing.
            assert_eq!(unsafe { word.as_ref() }, b"red");
        }
        assert_eq!(manager.stats().current_allocations, 1);
        // SAFETY: live, of this allocator, not used again.
        unsafe { manager.free_slice(word) };
        assert!(manager.check_for_leaks().is_clean());
    }
}

#[test]
fn deinit_gives_back_what_is_free_and_leaves_live_blocks_as_they_are() {
    for config in [DebugConfig::new(), DebugConfig::tracking(), PAGED] {
        let (manager, collect) = manager(DebugConfig { never_unmap: true, ..config });
        let kept = manager.dupe(&[7u8; 5000]).unwrap();
        for len in [10, 3000, 100_000] {
            let block = manager.dupe(&std::vec![1u8; len]).unwrap();
            // SAFETY: live, of this allocator, not used again.
            unsafe { manager.free_slice(block) };
        }
        let check = manager.deinit();
        let told = usize::from(config.enable_leak_detection);
        assert_eq!((check.leaks, collect.mistakes()), (told, std::vec![Mistake::Leak; told]));
        // SAFETY: live: deinit has not ended it.
        assert!(unsafe { kept.as_ref() }.iter().all(|&byte| byte == 7));
        let later = manager.dupe(b"later").unwrap();
        for block in [kept, later] {
            // SAFETY: live, of this allocator, not used again.
            unsafe { manager.free_slice(block) };
        }
        assert!(manager.deinit().is_clean(), "{:?}", collect.take());
    }
}

#[test]
fn the_unchecked_deinit_ends_live_blocks_and_begins_anew() {
    for config in [DebugConfig::new(), DebugConfig::tracking(), PAGED] {
        let (manager, collect) = manager(config);
        let _ = manager.dupe(&[7u8; 100_000]);
        // SAFETY: nobody else has this manager, and its one block is not used again.
        let check = unsafe { manager.deinit_unchecked() };
        let told = usize::from(config.enable_leak_detection);
        assert_eq!((check.leaks, collect.mistakes()), (told, std::vec![Mistake::Leak; told]), "told once");
        assert_eq!((manager.configured().0, manager.stats()), (Configured::NotYet, AllocStats::default()));
        assert_eq!(manager.init(DebugConfig::new(), collect), Ok(()));
    }
}

#[test]
fn the_eight_figures_are_counted_and_printed_by_name() {
    let (manager, _) = manager(DebugConfig::tracking());
    let (one, two) = (manager.alloc_slice::<u8>(100).unwrap(), manager.alloc_slice::<u64>(10).unwrap());
    // SAFETY: live, of this allocator, not used again.
    unsafe { manager.free_slice(one) };
    let wanted = AllocStats {
        total_allocations: 2,
        total_deallocations: 1,
        current_allocations: 1,
        peak_allocations: 2,
        bytes_allocated: 180,
        bytes_deallocated: 100,
        current_bytes: 80,
        peak_bytes: 180,
    };
    assert_eq!(manager.stats(), wanted);
    let shown = shown(manager);
    assert!(shown.starts_with("terrace: memory, configured by init\n"), "{shown}");
    for line in [["total_allocations", "2", "bytes_allocated", "180"], ["peak_allocations", "2", "peak_bytes", "180"]] {
        assert!(shown.lines().any(|shown| shown.split_whitespace().eq(line)), "{line:?}: {shown}");
    }
    // SAFETY: live, of this allocator, not used again.
    unsafe { manager.free_slice(two) };
}

fn shown(manager: &Manager) -> String {
    let mut text = Vec::new();
    manager.write_stats(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn figures_that_nobody_counts_say_so() {
    let (manager, _) = manager(DebugConfig { enable_tracking: false, ..DebugConfig::new() });
    let _ = manager.alloc_slice::<u8>(100);
    assert_eq!(manager.stats(), AllocStats::default());
    assert!(shown(manager).contains("not counted: enable_tracking is off"));
    static IDLE: Manager = Manager::new();
    assert!(shown(&IDLE).contains("not used so far"));
}

#[test]
fn every_field_of_the_configuration_reaches_the_layers() {
    let (limited, told) = manager(DebugConfig { memory_limit: Some(100), ..DebugConfig::tracking() });
    assert!(limited.alloc_slice::<u8>(101).is_err() && limited.alloc_slice::<u8>(100).is_ok());
    assert_eq!(*told.refused.lock().unwrap(), 1);

    for (retain_metadata, wanted) in [(true, Mistake::DoubleFree), (false, Mistake::Foreign)] {
        let (manager, collect) = manager(DebugConfig { retain_metadata, quarantine: 0, ..DebugConfig::new() });
        let block = manager.malloc(24);
        // SAFETY: live; the second is the mistake, which the layer finds before it touches anything.
        unsafe { manager.c_free(block, 24) };
        // SAFETY: as above.
        unsafe { manager.c_free(block, 24) };
        assert_eq!(collect.mistakes(), [wanted]);
    }
}

#[test]
fn guard_pages_give_each_block_pages_of_its_own() {
    let (manager, _) = manager(PAGED);
    let page = terrace_core::PageSize::page_size(&terrace_sys::PageAllocator).bytes();
    let blocks = [(); 3].map(|()| manager.alloc_slice::<u8>(page).unwrap());
    for block in blocks {
        assert_eq!(block.addr().get() % page, 0, "its end touches the guard");
        // SAFETY: live, of this allocator, not used again.
        unsafe { manager.free_slice(block) };
    }
}

#[test]
fn many_threads_share_it_and_free_one_anothers_blocks() {
    let (manager, collect) = manager(DebugConfig::new());
    let (tell, told) = std::sync::mpsc::channel::<usize>();
    thread::scope(|scope| {
        for seed in 0..4usize {
            let tell = tell.clone();
            scope.spawn(move || {
                for n in 0..500usize {
                    let block = manager.malloc(16 + (n * 31 + seed) % 64);
                    assert!(!block.is_null());
                    // SAFETY: 16 bytes at least.
                    unsafe { block.cast::<usize>().write(16 + (n * 31 + seed) % 64) };
                    tell.send(block.expose_provenance()).unwrap();
                }
            });
        }
        drop(tell);
        for address in told {
            let block = ptr::with_exposed_provenance_mut::<u8>(address);
            // SAFETY: live, with its size in its first word.
            let size = unsafe { block.cast::<usize>().read() };
            // SAFETY: live, made with this size, not used again.
            unsafe { manager.c_free(block, size) };
        }
    });
    let stats = manager.stats();
    assert_eq!((stats.total_allocations, stats.current_allocations, stats.current_bytes), (2000, 0, 0));
    assert!(manager.deinit().is_clean(), "{:?}", collect.take());
}

#[cfg(feature = "allocator-api2-02")]
#[test]
fn collections_live_in_it() {
    static SHARED: Manager = Manager::new();
    let mut words = allocator_api2_02::vec::Vec::new_in(&SHARED);
    words.extend((0..1000u32).map(|n| n * n));
    assert_eq!((words[30], SHARED.stats().current_allocations), (900, 1));
    drop(words);
    assert!(SHARED.check_for_leaks().is_clean());
}

#[test]
fn a_hook_may_use_the_manager_that_calls_it() {
    struct Writes;
    static OWN: Manager = Manager::new();
    impl Handler for Writes {
        fn report(&self, _: &Report) {
            let word = OWN.dupe(b"written down").unwrap();
            // SAFETY: live, of this allocator, not used again.
            unsafe { OWN.free_slice(word) };
        }
    }
    assert_eq!(OWN.init(DebugConfig::new(), &Writes), Ok(()));
    let block = OWN.alloc(NonZeroUsize::MIN, Alignment::ONE).unwrap();
    assert_eq!(OWN.check_for_leaks().leaks, 1);
    // SAFETY: live, of this allocator, not used again.
    unsafe { OWN.free(ptr::NonNull::slice_from_raw_parts(block, 1), Alignment::ONE) };
    assert!(OWN.check_for_leaks().is_clean());
}

#[cfg(feature = "backtrace")]
#[test]
fn a_handler_that_walks_the_stack_is_asked_to() {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static FRAMES: AtomicUsize = AtomicUsize::new(0);
    static HANDLER: crate::Backtraced<fn(&Report)> =
        crate::Backtraced::new(|report| FRAMES.store(report.block.unwrap().allocated.trace.frames().len(), Relaxed));
    static WALKED: Manager = Manager::new();
    let config = DebugConfig { stack_trace_frames: 5, ..DebugConfig::new() };
    assert_eq!(WALKED.init(config, &HANDLER), Ok(()));
    let _ = WALKED.dupe(b"red");
    assert_eq!(WALKED.check_for_leaks().leaks, 1);
    assert!((1..=5).contains(&FRAMES.load(Relaxed)), "{FRAMES:?}");
}

mod c {
    use super::*;

    #[test]
    fn blocks_are_made_zeroed_grown_shrunk_and_ended() {
        let (manager, collect) = manager(DebugConfig::new());
        let mut block = manager.calloc(10, 10);
        // SAFETY: live, of 100 bytes, all initialised.
        assert_eq!(unsafe { block.cast::<[u8; 100]>().read() }, [0; 100]);
        // SAFETY: live, of 100 bytes.
        unsafe { block.write_bytes(9, 100) };
        for (old, new) in [(100, 100_000), (100_000, 50), (50, 60)] {
            // SAFETY: live, last asked for with `old`.
            block = unsafe { manager.c_realloc(block, old, new) };
            assert!(!block.is_null() && block.addr().is_multiple_of(16));
            // SAFETY: live, and the first 50 bytes were kept by every step.
            assert_eq!(unsafe { block.cast::<[u8; 50]>().read() }, [9; 50]);
        }
        // SAFETY: live, last asked for with 60, not used again.
        unsafe { manager.c_free(block, 60) };
        assert_eq!((manager.check_for_leaks(), collect.mistakes()), (Check::default(), Vec::new()));
    }

    #[test]
    fn null_and_no_bytes_have_their_meaning() {
        let (manager, collect) = manager(DebugConfig::new());
        // SAFETY: null is freed by doing nothing.
        unsafe { manager.c_free(ptr::null_mut(), 0) };
        // SAFETY: and reallocated by malloc.
        let block = unsafe { manager.c_realloc(ptr::null_mut(), 0, 24) };
        // SAFETY: live, of 24 bytes; a block of none is still a block.
        let empty = unsafe { manager.c_realloc(block, 24, 0) };
        let (other, none) = (manager.malloc(0), manager.calloc(0, 8));
        assert!([empty, other, none].iter().all(|block| !block.is_null()));
        assert!(empty != other && other != none, "each its own");
        assert_eq!(manager.check_for_leaks().leaks, 3);
        for block in [empty, other, none] {
            // SAFETY: live, of no bytes, not used again.
            unsafe { manager.c_free(block, 0) };
        }
        assert!(collect.mistakes().iter().all(|mistake| *mistake == Mistake::Leak));
        assert!(manager.check_for_leaks().is_clean());
    }

    #[test]
    fn what_no_memory_can_hold_is_null_and_changes_nothing() {
        for config in [DebugConfig::new(), DebugConfig::tracking()] {
            let (manager, collect) = manager(config);
            assert!(manager.malloc(usize::MAX).is_null() && manager.malloc(isize::MAX as usize).is_null());
            assert!(manager.calloc(usize::MAX / 2, 3).is_null() && manager.calloc(1 << 40, 1 << 40).is_null());
            let block = manager.malloc(8);
            // SAFETY: live, of 8 bytes.
            unsafe { block.write_bytes(3, 8) };
            // SAFETY: live, of 8 bytes; refused, so it lives on.
            assert!(unsafe { manager.c_realloc(block, 8, usize::MAX - 4) }.is_null());
            // SAFETY: live, of 8 bytes.
            assert_eq!(unsafe { block.cast::<[u8; 8]>().read() }, [3; 8]);
            // SAFETY: live, of 8 bytes, not used again.
            unsafe { manager.c_free(block, 8) };
            assert_eq!((collect.mistakes(), manager.stats().current_allocations), (Vec::new(), 0));
        }
    }

    #[test]
    fn a_wrong_size_is_told_with_the_place_of_the_call() {
        let (manager, collect) = manager(DebugConfig::new());
        let block = manager.malloc(24);
        // SAFETY: live; the wrong length is the mistake, which is found before anything is copied.
        let grown = unsafe { manager.c_realloc(block, 240, 480) };
        assert!(grown.is_null(), "nothing has changed");
        let line = line!() + 2;
        // SAFETY: as above; the block ends all the same.
        unsafe { manager.c_free(block, 0) };
        let reports = collect.take();
        let told: Vec<_> = reports.iter().map(|report| report.mistake).collect();
        assert_eq!(told, [Mistake::WrongLength { given: 240 }, Mistake::WrongLength { given: 1 }]);
        assert_eq!((reports[1].by.site.file(), reports[1].by.site.line()), (file!(), line));
        assert!(reports[1].to_string().contains("free with a wrong length, 1 byte, of 24 bytes"), "{}", reports[1]);
        assert_eq!(manager.check_for_leaks().leaks, 0);
    }

    #[test]
    fn a_second_free_a_dead_block_and_a_foreign_one_are_told() {
        let (manager, collect) = manager(DebugConfig::new());
        let block = manager.malloc(24);
        let mut local = [0u8; 24];
        // SAFETY: live, of 24 bytes.
        unsafe { manager.c_free(block, 24) };
        // SAFETY: the mistake, found by its address before anything is touched.
        unsafe { manager.c_free(block, 24) };
        // SAFETY: as above.
        assert!(unsafe { manager.c_realloc(block, 24, 48) }.is_null());
        // SAFETY: as above.
        unsafe { manager.c_free(local.as_mut_ptr(), 24) };
        // SAFETY: as above.
        assert!(unsafe { manager.c_realloc(local.as_mut_ptr(), 24, 48) }.is_null());
        let wanted = [Mistake::DoubleFree, Mistake::UseAfterFree, Mistake::Foreign, Mistake::Foreign];
        assert_eq!(collect.mistakes(), wanted);
    }
}
