//! The arena's nodes: how more of the backing is asked for, and how all of it goes back.
//!
//! A request that the newest node cannot serve tries, in this order and so that nothing is refused that
//! the backing has:
//!
//! ```text
//!   1  the spare, which a scope left
//!   2  the newest node, grown where it is ┐ generously, within the arena's law
//!   3  a new node                         ┘
//!   4  the newest node, grown where it is ┐ by exactly what is needed
//!   5  a new node                         ┘
//!   6  a new node with the room to align in, for a backing that cannot align
//! ```

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};

use super::{ArenaAllocator, NO_NODE};
use crate::bump::{CEILING, Holding, MAX_LEN, fit, node_len};

/// What stands at the start of every node.
pub(super) struct Node {
    /// The node that was newest before this one.
    pub(super) previous: Option<NonNull<Node>>,
    /// Bytes that the backing gave, this header included.
    pub(super) size: usize,
    /// Where the last block ended when a newer node closed this one, in bytes from the node's start.
    pub(super) closed_at: usize,
    /// The alignment that the backing was asked for.
    pub(super) alignment: Alignment,
    /// A checkpoint names it, so it stays in the list even when it has become empty.
    pub(super) named: bool,
}

pub(super) const HEADER: usize = size_of::<Node>();
const _: () = assert!(HEADER <= 4 * size_of::<usize>());

/// One request on its slow path.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) len: NonZeroUsize,
    pub(super) alignment: Alignment,
    pub(super) zeroed: bool,
}

