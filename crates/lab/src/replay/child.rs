//! One replay of one stack, in a process that does nothing else: the lab starts itself anew for it.
//!
//! ```text
//! parent ── job, JSON as argument · program, on stdin ──▶ child: make the stack · play · answer
//!        ◀───────────── answer, JSON on stdout ─────────
//! ```
//!
//! A *timed* job looks at the clock and at nothing else. A *weighed* job counts what the ground is asked
//! for, looks at the resident memory, and checks that blocks keep what was written into them.

use std::{io::stdin, process, time::Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    dispatch::{self, Ground, Visitor},
    execute::{self, Tally},
    image,
    memory::{self, Residence},
    null::Null,
    order::{self, Parts},
    os,
    program::Program,
    target::{Target, Virtual},
    threads,
    touch::{Policy, Touch},
};
use crate::stack::Stack;

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    pub subject: Subject,
    pub touch: Policy,
    /// On the trace's own threads.
    pub threads: bool,
    pub weigh: bool,
    pub seed: u64,
}

/// What is replayed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Stack(String),
    /// No allocator, called directly.
    Null,
    /// No allocator, behind a virtual call.
    DynNull,
}

/// What a timed child answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// Nanoseconds a call, the replayer's own included.
    pub mean: f64,
    /// Nanoseconds of calls timed alone, the clock's own included, to three digits; and how many took them.
    pub alone: Vec<(u64, u64)>,
    /// What one pair of looks at the clock costs.
    pub clock: f64,
    pub errors: u64,
}

/// What a weighing child answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Weighed {
    /// Resident bytes above those before the replay.
    pub peak_resident: u64,
    pub left_resident: u64,
    /// Where the ground can be counted.
    pub ground: Option<GroundCounts>,
    pub errors: u64,
    pub corrupted: u64,
}

/// What the stack asked its ground for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GroundCounts {
    pub allocs: u64,
    pub peak_bytes: u64,
    /// Held when every block had been freed.
    pub left_bytes: u64,
}

/// Times of single calls; longer ones than 2^40 ns count as that.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(1 << 40, 3).expect("the bounds are constant and right")
}

/// Does the job and prints the answer.
///
/// # Errors
/// Where the program cannot be read or the stack cannot be made.
pub fn run(job: &str) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(job).context("this subcommand is for the lab's own use; try `lab replay`")?;
    let mut program = image::read(&mut stdin().lock())?;
    ensure!(!program.ops.is_empty(), "the trace holds no call to replay");
    program.sample(job.seed);
    // Now, so that no memory of the replayer itself comes or goes while that of the stack is weighed.
    let parts = job.threads.then(|| order::cut(&program));
    let task = Task {
        program: &program,
        touch: Touch { policy: job.touch, stride: terrace_sys::page_size() },
        parts: parts.as_ref(),
    };
    if let Some(available) = memory::available() {
        os::limit_memory(available / 4 * 3);
    }
    let answer = match (&job.subject, job.weigh) {
        (Subject::Stack(text), weigh) => {
            let stack = Stack::parse(text)?;
            ensure!(dispatch::can_hold(&stack), "{stack} needs more memory than this machine has; make it smaller");
            let longest = program.longest_by_thread().into_iter().max().unwrap_or(0);
            if let Some(item) = stack.item_len() {
                let wish = "name a pool of items that long, or another stack";
                ensure!(longest <= item, "its items have {item} bytes, and the trace asks for up to {longest}; {wish}");
            }
            match weigh {
                false => serde_json::to_string(&dispatch::visit(&stack, Timing(task))?),
                true => serde_json::to_string(&dispatch::visit_counted(&stack, Weighing(task))?),
            }
        }
        (Subject::Null, false) => serde_json::to_string(&task.time_null(|null| null)?),
        (Subject::DynNull, false) => {
            serde_json::to_string(&task.time_null(|null| Virtual(Box::new(null) as Box<dyn Target + Sync>))?)
        }
        (Subject::Null | Subject::DynNull, true) => serde_json::to_string(&task.weigh_null()?),
    };
    println!("{}", answer?);
    Ok(())
}

/// Ends the process with an error, while other threads may wait for what will not happen.
pub fn give_up(error: &anyhow::Error) -> ! {
    eprintln!("{error:#}");
    process::exit(1);
}

#[derive(Clone, Copy)]
struct Task<'a> {
    program: &'a Program,
    touch: Touch,
    /// For the trace's own threads.
    parts: Option<&'a Parts>,
}

