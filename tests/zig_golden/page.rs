//! Stack `page`: `PageAllocator` grants all that Zig's page allocator grants. What it grants beyond is counted and
//! undone, so that the script goes on from Zig's state.

use std::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_sys::{PageAllocator, page_size};

use crate::{
    blocks::{Block, Blocks},
    script::{Line, Outcome, Script},
};

const PAGE: usize = 4096;

pub fn replay(script: &Script) -> Outcome {
    if page_size() != PAGE {
        return Outcome::excepted(script, "the decisions are those of pages of 4096 bytes");
    }
    let mut blocks = Blocks::default();
    let mut outcome = Outcome::default();
    for line in script.each() {
        let before = line.op.get(1).and_then(|_| blocks.find(line.id()));
        let (ours, zigs) = (decide(&PageAllocator, line, &mut blocks), line.decision());
        assert!(as_good(&ours, zigs), "ours: {ours}, at {}", script.place(line));
        outcome.compared += 1;
        if ours != zigs {
            outcome.beyond += 1;
            undo(&PageAllocator, line.id(), before, &mut blocks);
        }
    }
    blocks.free_all(&PageAllocator);
    outcome
}

/// Our decision in Zig's words: what was granted has been done.
pub fn decide(allocator: &dyn Allocator, line: &Line, blocks: &mut Blocks) -> String {
    match line.op[0].as_str() {
        "a" => blocks.alloc(allocator, line).map_or("null", |_| "ok").to_string(),
        "r" => blocks.resize(allocator, line).to_string(),
        "m" => {
            let before = blocks.get(line.id());
            match blocks.remap(allocator, line) {
                None => "null",
                // `ok` means that the page count grew, wherever the block now is.
                Some(_) if pages(line.number_at(2)) > pages(before.len()) => "ok",
                Some(start) if start == before.memory.cast() => "same",
                Some(_) => panic!("moved without need"),
            }
            .to_string()
        }
        "f" => {
            blocks.free(allocator, line.id());
            "ok".to_string()
        }
        "q" => format!("live={}", blocks.count()),
        "d" => {
            blocks.free_all(allocator);
            "ok".to_string()
        }
        other => panic!("an operation that the README does not name: {other}"),
    }
}

/// Whether our decision is Zig's or a grant where Zig's is a refusal.
pub fn as_good(ours: &str, zigs: &str) -> bool {
    ours == zigs || matches!((ours, zigs), ("true", "false") | ("ok" | "same", "null"))
}

/// Takes back what Zig refused and ours granted.
pub fn undo(allocator: &dyn Allocator, id: u32, before: Option<Block>, blocks: &mut Blocks) {
    let Some(old) = before else { return blocks.free(allocator, id) };
    let old_len = NonZeroUsize::new(old.len()).expect("a live block");
    let Block { memory, alignment } = blocks.get(id);
    // SAFETY: live, with its alignment.
    let restored = unsafe { allocator.resize(memory, alignment, old_len) };
    if restored {
        return blocks.set(id, memory.cast(), old_len, alignment);
    }
    // A shrink was granted, and the pages that it gave back may be another's now.
    anew(allocator, id, old_len.get(), blocks);
}

/// What a caller does who is refused; the bytes of these blocks are nobody's.
pub fn anew(allocator: &dyn Allocator, id: u32, len: usize, blocks: &mut Blocks) {
    let Block { alignment, .. } = blocks.get(id);
    blocks.free(allocator, id);
    let len = NonZeroUsize::new(len).expect("a length");
    let start = allocator.alloc(len, alignment).expect("as much as Zig's has");
    blocks.set(id, start, len, alignment);
}

pub const fn pages(len: usize) -> usize {
    len.div_ceil(PAGE)
}

/// Zig's page allocator as a backing: it resizes within the page count and below, never above.
pub struct ZigPages;

// SAFETY: blocks are `PageAllocator`'s own; what is refused never reaches it.
unsafe impl Allocator for ZigPages {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        PageAllocator.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        pages(new_len.get()) <= pages(memory.len()) && unsafe { PageAllocator.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { PageAllocator.free(memory, alignment) }
    }
}
