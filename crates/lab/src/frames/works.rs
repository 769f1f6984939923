//! The workloads: who asks for which frames, and how long they stay.
//!
//! ```text
//! single     get, put, get, put …                                         the hot path
//! bulk       get thousands, put them in the order in which they came
//! mix        half of the memory is out: one at random comes back, another order goes out
//! aging      200 rounds: a random 30 % come back, then mixed orders up to half of the memory again
//! producer   one thread gets, another puts
//! cache      nine tenths of the memory are pages of files: most leave soon, some stay; buffers of 32 KiB in between
//! ```
//!
//! All that they do follows from the seed; on one thread so does each frame that is handed out.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use clap::ValueEnum;
use serde::Serialize;

use super::{meter::Meter, subject::Subject};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Get one run and put it, again and again
    Single,
    /// Get thousands, then put them in the order in which they came
    Bulk,
    /// At half load, one at random comes back and one of a random order goes out
    Mix,
    /// 200 rounds of freeing a random 30 % and filling up again with mixed orders
    Aging,
    /// One thread gets, another puts
    Producer,
    /// Pages of a file cache at nine tenths of the memory, buffers in between
    Cache,
}

/// The share of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub work: Work,
    /// Of the runs of `single`, `bulk` and `producer`.
    pub order: u32,
    /// Frames of all threads.
    pub frames: usize,
    pub threads: usize,
    /// Gets of this thread, about.
    pub operations: usize,
    pub seed: u64,
}

/// Rounds of aging.
pub const ROUNDS: usize = 200;
/// Rounds of aging, at its end, over which free blocks are counted.
pub const LAST: usize = 20;
/// Frames of 2 MiB.
pub const LARGE: usize = 512;
/// The most that `bulk` holds.
const BULK: usize = 65_536;
/// Runs between a producer and its consumer, and how many go over at a time.
const IN_FLIGHT: usize = 1024;
const PACK: usize = 64;

/// What came of it.
#[derive(Default, Clone, Copy)]
pub struct Outcome {
    /// Gets that were granted.
    pub gets: u64,
    pub refused: u64,
    /// A run that was handed out was not taken back.
    pub misuse: bool,
    /// Of the frames that were handed out, in their order.
    pub digest: u64,
    /// Aging: free blocks of 2 MiB, summed over the last rounds.
    pub free_large: u64,
}

impl Outcome {
    pub fn join(&mut self, other: Self) {
        self.gets += other.gets;
        self.refused += other.refused;
        self.misuse |= other.misuse;
        self.digest = self.digest.rotate_left(7) ^ other.digest;
        self.free_large += other.free_large;
    }
}

/// One thread at work.
pub struct Player<'a, S> {
    pub subject: &'a S,
    pub task: Task,
    pub meter: Meter,
    pub outcome: Outcome,
    random: Random,
    /// How many gets were done, for whoever looks on.
    pub done: &'a AtomicU64,
}

impl<'a, S: Subject> Player<'a, S> {
    pub fn new(subject: &'a S, task: Task, done: &'a AtomicU64) -> Self {
        let random = Random::new(task.seed);
        Self { subject, task, meter: Meter::new(), outcome: Outcome::default(), random, done }
    }

    /// All that one thread does, alone or beside others that do the same.
    pub fn play(&mut self) {
        match self.task.work {
            Work::Single => self.single(),
            Work::Bulk => self.bulk(),
            Work::Mix => self.mix(),
            Work::Aging => self.aging(),
            Work::Cache => self.cache(),
            Work::Producer => {} // Two threads: `produce` and `consume`.
        }
    }

    #[inline(always)]
    fn get(&mut self, order: u32) -> Option<usize> {
        let start = self.meter.get(|| self.subject.get(order));
        self.note(start)
    }

    #[inline(always)]
    fn note(&mut self, start: Option<usize>) -> Option<usize> {
        match start {
            Some(start) => {
                self.outcome.gets += 1;
                self.outcome.digest = (self.outcome.digest ^ start as u64).wrapping_mul(0x0100_0000_01B3);
                if self.outcome.gets.is_multiple_of(4096) {
                    self.done.store(self.outcome.gets, Ordering::Relaxed);
                }
            }
            None => self.outcome.refused += 1,
        }
        start
    }

