//! [`ArenaAllocator`]: many blocks, one end.
//!
//! ```text
//!  backing ─▶ ┌────────┬───────┬───┬──────────┬┄┄┄┄┄┄┄┄┐   the newest node: blocks side by side
//!             │ header │ block │pad│  block   │  free  │
//!             └───┬────┴───────┴───┴──────────┴┄┄┄┄┄┄┄┄┘
//!          previous│           next (bumped) ─┘        └─ end
//!                  ▼
//!             ┌────────┬──────────────────────┬┄┄┄┄┐       older nodes: closed, only ended
//!             │ header │ blocks               │lost│
//!             └────────┴──────────────────────┴┄┄┄┄┘
//! ```
//!
//! A request bumps `next`. Where it does not fit, the newest node grows in place if the backing can,
//! else the backing gives a further node, half again as large as what is in use. The last block grows
//! and shrinks in place and is taken back when freed; any other free waits for [`reset`], [`scope`]'s
//! end or drop. After Zig's `std.heap.ArenaAllocator`, but by a law of its own:
//!
//! - the end offset is the live bytes, the padding, and what was freed but was not last: a request that
//!   did not fit leaves no hole, and one that was refused changes nothing;
//! - bytes held ≤ 1.5 × (most in use since the last reset + request + alignment) + 64 a node;
//! - nothing that Zig's arena grants is refused.
//!
//! Costs: `alloc` about ten instructions, no atomics; `free`, `resize`, `remap` a compare and a store;
//! a header of 32 bytes a node; the nodes are walked when one is added, and there are about
//! log₁.₅(bytes) of them.
//!
//! [`reset`]: ArenaAllocator::reset
//! [`scope`]: ArenaAllocator::scope

mod mark;
mod values;

use core::{cell::Cell, fmt, num::NonZeroUsize, ptr, ptr::NonNull};

pub use mark::{Checkpoint, Scope};
use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use crate::bump::{CEILING, Holding, MAX_LEN, bump_negated, fit};

/// What stands at the start of every node.
struct Node {
    /// The node that was newest before this one.
    previous: Option<NonNull<Node>>,
    /// Bytes that the backing gave, this header included.
    size: usize,
    /// Where the last block ended when a newer node closed this one, in bytes from the node's start.
    closed_at: usize,
    /// The alignment that the backing was asked for.
    alignment: Alignment,
}

const HEADER: usize = size_of::<Node>();
const NO_NODE: *mut u8 = ptr::without_provenance_mut(CEILING.wrapping_neg());
const _: () = assert!(HEADER <= 4 * size_of::<usize>());

/// Grouped temporaries over any backing; see the [module](crate::arena) for the design.
///
/// The safe way in is [`alloc_value`](Self::alloc_value) and its kin, whose borrows
/// [`reset`](Self::reset) ends at compile time. `&ArenaAllocator` is also an allocator of the
/// allocator-api2 world: `Vec::new_in(&arena)`.
///
/// - **I1** Each node, from `newest` along `previous`, is a live block of `backing` with its header's
///   `size` and `alignment`, starts with that header, and nothing else refers to it.
/// - **I2** `newest start + HEADER <= next <= end = newest start + size <= CEILING`. Both are kept negated: then
///   rounding up is one `and`. `neg_next` has the provenance of the whole node. Without a node
///   next is CEILING and end 1, so that nothing fits, not even no bytes.
/// - **I3** Live blocks are disjoint and lie between the header and `next` in the newest node, between
///   the header and `closed_at` in the others.
///
/// ```
/// use terrace_core::{ResetMode, SystemAllocator};
/// use terrace_heap::ArenaAllocator;
///
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// let words: [&str; 3] = [arena.alloc_str("red")?, arena.alloc_str("green")?, arena.alloc_str("blue")?];
/// assert_eq!(words.concat(), "redgreenblue");
/// arena.reset(ResetMode::RetainCapacity); // ends them all; the memory stays for the next round
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// What `reset` ended cannot be used:
///
/// ```compile_fail,E0502
/// # use terrace_core::{ResetMode, SystemAllocator};
/// # use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// let word = arena.alloc_str("red").unwrap();
/// arena.reset(ResetMode::FreeAll);
/// println!("{word}");
/// ```
pub struct ArenaAllocator<A: Allocator> {
    neg_next: Cell<*mut u8>,
    neg_end: Cell<usize>,
    newest: Cell<Option<NonNull<Node>>>,
    limit: Cell<usize>,
    /// The most in use since the last reset, as seen when a node was added and when blocks ended together.
    high_water: Cell<usize>,
    /// The backing is being asked: a hook in it that comes back here gets what fits, or a refusal.
    asking: Cell<bool>,
    backing: A,
}

