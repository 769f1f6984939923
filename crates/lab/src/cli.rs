//! The command line: words, options, and the help that teaches them.
#![forbid(unsafe_code)]

use std::{error::Error, ffi::OsString, fmt, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    frames::{nodes::policy::PolicyWord, works::Work},
    replay::{campaign::Threads, touch::Policy},
    stack::{self, Stack, frames::FrameWord},
};

/// Choose an allocator by evidence
///
/// The lab records what a real program asks of malloc, asks the same of any stack of allocators, and says
/// which serves that program best, and why.
#[derive(Debug, Parser)]
#[command(name = "lab", bin_name = "cargo lab", version, after_long_help = START, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const START: &str = "\
Begin here:
  cargo lab demo                                     a real program of this machine, start to end
  cargo lab record -o mine.trace -- ./my-program     your own
  cargo lab compare mine.trace                       which stack serves it best

`cargo lab help COMMAND` explains each one.";

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Demo),
    Record(Record),
    Import(Import),
    Info(Info),
    Replay(Replay),
    Compare(Compare),
    Bench(Bench),
    Frames(Frames),
    /// One replay, for the lab's own use
    #[command(name = crate::replay::CHILD_WORD, hide = true)]
    ReplayChild {
        job: String,
    },
}

/// Record a real program of this machine, replay it, and say what serves it best
///
/// Runs `cargo metadata` (or, outside a workspace, `cargo --list`) under the recorder, replays what it asked
/// for over the default stacks, prints the verdict and the table. Takes a minute or two.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab demo
  cargo lab demo --json demo.json --keep demo.trace")]
pub struct Demo {
    /// Keep the recorded trace in this file
    #[arg(long, value_name = "TRACE")]
    pub keep: Option<PathBuf>,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub json: Json,
}

/// Record what a program asks of malloc
///
/// Runs the command with a small recorder preloaded and writes every allocation, reallocation and free, of all
/// its threads and of the processes that it starts, into a compact trace. The program must be linked
/// dynamically and use the C library's malloc; one that is not is refused, not recorded as empty.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab record -o build.trace -- cargo metadata --format-version 1
  cargo lab record -o py.trace -- env PYTHONMALLOC=malloc python3 script.py

