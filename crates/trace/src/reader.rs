//! [`Reader`]: a trace file in, events out, one decoded frame at a time.
//!
//! ```text
//!   mapped file ── copy ──▶ body ── zstd ──▶ raw ── decode, check ──▶ events of one frame
//! ```
//!
//! - **I1** Nothing that the file claims is believed before it is checked: lengths against the limits of
//!   [`crate::format`] and the file's own size, bodies against their CRC, events against those before them.
//! - **I2** `frames` follow each other in the file and in the count of events.
//!
//! Costs: memory for one frame (about 1 MiB), 32 bytes for each frame of the file, one bit for each block name and
//! four bytes for each thread; some 20 ns an event.
#![forbid(unsafe_code)]

use std::path::Path;

use zstd::bulk::Decompressor;

use crate::check::Checker;
use crate::format::{self, FRAME_START, Frame, INDEX};
use crate::map::Bytes;
use crate::{Event, Header, TraceError, codec};

/// Reads a trace.
pub struct Reader {
    bytes: Bytes,
    header: Header,
    frames: Vec<Frame>,
    truncated: bool,
    /// Where and why the frames end before the file does.
    damage: Option<(u64, &'static str)>,
}

impl Reader {
    /// Maps the trace at `path`. A program that cuts the file short meanwhile ends this one with SIGBUS.
    ///
    /// # Errors
    /// Where the file cannot be opened or does not begin with a whole header. Damage further on is
    /// reported where the events get there.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::new(Bytes::map(path)?)
    }

    /// Reads the trace that `bytes` are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, TraceError> {
        Self::new(Bytes::Held(bytes))
    }

    fn new(bytes: Bytes) -> Result<Self, TraceError> {
        let (header, first_frame) = Header::decode(&bytes)?;
        if let Some(frames) = format::parse_index(&bytes, first_frame) {
            return Ok(Self { bytes, header, frames, truncated: false, damage: None });
        }
        let (frames, damage) = walk(&bytes, first_frame);
        Ok(Self { bytes, header, frames, truncated: true, damage })
    }

    /// What the trace says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the end is missing: the writer was killed, or the file cut off.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// The frames, as the file claims them: each is checked only when its events are read, so they
    /// are good for progress bars and for seeking, not for reserving memory.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Events in all frames, as the file claims.
    pub fn len(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.first_event + u64::from(last.events))
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Every event in order. After an error nothing follows.
    pub fn events(&self) -> Events<'_> {
        Events { stream: self.stream(), next: 0, ended: false }
    }

    /// Every event in order, a frame at a time: the fast way.
    pub fn stream(&self) -> Stream<'_> {
        Stream {
            reader: self,
            next: 0,
            checker: Checker::new(self.header.labels.len()),
            unpacker: Unpacker::default(),
            events: Vec::new(),
        }
    }

    /// The events of frame `number` alone, appended to `out`; what lies in other frames is not asked,
    /// so blocks may end that were never seen to begin.
    ///
    /// # Errors
    /// Where the frame is damaged.
    ///
    /// # Panics
    /// Without a frame of this number.
    pub fn decode_frame(&self, number: usize, out: &mut Vec<Event>) -> Result<(), TraceError> {
        Unpacker::default().decode(&self.bytes, &self.frames[number], out)
    }
}