// SAFETY: by I1 the nodes belong to this arena alone, and `A: Send` may free them elsewhere. Values in
// them are borrowed from the arena, so none is reachable while it moves to another thread.
unsafe impl<A: Allocator + Send> Send for ArenaAllocator<A> {}

impl<A: Allocator> ArenaAllocator<A> {
    /// An empty arena; asks `backing` for nothing yet.
    pub const fn new(backing: A) -> Self {
        Self {
            neg_next: Cell::new(NO_NODE),
            neg_end: Cell::new(usize::MAX),
            newest: Cell::new(None),
            limit: Cell::new(usize::MAX),
            high_water: Cell::new(0),
            asking: Cell::new(false),
            backing,
        }
    }

    /// An empty arena that is [closed](Self::close).
    pub(crate) const fn new_closed(backing: A) -> Self {
        let mut arena = Self::new(backing);
        arena.asking = Cell::new(true);
        arena
    }

    /// An arena whose first `capacity` bytes need no further request of `backing`.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses them.
    #[track_caller]
    pub fn with_capacity(backing: A, capacity: NonZeroUsize) -> Result<Self, AllocError> {
        let arena = Self::new(backing);
        let size = capacity.checked_add(HEADER).ok_or(AllocError)?;
        arena.push_node(size, Alignment::of::<Node>(), 0, false)?;
        Ok(arena)
    }

    /// Bytes that could be in use without another node: all nodes less their headers, as in Zig.
    pub fn query_capacity(&self) -> usize {
        let holding = self.holding();
        holding.held - holding.nodes * HEADER
    }

    /// Bytes now held of the backing, headers included.
    pub fn held_bytes(&self) -> usize {
        self.holding().held
    }

    /// Bytes between the headers and the end offsets: live, padding, and freed but not last.
    pub fn used_bytes(&self) -> usize {
        self.holding().used
    }

