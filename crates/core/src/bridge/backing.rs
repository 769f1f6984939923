//! [`Api2Backing`]: anybody's allocator-api2 allocator, or std's on nightly, as a backing of ours.
//!
//! ```text
//!   our ArenaAllocator, PoolAllocator, … ──▶ Api2Backing<T> ──▶ T: their Allocator, of one of four versions
//!          alloc, alloc_zeroed  ──▶ allocate, allocate_zeroed
//!          free                 ──▶ deallocate, with the length that was asked for
//!          resize, remap        ──▶ nothing: granted where the length stays, else refused
//! ```
//!
//! - **I1** A live block of `len` bytes is a block of `backing`, currently allocated, made with the layout of exactly
//!   `len` and the block's alignment. It may be longer; the rest is not ours to know, and the layout still fits it.
//!
//! Their `grow` and `shrink` may copy with the CPU, and do not say beforehand; clause 4 leaves a copy to the caller.
//! Cost: the allocator's own; one check of length and alignment for each `alloc`.

use core::{alloc::Layout, marker::PhantomData, mem, num::NonZeroUsize, ptr::NonNull};

use crate::{Alignment, AllocError, Allocator, bridge_collections, global::layout_of};

/// allocator-api2 0.2.
#[derive(Clone, Copy, Debug)]
pub enum V02 {}
/// allocator-api2 0.3.
#[derive(Clone, Copy, Debug)]
pub enum V03 {}
/// allocator-api2 0.4.
#[derive(Clone, Copy, Debug)]
pub enum V04 {}
/// Std's own trait, with the feature `nightly` on such a compiler.
#[derive(Clone, Copy, Debug)]
pub enum Std {}

/// Hands out the blocks of an allocator that speaks allocator-api2: a `&Bump` of bumpalo, say.
///
/// `V` is the version that it speaks: [`V02`], [`V03`], [`V04`] or [`Std`], each with its feature. It is inferred
/// where `T` speaks one; where it speaks several, name it: `Api2Backing::<_, V03>::new(allocator)`.
///
/// ```
/// # #[cfg(all(feature = "allocator-api2-02", feature = "std"))] {
/// use bumpalo::Bump;
/// use terrace_core::{AllocatorExt, Api2Backing};
///
/// let bump = Bump::new();
/// let backing = Api2Backing::new(&bump);
/// let numbers = backing.alloc_slice::<u32>(100)?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { backing.free_slice(numbers) };
/// # }
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// It carries an allocator of any version to collections of another: `Bridge::new(Api2Backing::new(theirs))` speaks all
/// versions whose features are on.
///
/// Their contract lets an allocator end its blocks when it is dropped, and lets std's end them when it is mutated. So it
/// is lent to nobody, as in [`Bridge`](crate::Bridge); a `&Bump` stays borrowed as long as its backing is used:
///
/// ```compile_fail,E0502
/// use terrace_core::{Allocator, Api2Backing};
///
/// let mut bump = bumpalo::Bump::new();
/// let backing = Api2Backing::new(&bump);
/// bump.reset();
/// let allocator: &dyn Allocator = &backing;
/// ```
///
/// ```compile_fail,E0505
/// use terrace_core::{Allocator, Api2Backing};
///
/// let bump = bumpalo::Bump::new();
/// let backing = Api2Backing::new(&bump);
/// drop(bump);
/// let allocator: &dyn Allocator = &backing;
/// ```
///
/// One that owns its state has one owner here too, since two could not free each other's blocks:
///
/// ```compile_fail,E0277
/// use terrace_core::{Allocator, Api2Backing, Bridge, bridge::V02};
///
/// fn two<A: Allocator>(owned: A) -> impl Clone {
///     Api2Backing::<_, V02>::new(Bridge::new(owned))
/// }
/// ```
///
/// An allocator of theirs may unwind, one of ours may not (clause 10): a panic in it aborts.
#[derive(Clone, Copy, Debug)]
pub struct Api2Backing<T, V = V02> {
    backing: T,
    version: PhantomData<V>,
}

impl<T: Speaks<V>, V> Api2Backing<T, V> {
    /// Takes no memory itself.
    pub const fn new(backing: T) -> Self {
        Self { backing, version: PhantomData }
    }
}

/// One version's allocators, in words that all versions share. Sealed, since nobody outside can name it: unsafe code
/// rests on its answers.
#[doc(hidden)]
pub trait Speaks<V> {
    /// As the version's `allocate`.
    fn allocate(&self, layout: Layout) -> Option<NonNull<[u8]>>;
    /// As the version's `allocate_zeroed`.
    fn allocate_zeroed(&self, layout: Layout) -> Option<NonNull<[u8]>>;
    /// As the version's `deallocate`.
    ///
    /// # Safety
    /// `block` is currently allocated via this allocator, and `layout` fits it.
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout);
}

macro_rules! speaks {
    ($(#[$cfg:meta] $version:ty: $api2:path;)+) => {$(
        #[$cfg]
        impl<T: $api2> Speaks<$version> for T {
            #[inline]
            fn allocate(&self, layout: Layout) -> Option<NonNull<[u8]>> {
                <T as $api2>::allocate(self, layout).ok()
            }

            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Option<NonNull<[u8]>> {
                <T as $api2>::allocate_zeroed(self, layout).ok()
            }

            #[inline]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { <T as $api2>::deallocate(self, block, layout) }
            }
        }
    )+};
}

speaks! {
    #[cfg(feature = "allocator-api2-02")] V02: allocator_api2_02::alloc::Allocator;
    #[cfg(feature = "allocator-api2-03")] V03: allocator_api2_03::alloc::Allocator;
    #[cfg(feature = "allocator-api2-04")] V04: allocator_api2_04::alloc::Allocator;
    #[cfg(terrace_nightly)] Std: core::alloc::Allocator;
}

// SAFETY: by I1 live blocks are distinct allocated blocks of `backing`, valid until it and its clones are dropped,
// wherever it is moved; it is lent to nobody (clauses 1, 7, 8), and its clones are one allocator (clause 9). It may be
// called, and blocks freed, from other threads where it is `Sync` or `Send` (clause 6). `Layout` refuses what exceeds
// `isize::MAX` (clause 2), a length that would change is refused before it is called (clause 3), `Calm` stops a panic.
unsafe impl<T: Speaks<V>, V> Allocator for Api2Backing<T, V> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_of(len.get(), alignment)?;
        let calm = Calm;
        let block = self.backing.allocate(layout);
        mem::forget(calm);
        block.map(NonNull::cast).ok_or(AllocError)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        new_len.get() == memory.len()
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if new_len.get() == memory.len() { Some(memory.cast()) } else { None }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: live with this length and alignment by the caller's promise, so `layout_of` took them once.
        let layout = unsafe { Layout::from_size_align_unchecked(memory.len(), alignment.bytes()) };
        let calm = Calm;
        // SAFETY: by I1 allocated with this layout, given up by the caller.
        unsafe { self.backing.deallocate(memory.cast(), layout) };
        mem::forget(calm);
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_of(len.get(), alignment)?;
        let calm = Calm;
        let block = self.backing.allocate_zeroed(layout);
        mem::forget(calm);
        block.map(NonNull::cast).ok_or(AllocError)
    }
}

/// Dropped only by a panic that unwinds: a second one, in a destructor meanwhile, aborts. Costs nothing otherwise.
struct Calm;

impl Drop for Calm {
    fn drop(&mut self) {
        panic!("an allocator unwound under Api2Backing");
    }
}

bridge_collections!(impl[T: Speaks<V>, V] for Api2Backing<T, V>);
