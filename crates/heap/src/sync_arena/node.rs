//! [`Node`]: a block of the backing under its header, and the atomics in that header.
//!
//! ```text
//! ┌──────┬─────┬──────┬───────┬───┬──────────┬┄┄┄┄┄┄┄┄┐
//! │ size │ end │ next │ block │pad│  block   │  free  │
//! └──────┴─────┴──────┴───────┴───┴──────────┴┄┄┄┄┄┄┄┄┘
//!                     ├──────── end ─────────┤        └─ size bytes from the header's start
//! ```
//!
//! The numbers refer to the invariants of [`SyncArena`](super::SyncArena).

use core::{num::NonZeroUsize, ptr, ptr::NonNull};

use terrace_core::Alignment;

use super::index::bump_index;
use crate::{
    atomic::{AtomicUsize, Ordering},
    cell::UnsafeCell,
};

/// What stands at the start of every node.
pub(super) struct Header {
    /// Bytes that the backing gave, this header included; the lowest bit is `RESIZING`.
    size: AtomicUsize,
    /// Where the next block may start, in bytes after the header; beyond `size` after a request that did not fit.
    end: AtomicUsize,
    next: UnsafeCell<*mut Header>,
}

pub(super) const HEADER: usize = size_of::<Header>();
/// What the backing is asked for.
pub(super) const ALIGNMENT: Alignment = Alignment::of::<Header>();
/// In a node's size: a thread is asking the backing for more.
const RESIZING: usize = 1;

/// A node of an arena.
///
/// - **N** It is a block of the backing as I1 says, with the provenance of all its bytes, and lives: whoever
///   made this value from a pointer has promised it, and uses it no longer than that.
#[derive(Clone, Copy)]
pub(super) struct Node(NonNull<Header>);

impl Node {
    /// An empty node, with `next` null.
    ///
    /// # Safety
    /// `block` is a live block of `size` bytes, no less than `HEADER`, with `ALIGNMENT`; nobody else uses it, and the
    /// node is used while it lives.
    pub(super) unsafe fn make(block: NonNull<u8>, size: NonZeroUsize) -> Self {
        let header = Header {
            size: AtomicUsize::new(size.get()),
            end: AtomicUsize::new(0),
            next: UnsafeCell::new(ptr::null_mut()),
        };
        let node = block.cast::<Header>();
        // SAFETY: the block has the room and the alignment, by the caller's promise.
        unsafe { node.write(header) };
        Self(node)
    }

    /// The node that `raw` names, if any.
    ///
    /// # Safety
    /// `raw` is null or from [`as_raw`](Self::as_raw), its header is acquired (I5), and the node is used while it lives.
    #[inline]
    pub(super) unsafe fn from_raw(raw: *mut Header) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut Header {
        self.0.as_ptr()
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: by N the header is there, and its atomics and its cell are the only way to write it.
        unsafe { self.0.as_ref() }
    }

    /// Bytes that the backing gave.
    #[inline]
    pub(super) fn size(self) -> usize {
        // Acquire: pairs with the Release of `end_growth` (I5).
        self.header().size.load(Ordering::Acquire) & !RESIZING
    }

    /// Bytes for blocks.
    #[inline]
    pub(super) fn room(self) -> usize {
        self.size() - HEADER
    }