    /// The most bytes that the arena may hold of its backing; `usize::MAX` at first.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Refuses from now on what would need more than `limit` bytes of the backing. What is held stays.
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }

    /// Ends every block. `FreeAll` gives all memory back; `RetainCapacity` keeps it, as one node, so that
    /// the same work again asks the backing for nothing; `RetainWithLimit(n)` keeps at most `n` bytes of it.
    ///
    /// `false`: the arena is empty, but the backing refused a node of the wanted capacity, and the
    /// newest one was kept as it was. Takes time in the number of nodes, none with a single one.
    #[track_caller]
    pub fn reset(&mut self, mode: ResetMode) -> bool {
        let Some(newest) = self.newest.get() else { return true };
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let single = unsafe { newest.as_ref() }.previous.is_none();
        if single && mode == ResetMode::RetainCapacity {
            self.high_water.set(0);
            self.open(newest, HEADER);
            return true;
        }
        let capacity = match mode {
            ResetMode::FreeAll => 0,
            ResetMode::RetainCapacity => self.query_capacity(),
            ResetMode::RetainWithLimit(limit) => self.query_capacity().min(limit),
        };
        self.high_water.set(0);
        if capacity == 0 {
            self.free_all();
            return true;
        }
        // SAFETY: by I1 the header is there, and no reference to it exists.
        let older = unsafe { &mut (*newest.as_ptr()).previous }.take();
        self.free_list(older);
        self.open(newest, HEADER);
        self.set_capacity(capacity)
    }

    /// Ends every block and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

    /// Makes the only node, empty, one of `capacity` bytes after its header.
    #[track_caller]
    fn set_capacity(&mut self, capacity: usize) -> bool {
        let Some(node) = self.newest.get() else { return true };
        let wanted = HEADER + capacity; // At most what nodes hold, so no overflow.
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, alignment) = unsafe { node.as_ref() }.request();
        let Some(wanted_len) = NonZeroUsize::new(wanted).filter(|_| wanted != size) else { return true };
        // SAFETY: by I1 a live block of `backing` with this alignment.
        if unsafe { self.backing.resize(block_of(node, size), alignment, wanted_len) } {
            // SAFETY: the header is still there: `wanted` is more than HEADER.
            unsafe { (*node.as_ptr()).size = wanted };
            self.open(node, HEADER);
            return true;
        }
        if self.push_node(wanted_len, Alignment::of::<Node>(), 0, false).is_err() {
            return false;
        }
        // The old node hangs below the new one; nothing lives in it.
        if let Some(new) = self.newest.get() {
            // SAFETY: by I1 the header is there, and no reference to it exists.
            let old = unsafe { &mut (*new.as_ptr()).previous }.take();
            self.free_list(old);
        }
        true
    }

    /// The fast path: a request that the newest node can serve, also one for no bytes.
    #[inline(always)]
    fn bump(&self, len: usize, alignment: Alignment) -> Option<NonNull<u8>> {
        let neg_next = self.neg_next.get();
        let (neg_start, neg_end) = bump_negated(neg_next.addr(), len, alignment)?;
        if neg_end < self.neg_end.get() {
            return None;
        }
        self.neg_next.set(neg_next.with_addr(neg_end));
        // SAFETY: `neg_start >= self.neg_end`, which by I2 is not 0, so neither is the address.
        Some(unsafe { NonNull::new_unchecked(neg_next.with_addr(0).wrapping_byte_sub(neg_start)) })
    }

    /// The next free byte.
    fn next(&self) -> *mut u8 {
        self.neg_next.get().map_addr(usize::wrapping_neg)
    }

    fn set_next(&self, next: *mut u8) {
        self.neg_next.set(next.map_addr(usize::wrapping_neg));
    }

    /// As `alloc_slow`, also for no bytes, which need no node.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_any_slow(&self, len: usize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match NonZeroUsize::new(len) {
            Some(len) => self.alloc_slow(len, alignment, false),
            None => Ok(alignment.dangling()),
        }
    }

    /// The slow path: what needs more of the backing.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_slow(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        // By I1 a node is resized by one call at a time, whatever the backing's hooks do.
        if self.asking.replace(true) {
            return Err(AllocError);
        }
        let block = self.ask(len, alignment, zeroed);
        self.asking.set(false);
        block
    }

    /// Asks the backing: for a generous size first, then for exactly what is needed, so that nothing
    /// is refused that the backing has.
    #[track_caller]
    fn ask(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let holding = self.note_high_water();
        let node_alignment = alignment.max(Alignment::of::<Node>());
        let need = node_len(HEADER, node_alignment, len)?.get();
        let room = self.limit.get().saturating_sub(holding.held);
        let wish = holding.new_node(need, len.get(), alignment).min(room).max(need);
        if let Some(block) = self.bump_in_extended(holding, len, alignment, zeroed, true) {
            return Ok(block);
        }
        if let Some(block) = self.bump_in_new(wish, node_alignment, holding.held, len, alignment, zeroed) {
            return Ok(block);
        }
        if let Some(block) = self.bump_in_extended(holding, len, alignment, zeroed, false) {
            return Ok(block);
        }
        if need != wish
            && let Some(block) = self.bump_in_new(need, node_alignment, holding.held, len, alignment, zeroed)
        {
            return Ok(block);
        }
        if alignment <= Alignment::of::<Node>() {
            return Err(AllocError);
        }
        // A backing that cannot align may still have the room to do it in.
        let slack = node_len(HEADER + alignment.bytes() - 1, Alignment::ONE, len)?.get();
        self.bump_in_new(slack, Alignment::of::<Node>(), holding.held, len, alignment, zeroed).ok_or(AllocError)
    }

    /// Serves the request from a new node of `size` bytes.
    #[track_caller]
    fn bump_in_new(
        &self,
        size: usize,
        node_alignment: Alignment,
        held: usize,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Option<NonNull<u8>> {
        // Fresh zeroes cost a backing like the page allocator nothing, others their writing.
        let zeroed_node = zeroed && len.get() >= size / 2;
        self.push_node(NonZeroUsize::new(size)?, node_alignment, held, zeroed_node).ok()?;
        self.bump(len.get(), alignment).map(|block| fill(block, len, zeroed && !zeroed_node))
    }

    /// Serves the request from the newest node, grown where it is; not generously means by exactly what is needed.
    #[track_caller]
    fn bump_in_extended(
        &self,
        holding: Holding,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
        generous: bool,
    ) -> Option<NonNull<u8>> {
        let node = self.newest.get()?;
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { node.as_ref() }.request();
        let (_, end) = fit(self.next().addr(), CEILING, len.get(), alignment)?;
        let need = end - node.addr().get();
        let room = self.limit.get().checked_sub(holding.held - size)?.min(CEILING - node.addr().get()).min(MAX_LEN);
        let wish = holding.grown_node(size, need, len.get(), alignment).min(room).max(need);
        if need > room || (!generous && need == wish) {
            return None;
        }
        if !self.extend(node, if generous { wish } else { need }) {
            return None;
        }
        self.bump(len.get(), alignment).map(|block| fill(block, len, zeroed))
    }

    /// Asks the backing to let the newest node grow, where it is, to `wish` bytes.
    #[track_caller]
    fn extend(&self, node: NonNull<Node>, wish: usize) -> bool {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, alignment) = unsafe { node.as_ref() }.request();
        let Some(new_len) = NonZeroUsize::new(wish) else { return false };
        // SAFETY: by I1 a live block of `backing` with this alignment.
        let grown = unsafe { self.backing.resize(block_of(node, size), alignment, new_len) };
        if grown {
            // SAFETY: by I1 the header is there, and no reference to it exists.
            unsafe { (*node.as_ptr()).size = wish };
            self.open_at(node, self.next());
        }
        grown
    }

    /// From now on every request is refused, until [`reopen`](Self::reopen) or a reset: as if the backing were being
    /// asked, and with an end that nothing fits below. So a closed arena costs an open one nothing.
    pub(crate) fn close(&self) {
        self.asking.set(true);
        self.neg_end.set(usize::MAX);
    }

    /// Undoes [`close`](Self::close).
    pub(crate) fn reopen(&self) {
        self.asking.set(false);
        if let Some(newest) = self.newest.get() {
            self.open_at(newest, self.next());
        }
    }

    /// Puts a node of `size` bytes on top of the list and opens it.
    #[track_caller]
    fn push_node(&self, size: NonZeroUsize, alignment: Alignment, held: usize, zeroed: bool) -> Result<(), AllocError> {
        if held.checked_add(size.get()).is_none_or(|sum| sum > self.limit.get()) {
            return Err(AllocError);
        }
        let block =
            if zeroed { self.backing.alloc_zeroed(size, alignment) } else { self.backing.alloc(size, alignment) }?;
        let previous = self.newest.get();
        if block.addr().get() > CEILING - size.get().min(CEILING) {
            // SAFETY: just made by `backing`, with this length and alignment, and not used.
            unsafe { self.backing.free(NonNull::slice_from_raw_parts(block, size.get()), alignment) };
            return Err(AllocError);
        }
        if let Some(previous) = previous {
            let closed_at = self.next().addr() - previous.addr().get();
            // SAFETY: by I1 the header is there, and no reference to it exists.
            unsafe { (*previous.as_ptr()).closed_at = closed_at };
        }
        let node = block.cast::<Node>();
        // SAFETY: the block is ours, has `size > HEADER` bytes, and `alignment` is at least the header's.
        unsafe { node.write(Node { previous, size: size.get(), closed_at: HEADER, alignment }) };
        self.open(node, HEADER);
        Ok(())
    }

    /// Makes `node` the newest, its next free byte `offset` bytes from its start.
    fn open(&self, node: NonNull<Node>, offset: usize) {
        // SAFETY: by I1 `offset`, at most the node's size, stays inside the block.
        let next = unsafe { node.cast::<u8>().add(offset) };
        self.open_at(node, next.as_ptr());
    }

    fn open_at(&self, node: NonNull<Node>, next: *mut u8) {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let size = unsafe { node.as_ref() }.size;
        self.newest.set(Some(node));
        self.set_next(next);
        self.neg_end.set((node.addr().get() + size).wrapping_neg());
    }

    #[track_caller]
    fn free_all(&mut self) {
        self.neg_next.set(NO_NODE);
        self.neg_end.set(usize::MAX);
        self.free_list(self.newest.take());
    }

    /// Gives back `node` and all below it, newest first. They are in no list any more.
    #[track_caller]
    fn free_list(&self, mut node: Option<NonNull<Node>>) {
        while let Some(this) = node {
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            node = unsafe { this.as_ref() }.previous;
            self.free_node(this);
        }
    }

    #[track_caller]
    fn free_node(&self, node: NonNull<Node>) {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, alignment) = unsafe { node.as_ref() }.request();
        // SAFETY: by I1 a live block of `backing` with this length and alignment; it is not used again.
        unsafe { self.backing.free(block_of(node, size), alignment) };
    }

    /// What is held now, with the most in use since the last reset in place of what is in use.
    fn note_high_water(&self) -> Holding {
        let now = self.holding();
        self.high_water.set(self.high_water.get().max(now.used));
        Holding { used: self.high_water.get(), ..now }
    }

    fn holding(&self) -> Holding {
        let mut holding = Holding::default();
        let mut node = self.newest.get();
        while let Some(this) = node {
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            let header = unsafe { this.as_ref() };
            let newest = holding.nodes == 0;
            let end = if newest { self.next().addr() - this.addr().get() } else { header.closed_at };
            holding.nodes += 1;
            holding.held += header.size;
            holding.used += end - HEADER;
            node = header.previous;
        }
        holding
    }

    /// Whether `memory` is the newest node's last block.
    #[inline(always)]
    fn is_last(&self, memory: NonNull<[u8]>) -> bool {
        // By I3 no block of another node ends at `next`: a header lies between.
        (memory.addr().get().wrapping_add(memory.len())).wrapping_neg() == self.neg_next.get().addr()
    }
}

