//! Stacks `arena-*` on `ArenaAllocator`, which decides by a law of its own: it is judged by that law after every operation.
//!
//! - the end offset is the live bytes, the padding, and what was freed but was not last;
//! - a refusal changes nothing;
//! - bytes held ≤ 1.5 × (most in use since the last reset + request + alignment) + 64 a node, beside what the last
//!   reset retained; where more is held, closed nodes having lost their ends, a request takes no more than it needs;
//! - no block is refused that Zig's arena hands out, and no reset fails that Zig's performs, unless the backing
//!   refused: on the script's command, or since a fixed buffer had no room for the block and its header. Its room is
//!   tried each time.
//!
//! A block grows where it is as far as its node goes, and the nodes of the two arenas end elsewhere. Where
//! only Zig's can grow a block, the judge does what a caller does: it allocates, copies and frees.

use std::{collections::HashMap, ptr::NonNull};

use terrace_core::{Alignment, Allocator, ResetMode};
use terrace_heap::ArenaAllocator;

use crate::{
    arena::{Backing, Below, over_its_backing, reset_mode},
    blocks::{Block, Blocks},
    script::{Line, Outcome, Script},
};

/// Why an operation is not compared.
pub const REFUSED_ON_COMMAND: &str = "the script's refusal met a request that Zig's arena does not make";
pub const FULL: &str = "the buffer is full: between the script's pins our nodes lie otherwise than Zig's";

/// The header of a node.
pub const HEADER: usize = 4 * size_of::<usize>();

pub fn replay(script: &Script) -> Outcome {
    over_its_backing(script, |script, below| {
        let mut judge = Judge {
            arena: ArenaAllocator::new(&below.recorder),
            below,
            blocks: Blocks::default(),
            missing: HashMap::new(),
            law: Law::default(),
            outcome: Outcome::default(),
        };
        let mut zigs = Held::default();
        for line in script.each() {
            let seen = judge.step(line);
            zigs.follow(line);
            judge.look(&script.place(line));
            judge.outcome.note(seen, &script.place(line));
        }
        judge.outcome.most_held.extend(script.most_held(below.recorder.most_held.get(), zigs.most));
        judge.outcome
    })
}

/// What became of an operation.
pub enum Seen {
    Compared,
    Excepted(&'static str),
    /// Refused without a reason.
    Worse,
}

impl Below<'_> {
    /// A request of `len` bytes that Zig's arena serves was refused by ours.
    pub fn why_refused(&self, on_command: bool, len: usize, alignment: Alignment) -> Seen {
        match on_command {
            true => Seen::Excepted(REFUSED_ON_COMMAND),
            false if !self.has_room(HEADER, len, alignment) => Seen::Excepted(FULL),
            false => Seen::Worse,
        }
    }
}

impl Outcome {
    pub fn note(&mut self, seen: Seen, place: &str) {
        match seen {
            Seen::Compared => self.compared += 1,
            Seen::Excepted(why) => *self.exceptions.entry(why).or_default() += 1,
            Seen::Worse => panic!("Zig's grants it, ours refuses, at {place}"),
        }
    }
}

/// What the law says, from the operations alone.
#[derive(Default)]
struct Law {
    /// Where the last block ends; 0 before there is one.
    next: usize,
    used: usize,
    most_used: usize,
    retained: usize,
}

struct Judge<'b, 'a> {
    arena: ArenaAllocator<&'b Backing<'a>>,
    below: &'b Below<'a>,
    blocks: Blocks,
    /// Why a block is not there that Zig's arena has handed out.
    missing: HashMap<u32, &'static str>,
    law: Law,
    outcome: Outcome,
}

