//! What `record` tells when it is done.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub use super::convert::Counts;
use super::os;

/// A recording that succeeded, even where the program did not.
#[derive(Clone, Debug, Serialize)]
pub struct RecordReport {
    /// The program as it was named.
    pub program: String,
    /// The trace.
    pub output: PathBuf,
    /// Its length.
    pub output_bytes: u64,
    /// What is in it.
    #[serde(flatten)]
    pub counts: Counts,
    /// Processes that allocated.
    pub processes: usize,
    /// The same, but counted anew after each `exec`.
    pub images: usize,
    /// How the program ended.
    pub ended: Ended,
    /// From its start to its end.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
    /// From there until the trace was written.
    #[serde(rename = "convert_seconds", serialize_with = "seconds")]
    pub convert: Duration,
    /// What recording cost the program.
    pub overhead: Overhead,
    /// What the user should know before trusting the trace.
    pub notes: Vec<String>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself.
    Exited { code: i32 },
    /// By a signal.
    Signaled { signal: i32, name: String },
}

/// The recorder's cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overhead {
    /// A call of `malloc` or `free` without it, timed in a process of the lab's own, in nanoseconds.
    pub plain_ns: f64,
    /// The same with it.
    pub recorded_ns: f64,
    /// The program's own time without it, where it was run again.
    #[serde(rename = "rerun_seconds", serialize_with = "optional_seconds")]
    pub rerun: Option<Duration>,
}

impl RecordReport {
    /// What `lab record` exits with: what the program did, or 128 and its signal.
    pub fn exit_code(&self) -> i32 {
        match self.ended {
            Ended::Exited { code } => code,
            Ended::Signaled { signal, .. } => 128 + signal,
        }
    }
}

impl Ended {
    /// What a status says.
    pub(super) fn of(status: ExitStatus) -> Self {
        match os::signal(status) {
            Some((signal, name)) => Self::Signaled { signal, name },
            None => Self::Exited { code: status.code().unwrap_or(1) },
        }
    }
}

impl Overhead {
    /// What each call cost more, in nanoseconds.
    pub fn per_call_ns(&self) -> f64 {
        (self.recorded_ns - self.plain_ns).max(0.0)
    }

    fn of_all(&self, calls: u64) -> Duration {
        Duration::from_secs_f64(self.per_call_ns() * calls as f64 / 1e9)
    }
}

impl Display for RecordReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Counts { events, calls, threads, unknown, overlaps, .. } = self.counts;
        let (output, bytes) = (self.output.display(), self.output_bytes);
        writeln!(f, "{output}: {events} events, {calls} of them calls, in {bytes} bytes")?;
        writeln!(f, "{threads} threads in {} processes ({} images)", self.processes, self.images)?;
        match &self.ended {
            Ended::Exited { code } => write!(f, "{} exited with {code}", self.program)?,
            Ended::Signaled { signal, name } => {
                write!(f, "{} was ended by signal {signal} ({name}); the trace goes up to there", self.program)?;
            }
        }
        writeln!(f, " after {:.2?}; writing the trace took {:.2?}", self.wall, self.convert)?;
        self.overhead.write(f, calls, self.wall)?;
        if unknown > 0 {
            writeln!(f, "{unknown} calls freed or moved a block that the process inherited, or never got from malloc")?;
        }
        if overlaps > 0 {
            writeln!(f, "{overlaps} blocks were given out while still in use: freed in a way that is not seen")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl Overhead {
    fn write(&self, f: &mut Formatter<'_>, calls: u64, wall: Duration) -> fmt::Result {
        let (per_call, of_all) = (self.per_call_ns(), self.of_all(calls));
        match self.rerun {
            Some(plain) => {
                let ratio = wall.as_secs_f64() / plain.as_secs_f64().max(1e-9);
                writeln!(
                    f,
                    "overhead: {ratio:.2}x the program's own {plain:.2?}, which a second run took without recorder"
                )
            }
            None => writeln!(
                f,
                "overhead: about {of_all:.2?} of processor time ({per_call:.0} ns a call, timed on one thread)"
            ),
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}