impl Task<'_> {
    fn play_local<T: Target, const CHECK: bool>(&self, target: &T, between: impl FnMut(u64)) -> Tally {
        execute::play_alone::<T, CHECK>(target, self.program, self.touch, between)
    }

    fn play_shared<T: Target + Sync, const CHECK: bool>(&self, target: &T, between: impl FnMut(u64)) -> Tally {
        match self.parts {
            Some(parts) => threads::play_together::<T, CHECK>(target, self.program, parts, self.touch, between),
            None => self.play_local::<T, CHECK>(target, between),
        }
    }

    fn time(&self, play: impl FnOnce() -> Tally) -> anyhow::Result<Timed> {
        // A rehearsal over nothing, so that a short trace does not time the first look at its own calls.
        self.play_local::<_, false>(&self.null(false)?, |_| {});
        let tally = play();
        let mut alone = histogram();
        for nanos in &tally.samples {
            alone.saturating_record(*nanos);
        }
        Ok(Timed {
            mean: tally.nanos as f64 / self.program.ops.len() as f64,
            alone: alone.iter_recorded().map(|bar| (bar.value_iterated_to(), bar.count_at_value())).collect(),
            clock: clock_cost(),
            errors: tally.errors,
        })
    }

    fn null(&self, threads: bool) -> anyhow::Result<Null> {
        let longest = self.program.longest_by_thread();
        let longest_of_all = longest.iter().copied().max().unwrap_or(0);
        Null::new(&if threads { longest } else { vec![longest_of_all] })
    }

    fn time_null<T: Target + Sync>(&self, wrap: impl Fn(Null) -> T) -> anyhow::Result<Timed> {
        let target = wrap(self.null(self.parts.is_some())?);
        self.time(|| self.play_shared::<T, false>(&target, |_| {}))
    }

    fn weigh_null(&self) -> anyhow::Result<Weighed> {
        let target = self.null(self.parts.is_some())?;
        self.weigh(None, |between| self.play_shared::<_, false>(&target, between))
    }

    fn weigh(&self, ground: Ground, play: impl FnOnce(&mut dyn FnMut(u64)) -> Tally) -> anyhow::Result<Weighed> {
        let residence = Residence::open()?;
        let (quick_before, exact_before) = (residence.quick(), residence.exact());
        let calls = self.program.ops.len() as u64;
        let (mut peak_resident, mut peak_passed) = (0, false);
        let tally = play(&mut |played| {
            // The exact look is slow over many mappings, so it is kept for the recorded peak and the end.
            let at_peak = !peak_passed && played > self.program.peak_at;
            peak_passed |= at_peak;
            let above = match at_peak || played == calls {
                true => residence.exact().saturating_sub(exact_before),
                false => residence.quick().saturating_sub(quick_before),
            };
            peak_resident = above.max(peak_resident);
        });
        let ground = ground.map(|ground| ground.stats());
        Ok(Weighed {
            peak_resident,
            left_resident: residence.exact().saturating_sub(exact_before),
            ground: ground.map(|counts| GroundCounts {
                allocs: counts.total_allocations,
                peak_bytes: counts.peak_bytes,
                left_bytes: counts.current_bytes,
            }),
            errors: tally.errors,
            corrupted: tally.corrupted,
        })
    }
}

struct Timing<'a>(Task<'a>);

impl Visitor for Timing<'_> {
    type Output = anyhow::Result<Timed>;

    fn shared<T: Target + Sync>(self, target: T, _: Ground) -> Self::Output {
        self.0.time(|| self.0.play_shared::<T, false>(&target, |_| {}))
    }

    fn local<T: Target>(self, target: T, _: Ground) -> Self::Output {
        self.0.time(|| self.0.play_local::<T, false>(&target, |_| {}))
    }
}

struct Weighing<'a>(Task<'a>);

impl Visitor for Weighing<'_> {
    type Output = anyhow::Result<Weighed>;

    fn shared<T: Target + Sync>(self, target: T, ground: Ground) -> Self::Output {
        self.0.weigh(ground, |between| self.0.play_shared::<T, true>(&target, between))
    }

    fn local<T: Target>(self, target: T, ground: Ground) -> Self::Output {
        self.0.weigh(ground, |between| self.0.play_local::<T, true>(&target, between))
    }
}

/// What it costs to look at the clock twice: the median of many.
pub fn clock_cost() -> f64 {
    let mut costs = [0; 1001];
    for cost in &mut costs {
        let start = Instant::now();
        *cost = start.elapsed().as_nanos();
    }
    costs.sort_unstable();
    costs[costs.len() / 2] as f64
}
