//! The work of a cell, on its threads, with the clock looked at between batches.
//!
//! ```text
//!  clock  ↓                                 ↓     ↓                                 ↓     ↓
//!         [ a batch of operations ........ ][one ][ a batch ...................... ][one ]
//!           medians and means come of these   p99 of these, the clock's own cost taken off of both
//! ```
//!
//! A thread that waits for a lock, or for a processor, waits within a batch: the mean has all of that, the median hides it.
#![forbid(unsafe_code)]

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::cells::Work;
use crate::cells::Random;

/// What threads share.
pub trait Share: Sync {
    /// The first frame of a run.
    fn get(&self) -> Option<usize>;
    /// `false`: it says that this was no run of its own.
    fn put(&self, start: usize) -> bool;
}

/// What one round does.
pub struct Plan {
    pub work: Work,
    pub threads: usize,
    /// Runs that each thread holds at most.
    pub live: usize,
    /// How often each thread does all of it.
    pub passes: usize,
    pub seed: u64,
}

/// Operations of a timed batch, where there are so many.
const BATCH: usize = 32;
/// Pairs before the clock starts.
const WARM: usize = 1;
/// Refusals after which a thread gives up: half of the memory is free.
const PATIENCE: usize = 100_000;

/// What the clock said.
#[derive(Default)]
pub struct Samples {
    /// Gets, or pairs, or the mixed ones.
    pub first: Side,
    /// Puts, where they were timed apart from gets.
    pub second: Side,
    /// Of the longest thread.
    pub elapsed: Duration,
    /// How often nothing was found, though there was room: a refusal in a race.
    pub refused: u64,
}

/// Times of one kind of operation.
#[derive(Default)]
pub struct Side {
    /// Nanoseconds of each batch; all are of one length.
    pub batches: Vec<u32>,
    /// Operations of a batch.
    pub batch: usize,
    /// Nanoseconds of operations timed alone.
    pub alone: Vec<u32>,
}

impl Side {
    /// Adds what another thread, or round, has measured.
    pub fn join(&mut self, other: Self) {
        self.batches.extend(other.batches);
        self.alone.extend(other.alone);
        self.batch = self.batch.max(other.batch);
    }

    /// Does `operation` so many times.
    #[inline(always)]
    fn time(&mut self, count: usize, mut operation: impl FnMut()) {
        self.batch = BATCH.min(count - 1);
        let chunks = count / (self.batch + 1);
        for _ in 0..chunks {
            let start = Instant::now();
            for _ in 0..self.batch {
                operation();
            }
            let middle = Instant::now();
            operation();
            let end = Instant::now();
            self.batches.push(nanos(middle - start));
            self.alone.push(nanos(end - middle));
        }
        for _ in chunks * (self.batch + 1)..count {
            operation();
        }
    }
}

impl Samples {
    /// Adds what another thread, or round, has measured.
    pub fn join(&mut self, other: Self) {
        self.first.join(other.first);
        self.second.join(other.second);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.refused += other.refused;
    }
}

/// Four seconds at most.
fn nanos(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

/// One round on all threads.
///
/// # Errors
/// Where an allocator refuses what it has room for, or says that its own run is none.
pub fn round<S: Share>(share: &S, plan: &Plan) -> anyhow::Result<Samples> {
    let barrier = Barrier::new(plan.threads);
    let outcomes: Vec<Option<Samples>> = thread::scope(|scope| {
        let work = |index: usize| {
            let barrier = &barrier;
            move || one_thread(share, plan, index as u64, barrier)
        };
        let threads: Vec<_> = (0..plan.threads).map(|index| scope.spawn(work(index))).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    });
    let mut all = Samples::default();
    for outcome in outcomes {
        all.join(outcome.context("a thread has ended in a panic")?);
    }
    ensure!(all.refused < PATIENCE as u64, "it refuses runs for which there is room");
    Ok(all)
}

fn one_thread<S: Share>(share: &S, plan: &Plan, index: u64, barrier: &Barrier) -> Samples {
    let mut hands = Hands { share, live: Vec::with_capacity(plan.live), refused: 0 };
    let mut random = Random::new(plan.seed + index + 1);
    let mut samples = Samples::default();
    // The thread's stack, its slot, and what it keeps at hand.
    for _ in 0..WARM {
        let start = hands.get();
        hands.put(start);
    }
    let expected = plan.passes * (plan.live * 2 / (BATCH + 1) + plan.live);
    for side in [&mut samples.first, &mut samples.second] {
        side.batches.reserve(expected.min(1 << 20));
        side.alone.reserve(expected.min(1 << 20));
    }
    barrier.wait();
    let start = Instant::now();
    for _ in 0..plan.passes {
        pass(&mut hands, plan, &mut random, &mut samples);
    }
    samples.elapsed = start.elapsed();
    samples.refused = hands.refused;
    samples
}

/// A thread's runs.
struct Hands<'a, S> {
    share: &'a S,
    live: Vec<usize>,
    refused: u64,
}

