//! One call of a program, and runs of them on one thread.
//!
//! ```text
//! ops   ▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪│▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪▪│…      a batch between two looks at the clock
//!            └ one in 64 is timed alone
//! slots [ptr, ptr, null, …]                     where each block lies now
//! ```
//!
//! - **X1** A slot holds the live block whose length and alignment the program's calls so far
//!   give it (P1), or null: before its alloc, after its free, and where the target refused.
//!
//! A refused alloc is counted and its block's later calls are skipped. A refused realloc is counted
//! and its block freed, as its later calls name a length that it never had.
//!
//! Cost over the target's own: reading 24 bytes in order, one slot, one predicted branch for each kind.

use std::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
    time::Instant,
};

use terrace_core::Alignment;

use super::{
    program::{Call, Op, Program},
    target::Target,
    touch::Touch,
};

/// Calls between two looks at the clock, on one thread.
pub const BATCH: usize = 4096;

/// What a thread of the replay has counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub nanos: u64,
    /// Requests that the target refused.
    pub errors: u64,
    /// Blocks found with other contents than were written (a checked run only).
    pub corrupted: u64,
    /// Of each call timed alone, the nanoseconds with the clock's own.
    pub samples: Vec<u64>,
}

impl Tally {
    /// With room for the samples of `ops`, so that the timed part allocates nothing.
    pub fn for_ops(ops: &[Op]) -> Self {
        let mut samples = vec![1; ops.iter().filter(|op| op.sampled).count()];
        // Written once, so that no page of it is touched for the first time while the clock runs.
        samples.clear();
        Self { samples, ..Self::default() }
    }

    pub fn add(&mut self, other: Self) {
        self.nanos += other.nanos;
        self.errors += other.errors;
        self.corrupted += other.corrupted;
        self.samples.extend(other.samples);
    }
}

/// Where the blocks lie.
pub struct Slots(Vec<AtomicPtr<u8>>);

impl Slots {
    pub fn new(count: u32) -> Self {
        Self((0..count).map(|_| AtomicPtr::new(ptr::null_mut())).collect())
    }
}

/// Plays calls on a target. With `CHECK` it looks at the contents of blocks, and is not to be timed.
pub struct Player<'a, T, const CHECK: bool> {
    target: &'a T,
    slots: &'a Slots,
    touch: Touch,
}

impl<T, const CHECK: bool> Clone for Player<'_, T, CHECK> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const CHECK: bool> Copy for Player<'_, T, CHECK> {}

impl<'a, T: Target, const CHECK: bool> Player<'a, T, CHECK> {
    /// # Safety
    /// `slots` is new, used with `target` alone, and plays the calls of one valid [`Program`] (P1 to P3)
    /// with at most `slots` slots, in an order in which the calls on each slot keep theirs, and happen
    /// after one another.
    pub unsafe fn new(target: &'a T, slots: &'a Slots, touch: Touch) -> Self {
        Self { target, slots, touch }
    }

    /// Plays `ops` in order; those that are sampled are timed alone.
    #[inline]
    pub fn play(&self, ops: &[Op], tally: &mut Tally) {
        for op in ops {
            self.play_one(op, tally);
        }
    }

    #[inline(always)]
    pub fn play_one(&self, op: &Op, tally: &mut Tally) {
        if op.sampled {
            let start = Instant::now();
            self.call(op, tally);
            tally.samples.push(start.elapsed().as_nanos() as u64);
        } else {
            self.call(op, tally);
        }
    }

    #[inline(always)]
    fn call(&self, op: &Op, tally: &mut Tally) {
        // Relaxed: whoever orders the calls on a slot also orders what they see (`new`'s promise).
        let slot = &self.slots.0[op.slot as usize];
        let alignment = Alignment::from_log2(op.align_log2.into()).unwrap_or(Alignment::ONE);
        let made = match (op.call, NonZeroUsize::new(op.len as usize)) {
            (Call::Alloc, Some(len)) => self.alloc(op, len, alignment, false, tally),
            (Call::AllocZeroed, Some(len)) => self.alloc(op, len, alignment, true, tally),
            (Call::Realloc, Some(len)) => match NonNull::new(slot.load(Ordering::Relaxed)) {
                Some(block) => self.realloc(op, block, len, alignment, tally),
                None => return,
            },
            _ => match NonNull::new(slot.load(Ordering::Relaxed)) {
                Some(block) => self.free(op, block, alignment, tally),
                None => return,
            },
        };
        slot.store(made, Ordering::Relaxed);
    }

