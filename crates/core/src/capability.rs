//! Capabilities: what some allocators can do beyond the four functions.
//!
//! ```text
//!                     Owns  GoodSize  BulkFree  PageSize ─▶ Decommit, Protect   Reset   Stats
//! &A, Rc, Arc, Bridge  ●       ●         ●         ●                             –        ●
//! &mut A, Box          ●       ●         ●         ●                             ●        ●
//! ```
//!
//! All are object-safe, so that a tool which picks its stack at run time can ask through `dyn`. A layer
//! that adds nothing to a question passes it on to its backing. A trait is `unsafe` exactly where
//! unsafe code elsewhere rests on the answer; [`Reset`] takes `&mut self`, because it ends blocks
//! (clause 8 of [`Allocator`]), and is therefore not passed on by shared handles, nor by what carries an
//! allocator into a collection.
//!
//! Cost: one call; none of the answers takes memory.

use core::{num::NonZeroUsize, ptr::NonNull};

use crate::{Alignment, Allocator};

/// Knows its own blocks by their address.
///
/// # Safety
///
/// Layers route `free` by the answer: for the address of a live block of this allocator it is `true`, and for an
/// address outside of the memory that it hands out from, `false`. For any other address in a live block it does not
/// change while the block lives. An allocator that stands on this one hands out from that memory too: whoever routes
/// between the two has to know that both may say `true` of such a block.
pub unsafe trait Owns: Allocator {
    /// Whether `address` lies in memory that this allocator hands out from. Cost: up to its list of chunks.
    fn owns(&self, address: NonNull<u8>) -> bool;
}

/// Knows what it rounds requests up to.
///
/// # Safety
///
/// The answer is at least `len` and at most `isize::MAX` where `len` is: callers size buffers by it.
pub unsafe trait GoodSize: Allocator {
    /// The length, in bytes, that a block of `len` really occupies, so that asking for all of it costs
    /// no more; `len` itself where nothing is rounded or the rounding would overflow.
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize;
}

/// Frees many blocks in one call, where that costs less than one call each.
pub trait BulkFree: Allocator {
    /// Ends every block of `blocks`.
    ///
    /// # Safety
    /// Each is a live block of this allocator with this `alignment` (clause 1), none is listed twice,
    /// and none is used again.
    #[track_caller]
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment);
}

/// How much memory a [`Reset`] keeps for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetMode {
    /// Nothing: all goes back to the backing.
    FreeAll,
    /// The whole capacity, as one piece where it was in several.
    RetainCapacity,
    /// The capacity, but no more than so many bytes. A limit of 0 is `FreeAll`.
    RetainWithLimit(usize),
}

/// Ends all blocks at once.
///
/// Taking `&mut self` is what makes this safe: no collection that borrows the allocator outlives it. So a
/// type that is `Clone` has no `reset` (a clone's blocks would end without a `&mut` to the clone), and a shared
/// handle cannot pass it on:
///
/// ```compile_fail,E0277
/// use terrace_core::{Reset, ResetMode};
///
/// fn empty(mut allocator: impl Reset) {
///     allocator.reset(ResetMode::FreeAll);
/// }
/// fn under_others<A: Reset>(shared: &A) {
///     empty(shared);
/// }
/// ```
pub trait Reset {
    /// Ends every block. `false`: the blocks have ended, but the memory asked to be retained could
    /// not be had in the form asked (one piece, under the limit); what is kept is still usable.
    #[track_caller]
    fn reset(&mut self, mode: ResetMode) -> bool;
}

/// What an allocator has done so far. Bytes are lengths as callers asked for them.
///
/// `current_allocations == total_allocations - total_deallocations`, and the same in bytes.
/// A resize or remap counts no allocation; its difference goes to the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocStats {
    /// Blocks handed out.
    pub total_allocations: u64,
    /// Blocks that have ended.
    pub total_deallocations: u64,
    /// Blocks live now.
    pub current_allocations: u64,
    /// Most blocks ever live at once.
    pub peak_allocations: u64,
    /// Bytes handed out, growth included.
    pub bytes_allocated: u64,
    /// Bytes given back, shrinkage included.
    pub bytes_deallocated: u64,
    /// Bytes live now.
    pub current_bytes: u64,
    /// Most bytes ever live at once.
    pub peak_bytes: u64,
}

/// Counts what it does.
pub trait Stats {
    /// The counts now. Where threads race, each is exact but they may be from different moments.
    fn stats(&self) -> AllocStats;
}

