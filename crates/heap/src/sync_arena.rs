//! [`SyncArena`]: many blocks, one end, for many threads at once and without a lock.
//!
//! ```text
//!  used ─▶ ┌──────────────────┬───────┬───┬──────────┬┄┄┄┄┄┄┄┄┐   the newest node: all threads bump its `end`
//!          │ size │ end │ next│ block │pad│  block   │  free  │
//!          └───────────────┬──┴───────┴───┴──────────┴┄┄┄┄┄┄┄┄┘
//!                          ▼                    end ─┘        └─ size, even: its lowest bit says that one thread
//!          ┌──────────────────┬────────────────┬┄┄┄┄┐            is asking the backing for more
//!          │ size │ end │ next│ blocks         │lost│          older nodes: only ended
//!          └──────────────────┴────────────────┴┄┄┄┄┘
//!  spare ─▶ nodes that a thread had made when another's came first; taken as a whole, given back as a whole
//! ```
//!
//! The lock-free `std.heap.ArenaAllocator` of Zig 0.16, decision for decision and request for request: see
//! `docs/zig-differences.md` for the few that differ near `usize::MAX`. What follows from that, and that
//! [`ArenaAllocator`](crate::ArenaAllocator) does better where one thread is enough:
//!
//! - a request moves `end` even where it does not fit. Is the node then grown, those bytes stay a hole; does the
//!   backing refuse, the node refuses what would have fitted, until it grows, a newer one comes, or a reset;
//! - what is left in an older node is never used;
//! - the backing is asked for blocks of a node's alignment only, whatever the caller's.
//!
//! Costs: `alloc` two loads and a compare-and-swap; `free`, `resize`, `remap` two loads and at most one; a header
//! of three words a node. No thread ever waits for another.
//!
//! Tested by `tests/sync_arena.rs`, by Zig's golden vectors in `tests/zig_golden.rs` of the workspace, and by
//! `tests/loom_sync_arena.rs` in every order of threads.

#[path = "sync_arena/index.rs"] // In full, for the models load this file by its path.
mod index;
#[path = "sync_arena/node.rs"]
mod node;

use core::{
    fmt,
    num::NonZeroUsize,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr,
    ptr::NonNull,
};

use index::{even_node, further_node};
use node::{ALIGNMENT, HEADER, Header, Node};
use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};
use terrace_sync::const_fn;

use crate::atomic::{AtomicPtr, Ordering};

/// Grouped temporaries that threads share, over any backing; see the file's text for the design.
///
/// `Send` and `Sync` where the backing is.
///
/// - **I1** Each node, in `used` or `spare` along `next`, is a live block of `backing` with its `size` and the alignment
///   of its header, starts with that header, and nothing but blocks lies behind it. It lives until a `&mut` method.
/// - **I2** A node in `used` stays there, and its `next` is not written again. A node outside of `used` belongs
///   to the one thread that has taken the list, or made it; no block lies in it.
/// - **I3** `size` of a node in `used` only grows, and changes only in the hands of the thread that set its lowest bit.
/// - **I4** Live blocks of a node are disjoint and lie between the header and the lower of `end` and `size`.
///   `end` is changed by compare-and-swap only, and says all: equal ends mean equal free space.
/// - **I5** Who publishes a node, or more of one, has written before (Release); who reads it sees that (Acquire).
///   What lowers `end` releases the bytes, what raises it acquires them.
///
/// By `&mut self` all of that is the caller's alone, and seen by it.
///
/// ```
/// use std::thread;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::SyncArena;
///
/// let arena = SyncArena::new(SystemAllocator);
/// thread::scope(|threads| {
///     for n in 0..4u8 {
///         let arena = &arena;
///         threads.spawn(move || arena.dupe(&[n; 100]).is_ok());
///     }
/// });
/// let mut arena = arena; // No thread is left that has blocks of it.
/// assert!(arena.query_capacity() >= 400);
/// arena.deinit();
/// ```
///
/// Its blocks end together only when nobody has it:
///
/// ```compile_fail,E0502
/// # use terrace_core::{ResetMode, SystemAllocator};
/// # use terrace_heap::SyncArena;
/// let mut arena = SyncArena::new(SystemAllocator);
/// let mut numbers = allocator_api2_02::vec::Vec::new_in(&arena);
/// arena.reset(ResetMode::FreeAll);
/// numbers.push(1);
/// ```
pub struct SyncArena<A: Allocator> {
    /// Newest first.
    used: AtomicPtr<Header>,
    spare: AtomicPtr<Header>,
    backing: A,
}

