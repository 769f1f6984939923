//! Events as the bytes of one frame; [`crate::format`] says what they mean.
//!
//! - **I1** Encoder and decoder go through the same [`Context`]s, from [`Context::default`] at the
//!   beginning of each frame, so that a frame is decoded without the others.
//!
//! Costs: mostly 3 to 4 bytes an event before compression.
#![forbid(unsafe_code)]

use crate::format::{
    ALIGNMENT, BULK_FREE, FAILED, FREE_NULL, FREE_UNKNOWN, MARK, MAX_EVENTS, OP, REALLOC_IN_PLACE, REALLOC_MOVED,
    REALLOC_UNKNOWN, SAME_BLOCK, THREAD, THREAD_END, THREAD_START,
};
use crate::{AllocKind, BlockId, Event, FreeKind, Nothing, Op, ThreadId, varint};

const ALLOCS: [AllocKind; 4] = [AllocKind::Plain, AllocKind::Zeroed, AllocKind::Aligned, AllocKind::FromRealloc];
const FREES: [FreeKind; 4] = [FreeKind::Plain, FreeKind::FromRealloc, FreeKind::Bulk, FreeKind::Overlap];

/// What an event says by being like the one before.
struct Context {
    thread: u32,
    block: u32,
    align_log2: u8,
}

impl Default for Context {
    fn default() -> Self {
        Self { thread: 0, block: 0, align_log2: 4 }
    }
}

/// Gathers the bytes of a frame.
#[derive(Default)]
pub(crate) struct Encoder {
    raw: Vec<u8>,
    events: u32,
    context: Context,
}

impl Encoder {
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    /// Whether another event fits into the frame.
    pub(crate) fn has_room(&self) -> bool {
        self.events < MAX_EVENTS
    }

    /// Begins the next frame.
    pub(crate) fn clear(&mut self) {
        self.raw.clear();
        self.events = 0;
        self.context = Context::default();
    }

    /// Appends `event`. The frame has room.
    pub(crate) fn push(&mut self, event: &Event) {
        self.events += 1;
        let word = self.raw.len();
        self.raw.push(0);
        let mut flags = 0;
        if event.thread.0 != self.context.thread {
            flags |= THREAD;
            self.context.thread = event.thread.0;
            varint::put(&mut self.raw, u64::from(event.thread.0));
        }
        flags |= match event.op {
            Op::Alloc { block, len, align_log2, kind } => {
                let mut op = kind as u8 | self.put_block(block);
                varint::put(&mut self.raw, len);
                if align_log2 != self.context.align_log2 {
                    op |= ALIGNMENT;
                    self.context.align_log2 = align_log2;
                    self.raw.push(align_log2);
                }
                op
            }
            Op::Realloc { block, len, moved } => {
                let op = if moved { REALLOC_MOVED } else { REALLOC_IN_PLACE } | self.put_block(block);
                varint::put(&mut self.raw, len);
                op
            }
            Op::Free { block, kind } => (crate::format::FREE + kind as u8) | self.put_block(block),
            Op::BulkFree { count } => self.put_number(BULK_FREE, u64::from(count)),
            Op::ThreadStart => THREAD_START,
            Op::ThreadEnd => THREAD_END,
            Op::Mark { label } => self.put_number(MARK, u64::from(label)),
            Op::Nothing(Nothing::FreeNull) => FREE_NULL,
            Op::Nothing(Nothing::FreeUnknown) => FREE_UNKNOWN,
            Op::Nothing(Nothing::ReallocUnknown) => REALLOC_UNKNOWN,
            Op::Nothing(Nothing::Failed { kind, len }) => self.put_number(FAILED + kind as u8, len),
        };
        self.raw[word] = flags;
    }

    fn put_block(&mut self, BlockId(block): BlockId) -> u8 {
        if block == self.context.block {
            return SAME_BLOCK;
        }
        varint::put(&mut self.raw, varint::difference(self.context.block, block));
        self.context.block = block;
        0
    }

    fn put_number(&mut self, op: u8, number: u64) -> u8 {
        varint::put(&mut self.raw, number);
        op
    }
}

/// Appends the `events` events of `raw` to `out`, or says what is wrong.
pub(crate) fn decode(raw: &[u8], events: u32, out: &mut Vec<Event>) -> Result<(), &'static str> {
    let mut from = Decoder { raw, at: 0, context: Context::default() };
    out.reserve(events as usize);
    for _ in 0..events {
        out.push(from.event().ok_or("an event that no writer writes")?);
    }
    if from.at == raw.len() { Ok(()) } else { Err("bytes behind the frame's last event") }
}

struct Decoder<'a> {
    raw: &'a [u8],
    at: usize,
    context: Context,
}

impl Decoder<'_> {
    #[inline]
    fn event(&mut self) -> Option<Event> {
        let word = *self.raw.get(self.at)?;
        self.at += 1;
        if word & THREAD != 0 {
            self.context.thread = u32::try_from(self.number()?).ok()?;
        }
        let thread = ThreadId(self.context.thread);
        let op = match word & OP {
            op @ 0..4 => {
                let (block, len) = (self.block(word)?, self.number()?);
                if word & ALIGNMENT != 0 {
                    self.context.align_log2 = *self.raw.get(self.at)?;
                    self.at += 1;
                }
                Op::Alloc { block, len, align_log2: self.context.align_log2, kind: ALLOCS[op as usize] }
            }
            op @ (REALLOC_IN_PLACE | REALLOC_MOVED) if word & ALIGNMENT == 0 => {
                Op::Realloc { block: self.block(word)?, len: self.number()?, moved: op == REALLOC_MOVED }
            }
            op @ 6..10 if word & ALIGNMENT == 0 => Op::Free { block: self.block(word)?, kind: FREES[op as usize - 6] },
            _ => self.rare(word)?,
        };
        Some(Event { thread, op })
    }

    fn rare(&mut self, word: u8) -> Option<Op> {
        Some(match word & !THREAD {
            BULK_FREE => Op::BulkFree { count: u32::try_from(self.number()?).ok()? },
            THREAD_START => Op::ThreadStart,
            THREAD_END => Op::ThreadEnd,
            MARK => Op::Mark { label: u32::try_from(self.number()?).ok()? },
            FREE_NULL => Op::Nothing(Nothing::FreeNull),
            FREE_UNKNOWN => Op::Nothing(Nothing::FreeUnknown),
            REALLOC_UNKNOWN => Op::Nothing(Nothing::ReallocUnknown),
            op @ FAILED.. if op < FAILED + 4 => {
                Op::Nothing(Nothing::Failed { kind: ALLOCS[(op - FAILED) as usize], len: self.number()? })
            }
            _ => return None,
        })
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        varint::get(self.raw, &mut self.at)
    }

    #[inline]
    fn block(&mut self, word: u8) -> Option<BlockId> {
        if word & SAME_BLOCK == 0 {
            let way = self.number()?;
            self.context.block = varint::apply(self.context.block, way)?;
        }
        Some(BlockId(self.context.block))
    }
}
