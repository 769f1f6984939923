//! What gives memory back beside the frees: [`trim`](DebugAllocator::trim), [`free_all`](DebugAllocator::free_all).
//!
//! ```text
//! trim       quarantine ─▶ backing      table ─▶ backing, where no block is known       live blocks stay
//! free_all   live blocks ─▶ backing, too                                                `&mut self`: clause 8
//! ```

use terrace_core::Allocator;

use super::{DebugAllocator, Found, Handler};

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Gives back what is free: the quarantine, what [`never_unmap`](super::DebugConfig::never_unmap) keeps included, and the table where
    /// no block is known. Whatever shows of writes after a free is reported. Other threads may use the allocator meanwhile.
    ///
    /// Cost: a look at each block in quarantine.
    #[track_caller]
    pub fn trim(&self) {
        self.drain(0, Found::Check, &self.caller());
        let table = self.lock(Found::Check).take_empty_table();
        self.free_table(table);
    }

    /// Ends every block that has a record, and gives it back. No leaks: to be told of them, ask
    /// [`check_for_leaks`](Self::check_for_leaks) first. As `reset`, for a backing that has none.
    ///
    /// ```
    /// use terrace_core::{AllocatorExt, Stats, SystemAllocator};
    /// use terrace_heap::{DebugAllocator, StatsAllocator};
    ///
    /// let counted = StatsAllocator::new(SystemAllocator);
    /// let mut debug = DebugAllocator::new(&counted);
    /// let _ = (debug.dupe(b"red")?, debug.dupe(b"blue")?);
    /// debug.free_all();
    /// assert_eq!(counted.stats().current_bytes, 0);
    /// # Ok::<(), terrace_core::AllocError>(())
    /// ```
    #[track_caller]
    pub fn free_all(&mut self) {
        let by = self.caller();
        let mut seat = 0;
        loop {
            let mut state = self.lock(Found::Reset);
            if seat >= state.table.seats() {
                break;
            }
            let Some(record) = state.table.at(seat).filter(|record| record.is_live()) else {
                seat += 1;
                continue;
            };
            state.claim(seat, &by);
            if self.config.counts() {
                state.counts.ended(record.len);
            }
            drop(state);
            self.look(&record, Found::Reset, &by);
            self.let_go(&record); // Another record may sit here now; one whose pages do not open is no longer live.
        }
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroUsize;
    use std::thread;

    use terrace_core::{Alignment, AllocatorExt, Stats, SystemAllocator};

    use super::*;
    use crate::{DebugConfig, StatsAllocator, debug::Report};

    const HELD: DebugConfig = DebugConfig { never_unmap: true, ..DebugConfig::new() };

    #[test]
    fn a_trim_gives_the_quarantine_and_the_empty_table_back_and_keeps_live_blocks() {
        let debug = DebugAllocator::with_handler(StatsAllocator::new(SystemAllocator), HELD, |report: &Report| {
            panic!("{report}");
        });
        let kept = debug.dupe(b"kept").unwrap();
        for _ in 0..100 {
            let block = debug.dupe(b"freed").unwrap();
            // SAFETY: live, of this allocator, not used again.
            unsafe { debug.free_slice(block) };
        }
        assert_eq!(debug.backing().stats().current_allocations, 102, "the table is a block too");
        debug.trim();
        assert_eq!(debug.backing().stats().current_allocations, 2);
        // SAFETY: live, of this allocator, not used again.
        assert_eq!(unsafe { kept.as_ref() }, b"kept");
        // SAFETY: as above.
        unsafe { debug.free_slice(kept) };
        debug.trim();
        assert_eq!(debug.backing().stats().current_allocations, 0);
    }

    #[test]
    fn a_trim_may_race_with_every_call() {
        let debug = DebugAllocator::with_handler(StatsAllocator::new(SystemAllocator), HELD, |report: &Report| {
            panic!("{report}");
        });
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 1..400usize {
                        let blocks = [(); 4].map(|()| debug.dupe(&[7u8; 24]).unwrap());
                        for block in blocks {
                            let new_len = NonZeroUsize::MIN.saturating_add(n);
                            // SAFETY: live, of this allocator, and its new length is brought to the free.
                            let moved = unsafe { debug.realloc_in_place_or_move(block, Alignment::ONE, new_len) };
                            let moved = core::ptr::NonNull::slice_from_raw_parts(moved.unwrap(), new_len.get());
                            // SAFETY: live, of this allocator, not used again.
                            unsafe { debug.free(moved, Alignment::ONE) };
                        }
                    }
                });
            }
            scope.spawn(|| (0..400).for_each(|_| debug.trim()));
        });
        debug.trim();
        assert_eq!(debug.backing().stats().current_allocations, 0);
    }

    #[test]
    fn the_end_of_all_blocks_is_no_leak_and_gives_every_byte_back() {
        for config in [DebugConfig::new(), HELD, DebugConfig { retain_metadata: true, ..DebugConfig::new() }] {
            let mut debug = DebugAllocator::with_handler(StatsAllocator::new(SystemAllocator), config, |r: &Report| {
                panic!("{r}");
            });
            let blocks: std::vec::Vec<_> = (1..200).map(|len| debug.alloc_slice::<u8>(len).unwrap()).collect();
            for block in &blocks[..100] {
                // SAFETY: live, of this allocator, not used again.
                unsafe { debug.free_slice(*block) };
            }
            debug.free_all();
            let stats = debug.stats();
            assert_eq!((stats.current_allocations, stats.current_bytes), (0, 0));
            assert!(debug.deinit().is_clean());
            assert_eq!(debug.backing().stats().current_allocations, 0);
        }
    }
}
