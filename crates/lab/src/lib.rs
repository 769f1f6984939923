//! The lab: records what a program asks of malloc, replays it over stacks of allocators, says which is best.
//!
//! `cargo lab` is [`main`] and nothing else. A program of your own that registers an allocator first is the same lab with one word more:
//!
//! ```no_run
//! static MINE: terrace::Gpa = terrace::gpa(); // in place of yours: anything that is `Allocator` and `Sync`
//!
//! fn main() -> std::process::ExitCode {
//!     terrace::manager::register("mine", &MINE).expect("the name is free");
//!     terrace_lab::main() // compare a.trace; replay a.trace --over 'arena(mine)' --over mine --over 'smp(page)'
//! }
//! ```
//!
//! Each replay begins in a process of its own, which runs that `main` from its start, so the word is known there too.
//! A program that links this crate has its large tables kept out of malloc (`own_memory.rs`), by a global allocator.
//!
//! ```text
//! cli ─▶ commands ─┬─ record/   a program's calls into a trace
//!                  ├─ open      a trace, or a text format imported on the way
//!                  ├─ machine    what this machine has
//!                  ├─ frames/   workloads over allocators of page frames
//!                  ├─ replay/   the same calls again, over each stack, in processes of their own
//!                  └─ report/   rows, the table, the sentence, JSON
//! ```
//!
//! Exit status: 0; 1 where something failed, with one sentence on stderr; 2 where the command line
//! is wrong. `record` ends with the recorded program's status.

mod cli;
mod commands;
mod frames;
mod json;
mod machine;
mod open;
mod own_memory;
mod progress;
mod record;
mod replay;
mod report;
mod stack;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind as Usage};

use cli::{Cli, Command};

#[global_allocator]
static OWN_MEMORY: own_memory::OwnMemory = own_memory::OwnMemory;

/// Does what the command line says, as `cargo lab` does.
///
/// The names of [`terrace::manager::register`] are words of its stack expressions, in this process and in those that it starts.
pub fn main() -> ExitCode {
    if let Some(name) = terrace::manager::names().into_iter().find(|name| stack::is_taken(name)) {
        eprintln!("error: {name} is a word of the lab's own; register the allocator under another name");
        return ExitCode::from(2);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // To a closed pipe nothing can be said.
            let _ = error.print();
            let asked = matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { 2 });
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<stack::ParseError>() || error.is::<cli::Clash>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        Command::Demo(options) => done(commands::demo::run(&options)),
        Command::Record(options) => commands::record::run(options),
        Command::Import(options) => done(commands::import::run(&options)),
        Command::Info(options) => done(commands::info::run(&options)),
        Command::Replay(options) => done(commands::replay::run(&options)),
        Command::Compare(options) => done(commands::compare::run(&options)),
        Command::Bench(options) => done(commands::bench::run(&options)),
        Command::Frames(options) => done(commands::frames::run(&options)),
        Command::ReplayChild { job } => done(replay::child::run(&job)),
    }
}

/// Whoever read our output has read enough: no error.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
