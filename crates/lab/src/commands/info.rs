//! `lab info`: the figures of a trace, or of the machine.
#![forbid(unsafe_code)]

use crate::{
    cli::{Clash, Info, Source},
    json::Sink,
    machine::{self, Machine},
    open,
    progress::Progress,
    report::table,
};

/// # Errors
/// Where the trace cannot be read, there is one beside `--machine`, or the figures cannot be written.
pub fn run(options: &Info) -> anyhow::Result<()> {
    if options.machine && (options.trace.is_some() || options.partial) {
        return Err(Clash("--machine tells of this machine and reads no trace; leave one of the two out").into());
    }
    let sink = Sink::open(options.json.path.as_deref())?;
    if let Some(trace) = &options.trace {
        let source = Source { trace: trace.clone(), partial: options.partial };
        let info = open::info(&source, &Progress::new())?;
        sink.write(&info)?;
        return sink.say(&table::info(&info));
    }
    let machine = Machine::read();
    sink.write(&machine)?;
    sink.say(&machine::text(&machine))
}
