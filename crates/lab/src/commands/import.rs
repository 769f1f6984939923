//! `lab import`: a text format into a trace.
#![forbid(unsafe_code)]

use std::fs;

use anyhow::{Context, ensure};

use crate::{
    cli::{Import, Source},
    json::Sink,
    open,
    progress::Progress,
    report::units,
};

/// # Errors
/// Where the input is in no known format, or the output cannot be written; nothing half-written is left.
pub fn run(options: &Import) -> anyhow::Result<()> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let same = fs::canonicalize(&options.input).ok().zip(fs::canonicalize(&options.output).ok());
    ensure!(
        same.is_none_or(|(input, output)| input != output),
        "the output is the input itself; name another file with -o"
    );
    let progress = Progress::new();
    open::import(&options.input, &options.output, &progress)?;
    if !options.output.is_file() {
        return Ok(()); // A device or a pipe: what went there cannot be read again.
    }
    let info = open::info(&Source { trace: options.output.clone(), partial: false }, &progress)?;
    sink.write(&info)?;
    let size = fs::metadata(&options.output).context("the trace is gone; run the import again")?.len();
    let (events, size) = (units::count(info.events), units::bytes(size));
    sink.say(&format!("{}: {events} events in {size}\n", options.output.display()))
}