    #[inline(always)]
    fn put(&mut self, start: usize, order: u32) {
        self.outcome.misuse |= !self.meter.put(|| self.subject.put(start, order));
    }

    fn put_untimed(&mut self, start: usize, order: u32) {
        self.outcome.misuse |= !self.subject.put(start, order);
    }

    /// Frames that this thread may have.
    fn share(&self) -> usize {
        self.task.frames / self.task.threads
    }

    fn single(&mut self) {
        for _ in 0..self.task.operations {
            if let Some(start) = self.get(self.task.order) {
                self.put(start, self.task.order);
            }
        }
    }

    fn bulk(&mut self) {
        let most = ((self.share() / 2) >> self.task.order).clamp(1, BULK).min(self.task.operations);
        let mut live = Vec::with_capacity(most);
        for _ in 0..self.task.operations / most {
            for _ in 0..most {
                live.extend(self.get(self.task.order));
            }
            for &start in &live {
                self.put(start, self.task.order);
            }
            live.clear();
        }
    }

    fn mix(&mut self) {
        let half = self.share() / 2;
        let mut live = Vec::new();
        let mut used = 0;
        while used < half {
            let order = self.random.order();
            let Some(start) = self.subject.get(order) else { break };
            live.push((start, order));
            used += 1 << order;
        }
        for _ in 0..self.task.operations {
            let wanted = self.random.order();
            while used + (1 << wanted) > half && !live.is_empty() {
                let (start, order) = live.swap_remove(self.random.below(live.len()));
                self.put(start, order);
                used -= 1 << order;
            }
            if let Some(start) = self.get(wanted) {
                live.push((start, wanted));
                used += 1 << wanted;
            }
        }
        live.into_iter().for_each(|(start, order)| self.put_untimed(start, order));
    }

    fn aging(&mut self) {
        let half = self.task.frames / 2;
        let mut live: Vec<(usize, u32)> = Vec::new();
        let mut used = 0;
        for round in 0..ROUNDS {
            while used < half {
                let order = self.random.order();
                // What is refused in half-empty memory is worth a note, and not worth waiting for.
                let Some(start) = self.get(order) else { break };
                live.push((start, order));
                used += 1 << order;
            }
            if round >= ROUNDS - LAST {
                self.outcome.free_large += self.free_large();
            }
            for _ in 0..live.len() * 3 / 10 {
                let (start, order) = live.swap_remove(self.random.below(live.len()));
                self.put(start, order);
                used -= 1 << order;
            }
        }
        live.into_iter().for_each(|(start, order)| self.put_untimed(start, order));
    }

    /// Blocks of 2 MiB without a frame that is out.
    fn free_large(&self) -> u64 {
        let is_free = |block: &usize| (0..LARGE).all(|at| self.subject.is_free(block * LARGE + at));
        (0..self.task.frames / LARGE).filter(is_free).count() as u64
    }

    fn cache(&mut self) {
        let most = self.share() / 10 * 9;
        let (mut soon, mut late, mut buffers) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        // Files are read until the memory is full; then each page that comes makes another leave.
        // An eighth of them is read once and leaves soon.
        while soon.len() + late.len() < most {
            let Some(start) = self.subject.get(0) else { break };
            let stays = self.random.below(8) > 0;
            if stays { late.push_back(start) } else { soon.push_back(start) }
        }
        for step in 0..self.task.operations {
            if step % 8 == 7 {
                buffers.extend(self.get(BUFFER));
                if buffers.len() > BUFFERS
                    && let Some(start) = buffers.pop_front()
                {
                    self.put(start, BUFFER);
                }
                continue;
            }
            // Three of four pages that come are of that kind, so those that stay live twenty times as long.
            let pages = if self.random.below(4) == 0 { &mut late } else { &mut soon };
            if let Some(start) = pages.pop_front() {
                self.put(start, 0);
            }
            pages.extend(self.get(0));
        }
        buffers.into_iter().for_each(|start| self.put_untimed(start, BUFFER));
        soon.into_iter().chain(late).for_each(|start| self.put_untimed(start, 0));
    }