impl Judge<'_, '_> {
    fn step(&mut self, line: &Line) -> Seen {
        match line.op[0].as_str() {
            "a" => {
                let seen = self.alloc(line);
                if let Seen::Excepted(why) = seen {
                    self.missing.insert(line.id(), why);
                }
                return seen;
            }
            "x" => return self.reset(line),
            "r" | "m" | "f" if self.blocks.find(line.id()).is_none() => {
                return Seen::Excepted(self.missing[&line.id()]);
            }
            "r" | "m" => return self.resize(line),
            "f" => {
                self.freed(self.blocks.get(line.id()));
                self.blocks.free(&self.arena, line.id());
            }
            "d" => {
                self.arena = ArenaAllocator::new(&self.below.recorder);
                self.blocks.clear();
                self.law = Law::default();
            }
            "q" => {}
            other => assert!(self.below.answer(line).is_some(), "an operation that the README does not name: {other}"),
        }
        Seen::Compared
    }

    /// What must be true after every operation.
    fn look(&self, place: &str) {
        assert_eq!(self.arena.held_bytes(), self.below.recorder.holding().1, "held bytes at {place}");
        assert_eq!(self.arena.used_bytes(), self.law.used, "the end offset at {place}");
    }

    fn alloc(&mut self, line: &Line) -> Seen {
        let (refused_before, held_before) = (self.below.recorder.refused.get(), self.arena.held_bytes());
        let ours = self.blocks.alloc(&self.arena, line);
        let refused_on_command = self.below.recorder.refused.get() > refused_before;
        let granted_by_zig = line.decision() != "null";
        let Some(block) = ours else {
            assert_eq!(self.arena.held_bytes(), held_before, "a refusal changes nothing");
            let alignment = Alignment::from_log2(line.number_at(3)).expect("an alignment");
            return match granted_by_zig {
                false => Seen::Compared,
                true => self.below.why_refused(refused_on_command, line.number_at(2), alignment),
            };
        };
        self.made(block, held_before);
        if !granted_by_zig {
            self.outcome.beyond += 1;
            self.freed(block);
            self.blocks.free(&self.arena, line.id());
        }
        Seen::Compared
    }

    /// A block has been handed out where `held_before` bytes were held.
    fn made(&mut self, block: Block, held_before: usize) {
        let law = &mut self.law;
        let used = self.arena.used_bytes();
        let padding = used.checked_sub(law.used + block.len()).expect("the block counts as in use");
        assert!(padding < block.alignment.bytes(), "{padding} bytes of padding");
        if self.arena.held_bytes() > held_before {
            let base = law.most_used + block.len() + block.alignment.bytes();
            let need = HEADER + block.len() + block.alignment.bytes();
            assert_held(self.below, base, law.retained, held_before + need);
        } else if law.next != 0 {
            assert_eq!(block.start() - law.next, padding, "bumped from the last block's end");
        }
        law.next = block.end();
        law.used = used;
        law.most_used = law.most_used.max(used);
    }

    /// A block is about to be freed.
    fn freed(&mut self, block: Block) {
        if block.end() == self.law.next {
            self.law.next = block.start();
            self.law.used -= block.len();
        }
    }

    fn resize(&mut self, line: &Line) -> Seen {
        let (before, held_before) = (self.blocks.get(line.id()), self.arena.held_bytes());
        let granted = match line.op[0].as_str() {
            "r" => self.blocks.resize(&self.arena, line),
            _ => {
                self.blocks.remap(&self.arena, line).inspect(|&start| assert_eq!(start, before.memory.cast())).is_some()
            }
        };
        let last = before.end() == self.law.next;
        let new_len = line.number_at::<usize>(2);
        assert!(granted || new_len > before.len(), "every shrink is granted");
        assert!(!granted || last || new_len <= before.len(), "only the last block grows");
        assert_eq!(self.arena.held_bytes(), held_before, "a resize asks the backing for nothing");
        if granted && last {
            self.law.next = before.start() + new_len;
            self.law.used = self.law.used - before.len() + new_len;
            self.law.most_used = self.law.most_used.max(self.law.used);
        }
        match (granted, matches!(line.decision(), "false" | "null")) {
            (true, true) => self.undo(line.id(), before),
            (false, false) => return self.move_it(line.id(), before, new_len),
            _ => {}
        }
        Seen::Compared
    }