    #[inline(always)]
    fn alloc(&self, op: &Op, len: NonZeroUsize, alignment: Alignment, zeroed: bool, tally: &mut Tally) -> *mut u8 {
        let Some(block) = self.target.alloc(len, alignment, zeroed) else {
            tally.errors += 1;
            return ptr::null_mut();
        };
        if CHECK {
            let misplaced = !alignment.is_aligned(block.addr().get());
            // SAFETY: a new block of `len` bytes, all written with zero by the target.
            let dirty = zeroed && !unsafe { self.touch.holds(block, len.get(), len.get(), 0) };
            tally.corrupted += u64::from(misplaced || dirty);
        }
        // SAFETY: a new block of `len` bytes.
        unsafe { self.touch.write(block, 0, len.get(), tag(op)) };
        block.as_ptr()
    }

    #[inline(always)]
    fn realloc(
        &self,
        op: &Op,
        block: NonNull<u8>,
        len: NonZeroUsize,
        alignment: Alignment,
        tally: &mut Tally,
    ) -> *mut u8 {
        let memory = NonNull::slice_from_raw_parts(block, op.old_len as usize);
        // SAFETY: by X1 and P1 a live block of this length and alignment.
        let Some(new) = (unsafe { self.target.realloc(memory, alignment, len) }) else {
            tally.errors += 1;
            return self.free(op, block, alignment, tally);
        };
        if CHECK {
            let misplaced = !alignment.is_aligned(new.addr().get());
            // SAFETY: at least `min(len, old_len)` bytes, which `write` wrote before the realloc.
            let whole = unsafe { self.touch.holds(new, len.get(), memory.len(), tag(op)) };
            tally.corrupted += u64::from(misplaced || !whole);
        }
        // SAFETY: a live block of `len` bytes.
        unsafe { self.touch.write(new, memory.len(), len.get(), tag(op)) };
        new.as_ptr()
    }

    #[inline(always)]
    fn free(&self, op: &Op, block: NonNull<u8>, alignment: Alignment, tally: &mut Tally) -> *mut u8 {
        let len = op.old_len as usize;
        if CHECK {
            // SAFETY: by X1 and P1 a live block of this length, which `write` wrote.
            tally.corrupted += u64::from(!unsafe { self.touch.holds(block, len, len, tag(op)) });
        }
        let memory = NonNull::slice_from_raw_parts(block, len);
        // SAFETY: by X1 and P1 a live block of this length and alignment; the slot forgets it.
        unsafe { self.target.free(memory, alignment) };
        ptr::null_mut()
    }
}

/// What a block's places hold; seldom the same for two blocks that lie side by side.
fn tag(op: &Op) -> u8 {
    (op.slot.wrapping_mul(0x9E37_79B1) >> 24) as u8 | 1
}

/// Plays all of `program` on this thread in the recorded order, in batches, each timed as a whole,
/// and frees what it left. `between` is told after each batch how many calls were played, untimed.
pub fn play_alone<T: Target, const CHECK: bool>(
    target: &T,
    program: &Program,
    touch: Touch,
    mut between: impl FnMut(u64),
) -> Tally {
    let slots = Slots::new(program.slots);
    // SAFETY: new slots; a `Program` is valid where it was made or read; one thread keeps its order.
    let player = unsafe { Player::<T, CHECK>::new(target, &slots, touch) };
    let mut tally = Tally::for_ops(&program.ops);
    target.enter(0);
    let mut played = 0;
    // A batch ends at the peak, so that the memory can be weighed there.
    let (rise, fall) = program.ops.split_at(program.ops.len().min(program.peak_at as usize + 1));
    for batch in rise.chunks(BATCH).chain(fall.chunks(BATCH)) {
        let start = Instant::now();
        player.play(batch, &mut tally);
        tally.nanos += start.elapsed().as_nanos() as u64;
        played += batch.len() as u64;
        between(played);
    }
    // Untimed: these frees are not in the trace.
    player.play(&program.leftovers, &mut tally);
    tally
}

#[cfg(test)]
mod tests {
    use std::{
        alloc::System,
        cell::{Cell, UnsafeCell},
    };

    use super::super::{
        program::Builder,
        target::{Foreign, Ours},
        touch::Policy,
    };
    use super::*;
    use terrace_core::SystemAllocator;
    use terrace_trace::{AllocKind, BlockId, Event, FreeKind, Op as Traced, ThreadId};