    /// Gets, and sends what it got in packs.
    pub fn produce(&mut self, to: &mpsc::SyncSender<Vec<usize>>) {
        let pack = self.pack();
        for _ in 0..self.task.operations / pack {
            let mut packed = Vec::with_capacity(pack);
            for _ in 0..pack {
                packed.extend(self.get(self.task.order));
            }
            if self.meter.outside(|| to.send(packed)).is_err() {
                return; // Nobody takes them any more.
            }
        }
    }

    /// Puts what comes until nothing comes any more.
    pub fn consume(&mut self, from: &mpsc::Receiver<Vec<usize>>) {
        while let Ok(packed) = self.meter.outside(|| from.recv()) {
            packed.into_iter().for_each(|start| self.put(start, self.task.order));
        }
    }

    /// Runs in a pack: all packs in flight together take half of this pair's share at most.
    fn pack(&self) -> usize {
        (((self.share() / 2) >> self.task.order) / (IN_FLIGHT / PACK + 2)).clamp(1, PACK)
    }
}

/// Packs that wait between a producer and its consumer.
pub const PACKS: usize = IN_FLIGHT / PACK;

/// The order of a buffer, 32 KiB, and how many live.
const BUFFER: u32 = 3;
const BUFFERS: usize = 64;

/// Marsaglia's xorshift.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Never 0, with which it would stand still.
        Self((seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x2545_F491_4F6C_DD1D) | 1)
    }

    #[inline(always)]
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * bound as u64) >> 32) as usize
    }

    /// Mostly single frames, some of each order up to 9.
    #[inline(always)]
    pub fn order(&mut self) -> u32 {
        match self.below(16) {
            0..8 => 0,
            8..12 => 3,
            other => [1, 5, 7, 9][other - 12],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::subject::FirstFit;

    fn task(work: Work) -> Task {
        Task { work, order: 0, frames: 16_384, threads: 1, operations: 3000, seed: 5 }
    }

    fn played(task: Task) -> (Outcome, usize) {
        let subject = FirstFit::new(task.frames);
        let done = AtomicU64::new(0);
        let mut player = Player::new(&subject, task, &done);
        player.play();
        let free = (0..task.frames).filter(|&frame| subject.is_free(frame)).count();
        (player.outcome, free)
    }

    #[test]
    fn every_workload_gives_back_what_it_got() {
        for work in [Work::Single, Work::Bulk, Work::Mix, Work::Aging, Work::Cache] {
            let (outcome, free) = played(task(work));
            assert_eq!((free, outcome.misuse, outcome.refused), (16_384, false, 0), "{work:?}");
            assert!(outcome.gets >= 2500, "{work:?}: {}", outcome.gets);
        }
    }

    #[test]
    fn a_full_cache_takes_no_more_memory() {
        let (outcome, free) = played(Task { frames: 4096, operations: 30_000, ..task(Work::Cache) });
        assert_eq!(free, 4096);
        // Buffers may find no eight frames in a row; a page has room whenever another has left.
        assert!(outcome.refused <= 30_000 / 8, "{}", outcome.refused);
    }

    #[test]
    fn the_seed_decides_what_is_asked_for() {
        for work in [Work::Mix, Work::Aging] {
            let digest = |seed| played(Task { seed, ..task(work) }).0.digest;
            assert_eq!(digest(5), digest(5), "{work:?}");
            assert_ne!(digest(5), digest(6), "{work:?}");
        }
    }

    #[test]
    fn a_consumer_puts_all_that_its_producer_got() {
        let task = Task { order: 2, ..task(Work::Producer) };
        let subject = FirstFit::new(task.frames);
        let done = AtomicU64::new(0);
        let (to, from) = mpsc::sync_channel(PACKS);
        let (mut producer, mut consumer) = (Player::new(&subject, task, &done), Player::new(&subject, task, &done));
        std::thread::scope(|scope| {
            let consumer = &mut consumer;
            scope.spawn(move || consumer.consume(&from));
            producer.produce(&to);
            drop(to);
        });
        assert!(producer.outcome.gets > 2900 && !consumer.outcome.misuse);
        assert!((0..task.frames).all(|frame| subject.is_free(frame)));
    }

    #[test]
    fn aged_memory_is_looked_at_in_its_last_rounds() {
        let (outcome, _) = played(task(Work::Aging));
        let blocks = LAST * 16_384 / LARGE;
        assert!((1..=blocks as u64 / 2).contains(&outcome.free_large), "{} of {blocks}", outcome.free_large);
    }
}
