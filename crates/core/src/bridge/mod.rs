//! Bridges: Terrace's allocators as other crates' collections want them, and other crates' allocators as backings.
//!
//! ```text
//!  Vec, Box, HashMap ──▶ their Allocator trait ──▶ serve.rs ──▶ our Allocator ──▶ backing.rs ──▶ their allocator
//!  (allocator-api2,      one thin shell for all    the rules,    never a length     Api2Backing     (bumpalo's Bump)
//!   hashbrown, std)      versions: shell.rs        once          of 0, exact ones
//! ```
//!
//! What is bridged, and in what form:
//!
//! - `&dyn Allocator`, in all four `Send`/`Sync` forms;
//! - an allocator without state, by value (`SystemAllocator`, pages);
//! - an allocator that `reset(&mut self)` can empty, **by reference only**: `Vec::new_in(&arena)`;
//! - anything else that the orphan rule keeps out (a generic `A`, an `Rc` or `Arc` of an arena), in a [`Bridge`].
//!
//! Each in every version whose feature is on: `allocator-api2-02`, `-03`, `-04`, and std's own with `nightly`.
//!
//! # Why by reference
//!
//! The neighbours disagree. bump-scope's issue 137 calls `impl Allocator for Bump` unsound: a collection
//! that lends `&mut` its allocator lets safe code call `reset` under the live elements. bumpalo's pull
//! request 334 has moved from `&Bump` to `Bump`, for issue 283: std's contract, as rust-lang/rust 157801 has
//! rewritten it, lets an allocator end its blocks when it is mutated, and no collection may lend its allocator
//! mutably anyway, because `mem::replace` on it would free blocks to the wrong allocator. But the contract of
//! allocator-api2 0.2 says that blocks stay valid until the instance and all of its clones are dropped, with
//! no word of mutation. So we choose the form that is sound under either reading: `&Arena` cannot be reset
//! while anything borrows it, and an arena owned by its collection goes into a [`Bridge`], which lends nothing
//! mutably. Nothing is lost by it, since std's and allocator-api2's own `impl for &A` would make the two forms
//! the same to a caller.

mod backing;
#[doc(hidden)]
pub mod serve;
mod shell;

#[cfg(feature = "allocator-api2-02")]
#[doc(hidden)]
pub use allocator_api2_02;
#[cfg(feature = "allocator-api2-03")]
#[doc(hidden)]
pub use allocator_api2_03;
#[cfg(feature = "allocator-api2-04")]
#[doc(hidden)]
pub use allocator_api2_04;

pub use backing::{Api2Backing, Std, V02, V03, V04};

/// Std's trait where the versions of allocator-api2 have theirs.
#[cfg(terrace_nightly)]
#[doc(hidden)]
pub mod std_nightly {
    pub use core::alloc;
}

use core::{num::NonZeroUsize, ptr::NonNull};

use crate::{
    Access, Alignment, AllocError, AllocStats, Allocator, BulkFree, Decommit, GoodSize, Owns, PageSize, Protect, Stats,
    bridge_collections, capability::forward_capabilities,
};

bridge_collections!(impl[] for dyn Allocator + '_);
bridge_collections!(impl[] for dyn Allocator + Send + '_);
bridge_collections!(impl[] for dyn Allocator + Sync + '_);
bridge_collections!(impl[] for dyn Allocator + Send + Sync + '_);
bridge_collections!(impl[A: Allocator] for Bridge<A>);

/// Carries any allocator into a collection: `Vec::new_in(Bridge::new(arc_of_arena))`.
///
/// The orphan rule lets nobody write allocator-api2's trait for an `Rc<A>` or `Arc<A>`; this is the type for them.
/// A clone of the bridge is a clone of the handle, so collections of their own share one allocator, which ends with the
/// last of them.
///
/// It gives the allocator to nobody: there is no `Deref`, no `get_mut`, no `into_inner`. An arena in here may
/// have live blocks in a collection, and by clause 8 of [`Allocator`] its blocks end together only through
/// `&mut` or drop: a `&mut` lent here, or the arena moved out, could be reset while the collection lives.
/// It drops with the collection; a leaked collection leaks it, so leaked elements stay valid. To look at
/// the allocator meanwhile, share it: `Bridge<Arc<A>>` or `Bridge<&A>`. The capabilities come through, but for
/// [`Reset`](crate::Reset).
///
/// A clone must free what the original allocated; by clause 9 every `A: Clone` is such a handle.
///
/// ```
/// # #[cfg(all(feature = "allocator-api2-02", feature = "std"))] {
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::{Allocator, Bridge, SystemAllocator};
///
/// fn squares<A: Allocator>(allocator: A) -> Vec<u64, Bridge<A>> {
///     let mut squares = Vec::new_in(Bridge::new(allocator));
///     squares.extend((0..4).map(|n| n * n));
///     squares
/// }
/// assert_eq!(squares(&SystemAllocator)[..], [0, 1, 4, 9]);
/// # }
/// ```
///
/// ```
/// # #[cfg(all(feature = "allocator-api2-02", feature = "std"))] {
/// use std::sync::Arc;
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::{Bridge, SystemAllocator};
///
/// let shared = Bridge::new(Arc::new(SystemAllocator));
/// let (mut reds, mut blues) = (Vec::new_in(shared.clone()), Vec::new_in(shared));
/// reds.push(1);
/// blues.push(2);
/// # }
/// ```
///
/// What must not compile: an owned arena emptied under the collection that lives in it,
///
/// ```compile_fail,E0599
/// use terrace_core::{Allocator, Bridge, Reset, ResetMode};
///
/// fn empty<A: Allocator + Reset>(bridge: &mut Bridge<A>) {
///     bridge.reset(ResetMode::FreeAll);
/// }
/// ```
///
/// or one that is reached by `&mut`, to be emptied or replaced,
///
/// ```compile_fail,E0614
/// use terrace_core::{Allocator, Bridge};
///
/// fn inside<A: Allocator>(bridge: &mut Bridge<A>) -> &mut A {
///     &mut **bridge
/// }
/// ```
///
/// or reset through another borrow than the bridge's,
///
/// ```compile_fail,E0499
/// use terrace_core::{Allocator, Bridge, Reset, ResetMode};
///
/// fn under_it<A: Allocator + Reset>(arena: &mut A) {
///     let bridge = Bridge::new(&mut *arena);
///     arena.reset(ResetMode::FreeAll);
///     drop(bridge);
/// }
/// ```
///
/// or moved out,
///
/// ```compile_fail,E0616
/// use terrace_core::{Allocator, Bridge};
///
/// fn moved_out<A: Allocator>(bridge: Bridge<A>) -> A {
///     bridge.backing
/// }
/// ```
///
/// or two owners of blocks that only one of them can free.
///
/// ```compile_fail,E0277
/// use terrace_core::{Allocator, Bridge};
///
/// fn two<A: Allocator>(bridge: Bridge<A>) -> impl Clone {
///     bridge
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Bridge<A> {
    backing: A,
}

impl<A: Allocator> Bridge<A> {
    /// Takes no memory itself.
    pub const fn new(backing: A) -> Self {
        Self { backing }
    }
}

// SAFETY: every call reaches `backing`, which keeps the contract; nothing here lends it mutably or moves it
// out (clause 8), it moves and drops with the bridge (clause 7), and clones are `backing`'s clones (clause 9).
unsafe impl<A: Allocator> Allocator for Bridge<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc_zeroed(len, alignment)
    }
}

forward_capabilities! { |bridge| bridge.backing; impl[A: Sized] for Bridge<A>; }
