//! What only the inside can show: the table against a model, and a lock that somebody has.

extern crate std;

use std::{
    cell::RefCell, collections::HashMap, mem::MaybeUninit, num::NonZeroUsize, panic::Location, ptr::NonNull, thread,
    vec::Vec,
};

use proptest::prelude::*;
use terrace_core::{Alignment, Allocator, AllocatorExt, Reset, ResetMode, SystemAllocator};

use super::{
    DebugAllocator, DebugConfig, Found, Handler, Mistake, Report,
    base::Base,
    record::{Record, Stamp, State as Life},
    shape::Shape,
    table::{Table, Which},
};
use crate::FixedBufferAllocator;

fn record(address: usize, serial: u64) -> Record {
    Record {
        address,
        len: 1,
        alignment: Alignment::ONE,
        state: Life::Live,
        sealed: false,
        told: 0,
        serial,
        base: Base::new(NonNull::dangling()),
        shape: Shape::plain(1, Alignment::ONE, 0).unwrap(),
        allocated: Stamp { site: Location::caller(), thread: 0 },
        freed: None,
        next: 0,
    }
}

/// Makes room as the allocator does.
fn grow(table: &mut Table) {
    let (log2, bytes) = table.next_size().unwrap();
    let memory = SystemAllocator.alloc(bytes, Table::ALIGNMENT).unwrap();
    // SAFETY: of `next_size`.
    if let Some(old) = unsafe { table.move_to(memory, log2) } {
        // SAFETY: of the same allocator; the table has given it up.
        unsafe { SystemAllocator.free(old, Table::ALIGNMENT) };
    }
}

fn end(table: &mut Table) {
    if let Some(memory) = table.take() {
        // SAFETY: as above.
        unsafe { SystemAllocator.free(memory, Table::ALIGNMENT) };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    /// Addresses near to one another, so that runs of seats collide.
    #[test]
    fn a_table_knows_what_a_map_knows(
        calls in proptest::collection::vec((0usize..60, any::<bool>()), 1..200),
        to_the_last_seat in any::<bool>(),
    ) {
        let (mut table, mut model) = (Table::new(2), HashMap::new());
        for (serial, (slot, remove)) in calls.into_iter().enumerate() {
            let address = 0x1000 + slot * 8;
            if remove {
                if let Some(seat) = table.find(address) {
                    table.remove(seat);
                }
                model.remove(&address);
            } else {
                if if to_the_last_seat { !table.has_room(0) } else { table.is_full(0) } {
                    grow(&mut table);
                }
                let seat = table.insert(&record(address, serial as u64));
                table.trace_mut(seat, Which::Freed).copy_from_slice(&[serial, address]);
                model.insert(address, serial);
            }
            prop_assert_eq!(table.len(), model.len());
            for slot in 0..60 {
                let address = 0x1000 + slot * 8;
                let seat = table.find(address);
                prop_assert_eq!(seat.is_some(), model.contains_key(&address));
                if let (Some(seat), Some(&serial)) = (seat, model.get(&address)) {
                    prop_assert_eq!(table.at(seat).map(|record| record.serial), Some(serial as u64));
                    prop_assert_eq!(table.trace(seat, Which::Freed), &[serial, address]);
                    prop_assert_eq!(table.trace(seat, Which::Allocated), &[0, 0]);
                }
            }
        }
        end(&mut table);
    }
}

/// Collects, and numbers threads as the others do.
#[derive(Default)]
struct Collect(RefCell<Vec<Report>>);

// SAFETY: of the one test that shares it, one thread at a time reports.
unsafe impl Sync for Collect {}

impl Handler for Collect {
    fn report(&self, report: &Report) {
        self.0.borrow_mut().push(*report);
    }
}

#[test]
fn two_calls_at_one_moment_are_a_mistake_without_thread_safe_and_none_with_it() {
    for thread_safe in [true, false] {
        let config = DebugConfig { thread_safe, ..DebugConfig::new() };
        let debug = DebugAllocator::with_handler(SystemAllocator, config, Collect::default());
        let held = debug.lock(Found::Check);
        thread::scope(|threads| {
            let other = threads.spawn(|| debug.dupe(b"red").unwrap().addr().get());
            while !thread_safe && debug.mistakes.load(std::sync::atomic::Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            thread::sleep(std::time::Duration::from_millis(if thread_safe { 20 } else { 0 }));
            drop(held);
            // SAFETY: live, of this allocator.
            unsafe { debug.free_by_address(NonNull::new(other.join().unwrap() as *mut u8).unwrap()) };
        });
        let reports = debug.handler().0.borrow();
        let races = reports.iter().filter(|report| report.mistake == Mistake::Race).count();
        assert_eq!((races > 0, reports.len() == races), (!thread_safe, true));
        if let Some(race) = reports.first() {
            let text = std::string::ToString::to_string(race);
            assert!(text.starts_with("alloc while another thread is in the same allocator\n  called at "), "{text}");
        }
    }
}

/// The table moves while the handler, which runs between two records, allocates.
#[test]
fn a_handler_may_allocate_while_leaks_are_told() {
    std::thread_local! {
        static TOLD: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    static DEBUG: DebugAllocator<SystemAllocator, fn(&Report)> =
        DebugAllocator::with_handler(SystemAllocator, DebugConfig::new(), |report| {
            TOLD.with(|told| told.borrow_mut().push(report.block.unwrap().serial));
            let more = DEBUG.alloc(NonZeroUsize::new(40).unwrap(), Alignment::ONE).unwrap();
            // SAFETY: live, just made, not used again.
            unsafe { DEBUG.free(NonNull::slice_from_raw_parts(more, 40), Alignment::ONE) };
        });
    let blocks: Vec<_> = (0..50).map(|_| DEBUG.alloc_slice::<u8>(10).unwrap()).collect();
    assert_eq!(DEBUG.check_for_leaks().leaks, 50);
    TOLD.with(|told| {
        let mut told = told.borrow().clone();
        told.sort_unstable();
        assert_eq!(told, (1..=50).collect::<Vec<u64>>(), "each once");
    });
    for block in blocks {
        // SAFETY: live, of this allocator, not used again.
        unsafe { DEBUG.free_slice(block) };
    }
}

/// More calls at once than there are seats, after a table was refused: it is asked for, since there is room again.
#[test]
fn a_refusal_of_long_ago_is_none_of_now() {
    for by_reset in [true, false] {
        let mut buffer = std::vec![MaybeUninit::uninit(); 128 << 10];
        let backing = FixedBufferAllocator::new(&mut buffer);
        let config = DebugConfig { quarantine: 0, ..DebugConfig::new() };
        let mut debug = DebugAllocator::with_handler(backing, config, |report: &Report| panic!("{report}"));
        let most = debug.alloc_slice::<u8>(120 << 10).unwrap();
        assert!(debug.lock(Found::Check).refused, "8 KiB are too few");
        if by_reset {
            debug.reset(ResetMode::RetainCapacity);
        } else {
            // SAFETY: live, of this allocator, not used again.
            unsafe { debug.free_slice(most) };
        }
        for seat in 0..4 {
            assert!(debug.promise_seat().is_ok(), "{seat}, by reset: {by_reset}");
        }
        (0..4).for_each(|_| debug.withdraw(0, true));
    }
}
