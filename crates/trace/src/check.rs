//! Tells whether an event can follow those before it; the writer and the reader ask the same.
//!
//! - **I1** Bit `b` of `live` is set exactly while block `b` is live; names below `blocks` were used.
//! - **I2** Threads below `threads` have appeared; `announced[t]` bulk frees of thread `t` are still to
//!   come, and `open` is the number of threads for which that is not 0.
//!
//! Names and numbers are dense, so what a hostile trace can make us remember is one bit for each of
//! its allocations and four bytes for each thread that it has begun. Costs: O(1) an event.
#![forbid(unsafe_code)]

use crate::{BlockId, Event, Fault, FreeKind, Op, ThreadId};

/// What must be known of the events so far.
#[derive(Default)]
pub(crate) struct Checker {
    live: Vec<u64>,
    blocks: u32,
    announced: Vec<u32>,
    open: u32,
    labels: u32,
}

impl Checker {
    /// Nothing has happened yet; marks may name the first `labels` labels.
    pub(crate) fn new(labels: usize) -> Self {
        Self { labels: u32::try_from(labels).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// Block names used so far.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Threads so far.
    pub(crate) fn threads(&self) -> u32 {
        self.announced.len() as u32
    }

    /// Remembers `event`, or says why it cannot happen; then nothing may follow.
    #[inline]
    pub(crate) fn check(&mut self, event: &Event) -> Result<(), Fault> {
        let ThreadId(thread) = event.thread;
        if thread >= self.threads() {
            self.appear(thread)?;
        }
        if self.open > 0 {
            self.check_announced(thread, &event.op)?;
        }
        match event.op {
            Op::Alloc { block, align_log2, .. } => {
                if align_log2 >= 64 {
                    return Err(Fault::Alignment(align_log2));
                }
                self.begin(block)
            }
            Op::Realloc { block, .. } if self.is_live(block) => Ok(()),
            Op::Realloc { block, .. } => Err(Fault::Dead(block)),
            Op::Free { kind: FreeKind::Bulk, .. } if self.announced[thread as usize] == 0 => Err(Fault::Unannounced),
            Op::Free { block, kind } => {
                if kind == FreeKind::Bulk {
                    self.announced[thread as usize] -= 1;
                    self.open -= u32::from(self.announced[thread as usize] == 0);
                }
                self.end(block)
            }
            Op::BulkFree { count } => {
                self.announced[thread as usize] = count;
                self.open += u32::from(count > 0);
                Ok(())
            }
            Op::Mark { label } if label >= self.labels => Err(Fault::Label(label)),
            Op::Mark { .. } | Op::ThreadStart | Op::ThreadEnd | Op::Nothing(_) => Ok(()),
        }
    }

    #[cold]
    fn appear(&mut self, thread: u32) -> Result<(), Fault> {
        if thread != self.threads() || thread == u32::MAX {
            return Err(Fault::Thread(ThreadId(thread)));
        }
        self.announced.push(0);
        Ok(())
    }

    fn check_announced(&self, thread: u32, op: &Op) -> Result<(), Fault> {
        let bulk = matches!(op, Op::Free { kind: FreeKind::Bulk, .. });
        if self.announced[thread as usize] > 0 && !bulk { Err(Fault::Interrupted) } else { Ok(()) }
    }

    fn is_live(&self, BlockId(block): BlockId) -> bool {
        self.live.get(block as usize / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn begin(&mut self, BlockId(block): BlockId) -> Result<(), Fault> {
        if block >= self.blocks {
            if block != self.blocks || block == u32::MAX {
                return Err(Fault::Block(BlockId(block)));
            }
            self.blocks += 1;
            if block % 64 == 0 {
                self.live.push(0);
            }
        }
        self.live[block as usize / 64] |= 1 << (block % 64);
        Ok(())
    }

    fn end(&mut self, BlockId(block): BlockId) -> Result<(), Fault> {
        match self.live.get_mut(block as usize / 64) {
            Some(word) if *word >> (block % 64) & 1 == 1 => {
                *word ^= 1 << (block % 64);
                Ok(())
            }
            _ => Err(Fault::Dead(BlockId(block))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AllocKind;

    fn after(before: &[Op], op: Op) -> Result<(), Fault> {
        let mut checker = Checker::new(1);
        for &op in before {
            checker.check(&Event { thread: ThreadId(0), op }).unwrap();
        }
        checker.check(&Event { thread: ThreadId(0), op })
    }

    const fn alloc(block: u32) -> Op {
        Op::Alloc { block: BlockId(block), len: 1, align_log2: 4, kind: AllocKind::Plain }
    }

    const fn free(block: u32, kind: FreeKind) -> Op {
        Op::Free { block: BlockId(block), kind }
    }

    #[test]
    fn a_dead_block_is_neither_freed_nor_reallocated() {
        let ended = [alloc(0), free(0, FreeKind::Plain)];
        assert_eq!(after(&ended, free(0, FreeKind::Plain)), Err(Fault::Dead(BlockId(0))));
        assert_eq!(after(&ended, free(u32::MAX, FreeKind::Plain)), Err(Fault::Dead(BlockId(u32::MAX))));
        let realloc = Op::Realloc { block: BlockId(0), len: 2, moved: false };
        assert_eq!(after(&ended, realloc), Err(Fault::Dead(BlockId(0))));
        assert_eq!(after(&ended[..1], realloc), Ok(()));
        assert_eq!(after(&ended, alloc(0)), Ok(()));
    }

    #[test]
    fn names_and_numbers_are_dense() {
        assert_eq!(after(&[alloc(0)], alloc(2)), Err(Fault::Block(BlockId(2))));
        assert_eq!(after(&[alloc(0)], alloc(1)), Ok(()));
        let event = Event { thread: ThreadId(1), op: Op::ThreadStart };
        assert_eq!(Checker::new(0).check(&event), Err(Fault::Thread(ThreadId(1))));
    }

    #[test]
    fn bulk_frees_come_as_announced() {
        let bulk = free(0, FreeKind::Bulk);
        assert_eq!(after(&[alloc(0)], bulk), Err(Fault::Unannounced));
        let announced = [alloc(0), alloc(1), Op::BulkFree { count: 2 }];
        assert_eq!(after(&announced, bulk), Ok(()));
        assert_eq!(after(&announced, alloc(2)), Err(Fault::Interrupted));
        assert_eq!(after(&announced, Op::BulkFree { count: 1 }), Err(Fault::Interrupted));
        let done = [alloc(0), Op::BulkFree { count: 1 }, bulk];
        assert_eq!(after(&done, alloc(0)), Ok(()));
    }

    #[test]
    fn a_label_and_an_alignment_are_known() {
        assert_eq!(after(&[], Op::Mark { label: 0 }), Ok(()));
        assert_eq!(after(&[], Op::Mark { label: 1 }), Err(Fault::Label(1)));
        let wide = Op::Alloc { block: BlockId(0), len: 1, align_log2: 64, kind: AllocKind::Aligned };
        assert_eq!(after(&[], wide), Err(Fault::Alignment(64)));
    }
}
