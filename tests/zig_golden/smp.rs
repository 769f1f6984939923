//! Stack `smp`: `SmpAllocator` decides by its own table of classes as Zig's does by powers of two.
//!
//! ```text
//!              small → small                small ↔ large   large → large
//!   resize     true: the class is the same  false           true where Zig's is, the page rule; more is undone
//!   remap      same: the class is the same  null            as good as Zig's, likewise
//!   alloc      ok where Zig's is
//! ```
//!
//! Both sides of that are checked at each operation: that Zig's answer follows from Zig's classes, and ours from ours. Where the
//! two tables differ the answers may, and that is counted by name. The script then goes on from Zig's state, as a caller who
//! is refused would: the block is allocated anew, copied and freed, or gets its former length back.

use std::{collections::BTreeMap, num::NonZeroUsize};

use terrace_core::{Alignment, Allocator, GoodSize};
use terrace_heap::{SmpAllocator, smp};
use terrace_sys::{PageAllocator, ThreadSlots, page_size};

use crate::{
    blocks::{Block, Blocks},
    page::{anew, as_good, decide, undo},
    script::{Outcome, Script},
};

type Smp = SmpAllocator<PageAllocator, ThreadSlots>;

const PAGE: usize = 4096;
/// In both tables.
const LARGEST: usize = 32 << 10;

const APART: &str = "another class table: one of ours is two of Zig's";
const FINER: &str = "another class table: one of Zig's is two of ours";

const RUN: &str = "a run in a region: it grows where the pages behind it are free, and never moves";

pub fn replay(script: &Script) -> Outcome {
    if page_size() != PAGE {
        return Outcome::excepted(script, "the decisions are those of pages of 4096 bytes");
    }
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    let mut blocks = Blocks::default();
    let mut outcome = Outcome::default();
    for line in script.each() {
        let before = line.op.get(1).and_then(|_| blocks.find(line.id()));
        let (ours, zigs) = (decide(&smp, line, &mut blocks), line.decision());
        outcome.compared += 1;
        let place = || script.place(line);
        let change = before.filter(|_| matches!(line.op[0].as_str(), "r" | "m"));
        let small = change.filter(|old| is_small(old.len(), old.alignment));
        let Some(old) = small.filter(|old| is_small(line.number_at(2), old.alignment)) else {
            // Where one of the two is large both refuse; what ours grants beyond Zig's, from large to large, is undone. Only the
            // system can move pages without a copy, and not those of a run in a region.
            if ours == "null" && zigs == "ok" && change.is_some_and(is_run) {
                *outcome.differences.entry(RUN).or_default() += 1;
                anew(&smp, line.id(), line.number_at(2), &mut blocks);
                continue;
            }
            assert!(as_good(&ours, zigs), "ours: {ours}, at {}", place());
            assert!(small.is_none() || ours == zigs, "a small block became a large one: {ours}, at {}", place());
            if ours != zigs {
                outcome.beyond += 1;
                undo(&smp, line.id(), before, &mut blocks);
            }
            continue;
        };
        let new: usize = line.number_at(2);
        let stays = class(&smp, old.len(), old.alignment) == class(&smp, new, old.alignment);
        let stays_in_zigs = zigs_class(old.len(), old.alignment) == zigs_class(new, old.alignment);
        let granted = |answer: &str| !matches!(answer, "false" | "null");
        assert_eq!(granted(&ours), stays, "ours, by our classes, at {}", place());
        assert_eq!(granted(zigs), stays_in_zigs, "Zig's, by Zig's classes, at {}", place());
        match (stays, stays_in_zigs) {
            (true, false) => {
                *outcome.differences.entry(APART).or_default() += 1;
                undo(&smp, line.id(), before, &mut blocks);
            }
            (false, true) => {
                *outcome.differences.entry(FINER).or_default() += 1;
                anew(&smp, line.id(), new, &mut blocks);
            }
            _ => {}
        }
    }
    blocks.free_all(&smp);
    smp.trim();
    let out: usize = (0..).map_while(|class| smp.class_stats(class)).map(|stats| stats.blocks_out).sum();
    assert_eq!(out, 0, "{}: every block has come back", script.name);
    outcome
}

const fn is_small(len: usize, alignment: Alignment) -> bool {
    len <= LARGEST && alignment.bytes() <= LARGEST
}

/// Whether a block that is not small may be a run in a region of ours.
fn is_run(block: Block) -> bool {
    !is_small(block.len(), block.alignment) && block.len() <= smp::REGION && block.alignment.bytes() <= LARGEST
}

/// Our class, told by what a request is rounded up to.
fn class(smp: &Smp, len: usize, alignment: Alignment) -> usize {
    smp.good_size(NonZeroUsize::new(len).expect("a length"), alignment).get()
}

/// Zig's class as its size: max(ceil log2 len, alignment, 3).
fn zigs_class(len: usize, alignment: Alignment) -> usize {
    len.next_power_of_two().max(alignment.bytes()).max(8)
}

/// `resize` is granted exactly within a class, from every length to both sides of every boundary of either table.
pub fn every_length() -> BTreeMap<&'static str, usize> {
    let smp: Smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    let mut ends: Vec<usize> = (1..=LARGEST)
        .filter(|&len| len.is_power_of_two() || class(&smp, len, Alignment::ONE) == len)
        .flat_map(|end| [end, end + 1])
        .collect();
    ends.push(1);
    let mut seen = BTreeMap::new();
    for len in 1..=LARGEST {
        let size = NonZeroUsize::new(len).expect("from 1");
        let start = smp.alloc(size, Alignment::ONE).expect("memory");
        let mut memory = std::ptr::NonNull::slice_from_raw_parts(start, len);
        for &new in &ends {
            let ours = new <= LARGEST && class(&smp, memory.len(), Alignment::ONE) == class(&smp, new, Alignment::ONE);
            let zigs = new <= LARGEST && zigs_class(memory.len(), Alignment::ONE) == zigs_class(new, Alignment::ONE);
            let new = NonZeroUsize::new(new).expect("from 1");
            // SAFETY: live, with its length.
            let granted = unsafe { smp.resize(memory, Alignment::ONE, new) };
            assert_eq!(granted, ours, "{len} to {new}");
            if granted {
                memory = std::ptr::NonNull::slice_from_raw_parts(start, new.get());
            }
            let kind = match (ours, zigs) {
                (true, false) => APART,
                (false, true) => FINER,
                _ => "as Zig's",
            };
            *seen.entry(kind).or_default() += 1;
        }
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(memory, Alignment::ONE) };
    }
    seen
}
