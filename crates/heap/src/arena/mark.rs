//! Ending the newest blocks of an arena and keeping the older ones: checkpoints and scopes.
//!
//! ```text
//!   checkpoint ▼                          rewind: what was made since ends;
//!   ├─ older blocks ─┼─ blocks made since ─┤   the checkpoint's node is the newest again; a node added since
//!                                              stays as the spare, several go back to the backing
//! ```
//!
//! A loop whose scope outgrows the checkpoint's node asks the backing in its first round, where that took several
//! nodes once more in its second, and from then on for nothing: the arena's law, with the high water known,
//! makes the one further node large enough. (But where older nodes have lost more than half of what is
//! in use, see the [arena's law](crate::arena).)

use core::{fmt, num::NonZeroUsize, ops::Deref, ptr::NonNull};

use terrace_core::Allocator;

use super::{
    ArenaAllocator,
    nodes::{HEADER, Node},
};

/// A moment in the life of an arena, to [`rewind`](ArenaAllocator::rewind) to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The address of the newest node that had a block at that moment, 0 without one: a name, never followed.
    node: usize,
    /// Where its last block ended, in bytes from its start.
    offset: usize,
}

impl<A: Allocator> ArenaAllocator<A> {
    /// Where the arena stands now.
    ///
    /// ```
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let mut arena = ArenaAllocator::new(SystemAllocator);
    /// arena.alloc_str("kept")?;
    /// let checkpoint = arena.checkpoint();
    /// arena.alloc_str("dropped")?;
    /// assert!(arena.rewind(checkpoint));
    /// assert_eq!(arena.used_bytes(), "kept".len());
    /// # Ok::<(), terrace_core::AllocError>(())
    /// ```
    pub fn checkpoint(&self) -> Checkpoint {
        let mut node = self.newest.get();
        let mut end = self.next().addr();
        if let Some(newest) = node
            && self.newest_may_go()
        {
            // Then it may make way for a larger one, and the node below is named.
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            node = unsafe { newest.as_ref() }.previous;
            // SAFETY: as above.
            end = node.map_or(0, |node| node.addr().get() + unsafe { node.as_ref() }.closed_at);
        }
        let Some(node) = node else { return Checkpoint { node: 0, offset: 0 } };
        // SAFETY: by I1 the header is there, and no reference to it exists.
        unsafe { (*node.as_ptr()).named = true };
        Checkpoint { node: node.addr().get(), offset: end - node.addr().get() }
    }

    /// Ends every block made since `checkpoint`, and those resized or moved since beyond it.
    ///
    /// `false`: nothing has changed, because the checkpoint's node is another arena's, or went back to the backing
    /// since. A node is known by its address alone, and a backing may hand out one again: rewind to checkpoints
    /// of this arena that no reset and no rewind has passed. No walk where no node was added since.
    #[track_caller]
    pub fn rewind(&mut self, checkpoint: Checkpoint) -> bool {
        // SAFETY: `&mut self` ends every borrow of a block.
        unsafe { self.rewind_shared(checkpoint) }
    }

