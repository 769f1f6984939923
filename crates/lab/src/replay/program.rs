//! A trace made ready to run: what the replayer does, one small record for each call.
//!
//! ```text
//! events ──Builder──▶ Program { ops: [Op; n], threads: [thread of each op; n], lives, leftovers }
//!                       recorded order over all threads; 24 bytes an op
//! ```
//!
//! Everything that can be known before the run is settled here, so that the timed loop looks
//! nothing up: the length and alignment that a free must pass, blocks of zero bytes (served
//! without a call), names that were never allocated, the calls that are timed alone.
//!
//! - **P1** For each slot, in order of `ops`, the calls read `Alloc (Realloc)* Free …`, each
//!   `old_len` is the length that the call before gave the slot, and all of them name its alignment.
//! - **P2** `len` of an `Alloc` or `Realloc` is not zero; `slot < slots <= ops.len()`; `threads[i] < lives.len()`.
//! - **P3** `leftovers` frees exactly the blocks that `ops` leaves live.
//!
//! Cost: one pass over the events, 28 bytes each.
#![forbid(unsafe_code)]

use std::fmt;

use terrace_trace::{AllocKind, Event, Op as Traced};

/// What is asked of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Alloc,
    AllocZeroed,
    Realloc,
    Free,
}

/// One call of the program, in the order that memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// Length afterwards; 0 for a free.
    pub len: u64,
    /// Length before; 0 for an allocation.
    pub old_len: u64,
    pub slot: u32,
    pub call: Call,
    pub align_log2: u8,
    /// Timed alone, for the percentiles.
    pub sampled: bool,
}

/// From which op to which a thread of the recorded program lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Index of the op before which the thread is born.
    pub born: u64,
    /// Whether the trace saw its end; otherwise it stays until the whole program has ended.
    pub ends: bool,
}

/// A trace, ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub slots: u32,
    pub ops: Vec<Op>,
    pub threads: Vec<u32>,
    pub lives: Vec<Life>,
    /// Frees that end what the trace left live, so that every run ends empty.
    pub leftovers: Vec<Op>,
    /// Index of the op after which most bytes were live.
    pub peak_at: u64,
    pub peak_live_bytes: u64,
    /// Bytes of all allocations together: what a stack that keeps everything must hold.
    pub total_bytes: u64,
    /// Allocations of zero bytes, served without a call.
    pub empty_blocks: u64,
}

/// Why a program from elsewhere cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inconsistent(pub usize);

impl fmt::Display for Inconsistent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of the replay program does not fit the calls before it", self.0)
    }
}

impl std::error::Error for Inconsistent {}

impl Program {
    /// The longest block that each thread asks for.
    pub fn longest_by_thread(&self) -> Vec<u64> {
        let mut longest = vec![0; self.lives.len()];
        for (op, thread) in self.ops.iter().zip(&self.threads) {
            let of_thread = &mut longest[*thread as usize];
            *of_thread = op.len.max(*of_thread);
        }
        longest
    }

    /// Requests for a new block.
    pub fn requests(&self) -> u64 {
        self.ops.iter().filter(|op| matches!(op.call, Call::Alloc | Call::AllocZeroed)).count() as u64
    }

    /// Marks about one op in 64 to be timed alone, others for each seed.
    pub fn sample(&mut self, seed: u64) {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for op in &mut self.ops {
            // xorshift64: cheap, and without a period that lines up with an allocator's refills.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            op.sampled = state >> 58 == 0;
        }
    }

    /// Checks P1 to P3, on which the unsafe code of the replay rests.
    ///
    /// # Errors
    /// The index of the first call that breaks them.
    pub fn validate(&self) -> Result<(), Inconsistent> {
        if self.threads.len() != self.ops.len() || self.slots as usize > self.ops.len() {
            return Err(Inconsistent(0));
        }
        let mut lens = vec![(0, 0); self.slots as usize];
        for (index, op) in self.ops.iter().chain(&self.leftovers).enumerate() {
            let thread_known = self.threads.get(index).is_none_or(|thread| (*thread as usize) < self.lives.len());
            let fits = lens.get_mut(op.slot as usize).is_some_and(|block| fits(op, block));
            if !fits || !thread_known {
                return Err(Inconsistent(index));
            }
        }
        match lens.iter().all(|(len, _)| *len == 0) {
            true => Ok(()),
            false => Err(Inconsistent(self.ops.len() + self.leftovers.len())),
        }
    }
}

