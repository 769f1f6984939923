//! The transparent layers: what they count and tell, and that they change nothing.

mod support;

use std::{cell::RefCell, thread};

use allocator_api2_02::vec::Vec as Vec2;
use proptest::prelude::*;
use support::{Ground, Shadow, align, cases, len, ops, slice};
use terrace_core::{AllocStats, Allocator, AllocatorExt, Reset, ResetMode, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, Call, CallOp, LogAllocator, StatsAllocator};

proptest! {
    #![proptest_config(cases(2))]

    /// The eight figures, against those of the shadow.
    #[test]
    fn stats_count_exactly(program in ops(5000), roomy in any::<bool>(), refuse in 0usize..20) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let counted = StatsAllocator::new(&ground);
        ground.refuse_in.set(refuse);
        let mut shadow = Shadow::default();
        let mut expected = AllocStats::default();
        for op in &program {
            let before: (u64, u64) = (shadow.live.len() as u64, total(&shadow));
            shadow.step(&counted, op);
            let after = (shadow.live.len() as u64, total(&shadow));
            expected.total_allocations += after.0.saturating_sub(before.0);
            expected.total_deallocations += before.0.saturating_sub(after.0);
            expected.bytes_allocated += after.1.saturating_sub(before.1);
            expected.bytes_deallocated += before.1.saturating_sub(after.1);
            expected.current_allocations = after.0;
            expected.current_bytes = after.1;
            expected.peak_allocations = expected.peak_allocations.max(after.0);
            expected.peak_bytes = expected.peak_bytes.max(after.1);
            prop_assert_eq!(counted.stats(), expected);
        }
        shadow.free_all(&counted);
        prop_assert_eq!((counted.stats().current_allocations, counted.stats().current_bytes), (0, 0));
    }

    /// Replaying what the sink heard gives the blocks that the caller holds.
    #[test]
    fn the_log_tells_every_call(program in ops(5000), roomy in any::<bool>(), refuse in 0usize..20) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let heard = RefCell::new(Vec::new());
        let logged = LogAllocator::new(&ground, |call: &Call| heard.borrow_mut().push(*call));
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&logged, op);
        }
        let mut live = Vec::new();
        for call in heard.borrow().iter() {
            match call.op {
                CallOp::Alloc { len, result, .. } => live.extend(result.map(|block| (block.addr().get(), len.get()))),
                CallOp::Resize { memory, new_len, granted: true, .. } => rename(&mut live, memory, Some((memory.addr().get(), new_len.get()))),
                CallOp::Remap { memory, new_len, result: Some(block), .. } => rename(&mut live, memory, Some((block.addr().get(), new_len.get()))),
                CallOp::Free { memory, .. } => rename(&mut live, memory, None),
                _ => {}
            }
        }
        live.sort_unstable();
        let mut held: Vec<_> = shadow.live.iter().map(|block| (block.memory.addr().get(), block.memory.len())).collect();
        held.sort_unstable();
        prop_assert_eq!(live, held);
        shadow.free_all(&logged);
    }
}

fn total(shadow: &Shadow) -> u64 {
    shadow.live.iter().map(|block| block.memory.len() as u64).sum()
}

fn rename(live: &mut Vec<(usize, usize)>, memory: std::ptr::NonNull<[u8]>, new: Option<(usize, usize)>) {
    let at = live.iter().position(|&block| block == (memory.addr().get(), memory.len())).expect("a live block");
    live.swap_remove(at);
    live.extend(new);
}

#[test]
fn stats_are_exact_over_threads() {
    let counted = StatsAllocator::new(SystemAllocator);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 1..2000 {
                    let block = counted.alloc(len(n), align(8)).unwrap();
                    // SAFETY: live, and not used again.
                    unsafe { counted.free(slice(block, n), align(8)) };
                }
            });
        }
    });
    let stats = counted.stats();
    assert_eq!((stats.total_allocations, stats.total_deallocations), (4 * 1999, 4 * 1999));
    assert_eq!((stats.current_bytes, stats.bytes_allocated), (0, 4 * 1999 * 1000));
    assert!((1..=4).contains(&stats.peak_allocations));
}

#[test]
fn the_log_names_the_caller_through_generics_and_dyn() {
    let heard = RefCell::new(Vec::new());
    let logged = LogAllocator::new(SystemAllocator, |call: &Call| heard.borrow_mut().push(call.site.line()));
    let handle: &dyn Allocator = &logged;
    let lines = [line!() + 1, line!() + 2];
    let one = handle.create::<u64>().unwrap();
    let two = logged.create::<u64>().unwrap();
    // SAFETY: live, of this allocator, not used again.
    unsafe { logged.destroy(one) };
    // SAFETY: live, of this allocator, not used again.
    unsafe { logged.destroy(two) };
    assert_eq!(heard.borrow()[..2], lines);
}

#[test]
fn layers_pass_on_a_reset_and_hear_of_it() {
    let resets = RefCell::new(Vec::new());
    let arena = ArenaAllocator::new(SystemAllocator);
    let mut stack = StatsAllocator::new(LogAllocator::new(arena, |call: &Call| {
        if let CallOp::Reset { mode } = call.op {
            resets.borrow_mut().push(mode);
        }
    }));
    stack.alloc(len(100), align(8)).unwrap();
    assert_eq!(stack.stats().current_allocations, 1);
    assert!(stack.reset(ResetMode::FreeAll));
    assert_eq!(stack.stats().current_allocations, 0);
    assert_eq!(*resets.borrow(), [ResetMode::FreeAll]);
}

/// A sink is a hook: it may allocate from the very allocator that it watches.
#[test]
fn a_sink_may_allocate_through_its_own_log() {
    use std::sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };
    static BUSY: AtomicBool = AtomicBool::new(false);
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    type Logged = LogAllocator<SystemAllocator, fn(&Call)>;
    static LOGGED: OnceLock<Logged> = OnceLock::new();
    fn sink(_: &Call) {
        HEARD.fetch_add(1, Ordering::Relaxed);
        if !BUSY.swap(true, Ordering::Relaxed) {
            let mut line = Vec2::new_in(LOGGED.get().unwrap());
            line.extend_from_slice(b"heard");
            drop(line);
            BUSY.store(false, Ordering::Relaxed);
        }
    }
    let logged = LOGGED.get_or_init(|| LogAllocator::new(SystemAllocator, sink));
    let block = logged.alloc(len(1), align(1)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { logged.free(slice(block, 1), align(1)) };
    assert!(HEARD.load(Ordering::Relaxed) >= 6, "two calls, and those of two lines");
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_sink_that_panics_aborts() {
    if std::env::var_os("TERRACE_PANICKING_SINK").is_some() {
        let logged = LogAllocator::new(SystemAllocator, |_: &Call| panic!("the sink gave up"));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| logged.alloc(len(1), align(1))));
        std::process::exit(0); // Not reached: an allocator does not unwind.
    }
    let itself = std::env::current_exe().unwrap();
    let status = std::process::Command::new(itself)
        .args(["a_sink_that_panics_aborts", "--exact", "--nocapture"])
        .env("TERRACE_PANICKING_SINK", "1")
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
}
