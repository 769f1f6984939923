//! One file for each word of the command line.
#![forbid(unsafe_code)]

pub mod bench;
mod bench_frames;
mod bench_smp;
pub mod compare;
pub mod demo;
pub mod frames;
pub mod import;
pub mod info;
pub mod record;
pub mod replay;

use std::io::{IsTerminal, stdout};

use crate::{
    cli::How,
    json::Sink,
    open::Opened,
    progress::Progress,
    replay::campaign::{self, Options},
    report::{Report, rows, table, verdict},
    stack::Stack,
};

/// Replays, and tells: the common part of `replay`, `compare` and `demo`.
fn measure(
    opened: Opened,
    stacks: Vec<Stack>,
    how: &How,
    ranked: bool,
    sink: &Sink,
    progress: &Progress,
) -> anyhow::Result<()> {
    let options = Options { stacks, touch: how.touch, threads: how.threads, rounds: how.rounds.map(Into::into) };
    let campaign = campaign::run(&opened.program, &options, progress)?;
    let (mut stacks, replayer) = rows::rows(&campaign, &opened.program);
    let verdict = verdict::verdict(&stacks);
    if ranked {
        verdict::rank(&mut stacks);
    }
    let report = Report { trace: opened.info, stacks, verdict, replayer };
    sink.write(&report)?;
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    sink.say(&table::report(&report, colours))
}