/// A request.
#[derive(Clone, Copy)]
struct Request {
    len: NonZeroUsize,
    alignment: Alignment,
    zeroed: bool,
}

/// What came of an attempt to grow a node.
enum Growth {
    Block(NonNull<u8>),
    /// Another thread made room.
    Retry,
    Refused,
}

/// What came of an attempt to use a spare node.
enum Spare {
    Block(NonNull<u8>),
    /// Another thread's node is the newest now.
    Retry(*mut Header),
    None,
}

// No call unwinds (clause 10), so nobody meets it half-changed.
impl<A: Allocator + UnwindSafe> UnwindSafe for SyncArena<A> {}
impl<A: Allocator + RefUnwindSafe> RefUnwindSafe for SyncArena<A> {}

impl<A: Allocator> SyncArena<A> {
    const_fn! {
        /// An empty arena; asks `backing` for nothing yet.
        pub const fn new(backing: A) -> Self {
            Self { used: AtomicPtr::new(ptr::null_mut()), spare: AtomicPtr::new(ptr::null_mut()), backing }
        }
    }

    /// Bytes of all nodes, less their headers, as in Zig.
    pub fn query_capacity(&mut self) -> usize {
        capacity(&mut self.used) + capacity(&mut self.spare)
    }

    /// Ends every block. `FreeAll` gives all memory back; `RetainCapacity` keeps it, as one node (and one
    /// more where threads left spare ones); `RetainWithLimit(n)` keeps at most `n` bytes of it.
    ///
    /// `false`: the arena is empty, but the backing refused a node of the wanted capacity, and the oldest one was
    /// kept as it was. Takes time in the number of nodes.
    #[track_caller]
    pub fn reset(&mut self, mode: ResetMode) -> bool {
        let limit = match mode {
            ResetMode::FreeAll => 0,
            ResetMode::RetainCapacity => usize::MAX,
            ResetMode::RetainWithLimit(limit) => limit,
        };
        if limit == 0 {
            self.free_all();
            return true;
        }
        let used = capacity(&mut self.used).min(limit);
        let spare = capacity(&mut self.spare).min(limit - used);
        let used_kept = retain(&self.backing, &mut self.used, used);
        let spare_kept = retain(&self.backing, &mut self.spare, spare);
        used_kept && spare_kept
    }

    /// Ends every block and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

    fn free_all(&mut self) {
        free_from(&self.backing, &mut self.used, false);
        free_from(&self.backing, &mut self.spare, false);
    }

    /// A block, and whether its bytes are known to be zero.
    #[track_caller]
    fn serve(&self, request: Request) -> Result<(NonNull<u8>, bool), AllocError> {
        let mut mine = None;
        let block = self.serve_with(request, &mut mine);
        if let Some(node) = mine {
            // `push` has tried it before a node of `used`.
            // SAFETY: made by this thread and never published (I2).
            unsafe { node.set_next(ptr::null_mut()) };
            // SAFETY: as above; a chain of one.
            unsafe { self.push_spare(node) };
        }
        block
    }

    /// From the newest node, that node grown, a spare one, or a new one. A node in `mine` afterwards is this thread's, and
    /// was made in vain.
    #[track_caller]
    fn serve_with(&self, request: Request, mine: &mut Option<Node>) -> Result<(NonNull<u8>, bool), AllocError> {
        let Request { len, alignment, zeroed } = request;
        // Acquire: pairs with the Release of `push` (I5).
        let mut newest = self.used.load(Ordering::Acquire);
        loop {
            let mut room = 0;
            // SAFETY: from `used`, acquired here or by `push`; the node lives as long as `self` is borrowed (I1).
            if let Some(node) = unsafe { Node::from_raw(newest) } {
                room = node.room();
                if let Some(block) = node.bump(room, len, alignment) {
                    return Ok((block, false));
                }
                match self.grow(node, request) {
                    Growth::Block(block) => return Ok((block, false)),
                    Growth::Retry => continue,
                    Growth::Refused => {}
                }
            }
            match self.serve_from_spare(newest, request) {
                Spare::Block(block) => return Ok((block, false)),
                Spare::Retry(now) => {
                    newest = now;
                    continue;
                }
                Spare::None => {}
            }
            let node = match *mine {
                Some(node) => node,
                None => *mine.insert(self.new_node(room, request)?),
            };
            let (start, end) = node.place(0, len, alignment).ok_or(AllocError)?;
            // SAFETY: made by this thread and not published (I2).
            match unsafe { self.push(node, newest, end) } {
                Ok(()) => {
                    *mine = None;
                    // SAFETY: `further_node` has made room for the header, the padding and the block.
                    return Ok((unsafe { node.block(start) }, zeroed));
                }
                Err(now) => newest = now,
            }
        }
    }

