//! `lab record`: runs a program with the recorder preloaded and writes what it asked of `malloc` as a trace.
//!
//! ```text
//! program, its threads, its children        meanwhile, in the lab
//! ┌──────────────────────────┐              ┌───────────────────────────────────────┐
//! │ recorder.so (preloaded)  │── spool ───> │ merge ── records ──> convert ── events │──> trace
//! └──────────────────────────┘              └───────────────────────────────────────┘
//! ```
//!
//! The recorder (`recorder/`) is compiled by the build script and carried inside the lab; [`session`]
//! puts it into the spool's folder. [`program`] looks at the program first, so that one which cannot be
//! recorded is not run at all. While the program runs, one thread of the lab follows it through the spool and
//! converts; the spool holds what the lab is behind. A program that is killed has written to the spool
//! what it did, and the lab goes on to its end.
//!
//! **Overhead.** No clock is read per call, so what recording costs is measured apart: before the
//! program starts, the recorder times some hundred thousand calls in a process of the lab's own, with
//! and without itself, on the same disk. The report gives that figure times the calls: an estimate, low where
//! threads contend for the stamp. [`RecordOptions::rerun`] measures instead: the program runs
//! once more without the recorder, with all its effects, and the report gives both times.
//!
//! What is not recorded: children that clear their environment, static or setuid ones, and programs
//! with an allocator of their own. What still runs when the program has ended (daemons) is cut off there.

mod addresses;
mod convert;
mod merge;
mod os;
mod output;
mod program;
mod report;
mod session;
mod stream;

#[cfg(not(clippy))]
#[path = "../../recorder/spool.rs"]
#[allow(dead_code, reason = "the half that writes is the recorder's")]
mod spool;

// Clippy sees the whole recorder here, with the lab's lints; no build links it.
#[cfg(clippy)]
#[path = "../../recorder/lib.rs"]
mod recorder;
#[cfg(clippy)]
use recorder::spool;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use terrace_trace::{Header, Machine};

use convert::{Converter, Counts};
use merge::{Merge, Step};
use output::Output;
pub use report::{Ended, Overhead, RecordReport};
use session::{Control, Session};
use spool::control;

/// What to record, and where to.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The program's name, looked for in PATH, or its path.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The trace. Written beside its place and moved there at the end, so that an older one stays until then.
    pub output: PathBuf,
    /// Where the spool goes: 16 to 40 bytes for each call that is not converted yet. The folder for temporary files if not given.
    pub spool: Option<PathBuf>,
    /// Whether to run the program once more, without the recorder, to measure the overhead.
    pub rerun: bool,
}

/// Below so many calls the report doubts that it saw the program's allocations.
const FEW_CALLS: u64 = 100;

/// Records a program. `progress` is called with the records converted and all records, now and then,
/// once the program has ended; if the lab has kept pace, hardly ever.
///
/// # Errors
/// One sentence with the remedy. Nothing is run if the program cannot be recorded or the trace not be
/// written. If the spool's disk fills up, the trace holds what was recorded until then.
pub fn record(options: RecordOptions, progress: &mut dyn FnMut(u64, u64)) -> Result<RecordReport> {
    let path = program::find(&options.program)?;
    let output = Output::prepare(&options.output)?;
    let parent = options.spool.clone().unwrap_or_else(std::env::temp_dir);
    let (plain_ns, recorded_ns) = session::calibrate(&parent)?;

    let session = Session::new(&parent, false)?;
    let mut command = session::command(&path, &options.program, &options.arguments);
    session.attach(&mut command);
    let begin = Instant::now();
    let (end, follower) = (OnceLock::new(), std::thread::current());
    let ended = || {
        let _ = end.set((begin.elapsed(), session.control()));
        follower.unpark();
    };
    let beside = |process| convert(&session, process, &end, &options, output, progress);
    let (status, converted) = os::run(&mut command, ended, beside).with_context(|| cannot_start(&options.program))?;
    let convert = begin.elapsed();
    let (wall, control) = end.into_inner().context("the program ended unseen: record it again")?;
    let control = control?;
    let (counts, images) = converted?;
    let convert = convert.saturating_sub(wall);
    if let Some((_, error)) = control.stop() {
        let why = session::why_it_stopped(error, &parent);
        bail!("only the first {} calls could be recorded, to {}: {why}", counts.calls, options.output.display());
    }

    let mut report = RecordReport {
        program: options.program.to_string_lossy().into_owned(),
        output: options.output.clone(),
        output_bytes: std::fs::metadata(&options.output).map_or(0, |file| file.len()),
        counts,
        processes: images.processes,
        images: images.all,
        ended: Ended::of(status),
        wall,
        convert,
        overhead: Overhead { plain_ns, recorded_ns, rerun: None },
        notes: notes(&counts, &control),
    };
    if options.rerun {
        let begin = Instant::now();
        os::run(&mut session::command(&path, &options.program, &options.arguments), || (), |_| ())
            .with_context(|| cannot_start(&options.program))?;
        report.overhead.rerun = Some(begin.elapsed());
    }
    Ok(report)
}

