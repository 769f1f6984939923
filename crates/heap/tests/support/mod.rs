//! A strict ground for tests: checks what comes back (clause 11), refuses on command, grows in place on
//! request, and drives any allocator through random programs against a shadow of what must be true.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod collect;

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::{Cell, RefCell},
    collections::HashMap,
    num::NonZeroUsize,
    ptr::NonNull,
};

use proptest::prelude::*;
use terrace_core::{Alignment, AllocError, Allocator, SystemAllocator};

/// What an arena's node needs for itself.
pub const HEADER: usize = 4 * size_of::<usize>();

pub fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).expect("a length is not zero")
}

pub fn align(bytes: usize) -> Alignment {
    Alignment::new(bytes).expect("a power of two")
}

pub fn slice(block: NonNull<u8>, bytes: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(block, bytes)
}

/// So many times the usual number of cases, which `PROPTEST_CASES` lowers where each is slow.
pub fn cases(times: u32) -> ProptestConfig {
    ProptestConfig::with_cases(times * ProptestConfig::default().cases)
}

struct Block {
    len: usize,
    alignment: Alignment,
    /// What really lies there: in a roomy ground twice the length.
    layout: Layout,
}

/// Bytes behind every block, which nobody may write to.
const GUARD: usize = 16;

/// Hands out std's memory and panics where a block does not come back as it went out, or was written past.
#[derive(Default)]
pub struct Ground {
    live: RefCell<HashMap<usize, Block>>,
    /// Blocks have as much room behind them again, to grow into.
    pub roomy: bool,
    /// Calls of alloc and of resize so far.
    pub allocs: Cell<usize>,
    pub resizes: Cell<usize>,
    /// The call of `alloc` or `resize`, from now, that is refused: 0 none, 1 the next, `usize::MAX` all.
    pub refuse_in: Cell<usize>,
    pub most_held: Cell<usize>,
    /// What would make it hold more bytes than these is refused.
    pub stock: Cell<Option<usize>>,
    /// What asks for a stricter alignment is refused.
    pub strictest: Cell<Option<Alignment>>,
}

impl Ground {
    pub fn roomy() -> Self {
        let mut ground = Self::default();
        ground.roomy = true;
        ground
    }

    pub fn blocks(&self) -> usize {
        self.live.borrow().len()
    }

    pub fn held(&self) -> usize {
        self.live.borrow().values().map(|block| block.len).sum()
    }

    fn refuses(&self) -> bool {
        match self.refuse_in.get() {
            0 => false,
            usize::MAX => true,
            left => {
                self.refuse_in.set(left - 1);
                left == 1
            }
        }
    }

    /// Whether so many bytes more may be held.
    pub fn has(&self, bytes: usize) -> bool {
        self.stock.get().is_none_or(|stock| bytes <= stock.saturating_sub(self.held()))
    }

    fn note_peak(&self) {
        self.most_held.set(self.most_held.get().max(self.held()));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let left = self.blocks();
        assert!(left == 0 || std::thread::panicking(), "{left} blocks never came back");
    }
}

// SAFETY: std's blocks, each handed out once; a resize stays inside the block's own layout.
unsafe impl Allocator for Ground {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.allocs.set(self.allocs.get() + 1);
        if self.refuses() || !self.has(len.get()) || self.strictest.get().is_some_and(|strictest| alignment > strictest)
        {
            return Err(AllocError);
        }
        let room = if self.roomy { len.get().saturating_mul(2) } else { len.get() };
        let guarded = room.checked_add(GUARD).ok_or(AllocError)?;
        let layout = Layout::from_size_align(guarded, alignment.bytes()).map_err(|_| AllocError)?;
        // SAFETY: not of size zero.
        let block = NonNull::new(unsafe { alloc(layout) }).ok_or(AllocError)?;
        // SAFETY: just handed out with so many bytes. Poison, so that nobody rests on zeroes.
        unsafe { block.write_bytes(0xD7, guarded) };
        self.live.borrow_mut().insert(block.addr().get(), Block { len: len.get(), alignment, layout });
        self.note_peak();
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.resizes.set(self.resizes.get() + 1);
        let refused = self.refuses() || !self.has(new_len.get().saturating_sub(memory.len()));
        let granted = {
            let mut live = self.live.borrow_mut();
            let block = live.get_mut(&memory.addr().get()).expect("resize of a block that is not live");
            assert_eq!((block.len, block.alignment), (memory.len(), alignment), "resize of another block");
            let granted = !refused && new_len.get() <= block.layout.size() - GUARD;
            if granted {
                block.len = new_len.get();
            }
            granted
        };
        self.note_peak();
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let block = self.live.borrow_mut().remove(&memory.addr().get()).expect("free of a block that is not live");
        assert_eq!((block.len, block.alignment), (memory.len(), alignment), "free of another block");
        // SAFETY: the layout is the block's length, or what it once was, and the guard.
        let guard = unsafe { memory.cast::<u8>().add(block.layout.size() - GUARD) };
        // SAFETY: `GUARD` bytes lie there, initialised when the block was made.
        assert!(is_all(unsafe { slice(guard, GUARD).as_ref() }, 0xD7), "somebody wrote past a block");
        // SAFETY: allocated above with this layout, and removed from the live ones, so once.
        unsafe { dealloc(memory.cast().as_ptr(), block.layout) };
    }
}

/// One step of a random program; indexes choose among the live blocks.
#[derive(Clone, Debug)]
pub enum Op {
    Alloc { len: usize, log2: u32, zeroed: bool },
    Resize { index: usize, len: usize },
    Remap { index: usize, len: usize },
    Free { index: usize },
}

