//! [`Pages`]: the backing, which is `TunedPageAllocator`, made fit for a C malloc.
//!
//! - What the system refuses leaves no trace in `errno`: the caller may be a `free`, which must not touch it, or a
//!   request that is served in another way after all.
//! - The bytes held are counted, for `mallinfo2` and `malloc_trim`.
//!
//! Cost: a few instructions beside a system call.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Decommit, PageSize};
use terrace_heap::smp::REGION;
use terrace_sync::atomic::{AtomicUsize, Ordering};

use crate::os::KeptErrno;

/// Passes everything on to `backing`.
pub(crate) struct Pages<A> {
    regions: AtomicUsize,
    others: AtomicUsize,
    other_blocks: AtomicUsize,
    decommitted: AtomicUsize,
    backing: A,
}

/// What is held, in bytes.
pub(crate) struct Held {
    /// In regions, out of which small blocks come.
    pub(crate) regions: usize,
    /// In blocks of their own: the large ones, and the tables about them.
    pub(crate) others: usize,
    pub(crate) other_blocks: usize,
    /// Given back out of the midst of regions, ever.
    pub(crate) decommitted: usize,
}

impl<A> Pages<A> {
    pub(crate) const fn new(backing: A) -> Self {
        Self {
            regions: AtomicUsize::new(0),
            others: AtomicUsize::new(0),
            other_blocks: AtomicUsize::new(0),
            decommitted: AtomicUsize::new(0),
            backing,
        }
    }

    /// The counts. Relaxed: each is right, together they need not be of one moment.
    pub(crate) fn held(&self) -> Held {
        Held {
            regions: self.regions.load(Ordering::Relaxed),
            others: self.others.load(Ordering::Relaxed),
            other_blocks: self.other_blocks.load(Ordering::Relaxed),
            decommitted: self.decommitted.load(Ordering::Relaxed),
        }
    }

    fn count(&self, alignment: Alignment) -> &AtomicUsize {
        if alignment.bytes() == REGION { &self.regions } else { &self.others }
    }

    fn came(&self, len: NonZeroUsize, alignment: Alignment) {
        self.count(alignment).fetch_add(len.get(), Ordering::Relaxed);
        if alignment.bytes() != REGION {
            self.other_blocks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn changed(&self, old_len: usize, new_len: NonZeroUsize, alignment: Alignment) {
        let count = self.count(alignment);
        count.fetch_add(new_len.get(), Ordering::Relaxed);
        count.fetch_sub(old_len, Ordering::Relaxed);
    }
}

// SAFETY: every call is the backing's, unchanged.
unsafe impl<A: Allocator> Allocator for Pages<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let _errno = KeptErrno::keep();
        let block = self.backing.alloc(len, alignment)?;
        self.came(len, alignment);
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let _errno = KeptErrno::keep();
        // SAFETY: the caller's promise, passed on unchanged.
        let done = unsafe { self.backing.resize(memory, alignment, new_len) };
        if done {
            self.changed(memory.len(), new_len, alignment);
        }
        done
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let _errno = KeptErrno::keep();
        // SAFETY: the caller's promise, passed on unchanged.
        let moved = unsafe { self.backing.remap(memory, alignment, new_len) }?;
        self.changed(memory.len(), new_len, alignment);
        Some(moved)
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let _errno = KeptErrno::keep();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) };
        self.count(alignment).fetch_sub(memory.len(), Ordering::Relaxed);
        if alignment.bytes() != REGION {
            self.other_blocks.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let _errno = KeptErrno::keep();
        let block = self.backing.alloc_zeroed(len, alignment)?;
        self.came(len, alignment);
        Ok(block)
    }
}

// SAFETY: blocks are the backing's.
unsafe impl<A: PageSize> PageSize for Pages<A> {
    fn page_size(&self) -> Alignment {
        self.backing.page_size()
    }
}

// SAFETY: the pages are the backing's, which makes the promise.
unsafe impl<A: Decommit> Decommit for Pages<A> {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        let _errno = KeptErrno::keep();
        // SAFETY: the caller's promise, passed on unchanged.
        let done = unsafe { self.backing.decommit(pages) };
        if done {
            self.decommitted.fetch_add(pages.len(), Ordering::Relaxed);
        }
        done
    }
}
