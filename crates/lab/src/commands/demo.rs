//! `lab demo`: the whole way, from a real program to the sentence.
#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};

use crate::{
    cli::{Demo, Source},
    json::Sink,
    open,
    progress::Progress,
    record::{self, RecordOptions, RecordReport},
    report::units,
};

/// Fewer calls would compare little more than the programs' start.
const EVENTS_MIN: u64 = 10_000;

/// # Errors
/// Where no program of this machine can be recorded, or the replay fails.
pub fn run(options: &Demo) -> anyhow::Result<()> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let folder = tempfile::tempdir().context("no temporary folder can be made; set TMPDIR to a place with room")?;
    let trace = options.keep.clone().unwrap_or_else(|| folder.path().join("demo.trace"));
    let progress = Progress::new();
    let (program, report) = record_something(&trace, &progress)?;
    progress.end();
    let (events, threads) = (units::count(report.counts.events), units::count(report.counts.threads.into()));
    sink.say(&format!("recorded `{program}`: {events} events, {threads} threads\n\n"))?;
    let opened = open::open(&Source { trace, partial: false }, &progress)?;
    let stacks = super::compare::stacks(&opened.program);
    super::measure(opened, stacks, &options.how, true, &sink, &progress)
}

/// A program to record: its words as people know them, and the way it is started.
struct Candidate {
    shown: String,
    words: Vec<OsString>,
}

/// Programs that a machine with Rust has, the best for a demo first.
fn candidates() -> Vec<Candidate> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // `cargo run` says where the lab's package lies, whatever folder it was started from.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(|folder| PathBuf::from(folder).join("Cargo.toml"));
    let metadata = ["metadata", "--format-version", "1", "--offline"];
    let mut lists: Vec<(Vec<&str>, bool)> = vec![(metadata.to_vec(), true)];
    lists.push(([metadata.as_slice(), &["--no-deps"]].concat(), true));
    lists.push((vec!["--list"], false));
    let candidate = |(arguments, in_workspace): (Vec<&str>, bool)| {
        let mut words = vec![cargo.clone()];
        words.extend(arguments.iter().map(OsString::from));
        if let Some(manifest) = manifest.as_ref().filter(|manifest| in_workspace && manifest.is_file()) {
            words.extend(["--manifest-path".into(), manifest.into()]);
        }
        Candidate { shown: format!("cargo {}", arguments.join(" ")), words }
    };
    lists.into_iter().map(candidate).collect()
}

/// Records the first program that runs here and asks for enough.
fn record_something(trace: &Path, progress: &Progress) -> anyhow::Result<(String, RecordReport)> {
    let mut failure = None;
    for Candidate { shown, words } in candidates() {
        progress.say(&format!("recording {shown}"));
        // A shell only to keep the program's output off the terminal; it becomes the program.
        let quiet = ["-c", "exec \"$0\" \"$@\" >/dev/null 2>&1"].map(OsString::from);
        let arguments = quiet.into_iter().chain(words).collect();
        let output = trace.to_path_buf();
        let record = RecordOptions { program: "sh".into(), arguments, output, spool: None, rerun: false };
        match record::record(record, &mut |_, _| {}) {
            Ok(report) if report.counts.events >= EVENTS_MIN && report.exit_code() == 0 => return Ok((shown, report)),
            Ok(report) => {
                let (events, code) = (report.counts.events, report.exit_code());
                failure.get_or_insert_with(|| anyhow!("{shown} made {events} events and ended with {code}"));
            }
            Err(error) => failure = Some(error),
        }
    }
    let remedy = "the demo's programs cannot be recorded here; try `cargo lab record` with one of yours";
    Err(failure.unwrap_or_else(|| anyhow!("there is none")).context(remedy))
}