pub fn ops(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    let length = prop_oneof![4 => 1usize..=64, 2 => 1usize..=2000, 1 => 1usize..=longest];
    let op = prop_oneof![
        5 => (length.clone(), 0u32..10, any::<bool>()).prop_map(|(len, log2, zeroed)| Op::Alloc { len, log2, zeroed }),
        2 => (any::<usize>(), length.clone()).prop_map(|(index, len)| Op::Resize { index, len }),
        1 => (any::<usize>(), length).prop_map(|(index, len)| Op::Remap { index, len }),
        3 => any::<usize>().prop_map(|index| Op::Free { index }),
    ];
    proptest::collection::vec(op, 1..80)
}

/// Each byte is `fill`: the first is, and each is what the one before it is. Fast without optimisation too.
pub fn is_all(bytes: &[u8], fill: u8) -> bool {
    bytes.first().is_none_or(|&first| first == fill && bytes[1..] == bytes[..bytes.len() - 1])
}

/// A live block and the byte that fills it.
#[derive(Clone)]
pub struct Live {
    pub memory: NonNull<[u8]>,
    pub alignment: Alignment,
    pub fill: u8,
}

/// What must be true of an allocator under test.
#[derive(Default)]
pub struct Shadow {
    pub live: Vec<Live>,
    next_fill: u8,
}

impl Shadow {
    /// Takes one step and checks every clause that it can see.
    pub fn step(&mut self, allocator: &dyn Allocator, op: &Op) {
        match *op {
            Op::Alloc { len: bytes, log2, zeroed } => self.alloc(allocator, bytes, log2, zeroed),
            Op::Resize { index, len: bytes } => {
                let Some(at) = self.pick(index) else { return };
                let Live { memory, alignment, .. } = self.live[at].clone();
                // SAFETY: live in the shadow, so live in the allocator.
                let resized = unsafe { allocator.resize(memory, alignment, len(bytes)) };
                self.replace(at, resized.then_some(memory.cast()), bytes);
            }
            Op::Remap { index, len: bytes } => {
                let Some(at) = self.pick(index) else { return };
                let Live { memory, alignment, .. } = self.live[at].clone();
                // SAFETY: live in the shadow, so live in the allocator.
                let moved = unsafe { allocator.remap(memory, alignment, len(bytes)) };
                self.replace(at, moved, bytes);
            }
            Op::Free { index } => {
                let Some(at) = self.pick(index) else { return };
                let Live { memory, alignment, .. } = self.live.swap_remove(at);
                // SAFETY: live in the shadow until now, so live in the allocator.
                unsafe { allocator.free(memory, alignment) };
            }
        }
        self.check();
    }

    fn alloc(&mut self, allocator: &dyn Allocator, bytes: usize, log2: u32, zeroed: bool) {
        let alignment = Alignment::from_log2(log2).expect("a small alignment");
        let block =
            if zeroed { allocator.alloc_zeroed(len(bytes), alignment) } else { allocator.alloc(len(bytes), alignment) };
        let Ok(block) = block else { return };
        assert!(alignment.is_aligned(block.addr().get()), "misaligned");
        let memory = slice(block, bytes);
        if zeroed {
            // SAFETY: live with `bytes` bytes, all initialised to zero by the contract.
            assert!(is_all(unsafe { memory.as_ref() }, 0), "alloc_zeroed gave other bytes");
        }
        let (start, end) = (block.addr().get(), block.addr().get() + bytes);
        for other in &self.live {
            let (other_start, other_len) = (other.memory.addr().get(), other.memory.len());
            assert!(end <= other_start || other_start + other_len <= start, "two live blocks overlap");
        }
        self.next_fill = self.next_fill.wrapping_add(1);
        self.live.push(Live { memory, alignment, fill: self.next_fill });
        self.paint(self.live.len() - 1);
    }

    fn replace(&mut self, at: usize, block: Option<NonNull<u8>>, bytes: usize) {
        if let Some(block) = block {
            let kept = self.live[at].memory.len().min(bytes);
            // SAFETY: live with at least `kept` bytes, filled when the block was last painted.
            let head = unsafe { slice(block, kept).as_ref() };
            assert!(is_all(head, self.live[at].fill), "resize lost bytes");
            self.live[at].memory = slice(block, bytes);
            self.paint(at);
        }
    }

    fn paint(&mut self, at: usize) {
        let Live { memory, fill, .. } = self.live[at];
        // SAFETY: live with `memory.len()` bytes.
        unsafe { memory.cast::<u8>().write_bytes(fill, memory.len()) };
    }

    fn pick(&self, index: usize) -> Option<usize> {
        (!self.live.is_empty()).then(|| index % self.live.len())
    }

    /// Every block still holds what was written to it: nobody else writes there.
    pub fn check(&self) {
        for block in &self.live {
            // SAFETY: live and painted.
            let bytes = unsafe { block.memory.as_ref() };
            assert!(is_all(bytes, block.fill), "a block's bytes changed");
        }
    }

    pub fn free_all(&mut self, allocator: &dyn Allocator) {
        for block in self.live.drain(..) {
            // SAFETY: live in the shadow until now, so live in the allocator.
            unsafe { allocator.free(block.memory, block.alignment) };
        }
    }
}

/// Takes its time to grant.
pub struct Slow;

// SAFETY: the system's own blocks.
unsafe impl Allocator for Slow {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        std::thread::sleep(std::time::Duration::from_millis(2));
        SystemAllocator.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.free(memory, alignment) };
    }
}