    /// Asks the backing to let `node` grow by what the request needs. One thread at a time: others go on without.
    #[track_caller]
    fn grow(&self, node: Node, request: Request) -> Growth {
        let Some(mut size) = node.begin_growth() else { return Growth::Refused };
        let growth = self.grow_held(node, &mut size, request);
        // SAFETY: begun above; `grow_held` has changed the size only where the backing agreed.
        unsafe { node.end_growth(size) };
        growth
    }

    /// As the one thread that changes the node's size (I3).
    #[track_caller]
    fn grow_held(&self, node: Node, size: &mut usize, Request { len, alignment, .. }: Request) -> Growth {
        let end = node.end();
        let Some((start, new_end)) = node.place(end, len, alignment) else { return Growth::Refused };
        let Some(new_size) = even_node(HEADER, new_end) else { return Growth::Refused };
        if new_size.get() <= *size {
            return Growth::Retry;
        }
        // SAFETY: by I1 and I3 a live block of `backing`, of this size.
        if !unsafe { self.backing.resize(node.memory(), ALIGNMENT, new_size) } {
            return Growth::Refused;
        }
        *size = new_size.get();
        if !node.raise(end, new_end) {
            return Growth::Refused; // The node has grown for another request.
        }
        // SAFETY: within the new size.
        Growth::Block(unsafe { node.block(start) })
    }

    /// Takes the spare nodes and serves the request from the one that lacks least, grown where it must be.
    #[track_caller]
    fn serve_from_spare(&self, newest: *mut Header, request: Request) -> Spare {
        // Acquire: pairs with the Release of `push_spare` (I5). By the swap the nodes are ours (I2): no other
        // thread holds a `next` that could lead it to one of them later.
        let taken = self.spare.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: from `spare`, acquired; the nodes live as long as `self` is borrowed (I1).
        let Some(first) = (unsafe { Node::from_raw(taken) }) else { return Spare::None };
        // SAFETY: the chain is this thread's.
        let chosen = unsafe { choose(first, request) };
        let Some(Choice { node, before, start, end }) = chosen.filter(|choice| self.make_room(choice)) else {
            // SAFETY: the chain is this thread's.
            unsafe { self.push_spare(first) };
            return Spare::None;
        };
        // SAFETY: the node is this thread's.
        let after = unsafe { node.next() }.map_or(ptr::null_mut(), Node::as_raw);
        // SAFETY: as above.
        if let Err(now) = unsafe { self.push(node, newest, end) } {
            // SAFETY: as above: it was not pushed.
            unsafe { node.set_next(after) };
            // SAFETY: the chain is whole again, and this thread's.
            unsafe { self.push_spare(first) };
            return Spare::Retry(now);
        }
        let rest = match before {
            None => after,
            Some(before) => {
                // SAFETY: of the chain, and not pushed.
                unsafe { before.set_next(after) };
                first.as_raw()
            }
        };
        // SAFETY: of the chain, and not pushed.
        if let Some(rest) = unsafe { Node::from_raw(rest) } {
            // SAFETY: as above.
            unsafe { self.push_spare(rest) };
        }
        // SAFETY: `make_room` has.
        Spare::Block(unsafe { node.block(start) })
    }

    /// Lets a chosen node, which is this thread's, grow where the block does not fit.
    #[track_caller]
    fn make_room(&self, &Choice { node, end, .. }: &Choice) -> bool {
        if end <= node.room() {
            return true;
        }
        let Some(size) = even_node(HEADER, end) else { return false };
        // SAFETY: by I1 a live block of `backing`, by I2 in this thread's hands.
        let grown = unsafe { self.backing.resize(node.memory(), ALIGNMENT, size) };
        if grown {
            // SAFETY: this thread's, and agreed.
            unsafe { node.set_size(size) };
        }
        grown
    }

