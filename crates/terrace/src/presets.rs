//! Ready-made stacks for larger machines.
//!
//! ```text
//!  numa()     thread on node 1 ──▶ smp ──▶ region(numa(hybrid)) for callers on node 1
//!             thread on node 0 ──▶ smp ──▶ the same region for callers on node 0
//! ```
//!
//! Each node has an allocator of its own, whose slabs lie there; what a thread frees goes back to the node that it came from.
//!
//! - **P1** A block is of the stack whose number [`NumaRegion::holder_of`] tells of its address: the stack got the pages that it lies in by
//!   a handle of that number.
//!
//! Cost: `SmpAllocator`'s; an `alloc` asks for the node that is kept for the thread, a `free` reads a byte of a table.

use core::{fmt, num::NonZeroUsize, ptr::NonNull};
use std::{boxed::Box, vec::Vec};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns};
use terrace_frame::numa::{NodeCounts, NumaPolicy};

use crate::{NumaRegion, SmpAllocator};

/// A general-purpose allocator for machines with nodes; made by [`numa`].
pub struct Numa {
    /// By the place of the node in the topology.
    stacks: Box<[SmpAllocator<NumaRegion>]>,
    region: NumaRegion,
}

/// An allocator that gives each thread memory of the node that it runs on, and when that is full, of the nearest.
///
/// Blocks of all sizes, for any number of threads, which may free one another's. Memory that has been handed out is there: a full machine
/// is an error, not a signal. It stays in the process until [`trim`](Numa::trim), or the drop. On a machine of one node it is an allocator like
/// another.
///
/// A thread that has moved to another node is noticed after up to 1024 blocks.
///
/// # Errors
/// [`AllocError`]: there are no addresses for as much memory as the machine has, or no memory for the notes.
///
/// ```
/// use terrace::{AllocError, AllocatorExt};
///
/// let numa = terrace::presets::numa()?;
/// let numbers = numa.alloc_slice::<u32>(100)?;
/// let here = numa.region().current();
/// println!("node {here} of {}: {} blocks of its own pages", numa.region().nodes(), numa.counts(here, here).hits);
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { numa.free_slice(numbers) };
/// # Ok::<(), AllocError>(())
/// ```
pub fn numa() -> Result<Numa, AllocError> {
    Numa::over(NumaRegion::new()?)
}

impl Numa {
    /// The same over a region that has been made, with a limit, say.
    ///
    /// # Errors
    /// [`AllocError`]: there is no memory for the stacks themselves.
    pub fn over(region: NumaRegion) -> Result<Self, AllocError> {
        let stack = |node| {
            let pages = region.on(node, NumaPolicy::Local).map_err(|_| AllocError)?;
            Ok(SmpAllocator::new(pages, crate::ThreadSlots))
        };
        let stacks: Result<Vec<_>, AllocError> = (0..region.nodes()).map(stack).collect();
        Ok(Self { stacks: stacks?.into_boxed_slice(), region })
    }

    /// The memory below, by nodes.
    pub fn region(&self) -> &NumaRegion {
        &self.region
    }

    /// Gives back to the system what is idle.
    pub fn trim(&self) {
        self.stacks.iter().for_each(SmpAllocator::trim);
        self.region.trim();
    }

    /// What threads on `from` got out of the memory of `to`, in slabs and large blocks.
    pub fn counts(&self, from: usize, to: usize) -> NodeCounts {
        self.region.counts(from, to)
    }

    /// That of the node that this thread runs on.
    #[inline]
    fn here(&self) -> &SmpAllocator<NumaRegion> {
        // The region answers with a place of its own nodes, of which each has a stack.
        &self.stacks[self.region.current()]
    }

    /// That which has a block (P1).
    #[inline]
    fn of(&self, memory: NonNull<[u8]>) -> Option<&SmpAllocator<NumaRegion>> {
        self.stacks.get(self.region.holder_of(memory.cast())?)
    }
}

// SAFETY: a block is one of its stack's (P1), which gets every later call about it.
unsafe impl Allocator for Numa {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.here().alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise; by P1 it is that stack's block.
        self.of(memory).is_some_and(|stack| unsafe { stack.resize(memory, alignment, new_len) })
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise; by P1 it is that stack's block.
        self.of(memory).and_then(|stack| unsafe { stack.remap(memory, alignment, new_len) })
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if let Some(stack) = self.of(memory) {
            // SAFETY: the caller's promise; by P1 it is that stack's block.
            unsafe { stack.free(memory, alignment) };
        }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.here().alloc_zeroed(len, alignment)
    }
}

// SAFETY: its blocks are those of the stacks.
unsafe impl Owns for Numa {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.stacks.iter().any(|stack| stack.owns(address))
    }
}

// SAFETY: nothing is added to a request, and all stacks round alike.
unsafe impl GoodSize for Numa {
    #[inline]
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.here().good_size(len, alignment)
    }
}

impl fmt::Debug for Numa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numa").field("region", &self.region).finish_non_exhaustive()
    }
}

terrace_core::bridge_collections!(impl[] for Numa);
