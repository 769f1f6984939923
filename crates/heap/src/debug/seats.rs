//! A record for each new block, and room in the table for it.
//!
//! ```text
//!   a block is there ─▶ enroll ─▶ few seats left? ─▶ grow_ahead: a larger table, while nothing is to be undone
//!                          └─ none left: a spare table that was asked for before the block, or one now, or the block goes back
//! ```

use core::{ptr::NonNull, sync::atomic::Ordering};

use terrace_core::{AllocError, Allocator};

use super::{DebugAllocator, Found, Handler, Mistake, record::Record, state::Caller, table::Table};

/// Seats that are to be empty after each block, so that one refusal of a larger table is not a refusal of the next block.
const AHEAD: usize = 2;

/// A block of the backing for a table, and nobody's yet.
pub(super) struct Spare {
    log2: u32,
    memory: NonNull<[u8]>,
}

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Enters a new block, in a larger table if need be.
    pub(super) fn enroll(
        &self,
        record: &Record,
        by: &Caller,
        (admitted, spare): (usize, &mut Option<Spare>),
    ) -> Result<(), AllocError> {
        loop {
            let mut state = self.lock(Found::Alloc);
            let keeps = self.config.keeps_records();
            if keeps && state.table.is_full(state.promised) {
                drop(state);
                match spare.take() {
                    Some(spare) => self.move_table(spare),
                    None => self.grow_table()?,
                }
                continue;
            }
            state.admitted -= admitted;
            if self.config.counts() {
                state.counts.made(record.len);
            }
            let known = if keeps { state.enroll(record, &by.words) } else { None };
            if keeps && state.table.is_full(state.promised + AHEAD) {
                self.wanting.store(true, Ordering::Relaxed); // For `grow_ahead`.
            }
            drop(state);
            if let Some(known) = known {
                self.overlapped(known, by);
            }
            return Ok(());
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

    /// Places for the next blocks, while there is nothing to undo; tried again after each block as long as it is refused.
    #[track_caller]
    pub(super) fn grow_ahead(&self) {
        if self.wanting.load(Ordering::Relaxed) && self.grow_table().is_ok() {
            self.wanting.store(false, Ordering::Relaxed);
        }
    }

    /// Whether no seat is left.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock(Found::Alloc);
        state.table.is_full(state.promised)
    }

    /// A larger table, where the last blocks got none and there is no seat left: refused, there is nothing to undo.
    #[track_caller]
    pub(super) fn spare_table(&self) -> Result<Option<Spare>, AllocError> {
        if !self.wanting.load(Ordering::Relaxed) || !self.config.keeps_records() || !self.is_full() {
            return Ok(None);
        }
        self.ask_table().map(Some)
    }

    #[track_caller]
    pub(super) fn ask_table(&self) -> Result<Spare, AllocError> {
        let (log2, bytes) = self.lock(Found::Alloc).table.next_size().ok_or(AllocError)?;
        let memory = self.backing.alloc(bytes, Table::ALIGNMENT)?;
        Ok(Spare { log2, memory: NonNull::slice_from_raw_parts(memory, bytes.get()) })
    }

    #[track_caller]
    pub(super) fn grow_table(&self) -> Result<(), AllocError> {
        let spare = self.ask_table()?;
        self.move_table(spare);
        Ok(())
    }

    /// Moves into `spare`, unless another thread was here first, and gives back what is not needed.
    #[track_caller]
    pub(super) fn move_table(&self, spare: Spare) {
        let mut state = self.lock(Found::Alloc);
        let still = state.table.next_size().is_some_and(|(now, _)| now == spare.log2);
        let (log2, memory) = (spare.log2, spare.memory.cast());
        let unused = if still {
            state.changes += 1;
            // SAFETY: of `next_size`'s bytes and alignment, made by `ask_table`, and larger than the table of now.
            unsafe { state.table.move_to(memory, log2) }.map(|memory| Spare { log2, memory })
        } else {
            Some(spare)
        };
        drop(state);
        self.free_spare(unused);
    }

    #[track_caller]
    pub(super) fn free_spare(&self, spare: Option<Spare>) {
        if let Some(spare) = spare {
            // SAFETY: of the backing, with this length and alignment; no table is in it.
            unsafe { self.backing.free(spare.memory, Table::ALIGNMENT) };
        }
    }
}
