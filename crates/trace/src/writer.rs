//! [`Writer`]: events in, a trace file out, frame by frame.
//!
//! - **I1** Everything before `offset` was written; it is a header and whole frames.
//! - **I2** After a failed write nothing is written any more: what stands behind `offset` is unknown.
//!
//! Costs: 32 bytes of memory for each frame written (for the index), under 2 MiB besides. A writer that is
//! dropped or killed before [`finish`](Writer::finish) leaves a trace that is readable up to its last
//! whole frame; frames are handed over with one `write_all` each.
#![forbid(unsafe_code)]

use std::{fs::File, io::Write, path::Path, path::PathBuf};

use zstd::bulk::Compressor;

use crate::check::Checker;
use crate::codec::Encoder;
use crate::format::{self, Frame, MAX_BODY};
use crate::{Event, Header, TraceError};

/// zstd's fastest level: traces are written while somebody waits.
const LEVEL: i32 = 1;

/// Writes a trace.
///
/// ```
/// use terrace_trace::{AllocKind, BlockId, Event, Header, Op, Reader, ThreadId, Writer};
///
/// let mut writer = Writer::new(Vec::new(), Header::default())?;
/// let alloc = Op::Alloc { block: BlockId(0), len: 24, align_log2: 4, kind: AllocKind::Plain };
/// writer.push(Event { thread: ThreadId(0), op: alloc })?;
/// let file = writer.finish()?;
///
/// let reader = Reader::from_bytes(file)?;
/// assert_eq!(reader.events().next().unwrap()?.op, alloc);
/// # Ok::<(), terrace_trace::TraceError>(())
/// ```
pub struct Writer<W> {
    out: W,
    path: Option<PathBuf>,
    checker: Checker,
    encoder: Encoder,
    compressor: Compressor<'static>,
    packed: Vec<u8>,
    frames: Vec<Frame>,
    events: u64,
    offset: u64,
    failed: bool,
}

impl Writer<File> {
    /// A new trace file, in place of what is there.
    ///
    /// # Errors
    /// Where the file cannot be made or written, or the header is too long.
    pub fn create(path: &Path, header: Header) -> Result<Self, TraceError> {
        let file = File::create(path).map_err(|source| TraceError::Io {
            doing: "create",
            path: Some(path.to_owned()),
            source,
        })?;
        Self::start(file, Some(path.to_owned()), &header)
    }
}

impl<W: Write> Writer<W> {
    /// A trace into `out`, which gets whole frames: it needs no buffer.
    ///
    /// # Errors
    /// Where `out` fails, or the header is too long.
    pub fn new(out: W, header: Header) -> Result<Self, TraceError> {
        Self::start(out, None, &header)
    }

    fn start(out: W, path: Option<PathBuf>, header: &Header) -> Result<Self, TraceError> {
        let bytes = header.encode()?;
        let compressor = Compressor::new(LEVEL).map_err(|source| TraceError::Io {
            doing: "start compressing",
            path: path.clone(),
            source,
        })?;
        let mut writer = Self {
            out,
            path,
            checker: Checker::new(header.labels.len()),
            encoder: Encoder::default(),
            compressor,
            packed: Vec::with_capacity(MAX_BODY),
            frames: Vec::new(),
            events: 0,
            offset: 0,
            failed: false,
        };
        writer.write(&bytes)?;
        Ok(writer)
    }

    /// Adds an event.
    ///
    /// # Errors
    /// Where the event cannot follow those before it, or a frame cannot be written; then the writer takes no more.
    #[inline]
    pub fn push(&mut self, event: Event) -> Result<(), TraceError> {
        if self.failed {
            return Err(TraceError::WriterFailed { offset: self.offset });
        }
        self.events += 1;
        if let Err(fault) = self.checker.check(&event) {
            self.failed = true;
            return Err(TraceError::Event { offset: self.offset, event: self.events, fault });
        }
        self.encoder.push(&event);
        if self.encoder.has_room() { Ok(()) } else { self.flush() }
    }

    /// Ends the frame, so that everything pushed so far outlives a crash of this process.
    ///
    /// # Errors
    /// Where it cannot be written; then the writer takes no more.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        if self.failed {
            return Err(TraceError::WriterFailed { offset: self.offset });
        }
        if self.encoder.events() == 0 {
            return Ok(());
        }
        let frame = Frame {
            offset: self.offset,
            first_event: self.events - u64::from(self.encoder.events()),
            events: self.encoder.events(),
            blocks: self.checker.blocks(),
            threads: self.checker.threads(),
        };
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        let written = self
            .compressor
            .compress_to_buffer(self.encoder.raw(), &mut packed)
            .map_err(|source| self.io("compress", source))
            .and_then(|_| {
                let start = format::frame_start(&frame, self.encoder.raw().len(), &packed);
                packed.splice(0..0, start);
                self.write(&packed)
            });
        self.packed = packed;
        written?;
        self.frames.push(frame);
        self.encoder.clear();
        Ok(())
    }

    /// Ends the trace with its index and gives `out` back.
    ///
    /// # Errors
    /// Where the rest cannot be written.
    pub fn finish(mut self) -> Result<W, TraceError> {
        self.flush()?;
        let index = format::index(&self.frames, self.offset);
        self.write(&index)?;
        self.out.flush().map_err(|source| self.io("write", source))?;
        Ok(self.out)
    }

    /// Events pushed so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        if let Err(source) = self.out.write_all(bytes) {
            self.failed = true;
            return Err(self.io("write", source));
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> TraceError {
        TraceError::Io { doing, path: self.path.clone(), source }
    }
}
