//! A replay on as many threads as the trace has, each born and ended where the trace says.
//!
//! ```text
//! main      births ──▶ spawns the threads of each epoch as it opens; weighs the memory
//! thread t  for each chunk: wait for its epoch · clock · calls, each in its slot's turn · clock
//!           the last call of the oldest epoch opens another
//! ```
//!
//! - **T1** Epoch `e` is open when all calls of the epochs before `e - 1` have been made.
//! - **T2** A call on a slot begins when `turns[slot]` equals its turn, and raises it when done. The
//!   acquire of that load meets the release of the store before it, so calls on a slot happen after
//!   one another, in the recorded order.
//!
//! Waiting is not timed: neither for an epoch (spinning a little, then asleep on a condition variable)
//! nor for a turn (spinning, then yielding, then sleeping 50 µs at a time). order.rs shows why it ends.

use std::{
    hint,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    child::give_up,
    execute::{Player, Slots, Tally},
    order::{self, Chunk, Part, Parts},
    program::{Op, Program},
    target::Target,
    touch::Touch,
};

/// The replaying threads only call an allocator; a C library needs little more itself.
const STACK_BYTES: usize = 128 << 10;
/// Epochs open at a time.
const AHEAD: usize = 2;

/// Opens the epochs, one after another.
struct Gate {
    /// Calls not yet made, by epoch.
    left: Vec<AtomicU32>,
    /// Epochs below this are open; written under `lock` alone.
    open: AtomicUsize,
    /// The oldest epoch with calls not yet made.
    lock: Mutex<usize>,
    /// Of each epoch, and of the end, those who wait for it.
    waiting: Vec<Condvar>,
}

impl Gate {
    fn new(epochs: &[u32]) -> Self {
        Self {
            left: epochs.iter().map(|calls| AtomicU32::new(*calls)).collect(),
            open: AtomicUsize::new(if epochs.is_empty() { 1 } else { AHEAD.min(epochs.len()) }),
            lock: Mutex::new(0),
            // One more: the end opens as an epoch of its own, when all others are done.
            waiting: (0..=epochs.len()).map(|_| Condvar::new()).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, epoch: usize) {
        for _ in 0..100 {
            if epoch < self.open.load(Ordering::Acquire) {
                return;
            }
            hint::spin_loop();
        }
        let mut oldest = self.lock();
        while epoch >= self.open.load(Ordering::Acquire) {
            oldest = self.waiting[epoch].wait(oldest).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// `calls` more calls of `epoch` have been made.
    fn made(&self, epoch: usize, calls: u32) {
        if self.left[epoch].fetch_sub(calls, Ordering::AcqRel) != calls {
            return;
        }
        let mut oldest = self.lock();
        while self.left.get(*oldest).is_some_and(|left| left.load(Ordering::Acquire) == 0) {
            *oldest += 1;
        }
        let end = self.left.len();
        let open = if *oldest == end { end + 1 } else { (*oldest + AHEAD).min(end) };
        let before = self.open.load(Ordering::Relaxed);
        self.open.store(open, Ordering::Release);
        drop(oldest);
        for opened in before..open {
            self.waiting[opened].notify_all();
        }
    }
}

/// Plays `program`, cut into `parts`, on its own threads and frees what it left. `between` is told, as each
/// epoch opens, how many calls were made at least; it runs beside the replay.
///
/// Where a thread cannot be made it ends the process with an error, as other threads wait for that one.
pub fn play_together<T: Target + Sync, const CHECK: bool>(
    target: &T,
    program: &Program,
    parts: &Parts,
    touch: Touch,
    mut between: impl FnMut(u64),
) -> Tally {
    let slots = Slots::new(program.slots);
    let turns: Vec<AtomicU32> = (0..program.slots).map(|_| AtomicU32::new(0)).collect();
    // SAFETY: new slots; a `Program` is valid where it was made or read; by T2 the calls on each slot
    // keep their order and happen after one another, and the leftovers follow when all threads have ended.
    let player = unsafe { Player::<T, CHECK>::new(target, &slots, touch) };
    let gate = Gate::new(&parts.epochs);
    let epochs = parts.epochs.len();
    let mut births: Vec<Vec<(usize, &Part)>> = (0..epochs.max(1)).map(|_| Vec::new()).collect();
    for (index, part) in parts.threads.iter().enumerate() {
        births[part.born].push((index, part));
    }
    let runner = Runner { player, target, turns: &turns, gate: &gate };
    let mut total = Tally::for_ops(&program.ops);
    let tallies = Mutex::new(Vec::with_capacity(program.lives.len()));
    thread::scope(|scope| {
        for (epoch, births) in births.into_iter().enumerate() {
            gate.wait_for(epoch);
            for (index, part) in births {
                let tallies = &tallies;
                let tally = Tally::for_ops(&part.ops);
                let life = move || {
                    let tally = runner.live(index, part, tally);
                    tallies.lock().unwrap_or_else(PoisonError::into_inner).push(tally);
                };
                let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, life);
                if let Err(error) = spawned {
                    let what = format!("thread {index} of the trace cannot be made; replay with `--threads one`");
                    give_up(&anyhow::Error::new(error).context(what));
                }
            }
            between((epoch * order::EPOCH) as u64);
        }
        gate.wait_for(epochs);
        between(program.ops.len() as u64);
    });
    for tally in tallies.into_inner().unwrap_or_else(PoisonError::into_inner) {
        total.add(tally);
    }
    target.enter(0);
    player.play(&program.leftovers, &mut total);
    total
}

/// What every thread of a replay shares.
struct Runner<'a, T, const CHECK: bool> {
    player: Player<'a, T, CHECK>,
    target: &'a T,
    turns: &'a [AtomicU32],
    gate: &'a Gate,
}

impl<T, const CHECK: bool> Clone for Runner<'_, T, CHECK> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const CHECK: bool> Copy for Runner<'_, T, CHECK> {}

impl<T: Target + Sync, const CHECK: bool> Runner<'_, T, CHECK> {
    fn live(&self, index: usize, part: &Part, mut tally: Tally) -> Tally {
        self.target.enter(index);
        for chunk in &part.chunks {
            self.gate.wait_for(chunk.epoch);
            self.play_chunk(part, chunk, &mut tally);
            self.gate.made(chunk.epoch, chunk.ops.len() as u32);
        }
        if !part.ends {
            self.gate.wait_for(self.gate.left.len());
        }
        tally
    }

