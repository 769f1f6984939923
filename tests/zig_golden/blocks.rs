//! [`Blocks`]: the live blocks of a script by id, and the operations `a`, `r`, `m`, `f` on them.

use std::{collections::HashMap, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator};

use crate::script::Line;

/// A live block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub memory: NonNull<[u8]>,
    pub alignment: Alignment,
}

impl Block {
    pub fn start(&self) -> usize {
        self.memory.addr().get()
    }

    pub fn len(&self) -> usize {
        self.memory.len()
    }

    pub fn end(&self) -> usize {
        self.start() + self.len()
    }
}

/// By id.
#[derive(Default)]
pub struct Blocks {
    live: HashMap<u32, Block>,
}

impl Blocks {
    pub fn get(&self, id: u32) -> Block {
        self.live[&id]
    }

    pub fn find(&self, id: u32) -> Option<Block> {
        self.live.get(&id).copied()
    }

    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// `a ID LEN ALIGN`: the block, or `None` where there is no memory.
    pub fn alloc(&mut self, allocator: &dyn Allocator, line: &Line) -> Option<Block> {
        let alignment = Alignment::from_log2(line.number_at(3)).expect("an alignment");
        let len: NonZeroUsize = line.number_at(2);
        let start = allocator.alloc(len, alignment).ok()?;
        assert!(alignment.is_aligned(start.addr().get()), "misaligned");
        let block = Block { memory: NonNull::slice_from_raw_parts(start, len.get()), alignment };
        assert!(self.live.insert(line.id(), block).is_none(), "the scripts reuse dead ids only");
        Some(block)
    }

    /// `r ID NEW`
    pub fn resize(&mut self, allocator: &dyn Allocator, line: &Line) -> bool {
        let (Block { memory, alignment }, len) = (self.live[&line.id()], line.number_at(2));
        // SAFETY: live, with its alignment.
        let granted = unsafe { allocator.resize(memory, alignment, len) };
        if granted {
            self.set(line.id(), memory.cast(), len, alignment);
        }
        granted
    }

    /// `m ID NEW`
    pub fn remap(&mut self, allocator: &dyn Allocator, line: &Line) -> Option<NonNull<u8>> {
        let (Block { memory, alignment }, len) = (self.live[&line.id()], line.number_at(2));
        // SAFETY: live, with its alignment.
        let start = unsafe { allocator.remap(memory, alignment, len) }?;
        self.set(line.id(), start, len, alignment);
        Some(start)
    }

    pub fn free(&mut self, allocator: &dyn Allocator, id: u32) {
        let Block { memory, alignment } = self.live.remove(&id).expect("a live id");
        // SAFETY: it was live, and is in the table no more.
        unsafe { allocator.free(memory, alignment) };
    }

    pub fn free_all(&mut self, allocator: &dyn Allocator) {
        let ids: Vec<u32> = self.live.keys().copied().collect();
        ids.into_iter().for_each(|id| self.free(allocator, id));
    }

    /// All ended together.
    pub fn clear(&mut self) {
        self.live.clear();
    }

    pub fn set(&mut self, id: u32, start: NonNull<u8>, len: NonZeroUsize, alignment: Alignment) {
        self.live.insert(id, Block { memory: NonNull::slice_from_raw_parts(start, len.get()), alignment });
    }

    /// The four operations in the words of the scripts that show addresses; `None`: another operation.
    pub fn answer(
        &mut self,
        allocator: &dyn Allocator,
        line: &Line,
        name: &dyn Fn(NonNull<u8>) -> String,
    ) -> Option<String> {
        let shown = |start: Option<NonNull<u8>>| start.map_or("null".to_string(), name);
        Some(match line.op[0].as_str() {
            "a" => shown(self.alloc(allocator, line).map(|block| block.memory.cast())),
            "r" => self.resize(allocator, line).to_string(),
            "m" => shown(self.remap(allocator, line)),
            "f" => {
                self.free(allocator, line.id());
                "ok".to_string()
            }
            _ => return None,
        })
    }
}