/// Hands out whole pages.
///
/// # Safety
///
/// Every block begins at a multiple of the page size, and the rest of its last page belongs to no
/// other block: [`Decommit`] and [`Protect`] act on whole pages and must hit no neighbour.
pub unsafe trait PageSize: Allocator {
    /// The size of a page in bytes; the same for the allocator's whole life.
    fn page_size(&self) -> Alignment;
}

/// Gives the physical memory of pages back, keeping their addresses.
///
/// # Safety
///
/// After `true` every byte of the pages reads as zero; `alloc_zeroed` of layers above rests on it.
/// After `false` each page is as it was or empty: a system may stop midway, at a locked page say.
pub unsafe trait Decommit: PageSize {
    /// Empties `pages`; they stay allocated and may be read and written at once.
    ///
    /// # Safety
    /// `pages` begins and ends at multiples of the page size and lies within the pages of one live
    /// block of this allocator; nobody reads or writes it meanwhile.
    #[track_caller]
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool;
}

/// What may be done to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: touching it faults.
    None,
    /// Reading; writing faults.
    Read,
    /// Reading and writing, as after `alloc`.
    ReadWrite,
}

/// Changes what may be done to pages.
///
/// # Safety
///
/// After `true` the pages have exactly the access asked, their contents unchanged; guard pages rest
/// on it. After `false` each page has its old access or the one asked: a system may stop midway, out of maps say.
pub unsafe trait Protect: PageSize {
    /// Sets the access of `pages`.
    ///
    /// # Safety
    /// `pages` begins and ends at multiples of the page size and lies within the pages of one live
    /// block of this allocator. Nobody touches them in a way that is no longer allowed, and before the
    /// block is freed or resized its pages are `ReadWrite` again.
    #[track_caller]
    unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool;
}

/// A handle answers as the allocator behind it does; `$behind` says where in `$this` handle that is.
macro_rules! forward_capabilities {
    (|$this:ident| $behind:expr; $($(#[$attr:meta])* impl[A: $($bound:tt)+] for $handle:ty;)+) => {$(
        $(#[$attr])*
        // SAFETY: the handle's blocks are exactly the blocks of the allocator behind it, whose answer this is.
        unsafe impl<A: Owns + $($bound)+> Owns for $handle {
            fn owns(&self, address: NonNull<u8>) -> bool {
                let $this = self;
                $behind.owns(address)
            }
        }

        $(#[$attr])*
        // SAFETY: as above.
        unsafe impl<A: GoodSize + $($bound)+> GoodSize for $handle {
            fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
                let $this = self;
                $behind.good_size(len, alignment)
            }
        }

        $(#[$attr])*
        impl<A: BulkFree + $($bound)+> BulkFree for $handle {
            unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
                let $this = self;
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { $behind.bulk_free(blocks, alignment) }
            }
        }

        $(#[$attr])*
        impl<A: Stats + $($bound)+> Stats for $handle {
            fn stats(&self) -> AllocStats {
                let $this = self;
                $behind.stats()
            }
        }

        $(#[$attr])*
        // SAFETY: as above.
        unsafe impl<A: PageSize + $($bound)+> PageSize for $handle {
            fn page_size(&self) -> Alignment {
                let $this = self;
                $behind.page_size()
            }
        }

        $(#[$attr])*
        // SAFETY: as above.
        unsafe impl<A: Decommit + $($bound)+> Decommit for $handle {
            unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
                let $this = self;
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { $behind.decommit(pages) }
            }
        }

        $(#[$attr])*
        // SAFETY: as above.
        unsafe impl<A: Protect + $($bound)+> Protect for $handle {
            unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool {
                let $this = self;
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { $behind.protect(pages, access) }
            }
        }
    )+};
}
pub(crate) use forward_capabilities;

forward_capabilities! {
    |handle| **handle;
    impl[A: ?Sized] for &A;
    impl[A: ?Sized] for &mut A;
    #[cfg(feature = "alloc")]
    impl[A: ?Sized] for alloc::boxed::Box<A>;
    #[cfg(feature = "alloc")]
    impl[A: ?Sized] for alloc::rc::Rc<A>;
    #[cfg(feature = "alloc")]
    impl[A: ?Sized] for alloc::sync::Arc<A>;
}

/// Only a handle that nobody shares may end all blocks.
macro_rules! forward_reset {
    ($($(#[$attr:meta])* $handle:ty),* $(,)?) => {$(
        $(#[$attr])*
        impl<A: Reset + ?Sized> Reset for $handle {
            fn reset(&mut self, mode: ResetMode) -> bool {
                (**self).reset(mode)
            }
        }
    )*};
}

forward_reset! {
    &mut A,
    #[cfg(feature = "alloc")]
    alloc::boxed::Box<A>,
}
