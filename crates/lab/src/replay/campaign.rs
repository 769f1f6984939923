//! All replays of one comparison: which, in which order, and what their answers come to.
//!
//! ```text
//! weighed   null A B C                       memory, counts, contents
//! timed     null A B C · null A B C · …      interleaved, so that a busy minute hits all alike
//! row       median of the rounds − median of null's rounds
//! ```
//!
//! Each replay is a process of its own. A stack is compared with the null replay that went the same
//! way: on the trace's threads or on one, directly or through a virtual call.

use std::{
    env,
    fs::File,
    io::{self, BufWriter, Seek},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

use super::{
    child::{Job, Subject, Timed, Weighed},
    dispatch, image,
    program::Program,
    touch::Policy,
};
use crate::{progress::Progress, stack::Stack};

/// Where a program of many threads is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Threads {
    /// On as many threads as the trace has, wherever the stack may be shared.
    Keep,
    /// All on one thread, in the recorded order.
    One,
}

/// What to compare, and how long.
pub struct Options {
    pub stacks: Vec<Stack>,
    pub touch: Policy,
    pub threads: Threads,
    /// Rounds; by default several, fewer where they take long.
    pub rounds: Option<usize>,
}

/// By default so many rounds, or more until so many calls were timed, as a short trace needs;
const ROUNDS: usize = 7;
const ROUNDS_MAX: usize = 51;
const CALLS: usize = 400_000;
/// but a stack that has had two rounds sits out once it has taken its share of this time, and one that has
/// had a single round once it has taken all of it.
const TIME_MAX: Duration = Duration::from_secs(15);

/// The way a stack is replayed, and so the null replay that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub threads: bool,
    pub dynamic: bool,
}

/// One stack's answers.
pub struct Outcome {
    pub stack: Stack,
    pub way: Way,
    pub timed: Vec<Timed>,
    /// On timing it, so far.
    spent: Duration,
    /// `Err`: why the stack could not be replayed at all.
    pub weighed: Result<Weighed, String>,
}

/// A null replay's answers.
pub struct Own {
    pub way: Way,
    pub timed: Vec<Timed>,
    /// On timing it, so far.
    spent: Duration,
    pub weighed: Weighed,
}

/// Everything that was measured.
pub struct Campaign {
    pub outcomes: Vec<Outcome>,
    pub own: Vec<Own>,
}

/// Replays `program` over every stack of `options`.
///
/// # Errors
/// Where a file or a process cannot be made, or the null replay fails; a stack's failure is in its outcome.
pub fn run(program: &Program, options: &Options, progress: &Progress) -> anyhow::Result<Campaign> {
    let image = save(program).context("the replay program cannot be written; set TMPDIR to a place with room")?;
    let caller = Caller { exe: own_binary()?, image, options };

    let threaded = options.threads == Threads::Keep && program.lives.len() > 1;
    let way_of = |stack: &Stack| Way { threads: threaded && stack.is_shared(), dynamic: dispatch::is_dynamic(stack) };
    let mut ways: Vec<Way> = Vec::new();
    for way in options.stacks.iter().map(way_of) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let steps = (ways.len() + options.stacks.len()) as u64;
    progress.begin("weighing", steps);
    let mut own = Vec::new();
    for way in ways {
        let weighed =
            caller.call(null(way), way.threads, true, 0).map_err(|why| anyhow!("the null replay failed: {why}"))?;
        own.push(Own { way, timed: Vec::new(), spent: Duration::ZERO, weighed });
        progress.step("null");
    }
    let mut outcomes = Vec::new();
    for stack in &options.stacks {
        let way = way_of(stack);
        let weighed = caller.call(Subject::Stack(stack.to_string()), way.threads, true, 0);
        outcomes.push(Outcome { stack: stack.clone(), way, timed: Vec::new(), spent: Duration::ZERO, weighed });
        progress.step(&stack.to_string());
    }

    let rounds = options.rounds.unwrap_or((CALLS / program.ops.len().max(1)).clamp(ROUNDS, ROUNDS_MAX));
    progress.begin("timing", steps * rounds as u64);
    let share = if options.rounds.is_some() { Duration::MAX } else { TIME_MAX / steps.max(1) as u32 };
    for round in 0..rounds {
        caller.round(round as u64 + 1, share, &mut own, &mut outcomes, progress)?;
    }
    progress.end();
    Ok(Campaign { outcomes, own })
}

/// Whether a stack takes part in another round, after so many that took so long.
fn is_due(rounds: usize, spent: Duration, share: Duration) -> bool {
    match rounds {
        0 => true,
        1 => spent < share.max(TIME_MAX),
        _ => spent < share,
    }
}

fn null(way: Way) -> Subject {
    if way.dynamic { Subject::DynNull } else { Subject::Null }
}

/// The program in a file without a name, of which nothing is left however the lab ends.
fn save(program: &Program) -> io::Result<File> {
    let mut out = BufWriter::new(tempfile::tempfile()?);
    image::write(program, &mut out)?;
    out.into_inner().map_err(|error| error.into_error())
}

/// This very binary, also where a build has put another in its place meanwhile.
fn own_binary() -> anyhow::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { env::current_exe().context("the lab cannot find its own binary") }
}

struct Caller<'a> {
    exe: PathBuf,
    image: File,
    options: &'a Options,
}

impl Caller<'_> {
    fn round(
        &self,
        seed: u64,
        share: Duration,
        own: &mut [Own],
        outcomes: &mut [Outcome],
        progress: &Progress,
    ) -> anyhow::Result<()> {
        for own in own {
            if is_due(own.timed.len(), own.spent, share) {
                let start = Instant::now();
                let timed = self.call(null(own.way), own.way.threads, false, seed);
                own.timed.push(timed.map_err(|why| anyhow!("the null replay failed: {why}"))?);
                own.spent += start.elapsed();
            }
            progress.step("null");
        }
        for outcome in outcomes {
            if outcome.weighed.is_ok() && is_due(outcome.timed.len(), outcome.spent, share) {
                let start = Instant::now();
                match self.call(Subject::Stack(outcome.stack.to_string()), outcome.way.threads, false, seed) {
                    Ok(timed) => outcome.timed.push(timed),
                    Err(why) => outcome.weighed = Err(why),
                }
                outcome.spent += start.elapsed();
            }
            progress.step(&outcome.stack.to_string());
        }
        Ok(())
    }

    /// Starts a child, waits for it, reads its answer; an error says in words what became of it.
    fn call<A: DeserializeOwned>(&self, subject: Subject, threads: bool, weigh: bool, seed: u64) -> Result<A, String> {
        let job = Job { subject, touch: self.options.touch, threads, weigh, seed };
        let job = serde_json::to_string(&job).map_err(|error| error.to_string())?;
        // The place in the file is shared with the children before, which have ended.
        let mut image = &self.image;
        let image = image.rewind().and_then(|()| image.try_clone());
        let image = image.map_err(|error| format!("its program cannot be read: {error}"))?;
        let mut command = Command::new(&self.exe);
        command.args([super::CHILD_WORD, &job]).stdin(image).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = command.output().map_err(|error| format!("its process cannot be started: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("error: ");
            return Err(if said.is_empty() {
                format!("its process ended with {}", output.status)
            } else {
                said.into()
            });
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}
