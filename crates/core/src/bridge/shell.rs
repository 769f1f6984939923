//! The bridges to collections: a thin shell over [`serve`](super::serve), the same for every version of the trait.
//!
//! ```text
//! bridge_collections!(impl[..] for T) ─┬─▶ bridge_allocator_api2_02! ─▶ bridge_shell!(that version, T) │ nothing
//!                                      ├─▶ bridge_allocator_api2_03! ─▶ …
//!                                      ├─▶ bridge_allocator_api2_04! ─▶ …
//!                                      └─▶ bridge_std! ──────────────▶ …
//! ```
//!
//! allocator-api2 0.2, 0.3 and 0.4 have the trait of std with one text for its contract (0.4 adds `&mut A` to the types
//! that have it); std's is still unstable and has more methods, all provided. So one shell serves the four. Each is a
//! trait of its own: a type may have all four at once. Which ones there are is decided here, in this crate: a macro's
//! `cfg`s would otherwise be those of the crate that calls it.

/// Bridges an allocator that was made outside of the crate: `bridge_collections!(impl[A: Allocator] for &Arena<A>)`.
///
/// The generic parameters stand in the brackets. Name `&T` where `T` has a `reset`, or passes one on; see
/// the [module's text](crate::bridge). A caller needs neither the dependencies nor the features.
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_collections {
    ($($bridged:tt)*) => {
        $crate::bridge_allocator_api2_02! { $($bridged)* }
        $crate::bridge_allocator_api2_03! { $($bridged)* }
        $crate::bridge_allocator_api2_04! { $($bridged)* }
        $crate::bridge_std! { $($bridged)* }
    };
}

#[cfg(feature = "allocator-api2-02")]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_02 {
    ($($bridged:tt)*) => {
        $crate::bridge_shell! { [$crate::bridge::allocator_api2_02] $($bridged)* }
    };
}

#[cfg(not(feature = "allocator-api2-02"))]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_02 {
    ($($bridged:tt)*) => {};
}

#[cfg(feature = "allocator-api2-03")]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_03 {
    ($($bridged:tt)*) => {
        $crate::bridge_shell! { [$crate::bridge::allocator_api2_03] $($bridged)* }
    };
}

#[cfg(not(feature = "allocator-api2-03"))]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_03 {
    ($($bridged:tt)*) => {};
}

#[cfg(feature = "allocator-api2-04")]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_04 {
    ($($bridged:tt)*) => {
        $crate::bridge_shell! { [$crate::bridge::allocator_api2_04] $($bridged)* }
    };
}

#[cfg(not(feature = "allocator-api2-04"))]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_04 {
    ($($bridged:tt)*) => {};
}

#[cfg(terrace_nightly)]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_std {
    ($($bridged:tt)*) => {
        $crate::bridge_shell! { [$crate::bridge::std_nightly] $($bridged)* }
    };
}

#[cfg(not(terrace_nightly))]
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_std {
    ($($bridged:tt)*) => {};
}

/// The shell for one version, named by the path of what has its `alloc::Allocator`.
#[doc(hidden)]
#[macro_export]
// The gate for std's trait stands in this crate alone, as the other versions' features do.
#[cfg_attr(terrace_nightly, allow_internal_unstable(allocator_api))]
macro_rules! bridge_shell {
    ([$($version:tt)+] impl[$($generics:tt)*] for $bridged:ty) => {
        const _: () = {
            use ::core::{alloc::Layout, ptr::NonNull, result::Result};
            use $crate::bridge::serve;
            use $($version)+::alloc as api2;

            // SAFETY: `serve` keeps the trait's contract over any allocator that keeps ours: blocks have the layout
            // asked (its I1, I2), and stay valid while the allocator is only borrowed or moved (clauses 7, 8);
            // clones free each other's blocks (clause 9). Nothing unwinds (clause 10).
            unsafe impl<$($generics)*> api2::Allocator for $bridged {
                #[inline]
                #[track_caller]
                fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, api2::AllocError> {
                    serve::allocate(self, layout).map_err(|_| api2::AllocError)
                }

                #[inline]
                #[track_caller]
                fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, api2::AllocError> {
                    serve::allocate_zeroed(self, layout).map_err(|_| api2::AllocError)
                }

                #[inline]
                #[track_caller]
                unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                    // SAFETY: the caller's promise, which is the same.
                    unsafe { serve::deallocate(self, block, layout) }
                }

                #[inline]
                #[track_caller]
                unsafe fn grow(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api2::AllocError> {
                    // SAFETY: the caller's promise, which is the same.
                    unsafe { serve::grow(self, block, old, new) }.map_err(|_| api2::AllocError)
                }

                #[inline]
                #[track_caller]
                unsafe fn grow_zeroed(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api2::AllocError> {
                    // SAFETY: the caller's promise, which is the same.
                    unsafe { serve::grow_zeroed(self, block, old, new) }.map_err(|_| api2::AllocError)
                }

                #[inline]
                #[track_caller]
                unsafe fn shrink(
                    &self,
                    block: NonNull<u8>,
                    old: Layout,
                    new: Layout,
                ) -> Result<NonNull<[u8]>, api2::AllocError> {
                    // SAFETY: the caller's promise, which is the same.
                    unsafe { serve::shrink(self, block, old, new) }.map_err(|_| api2::AllocError)
                }
            }
        };
    };
}