/// Whether `op` may follow on a block of this length and alignment, which it then changes.
fn fits(op: &Op, (len, align_log2): &mut (u64, u8)) -> bool {
    let fits = match op.call {
        Call::Alloc | Call::AllocZeroed => *len == 0 && op.old_len == 0 && op.len > 0 && op.align_log2 < 64,
        Call::Realloc => *len > 0 && op.old_len == *len && op.len > 0 && op.align_log2 == *align_log2,
        Call::Free => *len > 0 && op.old_len == *len && op.len == 0 && op.align_log2 == *align_log2,
    };
    (*len, *align_log2) = (op.len, op.align_log2);
    fits
}

/// Makes a [`Program`] of events in the recorded order.
#[derive(Default)]
pub struct Builder {
    program: Program,
    blocks: Vec<Block>,
    /// Slots whose block has ended; the last is taken first.
    free: Vec<u32>,
    live_bytes: u64,
}

/// What a block's name stands for now.
#[derive(Clone, Copy, Default)]
struct Block {
    len: u64,
    /// Where `len` is not zero.
    slot: u32,
    align_log2: u8,
    /// Also with length 0.
    live: bool,
}

impl Builder {
    /// The next event, of those that a `Reader` has checked: its names are dense, so the tables here are
    /// no longer than the trace.
    pub fn push(&mut self, event: Event) {
        let thread = event.thread.0;
        self.appear(thread);
        match event.op {
            Traced::Alloc { block, len, align_log2, kind } => {
                // An older block of that name ended unseen.
                self.end(block.0, thread);
                let align_log2 = natural_alignment(len, align_log2, kind);
                self.begin(block.0, thread, len, align_log2, kind == AllocKind::Zeroed);
            }
            Traced::Realloc { block, len, .. } => self.resize(block.0, thread, len),
            Traced::Free { block, .. } => self.end(block.0, thread),
            Traced::ThreadEnd => self.program.lives[thread as usize].ends = true,
            // The frees of a bulk free follow one by one.
            Traced::BulkFree { .. } | Traced::ThreadStart | Traced::Mark { .. } | Traced::Nothing(_) => {}
        }
    }

    pub fn finish(mut self) -> Program {
        for block in self.blocks.iter().filter(|block| block.len > 0) {
            self.program.leftovers.push(op(Call::Free, block.slot, 0, block.len, block.align_log2));
        }
        self.program
    }

    fn appear(&mut self, thread: u32) {
        let born = self.program.ops.len() as u64;
        while self.program.lives.len() <= thread as usize {
            self.program.lives.push(Life { born, ends: false });
        }
    }

    fn block(&mut self, name: u32) -> &mut Block {
        if self.blocks.len() <= name as usize {
            self.blocks.resize(name as usize + 1, Block::default());
        }
        &mut self.blocks[name as usize]
    }

    fn begin(&mut self, name: u32, thread: u32, len: u64, align_log2: u8, zeroed: bool) {
        if len == 0 {
            self.program.empty_blocks += 1;
            *self.block(name) = Block { align_log2, live: true, ..Block::default() };
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.program.slots += 1;
            self.program.slots - 1
        });
        *self.block(name) = Block { len, slot, align_log2, live: true };
        let call = if zeroed { Call::AllocZeroed } else { Call::Alloc };
        self.emit(thread, op(call, slot, len, 0, align_log2));
    }

    fn resize(&mut self, name: u32, thread: u32, len: u64) {
        let Block { len: old_len, slot, align_log2, live } = *self.block(name);
        match (old_len, len) {
            (0, _) => {
                let align_log2 = natural_alignment(len, if live { align_log2 } else { 0 }, AllocKind::Plain);
                self.begin(name, thread, len, align_log2, false);
            }
            (_, 0) => {
                self.end(name, thread);
                self.begin(name, thread, 0, align_log2, false);
            }
            _ => {
                self.block(name).len = len;
                self.emit(thread, op(Call::Realloc, slot, len, old_len, align_log2));
            }
        }
    }

    fn end(&mut self, name: u32, thread: u32) {
        let block = std::mem::take(self.block(name));
        if block.len > 0 {
            self.free.push(block.slot);
            self.emit(thread, op(Call::Free, block.slot, 0, block.len, block.align_log2));
        }
    }

    fn emit(&mut self, thread: u32, op: Op) {
        self.live_bytes = (self.live_bytes - op.old_len).saturating_add(op.len);
        self.program.total_bytes = self.program.total_bytes.saturating_add(op.len);
        if self.live_bytes > self.program.peak_live_bytes {
            self.program.peak_live_bytes = self.live_bytes;
            self.program.peak_at = self.program.ops.len() as u64;
        }
        self.program.ops.push(op);
        self.program.threads.push(thread);
    }
}

fn op(call: Call, slot: u32, len: u64, old_len: u64, align_log2: u8) -> Op {
    Op { len, old_len, slot, call, align_log2, sampled: false }
}

