//! Stack `pool-fba` on `PoolAllocator`, which stands on an arena with a law of its own: it is judged by that law
//! (see `law.rs`) after every operation, and by the order of its items.
//!
//! - an item that comes back is the first to go out again; items made ahead go out from the highest address down;
//! - a pool that may not grow makes items ahead only;
//! - items have the length and the alignment asked for, no less than a pointer's, and share no byte.

use std::{collections::HashMap, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, Reset, ResetMode};
use terrace_heap::PoolAllocator;

use crate::{
    arena::{Backing, Below, over_its_backing, reset_mode},
    law::{HEADER, Held, Seen, assert_held},
    script::{Line, Outcome, Script},
};

const NEVER_MADE: &str = "the item was not made: the buffer was full, and our nodes lie otherwise than Zig's";

pub fn replay(script: &Script) -> Outcome {
    over_its_backing(script, |script, below| {
        let len = NonZeroUsize::new(script.parameter(1)).expect("a length");
        let alignment = Alignment::from_log2(script.parameter(2) as u32).expect("an alignment");
        let growable = script.parameter(3) == 1;
        let new = if growable { PoolAllocator::new } else { PoolAllocator::fixed };
        let mut judge = Judge {
            new: &|| new(&below.recorder, len, alignment),
            pool: new(&below.recorder, len, alignment),
            below,
            growable,
            live: HashMap::new(),
            free: Vec::new(),
            ahead: HashMap::new(),
            batches: 0,
            fell_short: false,
            most_used: 0,
            retained: 0,
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

/// What the free list must hold, from the bottom up.
enum Free {
    Item(NonNull<u8>),
    /// Made ahead, nobody has seen where; in this batch.
    Ahead(usize),
}

struct Judge<'b, 'a> {
    new: &'b dyn Fn() -> PoolAllocator<&'b Backing<'a>>,
    pool: PoolAllocator<&'b Backing<'a>>,
    below: &'b Below<'a>,
    growable: bool,
    live: HashMap<u32, NonNull<u8>>,
    free: Vec<Free>,
    /// By batch, the last item that went out.
    ahead: HashMap<usize, NonNull<u8>>,
    batches: usize,
    /// The buffer was too full for items that should have been made ahead.
    fell_short: bool,
    most_used: usize,
    retained: usize,
    outcome: Outcome,
}

impl Judge<'_, '_> {
    fn step(&mut self, line: &Line) -> Seen {
        match line.op[0].as_str() {
            "c" => return self.create(line),
            "s" => return self.add_capacity(line),
            "k" => {
                let Some(item) = self.live.remove(&line.id()) else { return Seen::Excepted(NEVER_MADE) };
                self.destroy(item);
            }
            "x" => return self.reset(line),
            "d" => {
                self.pool = (self.new)();
                self.forget(0);
            }
            "q" => {}
            other => assert!(self.below.answer(line).is_some(), "an operation that the README does not name: {other}"),
        }
        Seen::Compared
    }

    /// What must be true after every operation.
    fn look(&self, place: &str) {
        let len = self.pool.item_len().get();
        assert_eq!(self.pool.free_items(), self.free.len(), "the free list at {place}");
        assert_eq!(self.pool.held_bytes(), self.below.recorder.holding().1, "held bytes at {place}");
        assert!(self.pool.used_bytes() >= len * (self.live.len() + self.free.len()), "items in use at {place}");
    }

    fn create(&mut self, line: &Line) -> Seen {
        let (len, alignment) = (self.pool.item_len(), self.pool.item_alignment());
        let (refused_before, held_before) = (self.below.recorder.refused.get(), self.pool.held_bytes());
        let granted_by_zig = line.decision() != "null";
        let Ok(item) = self.pool.alloc(len, alignment) else {
            assert!(self.free.is_empty(), "a free item is never refused");
            return match granted_by_zig {
                false => Seen::Compared,
                true if !self.growable && self.fell_short => Seen::Excepted(NEVER_MADE),
                true => self.why_refused(refused_before, len.get()),
            };
        };
        assert!(alignment.is_aligned(item.addr().get()), "misaligned");
        let apart = |other: &NonNull<u8>| other.addr().get().abs_diff(item.addr().get()) >= len.get();
        assert!(self.live.values().all(apart), "two live items share bytes");
        match self.free.pop() {
            Some(Free::Item(last)) => assert_eq!(item, last, "the last to come back is the first to go out"),
            Some(Free::Ahead(batch)) => {
                let above = self.ahead.insert(batch, item);
                assert!(above.is_none_or(|above| item < above), "from the highest address down");
            }
            None => {
                assert!(self.growable, "a fixed pool makes items ahead only");
                self.grown(held_before, len.get());
            }
        }
        if granted_by_zig {
            assert!(self.live.insert(line.id(), item).is_none(), "the scripts reuse dead ids only");
        } else {
            self.outcome.beyond += 1;
            self.destroy(item);
        }
        Seen::Compared
    }

    fn destroy(&mut self, item: NonNull<u8>) {
        let memory = NonNull::slice_from_raw_parts(item, self.pool.item_len().get());
        // SAFETY: live, and out of the table.
        unsafe { self.pool.free(memory, self.pool.item_alignment()) };
        self.free.push(Free::Item(item));
    }

    fn add_capacity(&mut self, line: &Line) -> Seen {
        let (n, before) = (line.number_at::<usize>(1), self.pool.free_items());
        let (refused_before, held_before) = (self.below.recorder.refused.get(), self.pool.held_bytes());
        let done = self.pool.add_capacity(n).is_ok();
        let made = self.pool.free_items() - before;
        assert!(if done { made == n } else { made < n });
        self.batches += 1;
        self.free.extend((0..made).map(|_| Free::Ahead(self.batches)));
        let stride = self.pool.item_len().get().next_multiple_of(self.pool.item_alignment().bytes());
        self.grown(held_before, stride * made);
        let why = (!done).then(|| self.why_refused(refused_before, self.pool.item_len().get()));
        self.fell_short |= matches!(why, Some(Seen::Excepted(_)));
        match (done, line.decision() == "true") {
            (false, true) => why.expect("it was refused"),
            (true, false) => {
                self.outcome.beyond += 1;
                Seen::Compared
            }
            _ => Seen::Compared,
        }
    }

    /// A request for `len` bytes may have grown the arena below.
    fn grown(&mut self, held_before: usize, len: usize) {
        let request = len + self.pool.item_alignment().bytes();
        assert_held(self.below, self.most_used + request, self.retained, held_before + HEADER + request);
        self.most_used = self.most_used.max(self.pool.used_bytes());
    }

    /// Zig's pool had `len` bytes more, ours not.
    fn why_refused(&self, refused_before: usize, len: usize) -> Seen {
        let on_command = self.below.recorder.refused.get() > refused_before;
        self.below.why_refused(on_command, len, self.pool.item_alignment())
    }

    fn reset(&mut self, line: &Line) -> Seen {
        let (mode, (nodes, held)) = (reset_mode(line), self.below.recorder.holding());
        let refused_before = self.below.recorder.refused.get();
        let done = self.pool.reset(mode);
        let retained = self.pool.held_bytes();
        assert_eq!(self.pool.used_bytes(), 0);
        assert!(match mode {
            ResetMode::FreeAll => retained == 0,
            ResetMode::RetainCapacity => retained <= held,
            ResetMode::RetainWithLimit(limit) => !done || retained <= limit + HEADER,
        });
        self.forget(retained);
        match (done, line.decision() == "true") {
            // One node was asked for, in place of all.
            (false, true) => {
                let on_command = self.below.recorder.refused.get() > refused_before;
                self.below.why_refused(on_command, held - nodes * HEADER, Alignment::ONE)
            }
            (true, false) => {
                self.outcome.beyond += 1;
                Seen::Compared
            }
            _ => Seen::Compared,
        }
    }

    /// Every item has ended.
    fn forget(&mut self, retained: usize) {
        self.live.clear();
        self.free.clear();
        self.ahead.clear();
        self.fell_short = false;
        self.most_used = 0;
        self.retained = retained;
    }
}
