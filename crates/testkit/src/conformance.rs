//! The contract of [`Allocator`], clause by clause, for anybody's allocator.
//!
//! ```text
//!   all ── clause_1_plain … clause_11_everything_goes_back ── random_programs      any allocator
//!   clause_6_*    needs Sync, or Send                                              threads
//!   clause_7_*    check(&Wandering::new(yours))
//!   clause_8_*    needs Reset
//!   clause_9_*    check(&Twins::new(yours)), needs Clone
//! ```
//!
//! Each function takes a maker (see [`Check`]) and panics with a script and the clause where the contract is
//! broken. The first four are Zig's conformance tests and ask for what every useful allocator grants: small
//! requests while there is room. A maker of a fixed size needs 128 KiB for them, which
//! [`Start::chunk`] says. All of them sweep the backing: one that grows blocks in place or does not, that moves
//! them, that hands out at once what came back.

use std::thread;

use terrace_core::{Alignment, Allocator, Reset, ResetMode};

use crate::{
    Check, Failure, Op, Programs, Script, Setup, Start, programs,
    programs::run_with_refusals,
    runner::{Driver, judged, run},
};

/// Everything that can be asked of any allocator, and the default number of random programs.
#[track_caller]
pub fn all(make: impl Fn(&Start, &mut Check<'_>)) {
    clause_1_plain(&make);
    clause_1_aligned(&make);
    clause_1_large_alignment(&make);
    clause_1_aligned_shrink(&make);
    clause_1_reuse_after_free(&make);
    clause_2_impossible_sizes_are_refused(&make);
    clause_3_a_refusal_changes_nothing(&make);
    clause_4_contents_are_kept(&make);
    clause_4_zeroed_is_zero(&make);
    clause_10_nothing_unwinds(&make);
    clause_11_everything_goes_back(&make);
    random_programs(&make);
}

/// Random programs, each with every call of the backing refused in turn: see [`Programs`] for how many.
///
/// # Panics
/// With the [`Failure`], or where the maker checked nothing.
#[track_caller]
pub fn random_programs(make: impl Fn(&Start, &mut Check<'_>)) {
    run_programs(&Programs::default(), make);
}

/// For a clause that needs programs of its own, after `all` ran its share.
#[track_caller]
fn some_programs(make: impl Fn(&Start, &mut Check<'_>)) {
    let options = Programs::default();
    run_programs(&Programs { count: options.count.div_ceil(4), ..options }, make);
}

#[track_caller]
fn run_programs(options: &Programs, make: impl Fn(&Start, &mut Check<'_>)) {
    match programs(options, make) {
        Ok(summary) => assert!(summary.steps > 0, "no step was taken: does the maker call `check`?"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Clause 1: a hundred blocks are live at once, apart, and end in another order than they came.
#[track_caller]
pub fn clause_1_plain(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops: Vec<Op> = (0..100).map(|n| alloc(4 + n % 3 * 4, 4)).collect();
    ops.extend((0..50).map(|n| Op::Free { block: n }));
    ops.extend([1000, 300, 100, 1].map(|len| alloc(len, 1)));
    ops.extend((0..30).map(|n| Op::Free { block: n * 7 }));
    granted(1, &make, &ops);
}

/// Clause 1: each block starts at a multiple of its alignment, after blocks of every length.
#[track_caller]
pub fn clause_1_aligned(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = Vec::new();
    for log2 in 0..8 {
        for len in [1, 3, 10, 100] {
            ops.extend([alloc(len, 1 << log2), alloc_zeroed(len + 1, 1 << log2)]);
        }
        ops.extend([Op::Resize { block: log2, len: 2 }, Op::Free { block: log2 }]);
    }
    granted(1, &make, &ops);
}

/// Clause 1: alignments of a page and more, kept by resize and remap.
#[track_caller]
pub fn clause_1_large_alignment(make: impl Fn(&Start, &mut Check<'_>)) {
    for bytes in [1 << 12, 1 << 13, 1 << 14] {
        let mut ops = vec![alloc(500, bytes)];
        ops.extend([100, 5000, 10, 2000].map(|len| Op::Resize { block: 0, len }));
        ops.push(alloc_zeroed(1, bytes));
        ops.extend([100, 5000, 10, 2000].map(|len| Op::Remap { block: 0, len }));
        granted(1, &make, &ops);
    }
}

/// Clauses 1 and 4: a block of strict alignment shrinks among others, and its neighbours stay.
#[track_caller]
pub fn clause_1_aligned_shrink(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = vec![alloc(1000, 1 << 12)];
    for len in [700, 64, 63, 10, 1] {
        ops.extend([Op::Resize { block: 0, len }, alloc(1, 16), Op::Remap { block: 0, len }]);
    }
    granted(1, &make, &ops);
}

/// Clause 1: what is handed out again is whole and nobody else's.
#[track_caller]
pub fn clause_1_reuse_after_free(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = vec![alloc(24, 8), alloc(24, 8), alloc(24, 8)];
    for round in 0..20 {
        ops.extend([Op::Free { block: round }, alloc(24 - round % 2 * 8, 8), Op::Free { block: 2 }, alloc(30, 16)]);
    }
    swept(1, &make, &ops);
}

/// Clause 2: lengths near `usize::MAX` and `isize::MAX`, under every alignment, are refused by every call.
#[track_caller]
pub fn clause_2_impossible_sizes_are_refused(make: impl Fn(&Start, &mut Check<'_>)) {
    let impossible = [usize::MAX, usize::MAX - 7, usize::MAX - 4096, isize::MAX as usize + 1, isize::MAX as usize];
    let mut ops = vec![alloc(10, 8), alloc(10, 8)];
    for len in impossible {
        for log2 in [0, 3, 12, 16, usize::BITS - 2, usize::BITS - 1] {
            ops.extend([alloc(len, 1 << log2), alloc_zeroed(len, 1 << log2)]);
        }
        ops.extend([Op::Resize { block: 0, len }, Op::Remap { block: 0, len }]);
        ops.extend([Op::Resize { block: 1, len }, Op::Remap { block: 1, len }]);
    }
    ops.push(alloc(1, 1 << (usize::BITS - 1)));
    swept(2, &make, &ops);
}

/// Clause 3: after a refusal, commanded or not, blocks, allocator and backing are as they were.
#[track_caller]
pub fn clause_3_a_refusal_changes_nothing(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops: Vec<Op> = (0..6).map(|n| alloc(10 << n, 8)).collect();
    for block in 0..6 {
        ops.extend([Op::Resize { block, len: 90_000 }, Op::Remap { block, len: 90_000 }, alloc(200_000, 64)]);
        let len = usize::MAX >> 2; // No machine has it.
        ops.extend([Op::Resize { block, len }, Op::Remap { block, len }, alloc(7, 1)]);
    }
    refused_in_turn(3, &make, &ops);
}

/// Clause 4: resize and remap keep the head of the block, wherever it lies; and what `resize` would grant,
/// `remap` grants.
#[track_caller]
pub fn clause_4_contents_are_kept(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = vec![alloc(100, 8), alloc(100, 8)];
    for (round, len) in [101, 99, 16, 17, 300, 1, 2, 4097, 4096, 8200, 3].into_iter().enumerate() {
        ops.extend([Op::Resize { block: round, len }, Op::Remap { block: round, len: len + 1 }]);
        ops.extend([Op::Remap { block: round + 1, len }, Op::Resize { block: round + 1, len: len + 1 }]);
    }
    refused_in_turn(4, &make, &ops);
}

/// Clause 4: `alloc_zeroed` is zero, also over memory that was dirty, and leaves its neighbours alone.
#[track_caller]
pub fn clause_4_zeroed_is_zero(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = Vec::new();
    for len in [1, 7, 64, 1000, 4096, 9000] {
        ops.extend([alloc(len, 8), alloc(3, 1), Op::Free { block: 0 }, alloc_zeroed(len, 8), Op::Free { block: 1 }]);
        ops.extend([alloc_zeroed(len, 8), Op::Free { block: 0 }]);
    }
    refused_in_turn(4, &make, &ops);
}

/// Clause 6: threads allocate, resize and free at once, and free each other's blocks.
#[track_caller]
pub fn clause_6_threads(make: impl Fn(&Start, &mut (dyn FnMut(&(dyn Allocator + Sync)) + '_))) {
    const THREADS: usize = 4;
    for setup in sweep() {
        let start = Start::of_threads(setup);
        let reports = judged(&start, || {
            make(&start, &mut |allocator| {
                let monitor = crate::Monitor::with_handler(allocator, crate::Role::Top, start.reports());
                let baskets: [Basket; THREADS] = std::array::from_fn(|_| Basket::default());
                thread::scope(|scope| {
                    for seed in 0..THREADS {
                        let (monitor, baskets) = (&monitor, &baskets);
                        scope.spawn(move || race(monitor, baskets, seed));
                    }
                });
                baskets.into_iter().for_each(|basket| basket.free_all(&monitor));
            });
        });
        panic_unless_clean(6, setup, &reports);
    }
}

/// Clause 6: an allocator that was sent to another thread ends its blocks there, and serves there.
#[track_caller]
pub fn clause_6_freed_elsewhere(make: impl Fn(&Start, &mut (dyn FnMut(Box<dyn Allocator + Send + '_>) + '_))) {
    for setup in sweep() {
        let start = Start::new(setup, crate::Refusal::Never);
        let reports = judged(&start, || {
            make(&start, &mut |allocator| {
                let monitor = crate::Monitor::with_handler(allocator, crate::Role::Top, start.reports());
                let basket = Basket::default();
                fill_basket(&monitor, &basket, 1);
                thread::scope(|scope| {
                    scope.spawn(move || {
                        fill_basket(&monitor, &basket, 2);
                        basket.free_all(&monitor);
                    });
                });
            });
        });
        panic_unless_clean(6, setup, &reports);
    }
}

/// Clause 7: blocks stay where they are, and whole, however the allocator moves. To be made with
/// [`Wandering`](crate::Wandering).
#[track_caller]
pub fn clause_7_moving_it_moves_no_block(make: impl Fn(&Start, &mut Check<'_>)) {
    clause_3_a_refusal_changes_nothing(&make);
    some_programs(make);
}

/// An allocator that can be emptied; every one that is both is this.
pub trait Emptied: Allocator + Reset {}

impl<A: Allocator + Reset> Emptied for A {}

/// Clause 8: after `reset` all blocks have ended, and the allocator serves anew.
#[track_caller]
pub fn clause_8_reset_ends_every_block(make: impl Fn(&Start, &mut (dyn FnMut(&mut dyn Emptied) + '_))) {
    let modes = [ResetMode::FreeAll, ResetMode::RetainCapacity, ResetMode::RetainWithLimit(100)];
    for setup in sweep() {
        let start = Start::new(setup, crate::Refusal::Never);
        let reports = judged(&start, || {
            make(&start, &mut |allocator| {
                for mode in [modes, modes].concat() {
                    let mut driver = Driver::new(&start, &*allocator);
                    let served = (0..40).all(|n| driver.take(alloc(1 + n * 5, 1 << (n % 5)), true));
                    let blocks = driver.blocks();
                    drop(driver);
                    if !served {
                        return;
                    }
                    assert!(blocks > 0, "nothing was served before a reset with {mode:?}");
                    allocator.reset(mode);
                }
            });
        });
        panic_unless_clean(8, setup, &reports);
    }
}

/// Clause 9: a clone is a handle to the same allocator, or there is no `Clone`. To be made with
/// [`Twins`](crate::Twins).
#[track_caller]
pub fn clause_9_clones_are_handles(make: impl Fn(&Start, &mut Check<'_>)) {
    refused_in_turn(9, &make, &[alloc(8, 8), alloc(8, 8), alloc(100, 1), Op::Free { block: 0 }, alloc(8, 8)]);
    some_programs(make);
}

/// Clause 10: whatever is asked, in whatever state of the backing, the answer is a value.
#[track_caller]
pub fn clause_10_nothing_unwinds(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = vec![alloc(0, 1), alloc(1, 1)];
    // What lies between could be had, at the price of a machine's whole memory.
    for log2 in (0..17).chain(usize::BITS - 2..usize::BITS) {
        let bytes = 1 << log2;
        ops.extend([alloc(1, bytes), alloc_zeroed(bytes, 1), Op::Free { block: 1 }]);
        ops.extend([Op::Resize { block: 0, len: bytes }, Op::Remap { block: 0, len: usize::MAX - (bytes - 1) }]);
        ops.extend([Op::Remap { block: 0, len: bytes - 1 }, alloc(usize::MAX - bytes, bytes)]);
    }
    swept(10, &make, &ops);
}

/// Clause 11: what came from the backing goes back to it as it came, once, also after refusals.
#[track_caller]
pub fn clause_11_everything_goes_back(make: impl Fn(&Start, &mut Check<'_>)) {
    let mut ops = Vec::new();
    for n in 0..12 {
        ops.extend([alloc(50 + 300 * n, 1 << n), alloc_zeroed(20, 8), Op::Resize { block: n, len: 3000 }]);
        ops.extend([Op::Remap { block: n, len: 10 }, Op::Free { block: n * 3 }]);
    }
    refused_in_turn(11, &make, &ops);
}

fn alloc(len: usize, alignment: usize) -> Op {
    Op::Alloc { len, alignment: Alignment::new(alignment).unwrap_or(Alignment::ONE) }
}

fn alloc_zeroed(len: usize, alignment: usize) -> Op {
    Op::AllocZeroed { len, alignment: Alignment::new(alignment).unwrap_or(Alignment::ONE) }
}

/// Every kind of backing, and buffers at odd addresses.
fn sweep() -> impl Iterator<Item = Setup> {
    (0..8).map(|n| Setup {
        offset: n * 5 % 16,
        chunk: 128 << 10,
        grows: n & 1 != 0,
        moves: n & 2 != 0,
        reuses: n & 4 != 0,
        ..Setup::default()
    })
}

/// Runs the steps over every kind of backing.
#[track_caller]
fn swept(clause: u8, make: &impl Fn(&Start, &mut Check<'_>), ops: &[Op]) {
    for setup in sweep() {
        passed(clause, run(&script(setup, ops), make));
    }
}

/// As `swept`, and with every call of the backing refused in turn.
#[track_caller]
fn refused_in_turn(clause: u8, make: &impl Fn(&Start, &mut Check<'_>), ops: &[Op]) {
    for setup in sweep() {
        passed(clause, run_with_refusals(&script(setup, ops), true, &mut crate::Summary::default(), make));
    }
}

/// As `swept`, and each request for memory is granted.
#[track_caller]
fn granted(clause: u8, make: &impl Fn(&Start, &mut Check<'_>), ops: &[Op]) {
    for setup in sweep() {
        let script = script(setup, ops);
        let run = passed(clause, run(&script, make));
        assert!(run.steps > 0, "no step was taken: does the maker call `check`?");
        assert_eq!(run.denied, 0, "small requests were refused, over a backing with plenty of memory\n{script}");
    }
}

fn script(setup: Setup, ops: &[Op]) -> Script {
    Script { setup, ops: ops.to_vec(), ..Script::default() }
}

#[track_caller]
fn passed<T>(clause: u8, result: Result<T, Box<Failure>>) -> T {
    result.unwrap_or_else(|failure| panic!("in the test of clause {clause}: {failure}"))
}

#[track_caller]
fn panic_unless_clean(clause: u8, setup: Setup, reports: &crate::Reports) {
    let breaches = reports.breaches();
    let lines = crate::breach::Lines(&breaches);
    assert!(breaches.is_empty(), "in the test of clause {clause}, over `{setup}`:\n{lines}");
}

mod race;
use race::{Basket, fill_basket, race};