    /// Several blocks, live at once, of every call and of lengths around a page; some are left.
    fn program() -> Program {
        let mut builder = Builder::default();
        let mut push = |op| builder.push(Event { thread: ThreadId(0), op });
        for round in 0..50u32 {
            for block in 0..20u32 {
                let len = u64::from((block * 977 + round * 131) % 9000);
                let kind = if block % 3 == 0 { AllocKind::Zeroed } else { AllocKind::Plain };
                push(Traced::Alloc { block: BlockId(block), len, align_log2: 4, kind });
            }
            for block in (0..20).step_by(2) {
                push(Traced::Realloc {
                    block: BlockId(block),
                    len: u64::from((block * 577 + round) % 12_000),
                    moved: true,
                });
            }
            for block in (0..20).rev().filter(|block| round < 49 || block % 2 == 0) {
                push(Traced::Free { block: BlockId(block), kind: FreeKind::Plain });
            }
        }
        builder.finish()
    }

    fn checked(target: &impl Target, policy: Policy) -> Tally {
        play_alone::<_, true>(target, &program(), Touch { policy, stride: 4096 }, |_| {})
    }

    #[test]
    fn sound_targets_keep_all_contents() {
        for policy in [Policy::Page, Policy::Fill, Policy::None] {
            let (foreign, ours) = (checked(&Foreign(System), policy), checked(&Ours(SystemAllocator), policy));
            assert_eq!([foreign.errors, foreign.corrupted, ours.errors, ours.corrupted], [0; 4], "{policy:?}");
        }
    }

    /// Refuses every so many requests, and gives two neighbouring blocks the same bytes if asked.
    struct Faulty {
        calls: Cell<u64>,
        refuse_every: u64,
        overlap: bool,
        shared: Box<[UnsafeCell<u8>]>,
        live: Cell<i64>,
    }

    impl Faulty {
        fn new(refuse_every: u64, overlap: bool) -> Self {
            let shared = (0..32 << 10).map(|_| UnsafeCell::new(0)).collect();
            Self { calls: Cell::new(0), refuse_every, overlap, shared, live: Cell::new(0) }
        }

        fn shared(&self) -> Option<NonNull<u8>> {
            NonNull::new(self.shared.as_ptr().cast::<u8>().cast_mut())
        }

        fn refuses(&self) -> bool {
            self.calls.set(self.calls.get() + 1);
            self.calls.get().is_multiple_of(self.refuse_every)
        }
    }

    // SAFETY: blocks are the system's, or begin in 32 KiB that outlive the test and are longer than its longest block.
    unsafe impl Target for Faulty {
        fn alloc(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Option<NonNull<u8>> {
            if self.refuses() {
                return None;
            }
            self.live.set(self.live.get() + 1);
            if self.overlap { self.shared() } else { Foreign(System).alloc(len, alignment, zeroed) }
        }

        unsafe fn realloc(
            &self,
            memory: NonNull<[u8]>,
            alignment: Alignment,
            len: NonZeroUsize,
        ) -> Option<NonNull<u8>> {
            if self.refuses() {
                return None;
            }
            if self.overlap {
                return self.shared();
            }
            // SAFETY: the caller's promise; without overlap all blocks are the system's.
            unsafe { Foreign(System).realloc(memory, alignment, len) }
        }

        unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
            self.live.set(self.live.get() - 1);
            if !self.overlap {
                // SAFETY: the caller's promise; without overlap all blocks are the system's.
                unsafe { Foreign(System).free(memory, alignment) }
            }
        }
    }

    #[test]
    fn blocks_that_share_bytes_are_found() {
        for policy in [Policy::Page, Policy::Fill] {
            assert!(checked(&Faulty::new(u64::MAX, true), policy).corrupted > 0, "{policy:?}");
        }
    }

    #[test]
    fn refusals_are_counted_and_everything_else_goes_on() {
        for refuse_every in [1, 2, 3, 7] {
            let faulty = Faulty::new(refuse_every, false);
            let tally = checked(&faulty, Policy::Page);
            assert_eq!(tally.errors, faulty.calls.get() / refuse_every);
            assert_eq!((tally.corrupted, faulty.live.get()), (0, 0), "every block that was made is freed once");
        }
    }

    #[test]
    fn sampled_calls_are_timed_and_batches_end_at_the_peak() {
        let mut program = program();
        program.sample(3);
        let mut ends = Vec::new();
        let touch = Touch { policy: Policy::Page, stride: 4096 };
        let tally = play_alone::<_, false>(&Foreign(System), &program, touch, |played| ends.push(played));
        assert_eq!(tally.samples.len(), program.ops.iter().filter(|op| op.sampled).count());
        assert!(ends.contains(&(program.peak_at + 1)) && ends.last() == Some(&(program.ops.len() as u64)));
    }
}
