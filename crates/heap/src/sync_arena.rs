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

use core::{fmt, num::NonZeroUsize, ptr, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};
use terrace_sync::const_fn;

use crate::{
    atomic::{AtomicPtr, AtomicUsize, Ordering},
    cell::UnsafeCell,
    index::{bump_index, even_node, further_node},
};

/// What stands at the start of every node.
struct Node {
    /// Bytes that the backing gave, this header included; the lowest bit is `RESIZING`.
    size: AtomicUsize,
    /// Where the next block may start, in bytes after the header; beyond `size` after a request that did not fit.
    end: AtomicUsize,
    next: UnsafeCell<*mut Node>,
}

const HEADER: usize = size_of::<Node>();
const ALIGNMENT: Alignment = Alignment::of::<Node>();
/// In a node's size: a thread is asking the backing for more.
const RESIZING: usize = 1;

/// Grouped temporaries that threads share, over any backing; see the file's text for the design.
///
/// `Send` and `Sync` where the backing is.
///
/// - **I1** Each node, in `used` or `spare` along `next`, is a live block of `backing` with its `size` and
///   `ALIGNMENT`, starts with that header, and nothing but blocks lies behind it. It lives until a `&mut` method.
/// - **I2** A node in `used` stays there, and its `next` is not written again. A node outside of `used` belongs
///   to the one thread that has taken the list, or made it; no block lies in it.
/// - **I3** `size` of a node in `used` only grows, and changes only in the hands of the thread that set `RESIZING`.
/// - **I4** Live blocks of a node are disjoint and lie between the header and the lower of `end` and `size`.
///   `end` is changed by compare-and-swap only, and says all: equal ends mean equal free space.
/// - **I5** Who publishes a node, or more of one, has written before (Release); who reads it sees that (Acquire).
///   What lowers `end` releases the bytes, what raises it acquires them.
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
pub struct SyncArena<A: Allocator> {
    /// Newest first.
    used: AtomicPtr<Node>,
    spare: AtomicPtr<Node>,
    backing: A,
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
    Retry(*mut Node),
    None,
}

impl<A: Allocator> SyncArena<A> {
    const_fn! {
        /// An empty arena; asks `backing` for nothing yet.
        pub const fn new(backing: A) -> Self {
            Self { used: AtomicPtr::new(ptr::null_mut()), spare: AtomicPtr::new(ptr::null_mut()), backing }
        }
    }

    /// Bytes of all nodes, less their headers, as in Zig.
    pub fn query_capacity(&mut self) -> usize {
        // Relaxed, here and in every `&mut` method: what gave us the `&mut` came after all that threads did.
        [&self.used, &self.spare].iter().map(|list| capacity(list.load(Ordering::Relaxed))).sum()
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
        let used = capacity(self.used.load(Ordering::Relaxed)).min(limit);
        let spare = capacity(self.spare.load(Ordering::Relaxed)).min(limit - used);
        let used_kept = Self::retain(&self.backing, &mut self.used, used);
        let spare_kept = Self::retain(&self.backing, &mut self.spare, spare);
        used_kept && spare_kept
    }

    /// Ends every block and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

    fn free_all(&mut self) {
        for list in [&mut self.used, &mut self.spare] {
            Self::free_down_to(&self.backing, list, |_| false);
        }
    }

    /// Frees nodes from the newest on, until one is kept or none is left.
    fn free_down_to(backing: &A, list: &mut AtomicPtr<Node>, kept: impl Fn(*mut Node) -> bool) {
        while let Some(node) = NonNull::new(list.load(Ordering::Relaxed)) {
            let next = next_of(node);
            if kept(next) {
                return;
            }
            list.store(next, Ordering::Relaxed);
            // SAFETY: by I1 a live block of `backing`; it is in no list any more.
            unsafe { backing.free(block_of(node), ALIGNMENT) };
        }
    }

