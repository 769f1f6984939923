//! Why a trace cannot be read, written or imported: one sentence with the place and the remedy.
#![forbid(unsafe_code)]

use std::{fmt, io, path::PathBuf};

use crate::{BlockId, ThreadId};

/// Why a trace cannot be read, written or imported.
///
/// [`Display`](fmt::Display) is one sentence that names the byte offset and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TraceError {
    /// The operating system refused.
    Io {
        /// What was tried, as in "cannot …".
        doing: &'static str,
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// What it said.
        source: io::Error,
    },
    /// The file does not begin as a trace does.
    NotATrace {
        /// What it seems to be.
        what: &'static str,
    },
    /// A trace of a later version.
    Version {
        /// The file's version.
        found: u16,
    },
    /// Bytes that no writer has written so.
    Damaged {
        /// Where in the file the damaged record begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An event that cannot follow those before it.
    Event {
        /// Where in the file the event's frame begins.
        offset: u64,
        /// The event's number, from 1.
        event: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A header beyond [`format::MAX_HEADER`](crate::format::MAX_HEADER) bytes.
    LongHeader {
        /// Its bytes.
        bytes: usize,
    },
    /// A writer that failed before cannot go on: a part of a frame may stand at the end of the file.
    WriterFailed {
        /// Where in the file that frame begins.
        offset: u64,
    },
    /// A line of a text trace that says nothing known.
    Line {
        /// Its number, from 1.
        line: u64,
        /// Where it begins in the unpacked text.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file that is none of the text traces that can be imported.
    NotImportable {
        /// What it seems to be, and what to do.
        what: &'static str,
    },
    /// A zip archive that cannot be unpacked.
    Archive {
        /// How far the unpacked text had come.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Why an event cannot follow those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A free or realloc of a block that is not live.
    Dead(BlockId),
    /// A new block with a name beyond the next unused one.
    Block(BlockId),
    /// A thread with a number beyond the next unused one.
    Thread(ThreadId),
    /// An alignment of 2^64 bytes or more.
    Alignment(u8),
    /// A mark whose label does not stand in the header.
    Label(u32),
    /// A bulk free that no [`Op::BulkFree`](crate::Op::BulkFree) announced.
    Unannounced,
    /// Another event of a thread before its announced bulk frees were complete.
    Interrupted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(block) => write!(f, "block {} is not live", block.0),
            Self::Block(block) => write!(f, "block {} skips unused names", block.0),
            Self::Thread(thread) => write!(f, "thread {} skips unused numbers", thread.0),
            Self::Alignment(log2) => write!(f, "an alignment of 2^{log2} bytes is beyond 64 bits"),
            Self::Label(label) => write!(f, "label {label} does not stand in the header"),
            Self::Unannounced => f.write_str("a bulk free was not announced"),
            Self::Interrupted => f.write_str("announced bulk frees are missing"),
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, path: Some(path), source } => write!(f, "cannot {doing} {}: {source}", path.display())?,
            Self::Io { doing, path: None, source } => write!(f, "cannot {doing} the trace: {source}")?,
            Self::NotATrace { what } => {
                return write!(f, "not a Terrace trace at byte 0: {what}; import text traces first, or record anew");
            }
            Self::Version { found } => {
                return write!(
                    f,
                    "the trace has format version {found} at byte 8, this program reads up to {}; update Terrace",
                    crate::format::VERSION
                );
            }
            Self::Damaged { offset, what } => {
                return write!(f, "the trace is damaged at byte {offset}: {what}; copy it again, or record anew");
            }
            Self::Event { offset, event, fault } => {
                return write!(
                    f,
                    "event {event}, in the frame at byte {offset}, cannot happen: {fault}; \
                     repair the program that wrote the trace, or record anew"
                );
            }
            Self::LongHeader { bytes } => {
                return write!(
                    f,
                    "the trace's header at byte 0 would have {bytes} bytes of at most {}; shorten the command line or the labels",
                    crate::format::MAX_HEADER
                );
            }
            Self::WriterFailed { offset } => {
                return write!(
                    f,
                    "writing the trace failed earlier, at byte {offset}; the frames before it can be read"
                );
            }
            Self::Line { line, offset, what } => {
                return write!(f, "line {line}, at byte {offset} of the text, is malformed: {what}; repair or cut it");
            }
            Self::NotImportable { what } => return write!(f, "cannot import, at byte 0: {what}"),
            Self::Archive { offset, what } => {
                return write!(
                    f,
                    "the zip archive cannot be unpacked beyond byte {offset} of its text: {what}; unpack it yourself and import the text"
                );
            }
        }
        match self {
            Self::Io { source, .. } => f.write_str(remedy(source.kind())),
            _ => Ok(()),
        }
    }
}

/// What helps against an error of the operating system.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "; choose another place or allow access",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; free some space or choose another place"
        }
        io::ErrorKind::IsADirectory => "; name a file",
        _ => "; try again or choose another place",
    }
}

impl std::error::Error for TraceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
