//! Looks at all blocks: leaks, the end, a reset, and what a fault was about.
//!
//! ```text
//! check_for_leaks   told: every live block, every broken canary, every freed block that was written     changes nothing
//! deinit            the same, then the quarantine goes back, and the table where no block is live
//! drop              the same, but for leaks that a deinit told; live blocks stay with the backing
//! ```
//!
//! A look takes the lock for one block at a time, since the handler runs between two (clause 10). A round number in each record
//! says who was seen, so that a table which changes meanwhile hides none and shows none twice.

use core::{panic::Location, ptr::NonNull, sync::atomic::Ordering};

use terrace_core::{Allocator, Reset, ResetMode};

use super::{
    Check, DebugAllocator, Found, Handler, Mistake, Report,
    record::{Record, State as Life},
    state::{Caller, nobody},
    table::Table,
};

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Reports every block that is live when it begins, and every write past an end or after a free that shows by now. Nothing is freed
    /// and nothing ends: it can be asked at any time, also while other threads use the allocator.
    ///
    /// Cost: a look at each block, under the lock one by one; from the beginning again where the handler has allocated meanwhile.
    #[track_caller]
    pub fn check_for_leaks(&self) -> Check {
        self.check_from(0, Found::Check)
    }

    /// The end of the program's use of it: reports as [`check_for_leaks`](Self::check_for_leaks) does, and gives back what is
    /// free: the quarantine, and the records where no block is live. A live block stays where it is, and can still be freed.
    #[track_caller]
    pub fn deinit(&mut self) -> Check {
        self.finish(0)
    }

    /// What is known of an address that was touched: the block that it is in or beside, freed or live, as a report. `None`: nothing,
    /// or another call is at work. For a handler of SIGSEGV, say: it takes no lock that is held, and asks nobody for memory.
    #[track_caller]
    pub fn explain(&self, address: *const u8) -> Option<Report> {
        let describe = self.describe();
        let state = self.state.try_lock()?;
        let extent = |record: &Record| {
            let start = record.base.pointer().addr().get();
            start..start + record.shape.whole
        };
        let record = state.around(address.addr(), extent)?;
        let block = state.block(record.address, describe);
        drop(state);
        let offset = address.addr().wrapping_sub(record.address) as isize;
        let by = nobody(Location::caller()).moment(describe);
        Some(Report {
            mistake: Mistake::Touched { offset },
            found_in: Found::Fault,
            address: address.addr(),
            block,
            by,
        })
    }

    /// Leaks of blocks after the `settled`th, and whatever shows of others.
    #[track_caller]
    fn check_from(&self, settled: u64, found: Found) -> Check {
        let by = self.caller();
        let mut check = Check::default();
        if self.config.keeps_records() {
            // What is made later, by a handler that keeps a block for each leak, is no leak of now: else there were no end.
            let (round, last) = {
                let mut state = self.lock(found);
                (state.begin_round(), state.serial)
            };
            let (mut seat, mut changes) = (0, 0);
            loop {
                let mut state = self.lock(found);
                if state.changes != changes {
                    (seat, changes) = (0, state.changes); // Records may have changed seats; who was seen is not seen again.
                }
                let Some(record) = state.next_of(round, &mut seat) else { break };
                // While the lock is held nobody makes it `Busy` or `Ending`, or gives it back.
                let whole = matches!(record.state, Life::Live | Life::Quarantined);
                let broken = if whole { self.broken(&record) } else { [None; 3] };
                let asked = record.serial > settled && record.serial <= last;
                let leaks = self.config.enable_leak_detection && record.is_live() && asked;
                drop(state);
                if leaks {
                    check.leaks += 1;
                    check.leaked_bytes += record.len;
                }
                let leak = leaks.then_some(Mistake::Leak);
                for mistake in broken.into_iter().chain([leak]).flatten() {
                    self.tell(mistake, found, record.address, Some(record.address), &by);
                }
            }
        }
        check.mistakes = self.mistakes.load(Ordering::Relaxed);
        check
    }

    #[track_caller]
    fn finish(&mut self, settled: u64) -> Check {
        let check = self.check_from(settled, Found::Check);
        self.drain(0, Found::Check, &self.caller());
        let table = {
            let mut state = self.lock(Found::Check);
            state.settled = state.serial;
            state.forget_the_gone();
            state.take_empty_table()
        };
        self.free_table(table);
        check
    }

    #[track_caller]
    pub(super) fn free_table(&self, table: Option<NonNull<[u8]>>) {
        if let Some(table) = table {
            // SAFETY: of the backing, with this length and alignment; the state has given it up.
            unsafe { self.backing.free(table, Table::ALIGNMENT) };
        }
    }
}

impl<A: Allocator + Reset, H: Handler> Reset for DebugAllocator<A, H> {
    /// Ends every block: no leaks. What shows of writes past an end or after a free is reported first.
    fn reset(&mut self, mode: ResetMode) -> bool {
        let by: Caller = self.caller();
        let _ = self.check_from(u64::MAX, Found::Reset);
        self.drain(0, Found::Reset, &by);
        self.open_all();
        let table = {
            let mut state = self.lock(Found::Reset);
            state.counts.all_ended();
            state.refused = false; // There is room now.
            state.changes += 1;
            state.table.take()
        };
        self.free_table(table);
        self.backing.reset(mode)
    }
}

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Every page can be touched again, as its backing has to find it.
    #[track_caller]
    fn open_all(&mut self) {
        let Some(pages) = self.pages.filter(|_| self.config.paged()) else { return };
        let seats = self.lock(Found::Reset).table.seats();
        for seat in 0..seats {
            let record = *self.lock(Found::Reset).table.at(seat);
            if let Some(record) = record.filter(|record| record.state != Life::Gone) {
                // SAFETY: I1: the backing's block, and `&mut self`: nobody else is here.
                let _ = unsafe { pages.open(&self.backing, record.base, &record.shape) };
            }
        }
    }
}

impl<A: Allocator, H: Handler> Drop for DebugAllocator<A, H> {
    /// As [`deinit`](DebugAllocator::deinit), where that was not called; live blocks are never given back from here.
    fn drop(&mut self) {
        let settled = self.lock(Found::Check).settled;
        let _ = self.finish(settled);
        let table = self.lock(Found::Check).table.take();
        self.free_table(table);
    }
}
