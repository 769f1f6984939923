//! `lab frames`: workloads over allocators of frames, of a memory as large as one likes, for frames are numbers.
//!
//! ```text
//! works ──▶ in each round over Nothing, for their own cost, and over each allocator, a fresh one, in turn ──▶ rows ──▶ table, JSON
//! ```
//!
//! A machine with nodes of memory is simulated by [`nodes`].
#![forbid(unsafe_code)]

mod meter;
pub mod nodes;
pub mod rows;
mod subject;
pub mod works;

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::ensure;

use self::{
    meter::Meter,
    rows::Row,
    subject::{FirstFit, Nothing, Subject, Visitor},
    works::{Outcome, PACKS, Player, ROUNDS, Task, Work},
};
use crate::{progress::Progress, stack::frames::FrameWord};

/// What to do, checked.
pub struct Options {
    pub works: Vec<Work>,
    pub over: Vec<FrameWord>,
    /// Frames, of each memory.
    pub sizes: Vec<usize>,
    pub orders: Vec<u32>,
    pub threads: usize,
    pub operations: usize,
    pub rounds: usize,
    pub seed: u64,
}

/// Aging beside the oracle, up to this memory: 4 GiB.
const ORACLE_FRAMES: usize = 1 << 20;

/// Measures all, and shows the rows so far meanwhile.
///
/// # Errors
/// Where an allocator has no memory for its metadata, or does not take back what it gave.
pub fn run(options: &Options, progress: &Progress, show: impl Fn(&[Row]) -> String) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for &frames in &options.sizes {
        for &work in &options.works {
            // Those with orders of their own run once.
            let plain = matches!(work, Work::Single | Work::Bulk | Work::Producer);
            let orders = if plain { &options.orders[..] } else { &[0] };
            for &order in orders {
                let task = Task {
                    work,
                    order,
                    frames,
                    threads: if work == Work::Aging { 1 } else { options.threads },
                    operations: options.operations,
                    seed: options.seed,
                };
                let tell = |over: &str, done: u64| {
                    let percent = (done * 100 / expected(&task).max(1)).min(99);
                    format!("{}{work:?} over {over}: {percent} %", show(&rows))
                };
                let measured = measure(&task, options, progress, &tell)?;
                rows.extend(measured);
            }
        }
    }
    progress.end();
    Ok(rows)
}

/// Gets of one thread, about.
fn expected(task: &Task) -> u64 {
    match task.work {
        // The mean of mixed orders is 45 frames.
        Work::Aging => (task.frames / 90 * ROUNDS * 3 / 10) as u64,
        _ => task.operations as u64,
    }
}

/// A row for each allocator.
fn measure(
    task: &Task,
    options: &Options,
    progress: &Progress,
    tell: &dyn Fn(&str, u64) -> String,
) -> anyhow::Result<Vec<Row>> {
    let mut own = [f64::INFINITY; 2];
    let oracle = (task.work == Work::Aging && task.frames <= ORACLE_FRAMES).then(|| {
        let look = |done| progress.show(|| tell("the oracle", done));
        play(task, &FirstFit::new(task.frames), &look).outcome.free_large
    });
    let mut played: Vec<Vec<Round>> = options.over.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        // The lowest: what else runs on the machine makes it look dearer, and ours cheaper.
        let alone = play(task, &Nothing, &|done| progress.show(|| tell("nothing", done)));
        let told = alone.meter.median_and_mean();
        own = [own[0].min(told[0]), own[1].min(told[1])];
        for turn in 0..options.over.len() {
            let at = (round + turn) % options.over.len();
            let over = options.over[at];
            let name = over.to_string();
            let look = |done| progress.show(|| tell(&name, done));
            let done = subject::with(over, task.frames, Playing { task, look: &look })?;
            ensure!(!done.outcome.misuse, "{over} did not take back what it had handed out: please report this");
            played[at].push(done);
        }
    }
    let row = |(over, rounds): (&FrameWord, Vec<Round>)| Row::new(task, *over, rounds, own, oracle);
    Ok(options.over.iter().zip(played).map(row).collect())
}

/// What one round of one allocator came to.
pub struct Round {
    pub meter: Meter,
    pub outcome: Outcome,
    pub metadata: u64,
}

struct Playing<'a> {
    task: &'a Task,
    look: &'a dyn Fn(u64),
}

impl Visitor for Playing<'_> {
    type Output = Round;

    fn visit<S: Subject>(self, subject: &S, metadata: u64) -> Round {
        let round = play(self.task, subject, self.look);
        subject.drain();
        Round { metadata, ..round }
    }
}

/// On threads of their own, so that each begins without a slot, whatever was done before.
fn play<S: Subject>(task: &Task, subject: &S, look: &dyn Fn(u64)) -> Round {
    let done = AtomicU64::new(0);
    let outcomes = thread::scope(|scope| {
        let watcher = thread::current();
        let mut threads = Vec::new();
        // `producer` takes two threads for each pair of the others.
        let pairs = if task.work == Work::Producer { task.threads.div_ceil(2) } else { task.threads };
        for index in 0..pairs {
            let seed = task.seed.wrapping_add(index as u64);
            let task = Task { threads: pairs, seed, ..*task };
            let player = || Player::new(subject, task, &done);
            let ended = |mut player: Player<'_, S>, play: &dyn Fn(&mut Player<'_, S>), watcher: thread::Thread| {
                play(&mut player);
                watcher.unpark();
                (player.meter, player.outcome)
            };
            if task.work == Work::Producer {
                let (to, from) = mpsc::sync_channel(PACKS);
                let (producer, consumer) = (player(), player());
                let (one, two) = (watcher.clone(), watcher.clone());
                threads.push(scope.spawn(move || ended(producer, &|player| player.produce(&to), one)));
                threads.push(scope.spawn(move || ended(consumer, &|player| player.consume(&from), two)));
            } else {
                let (player, watcher) = (player(), watcher.clone());
                threads.push(scope.spawn(move || ended(player, &|player| player.play(), watcher)));
            }
        }
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::park_timeout(Duration::from_millis(100));
            look(done.load(Ordering::Relaxed));
        }
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut round = Round { meter: Meter::new(), outcome: Outcome::default(), metadata: 0 };
    for outcome in outcomes {
        match outcome {
            Ok((meter, outcome)) => {
                round.meter.join(&meter);
                round.outcome.join(outcome);
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    round
}

/// What two looks at the clock cost: the median of many.
pub fn clock() -> f64 {
    crate::replay::child::clock_cost()
}
