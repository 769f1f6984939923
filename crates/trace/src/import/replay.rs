//! Android's `memory_replay` traces: `202: malloc 0xb4827400 1024`, one call a line, by address.
//!
//! - **I1** `blocks` maps each address that ever named a block to the block that is live there, if one is;
//!   no two addresses have the same live block.
//!
//! What a line means (README of the format's origin; realloc as glibc has it):
//!
//! | line | event |
//! |---|---|
//! | an alloc that gave `0x0` | refused |
//! | an alloc at an address still live | the older block ends unseen: an overlap |
//! | realloc of `0x0` | an alloc |
//! | realloc that gave `0x0`, size not 0 | refused, the old block stays |
//! | realloc that gave `0x0`, size 0 | a free |
//! | realloc of an address not live | counted as invalid; what it gave is a new block |
//!
//! Two decimals may follow on a line (newer recordings: begin and end in nanoseconds) and are not kept.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::Write;

use super::lines::{decimal, hexadecimal};
use super::{Import, Progress};
use crate::{AllocKind, BlockId, BlockNames, Event, FreeKind, Nothing, Op, ThreadId, TraceError};

/// What `malloc`, `calloc` and `realloc` align to.
const MALLOC_ALIGN_LOG2: u8 = 4;

const BAD: &str = "not TID: CALL POINTER NUMBERS";
const BEYOND: &str = "a number beyond 64 bits";

pub(super) fn import<P: FnMut(Progress), W: Write>(import: &mut Import<'_, '_, P, W>) -> Result<(), TraceError> {
    let mut replay = Replay::default();
    while import.lines.advance()? {
        let (tid, call) = parse(import.lines.line()).map_err(|what| import.lines.malformed(what))?;
        let thread = replay.thread(tid);
        let op = match call {
            Call::Alloc { pointer: 0, len, kind, align } => {
                replay.align(align, import);
                Op::Nothing(Nothing::Failed { kind, len })
            }
            Call::Alloc { pointer, len, kind, align } => {
                let align_log2 = replay.align(align, import).unwrap_or(MALLOC_ALIGN_LOG2);
                replay.alloc(pointer, len, align_log2, kind, import)
            }
            Call::Realloc { pointer, old, len } => replay.realloc(pointer, old, len, thread, import)?,
            Call::Free { pointer: 0 } => Op::Nothing(Nothing::FreeNull),
            Call::Free { pointer } => match replay.end(pointer) {
                Some(block) => {
                    replay.names.give_back(block);
                    Op::Free { block, kind: FreeKind::Plain }
                }
                None => {
                    import.report.invalid_frees += 1;
                    Op::Nothing(Nothing::FreeUnknown)
                }
            },
            Call::ThreadDone => Op::ThreadEnd,
        };
        import.push(Event { thread, op })?;
    }
    Ok(())
}

#[derive(Default)]
struct Replay {
    blocks: HashMap<u64, Option<BlockId>>,
    names: BlockNames,
    threads: HashMap<u64, ThreadId>,
    last: Option<(u64, ThreadId)>,
}

impl Replay {
    fn thread(&mut self, tid: u64) -> ThreadId {
        if let Some((last, thread)) = self.last
            && last == tid
        {
            return thread;
        }
        let next = ThreadId(self.threads.len() as u32);
        let thread = *self.threads.entry(tid).or_insert(next);
        self.last = Some((tid, thread));
        thread
    }

    /// The alignment that was asked for, if one was.
    fn align<P, W: Write>(&self, align: Option<u64>, import: &mut Import<'_, '_, P, W>) -> Option<u8> {
        let align = align?;
        import.report.max_align = import.report.max_align.max(align);
        import.report.odd_aligns += u64::from(!align.is_power_of_two());
        Some(align.checked_next_power_of_two().map_or(63, |align| align.ilog2() as u8))
    }

    /// The block that is live at `pointer` is so no more.
    fn end(&mut self, pointer: u64) -> Option<BlockId> {
        self.blocks.get_mut(&pointer)?.take()
    }