fn cannot_start(program: &OsString) -> String {
    format!("{} could not be started: see whether it runs by itself", program.display())
}

/// How many images there were, and processes.
struct Images {
    all: usize,
    processes: usize,
}

/// How long the program ran, and what the control page said right after.
type End = (Duration, Result<Control>);

fn convert(
    session: &Session,
    process: u32,
    end: &OnceLock<End>,
    options: &RecordOptions,
    output: Output,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Counts, Images)> {
    let until = || end.get().map(|(_, control)| control.as_ref().map_or(0, Control::until));
    let unreadable = "the spool could not be read back: record again, with another --spool";
    let mut merge = Merge::follow(session.folder(), until).context(unreadable)?;
    let counts = output.write(header(options), |trace| {
        let mut converter = Converter::new(|event| trace.push(event));
        let mut records = 0_u64;
        while let Some(step) = merge.step().context(unreadable)? {
            match step {
                Step::Record { image, thread, record } => converter.take(image, thread, record)?,
                // What the program's process was last is what leaks; what it was before an exec went with that.
                Step::ImageEnds { image, process: ended, last } => {
                    converter.end_image(image, last && ended == u64::from(process))?;
                }
            }
            records += 1;
            if records.is_multiple_of(1 << 16)
                && let Some(until) = until()
            {
                progress(merge.next_stamp().min(until), until);
            }
        }
        let counts = converter.counts();
        match end.get() {
            Some((_, Ok(control))) if counts.calls == 0 => bail!("{}", why_nothing(options, control)),
            _ => Ok(counts),
        }
    })?;
    let (all, processes) = merge.counts();
    Ok((counts, Images { all, processes }))
}

fn header(options: &RecordOptions) -> Header {
    let words = std::iter::once(&options.program).chain(&options.arguments);
    let program = words.map(|word| word.to_string_lossy().into_owned()).collect();
    Header { program, machine: Machine::this(terrace_sys::page_size() as u64), ..Header::default() }
}

/// Why a program that ran left no record.
fn why_nothing(options: &RecordOptions, control: &Control) -> String {
    let program = options.program.display();
    if control.word(control::LOADED) == 0 {
        format!("the recorder was not loaded into {program}: see whether it is statically linked or clears LD_PRELOAD")
    } else if control.word(control::OWN_MALLOC) > 0 {
        format!("{program} defines malloc itself, so no call reaches the recorder: build it with the system's malloc")
    } else {
        format!("{program} asked malloc for nothing: if it allocates, build it to use the system's malloc")
    }
}

fn notes(counts: &Counts, control: &Control) -> Vec<String> {
    let mut notes = Vec::new();
    if counts.calls < FEW_CALLS {
        notes.push(format!(
            "only {} calls came to malloc: if the program allocates more, it has an allocator of its own, \
             which the recorder does not see; build it to use the system's",
            counts.calls
        ));
    }
    let own = control.word(control::OWN_MALLOC);
    if own > 0 {
        let images = control.word(control::LOADED);
        notes.push(format!("{own} of {images} images define malloc themselves: their calls are not in the trace"));
    }
    notes
}