    /// Makes `list` one empty node of `capacity` bytes after its header, or none.
    #[track_caller]
    fn retain(backing: &A, list: &mut AtomicPtr<Node>, capacity: usize) -> bool {
        Self::free_down_to(backing, list, <*mut Node>::is_null);
        let Some(node) = NonNull::new(list.load(Ordering::Relaxed)) else { return true };
        let wanted = (HEADER + capacity) & !1; // At most what the nodes held, so no overflow.
        if wanted == HEADER {
            Self::free_down_to(backing, list, |_| false);
            return true;
        }
        let this = header(node);
        this.end.store(0, Ordering::Relaxed);
        let Some(len) = NonZeroUsize::new(wanted).filter(|_| wanted != size_of_node(node)) else { return true };
        // SAFETY: by I1 a live block of `backing`.
        if unsafe { backing.resize(block_of(node), ALIGNMENT, len) } {
            this.size.store(wanted, Ordering::Relaxed);
            return true;
        }
        let Ok(new) = backing.alloc(len, ALIGNMENT) else { return false };
        list.store(init(new, len).as_ptr(), Ordering::Relaxed);
        // SAFETY: by I1 a live block of `backing`; it is in no list any more.
        unsafe { backing.free(block_of(node), ALIGNMENT) };
        true
    }

    /// Serves a request from the newest node, that node grown, a spare one, or a new one; says too whether the
    /// bytes are known to be zero.
    ///
    /// A node in `mine` afterwards was made in vain.
    #[track_caller]
    fn serve(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
        mine: &mut Option<NonNull<Node>>,
    ) -> Result<(NonNull<u8>, bool), AllocError> {
        // Acquire: pairs with the Release of `push` (I5).
        let mut newest = self.used.load(Ordering::Acquire);
        loop {
            let mut room = 0;
            if let Some(node) = NonNull::new(newest) {
                room = size_of_node(node) - HEADER;
                if let Some(block) = bump(node, room, len, alignment)? {
                    return Ok((block, false));
                }
                match self.grow(node, len, alignment) {
                    Growth::Block(block) => return Ok((block, false)),
                    Growth::Retry => continue,
                    Growth::Refused => {}
                }
            }
            match self.serve_from_spare(newest, len, alignment) {
                Spare::Block(block) => return Ok((block, false)),
                Spare::Retry(now) => {
                    newest = now;
                    continue;
                }
                Spare::None => {}
            }
            let node = match *mine {
                Some(node) => node,
                None => *mine.insert(self.new_node(room, len, alignment, zeroed)?),
            };
            let (start, end) = bump_index(data(node).addr().get(), 0, len.get(), alignment).ok_or(AllocError)?;
            match self.push(node, newest, end) {
                Ok(()) => {
                    *mine = None;
                    return Ok((block_at(node, start), zeroed));
                }
                Err(now) => newest = now,
            }
        }
    }

