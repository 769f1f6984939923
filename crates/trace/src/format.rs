//! The bytes of a trace file, so that anybody can write another reader.
//!
//! ```text
//! +--------+---------+---------+-----+---------+---------+
//! | header | frame 1 | frame 2 |  …  | frame n |  index  |
//! +--------+---------+---------+-----+---------+---------+
//!            each zstd, up to 16,384 events      only when the writer was finished
//! ```
//!
//! Fixed-width numbers are little-endian. A *varint* holds seven bits a byte, the low ones first, the
//! top bit set on all bytes but the last; 64 bits at most. CRCs are CRC-32 (IEEE, as in zip).
//!
//! # Header
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 2 | [`VERSION`] |
//! | 4 | length *n* of the fields, at most [`MAX_HEADER`] |
//! | *n* | the fields |
//! | 4 | CRC of everything before it |
//!
//! A field is a varint key, a varint length, and so many bytes; a reader skips keys that it does not know.
//! Text is UTF-8; numbers are varints. Keys that may repeat are lists in the order of their items.
//!
//! | key | value |
//! |---|---|
//! | 1, repeats | a word of the recorded command line |
//! | 2, 3 | the machine's architecture, its operating system (as in `std::env::consts`) |
//! | 4, 5 | number of CPUs, bytes of a page |
//! | 6 | source: empty = recorded, `"log"` = a logging allocator, `"import:"` + format = imported |
//! | 7, repeats | a label; marks name it by its place in this list |
//! | 8, repeats | a note for people |
//!
//! # Frame
//! | bytes | what |
//! |---|---|
//! | 4 | [`FRAME`] |
//! | 4 | length *n* of the body, at most [`MAX_BODY`] |
//! | 4 | length of the body once unpacked, at most [`MAX_RAW`] |
//! | 4 | events in it, 1 to [`MAX_EVENTS`] |
//! | 4 | block names used up to its end (one more than the highest) |
//! | 4 | threads up to its end |
//! | 8 | events in the frames before it |
//! | 4 | CRC of the 32 bytes above and the body |
//! | *n* | the body: one zstd frame |
//!
//! Every frame is decoded on its own. The unpacked body is one event after another: a byte, then the
//! fields that it asks for. A frame begins with thread 0, block 0 and alignment 2^4 as "the last".
//!
//! | bits of the first byte | meaning |
//! |---|---|
//! | 0–4 ([`OP`]) | what happened, as below |
//! | 5 ([`THREAD`]) | another thread than the last: its number follows, a varint |
//! | 6 ([`SAME_BLOCK`]) | the last block; without it, the difference to the last block follows where the op has one |
//! | 7 ([`ALIGNMENT`]) | only for 0–3: another alignment than the last: a byte with its log2 follows at the end |
//!
//! A difference *d* is a varint of `2d`, or of `-2d - 1` where it is negative.
//!
//! | op | event | fields after the thread |
//! |---|---|---|
//! | 0, 1, 2, 3 | alloc: plain, zeroed, aligned, from realloc | block, varint length, alignment |
//! | 4, 5 | realloc: in place, moved | block, varint length |
//! | 6, 7, 8, 9 | free: plain, from realloc, bulk, overlap | block |
//! | 10 | bulk free | varint count |
//! | 11, 12 | thread start, thread end | |
//! | 13 | mark | varint label |
//! | 14, 15, 16 | free of null, free of an unknown block, realloc of an unknown block | |
//! | 17, 18, 19, 20 | a refused plain, zeroed, aligned alloc; a refused realloc | varint length |
//!
//! What events mean is said at [`Op`](crate::Op); which may follow which: block names and thread
//! numbers are dense (a new one is the next unused), a realloc or free names a live block, announced bulk
//! frees come before the thread's other events.
//!
//! # Index
//! | bytes | what |
//! |---|---|
//! | 4 | [`INDEX`] |
//! | 4 | number of frames |
//! | 28 each | of each frame: 8 offset in the file, 8 events before it, 4 events, 4 block names, 4 threads |
//! | 4 | CRC of everything above |
//! | 8 | offset of the index in the file |
//! | 8 | [`END`], the last bytes of the file |
//!
//! A file without a whole index was cut off: it is read from frame to frame, up to the last whole one.
//! Zero bytes to the end of the file count as cut off too (a file made longer but never written).
#![forbid(unsafe_code)]

use crate::varint;

/// The first bytes of a trace. The last four show where a transfer altered line ends.
pub const MAGIC: [u8; 8] = *b"TRCE\r\n\x1a\n";
/// The version that this crate writes, and the highest that it reads.
pub const VERSION: u16 = 1;
/// The most bytes of a header's fields.
pub const MAX_HEADER: usize = 16 << 20;
/// Begins a frame.
pub const FRAME: [u8; 4] = *b"FRAM";
/// Begins the index.
pub const INDEX: [u8; 4] = *b"INDX";
/// Ends a whole trace.
pub const END: [u8; 8] = *b"TRCE-END";
/// The most events of a frame: few enough that its decoded events stay in a cache, and that a crash loses little.
pub const MAX_EVENTS: u32 = 1 << 14;
/// The most bytes of an event: its first byte, the thread, the block, the length and the alignment.
pub const MAX_EVENT: usize = 1 + 5 + 5 + varint::MAX_LEN + 1;
/// The most bytes of a frame's body once unpacked.
pub const MAX_RAW: usize = MAX_EVENT * MAX_EVENTS as usize;
/// The most bytes of a frame's body: what does not compress grows a little.
pub const MAX_BODY: usize = MAX_RAW + (MAX_RAW >> 7) + 64;