impl<A: Allocator> ArenaAllocator<A> {
    /// The slow path: what needs another node, or more of this one.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn alloc_slow(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        // By I1 a node is resized by one call at a time, whatever the backing's hooks do.
        if self.asking.replace(true) {
            return Err(AllocError);
        }
        let block = self.ask(Request { len, alignment, zeroed });
        self.asking.set(false);
        block
    }

    /// The six ways, in the module's order.
    #[track_caller]
    fn ask(&self, request: Request) -> Result<NonNull<u8>, AllocError> {
        let Request { len, alignment, .. } = request;
        let mut holding = self.note_high_water();
        if let Some(block) = self.bump_in_spare(request) {
            return Ok(block);
        }
        let node_alignment = alignment.max(Alignment::of::<Node>());
        let need = node_len(HEADER, node_alignment, len).ok_or(AllocError)?;
        let room = self.limit.get().saturating_sub(holding.held);
        let wish = self.without_empty(holding).new_node(need, len.get(), alignment).min(room).max(need);
        for (generous, size) in [(true, wish), (false, need)] {
            if !generous {
                // A hook of the backing may have taken the room of a new node.
                holding = self.note_high_water();
            }
            if let Some(block) = self.bump_in_extended(&mut holding, request, generous) {
                return Ok(block);
            }
            if (generous || size != wish)
                && let Some(block) = self.bump_in_new(size, node_alignment, holding.held, request)
            {
                return Ok(block);
            }
        }
        if alignment <= Alignment::of::<Node>() {
            return Err(AllocError);
        }
        let slack = node_len(HEADER + alignment.bytes() - 1, Alignment::ONE, len).ok_or(AllocError)?;
        self.bump_in_new(slack, Alignment::of::<Node>(), self.holding().held, request).ok_or(AllocError)
    }

    /// Serves the request from the spare, which becomes the newest node.
    fn bump_in_spare(&self, Request { len, alignment, zeroed }: Request) -> Option<NonNull<u8>> {
        let spare = self.spare.get()?;
        // SAFETY: by I4 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { spare.as_ref() }.request();
        let start = spare.addr().get();
        fit(start + HEADER, start + size, len.get(), alignment)?;
        self.spare.set(None);
        self.link(spare);
        self.bump_on_top(len, alignment).map(|block| fill(block, len, zeroed))
    }

    /// Serves the request from a new node of `size` bytes.
    #[track_caller]
    fn bump_in_new(
        &self,
        size: usize,
        node_alignment: Alignment,
        held: usize,
        Request { len, alignment, zeroed }: Request,
    ) -> Option<NonNull<u8>> {
        // Fresh zeroes cost a backing like the page allocator nothing, others their writing.
        let zeroed_node = zeroed && len.get() >= size / 2;
        self.push_node(NonZeroUsize::new(size)?, node_alignment, held, zeroed_node).ok()?;
        let block = self.bump_on_top(len, alignment)?;
        // Still as it came, unless a hook of the backing has taken something back in it.
        let untouched = self.neg_high.get() == usize::MAX;
        Some(fill(block, len, zeroed && !(zeroed_node && untouched)))
    }

    /// Serves the request from a node just put on top of the list. Where the one below is empty its place is
    /// taken: a block that comes and goes and grows would else leave a row of them.
    #[track_caller]
    fn bump_on_top(&self, len: NonZeroUsize, alignment: Alignment) -> Option<NonNull<u8>> {
        if let Some(empty) = self.empty_below() {
            let older = self.take_older(empty);
            if let Some(newest) = self.newest.get() {
                // SAFETY: by I1 the header is there, and no reference to it exists.
                unsafe { (*newest.as_ptr()).previous = older };
            }
            self.free_node(empty);
        }
        // Last, so that what a hook of the backing makes and ends meanwhile is older than this block: a stack may stand here.
        self.bump(len.get(), alignment)
    }

    /// `holding` without the newest node, if `bump_on_top` would give it back.
    fn without_empty(&self, holding: Holding) -> Holding {
        let Some(newest) = self.newest.get().filter(|_| self.newest_may_go()) else { return holding };
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { newest.as_ref() }.request();
        Holding { nodes: holding.nodes - 1, held: holding.held - size, ..holding }
    }

    /// No block lives in the newest node and no checkpoint names it.
    pub(super) fn newest_may_go(&self) -> bool {
        self.newest.get().is_some_and(|newest| {
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            let named = unsafe { newest.as_ref() }.named;
            !named && self.next().addr() - newest.addr().get() == HEADER
        })
    }

    /// The node below the newest, if no block lives in it and no checkpoint names it.
    fn empty_below(&self) -> Option<NonNull<Node>> {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let below = unsafe { self.newest.get()?.as_ref() }.previous?;
        // SAFETY: as above.
        let header = unsafe { below.as_ref() };
        (header.closed_at == HEADER && !header.named).then_some(below)
    }

    /// Serves the request from the newest node, grown where it is; not generously means by exactly what is needed.
    #[track_caller]
    fn bump_in_extended(
        &self,
        holding: &mut Holding,
        Request { len, alignment, zeroed }: Request,
        generous: bool,
    ) -> Option<NonNull<u8>> {
        let node = self.newest.get()?;
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { node.as_ref() }.request();
        let (_, end) = fit(self.next().addr(), CEILING, len.get(), alignment)?;
        let need = end - node.addr().get();
        if need <= size {
            // A hook of the backing has freed what stood in the way.
            return self.bump(len.get(), alignment).map(|block| fill(block, len, zeroed));
        }
        let room = self.limit.get().checked_sub(holding.held - size)?.min(CEILING - node.addr().get()).min(MAX_LEN);
        let wish = holding.grown_node(size, need, len.get(), alignment).min(room).max(need);
        // A new node's zeroes may cost nothing, while those here are written: a large request tries that first.
        if need > room || (generous && zeroed && len.get() >= size) {
            return None;
        }
        let new_size = if generous { wish } else { need };
        if !self.extend(node, new_size) {
            return None;
        }
        // A hook in the backing may have taken the room that was made: what is held is then still known.
        holding.held += new_size - size;
        self.bump(len.get(), alignment).map(|block| fill(block, len, zeroed))
    }

    /// Asks the backing to let the newest node grow, where it is, to `size` bytes.
    #[track_caller]
    fn extend(&self, node: NonNull<Node>, size: usize) -> bool {
        if !self.resize_node(node, size) {
            return false;
        }
        self.neg_end.set((node.addr().get() + size).wrapping_neg());
        true
    }

    /// Asks the backing to change the length of a node where it is.
    #[track_caller]
    fn resize_node(&self, node: NonNull<Node>, size: usize) -> bool {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (old_size, alignment) = unsafe { node.as_ref() }.request();
        let Some(new_len) = NonZeroUsize::new(size) else { return false };
        // SAFETY: by I1 a live block of `backing` with this length and alignment.
        let resized = unsafe { self.backing.resize(block_of(node, old_size), alignment, new_len) };
        if resized {
            // SAFETY: the header is still there, for `size` is more than HEADER, and no reference to it exists.
            unsafe { (*node.as_ptr()).size = size };
        }
        resized
    }

    /// Puts a new node of `size` bytes on top of the list and opens it; `held` are held before.
    #[track_caller]
    pub(super) fn push_node(
        &self,
        size: NonZeroUsize,
        alignment: Alignment,
        held: usize,
        zeroed: bool,
    ) -> Result<(), AllocError> {
        if held.checked_add(size.get()).is_none_or(|sum| sum > self.limit.get()) {
            return Err(AllocError);
        }
        let block =
            if zeroed { self.backing.alloc_zeroed(size, alignment) } else { self.backing.alloc(size, alignment) }?;
        if block.addr().get() > CEILING - size.get().min(CEILING) {
            // SAFETY: just made by `backing`, with this length and alignment, and not used.
            unsafe { self.backing.free(NonNull::slice_from_raw_parts(block, size.get()), alignment) };
            return Err(AllocError);
        }
        let node = block.cast::<Node>();
        // SAFETY: the block is ours, has `size > HEADER` bytes, and `alignment` is at least the header's.
        unsafe { node.write(Node { previous: None, size: size.get(), closed_at: HEADER, alignment, named: false }) };
        self.link(node);
        Ok(())
    }

    /// Closes the newest node and opens `node`, which is in no list, on top of it.
    fn link(&self, node: NonNull<Node>) {
        let previous = self.newest.get();
        if let Some(previous) = previous {
            let closed_at = self.next().addr() - previous.addr().get();
            // SAFETY: by I1 the header is there, and no reference to it exists.
            unsafe { (*previous.as_ptr()).closed_at = closed_at };
        }
        // SAFETY: the header is there, and no reference to it exists.
        unsafe { (*node.as_ptr()).previous = previous };
        // SAFETY: as above.
        unsafe { (*node.as_ptr()).named = false };
        self.open(node, HEADER);
    }

    /// Ends the list at `node`, and gives what was below it.
    pub(super) fn take_older(&self, node: NonNull<Node>) -> Option<NonNull<Node>> {
        // SAFETY: by I1 the header is there, and no reference to it exists.
        unsafe { &mut (*node.as_ptr()).previous }.take()
    }

    /// Makes `node` the newest, its next free byte `offset` bytes from its start.
    pub(super) fn open(&self, node: NonNull<Node>, offset: usize) {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { node.as_ref() }.request();
        self.newest.set(Some(node));
        self.neg_end.set((node.addr().get() + size).wrapping_neg());
        self.neg_high.set(usize::MAX);
        self.set_next(node, offset);
    }

    /// Makes the next free byte of `node`, which is the newest, the one `offset` bytes from its start.
    pub(super) fn set_next(&self, node: NonNull<Node>, offset: usize) {
        // SAFETY: by I2 `offset`, at most the node's size, stays inside the block.
        let next = unsafe { node.cast::<u8>().add(offset) };
        self.neg_next.set(next.as_ptr().map_addr(usize::wrapping_neg));
    }

    /// The next address and the newest node's end, both negated, for a borrower who hands out what lies between. Until
    /// [`set_neg_next`](Self::set_neg_next) brings the next address back no block may be asked for. None while the backing
    /// is being asked.
    pub(crate) fn lend_neg_next(&self) -> Option<(*mut u8, usize)> {
        (!self.asking.get()).then(|| (self.neg_next.get(), self.neg_end.get()))
    }

    /// What [`lend_neg_next`](Self::lend_neg_next) lent, moved on over the blocks handed out since.
    pub(crate) fn set_neg_next(&self, neg_next: *mut u8) {
        self.neg_next.set(neg_next);
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
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            let (size, _) = unsafe { newest.as_ref() }.request();
            self.neg_end.set((newest.addr().get() + size).wrapping_neg());
        }
    }

    /// No node is the newest.
    pub(super) fn open_none(&self) {
        self.newest.set(None);
        self.neg_next.set(NO_NODE);
        self.neg_end.set(usize::MAX);
        self.neg_high.set(usize::MAX);
    }

    /// Makes the only node, which is empty, one of `capacity` bytes after its header.
    #[track_caller]
    pub(super) fn set_capacity(&mut self, capacity: usize) -> bool {
        let Some(node) = self.newest.get() else { return true };
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, _) = unsafe { node.as_ref() }.request();
        let wanted = HEADER + capacity; // At most what nodes held, so no overflow.
        let Some(wanted_len) = NonZeroUsize::new(wanted).filter(|_| wanted != size) else { return true };
        if wanted <= self.limit.get().max(size) && self.resize_node(node, wanted) {
            self.open(node, HEADER);
            return true;
        }
        // Both are held for a moment: the old one must still be there if the new one is refused.
        if self.push_node(wanted_len, Alignment::of::<Node>(), size, false).is_err() {
            return false;
        }
        let old = self.newest.get().and_then(|new| self.take_older(new));
        self.free_list(old, None);
        true
    }

    #[track_caller]
    pub(super) fn free_all(&mut self) {
        let newest = self.newest.get();
        self.open_none();
        self.free_spare();
        self.free_list(newest, None);
    }

    #[track_caller]
    pub(super) fn free_spare(&self) {
        if let Some(spare) = self.spare.take() {
            self.free_node(spare);
        }
    }

    /// Gives back `node` and those below it, newest first, down to `kept`. They are in no list any more.
    #[track_caller]
    pub(super) fn free_list(&self, mut node: Option<NonNull<Node>>, kept: Option<NonNull<Node>>) {
        while node != kept {
            let Some(this) = node else { break };
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            node = unsafe { this.as_ref() }.previous;
            self.free_node(this);
        }
    }

    #[track_caller]
    pub(super) fn free_node(&self, node: NonNull<Node>) {
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let (size, alignment) = unsafe { node.as_ref() }.request();
        // SAFETY: by I1 a live block of `backing` with this length and alignment; it is not used again.
        unsafe { self.backing.free(block_of(node, size), alignment) };
    }

    /// What is held now, with the most in use since the last reset in place of what is in use.
    pub(super) fn note_high_water(&self) -> Holding {
        let now = self.holding();
        let above_next = self.neg_next.get().addr().saturating_sub(self.neg_high.get());
        self.high_water.set(self.high_water.get().max(now.used + above_next));
        Holding { used: self.high_water.get(), ..now }
    }

    /// Nothing was ever in use: what a reset says.
    pub(super) fn forget_high_water(&self) {
        self.high_water.set(0);
        self.neg_high.set(usize::MAX);
    }

    pub(super) fn holding(&self) -> Holding {
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
        if let Some(spare) = self.spare.get() {
            holding.nodes += 1;
            // SAFETY: by I4 the header is there, and nobody writes to it meanwhile.
            holding.held += unsafe { spare.as_ref() }.size;
        }
        holding
    }
}

impl Node {
    /// What the backing was asked for.
    pub(super) fn request(&self) -> (usize, Alignment) {
        (self.size, self.alignment)
    }
}

/// The backing's view of a node.
fn block_of(node: NonNull<Node>, size: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(node.cast(), size)
}

/// Zeroes a block that has just been handed out with `len` bytes, where that was asked for.
#[inline]
pub(super) fn fill(block: NonNull<u8>, len: NonZeroUsize, zeroed: bool) -> NonNull<u8> {
    if zeroed {
        // SAFETY: the block has `len` bytes, and nobody uses it yet.
        unsafe { block.write_bytes(0, len.get()) };
    }
    block
}
