//! `PressureAllocator`: when it tells, when it keeps still, and what a collection changes.

use std::{
    cell::{Cell, OnceCell, RefCell},
    process::{Command, Stdio},
    ptr::NonNull,
    rc::{Rc, Weak},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use proptest::prelude::*;
use terrace_core::{Allocator, BulkFree, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, OnPressure, PoolAllocator, Pressure, PressureAllocator};

use crate::support::{Ground, Shadow, align, cases, len, ops, slice};

fn is_high(pressure: &Pressure) -> bool {
    matches!(pressure, Pressure::High { .. })
}

proptest! {
    #![proptest_config(cases(2))]

    /// Against the plain definition, step by step.
    #[test]
    fn it_tells_at_each_crossing_and_never_between(
        program in ops(3000), roomy in any::<bool>(), refuse in 0usize..20, threshold in 0usize..4000,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let told = RefCell::new(Vec::new());
        let heap = PressureAllocator::with_threshold(&ground, threshold, |pressure: &Pressure| {
            told.borrow_mut().push(*pressure);
            false
        });
        let (mut shadow, mut high, mut expected) = (Shadow::default(), false, Vec::new());
        for op in &program {
            shadow.step(&heap, op);
            let live = shadow.live.iter().map(|block| block.memory.len()).sum();
            prop_assert_eq!(heap.live_bytes(), live);
            if !high && live > threshold {
                high = true;
                expected.push(Pressure::High { live, threshold });
            } else if high && live <= threshold / 2 {
                high = false;
                expected.push(Pressure::Low { live, threshold });
            }
            prop_assert_eq!(&*told.borrow(), &expected);
        }
        shadow.free_all(&heap);
    }
}

fn make<H: OnPressure>(heap: &PressureAllocator<SystemAllocator, H>, bytes: usize) -> NonNull<[u8]> {
    slice(heap.alloc(len(bytes), align(1)).unwrap(), bytes)
}

fn end<H: OnPressure>(heap: &PressureAllocator<SystemAllocator, H>, memory: NonNull<[u8]>) {
    // SAFETY: the tests pass live blocks, and do not use them again.
    unsafe { heap.free(memory, align(1)) };
}

#[test]
fn the_threshold_is_a_mebibyte_and_doubles_from_what_is_live_after_a_collection() {
    let garbage: RefCell<Vec<NonNull<[u8]>>> = RefCell::default();
    let heap = PressureAllocator::new(SystemAllocator, |pressure: &Pressure| is_high(pressure));
    assert_eq!(heap.threshold(), 1 << 20);
    let kept: Vec<_> = (0..3).map(|_| make(&heap, 600 << 10)).collect();
    // At the second, 1200 KiB were live; now 1800 are, below the 2400 that are allowed.
    assert_eq!(heap.threshold(), 2400 << 10);
    garbage.borrow_mut().extend(kept);
    garbage.take().into_iter().for_each(|memory| end(&heap, memory));
    heap.collected();
    assert_eq!((heap.threshold(), heap.live_bytes()), (1 << 20, 0), "no less than at first");
}

/// A heap that sweeps in its hook, through the allocator that called it, and makes blocks while it does.
type Swept = PressureAllocator<SystemAllocator, Sweeper>;

#[derive(Default)]
struct Sweeper {
    /// Weak, since this is a part of it.
    heap: Rc<OnceCell<Weak<Swept>>>,
    garbage: Rc<RefCell<Vec<NonNull<[u8]>>>>,
    highs: Rc<Cell<usize>>,
    running: Cell<bool>,
}

impl OnPressure for Sweeper {
    fn pressure(&self, pressure: &Pressure) -> bool {
        assert!(!self.running.replace(true), "called in the middle of itself");
        let heap = &*self.heap.get().and_then(Weak::upgrade).unwrap();
        if is_high(pressure) {
            self.highs.set(self.highs.get() + 1);
            let note = make(heap, 5000);
            self.garbage.take().into_iter().for_each(|memory| end(heap, memory));
            end(heap, note);
        }
        self.running.set(false);
        is_high(pressure)
    }
}

#[test]
fn a_hook_may_sweep_through_the_allocator_that_calls_it() {
    let sweeper = Sweeper::default();
    let (above, garbage, highs) = (Rc::clone(&sweeper.heap), Rc::clone(&sweeper.garbage), Rc::clone(&sweeper.highs));
    let heap = Rc::new(PressureAllocator::with_threshold(SystemAllocator, 1000, sweeper));
    assert!(above.set(Rc::downgrade(&heap)).is_ok());
    for _ in 0..100 {
        let memory = make(&heap, 100);
        garbage.borrow_mut().push(memory);
        assert!(heap.live_bytes() <= 1100, "{}", heap.live_bytes());
    }
    assert_eq!((highs.get(), heap.threshold()), (9, 1000), "at each eleventh block, of which the last stays");
    garbage.take().into_iter().for_each(|memory| end(&heap, memory));
}

#[test]
fn another_threshold_is_told_of_at_the_next_block_above_it() {
    let told = Cell::new(0);
    let heap = PressureAllocator::with_threshold(SystemAllocator, 1000, |pressure: &Pressure| {
        told.set(told.get() + usize::from(is_high(pressure)));
        false
    });
    let one = make(&heap, 500);
    heap.set_threshold(100);
    assert_eq!((told.get(), heap.threshold()), (0, 100));
    let two = make(&heap, 1);
    assert_eq!(told.get(), 1);
    end(&heap, one);
    end(&heap, two);
}

#[test]
fn blocks_that_end_together_end_the_pressure() {
    let lows = Cell::new(0);
    let count = |pressure: &Pressure| {
        lows.set(lows.get() + usize::from(!is_high(pressure)));
        false
    };
    let mut heap = PressureAllocator::with_threshold(ArenaAllocator::new(SystemAllocator), 10, &count);
    heap.alloc(len(100), align(1)).unwrap();
    assert!(heap.reset(ResetMode::FreeAll));
    assert_eq!((heap.live_bytes(), lows.get()), (0, 1));
    let pool = PoolAllocator::new(SystemAllocator, len(64), align(8));
    let heap = PressureAllocator::with_threshold(pool, 10, &count);
    let blocks = [10, 20, 30].map(|bytes| slice(heap.alloc(len(bytes), align(1)).unwrap(), bytes));
    // SAFETY: live, each once, and not used again.
    unsafe { heap.bulk_free(&blocks, align(1)) };
    assert_eq!((heap.live_bytes(), lows.get()), (0, 2));
}

#[test]
fn threads_share_one_sum_and_one_turn_of_the_hook() {
    let (turns, both) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let heap = PressureAllocator::with_threshold(SystemAllocator, 100, |_: &Pressure| {
        both.fetch_max(turns.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::yield_now();
        turns.fetch_sub(1, Ordering::SeqCst);
        false
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|n| end(&heap, make(&heap, 1 + n % 200))));
        }
    });
    assert_eq!((heap.live_bytes(), both.into_inner()), (0, 1));
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_hook_that_panics_aborts() {
    if std::env::var_os("TERRACE_PANICKING_PRESSURE").is_some() {
        let heap = PressureAllocator::with_threshold(SystemAllocator, 0, |_: &Pressure| -> bool { panic!("gave up") });
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| heap.alloc(len(1), align(1))));
        std::process::exit(0); // Not reached: an allocator does not unwind.
    }
    let itself = std::env::current_exe().unwrap();
    let mut child = Command::new(itself);
    child
        .args(["pressure::a_hook_that_panics_aborts", "--exact", "--nocapture"])
        .env("TERRACE_PANICKING_PRESSURE", "1");
    let status = child.stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(!status.success());
}