/// The bits that say what happened.
pub const OP: u8 = 0x1f;
/// Another thread than the last.
pub const THREAD: u8 = 0x20;
/// The last block.
pub const SAME_BLOCK: u8 = 0x40;
/// Another alignment than the last.
pub const ALIGNMENT: u8 = 0x80;

pub(crate) const REALLOC_IN_PLACE: u8 = 4;
pub(crate) const REALLOC_MOVED: u8 = 5;
pub(crate) const FREE: u8 = 6;
pub(crate) const BULK_FREE: u8 = 10;
pub(crate) const THREAD_START: u8 = 11;
pub(crate) const THREAD_END: u8 = 12;
pub(crate) const MARK: u8 = 13;
pub(crate) const FREE_NULL: u8 = 14;
pub(crate) const FREE_UNKNOWN: u8 = 15;
pub(crate) const REALLOC_UNKNOWN: u8 = 16;
pub(crate) const FAILED: u8 = 17;

/// Bytes before a header's fields, and of the CRC behind them.
pub(crate) const HEADER_START: usize = 14;
/// Bytes before a frame's body.
pub(crate) const FRAME_START: usize = 36;
/// Bytes of a frame in the index.
pub(crate) const ENTRY: usize = 28;
/// Bytes of the index without its entries.
pub(crate) const INDEX_REST: usize = 4 + 4 + 4 + 8 + 8;

/// A frame: where it is and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins in the file.
    pub offset: u64,
    /// Events in the frames before it.
    pub first_event: u64,
    /// Events in it.
    pub events: u32,
    /// Block names used up to its end.
    pub blocks: u32,
    /// Threads up to its end.
    pub threads: u32,
}

/// The bytes before a frame's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameStart {
    pub(crate) body_len: usize,
    pub(crate) raw_len: usize,
    pub(crate) frame: Frame,
    pub(crate) crc: u32,
}

/// The CRC over a frame's first 32 bytes and its body.
pub(crate) fn frame_crc(start: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(start);
    crc.update(body);
    crc.finalize()
}

/// The bytes before the body `body`; `raw_len` bytes once unpacked.
pub(crate) fn frame_start(frame: &Frame, raw_len: usize, body: &[u8]) -> [u8; FRAME_START] {
    let mut out = [0; FRAME_START];
    out[..4].copy_from_slice(&FRAME);
    let words = [body.len() as u32, raw_len as u32, frame.events, frame.blocks, frame.threads];
    for (place, word) in out[4..24].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    out[24..32].copy_from_slice(&frame.first_event.to_le_bytes());
    let crc = frame_crc(&out[..32], body);
    out[32..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What stands before a frame's body at `offset`, or what is wrong with it.
pub(crate) fn parse_frame_start(bytes: &[u8; FRAME_START], offset: u64) -> Result<FrameStart, &'static str> {
    if bytes[..4] != FRAME {
        return Err("no frame begins here");
    }
    let start = FrameStart {
        body_len: word(bytes, 4) as usize,
        raw_len: word(bytes, 8) as usize,
        frame: Frame {
            offset,
            events: word(bytes, 12),
            blocks: word(bytes, 16),
            threads: word(bytes, 20),
            first_event: long(bytes, 24),
        },
        crc: word(bytes, 32),
    };
    if start.body_len > MAX_BODY || start.raw_len > MAX_RAW {
        return Err("a frame longer than any writer makes");
    }
    if start.frame.events == 0 || start.frame.events > MAX_EVENTS || start.frame.events as usize > start.raw_len {
        return Err("a frame with a number of events that cannot be");
    }
    Ok(start)
}

/// The four bytes at `at` as a number; they are there.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The eight bytes at `at` as a number; they are there.
pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

/// The index of `frames`, to stand at `offset`.
pub(crate) fn index(frames: &[Frame], offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(INDEX_REST + ENTRY * frames.len());
    out.extend(INDEX);
    out.extend((frames.len() as u32).to_le_bytes());
    for frame in frames {
        out.extend(frame.offset.to_le_bytes());
        out.extend(frame.first_event.to_le_bytes());
        out.extend(frame.events.to_le_bytes());
        out.extend(frame.blocks.to_le_bytes());
        out.extend(frame.threads.to_le_bytes());
    }
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(END);
    out
}

/// The frames that the index at the end of `file` names. `None`: no whole and sensible index ends it.
pub(crate) fn parse_index(file: &[u8], first_frame: usize) -> Option<Vec<Frame>> {
    let rest = file.strip_suffix(&END)?;
    let start = usize::try_from(long(rest, rest.len().checked_sub(8)?)).ok()?;
    let index = rest.get(start..rest.len() - 8)?;
    let (index, crc) = index.split_at_checked(index.len().checked_sub(4)?)?;
    let entries = index.strip_prefix(&INDEX)?;
    if start < first_frame || crc32fast::hash(index) != word(crc, 0) || entries.len() < 4 {
        return None;
    }
    let (count, entries) = entries.split_at(4);
    if (word(count, 0) as usize).checked_mul(ENTRY)? != entries.len() {
        return None;
    }
    let frames: Vec<Frame> = entries.chunks_exact(ENTRY).map(parse_entry).collect();
    let (mut offset, mut events) = (first_frame as u64, 0u64);
    for frame in &frames {
        if frame.offset < offset || frame.first_event != events || frame.events == 0 || frame.events > MAX_EVENTS {
            return None;
        }
        offset = frame.offset.checked_add(FRAME_START as u64)?;
        events = events.checked_add(u64::from(frame.events))?;
    }
    (offset <= start as u64).then_some(frames)
}

fn parse_entry(bytes: &[u8]) -> Frame {
    Frame {
        offset: long(bytes, 0),
        first_event: long(bytes, 8),
        events: word(bytes, 16),
        blocks: word(bytes, 20),
        threads: word(bytes, 24),
    }
}
