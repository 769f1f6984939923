//! [`Summary`]: what a trace's events add up to.
//!
//! - **I1** `slots[b]` is what block `b` holds while it is live, and `ENDED` otherwise; `live_blocks` and
//!   `live_bytes` are the number and the sum over the live ones.
//! - **I2** Peaks are read after each event, with all that the event does.
//!
//! Costs: O(1) an event, 16 bytes of memory for each block name (that is, for each block of the peak).
#![forbid(unsafe_code)]

use crate::{AllocKind, BlockId, Event, FreeKind, Nothing, Op, ThreadId};

const ENDED: u32 = u32::MAX;

/// What a trace's events add up to. Bytes are those that the program asked for.
///
/// Sums beyond 64 bits read `u64::MAX`. Calls are counted by the words of the C library, whatever came of them: a refused `calloc` is a `calloc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events, less those of kind [`FreeKind::Overlap`], which no call made.
    pub events: u64,
    /// `mallocs`, `callocs` and `memaligns` together.
    pub allocs: u64,
    /// Calls of `malloc`, or plain allocs.
    pub mallocs: u64,
    /// Calls of `calloc`, or zeroed allocs.
    pub callocs: u64,
    /// Calls of `memalign` and its kin.
    pub memaligns: u64,
    /// Calls of `realloc`, also of null, also to size 0, and resizes.
    pub reallocs: u64,
    /// Calls of `free`, also of null.
    pub frees: u64,
    /// Blocks that ended together, at a reset.
    pub bulk_frees: u64,
    /// Resets that ended blocks together.
    pub resets: u64,
    /// Threads that began within the trace.
    pub thread_starts: u64,
    /// Threads that ended within the trace.
    pub thread_ends: u64,
    /// Marks of phases.
    pub marks: u64,
    /// Threads that made a call.
    pub threads: u32,
    /// The most bytes that were live after an event.
    pub peak_live_bytes: u64,
    /// The event, counted from 1, that first reached them; 0 if there never were any.
    pub peak_bytes_event: u64,
    /// The most blocks that were live after an event.
    pub peak_live_blocks: u64,
    /// Bytes of all blocks, a realloc with its whole new size.
    pub total_bytes: u64,
    /// Blocks live at the end.
    pub leaked_blocks: u64,
    /// Bytes live at the end.
    pub leaked_bytes: u64,
    /// The largest alignment that a `memalign` got, in bytes; 0: there was none.
    pub max_align: u64,
    /// Frees of blocks that the trace does not know.
    pub unknown_frees: u64,
    /// Frees of null.
    pub null_frees: u64,
    /// Blocks whose address was given out again while they were live.
    pub overlaps: u64,
    /// Allocs and reallocs that were refused.
    pub failed: u64,
    /// Blocks freed by another thread than their last alloc's or realloc's.
    pub cross_frees: u64,
    /// Blocks reallocated by another thread than their last alloc's or realloc's.
    pub cross_reallocs: u64,
    /// Blocks of size 0.
    pub zero_sizes: u64,
    /// The largest block.
    pub max_size: u64,
    /// Blocks by size: `[0]` of size 0, `[k + 1]` of at least 2^k and less than 2^(k + 1) bytes.
    pub sizes_log2: Sizes,
}

/// A count for size 0 and for each of the 64 powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes(pub [u64; 65]);

impl Default for Sizes {
    fn default() -> Self {
        Self([0; 65])
    }
}

impl Summary {
    /// Adds up `events`, of a [`Reader`](crate::Reader) or otherwise valid.
    ///
    /// # Errors
    /// The first error among `events`.
    pub fn of<E>(events: impl IntoIterator<Item = Result<Event, E>>) -> Result<Self, E> {
        let mut adder = Adder::default();
        for event in events {
            adder.add(&event?);
        }
        Ok(adder.finish())
    }

    /// What holds for the whole trace if it is read by [`Reader::stream`](crate::Reader::stream): the fast way.
    ///
    /// # Errors
    /// As [`Stream::next_frame`](crate::Stream::next_frame).
    pub fn of_stream(mut stream: crate::Stream<'_>) -> Result<Self, crate::TraceError> {
        let mut adder = Adder::default();
        while let Some(events) = stream.next_frame()? {
            events.iter().for_each(|event| adder.add(event));
        }
        Ok(adder.finish())
    }
}

/// A live block, or [`ENDED`].
#[derive(Clone, Copy)]
struct Slot {
    len: u64,
    thread: u32,
}

/// Adds up events one by one.
#[derive(Default)]
struct Adder {
    sum: Summary,
    slots: Vec<Slot>,
    live_blocks: u64,
    /// 128 bits: the sum of 64-bit sizes that a hostile trace may claim.
    live_bytes: u128,
    peak_bytes: u128,
    total_bytes: u128,
}