The command's own output and exit status are left as they are; the lab's words go to stderr.")]
pub struct Record {
    /// The trace to write
    #[arg(short, long, value_name = "TRACE")]
    pub output: PathBuf,
    /// Keep the raw calls in this folder until the trace is written, 16 to 40 bytes each [default: TMPDIR]
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// Run the command once more without the recorder, with all its effects, to measure the overhead
    #[arg(long)]
    pub rerun: bool,
    #[command(flatten)]
    pub json: Json,
    /// The command and its arguments, after `--`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Turn a trace in a text format into one of the lab's
///
/// Reads Android's memory_replay lines (`202: malloc 0xb4827400 1024`) and heap-tracer lines (`Alloc(64),`,
/// `Free(0),`), plain or as the only file in a zip.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab import systemui.zip -o ui.trace
  cargo lab info ui.trace

The other commands read these formats too; importing once saves them the work.")]
pub struct Import {
    /// The file to read
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The trace to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub json: Json,
}

/// Print the figures of a trace, or of this machine
///
/// Of a trace it counts events, threads, bytes and blocks: how much a program asks for, and how much of it is live at once.
/// With `--machine` it tells what the machine has: nodes of memory, their distances, huge pages, processors, SIMD.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab info build.trace
  cargo lab info build.trace --json -
  cargo lab info --machine")]
pub struct Info {
    /// A recorded or imported trace, or a text or zip file that `import` reads
    #[arg(required_unless_present = "machine")]
    pub trace: Option<PathBuf>,
    /// Take a trace whose end is missing for what it still holds
    #[arg(long)]
    pub partial: bool,
    /// Tell of this machine, without a trace
    #[arg(long)]
    pub machine: bool,
    #[command(flatten)]
    pub json: Json,
}

/// Replay a trace over the stacks that you name
///
/// Asks each stack for what the recorded program asked for, in the same order, from as many threads, and writes
/// into the blocks. Reports nanoseconds a call (the mean, and percentiles of calls timed alone), the peak of
/// resident memory, requests to the ground, and what is still held when all is freed. Each stack runs
/// several times in processes of its own, in turn with the others; the replayer's own cost is measured and taken off.
#[derive(Debug, Args)]
#[command(after_long_help = replay_help())]
pub struct Replay {
    #[command(flatten)]
    pub source: Source,
    /// A stack to replay over, for instance 'arena(page)'; give it several times to compare
    #[arg(long = "over", value_name = "STACK", required = true)]
    pub over: Vec<String>,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub json: Json,
}

fn replay_help() -> String {
    let words = stack::words();
    format!(
        "The words of a stack:{words}\n  SIZE is a number with KiB, MiB, GiB or nothing for bytes; spaces are free.\n\n\
         Examples:\n  cargo lab replay build.trace --over 'smp(page)' --over system\n  \
         cargo lab replay build.trace --over 'fixed(64MiB)' --touch fill --rounds 3"
    )
}

/// Replay a trace over every stack that can serve it, and rank them
///
/// As `replay`, over a choice of stacks that suits the trace. The ranking weighs speed and memory alike: a stack
/// that is twice as fast may keep twice the memory. The first sentence is the answer; the table shows why.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab compare build.trace
  cargo lab compare systemui.zip --json ui.json")]
pub struct Compare {
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub json: Json,
}

/// Run a group of benchmarks against the peers
///
/// Builds the unpublished package `terrace-peers` in this workspace and runs one of its groups: each cell is timed
/// on ours and on the peers' allocators; the ratio is ours to the best peer's, below 1 is better.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cargo lab bench page
  cargo lab bench arena --json arena.json
  cargo lab bench arena -- --instructions
  cargo lab bench memops
  cargo lab bench frames --json frames.json
  cargo lab bench frames -- --only 'order 9 ,order 0 bulk' --rounds 21
  cargo lab bench smp --json smp.json
  cargo lab bench smp -- --only 'pair 64,replace' --against mimalloc3,snmalloc --rounds 11")]
pub struct Bench {
    /// The group: arena, fixed, frames, layers, memops, nodes, page, pool or smp
    pub group: String,
    #[command(flatten)]
    pub json: Json,
    /// Options of the benchmark itself, after `--`
    #[arg(last = true, value_name = "OPTION")]
    pub rest: Vec<OsString>,
}

/// Run workloads over allocators of page frames
///
/// Asks an allocator of frames for runs and gives them back, as kernels do: one at a time, in bulk, in a random mix, over
/// an aged memory, from thread to thread, as a file cache does. The frames are numbers, so a memory of 64 GiB is
/// simulated on any machine. Reports nanoseconds a call, refusals, the metadata's size, and what aging leaves of 2 MiB blocks
/// beside first fit. On one thread the seed decides every frame that is handed out.
///
/// With `--topology` the machine has nodes of memory, and the threads stand on those with processors: it reports where
/// their frames came from under each policy, and draws what is free at the end.
#[derive(Debug, Args)]
#[command(after_long_help = frames_help())]
pub struct Frames {
    /// The workloads [default: all]
    #[arg(value_enum, value_name = "WORKLOAD", conflicts_with = "topology")]
    pub works: Vec<Work>,
    /// An allocator of frames; give it several times to compare [default: hybrid]
    #[arg(long, value_name = "FRAMES", value_parser = frame_word, conflicts_with = "topology")]
    pub over: Vec<FrameWord>,
    /// The memory that is simulated; several times for several
    #[arg(long, value_name = "SIZE", default_value = "4GiB", conflicts_with = "topology")]
    pub size: Vec<String>,
    /// The order of the runs of single, bulk and producer: 0 is 4 KiB, 9 is 2 MiB; several times for several
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u32).range(0..=20), conflicts_with = "topology")]
    pub order: Vec<u32>,
    /// Threads that work at once; aging has one, producer two at least [default: 1; with --topology one a node that has CPUs]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    /// Gets of each thread in each workload but aging
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u32).range(1000..))]
    pub ops: u32,
    /// How often each is measured, in turn with the others
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "topology")]
    pub rounds: u16,
    /// Decides what is asked for
    #[arg(long, default_value = "1")]
    pub seed: u64,
    /// A machine with nodes of memory, in a TOML file as shown below
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
    /// Where frames come from: local, interleave, interleave=NODES, bind=NODES, preferred=NODE or weighted=WEIGHTS; several times to compare
    /// [default: local]
    #[arg(long, value_name = "POLICY", value_parser = PolicyWord::parse, requires = "topology")]
    pub policy: Vec<PolicyWord>,
    /// The part of all nodes' memory that the threads want to hold together
    #[arg(long, value_name = "PERCENT", default_value = "60", requires = "topology")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    pub fill: u8,
    #[command(flatten)]
    pub json: Json,
}