    fn alloc<P, W: Write>(
        &mut self,
        pointer: u64,
        len: u64,
        align_log2: u8,
        kind: AllocKind,
        import: &mut Import<'_, '_, P, W>,
    ) -> Op {
        let block = match self.blocks.get_mut(&pointer) {
            Some(here) => {
                import.report.reused_addrs += 1;
                *here.get_or_insert_with(|| self.names.take())
            }
            None => {
                let block = self.names.take();
                self.blocks.insert(pointer, Some(block));
                block
            }
        };
        Op::Alloc { block, len, align_log2, kind }
    }

    fn realloc<P: FnMut(Progress), W: Write>(
        &mut self,
        pointer: u64,
        old: u64,
        len: u64,
        thread: ThreadId,
        import: &mut Import<'_, '_, P, W>,
    ) -> Result<Op, TraceError> {
        if pointer == 0 && len > 0 {
            return Ok(Op::Nothing(Nothing::Failed { kind: AllocKind::FromRealloc, len }));
        }
        let block = if old == 0 { None } else { self.end(old) };
        import.report.invalid_reallocs += u64::from(old != 0 && block.is_none());
        Ok(match (block, pointer) {
            (None, 0) => Op::Nothing(Nothing::ReallocUnknown),
            (Some(block), 0) => {
                self.names.give_back(block);
                Op::Free { block, kind: FreeKind::FromRealloc }
            }
            (None, pointer) => self.alloc(pointer, len, MALLOC_ALIGN_LOG2, AllocKind::FromRealloc, import),
            (Some(block), pointer) => {
                match self.blocks.insert(pointer, Some(block)) {
                    Some(Some(overlapped)) => {
                        self.names.give_back(overlapped);
                        let op = Op::Free { block: overlapped, kind: FreeKind::Overlap };
                        import.push(Event { thread, op })?;
                        import.report.reused_addrs += 1;
                    }
                    Some(None) => import.report.reused_addrs += 1,
                    None => {}
                }
                Op::Realloc { block, len, moved: pointer != old }
            }
        })
    }
}

enum Call {
    Alloc { pointer: u64, len: u64, kind: AllocKind, align: Option<u64> },
    Realloc { pointer: u64, old: u64, len: u64 },
    Free { pointer: u64 },
    ThreadDone,
}

/// The thread and the call that a line names.
fn parse(line: &[u8]) -> Result<(u64, Call), &'static str> {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let mut word = || words.next().ok_or("it ends too early");
    let tid = word()?.strip_suffix(b":").and_then(decimal).ok_or(BAD)?;
    let call = word()?;
    let pointer = hexadecimal(word()?).ok_or("the pointer is not 0x and up to 16 hexadecimal digits")?;
    let number = |word: &[u8]| decimal(word).ok_or("not a decimal number of 64 bits where one is needed");
    let plain = |pointer, len, kind| Call::Alloc { pointer, len, kind, align: None };
    let call = match call {
        b"malloc" => plain(pointer, number(word()?)?, AllocKind::Plain),
        b"calloc" => {
            let len = match (number(word()?)?.checked_mul(number(word()?)?), pointer) {
                (Some(len), _) => len,
                (None, 0) => u64::MAX, // Refused, as it should be.
                (None, _) => return Err(BEYOND),
            };
            plain(pointer, len, AllocKind::Zeroed)
        }
        b"memalign" => {
            let align = Some(number(word()?)?);
            Call::Alloc { pointer, len: number(word()?)?, kind: AllocKind::Aligned, align }
        }
        b"realloc" => {
            let old = hexadecimal(word()?).ok_or("the old pointer is not 0x and up to 16 hexadecimal digits")?;
            Call::Realloc { pointer, old, len: number(word()?)? }
        }
        b"free" => Call::Free { pointer },
        b"thread_done" => Call::ThreadDone,
        _ => return Err("a call that the format does not know"),
    };
    // Newer recordings: when the call began and ended.
    for word in words.by_ref().take(2) {
        number(word)?;
    }
    match words.next() {
        Some(_) => Err("words behind its end"),
        None => Ok((tid, call)),
    }
}
