//! How a program of many threads is cut up so that its threads run freely and yet in order.
//!
//! ```text
//! recorded   │ a a b a c b b a │ a c c b a b c c │ …        epochs of EPOCH calls
//! thread a   │ a a a a         │ a a             │          one chunk for each epoch it calls in
//! thread b   │ b b b           │ b b             │
//!              └ two epochs are open: nobody runs further ahead
//! slot 7     a:0 b:1 a:2                                     turns: the calls on a slot wait for one another
//! ```
//!
//! - **O1** Concatenating a thread's chunks gives its calls in the recorded order.
//! - **O2** The `turn` of a call is the number of earlier calls on its slot.
//! - **O3** `epochs[e].calls` is the number of calls in epoch `e` over all threads.
//!
//! The earliest call that was not yet made can always be made (its epoch is open, its slot's turn
//! has come, its thread has made all its earlier calls), so no replay waits for ever. At any
//! moment all calls up to some call, and none later than `2 * EPOCH` after it, have been made: so
//! the peaks differ from the recorded ones by what `2 * EPOCH` calls allocate, at most.
//!
//! Cost: one pass, 28 bytes a call.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::program::{Op, Program};

/// Calls in an epoch: enough that threads overlap, few enough that they stay together.
pub const EPOCH: usize = 512;

/// What one thread does.
#[derive(Debug, Default)]
pub struct Part {
    pub ops: Vec<Op>,
    /// Of each op, its turn on its slot.
    pub turns: Vec<u32>,
    pub chunks: Vec<Chunk>,
    /// The epoch in which the thread is born.
    pub born: usize,
    /// Whether it ends after its last chunk; otherwise it stays to the end.
    pub ends: bool,
}

/// Calls of one thread in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub epoch: usize,
    pub ops: Range<usize>,
}

/// A program, cut up.
#[derive(Debug)]
pub struct Parts {
    pub threads: Vec<Part>,
    /// Of each epoch, how many calls it has.
    pub epochs: Vec<u32>,
}

pub fn cut(program: &Program) -> Parts {
    let count = program.ops.len().div_ceil(EPOCH);
    let mut epochs = vec![EPOCH as u32; count];
    if let Some(last) = epochs.last_mut() {
        *last = (program.ops.len() - (count - 1) * EPOCH) as u32;
    }
    let mut threads: Vec<Part> = program.lives.iter().map(|_| Part::default()).collect();
    for (part, life) in threads.iter_mut().zip(&program.lives) {
        // A thread that appears after the last call is born with it.
        part.born = (life.born as usize / EPOCH).min(count.saturating_sub(1));
        part.ends = life.ends;
    }
    let mut turns = vec![0u32; program.slots as usize];
    for (index, (op, thread)) in program.ops.iter().zip(&program.threads).enumerate() {
        let part = &mut threads[*thread as usize];
        let (epoch, at) = (index / EPOCH, part.ops.len());
        match part.chunks.last_mut() {
            Some(chunk) if chunk.epoch == epoch => chunk.ops.end = at + 1,
            _ => part.chunks.push(Chunk { epoch, ops: at..at + 1 }),
        }
        let turn = &mut turns[op.slot as usize];
        part.ops.push(*op);
        part.turns.push(*turn);
        *turn = turn.wrapping_add(1);
    }
    Parts { threads, epochs }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Call, Life};
    use super::*;
    use proptest::prelude::*;

    fn program(calls: &[(u32, u32)]) -> Program {
        let op = |slot| Op { len: 1, old_len: 0, slot, call: Call::Alloc, align_log2: 0, sampled: false };
        Program {
            slots: 8,
            ops: calls.iter().map(|(_, slot)| op(*slot)).collect(),
            threads: calls.iter().map(|(thread, _)| *thread).collect(),
            lives: vec![Life { born: 0, ends: true }; 4],
            ..Program::default()
        }
    }

    proptest! {
        #[test]
        fn every_call_is_in_one_chunk_in_order_with_its_turn(
            calls in proptest::collection::vec((0u32..4, 0u32..8), 0..4 * EPOCH)
        ) {
            let program = program(&calls);
            let parts = cut(&program);
            for (thread, part) in (0..).zip(&parts.threads) {
                let own: Vec<u32> = calls.iter().filter(|call| call.0 == thread).map(|call| call.1).collect();
                prop_assert_eq!(part.ops.iter().map(|op| op.slot).collect::<Vec<_>>(), own);
                let mut at = 0;
                for chunk in &part.chunks {
                    prop_assert_eq!(chunk.ops.start, at);
                    at = chunk.ops.end;
                }
                prop_assert_eq!(at, part.ops.len());
                prop_assert!(part.chunks.is_sorted_by(|a, b| a.epoch < b.epoch));
            }
            for (epoch, count) in parts.epochs.iter().enumerate() {
                let of_epoch = parts.threads.iter().flat_map(|part| &part.chunks).filter(|chunk| chunk.epoch == epoch);
                prop_assert_eq!(of_epoch.map(|chunk| chunk.ops.len()).sum::<usize>(), *count as usize);
            }
            for slot in 0..8 {
                let turns = parts.threads.iter().flat_map(|part| part.ops.iter().zip(&part.turns));
                let mut turns: Vec<u32> = turns.filter(|(op, _)| op.slot == slot).map(|(_, turn)| *turn).collect();
                turns.sort_unstable();
                prop_assert_eq!(turns.len(), calls.iter().filter(|call| call.1 == slot).count());
                prop_assert!(turns.iter().copied().eq(0..turns.len() as u32));
            }
        }
    }
}
