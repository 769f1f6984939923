//! [`TraceSink`]: what a [`LogAllocator`](terrace_heap::LogAllocator) hears, as a trace. Feature `log`, on by default.
//!
//! ```text
//!   program ──▶ LogAllocator ──▶ backing
//!                    │ Call, by address
//!                    ▼
//!               TraceSink ──▶ Writer ──▶ file     by block name, as anywhere in a trace
//! ```
//!
//! - **I1** `blocks` maps each live block's address to its name. A remap is heard after the old address is
//!   free, so another thread's alloc may be heard there before it; the block on its way out then waits in
//!   `leaving`, under the address that it left.
//! - **I2** While a thread is in here, `BUSY` is set for it: what the sink itself allocates (it may be the
//!   global allocator that is logged) is not logged, so the lock is never taken twice.
//!
//! Costs: a lock and a hash table's look-up for each call, 16 bytes for each live block; a trace's frame is
//! written every 16,384 events.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use terrace_heap::{Call, CallOp, Sink};

use crate::{
    AllocKind, BlockId, BlockNames, Event, FreeKind, Header, Nothing, Op, Source, ThreadId, TraceError, Writer,
};

/// An alignment of more than 2^4 bytes is a wish that `malloc` would not fulfil.
const MALLOC_ALIGN_LOG2: u8 = 4;

// Constants without destructors: they can be used while a thread ends, and before it has begun.
thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// This thread's number, never 0 and never another's.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if NUMBER.get() == 0 {
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}

/// Writes what one allocator is asked into a trace.
///
/// A refused resize or remap is a refused realloc; a reset is a bulk free of all that is live. One sink hears one
/// allocator: of two, the resets would end each other's blocks.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::LogAllocator;
/// use terrace_trace::{Header, Reader, Summary, TraceSink};
///
/// let logged = LogAllocator::new(SystemAllocator, TraceSink::new(Vec::new(), Header::default())?);
/// let word = logged.dupe(b"red").unwrap();
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { logged.free_slice(word) };
///
/// let file = logged.sink().finish()?.expect("finished once");
/// let sum = Summary::of(Reader::from_bytes(file)?.events())?;
/// assert_eq!((sum.allocs, sum.frees, sum.peak_live_bytes), (1, 1, 3));
/// # Ok::<(), terrace_trace::TraceError>(())
/// ```
pub struct TraceSink<W> {
    log: Mutex<Log<W>>,
}

impl TraceSink<File> {
    /// A sink into a new trace file, in place of what is there. The header's source becomes [`Source::Logged`].
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create(path: &Path, header: Header) -> Result<Self, TraceError> {
        Ok(Self::over(Writer::create(path, Header { source: Source::Logged, ..header })?))
    }
}

impl<W: Write> TraceSink<W> {
    /// A sink into `out`. The header's source becomes [`Source::Logged`].
    ///
    /// # Errors
    /// As [`Writer::new`].
    pub fn new(out: W, header: Header) -> Result<Self, TraceError> {
        Ok(Self::over(Writer::new(out, Header { source: Source::Logged, ..header })?))
    }

    fn over(writer: Writer<W>) -> Self {
        let names = BlockNames::default();
        let (blocks, leaving, threads) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { log: Mutex::new(Log { writer: Some(writer), error: None, names, blocks, leaving, threads }) }
    }

    /// The program enters the phase that the header's label number `label` names.
    pub fn mark(&self, label: u32) {
        self.locked(|log, thread| log.push(thread, Op::Mark { label }));
    }

    /// Ends the trace and gives `out` back; `None` if that was done before. What is heard later is lost.
    ///
    /// # Errors
    /// The first error since the beginning: calls cannot fail because of their log.
    pub fn finish(&self) -> Result<Option<W>, TraceError> {
        let busy = BUSY.replace(true);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = log.error.take().map_or_else(|| log.writer.take().map(Writer::finish).transpose(), Err);
        drop(log);
        BUSY.set(busy);
        ended
    }