// SAFETY: by I3 live blocks are disjoint and by I1 live as long as the arena or until its next `&mut`
// method; `bump` aligns them; a failed request leaves next byte, end and list as they were.
unsafe impl<A: Allocator> Allocator for ArenaAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.bump(len.get(), alignment) {
            Some(block) => Ok(block),
            None => self.alloc_slow(len, alignment, false),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        if !self.is_last(memory) {
            return new_len.get() <= memory.len();
        }
        match memory.addr().get().wrapping_neg().checked_sub(new_len.get()) {
            Some(neg_end) if neg_end >= self.neg_end.get() => {
                self.neg_next.set(self.neg_next.get().with_addr(neg_end));
                true
            }
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        if self.is_last(memory) {
            self.neg_next.set(self.neg_next.get().with_addr(memory.addr().get().wrapping_neg()));
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match self.bump(len.get(), alignment) {
            Some(block) => Ok(fill(block, len, true)),
            None => self.alloc_slow(len, alignment, true),
        }
    }
}

// SAFETY: by I1 exactly the bytes of the nodes are this arena's.
unsafe impl<A: Allocator> Owns for ArenaAllocator<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        let mut node = self.newest.get();
        while let Some(this) = node {
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            let header = unsafe { this.as_ref() };
            if address.addr().get().wrapping_sub(this.addr().get()) < header.size {
                return true;
            }
            node = header.previous;
        }
        false
    }
}

