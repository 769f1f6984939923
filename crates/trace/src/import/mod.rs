//! [`import`]: text traces of other tools, plain or zipped, into a trace.
//!
//! ```text
//!   file ──▶ (zip: its one member) ──▶ lines ──▶ replay | wee ──▶ events ──▶ Writer
//! ```
//!
//! The format is told by the content, never by the name. Text streams through: a line has a few hundred bytes at
//! most, and an archive may not unpack to more than [`MAX_RATIO`] times its size.
//!
//! Memory: what the program had live, and for `replay` every address that it ever used (to count
//! reuse), for `wee` four bytes for each block ever made.
#![forbid(unsafe_code)]

mod lines;
mod replay;
mod wee;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use zip::ZipArchive;

use crate::{Event, TraceError, Writer};
use lines::Lines;

/// How many times its packed size an archive's text may have. Traces pack 10 to 30 times.
pub const MAX_RATIO: u64 = 200;
/// What an archive may always unpack to.
const MIN_ROOM: u64 = 1 << 20;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Android's `memory_replay`: `202: malloc 0xb4827400 1024`.
    Replay,
    /// `wee_alloc`'s test traces: `Alloc(552),`, `Free(0),`.
    Wee,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replay => "replay",
            Self::Wee => "wee",
        })
    }
}

/// How far an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of text read.
    pub bytes: u64,
    /// Bytes of text in all, as the file claims.
    pub total: u64,
    /// Lines read.
    pub lines: u64,
}

/// What only the importer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// What the text was.
    pub format: Format,
    /// Lines of text, one call each.
    pub lines: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Allocations at an address seen before.
    pub reused_addrs: u64,
    /// Frees of blocks that were not live.
    pub invalid_frees: u64,
    /// Reallocs of blocks that were not live.
    pub invalid_reallocs: u64,
    /// The largest alignment that a `memalign` asked for, also in vain; 0: there was none.
    pub max_align: u64,
    /// Alignments that were no power of two; the trace has the next larger one.
    pub odd_aligns: u64,
}

impl ImportReport {
    fn new(format: Format) -> Self {
        Self {
            format,
            lines: 0,
            bytes: 0,
            reused_addrs: 0,
            invalid_frees: 0,
            invalid_reallocs: 0,
            max_align: 0,
            odd_aligns: 0,
        }
    }
}

/// Which format the file at `path` has, told by its first bytes.
///
/// # Errors
/// Where the file cannot be read or is none of them.
pub fn detect(path: &Path) -> Result<Format, TraceError> {
    let mut found = None;
    with_text(open(path)?, |text, _| {
        found = Some(format_of(text)?);
        Ok(())
    })
    .map_err(|error| with_path(error, path))?;
    Ok(found.expect("a text was found, or an error"))
}

/// Writes the text trace at `path` into `writer`; `progress` hears every few thousand lines, and at the end.
///
/// # Errors
/// Where the file cannot be read or is none of the formats, where a line says nothing known (with its
/// number and byte offset), or where `writer` fails. What was written until then stays.
pub fn import<W: Write>(
    path: &Path,
    progress: impl FnMut(Progress),
    writer: &mut Writer<W>,
) -> Result<ImportReport, TraceError> {
    import_from(open(path)?, progress, writer).map_err(|error| with_path(error, path))
}

/// As [`import`], from anything that can be read and sought in.
///
/// # Errors
/// As [`import`].
pub fn import_from<W: Write>(
    source: impl Read + Seek,
    progress: impl FnMut(Progress),
    writer: &mut Writer<W>,
) -> Result<ImportReport, TraceError> {
    let mut report = None;
    with_text(source, |text, total| {
        let format = format_of(text)?;
        let mut import = Import { lines: Lines::new(text, total, progress), writer, report: ImportReport::new(format) };
        match format {
            Format::Replay => replay::import(&mut import)?,
            Format::Wee => wee::import(&mut import)?,
        }
        import.report.lines = import.lines.number();
        import.report.bytes = import.lines.end();
        report = Some(import.report);
        Ok(())
    })?;
    Ok(report.expect("a text was found, or an error"))
}

/// An import under way.
struct Import<'a, 'b, P, W> {
    lines: Lines<'a, P>,
    writer: &'b mut Writer<W>,
    report: ImportReport,
}

