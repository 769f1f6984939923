//! A record for each new block, and room in the table for it.
//!
//! ```text
//!   request ─▶ promise_seat ─▶ a block is there ─▶ enroll ─▶ few seats left? ─▶ grow_ahead: a larger table
//!                 └─ none left: refused, and the backing hears nothing
//! ```
//!
//! The larger table is asked for when the block that needed it has come, and at frees: so no refusal comes behind a grant (clause
//! 3). Where it is refused the present one is filled to its last seat but one, and asked for again after each block.
//! Only where so many come at once that the last seat is promised before the larger table is there, one is asked for first.

use core::{num::NonZeroUsize, ptr::NonNull, sync::atomic::Ordering};

use terrace_core::{AllocError, Allocator};

use super::{DebugAllocator, Found, Handler, Mistake, record::Record, state::Caller, table::Table};

/// A block of the backing for a table, and nobody's yet.
struct Spare {
    log2: u32,
    memory: NonNull<u8>,
    bytes: NonZeroUsize,
}

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Keeps a seat for a block that is still to be asked for, where records are kept.
    #[track_caller]
    pub(super) fn promise_seat(&self) -> Result<(), AllocError> {
        if !self.config.keeps_records() {
            return Ok(());
        }
        loop {
            let mut state = self.lock(Found::Alloc);
            if state.promise() {
                return Ok(());
            }
            if state.refused {
                return Err(AllocError);
            }
            drop(state);
            self.grow_table(Found::Alloc)?;
        }
    }

    /// Gives back what was set aside for a block that did not come.
    #[track_caller]
    pub(super) fn withdraw(&self, admitted: usize, promised: bool) {
        let mut state = self.lock(Found::Alloc);
        state.admitted -= admitted;
        state.promised -= usize::from(promised && self.config.keeps_records());
    }

    /// Enters a new block, in the seat that was promised.
    #[track_caller]
    pub(super) fn enroll(&self, record: &Record, by: &Caller, admitted: usize) {
        let mut state = self.lock(Found::Alloc);
        state.admitted -= admitted;
        if self.config.counts() {
            state.counts.made(record.len);
        }
        if !self.config.keeps_records() {
            return;
        }
        let known = state.enroll(record, &by.words);
        if state.is_crowded() {
            self.wanting.store(true, Ordering::Relaxed); // For `grow_ahead`.
        }
        drop(state);
        if let Some(known) = known {
            self.overlapped(known, by);
        }
    }

    /// The backing handed a block out again that had a record: so it was given back past this allocator.
    #[cold]
    pub(super) fn overlapped(&self, known: Record, by: &Caller) {
        if known.is_live() && self.config.counts() {
            self.lock(Found::Alloc).counts.ended(known.len);
        }
        self.tell(Mistake::Overlap, Found::Alloc, known.address, Some(known.address), by);
    }

    /// Seats for the next blocks, while there is nothing to undo; tried again after each block as long as it is refused.
    #[track_caller]
    pub(super) fn grow_ahead(&self, found: Found) {
        if !self.wanting.load(Ordering::Relaxed) {
            return;
        }
        let crowded = {
            let mut state = self.lock(found);
            let crowded = state.is_crowded();
            state.refused &= crowded; // Blocks have gone, and perhaps memory is there again by the time that it is needed.
            crowded
        };
        if !crowded || self.grow_table(found).is_ok() {
            self.wanting.store(false, Ordering::Relaxed);
        }
    }

    /// Asks for a larger table and moves into it.
    #[track_caller]
    fn grow_table(&self, found: Found) -> Result<(), AllocError> {
        let (log2, bytes) = self.lock(found).table.next_size().ok_or(AllocError)?;
        match self.backing.alloc(bytes, Table::ALIGNMENT) {
            Ok(memory) => {
                self.move_table(Spare { log2, memory, bytes }, found);
                Ok(())
            }
            Err(AllocError) => {
                let mut state = self.lock(found);
                // Another thread may have got it meanwhile.
                let still = state.table.is_below(log2);
                state.refused |= still;
                if still { Err(AllocError) } else { Ok(()) }
            }
        }
    }

    /// Moves into `spare`, unless another thread was here first, and gives back what is not needed.
    #[track_caller]
    fn move_table(&self, spare: Spare, found: Found) {
        let mut state = self.lock(found);
        let unused = if state.table.is_below(spare.log2) {
            state.changes += 1;
            state.refused = false;
            // SAFETY: made by `grow_table` with the bytes of a table of that size, which is above the one of now.
            unsafe { state.table.move_to(spare.memory, spare.log2) }
        } else {
            Some(NonNull::slice_from_raw_parts(spare.memory, spare.bytes.get()))
        };
        drop(state);
        self.free_table(unused);
    }
}