impl<A: Allocator> Reset for ArenaAllocator<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        Self::reset(self, mode)
    }
}

bridge_collections!(impl['b, A: Allocator] for &'b ArenaAllocator<A>);

impl<A: Allocator> Drop for ArenaAllocator<A> {
    fn drop(&mut self) {
        self.free_all();
    }
}

impl<A: Allocator> fmt::Debug for ArenaAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holding { nodes, held, used } = self.holding();
        f.debug_struct("ArenaAllocator").field("nodes", &nodes).field("held", &held).field("used", &used).finish()
    }
}

impl Node {
    /// What the backing was asked for.
    fn request(&self) -> (usize, Alignment) {
        (self.size, self.alignment)
    }
}

/// The backing's view of a node.
fn block_of(node: NonNull<Node>, size: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(node.cast(), size)
}

/// Bytes of a node whose first block, of `len` bytes, starts at `header` rounded up to `alignment`.
fn node_len(header: usize, alignment: Alignment, len: NonZeroUsize) -> Result<NonZeroUsize, AllocError> {
    let start = alignment.forward(header).ok_or(AllocError)?;
    len.checked_add(start).filter(|size| size.get() <= MAX_LEN).ok_or(AllocError)
}

#[inline]
fn fill(block: NonNull<u8>, len: NonZeroUsize, zeroed: bool) -> NonNull<u8> {
    if zeroed {
        // SAFETY: `block` has just been handed out with `len` bytes.
        unsafe { block.write_bytes(0, len.get()) };
    }
    block
}
