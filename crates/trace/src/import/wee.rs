//! `wee_alloc`'s test traces: `Alloc(552),` makes a block, `Free(0),` ends the first that was made.
//!
//! One thread; no alignments, no addresses, no reallocs. A second free of a block, or one of a block never
//! made, changes nothing and is counted.
#![forbid(unsafe_code)]

use std::io::Write;

use super::{Import, Progress, lines::decimal};
use crate::{AllocKind, BlockId, BlockNames, Event, FreeKind, Nothing, Op, ThreadId, TraceError};

/// The C library's `malloc` aligns to 16 bytes.
const MALLOC_ALIGN_LOG2: u8 = 4;

pub(super) fn import<P: FnMut(Progress), W: Write>(import: &mut Import<'_, '_, P, W>) -> Result<(), TraceError> {
    let mut names = BlockNames::default();
    let mut made: Vec<Option<BlockId>> = Vec::new();
    while import.lines.advance()? {
        let line = parse(import.lines.line()).ok_or(import.lines.malformed("not Alloc(SIZE), or Free(NUMBER),"))?;
        let op = match line {
            Line::Alloc(len) => {
                let block = names.take();
                made.push(Some(block));
                Op::Alloc { block, len, align_log2: MALLOC_ALIGN_LOG2, kind: AllocKind::Plain }
            }
            Line::Free(number) => {
                let made = usize::try_from(number).ok().and_then(|number| made.get_mut(number));
                match made.and_then(Option::take) {
                    Some(block) => {
                        names.give_back(block);
                        Op::Free { block, kind: FreeKind::Plain }
                    }
                    None => {
                        import.report.invalid_frees += 1;
                        Op::Nothing(Nothing::FreeUnknown)
                    }
                }
            }
        };
        import.push(Event { thread: ThreadId(0), op })?;
    }
    Ok(())
}

enum Line {
    Alloc(u64),
    Free(u64),
}

fn parse(line: &[u8]) -> Option<Line> {
    let line = line.strip_suffix(b"),")?;
    match line.strip_prefix(b"Alloc(") {
        Some(size) => Some(Line::Alloc(decimal(size)?)),
        None => Some(Line::Free(decimal(line.strip_prefix(b"Free(")?)?)),
    }
}