/// What `malloc` promises on 64-bit machines: 16 bytes.
const MALLOC_ALIGN_LOG2: u8 = 4;

/// `malloc` promises 16 bytes of alignment, but no object of 3 bytes needs more than 2: such a request
/// is passed on with what an object of its size can need, as callers of sized interfaces do it.
/// An alignment that the caller wished for stays.
fn natural_alignment(len: u64, align_log2: u8, kind: AllocKind) -> u8 {
    let promised = if align_log2 == 0 { MALLOC_ALIGN_LOG2 } else { align_log2.min(63) };
    match kind {
        AllocKind::Aligned => align_log2.min(63),
        _ => promised.min(len.checked_ilog2().unwrap_or(0) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_trace::{BlockId, FreeKind, ThreadId};

    fn alloc(block: u32, len: u64) -> Traced {
        Traced::Alloc { block: BlockId(block), len, align_log2: 0, kind: AllocKind::Plain }
    }

    fn realloc(block: u32, len: u64) -> Traced {
        Traced::Realloc { block: BlockId(block), len, moved: true }
    }

    fn free(block: u32) -> Traced {
        Traced::Free { block: BlockId(block), kind: FreeKind::Plain }
    }

    fn program(ops: &[Traced]) -> Program {
        let mut builder = Builder::default();
        for &op in ops {
            builder.push(Event { thread: ThreadId(0), op });
        }
        let program = builder.finish();
        program.validate().unwrap();
        program
    }

    fn calls(program: &Program) -> Vec<(Call, u64, u64)> {
        program.ops.iter().map(|op| (op.call, op.old_len, op.len)).collect()
    }

    #[test]
    fn frees_carry_the_length_of_the_last_realloc() {
        let program = program(&[alloc(0, 10), realloc(0, 100), free(0)]);
        assert_eq!(calls(&program), [(Call::Alloc, 0, 10), (Call::Realloc, 10, 100), (Call::Free, 100, 0)]);
        assert_eq!((program.peak_live_bytes, program.peak_at, program.total_bytes), (100, 1, 110));
    }

    #[test]
    fn blocks_of_zero_bytes_reach_no_allocator() {
        let program = program(&[alloc(0, 0), realloc(0, 8), realloc(0, 0), free(0), alloc(1, 0)]);
        assert_eq!(calls(&program), [(Call::Alloc, 0, 8), (Call::Free, 8, 0)]);
        assert_eq!(program.empty_blocks, 3);
    }

    #[test]
    fn a_name_taken_twice_ends_the_older_block() {
        let program = program(&[alloc(0, 8), alloc(0, 16)]);
        assert_eq!(calls(&program), [(Call::Alloc, 0, 8), (Call::Free, 8, 0), (Call::Alloc, 0, 16)]);
        assert_eq!(program.leftovers, [op(Call::Free, 0, 0, 16, 4)]);
    }

    #[test]
    fn frees_and_reallocs_of_unknown_names_do_no_harm() {
        let program = program(&[free(7), realloc(3, 5), free(3), free(3)]);
        assert_eq!(calls(&program), [(Call::Alloc, 0, 5), (Call::Free, 5, 0)]);
    }

    #[test]
    fn a_free_of_another_length_is_found() {
        let mut program = program(&[alloc(0, 8), free(0)]);
        program.ops[1].old_len = 9;
        assert_eq!(program.validate(), Err(Inconsistent(1)));
        program.ops.pop();
        program.threads.pop();
        assert_eq!(program.validate(), Err(Inconsistent(1)), "a block is left that nothing frees");
    }

    #[test]
    fn about_one_op_in_64_is_sampled() {
        let mut program = Program { ops: vec![op(Call::Alloc, 0, 1, 0, 0); 64_000], ..Program::default() };
        program.sample(1);
        let first: Vec<bool> = program.ops.iter().map(|op| op.sampled).collect();
        let count = first.iter().filter(|sampled| **sampled).count();
        assert!((800..1200).contains(&count), "{count}");
        program.sample(2);
        assert!(program.ops.iter().zip(first).any(|(op, before)| op.sampled != before), "another seed, other ops");
    }

    #[test]
    fn small_plain_requests_ask_for_no_more_alignment_than_they_can_need() {
        assert_eq!(
            [1, 2, 3, 15, 16, 24, 4096].map(|len| natural_alignment(len, 0, AllocKind::Plain)),
            [0, 1, 1, 3, 4, 4, 4]
        );
        assert_eq!([3, 64].map(|len| natural_alignment(len, 3, AllocKind::Plain)), [1, 3], "as a Rust program says it");
        assert_eq!(natural_alignment(64, 0, AllocKind::Aligned), 0, "asked for by name");
    }
}
