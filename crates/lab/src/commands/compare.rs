//! `lab compare`: a trace over every stack that can serve it, ranked.
#![forbid(unsafe_code)]

use crate::{cli::Compare, json::Sink, open, progress::Progress, replay::program::Program, stack::Stack};

/// A buffer is offered up to this size: as much as all allocations together, for most short programs.
const BUFFER_MAX: u64 = 256 << 20;

/// # Errors
/// Where the trace cannot be read or the replay itself fails; a stack that fails is a row.
pub fn run(options: &Compare) -> anyhow::Result<()> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let progress = Progress::new();
    let opened = open::open(&options.source, &progress)?;
    let stacks = stacks(&opened.program);
    super::measure(opened, stacks, &options.how, true, &sink, &progress)
}

/// The stacks that may suit `program`.
pub fn stacks(program: &Program) -> Vec<Stack> {
    let page = || Box::new(Stack::Page);
    let arena_of_system = Stack::Arena(Box::new(Stack::System));
    let mut stacks = vec![Stack::System, Stack::Smp(page()), Stack::Arena(page()), arena_of_system, Stack::Page];
    if cfg!(feature = "mimalloc") {
        stacks.push(Stack::Mimalloc);
    }
    // A buffer takes back nothing but its last block; padding to 16 bytes may add as much for each.
    let padded = program.total_bytes.saturating_add(program.ops.len() as u64 * 16);
    if let Some(size) = padded.max(1 << 16).checked_next_power_of_two().filter(|size| *size <= BUFFER_MAX) {
        stacks.push(Stack::Fixed(size));
    }
    stacks
}