    fn play_chunk(&self, part: &Part, chunk: &Chunk, tally: &mut Tally) {
        let mut waited = Duration::ZERO;
        let start = Instant::now();
        let ops: &[Op] = &part.ops[chunk.ops.clone()];
        for (op, own_turn) in ops.iter().zip(&part.turns[chunk.ops.clone()]) {
            let turn = &self.turns[op.slot as usize];
            if turn.load(Ordering::Acquire) != *own_turn {
                waited += wait_for_turn(turn, *own_turn);
            }
            self.player.play_one(op, tally);
            turn.store(own_turn.wrapping_add(1), Ordering::Release);
        }
        tally.nanos += start.elapsed().saturating_sub(waited).as_nanos() as u64;
    }
}

#[cold]
fn wait_for_turn(turn: &AtomicU32, own: u32) -> Duration {
    let start = Instant::now();
    let mut tries = 0u32;
    while turn.load(Ordering::Acquire) != own {
        match tries {
            0..100 => hint::spin_loop(),
            100..150 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(50)),
        }
        tries += 1;
    }
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use std::{alloc::System, collections::BTreeSet};

    use super::super::{
        program::Builder,
        target::{Foreign, Ours},
        touch::Policy,
    };
    use super::*;
    use proptest::prelude::*;
    use terrace_sys::PageAllocator;
    use terrace_trace::{AllocKind, BlockId, Event, FreeKind, Op as Traced, ThreadId};

    const TOUCH: Touch = Touch { policy: Policy::Page, stride: 4096 };

    /// Threads that free and resize one another's blocks; a thread of an odd number ends, once it has begun.
    fn program(calls: &[(u32, u32, u16)]) -> Program {
        let mut builder = Builder::default();
        let (mut live, mut known) = (BTreeSet::new(), 0);
        for &(thread, block, len) in calls {
            let thread = thread.min(known);
            known = known.max(thread + 1);
            let (block, len) = (BlockId(block), u64::from(len));
            let op = match (live.insert(block), len % 3) {
                (true, _) => Traced::Alloc { block, len, align_log2: 4, kind: AllocKind::Zeroed },
                (false, 0) => Traced::Realloc { block, len, moved: false },
                (false, _) => {
                    live.remove(&block);
                    Traced::Free { block, kind: FreeKind::Plain }
                }
            };
            builder.push(Event { thread: ThreadId(thread), op });
        }
        for thread in (1..known).step_by(2) {
            builder.push(Event { thread: ThreadId(thread), op: Traced::ThreadEnd });
        }
        builder.finish()
    }

    fn calls() -> impl Strategy<Value = Vec<(u32, u32, u16)>> {
        proptest::collection::vec((0u32..12, 0u32..40, 0u16..9000), 0..5 * order::EPOCH)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn blocks_that_cross_threads_keep_their_order_and_contents(calls in calls()) {
            let program = program(&calls);
            program.validate().unwrap();
            let (parts, mut told) = (order::cut(&program), Vec::new());
            let foreign = play_together::<_, true>(&Foreign(System), &program, &parts, TOUCH, |played| told.push(played));
            prop_assert_eq!((foreign.errors, foreign.corrupted), (0, 0));
            prop_assert_eq!(told.last(), Some(&(program.ops.len() as u64)));
            prop_assert!(told.is_sorted());
            let ours = play_together::<_, true>(&Ours(PageAllocator), &program, &parts, TOUCH, |_| {});
            prop_assert_eq!((ours.errors, ours.corrupted), (0, 0));
        }
    }

    #[test]
    fn every_sampled_call_of_every_thread_is_timed() {
        let calls: Vec<_> = (0..4000u32).map(|n| (n % 7, n % 97, (n * 31 % 5000) as u16)).collect();
        let mut program = program(&calls);
        program.sample(5);
        let tally = play_together::<_, false>(&Foreign(System), &program, &order::cut(&program), TOUCH, |_| {});
        assert_eq!(tally.samples.len(), program.ops.iter().filter(|op| op.sampled).count());
    }
}