    #[track_caller]
    fn new_node(&self, room: usize, Request { len, alignment, zeroed }: Request) -> Result<Node, AllocError> {
        let size = further_node(HEADER, room, len.get(), alignment).ok_or(AllocError)?;
        let block =
            if zeroed { self.backing.alloc_zeroed(size, ALIGNMENT) } else { self.backing.alloc(size, ALIGNMENT) }?;
        // SAFETY: just handed out; it lives until a `&mut` method frees it (I1).
        Ok(unsafe { Node::make(block, size) })
    }

    /// Makes `node`, with blocks up to `end`, the newest after `newest`; or says which one is.
    ///
    /// # Safety
    /// The node is this thread's (I2); after `Ok` it is not.
    unsafe fn push(&self, node: Node, newest: *mut Header, end: usize) -> Result<(), *mut Header> {
        // SAFETY: the caller's promise.
        unsafe { node.set_end(end) };
        // SAFETY: the caller's promise; `newest` is of this arena.
        unsafe { node.set_next(newest) };
        // Release: publishes the header; pairs with the Acquire of the failure here and of the loads of `used` (I5).
        // No ABA: nodes never leave `used`. Strong, since a spurious failure would cost a node.
        self.used.compare_exchange(newest, node.as_raw(), Ordering::Release, Ordering::Acquire).map(drop)
    }

    /// Gives a chain to whoever needs it.
    ///
    /// # Safety
    /// The chain from `first` on is this thread's (I2); then it is not.
    unsafe fn push_spare(&self, first: Node) {
        // SAFETY: the caller's promise.
        let last = unsafe { first.last() };
        let mut head = self.spare.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller's promise; `head` is of this arena.
            unsafe { last.set_next(head) };
            // Release: pairs with the Acquire of `serve_from_spare` (I5). Relaxed on failure: `head` is not looked
            // into, and whoever pushed it released it; our swap keeps its release sequence alive.
            match self.spare.compare_exchange_weak(head, first.as_raw(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    fn newest(&self) -> Option<Node> {
        // Acquire: pairs with the Release of `push` (I5).
        let newest = self.used.load(Ordering::Acquire);
        // SAFETY: from `used`, acquired; the node lives as long as `self` is borrowed (I1).
        unsafe { Node::from_raw(newest) }
    }

    /// The nodes in use, newest first.
    fn nodes(&self) -> impl Iterator<Item = Node> {
        // SAFETY: nodes in use keep their `next` (I2).
        self.newest().into_iter().flat_map(|node| unsafe { node.chain() })
    }

    /// The newest node and its end, where `memory` is its last block.
    #[inline]
    fn last(&self, memory: NonNull<[u8]>) -> Option<(Node, usize)> {
        let node = self.newest()?;
        let end = node.end();
        // An end beyond the size may be that of another node's block: lowering it there leaves it beyond, since
        // that block starts behind this node.
        (memory.addr().get() + memory.len() == node.data().addr().get().wrapping_add(end)).then_some((node, end))
    }
}

// SAFETY: by I4 live blocks are disjoint and aligned by `place`, by I1 they live as long as the arena or until its
// next `&mut` method; by I5 a free happens before the alloc that reuses the bytes. After a refusal every block
// is as it was; of clause 3 the arena keeps no more than Zig's: it may serve less until it grows.
unsafe impl<A: Allocator> Allocator for SyncArena<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.serve(Request { len, alignment, zeroed: false }).map(|(block, _)| block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let (len, new_len) = (memory.len(), new_len.get());
        let Some((node, end)) = self.last(memory) else { return new_len <= len };
        if new_len <= len {
            // SAFETY: the tail of the block, which the caller gives up.
            unsafe { node.lower(end, end - (len - new_len)) };
            return true;
        }
        // `end` may lie beyond the room, and the block in another node.
        node.room().saturating_sub(end) >= new_len - len && node.raise(end, end + (new_len - len))
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        if let Some((node, end)) = self.last(memory) {
            // SAFETY: the block, which the caller gives up.
            unsafe { node.lower(end, end - memory.len()) };
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        // A new node is as fresh as the backing has it: zeroes of a page allocator cost nothing.
        let (block, zero) = self.serve(Request { len, alignment, zeroed: true })?;
        if !zero {
            // SAFETY: just handed out with `len` bytes.
            unsafe { block.write_bytes(0, len.get()) };
        }
        Ok(block)
    }
}

// SAFETY: by I1 and I2 every block lies in a node of `used`, and exactly the bytes of nodes are this arena's.
unsafe impl<A: Allocator> Owns for SyncArena<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.nodes().any(|node| address.addr().get().wrapping_sub(node.as_raw().addr()) < node.size())
    }
}

impl<A: Allocator> Reset for SyncArena<A> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        Self::reset(self, mode)
    }
}

