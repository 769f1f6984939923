//! `lab frames`: workloads over allocators of page frames.
#![forbid(unsafe_code)]

use anyhow::ensure;

use crate::{
    cli::Frames,
    frames::{
        self, Options,
        nodes::{self, policy::PolicyWord, topology::Topology},
        rows::{Report, notes, text},
        works::Work,
    },
    json::Sink,
    progress::Progress,
    report::units,
    stack::{
        self,
        frames::{CLASSIC_FRAMES, FRAME, FrameWord},
    },
};

/// A smaller memory has no room for mixed orders on many threads.
const LEAST: u64 = 64 << 20;
/// In a larger one the workloads' own lists would not fit into a usual machine.
const MOST: u64 = 1 << 40;

/// # Errors
/// Where an option makes no sense, an allocator has no memory for its metadata, or the figures cannot be written.
pub fn run(options: &Frames) -> anyhow::Result<()> {
    if let Some(path) = &options.topology {
        return on_nodes(options, Topology::read(path)?);
    }
    let checked = checked(options)?;
    let sink = Sink::open(options.json.path.as_deref())?;
    let progress = Progress::new();
    let rows = frames::run(&checked, &progress, text)?;
    let clock_ns = frames::clock();
    sink.write(&Report { seed: checked.seed, rounds: checked.rounds, clock_ns, rows: &rows })?;
    sink.say(&(text(&rows) + &notes(&rows, clock_ns)))
}

/// `--topology`.
fn on_nodes(options: &Frames, topology: Topology) -> anyhow::Result<()> {
    let with_cpus = topology.nodes.iter().filter(|node| node.cpus > 0).count();
    let checked = nodes::Options {
        topology,
        policies: if options.policy.is_empty() { vec![PolicyWord::Local] } else { options.policy.clone() },
        threads: options.threads.map_or(with_cpus, Into::into),
        fill_percent: options.fill,
        operations: options.ops as usize,
        seed: options.seed,
    };
    let sink = Sink::open(options.json.path.as_deref())?;
    let outcomes = nodes::run(&checked)?;
    sink.write(&nodes::text::Report {
        seed: checked.seed,
        threads: checked.threads,
        fill_percent: checked.fill_percent,
        operations: checked.operations,
        policies: &outcomes,
    })?;
    sink.say(&nodes::text::text(&checked, &outcomes))
}

fn checked(options: &Frames) -> anyhow::Result<Options> {
    let mut sizes = Vec::new();
    for text in &options.size {
        let bytes = stack::parse_size(text)?;
        let range = format!("write {} to {}, for instance --size 4GiB", units::bytes(LEAST), units::bytes(MOST));
        ensure!((LEAST..=MOST).contains(&bytes), "a memory of {text} is not simulated; {range}");
        ensure!(bytes.is_multiple_of(FRAME), "{text} is no multiple of a frame's 4 KiB; {range}");
        sizes.push((bytes / FRAME) as usize);
    }
    let threads = usize::from(options.threads.unwrap_or(1));
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    for &order in &options.order {
        // Each thread gets four runs out of its half.
        let needed = (4u64 << order) * 2 * threads as u64 * FRAME;
        let size = units::bytes(needed.next_power_of_two());
        ensure!(
            least as u64 * FRAME >= needed,
            "order {order} on {threads} threads needs more memory; write --size {} at least",
            size.replace(".00 ", "").replace(".0 ", "").replace(' ', "")
        );
    }
    let over = if options.over.is_empty() { vec![FrameWord::Hybrid] } else { options.over.clone() };
    ensure!(
        !over.contains(&FrameWord::Classic) || most as u64 <= CLASSIC_FRAMES,
        "the links of classic do not reach so far; write a smaller --size, or leave classic out"
    );
    let works = if options.works.is_empty() { ALL.to_vec() } else { options.works.clone() };
    Ok(Options {
        works,
        over,
        sizes,
        orders: options.order.clone(),
        threads,
        operations: options.ops as usize,
        rounds: options.rounds.into(),
        seed: options.seed,
    })
}

/// What runs where none is named.
const ALL: [Work; 6] = [Work::Single, Work::Bulk, Work::Mix, Work::Aging, Work::Producer, Work::Cache];
