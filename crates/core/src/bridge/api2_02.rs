//! The bridge to allocator-api2 0.2: a thin shell over [`serve`](super::serve).

/// See [`bridge_collections!`](crate::bridge_collections).
#[doc(hidden)]
#[macro_export]
macro_rules! bridge_allocator_api2_02 {
    (impl[$($generics:tt)*] for $bridged:ty) => {
        const _: () = {
            use ::core::{alloc::Layout, ptr::NonNull, result::Result};
            use $crate::bridge::{allocator_api2_02::alloc as api2, serve};

            // SAFETY: `serve` keeps allocator-api2's contract over any allocator that keeps ours: blocks have the layout
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
