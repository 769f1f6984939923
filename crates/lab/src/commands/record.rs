//! `lab record`: what a program asks of malloc, into a trace.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context;

use crate::{
    cli::Record,
    json::Sink,
    progress::Progress,
    record::{self, RecordOptions},
};

/// # Errors
/// Where the program cannot be recorded or the trace cannot be written.
pub fn run(options: Record) -> anyhow::Result<ExitCode> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let mut words = options.command.into_iter();
    let program = words.next().context("name the command to record after `--`")?;
    let arguments = words.collect();
    let record =
        RecordOptions { program, arguments, output: options.output, spool: options.spool, rerun: options.rerun };
    let progress = Progress::new();
    // Silent until the program has ended: the terminal is the program's.
    let report = record::record(record, &mut |done, all| progress.part("writing", done, all))?;
    progress.end();
    sink.write(&report)?;
    // On stderr: stdout was the program's.
    eprint!("{report}");
    Ok(ExitCode::from(u8::try_from(report.exit_code()).unwrap_or(1)))
}
