//! The trace's file: tried before the program runs, put in its place at the end.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempPath;
use terrace_trace::{Event, Header, TraceError, Writer};

/// The trace's place.
pub struct Output {
    place: PathBuf,
    /// The file that is written; in a device's or a pipe's place, the place itself.
    partial: Option<TempPath>,
}

/// The writer has given up; why it did [`Output::write`] returns.
#[derive(Debug)]
pub struct GaveUp;

impl Output {
    /// Makes sure that `place` can be written.
    pub fn prepare(place: &Path) -> Result<Self> {
        let cannot = || format!("{} cannot be written: name another place with -o", place.display());
        if place.metadata().is_ok_and(|file| !file.is_file()) {
            OpenOptions::new().write(true).open(place).with_context(cannot)?;
            return Ok(Self { place: place.to_owned(), partial: None });
        }
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut partial = tempfile::Builder::new();
        partial.prefix(".").suffix(".partial");
        super::os::like_an_ordinary_file(&mut partial);
        let partial = partial.tempfile_in(folder).with_context(cannot)?;
        Ok(Self { place: place.to_owned(), partial: Some(partial.into_temp_path()) })
    }

    /// Writes the events that `fill` gives to its argument. If it fails, an older trace stays as it was.
    pub fn write<T>(self, header: Header, fill: impl FnOnce(&mut Trace) -> Result<T>) -> Result<T> {
        let failed =
            || format!("{} could not be written: free some room or name another place with -o", self.place.display());
        let path: &Path = self.partial.as_deref().unwrap_or(&self.place);
        let mut trace = Trace { writer: Writer::create(path, header).with_context(failed)?, error: None };
        let filled = fill(&mut trace);
        trace.error.map_or(Ok(()), Err).with_context(failed)?;
        let result = filled?;
        trace.writer.finish().with_context(failed)?;
        let failed = failed();
        self.partial.map_or(Ok(()), |partial| partial.persist(&self.place)).context(failed)?;
        Ok(result)
    }
}

/// A trace that is being written.
pub struct Trace {
    writer: Writer<File>,
    error: Option<TraceError>,
}

impl Trace {
    /// Adds an event.
    #[inline]
    pub fn push(&mut self, event: Event) -> Result<(), GaveUp> {
        self.writer.push(event).map_err(|error| {
            self.error.get_or_insert(error);
            GaveUp
        })
    }
}

impl std::fmt::Display for GaveUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the trace's writer gave up")
    }
}

impl std::error::Error for GaveUp {}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_trace::{Nothing, Op, Reader, ThreadId};

    fn event() -> Event {
        Event { thread: ThreadId(0), op: Op::Nothing(Nothing::FreeNull) }
    }

    #[test]
    fn more_events_than_a_frame_holds_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.trace");
        let all = 300_001;
        let output = Output::prepare(&place).unwrap();
        output.write(Header::default(), |trace| Ok((0..all).try_for_each(|_| trace.push(event()))?)).unwrap();
        let reader = Reader::open(&place).unwrap();
        assert_eq!(reader.events().map(Result::unwrap).filter(|read| *read == event()).count(), all);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn a_failure_leaves_the_older_trace_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.trace");
        std::fs::write(&place, b"older").unwrap();
        let output = Output::prepare(&place).unwrap();
        let failed = output.write(Header::default(), |trace| {
            trace.push(event())?;
            anyhow::bail!("no more") as Result<()>
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read(&place).unwrap(), b"older");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_told_with_its_remedy() {
        let place = Path::new("/dev/full");
        if !place.exists() {
            eprintln!("skipped: no /dev/full here");
            return;
        }
        let output = Output::prepare(place).unwrap();
        // The header alone fails, or a frame: either way the writer's reason comes out.
        let failed =
            output.write(Header::default(), |trace| Ok((0..10_000_000).try_for_each(|_| trace.push(event()))?));
        let error = format!("{:#}", failed.unwrap_err());
        assert!(error.contains("free some room"), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_beforehand() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Output::prepare(&file.path().join("under/a/file")).map(drop).unwrap_err();
        assert!(error.to_string().contains("name another place"), "{error}");
    }
}