impl Adder {
    fn add(&mut self, event: &Event) {
        let ThreadId(thread) = event.thread;
        self.sum.threads = self.sum.threads.max(thread.saturating_add(1));
        self.sum.events += 1;
        match event.op {
            Op::Alloc { block, len, align_log2, kind } => self.alloc(block, len, align_log2, kind, thread),
            Op::Realloc { block, len, .. } => {
                self.sum.reallocs += 1;
                self.sum.cross_reallocs += u64::from(self.end(block).is_some_and(|owner| owner != thread));
                self.begin(block, len, thread);
            }
            Op::Free { block, kind } => self.free(block, kind, thread),
            Op::BulkFree { .. } => self.sum.resets += 1,
            Op::ThreadStart => self.sum.thread_starts += 1,
            Op::ThreadEnd => self.sum.thread_ends += 1,
            Op::Mark { .. } => self.sum.marks += 1,
            Op::Nothing(nothing) => self.nothing(nothing),
        }
        if self.live_bytes > self.peak_bytes {
            self.peak_bytes = self.live_bytes;
            self.sum.peak_bytes_event = self.sum.events;
        }
        self.sum.peak_live_blocks = self.sum.peak_live_blocks.max(self.live_blocks);
    }

    fn alloc(&mut self, block: BlockId, len: u64, align_log2: u8, kind: AllocKind, thread: u32) {
        self.count(kind);
        if kind == AllocKind::Aligned {
            self.sum.max_align = self.sum.max_align.max(1 << align_log2);
        }
        self.sum.overlaps += u64::from(self.end(block).is_some());
        self.begin(block, len, thread);
    }

    fn free(&mut self, block: BlockId, kind: FreeKind, thread: u32) {
        let crossed = u64::from(self.end(block).is_some_and(|owner| owner != thread));
        match kind {
            FreeKind::Plain => {
                self.sum.frees += 1;
                self.sum.cross_frees += crossed;
            }
            FreeKind::FromRealloc => {
                self.sum.reallocs += 1;
                self.sum.cross_reallocs += crossed;
            }
            FreeKind::Bulk => self.sum.bulk_frees += 1,
            FreeKind::Overlap => {
                self.sum.overlaps += 1;
                self.sum.events -= 1;
            }
        }
    }

    fn nothing(&mut self, nothing: Nothing) {
        match nothing {
            Nothing::FreeNull => {
                self.sum.frees += 1;
                self.sum.null_frees += 1;
            }
            Nothing::FreeUnknown => {
                self.sum.frees += 1;
                self.sum.unknown_frees += 1;
            }
            Nothing::ReallocUnknown => self.sum.reallocs += 1,
            Nothing::Failed { kind, .. } => {
                self.sum.failed += 1;
                self.count(kind);
            }
        }
    }

    fn count(&mut self, kind: AllocKind) {
        match kind {
            AllocKind::Plain => self.sum.mallocs += 1,
            AllocKind::Zeroed => self.sum.callocs += 1,
            AllocKind::Aligned => self.sum.memaligns += 1,
            AllocKind::FromRealloc => self.sum.reallocs += 1,
        }
    }

    fn begin(&mut self, BlockId(block): BlockId, len: u64, thread: u32) {
        let place = block as usize;
        if place >= self.slots.len() {
            self.slots.resize(place + 1, Slot { len: 0, thread: ENDED });
        }
        self.slots[place] = Slot { len, thread };
        self.live_blocks += 1;
        self.live_bytes += u128::from(len);
        self.total_bytes += u128::from(len);
        self.sum.max_size = self.sum.max_size.max(len);
        self.sum.sizes_log2.0[(u64::BITS - len.leading_zeros()) as usize] += 1;
    }

    /// Ends `block` if it is live, and says whose it was.
    fn end(&mut self, BlockId(block): BlockId) -> Option<u32> {
        let slot = self.slots.get_mut(block as usize).filter(|slot| slot.thread != ENDED)?;
        let owner = std::mem::replace(&mut slot.thread, ENDED);
        self.live_blocks -= 1;
        self.live_bytes -= u128::from(slot.len);
        Some(owner)
    }

    fn finish(mut self) -> Summary {
        let narrow = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.sum.allocs = self.sum.mallocs + self.sum.callocs + self.sum.memaligns;
        self.sum.peak_live_bytes = narrow(self.peak_bytes);
        self.sum.total_bytes = narrow(self.total_bytes);
        self.sum.leaked_blocks = self.live_blocks;
        self.sum.leaked_bytes = narrow(self.live_bytes);
        self.sum.zero_sizes = self.sum.sizes_log2.0[0];
        self.sum
    }
}
