//! Stacks `arena-*`: `SyncArena` decides and asks its backing as Zig's arena does.
//!
//! [`Below`] is the backing of such a script, and of a pool's, with the operations on it alone.

use std::{cell::RefCell, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, ResetMode};
use terrace_heap::{FixedBufferAllocator, SyncArena};

use crate::{
    blocks::Blocks,
    ground::Ground,
    page::ZigPages,
    record::{Names, Recorder},
    script::{Line, Outcome, Script},
};

/// What an arena under judgement stands on.
pub type Backing<'a> = Recorder<&'a dyn Allocator>;

/// The backing of a script.
pub struct Below<'a> {
    pub recorder: Backing<'a>,
    base: &'a dyn Allocator,
    /// The end index, over a fixed buffer.
    end: Option<&'a dyn Fn() -> usize>,
    /// The blocks that the script takes from the base itself.
    pinned: RefCell<Blocks>,
}

impl<'a> Below<'a> {
    fn new(base: &'a dyn Allocator, names: Names, end: Option<&'a dyn Fn() -> usize>) -> Self {
        Self { recorder: Recorder::new(base, names), base, end, pinned: RefCell::default() }
    }

    /// `e N`, `g N`, `p ID LEN ALIGN`, `u ID`; `None`: an operation on the arena.
    pub fn answer(&self, line: &Line) -> Option<String> {
        let mut pinned = self.pinned.borrow_mut();
        match line.op[0].as_str() {
            "e" => self.recorder.refuse_allocs.set(line.number_at(1)),
            "g" => self.recorder.refuse_resizes.set(line.number_at(1)),
            "p" => {
                let block = pinned.alloc(self.base, line);
                if block.is_some() && line.decision() == "null" {
                    pinned.free(self.base, line.id());
                }
                return Some(block.map_or("null".to_string(), |block| self.recorder.name(block.memory.cast())));
            }
            // An arena that stands otherwise than Zig's may have left no room for the block.
            "u" if pinned.find(line.id()).is_none() => {}
            "u" => pinned.free(self.base, line.id()),
            _ => return None,
        }
        Some("ok".to_string())
    }

    /// Whether the base would give a node with a header of `header` bytes and a block of `len`: at the block's alignment, or
    /// with the room to align in.
    pub fn has_room(&self, header: usize, len: usize, alignment: Alignment) -> bool {
        let word = Alignment::of::<usize>();
        let gives = |node_len: usize, alignment: Alignment| {
            let Some(node_len) = NonZeroUsize::new(node_len) else { return false };
            let Ok(start) = self.base.alloc(node_len, alignment) else { return false };
            // SAFETY: just handed out.
            unsafe { self.base.free(NonNull::slice_from_raw_parts(start, node_len.get()), alignment) };
            true
        };
        gives(header.max(alignment.bytes()) + len, alignment.max(word))
            || gives(header + alignment.bytes() - 1 + len, word)
    }

    /// What `q` shows of the backing.
    fn shown(&self) -> String {
        let (nodes, bytes) = self.recorder.holding();
        self.end.map_or_else(|| format!("nodes={nodes} bytes={bytes}"), |end| format!("end={}", end()))
    }
}

/// Runs `judge` over the backing that the script names.
pub fn over_its_backing(script: &Script, judge: fn(&Script, &Below<'_>) -> Outcome) -> Outcome {
    if script.kind() == "arena-page" {
        return judge(script, &Below::new(&ZigPages, Names::Numbers, None));
    }
    // `pool-fba` says first what its items are.
    let at = if script.kind() == "pool-fba" { 4 } else { 1 };
    let mut ground = Ground::new(script.parameter(at), script.parameter(at + 1));
    let names = Names::Offsets { origin: ground.origin(), prefix: "" };
    let fixed = FixedBufferAllocator::new(ground.buffer());
    judge(script, &Below::new(&fixed, names, Some(&|| fixed.end_index())))
}

pub fn replay(script: &Script) -> Outcome {
    over_its_backing(script, |script, below| {
        let mut arena = SyncArena::new(&below.recorder);
        let mut blocks = Blocks::default();
        script.compare(|line| {
            if let Some(answer) = below.answer(line) {
                return answer;
            }
            let answer = blocks.answer(&arena, line, &|start| below.recorder.name(start));
            let decision = answer.unwrap_or_else(|| match line.op[0].as_str() {
                "q" => format!("cap={} {}", arena.query_capacity(), below.shown()),
                "x" => {
                    blocks.clear();
                    arena.reset(reset_mode(line)).to_string()
                }
                "d" => {
                    blocks.clear();
                    arena = SyncArena::new(&below.recorder);
                    "ok".to_string()
                }
                other => panic!("an operation that the README does not name: {other}"),
            });
            below.recorder.with_requests(decision)
        })
    })
}

/// `x MODE [N]`
pub fn reset_mode(line: &Line) -> ResetMode {
    match line.op[1].as_str() {
        "free_all" => ResetMode::FreeAll,
        "retain_capacity" => ResetMode::RetainCapacity,
        "retain_with_limit" => ResetMode::RetainWithLimit(line.number_at(2)),
        other => panic!("a mode that the README does not name: {other}"),
    }
}
