//! The text of a [`Report`]: what, which block, where it was made and ended, how far off, and what to do.
//!
//! ```text
//! double free of 24 bytes at 0x7f31c8a01040, block 7
//!   freed again   src/main.rs:14:9, thread 1
//!   allocated     src/main.rs:11:17, thread 1
//!   freed         src/main.rs:13:9, thread 2
//!   to do: …
//! ```
#![forbid(unsafe_code)]

use core::fmt;

use super::report::{Block, Found, Mistake, Moment, Report};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what(f)?;
        if let Some(block) = &self.block {
            write!(f, ", block {}", block.serial)?;
        }
        moment(f, self.found_by(), &self.by)?;
        if let Some(block) = &self.block {
            moment(f, "allocated", &block.allocated)?;
            if let Some(freed) = &block.freed {
                moment(f, "freed", freed)?;
            }
        }
        write!(f, "\n  to do: {}", self.remedy())
    }
}

impl Report {
    /// The first line, but for the block's number.
    fn what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.call();
        let block = Of(self.block.as_ref());
        match self.mistake {
            Mistake::Leak => write!(f, "leak of {block}"),
            Mistake::DoubleFree => write!(f, "double free of {block}"),
            Mistake::UseAfterFree => write!(f, "{call} of a freed block: {block}"),
            Mistake::WriteAfterFree { offset, span } => {
                write!(f, "write after free to {block}: {}, {} from its start", Bytes(span), Bytes(offset))
            }
            Mistake::Touched { offset } => touched(f, self.address, offset, self.block.as_ref()),
            Mistake::WrongLength { given } => write!(f, "{call} with a wrong length, {}, of {block}", Bytes(given)),
            Mistake::WrongAlignment { given } => {
                let right = self.block.map_or(0, |block| block.alignment.bytes());
                write!(f, "{call} with a wrong alignment, {} instead of {right}, of {block}", given.bytes())
            }
            Mistake::Overrun { offset, span } => {
                write!(f, "write past the end of {block}: {}, {} behind the end", Bytes(span), Bytes(offset))
            }
            Mistake::Underrun { before, span } => {
                write!(f, "write before the start of {block}: {}, from {} before it", Bytes(span), Bytes(before))
            }
            Mistake::Foreign => write!(f, "{call} of a foreign pointer {:#x}: no block begins there", self.address),
            Mistake::Interior { offset } => {
                write!(f, "{call} of {:#x}, which is {} inside of {block}", self.address, Bytes(offset))
            }
            Mistake::InUse => write!(f, "{call} of a block that another call is at work on: {block}"),
            Mistake::Race => write!(f, "{call} while another thread is in the same allocator"),
            Mistake::Overlap => write!(f, "the backing has handed out a live block again: {block}"),
        }
    }

    fn call(&self) -> &'static str {
        match self.found_in {
            Found::Alloc => "alloc",
            Found::Resize => "resize",
            Found::Remap => "remap",
            Found::Free => "free",
            Found::Size => "size",
            Found::Reset => "reset",
            Found::Check => "check",
            Found::Fault => "access",
        }
    }

    /// What stands before the place of the call that found it.
    fn found_by(&self) -> &'static str {
        match (self.mistake, self.found_in) {
            (Mistake::DoubleFree, _) => "freed again",
            (Mistake::Overrun { .. } | Mistake::Underrun { .. } | Mistake::WriteAfterFree { .. }, _) => "found at",
            (_, Found::Check | Found::Fault | Found::Reset) => "found at",
            (Mistake::Overlap, _) => "handed out",
            _ => "called at",
        }
    }

    fn remedy(&self) -> &'static str {
        match self.mistake {
            Mistake::Leak => "free it when it is no longer needed, or let a collection or an arena own it",
            Mistake::DoubleFree => "free a block once: of the two places that free it, one is not its owner",
            Mistake::UseAfterFree | Mistake::WriteAfterFree { .. } | Mistake::Touched { .. } => {
                "look for a pointer that outlives the free, or free later; guard_pages shows the first wrong access"
            }
            Mistake::WrongLength { .. } => "bring the length of the last alloc, resize or remap, in bytes",
            Mistake::WrongAlignment { .. } => {
                "bring the alignment of the alloc: it is part of a block, as its length is"
            }
            Mistake::Overrun { .. } => "look for an index at or above the length; guard_pages shows the write itself",
            Mistake::Underrun { .. } => "look for an index below 0; guard_pages or a larger canary shows more",
            Mistake::Foreign => {
                "free it with the allocator that made it; a block freed long ago is known again with retain_metadata"
            }
            Mistake::Interior { .. } => "keep the pointer that alloc gave, and bring that one",
            Mistake::InUse => "let one thread own a block at a time",
            Mistake::Race => "set thread_safe, or put a lock around the allocator",
            Mistake::Overlap => "free a block with the allocator that made it, not with the layer below",
        }
    }
}

/// A block in few words.
struct Of<'a>(Option<&'a Block>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(block) => write!(f, "{} at {:#x}", Bytes(block.len), block.address),
            None => f.write_str("a block"),
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

fn touched(f: &mut fmt::Formatter<'_>, address: usize, offset: isize, block: Option<&Block>) -> fmt::Result {
    let what = match block {
        Some(block) if block.freed.is_some() => "freed ",
        _ => "",
    };
    let (len, of) = (block.map_or(0, |block| block.len), Of(block));
    match usize::try_from(offset) {
        Ok(inside) if inside < len => write!(f, "{address:#x} is {} into the {what}block of {of}", Bytes(inside)),
        Ok(beyond) => write!(f, "{address:#x} is {} behind the end of the {what}block of {of}", Bytes(beyond - len)),
        Err(_) => write!(f, "{address:#x} is {} before the {what}block of {of}", Bytes(offset.unsigned_abs())),
    }
}

/// A line, and the functions that led there.
fn moment(f: &mut fmt::Formatter<'_>, what: &str, moment: &Moment) -> fmt::Result {
    write!(f, "\n  {what:<13} {}", moment.site)?;
    if moment.thread != 0 {
        write!(f, ", thread {}", moment.thread)?;
    }
    for &frame in moment.trace.frames() {
        f.write_str("\n                ")?;
        match moment.trace.describe() {
            Some(describe) => describe(frame, f)?,
            None => write!(f, "{frame:#x}")?,
        }
    }
    Ok(())
}