impl<P, W: Write> Import<'_, '_, P, W> {
    fn push(&mut self, event: Event) -> Result<(), TraceError> {
        self.writer.push(event)
    }
}

fn open(path: &Path) -> Result<File, TraceError> {
    let io = |source| TraceError::Io { doing: "open", path: Some(path.to_owned()), source };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(io(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(io(io::Error::other("only a regular file can be imported")));
    }
    Ok(file)
}

/// Names the file in an error of reading it; the writer's errors name their own.
fn with_path(error: TraceError, path: &Path) -> TraceError {
    match error {
        TraceError::Io { doing: doing @ "read", path: None, source } => {
            TraceError::Io { doing, path: Some(path.to_owned()), source }
        }
        error => error,
    }
}

fn read_error(source: io::Error) -> TraceError {
    TraceError::Io { doing: "read", path: None, source }
}

/// Gives the text in `source`, unpacked, and its claimed length to `then`.
fn with_text(
    mut source: impl Read + Seek,
    then: impl FnOnce(&mut dyn BufRead, u64) -> Result<(), TraceError>,
) -> Result<(), TraceError> {
    let length = source.seek(SeekFrom::End(0)).map_err(read_error)?;
    source.rewind().map_err(read_error)?;
    let mut first = [0; 4];
    let read = fill(&mut source, &mut first).map_err(read_error)?;
    source.rewind().map_err(read_error)?;
    if !matches!(&first[..read], b"PK\x03\x04" | b"PK\x05\x06") {
        return then(&mut BufReader::with_capacity(1 << 16, source), length);
    }
    let broken = |what: String| TraceError::Archive { offset: 0, what };
    let mut archive = ZipArchive::new(source).map_err(|error| broken(error.to_string()))?;
    if archive.len() != 1 {
        return Err(broken(format!("it holds {} files where one is expected", archive.len())));
    }
    let member = archive.by_index(0).map_err(|error| broken(error.to_string()))?;
    let claimed = member.size();
    let room = member.compressed_size().min(length).saturating_mul(MAX_RATIO).max(MIN_ROOM);
    let mut unpacked = Unpacked { from: member, room, at: 0 };
    // An inflater may give a few bytes at a time; the format is told by more than one.
    let mut first = [0; 64];
    let read = fill(&mut unpacked, &mut first).map_err(text_error)?;
    then(&mut BufReader::with_capacity(1 << 16, first[..read].chain(unpacked)), claimed)
}

fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A member's text, until there is more of it than an honest archive holds.
struct Unpacked<R> {
    from: R,
    room: u64,
    at: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let broken = |at, what| io::Error::other(Broken(TraceError::Archive { offset: at, what }));
        let read = match self.from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            read => read.map_err(|error| broken(self.at, error.to_string()))?,
        };
        self.at += read as u64;
        if self.at > self.room {
            return Err(broken(self.at, format!("it unpacks to more than {MAX_RATIO} times its size")));
        }
        Ok(read)
    }
}

/// A [`TraceError`] on its way through [`io::Error`].
#[derive(Debug)]
struct Broken(TraceError);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

/// What a text's reader has met: an archive's error, or the file's.
fn text_error(error: io::Error) -> TraceError {
    match error.downcast::<Broken>() {
        Ok(Broken(error)) => error,
        Err(error) => read_error(error),
    }
}

/// Which format `text` begins with.
fn format_of(text: &mut dyn BufRead) -> Result<Format, TraceError> {
    let what = match text.fill_buf().map_err(text_error)? {
        [] => "the file is empty",
        first if first.starts_with(b"Alloc(") || first.starts_with(b"Free(") => return Ok(Format::Wee),
        [b'0'..=b'9', rest @ ..] => {
            if rest.iter().take(20).find(|byte| !byte.is_ascii_digit()) == Some(&b':') {
                return Ok(Format::Replay);
            }
            "neither the replay nor the wee format; see the lab's help for both"
        }
        first if first.starts_with(&crate::format::MAGIC) => "this is a Terrace trace already; use it as it is",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "this is an xz file; unpack it with xz -d",
        [0x1f, 0x8b, ..] => "this is a gzip file; unpack it with gunzip",
        _ => "neither the replay nor the wee format; see the lab's help for both",
    };
    Err(TraceError::NotImportable { what })
}
