//! Deliberately broken allocators, one fault each, over a buffer in `bump.rs` and over a backing in `passing.rs`:
//! each is caught, for the clause that it breaks, by a script of at most ten steps. Without a fault they keep
//! the contract.

mod bump;
mod passing;

use terrace_core::SystemAllocator;
use terrace_testkit::{Check, Failure, Finding, Programs, Script, Start, Twins, programs, replay};

/// More than the default, since each must be caught for sure.
fn options() -> Programs {
    Programs { count: 400, seed: 7, ..Programs::default() }
}

/// Finds a script that breaks `clause`, of at most ten steps; it is printed, and does the same when pasted back.
#[track_caller]
fn caught(clause: u8, make: impl Fn(&Start, &mut Check<'_>)) {
    let failure = programs(&options(), &make).expect_err("the fault was not found");
    println!("{failure}");
    assert!(failure.script.ops.len() <= 10, "too long a script\n{failure}");
    assert_eq!(failure.clause(), clause, "another clause\n{failure}");
    let pasted: Script = failure.script.to_string().parse().expect("a script reads what it prints");
    let again: Box<Failure> = replay(&pasted, &make).expect_err("the script does not break it again");
    assert_eq!(again.clause(), clause);
}

fn bump(fault: bump::Fault) -> impl Fn(&Start, &mut Check<'_>) {
    move |start, check| check(&bump::Bump::new(&mut start.buffer(), fault))
}

fn passing(fault: passing::Fault) -> impl Fn(&Start, &mut Check<'_>) {
    move |start, check| check(&passing::Passing::new(start.backing(), fault))
}

/// One test for each fault: its name, the clause, how it is made.
macro_rules! faults {
    ($($name:ident: $clause:literal $make:expr;)+) => {$(
        #[test]
        fn $name() {
            caught($clause, $make);
        }
    )+};
}

faults! {
    overlap_by_one_byte: 1 bump(bump::Fault::OverlapByOneByte);
    alignment_off: 1 bump(bump::Fault::AlignmentOff);
    state_changed_by_a_refused_resize: 1 bump(bump::Fault::RefusedResizeMovesTheEnd);
    reuse_before_free: 1 bump(bump::Fault::ReuseBeforeFree);
    lengths_that_overflow: 2 bump(bump::Fault::Overflow);
    stale_bytes_for_zeroes: 4 bump(bump::Fault::StaleZeroes);
    a_panic_where_it_is_full: 10 bump(bump::Fault::Panics);
    clone_that_double_allocates: 1 |start: &Start, check: &mut Check<'_>| {
        check(&Twins::new(bump::Bump::new(&mut start.buffer(), bump::Fault::DerivedClone)));
    };
    freed_length_one_more: 11 passing(passing::Fault::FreesOneByteMore);
    freed_length_one_less: 11 passing(passing::Fault::FreesOneByteLess);
    lost_tail_on_shrink: 4 passing(passing::Fault::ShrinkLosesTheTail);
    forgotten_tail_on_shrink: 11 passing(passing::Fault::ShrinkForgetsTheTail);
    double_return_to_the_backing: 11 passing(passing::Fault::DoubleReturn);
    leak_at_deinit: 11 passing(passing::Fault::LeakAtDeinit);
    remap_losing_bytes: 4 passing(passing::Fault::RemapLosesBytes);
    wrong_only_after_the_third_failure: 3 passing(passing::Fault::WrongAfterTheThirdFailure);
    a_refused_grow_that_moved_the_block: 3 passing(passing::Fault::RefusedGrowMoves);
    a_refusal_that_keeps_a_block: 3 passing(passing::Fault::RefusalKeepsABlock);
    bytes_written_before_the_block: 11 passing(passing::Fault::WritesOutside);
    bytes_written_after_the_return: 11 passing(passing::Fault::WritesAfterFree);
    remap_that_refuses_what_resize_grants: 4 passing(passing::Fault::RemapRefuses);
    a_panic_when_the_backing_refuses: 10 passing(passing::Fault::Panics);
}

/// What a refused call gave back may be gone: the judge does not read it.
#[test]
fn a_block_that_a_refusal_gave_back_is_not_touched() {
    let make = |start: &Start, check: &mut Check<'_>| {
        check(&passing::Passing::new(start.over(SystemAllocator), passing::Fault::RefusedGrowMoves));
    };
    let failure = replay(&"alloc 100 align 8\nremap 0 200".parse().unwrap(), make).unwrap_err();
    assert!(matches!(failure.breaches[0].finding, Finding::RefusalChangedBacking), "{failure}");
}

#[test]
fn without_a_fault_the_same_allocators_keep_the_contract() {
    let summary = programs(&options(), bump(bump::Fault::None)).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(summary.programs, 400);
    let summary = programs(&options(), passing(passing::Fault::None)).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(summary.refused > summary.programs, "{summary:?}");
}