impl<S: Share> Hands<'_, S> {
    #[inline(always)]
    fn get(&mut self) -> usize {
        match self.share.get() {
            Some(start) => start,
            None => self.insist(),
        }
    }

    /// Tries until there is something. Whoever has nothing for so long has failed, and the round with it.
    #[cold]
    fn insist(&mut self) -> usize {
        while self.refused < PATIENCE as u64 {
            self.refused += 1;
            thread::yield_now();
            if let Some(start) = self.share.get() {
                return start;
            }
        }
        NONE
    }

    #[inline(always)]
    fn put(&mut self, start: usize) {
        if start == NONE || !self.share.put(start) {
            self.refused = PATIENCE as u64;
        }
    }
}

/// In place of a run that was refused.
const NONE: usize = usize::MAX;

/// All of the work once; nothing is live before and after.
fn pass<S: Share>(hands: &mut Hands<'_, S>, plan: &Plan, random: &mut Random, samples: &mut Samples) {
    match plan.work {
        Work::Bulk | Work::Random => {
            samples.first.time(plan.live, || {
                let start = hands.get();
                hands.live.push(start);
            });
            let mut live = std::mem::take(&mut hands.live);
            if plan.work == Work::Random {
                shuffle(&mut live, random);
            }
            let mut next = live.iter();
            samples.second.time(plan.live, || next.next().into_iter().for_each(|start| hands.put(*start)));
            live.clear();
            hands.live = live;
        }
        Work::Pair => samples.first.time(plan.live, || {
            let start = hands.get();
            hands.put(start);
        }),
        Work::Mixed => {
            let tosses: Vec<u32> = (0..2 * plan.live).map(|_| random.below(1 << 32) as u32).collect();
            let mut tosses = tosses.iter();
            samples.first.time(2 * plan.live, || {
                let toss = tosses.next().map_or(0, |toss| *toss);
                let len = hands.live.len();
                if len == 0 || (toss & 1 == 0 && len < plan.live) {
                    let start = hands.get();
                    hands.live.push(start);
                } else {
                    let at = ((u64::from(toss) * len as u64) >> 32) as usize;
                    let start = hands.live.swap_remove(at);
                    hands.put(start);
                }
            });
            while let Some(start) = hands.live.pop() {
                hands.put(start);
            }
        }
    }
}

fn shuffle(runs: &mut [usize], random: &mut Random) {
    for last in (1..runs.len()).rev() {
        runs.swap(last, random.below(last + 1));
    }
}

/// What two looks at the clock cost: the median of many.
pub fn clock() -> f64 {
    let mut costs: Vec<u32> = (0..10_001).map(|_| nanos(Instant::now().elapsed())).collect();
    let middle = costs.len() / 2;
    f64::from(*costs.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// Hands out the lowest of a few.
    struct Few(Mutex<Vec<bool>>, AtomicU64);

    impl Share for Few {
        fn get(&self) -> Option<usize> {
            self.1.fetch_add(1, Ordering::Relaxed);
            let mut taken = self.0.lock().expect("no panic inside");
            let at = taken.iter().position(|taken| !taken)?;
            taken[at] = true;
            Some(at)
        }

        fn put(&self, start: usize) -> bool {
            std::mem::replace(&mut self.0.lock().expect("no panic inside")[start], false)
        }
    }

    fn few(count: usize) -> Few {
        Few(Mutex::new(vec![false; count]), AtomicU64::new(0))
    }

    #[test]
    fn every_work_puts_back_what_it_gets() {
        for work in [Work::Bulk, Work::Pair, Work::Random, Work::Mixed] {
            let share = few(80);
            let plan = Plan { work, threads: 2, live: 40, passes: 3, seed: 1 };
            let samples = round(&share, &plan).expect("there is room");
            assert!(share.0.lock().expect("no panic").iter().all(|taken| !taken), "{work:?}");
            // Of the timed passes alone.
            let chunks = |count: usize| 2 * 3 * (count / 33);
            let first = if work == Work::Mixed { 80 } else { 40 };
            assert_eq!(samples.first.batches.len(), chunks(first), "{work:?}");
            assert_eq!(samples.first.alone.len(), chunks(first), "{work:?}");
            let second = if matches!(work, Work::Bulk | Work::Random) { chunks(40) } else { 0 };
            assert_eq!(samples.second.batches.len(), second, "{work:?}");
        }
    }

    #[test]
    fn a_few_runs_make_a_batch_of_fewer() {
        let samples = round(&few(4), &Plan { work: Work::Bulk, threads: 1, live: 3, passes: 5, seed: 1 });
        let samples = samples.expect("there is room");
        assert_eq!((samples.first.batch, samples.first.batches.len(), samples.second.batches.len()), (2, 5, 5));
    }

    #[test]
    fn who_refuses_what_it_has_no_room_for_ends_the_round() {
        let plan = Plan { work: Work::Bulk, threads: 1, live: 5, passes: 1, seed: 1 };
        assert!(round(&few(4), &plan).is_err());
    }
}