    /// Only our arena could let the block grow: back to Zig's state.
    fn undo(&mut self, id: u32, before: Block) {
        self.outcome.beyond += 1;
        let old_len = before.len().try_into().expect("a live block");
        // SAFETY: live, with its alignment.
        assert!(unsafe { self.arena.resize(self.blocks.get(id).memory, before.alignment, old_len) });
        self.blocks.set(id, before.memory.cast(), old_len, before.alignment);
        self.law.next = before.end();
        self.law.used = self.arena.used_bytes();
    }

    /// Only Zig's arena could let the block grow: what its caller does then.
    fn move_it(&mut self, id: u32, before: Block, new_len: usize) -> Seen {
        let (held_before, alignment) = (self.arena.held_bytes(), before.alignment);
        let refused_before = self.below.recorder.refused.get();
        let new_len = new_len.try_into().expect("a length");
        let Ok(start) = self.arena.alloc(new_len, alignment) else {
            let refused_on_command = self.below.recorder.refused.get() > refused_before;
            return self.below.why_refused(refused_on_command, new_len.get(), alignment);
        };
        self.outcome.moved += 1;
        let memory = NonNull::slice_from_raw_parts(start, new_len.get());
        self.made(Block { memory, alignment }, held_before);
        self.freed(before);
        self.blocks.free(&self.arena, id);
        self.blocks.set(id, start, new_len, alignment);
        Seen::Compared
    }

    fn reset(&mut self, line: &Line) -> Seen {
        let (mode, capacity) = (reset_mode(line), self.arena.query_capacity());
        let refused_before = self.below.recorder.refused.get();
        let done = self.arena.reset(mode);
        self.blocks.clear();
        let wanted = match mode {
            ResetMode::FreeAll => 0,
            ResetMode::RetainCapacity => capacity,
            ResetMode::RetainWithLimit(limit) => capacity.min(limit),
        };
        assert!(if done { self.arena.query_capacity() == wanted } else { self.arena.query_capacity() <= capacity });
        self.law = Law { retained: self.arena.held_bytes(), ..Law::default() };
        match (done, line.decision() == "true") {
            (false, true) => {
                let refused_on_command = self.below.recorder.refused.get() > refused_before;
                self.below.why_refused(refused_on_command, wanted, Alignment::ONE)
            }
            (true, false) => {
                self.outcome.beyond += 1;
                Seen::Compared
            }
            _ => Seen::Compared,
        }
    }
}

/// Bytes held ≤ 1.5 × (most in use + request + alignment) + 64 a node, beside what was retained; or no more than
/// `needed`, what was held before and what the request takes where nothing is given for later ones.
pub fn assert_held(below: &Below<'_>, base: usize, retained: usize, needed: usize) {
    let (nodes, held) = below.recorder.holding();
    let allowed = needed.max(base + base / 2 + 64 * nodes + retained);
    assert!(held <= allowed, "{held} bytes held, the law allows {allowed}");
}

/// The bytes that Zig's arena holds, from the requests in the script.
#[derive(Default)]
pub struct Held {
    blocks: HashMap<String, usize>,
    pub most: usize,
}

impl Held {
    pub fn follow(&mut self, line: &Line) {
        let (_, requests) = line.requests();
        for request in requests.split("; ").filter(|request| !request.is_empty()) {
            let words: Vec<&str> = request.split(' ').collect();
            let number = |at: usize| words[at].parse::<usize>().expect("a length");
            match words[..] {
                ["alloc", _, _, "=", "null"] | ["resize", .., "false"] => {}
                ["alloc", _, _, "=", name] => drop(self.blocks.insert(name.to_string(), number(1))),
                ["resize", name, _, _, _, "=", "true"] => drop(self.blocks.insert(name.to_string(), number(4))),
                ["free", name, ..] => drop(self.blocks.remove(name)),
                _ => panic!("a request that the README does not name: {request}"),
            }
            self.most = self.most.max(self.blocks.values().sum());
        }
    }
}
