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
//! end or drop. A node that has become empty makes way for the larger one that a request needs, and one that
//! a scope leaves behind is spared for the next. After Zig's `std.heap.ArenaAllocator`, but by a law of its own:
//!
//! - the end offset is the live bytes, the padding, and what was freed but was not last: a request that
//!   did not fit leaves no hole, and one that was refused changes nothing;
//! - a node is larger than its request needs only while bytes held stay ≤ 1.5 × (most in use since the
//!   last reset + request + alignment) + 64 a node. More is held only after a reset that retained it, or where
//!   blocks were freed above others that live on, and closed nodes so lost their ends: then nodes are made to measure;
//! - nothing that Zig's arena grants is refused.
//!
//! Costs: `alloc`, `resize`, `remap` and `free` about ten instructions each, no atomics; a header of 32 bytes a
//! node. The nodes are walked when one is added; while the law is kept there are about log₁.₅(bytes) of them.
//!
//! [`reset`]: ArenaAllocator::reset
//! [`scope`]: ArenaAllocator::scope

mod mark;
mod nodes;
mod values;

use core::{cell::Cell, fmt, num::NonZeroUsize, ptr, ptr::NonNull};

pub use mark::{Checkpoint, Scope};
use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use self::nodes::{HEADER, Node, fill};
use crate::bump::{CEILING, Holding, bump_negated};

const NO_NODE: *mut u8 = ptr::without_provenance_mut(CEILING.wrapping_neg());

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
/// - **I4** The spare is such a node too, but in no list, and no block lives in it. Without a `newest` there is none.
/// - **I5** A node that a checkpoint names leaves the list only by a rewind to an older one, a reset or drop.
/// - **I6** While the backing is `asking`, nodes come and go by the call that asks alone. All of this holds wherever the
///   backing is called: a hook there may come back to the arena.
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
    /// The highest that next was in the newest node when something was taken back, negated too.
    neg_high: Cell<usize>,
    newest: Cell<Option<NonNull<Node>>>,
    limit: Cell<usize>,
    /// Takes part in no list: the node that the last rewind found above the checkpoint's, for the next request
    /// that does not fit.
    spare: Cell<Option<NonNull<Node>>>,
    /// The most in use since the last reset, but for what the newest node has seen since it was opened.
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
            neg_high: Cell::new(usize::MAX),
            newest: Cell::new(None),
            limit: Cell::new(usize::MAX),
            spare: Cell::new(None),
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
    /// `false`: the arena is empty, but the backing or the limit refused a node of the wanted capacity, and
    /// the newest one was kept as it was. Takes time in the number of nodes, none with a single one.
    #[track_caller]
    pub fn reset(&mut self, mode: ResetMode) -> bool {
        let Some(newest) = self.newest.get() else { return true };
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let single = unsafe { newest.as_ref() }.previous.is_none() && self.spare.get().is_none();
        if single && mode == ResetMode::RetainCapacity {
            self.forget_high_water();
            self.set_next(newest, HEADER);
            return true;
        }
        let capacity = match mode {
            ResetMode::FreeAll => 0,
            ResetMode::RetainCapacity => self.query_capacity(),
            ResetMode::RetainWithLimit(limit) => self.query_capacity().min(limit),
        };
        self.forget_high_water();
        if capacity == 0 {
            self.free_all();
            return true;
        }
        let older = self.take_older(newest);
        self.set_next(newest, HEADER);
        self.free_spare();
        self.free_list(older, None);
        self.set_capacity(capacity)
    }

    /// Ends every block and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

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

    /// Takes back what lies above the address whose negation this is.
    #[inline(always)]
    fn lower_next(&self, neg_next: usize) {
        let before = self.neg_next.get();
        self.neg_high.set(self.neg_high.get().min(before.addr()));
        self.neg_next.set(before.with_addr(neg_next));
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
                if new_len.get() < memory.len() {
                    self.lower_next(neg_end);
                } else {
                    self.neg_next.set(self.neg_next.get().with_addr(neg_end));
                }
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
            self.lower_next(memory.addr().get().wrapping_neg());
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