fn frame_word(text: &str) -> Result<FrameWord, String> {
    FrameWord::named(text).ok_or_else(|| format!("there are {}", FrameWord::list()))
}

fn frames_help() -> String {
    let words = stack::frames::FRAME_WORDS.map(|(word, _, meaning)| format!("\n  {word:<8} {meaning}")).concat();
    format!(
        "The allocators of frames:{words}\n  Each is a word of stacks too: cargo lab replay a.trace --over 'smp(region(1GiB, hybrid))'\n\n\
         Examples:\n  cargo lab frames\n  cargo lab frames aging cache --over hybrid --over bitmap --size 64GiB\n  \
         cargo lab frames bulk --order 0 --order 9 --threads 8 --json frames.json\n  \
         cargo lab frames single --size 64MiB --size 64GiB\n  \
         cargo lab frames --topology far.toml --policy local --policy bind=1 --fill 90\n\n\
         A topology, here of a node with processors and one of memory alone; a row of distances for each node:\n  \
         distances = [[10, 40], [40, 10]]\n  \
         node = [{{ memory = \"4GiB\", cpus = 8 }}, {{ memory = \"16GiB\" }}]"
    )
}

/// What to read.
#[derive(Debug, Args)]
pub struct Source {
    /// A recorded or imported trace, or a text or zip file that `import` reads
    pub trace: PathBuf,
    /// Take a trace whose end is missing for what it still holds
    #[arg(long)]
    pub partial: bool,
}

/// How to replay.
#[derive(Debug, Args)]
pub struct How {
    /// What to write into new blocks: one byte a page, every byte, or nothing
    #[arg(long, value_enum, default_value = "page")]
    pub touch: Policy,
    /// Replay on the trace's threads, or on one
    #[arg(long, value_enum, default_value = "keep")]
    pub threads: Threads,
    /// Rounds of timing [default: 7, more of a short trace, fewer of a long one]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
}

/// Figures for scripts.
#[derive(Debug, Args)]
pub struct Json {
    /// Also write the figures to this file as JSON; `-` is stdout, and then they are all that stands there
    #[arg(long = "json", value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// Options that exclude one another: the command line is wrong.
#[derive(Debug)]
pub struct Clash(pub &'static str);

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Clash {}

/// Parses every text, so that a wrong one is found before any work.
///
/// # Errors
/// The first wrong one's.
pub fn stacks(texts: &[String]) -> anyhow::Result<Vec<Stack>> {
    let mut stacks = Vec::new();
    for text in texts {
        let stack = Stack::parse(text)?;
        if !stacks.contains(&stack) {
            stacks.push(stack);
        }
    }
    Ok(stacks)
}