    /// Runs `then` with the log, unless this thread is in here already or there is nothing to write to.
    fn locked(&self, then: impl FnOnce(&mut Log<W>, ThreadId)) {
        if BUSY.replace(true) {
            return;
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.writer.is_some() {
            let thread = log.thread();
            then(&mut log, thread);
        }
        drop(log);
        BUSY.set(false);
    }
}

impl<W: Write> Sink for TraceSink<W> {
    fn record(&self, call: &Call) {
        self.locked(|log, thread| log.record(&call.op, thread));
    }
}

struct Log<W> {
    /// `None` after the end or an error.
    writer: Option<Writer<W>>,
    error: Option<TraceError>,
    names: BlockNames,
    blocks: HashMap<usize, BlockId>,
    leaving: HashMap<usize, Vec<BlockId>>,
    threads: HashMap<u64, ThreadId>,
}

impl<W: Write> Log<W> {
    fn thread(&mut self) -> ThreadId {
        let number = thread_number();
        if let Some(&thread) = self.threads.get(&number) {
            return thread;
        }
        let thread = ThreadId(self.threads.len() as u32);
        self.threads.insert(number, thread);
        self.push(thread, Op::ThreadStart);
        thread
    }

    fn record(&mut self, op: &CallOp, thread: ThreadId) {
        let refused = |kind, len| Op::Nothing(Nothing::Failed { kind, len });
        let op = match *op {
            CallOp::Alloc { len, alignment, zeroed, result } => {
                let (len, align_log2) = (len.get() as u64, alignment.log2() as u8);
                let kind = match zeroed {
                    true => AllocKind::Zeroed,
                    false if align_log2 > MALLOC_ALIGN_LOG2 => AllocKind::Aligned,
                    false => AllocKind::Plain,
                };
                match result {
                    Ok(block) => Op::Alloc { block: self.begin(block.addr().get()), len, align_log2, kind },
                    Err(_) => refused(kind, len),
                }
            }
            CallOp::Resize { granted: false, new_len, .. } | CallOp::Remap { result: None, new_len, .. } => {
                refused(AllocKind::FromRealloc, new_len.get() as u64)
            }
            CallOp::Resize { memory, alignment, new_len, .. } => {
                let address = memory.addr().get();
                self.realloc((address, address), new_len.get() as u64, alignment.log2() as u8)
            }
            CallOp::Remap { memory, alignment, new_len, result: Some(new) } => {
                let way = (memory.addr().get(), new.addr().get());
                self.realloc(way, new_len.get() as u64, alignment.log2() as u8)
            }
            CallOp::Free { memory, .. } => match self.blocks.remove(&memory.addr().get()) {
                Some(block) => {
                    self.names.give_back(block);
                    Op::Free { block, kind: FreeKind::Plain }
                }
                None => Op::Nothing(Nothing::FreeUnknown),
            },
            CallOp::Reset { .. } => return self.reset(thread),
        };
        self.push(thread, op);
    }

    /// A new block at `address`.
    fn begin(&mut self, address: usize) -> BlockId {
        let block = self.names.take();
        self.settle(address, block);
        block
    }

    /// `block` is at `address`; one that was thought to be there is on its way out.
    fn settle(&mut self, address: usize, block: BlockId) {
        if let Some(left) = self.blocks.insert(address, block) {
            self.leaving.entry(address).or_default().push(left);
        }
    }

    /// What was at the old address is at the new one, with another length.
    fn realloc(&mut self, (old, new): (usize, usize), len: u64, align_log2: u8) -> Op {
        if old == new
            && let Some(&block) = self.blocks.get(&old)
        {
            return Op::Realloc { block, len, moved: false };
        }
        match self.leave(old) {
            Some(block) => {
                self.settle(new, block);
                Op::Realloc { block, len, moved: true }
            }
            None => Op::Alloc { block: self.begin(new), len, align_log2, kind: AllocKind::FromRealloc },
        }
    }

    /// The block that left `address`: the one that has been waiting for longest, or the one that is there.
    fn leave(&mut self, address: usize) -> Option<BlockId> {
        let Some(waiting) = self.leaving.get_mut(&address) else { return self.blocks.remove(&address) };
        let block = waiting.remove(0);
        if waiting.is_empty() {
            self.leaving.remove(&address);
        }
        Some(block)
    }

    fn reset(&mut self, thread: ThreadId) {
        let leaving = self.leaving.drain().flat_map(|(_, blocks)| blocks);
        let mut blocks: Vec<BlockId> = self.blocks.drain().map(|(_, block)| block).chain(leaving).collect();
        blocks.sort_unstable();
        self.push(thread, Op::BulkFree { count: blocks.len() as u32 });
        for block in blocks.into_iter().rev() {
            self.names.give_back(block);
            self.push(thread, Op::Free { block, kind: FreeKind::Bulk });
        }
    }

    fn push(&mut self, thread: ThreadId, op: Op) {
        if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.push(Event { thread, op })) {
            self.error = Some(error);
            self.writer = None;
        }
    }
}
