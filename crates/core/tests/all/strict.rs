//! `Strict`: holds its callers to clauses 1, 4 and 11, and writes down every request.
//!
//! ```text
//! one block of the system:
//! +------------+----------------+-----------------------+
//! | `align` of | the caller's   | slack, all SLACK:     |
//! | padding    | `len` bytes    | room to grow in place |
//! +------------+----------------+-----------------------+
//!              ^ aligned to `align` and to nothing stricter
//! ```
//!
//! What is wrong goes to `faults`, since an allocator must not unwind; `finish` reports them.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator};

/// What fresh, freed and slack bytes hold.
pub const FRESH: u8 = 0xF5;
pub const FREED: u8 = 0xDD;
const SLACK: u8 = 0x5A;

/// What `resize` and `remap` answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always no.
    Refuse,
    /// Yes, while the slack lasts.
    InPlace,
    /// `resize` no; `remap` yes, at another address, as mremap may.
    Moving,
}

/// One call, with the lengths and alignments in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Alloc(usize, usize),
    AllocZeroed(usize, usize),
    Resize(usize, usize, usize),
    Remap(usize, usize, usize),
    Free(usize, usize),
}

struct Block {
    base: NonNull<u8>,
    whole: Layout,
    len: usize,
    align: usize,
}

pub struct Strict {
    policy: Policy,
    live: RefCell<BTreeMap<usize, Block>>,
    requests: RefCell<Vec<Request>>,
    faults: RefCell<Vec<String>>,
    /// So many further allocs succeed.
    pub allocs_left: Cell<usize>,
}

impl Strict {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            live: RefCell::default(),
            requests: RefCell::default(),
            faults: RefCell::default(),
            allocs_left: Cell::new(usize::MAX),
        }
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.take()
    }

    pub fn live_blocks(&self) -> usize {
        self.live.borrow().len()
    }

    /// Fails where a caller broke the contract or left a block behind.
    pub fn finish(&self) {
        assert!(self.faults.borrow().is_empty(), "{:#?}", self.faults.borrow());
        assert_eq!(self.live_blocks(), 0, "every block went back");
    }

    fn request(&self, request: Request) {
        self.requests.borrow_mut().push(request);
    }

    /// Whether `memory` is a live block of exactly this length and alignment, its slack whole.
    fn check(&self, what: &str, memory: NonNull<[u8]>, alignment: Alignment) -> bool {
        let live = self.live.borrow();
        let fault = match live.get(&memory.addr().get()) {
            None => Some(format!("{what} of {memory:?}, which is not live")),
            Some(block) if (block.len, block.align) != (memory.len(), alignment.bytes()) => Some(format!(
                "{what} with {} bytes aligned to {}, but made with {} and {}",
                memory.len(),
                alignment.bytes(),
                block.len,
                block.align
            )),
            Some(block) if !slack_is_whole(block) => Some(format!("{what}: written past {} bytes", block.len)),
            Some(_) => None,
        };
        let sound = fault.is_none();
        self.faults.borrow_mut().extend(fault);
        sound
    }

    fn take(&self, len: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
        if self.allocs_left.get() == 0 {
            return Err(AllocError);
        }
        let room = len.checked_mul(2).and_then(|twice| twice.checked_add(align)).ok_or(AllocError)?;
        let stricter = align.checked_mul(2).ok_or(AllocError)?;
        let whole = Layout::from_size_align(room, stricter).map_err(|_| AllocError)?;
        // SAFETY: the size is at least `align`, not 0.
        let base = NonNull::new(unsafe { System.alloc(whole) }).ok_or(AllocError)?;
        self.allocs_left.set(self.allocs_left.get() - 1);
        let block = Block { base, whole, len, align };
        let memory = memory_of(&block);
        // SAFETY: the caller's part of the new block.
        unsafe { memory.write_bytes(FRESH, len) };
        fill_slack(&block);
        self.live.borrow_mut().insert(memory.addr().get(), block);
        Ok(memory)
    }

    fn resized_in_place(&self, memory: NonNull<[u8]>, new_len: usize) -> bool {
        let mut live = self.live.borrow_mut();
        let Some(block) = live.get_mut(&memory.addr().get()) else { return false };
        if self.policy != Policy::InPlace || new_len > block.whole.size() - block.align {
            return false;
        }
        block.len = new_len;
        fill_slack(block);
        true
    }

    fn give_back(&self, memory: NonNull<[u8]>) {
        if let Some(block) = self.live.borrow_mut().remove(&memory.addr().get()) {
            // SAFETY: the whole block is still ours, and the caller has given it up.
            unsafe { block.base.write_bytes(FREED, block.whole.size()) };
            // SAFETY: allocated by `take` with this layout.
            unsafe { System.dealloc(block.base.as_ptr(), block.whole) };
        }
    }
}

// SAFETY: blocks are disjoint parts of the system's blocks, live in `live` until freed; refusals come before
// any change. `check` keeps the map's answers from ever being wrong for a caller that keeps its promises.
unsafe impl Allocator for Strict {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.request(Request::Alloc(len.get(), alignment.bytes()));
        self.take(len.get(), alignment.bytes())
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.request(Request::Resize(memory.len(), alignment.bytes(), new_len.get()));
        self.check("resize", memory, alignment) && self.resized_in_place(memory, new_len.get())
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.request(Request::Remap(memory.len(), alignment.bytes(), new_len.get()));
        if !self.check("remap", memory, alignment) {
            return None;
        }
        if self.policy != Policy::Moving {
            return self.resized_in_place(memory, new_len.get()).then_some(memory.cast());
        }
        let moved = self.take(new_len.get(), alignment.bytes()).ok()?;
        let kept = memory.len().min(new_len.get());
        // SAFETY: both blocks have `kept` bytes and are distinct. (Stands for the kernel moving pages.)
        unsafe { moved.copy_from_nonoverlapping(memory.cast(), kept) };
        self.give_back(memory);
        Some(moved)
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.request(Request::Free(memory.len(), alignment.bytes()));
        if self.check("free", memory, alignment) {
            self.give_back(memory);
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.request(Request::AllocZeroed(len.get(), alignment.bytes()));
        let block = self.take(len.get(), alignment.bytes())?;
        // SAFETY: a new block of `len` bytes.
        unsafe { block.write_bytes(0, len.get()) };
        Ok(block)
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        for block in self.live.get_mut().values() {
            // SAFETY: allocated by `take` with this layout, and never given back.
            unsafe { System.dealloc(block.base.as_ptr(), block.whole) };
        }
    }
}

/// The caller's bytes: past a padding that keeps them off every stricter alignment.
fn memory_of(block: &Block) -> NonNull<u8> {
    // SAFETY: the block has `align` bytes and more.
    unsafe { block.base.add(block.align) }
}

fn slack_of(block: &Block) -> (NonNull<u8>, usize) {
    let used = block.align + block.len;
    // SAFETY: `len` is never above what lies behind the padding.
    (unsafe { block.base.add(used) }, block.whole.size() - used)
}

fn fill_slack(block: &Block) {
    let (slack, len) = slack_of(block);
    // SAFETY: `len` bytes of our own block, which the caller does not use.
    unsafe { slack.write_bytes(SLACK, len) };
}

fn slack_is_whole(block: &Block) -> bool {
    let (slack, len) = slack_of(block);
    // SAFETY: `len` bytes that `fill_slack` has written.
    unsafe { NonNull::slice_from_raw_parts(slack, len).as_ref() }.iter().all(|byte| *byte == SLACK)
}
