//! `lab info`: the figures of a trace.
#![forbid(unsafe_code)]

use crate::{cli::TraceInfo, json::Sink, open, progress::Progress, report::table};

/// # Errors
/// Where the trace cannot be read or the figures cannot be written.
pub fn run(options: &TraceInfo) -> anyhow::Result<()> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let info = open::info(&options.source, &Progress::new())?;
    sink.write(&info)?;
    sink.say(&table::info(&info))
}