    #[track_caller]
    fn serve_and_tidy(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<(NonNull<u8>, bool), AllocError> {
        let mut mine = None;
        let block = self.serve(len, alignment, zeroed, &mut mine);
        if let Some(node) = mine {
            set_next(node, ptr::null_mut());
            self.push_spare(node, node);
        }
        block
    }

    /// Asks the backing to let `node` grow by what the request needs. One thread at a time: others go on without.
    #[track_caller]
    fn grow(&self, node: NonNull<Node>, len: NonZeroUsize, alignment: Alignment) -> Growth {
        let this = header(node);
        // Acquire: pairs with the Release below, of whoever grew it last (I5).
        let old = this.size.fetch_or(RESIZING, Ordering::Acquire);
        if old & RESIZING != 0 {
            return Growth::Refused;
        }
        let mut size = old;
        let growth = self.grow_held(node, &mut size, len, alignment);
        // Release: pairs with the Acquire above, and with that of `size_of_node`: whoever had the new bytes
        // before has given them back to the backing before this (I5).
        // A swap where a store would do: loom takes a store beside another thread's `fetch_or` for unordered.
        this.size.swap(size, Ordering::Release);
        growth
    }

    /// As the thread that has set [`RESIZING`] (I3).
    #[track_caller]
    fn grow_held(&self, node: NonNull<Node>, size: &mut usize, len: NonZeroUsize, alignment: Alignment) -> Growth {
        let end = header(node).end.load(Ordering::Relaxed);
        let Some((start, new_end)) = bump_index(data(node).addr().get(), end, len.get(), alignment) else {
            return Growth::Refused;
        };
        let Some(new_size) = even_node(HEADER, new_end) else { return Growth::Refused };
        if new_size.get() <= *size {
            return Growth::Retry;
        }
        let memory = NonNull::slice_from_raw_parts(node.cast(), *size);
        // SAFETY: by I1 and I3 a live block of `backing`, of this size.
        if !unsafe { self.backing.resize(memory, ALIGNMENT, new_size) } {
            return Growth::Refused;
        }
        *size = new_size.get();
        // Acquire: the bytes may have been freed (I5).
        match header(node).end.compare_exchange(end, new_end, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Growth::Block(block_at(node, start)),
            Err(_) => Growth::Refused, // The node has grown for another request.
        }
    }

    /// Takes the spare nodes and serves the request from the one that lacks least, grown where it must be.
    #[track_caller]
    fn serve_from_spare(&self, newest: *mut Node, len: NonZeroUsize, alignment: Alignment) -> Spare {
        // Acquire: pairs with the Release of `push_spare` (I5). By the swap the nodes are ours (I2): no other
        // thread holds a `next` that could lead it to one of them later.
        let Some(first) = NonNull::new(self.spare.swap(ptr::null_mut(), Ordering::Acquire)) else {
            return Spare::None;
        };
        let Some(Choice { node, before, start, end }) = choose(first, len, alignment) else {
            self.push_spare(first, last_of(first));
            return Spare::None;
        };
        if end > size_of_node(node) - HEADER && !self.grow_own(node, end) {
            self.push_spare(first, last_of(first));
            return Spare::None;
        }
        let after = next_of(node);
        if let Err(now) = self.push(node, newest, end) {
            set_next(node, after);
            self.push_spare(first, last_of(first));
            return Spare::Retry(now);
        }
        // The rest of the chain goes back.
        let rest = match before {
            None => after,
            Some(before) => {
                set_next(before, after);
                first.as_ptr()
            }
        };
        if let Some(rest) = NonNull::new(rest) {
            self.push_spare(rest, last_of(rest));
        }
        Spare::Block(block_at(node, start))
    }

    /// Asks the backing to let a node that is this thread's grow, so that blocks may end at `end`.
    #[track_caller]
    fn grow_own(&self, node: NonNull<Node>, end: usize) -> bool {
        let Some(size) = even_node(HEADER, end) else { return false };
        // SAFETY: by I1 a live block of `backing`, by I2 in this thread's hands.
        let grown = unsafe { self.backing.resize(block_of(node), ALIGNMENT, size) };
        if grown {
            header(node).size.store(size.get(), Ordering::Relaxed); // `push` publishes it.
        }
        grown
    }

    #[track_caller]
    fn new_node(
        &self,
        room: usize,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<Node>, AllocError> {
        let size = further_node(HEADER, room, len.get(), alignment).ok_or(AllocError)?;
        let block =
            if zeroed { self.backing.alloc_zeroed(size, ALIGNMENT) } else { self.backing.alloc(size, ALIGNMENT) }?;
        Ok(init(block, size))
    }

    /// Makes a node of this thread's, with blocks up to `end`, the newest after `newest`; or says which one is.
    fn push(&self, node: NonNull<Node>, newest: *mut Node, end: usize) -> Result<(), *mut Node> {
        header(node).end.store(end, Ordering::Relaxed);
        set_next(node, newest);
        // Release: publishes the header; pairs with the Acquire of the failure here and of the load in `serve` (I5).
        // No ABA: nodes never leave `used`. Strong, since a spurious failure would cost a node.
        self.used.compare_exchange(newest, node.as_ptr(), Ordering::Release, Ordering::Acquire).map(drop)
    }

    /// Gives the chain from `first` to `last` to whoever needs it.
    fn push_spare(&self, first: NonNull<Node>, last: NonNull<Node>) {
        let mut head = self.spare.load(Ordering::Relaxed);
        loop {
            set_next(last, head);
            // Release: pairs with the Acquire of `serve_from_spare` (I5). Relaxed on failure: `head` is not looked
            // into, and whoever pushed it released it; our swap keeps its release sequence alive.
            match self.spare.compare_exchange_weak(head, first.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The newest node's end, where `memory` is its last block.
    #[inline]
    fn last(&self, memory: NonNull<[u8]>) -> Option<(NonNull<Node>, usize)> {
        // Acquire: pairs with the Release of `push` (I5).
        let node = NonNull::new(self.used.load(Ordering::Acquire))?;
        let end = header(node).end.load(Ordering::Relaxed);
        // An end beyond the size may be that of another node's block: lowering it there leaves it beyond, since
        // that block starts behind this node.
        (memory.addr().get() + memory.len() == data(node).addr().get().wrapping_add(end)).then_some((node, end))
    }
}

// SAFETY: by I4 live blocks are disjoint and aligned by `bump_index`, by I1 they live as long as the arena or until its
// next `&mut` method; by I5 a free happens before the alloc that reuses the bytes. After a refusal every block
// is as it was; of clause 3 the arena keeps no more than Zig's: it may serve less until it grows.
unsafe impl<A: Allocator> Allocator for SyncArena<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.serve_and_tidy(len, alignment, false).map(|(block, _)| block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let (len, new_len) = (memory.len(), new_len.get());
        let Some((node, end)) = self.last(memory) else { return new_len <= len };
        let this = header(node);
        if new_len <= len {
            // Release: pairs with the Acquire of who takes the bytes (I5). Where another thread was faster, the
            // block is not the last any more, and shrinks without giving bytes back.
            let _ = this.end.compare_exchange(end, end - (len - new_len), Ordering::Release, Ordering::Relaxed);
            return true;
        }
        let room = size_of_node(node) - HEADER;
        // `end` may lie beyond the room, and the block in another node.
        room.saturating_sub(end) >= new_len - len
            // Acquire: the bytes may have been freed (I5).
            && this.end.compare_exchange(end, end + (new_len - len), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        if let Some((node, end)) = self.last(memory) {
            // Release: pairs with the Acquire of who takes the bytes (I5). Where another thread was faster, the
            // block is not the last any more, and waits for `reset`.
            let end_before = end - memory.len();
            let _ = header(node).end.compare_exchange(end, end_before, Ordering::Release, Ordering::Relaxed);
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        // A new node is as fresh as the backing has it: zeroes of a page allocator cost nothing.
        let (block, zero) = self.serve_and_tidy(len, alignment, true)?;
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
        self.nodes().any(|node| address.addr().get().wrapping_sub(node.addr().get()) < size_of_node(node))
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

impl<A: Allocator> SyncArena<A> {
    /// The nodes in use, newest first.
    fn nodes(&self) -> impl Iterator<Item = NonNull<Node>> {
        // Acquire: pairs with the Release of `push`; whoever pushed had seen the nodes below (I5).
        let newest = NonNull::new(self.used.load(Ordering::Acquire));
        core::iter::successors(newest, |&node| NonNull::new(next_of(node)))
    }
}

impl<A: Allocator> fmt::Debug for SyncArena<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: usize = self.nodes().map(size_of_node).sum();
        f.debug_struct("SyncArena").field("nodes", &self.nodes().count()).field("held", &held).finish()
    }
}

/// A spare node for a block from `start` to `end`, and the one before it in the chain.
struct Choice {
    node: NonNull<Node>,
    before: Option<NonNull<Node>>,
    start: usize,
    end: usize,
}

/// The node of a chain of this thread's that lacks the fewest bytes for the request.
fn choose(first: NonNull<Node>, len: NonZeroUsize, alignment: Alignment) -> Option<Choice> {
    let mut best: Option<(usize, Choice)> = None;
    let (mut before, mut at) = (None, Some(first));
    while let Some(node) = at {
        if let Some((start, end)) = bump_index(data(node).addr().get(), 0, len.get(), alignment) {
            let lack = end.saturating_sub(size_of_node(node) - HEADER);
            if best.as_ref().is_none_or(|(least, _)| lack < *least) {
                best = Some((lack, Choice { node, before, start, end }));
            }
        }
        before = at;
        at = NonNull::new(next_of(node));
    }
    best.map(|(_, choice)| choice)
}

/// Bumps the end of `node`, which has room for `room` bytes. `None`: the block does not fit, and lies beyond.
#[inline]
fn bump(
    node: NonNull<Node>,
    room: usize,
    len: NonZeroUsize,
    alignment: Alignment,
) -> Result<Option<NonNull<u8>>, AllocError> {
    let this = header(node);
    let mut end = this.end.load(Ordering::Relaxed);
    loop {
        let (start, new_end) = bump_index(data(node).addr().get(), end, len.get(), alignment).ok_or(AllocError)?;
        // Acquire: the bytes may have been freed (I5). The room was read before: it is no more than it is now (I3).
        match this.end.compare_exchange_weak(end, new_end, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Ok((new_end <= room).then(|| block_at(node, start))),
            Err(now) => end = now,
        }
    }
}

/// Makes a block of the backing a node that is this thread's: empty, with `next` null.
fn init(block: NonNull<u8>, size: NonZeroUsize) -> NonNull<Node> {
    let node = block.cast::<Node>();
    let header =
        Node { size: AtomicUsize::new(size.get()), end: AtomicUsize::new(0), next: UnsafeCell::new(ptr::null_mut()) };
    // SAFETY: the block has `size` bytes, no less than HEADER, and ALIGNMENT.
    unsafe { node.write(header) };
    node
}

/// The header of a node of an arena, borrowed for as long as the caller has the arena (I1).
#[inline]
fn header<'a>(node: NonNull<Node>) -> &'a Node {
    // SAFETY: every caller has the node from a list or from `init`, so by I1 its header is there; it holds
    // nothing but atomics and a cell, and is not written but through them.
    unsafe { node.as_ref() }
}

/// The first byte after the header. Its address is not that of the last byte of memory.
#[inline]
fn data(node: NonNull<Node>) -> NonNull<u8> {
    // SAFETY: by I1 the node is longer than its header.
    unsafe { node.add(1) }.cast()
}

/// `start` bytes after the header.
#[inline]
fn block_at(node: NonNull<Node>, start: usize) -> NonNull<u8> {
    // SAFETY: the callers have found a block between there and the node's size (I4).
    unsafe { data(node).add(start) }
}

/// The backing's view of a node that is this thread's.
fn block_of(node: NonNull<Node>) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(node.cast(), size_of_node(node))
}

#[inline]
fn size_of_node(node: NonNull<Node>) -> usize {
    // Acquire: pairs with the Release of `grow` (I5).
    header(node).size.load(Ordering::Acquire) & !RESIZING
}

fn next_of(node: NonNull<Node>) -> *mut Node {
    header(node).next.with(|next| {
        // SAFETY: by I2 nobody writes it: it is in use, or this thread's.
        unsafe { *next }
    })
}

/// Of a node that is this thread's.
fn set_next(node: NonNull<Node>, to: *mut Node) {
    header(node).next.with_mut(|next| {
        // SAFETY: by I2 nobody else reads or writes it.
        unsafe { *next = to }
    });
}

/// The end of a chain that is this thread's.
fn last_of(mut node: NonNull<Node>) -> NonNull<Node> {
    while let Some(next) = NonNull::new(next_of(node)) {
        node = next;
    }
    node
}

/// Bytes of a list's nodes, less their headers.
fn capacity(first: *mut Node) -> usize {
    let nodes = core::iter::successors(NonNull::new(first), |&node| NonNull::new(next_of(node)));
    nodes.map(|node| size_of_node(node) - HEADER).sum()
}
