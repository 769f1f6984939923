//! Random valid events, for the tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use terrace_trace::{AllocKind, BlockId, BlockNames, Event, FreeKind, Nothing, Op, ThreadId};

/// Turns random words into events that can follow each other, with `labels` labels.
pub fn valid_events(words: &[u64], labels: u32) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut names, mut live, mut threads) = (BlockNames::default(), Vec::new(), 0);
    for &word in words {
        let pick = |bits: u32, below: u32| (word >> bits) as u32 % below.max(1);
        let thread = ThreadId(pick(8, threads + 1));
        threads = threads.max(thread.0 + 1);
        let len = (word.rotate_left(17)) >> pick(16, 64);
        let kind =
            [AllocKind::Plain, AllocKind::Zeroed, AllocKind::Aligned, AllocKind::FromRealloc][pick(24, 4) as usize];
        let at = pick(32, live.len() as u32) as usize;
        let op = match word % 16 {
            0..=5 => {
                let block = names.take();
                live.push(block);
                Op::Alloc { block, len, align_log2: pick(40, 64) as u8, kind }
            }
            6..=8 if !live.is_empty() => {
                let block = live.swap_remove(at);
                names.give_back(block);
                let kinds = [FreeKind::Plain, FreeKind::FromRealloc, FreeKind::Overlap];
                Op::Free { block, kind: kinds[pick(24, 3) as usize] }
            }
            9 | 10 if !live.is_empty() => Op::Realloc { block: live[at], len, moved: word >> 63 == 1 },
            11 if !live.is_empty() => Op::Alloc { block: live[at], len, align_log2: 0, kind },
            12 => {
                let bulk: Vec<BlockId> = live.drain(at.min(live.len())..).collect();
                events.push(Event { thread, op: Op::BulkFree { count: bulk.len() as u32 } });
                for block in bulk {
                    names.give_back(block);
                    events.push(Event { thread, op: Op::Free { block, kind: FreeKind::Bulk } });
                }
                continue;
            }
            13 => Op::ThreadStart,
            14 => Op::ThreadEnd,
            15 if labels > 0 => Op::Mark { label: pick(40, labels) },
            _ => Op::Nothing(
                [Nothing::FreeNull, Nothing::FreeUnknown, Nothing::ReallocUnknown, Nothing::Failed { kind, len }]
                    [pick(40, 4) as usize],
            ),
        };
        events.push(Event { thread, op });
    }
    events
}

/// A small generator with a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