bridge_collections!(impl['b, A: Allocator] for &'b SyncArena<A>);

impl<A: Allocator> Drop for SyncArena<A> {
    fn drop(&mut self) {
        self.free_all();
    }
}

impl<A: Allocator> fmt::Debug for SyncArena<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: usize = self.nodes().map(Node::size).sum();
        f.debug_struct("SyncArena").field("nodes", &self.nodes().count()).field("held", &held).finish()
    }
}

/// A spare node for a block from `start` to `end`, and the one before it in the chain.
struct Choice {
    node: Node,
    before: Option<Node>,
    start: usize,
    end: usize,
}

/// The node of a chain that lacks the fewest bytes for the request.
///
/// # Safety
/// The chain is this thread's (I2).
unsafe fn choose(first: Node, Request { len, alignment, .. }: Request) -> Option<Choice> {
    let (mut best, mut least, mut before) = (None, usize::MAX, None);
    // SAFETY: the caller's promise.
    for node in unsafe { first.chain() } {
        if let Some((start, end)) = node.place(0, len, alignment) {
            let lack = end.saturating_sub(node.room());
            if lack < least {
                least = lack;
                best = Some(Choice { node, before, start, end });
            }
        }
        before = Some(node);
    }
    best
}

/// The first node of a list that is the caller's alone.
fn first_of(list: &mut AtomicPtr<Header>) -> Option<Node> {
    // Relaxed: what gave the caller the `&mut` came after all that threads did.
    let first = list.load(Ordering::Relaxed);
    // SAFETY: from a list of an arena that is borrowed for longer than its nodes are used.
    unsafe { Node::from_raw(first) }
}

/// Bytes of a list's nodes, less their headers.
fn capacity(list: &mut AtomicPtr<Header>) -> usize {
    // SAFETY: the list is the caller's alone.
    first_of(list).map_or(0, |first| unsafe { first.chain() }.map(Node::room).sum())
}

/// Frees the nodes of a list from the first on, all of them or all but the last.
fn free_from<A: Allocator>(backing: &A, list: &mut AtomicPtr<Header>, but_the_last: bool) {
    while let Some(node) = first_of(list) {
        // SAFETY: the list is the caller's alone.
        let next = unsafe { node.next() };
        if but_the_last && next.is_none() {
            return;
        }
        list.store(next.map_or(ptr::null_mut(), Node::as_raw), Ordering::Relaxed);
        // SAFETY: by I1 a live block of `backing`; it is in no list any more.
        unsafe { backing.free(node.memory(), ALIGNMENT) };
    }
}

/// Makes a list one empty node of `capacity` bytes after its header, or none.
#[track_caller]
fn retain<A: Allocator>(backing: &A, list: &mut AtomicPtr<Header>, capacity: usize) -> bool {
    free_from(backing, list, true);
    let Some(node) = first_of(list) else { return true };
    let wanted = (HEADER + capacity) & !1; // At most what the nodes held, so no overflow.
    if wanted == HEADER {
        free_from(backing, list, false);
        return true;
    }
    // SAFETY: the list is the caller's alone, and its blocks have ended.
    unsafe { node.set_end(0) };
    let Some(size) = NonZeroUsize::new(wanted).filter(|_| wanted != node.size()) else { return true };
    // SAFETY: by I1 a live block of `backing`.
    if unsafe { backing.resize(node.memory(), ALIGNMENT, size) } {
        // SAFETY: the caller's alone, and agreed.
        unsafe { node.set_size(size) };
        return true;
    }
    let Ok(block) = backing.alloc(size, ALIGNMENT) else { return false };
    // SAFETY: just handed out, and larger than its header; it lives until a `&mut` method frees it (I1).
    let new = unsafe { Node::make(block, size) };
    list.store(new.as_raw(), Ordering::Relaxed);
    // SAFETY: by I1 a live block of `backing`; it is in no list any more.
    unsafe { backing.free(node.memory(), ALIGNMENT) };
    true
}