    /// Runs `body` and ends every block that it made, also where it unwinds.
    ///
    /// ```
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let mut arena = ArenaAllocator::new(SystemAllocator);
    /// let len = arena.scope(|scope| {
    ///     let name = scope.alloc_str("temporary").unwrap();
    ///     let inner = scope.scope(|inner| inner.alloc_str("more").unwrap().len());
    ///     inner + 9
    /// });
    /// assert_eq!((len, arena.used_bytes()), (13, 0));
    /// ```
    ///
    /// Nothing made inside gets out:
    ///
    /// ```compile_fail
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let mut arena = ArenaAllocator::new(SystemAllocator);
    /// let name: &str = arena.scope(|scope| scope.alloc_str("temporary").unwrap());
    /// ```
    pub fn scope<R>(&mut self, body: impl FnOnce(&mut Scope<'_, A>) -> R) -> R {
        Scope { arena: self }.scope(body)
    }

    /// # Safety
    /// Nobody uses a block made since `checkpoint` any more.
    #[track_caller]
    unsafe fn rewind_shared(&self, checkpoint: Checkpoint) -> bool {
        let Some(newest) = self.newest.get() else { return checkpoint.node == 0 };
        if newest.addr().get() == checkpoint.node {
            let end = self.next().addr() - checkpoint.node;
            self.lower_next((checkpoint.node + checkpoint.offset.min(end)).wrapping_neg());
            return true;
        }
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let below = unsafe { newest.as_ref() }.previous;
        let Some(kept) = self.find_from(below, checkpoint.node) else { return false };
        self.note_high_water();
        // One node was enough, so it is kept for the next round. Of several none was, but with the
        // high water known the next one will be.
        let single = below == kept;
        match kept {
            Some(kept) => {
                // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
                let closed_at = unsafe { kept.as_ref() }.closed_at;
                self.open(kept, checkpoint.offset.min(closed_at));
            }
            None if single => self.open(newest, HEADER),
            None => self.open_none(),
        }
        let old_spare = self.spare.replace(Some(newest).filter(|_| single && kept.is_some()));
        // The arena is as it will be: a hook of the backing may come back to it while nodes go.
        if let Some(old_spare) = old_spare {
            self.free_node(old_spare);
        }
        if !single {
            self.free_list(Some(newest), kept);
        }
        true
    }

    /// Ends `block` and every block made after it, as [`rewind`](Self::rewind) does; where it was the first of all,
    /// the padding before it too.
    ///
    /// # Safety
    /// `block` is the start of a block of this arena that was neither freed nor ended; nobody uses it or a later one.
    #[inline]
    #[track_caller]
    pub(crate) unsafe fn rewind_to(&self, block: NonNull<u8>, was_first: bool) {
        let Some(newest) = self.newest.get() else { return };
        let offset = block.addr().get().wrapping_sub(newest.addr().get());
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        if offset < unsafe { newest.as_ref() }.size {
            let end = if was_first { HEADER } else { offset };
            self.lower_next((newest.addr().get() + end).wrapping_neg());
            return;
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { self.rewind_below_newest(block, was_first) };
    }

    /// As `resize`, for the block above which nothing lives: what lay between its end and the next free byte is its own to
    /// grow into, or free again.
    ///
    /// # Safety
    /// `memory` is a live block of this arena, and no later one is.
    #[inline]
    pub(crate) unsafe fn resize_topmost(&self, memory: NonNull<[u8]>, new_len: NonZeroUsize) -> bool {
        let Some(newest) = self.newest.get() else { return false };
        let offset = memory.addr().get().wrapping_sub(newest.addr().get());
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let size = unsafe { newest.as_ref() }.size;
        if offset >= size {
            return new_len.get() <= memory.len();
        }
        let fits = new_len.get() <= size - offset;
        if fits {
            self.lower_next((memory.addr().get() + new_len.get()).wrapping_neg());
        }
        fits
    }

    /// # Safety
    /// As [`rewind_to`](Self::rewind_to).
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn rewind_below_newest(&self, block: NonNull<u8>, was_first: bool) {
        let mut checkpoint = Checkpoint { node: 0, offset: 0 };
        let mut node = self.newest.get().filter(|_| !was_first);
        while let Some(this) = node {
            let offset = block.addr().get().wrapping_sub(this.addr().get());
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            let header = unsafe { this.as_ref() };
            if offset < header.size {
                checkpoint = Checkpoint { node: this.addr().get(), offset };
                break;
            }
            node = header.previous;
        }
        if self.asking.get() {
            self.empty_above(checkpoint);
            return;
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { self.rewind_shared(checkpoint) };
    }

    /// As a rewind, for a hook of the backing, which may be at work on the newest node: by I6 no node goes or changes its
    /// place, and those above the checkpoint's are empty from now on.
    fn empty_above(&self, checkpoint: Checkpoint) {
        let Some(newest) = self.newest.get() else { return };
        self.note_high_water();
        self.lower_next((newest.addr().get() + HEADER).wrapping_neg());
        // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
        let mut below = unsafe { newest.as_ref() }.previous;
        while let Some(this) = below {
            let kept = this.addr().get() == checkpoint.node;
            // SAFETY: as above; no reference to it exists.
            let header = unsafe { &mut *this.as_ptr() };
            header.closed_at = if kept { checkpoint.offset } else { HEADER };
            below = header.previous.filter(|_| !kept);
        }
    }

    /// The node at `address` among `node` and those below it; `Some(None)` for address 0, below all.
    fn find_from(&self, mut node: Option<NonNull<Node>>, address: usize) -> Option<Option<NonNull<Node>>> {
        while let Some(this) = node {
            if this.addr().get() == address {
                return Some(node);
            }
            // SAFETY: by I1 the header is there, and nobody writes to it meanwhile.
            node = unsafe { this.as_ref() }.previous;
        }
        (address == 0).then_some(None)
    }
}

/// An arena inside [`ArenaAllocator::scope`]: allocates like the arena, and has scopes of its own.
///
/// It lends the arena shared only, so that no `reset` and no swap of arenas can end what lives outside.
pub struct Scope<'a, A: Allocator> {
    arena: &'a ArenaAllocator<A>,
}

impl<A: Allocator> Scope<'_, A> {
    /// As [`ArenaAllocator::scope`].
    pub fn scope<R>(&mut self, body: impl FnOnce(&mut Scope<'_, A>) -> R) -> R {
        let end = Rewind { arena: self.arena, checkpoint: self.arena.checkpoint() };
        body(&mut Scope { arena: end.arena })
    }
}

impl<A: Allocator> Deref for Scope<'_, A> {
    type Target = ArenaAllocator<A>;

    fn deref(&self) -> &ArenaAllocator<A> {
        self.arena
    }
}

impl<A: Allocator> fmt::Debug for Scope<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.arena.fmt(f)
    }
}

/// The end of a scope.
struct Rewind<'a, A: Allocator> {
    arena: &'a ArenaAllocator<A>,
    checkpoint: Checkpoint,
}

impl<A: Allocator> Drop for Rewind<'_, A> {
    fn drop(&mut self) {
        // SAFETY: only a scope's body allocates while a `Rewind` lives, through borrows that end with it: the
        // scope outside is mutably borrowed meanwhile, and `Scope` lends the arena for no longer than itself.
        let known = unsafe { self.arena.rewind_shared(self.checkpoint) };
        debug_assert!(known, "by I5 a scope's node stays while the scope lasts");
    }
}