/// The frames from `at` on, and what ended them if it was not the end of the file.
fn walk(bytes: &[u8], mut at: usize) -> (Vec<Frame>, Option<(u64, &'static str)>) {
    let (mut frames, mut events) = (Vec::new(), 0u64);
    while let Some(start) = bytes.get(at..).and_then(<[u8]>::first_chunk::<FRAME_START>) {
        if start.starts_with(&INDEX) || bytes[at..].iter().all(|&byte| byte == 0) {
            return (frames, None);
        }
        let start = match format::parse_frame_start(start, at as u64) {
            Ok(start) if start.frame.first_event == events => start,
            Ok(_) => return (frames, Some((at as u64, "events before this frame are missing"))),
            Err(what) => return (frames, Some((at as u64, what))),
        };
        at += FRAME_START + start.body_len;
        if at > bytes.len() {
            break;
        }
        events += u64::from(start.frame.events);
        frames.push(start.frame);
    }
    (frames, None)
}

/// Unpacks frames, with the memory for it.
#[derive(Default)]
struct Unpacker {
    decompressor: Option<Decompressor<'static>>,
    body: Vec<u8>,
    raw: Vec<u8>,
}

impl Unpacker {
    fn decode(&mut self, bytes: &[u8], frame: &Frame, out: &mut Vec<Event>) -> Result<(), TraceError> {
        self.try_decode(bytes, frame, out).map_err(|what| TraceError::Damaged { offset: frame.offset, what })
    }

    fn try_decode(&mut self, bytes: &[u8], frame: &Frame, out: &mut Vec<Event>) -> Result<(), &'static str> {
        let at = usize::try_from(frame.offset).map_err(|_| "a frame beyond the address space")?;
        // A copy, since another process may alter the file: what is checked is what is decoded.
        let start: [u8; FRAME_START] =
            *bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or("the index names a frame beyond the end")?;
        let parsed = format::parse_frame_start(&start, frame.offset)?;
        if parsed.frame != *frame {
            return Err("the frame is not the one that the index names");
        }
        let body = bytes[at + FRAME_START..].get(..parsed.body_len).ok_or("the file ends within the frame")?;
        self.body.clear();
        self.body.extend_from_slice(body);
        if format::frame_crc(&start[..32], &self.body) != parsed.crc {
            return Err("the frame's checksum does not fit");
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(|_| "zstd cannot start")?),
        };
        self.raw.clear();
        self.raw.reserve(parsed.raw_len);
        decompressor.decompress_to_buffer(&self.body, &mut self.raw).map_err(|_| "zstd cannot unpack the frame")?;
        if self.raw.len() != parsed.raw_len {
            return Err("the frame unpacks to another length than it says");
        }
        codec::decode(&self.raw, frame.events, out)
    }
}

/// The events of a trace, a frame at a time. See [`Reader::stream`].
pub struct Stream<'a> {
    reader: &'a Reader,
    next: usize,
    checker: Checker,
    unpacker: Unpacker,
    events: Vec<Event>,
}

impl Stream<'_> {
    /// The next frame's events, checked against all before them; `None` at the end.
    ///
    /// # Errors
    /// Where the frame, or the file behind the last frame, is damaged, or an event cannot be. Then
    /// no more should be asked for.
    pub fn next_frame(&mut self) -> Result<Option<&[Event]>, TraceError> {
        let Some(frame) = self.reader.frames.get(self.next) else {
            return match self.reader.damage {
                Some((offset, what)) => Err(TraceError::Damaged { offset, what }),
                None => Ok(None),
            };
        };
        self.next += 1;
        self.events.clear();
        self.unpacker.decode(&self.reader.bytes, frame, &mut self.events)?;
        for (place, event) in self.events.iter().enumerate() {
            self.checker.check(event).map_err(|fault| TraceError::Event {
                offset: frame.offset,
                event: frame.first_event + place as u64 + 1,
                fault,
            })?;
        }
        if (self.checker.blocks(), self.checker.threads()) != (frame.blocks, frame.threads) {
            let what = "the frame's count of blocks or threads is wrong";
            return Err(TraceError::Damaged { offset: frame.offset, what });
        }
        Ok(Some(&self.events))
    }
}

/// The events of a trace. See [`Reader::events`].
pub struct Events<'a> {
    stream: Stream<'a>,
    next: usize,
    ended: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, TraceError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(&event) = self.stream.events.get(self.next) {
            self.next += 1;
            return Some(Ok(event));
        }
        self.refill()
    }
}

impl Events<'_> {
    #[cold]
    fn refill(&mut self) -> Option<Result<Event, TraceError>> {
        if self.ended {
            return None;
        }
        match self.stream.next_frame() {
            Ok(Some(events)) => {
                self.next = 1;
                return Some(Ok(events[0]));
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                self.ended = true;
                self.next = usize::MAX;
                return Some(Err(error));
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Events<'_> {}
