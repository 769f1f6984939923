//! `src/parked.rs` in one thread: what is parked comes back, once, and every range gets its turn.

use core::{ptr, ptr::NonNull};

use terrace_sync::atomic::AtomicPtr;

#[path = "../src/parked.rs"]
mod parked;
use parked::Parked;

const RANGES: usize = 6;

/// Parks `RANGES` pieces of one allocation and lets `look` at the lists; addresses come as numbers of pieces.
fn with_parked(look: impl FnOnce(&Parked, &dyn Fn(NonNull<u8>) -> usize)) {
    let parked = Parked { due: AtomicPtr::new(ptr::null_mut()), tried: AtomicPtr::new(ptr::null_mut()) };
    let mut memory = vec![[0u128; 4]; RANGES];
    let first = NonNull::from(memory.as_mut_slice()).cast::<[u128; 4]>();
    let number = |address: NonNull<u8>| (address.addr().get() - first.addr().get()) / size_of::<[u128; 4]>();
    for piece in 0..RANGES {
        // SAFETY: within the allocation.
        let range = unsafe { first.add(piece) };
        // SAFETY: a piece of its own, large enough for a node, aligned and writable.
        unsafe { parked.park(range.cast(), range.cast(), 100 + piece) };
    }
    look(&parked, &number);
}

#[test]
fn what_is_parked_comes_back_once_with_its_length() {
    with_parked(|parked, number| {
        let mut seen = Vec::new();
        parked.retry(|_, start, len| {
            assert_eq!(len, 100 + number(start));
            seen.push(number(start));
            true
        });
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..RANGES));
        assert!(parked.is_empty());
    });
}

#[test]
fn each_call_makes_one_refused_try_and_every_range_gets_its_turn() {
    with_parked(|parked, number| {
        for _round in 0..3 {
            let mut tried = Vec::new();
            for _call in 0..RANGES {
                parked.retry(|_, start, _| {
                    tried.push(number(start));
                    false
                });
            }
            tried.sort_unstable();
            assert_eq!(tried, Vec::from_iter(0..RANGES));
        }
    });
}

#[test]
fn a_range_that_was_just_refused_waits_behind_those_still_to_be_tried() {
    with_parked(|parked, _| {
        parked.retry(|_, _, _| false); // One is tried; the others are due.
        let mut late = [0u128; 4];
        let late_range = NonNull::from(&mut late).cast();
        // SAFETY: large enough for a node, aligned, writable, and it outlives the list's use below.
        unsafe { parked.park(late_range, late_range, 100 + RANGES) };
        let mut tried = Vec::new();
        for _call in 1..RANGES {
            parked.retry(|_, start, _| {
                tried.push(start);
                false
            });
        }
        assert_eq!(tried.len(), RANGES - 1);
        assert!(!tried.contains(&late_range));
    });
}

#[test]
fn a_range_that_is_always_refused_does_not_stop_the_others() {
    for refused in 0..RANGES {
        with_parked(|parked, number| {
            let mut freed = Vec::new();
            for _call in 0..3 {
                parked.retry(|_, start, _| {
                    let granted = number(start) != refused;
                    freed.extend(granted.then_some(number(start)));
                    granted
                });
            }
            freed.sort_unstable();
            assert_eq!(freed, Vec::from_iter((0..RANGES).filter(|&piece| piece != refused)));
            assert!(!parked.is_empty());
        });
    }
}

#[test]
fn a_range_may_be_noted_elsewhere() {
    let parked = Parked { due: AtomicPtr::new(ptr::null_mut()), tried: AtomicPtr::new(ptr::null_mut()) };
    let mut note = [0u128; 4];
    let note = NonNull::from(&mut note).cast::<u8>();
    let range = NonNull::without_provenance(core::num::NonZeroUsize::new(0x1000).unwrap());
    // SAFETY: the note is large enough for a node, aligned and writable; nobody looks into the range.
    unsafe { parked.park(note, range, 0x2000) };
    let mut seen = Vec::new();
    parked.retry(|at, start, len| {
        seen.push((at, start, len));
        true
    });
    assert_eq!(seen, [(note, range, 0x2000)]);
    assert!(parked.is_empty());
}
