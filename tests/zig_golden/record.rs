//! [`Recorder`]: writes the requests to a backing down as the golden vectors do, and refuses on command.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator};

/// How addresses are written.
pub enum Names {
    /// As offsets from the start of a buffer, behind a word.
    Offsets { origin: usize, prefix: &'static str },
    /// `nK` for the K-th block that the backing gave.
    Numbers,
}

/// A live block of the backing.
struct Given {
    number: usize,
    len: usize,
}

/// A layer over a backing.
pub struct Recorder<A> {
    backing: A,
    names: Names,
    /// By address.
    live: RefCell<BTreeMap<usize, Given>>,
    given: Cell<usize>,
    requests: RefCell<Vec<String>>,
    /// So many of the next allocs, and of the next resizes, are refused.
    pub refuse_allocs: Cell<usize>,
    pub refuse_resizes: Cell<usize>,
    /// Refusals on command so far.
    pub refused: Cell<usize>,
    /// The most bytes that were live at once.
    pub most_held: Cell<usize>,
}

impl<A> Recorder<A> {
    pub fn new(backing: A, names: Names) -> Self {
        Self {
            backing,
            names,
            live: RefCell::default(),
            given: Cell::new(0),
            requests: RefCell::default(),
            refuse_allocs: Cell::new(0),
            refuse_resizes: Cell::new(0),
            refused: Cell::new(0),
            most_held: Cell::new(0),
        }
    }

    pub fn backing(&self) -> &A {
        &self.backing
    }

    /// Live blocks, and their bytes.
    pub fn holding(&self) -> (usize, usize) {
        let live = self.live.borrow();
        (live.len(), live.values().map(|given| given.len).sum())
    }

    /// `decision`, and what has been asked of the backing since the last call.
    pub fn with_requests(&self, decision: String) -> String {
        let requests = self.requests.take();
        if requests.is_empty() { decision } else { format!("{decision} | {}", requests.join("; ")) }
    }

    /// The name of an address in a live block of the backing.
    pub fn name(&self, address: NonNull<u8>) -> String {
        let address = address.addr().get();
        match self.names {
            Names::Offsets { origin, prefix } => format!("{prefix}{}", address - origin),
            Names::Numbers => {
                let live = self.live.borrow();
                let (start, given) = live.range(..=address).next_back().expect("in a block of the backing");
                assert!(address - start < given.len, "in a block of the backing");
                format!("n{}+{}", given.number, address - start)
            }
        }
    }

    /// The name of a block of the backing.
    fn block(&self, start: NonNull<u8>) -> String {
        match self.names {
            Names::Offsets { .. } => self.name(start),
            Names::Numbers => format!("n{}", self.live.borrow()[&start.addr().get()].number),
        }
    }

    fn note(&self, request: String) {
        self.requests.borrow_mut().push(request);
    }

    fn refuses(&self, left: &Cell<usize>) -> bool {
        let refuses = left.get() > 0;
        if refuses {
            left.set(left.get() - 1);
            self.refused.set(self.refused.get() + 1);
        }
        refuses
    }

    fn give(&self, start: NonNull<u8>, len: usize) {
        self.live.borrow_mut().insert(start.addr().get(), Given { number: self.given.get(), len });
        self.given.set(self.given.get() + 1);
        self.note_peak();
    }

    fn set_len(&self, memory: NonNull<[u8]>, len: usize) {
        let mut live = self.live.borrow_mut();
        let given = live.get_mut(&memory.addr().get()).expect("a live block");
        assert_eq!(given.len, memory.len(), "the length that was agreed");
        given.len = len;
        drop(live);
        self.note_peak();
    }

    fn note_peak(&self) {
        self.most_held.set(self.most_held.get().max(self.holding().1));
    }
}

// SAFETY: blocks are the backing's own; what is refused never reaches it.
unsafe impl<A: Allocator> Allocator for Recorder<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let refused = self.refuses(&self.refuse_allocs);
        let start = if refused { Err(AllocError) } else { self.backing.alloc(len, alignment) };
        if let Ok(start) = start {
            self.give(start, len.get());
        }
        let answer = start.map_or("null".to_string(), |start| self.block(start));
        self.note(format!("alloc {len} {} = {answer}", alignment.log2()));
        start
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let refused = self.refuses(&self.refuse_resizes);
        // SAFETY: the caller's promise, passed on unchanged.
        let granted = !refused && unsafe { self.backing.resize(memory, alignment, new_len) };
        let name = self.block(memory.cast());
        self.note(format!("resize {name} {} {} {new_len} = {granted}", memory.len(), alignment.log2()));
        if granted {
            self.set_len(memory, new_len.get());
        }
        granted
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let name = self.block(memory.cast());
        // SAFETY: the caller's promise, passed on unchanged.
        let start = unsafe { self.backing.remap(memory, alignment, new_len) };
        assert!(start.is_none_or(|start| start == memory.cast()), "the backings of these stacks move nothing");
        if start.is_some() {
            self.set_len(memory, new_len.get());
        }
        let answer = start.map_or("null".to_string(), |start| self.block(start));
        self.note(format!("remap {name} {} {} {new_len} = {answer}", memory.len(), alignment.log2()));
        start
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.note(format!("free {} {} {}", self.block(memory.cast()), memory.len(), alignment.log2()));
        self.set_len(memory, 0);
        self.live.borrow_mut().remove(&memory.addr().get());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }
}