    /// The backing's view, where the size does not change.
    pub(super) fn memory(self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.0.cast(), self.size())
    }

    /// Sets the size.
    ///
    /// # Safety
    /// The node is this thread's (I2), and the backing has agreed to `size`.
    pub(super) unsafe fn set_size(self, size: NonZeroUsize) {
        // Relaxed: whoever publishes the node publishes this.
        self.header().size.store(size.get(), Ordering::Relaxed);
    }

    /// Sets [`RESIZING`]: the size, where no other thread had.
    pub(super) fn begin_growth(self) -> Option<usize> {
        // Acquire: pairs with the Release of `end_growth` (I5).
        let size = self.header().size.fetch_or(RESIZING, Ordering::Acquire);
        (size & RESIZING == 0).then_some(size)
    }

    /// Clears [`RESIZING`].
    ///
    /// # Safety
    /// This thread has set it (I3), and the backing has agreed to `size`, no less than before.
    pub(super) unsafe fn end_growth(self, size: usize) {
        // Release: pairs with the Acquire of `begin_growth` and of `size`: whoever had the new bytes before has given
        // them back to the backing before this (I5). A swap where a store would do: loom takes a store beside
        // another thread's `fetch_or` for unordered.
        self.header().size.swap(size, Ordering::Release);
    }

    /// Where the next block may start. Relaxed: the compare-and-swap that follows decides.
    #[inline]
    pub(super) fn end(self) -> usize {
        self.header().end.load(Ordering::Relaxed)
    }

    /// Sets the end of a node that has no blocks.
    ///
    /// # Safety
    /// The node is this thread's (I2).
    pub(super) unsafe fn set_end(self, end: usize) {
        // Relaxed: whoever publishes the node publishes this.
        self.header().end.store(end, Ordering::Relaxed);
    }

    /// Moves the end up, from `end` to `new_end`, unless another thread has moved it.
    pub(super) fn raise(self, end: usize, new_end: usize) -> bool {
        // Acquire: pairs with the Release of `lower`, for the bytes may have been freed (I5).
        self.header().end.compare_exchange(end, new_end, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Moves the end down, from `end` to `new_end`, unless another thread has moved it.
    ///
    /// # Safety
    /// The bytes between are of a block that the caller gives up.
    pub(super) unsafe fn lower(self, end: usize, new_end: usize) {
        // Release: pairs with the Acquire of `raise` and `bump` (I5). Where another thread was faster, the block is not
        // the last any more, and its bytes wait for `reset`.
        let _ = self.header().end.compare_exchange(end, new_end, Ordering::Release, Ordering::Relaxed);
    }

    /// Moves the end up by a block. `None`: it does not fit into `room`, and lies beyond; or no node could be so large,
    /// and the end is where it was.
    #[inline]
    pub(super) fn bump(self, room: usize, len: NonZeroUsize, alignment: Alignment) -> Option<NonNull<u8>> {
        let mut end = self.end();
        loop {
            let (start, new_end) = self.place(end, len, alignment)?;
            // Acquire: the bytes may have been freed (I5). `room` was read before: it is no more than it is now (I3).
            match self.header().end.compare_exchange_weak(end, new_end, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: the block ends within the room.
                Ok(_) => return (new_end <= room).then(|| unsafe { self.block(start) }),
                Err(now) => end = now,
            }
        }
    }

    /// Start and end of a block bumped from `end`.
    #[inline]
    pub(super) fn place(self, end: usize, len: NonZeroUsize, alignment: Alignment) -> Option<(usize, usize)> {
        bump_index(self.data().addr().get(), end, len.get(), alignment)
    }

    /// The block that starts `start` bytes after the header.
    ///
    /// # Safety
    /// It lies within the node's room.
    #[inline]
    pub(super) unsafe fn block(self, start: usize) -> NonNull<u8> {
        // SAFETY: by the caller's promise and N inside the backing's block.
        unsafe { self.data().add(start) }
    }

    /// The first byte after the header.
    #[inline]
    pub(super) fn data(self) -> NonNull<u8> {
        // SAFETY: by N the block is no shorter than its header.
        unsafe { self.0.add(1) }.cast()
    }

    /// The node after this one in its list.
    ///
    /// # Safety
    /// Nobody writes it meanwhile: the node is in use, or this thread's (I2).
    pub(super) unsafe fn next(self) -> Option<Self> {
        let next = self.header().next.with(|next| {
            // SAFETY: nobody writes it, by the caller's promise.
            unsafe { *next }
        });
        // SAFETY: written by `set_next`; who acquired this header has acquired those behind it (I5).
        unsafe { Self::from_raw(next) }
    }

    /// # Safety
    /// The node is this thread's (I2), and `next` null or a node of the same arena.
    pub(super) unsafe fn set_next(self, next: *mut Header) {
        self.header().next.with_mut(|place| {
            // SAFETY: nobody else reads or writes it, by the caller's promise.
            unsafe { *place = next }
        });
    }

    /// This node and those behind it.
    ///
    /// # Safety
    /// As [`next`](Self::next), for each of them.
    pub(super) unsafe fn chain(self) -> impl Iterator<Item = Self> {
        // SAFETY: the caller's promise.
        core::iter::successors(Some(self), |node| unsafe { node.next() })
    }

    /// The last node of the chain.
    ///
    /// # Safety
    /// As [`next`](Self::next), for each of them.
    pub(super) unsafe fn last(self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.chain() }.last().unwrap_or(self)
    }
}
