//! `lab replay`: a trace over the stacks that were named, in their order.
#![forbid(unsafe_code)]

use crate::{
    cli::{self, Replay},
    json::Sink,
    open,
    progress::Progress,
};

/// # Errors
/// Where a stack or the trace cannot be read, or the replay itself fails; a stack that fails is a row.
pub fn run(options: &Replay) -> anyhow::Result<()> {
    let stacks = cli::stacks(&options.over)?;
    let sink = Sink::open(options.json.path.as_deref())?;
    let progress = Progress::new();
    let opened = open::open(&options.source, &progress)?;
    super::measure(opened, stacks, &options.how, false, &sink, &progress)
}
