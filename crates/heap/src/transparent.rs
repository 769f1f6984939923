//! What every transparent layer passes on: the answers that its backing gives about blocks which are
//! the layer's own, byte for byte.

/// Passes on what asks nothing of the layer itself. The layer's blocks are exactly its backing's blocks. Where the
/// backing is not simply a field, `|layer| …` says how to reach it.
macro_rules! pass_on_capabilities {
    (impl[$($generics:tt)*] for $layer:ty) => {
        pass_on_capabilities!(impl[$($generics)*] for $layer, |layer| layer.backing);
    };
    (impl[$($generics:tt)*] for $layer:ty, |$this:ident| $backing:expr) => {
        // SAFETY: the layer's blocks are exactly its backing's.
        unsafe impl<A: ::terrace_core::Owns, $($generics)*> ::terrace_core::Owns for $layer {
            fn owns(&self, address: ::core::ptr::NonNull<u8>) -> bool {
                let $this = self;
                $backing.owns(address)
            }
        }

        // SAFETY: the layer adds no bytes to a request.
        unsafe impl<A: ::terrace_core::GoodSize, $($generics)*> ::terrace_core::GoodSize for $layer {
            fn good_size(
                &self,
                len: ::core::num::NonZeroUsize,
                alignment: ::terrace_core::Alignment,
            ) -> ::core::num::NonZeroUsize {
                let $this = self;
                $backing.good_size(len, alignment)
            }
        }

        // SAFETY: the layer's blocks are exactly its backing's.
        unsafe impl<A: ::terrace_core::PageSize, $($generics)*> ::terrace_core::PageSize for $layer {
            fn page_size(&self) -> ::terrace_core::Alignment {
                let $this = self;
                $backing.page_size()
            }
        }

        // SAFETY: the layer's blocks are exactly its backing's, which does the work.
        unsafe impl<A: ::terrace_core::Decommit, $($generics)*> ::terrace_core::Decommit for $layer {
            unsafe fn decommit(&self, pages: ::core::ptr::NonNull<[u8]>) -> bool {
                let $this = self;
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { $backing.decommit(pages) }
            }
        }

        // SAFETY: the layer's blocks are exactly its backing's, which does the work.
        unsafe impl<A: ::terrace_core::Protect, $($generics)*> ::terrace_core::Protect for $layer {
            unsafe fn protect(&self, pages: ::core::ptr::NonNull<[u8]>, access: ::terrace_core::Access) -> bool {
                let $this = self;
                // SAFETY: the caller's promise, passed on unchanged.
                unsafe { $backing.protect(pages, access) }
            }
        }
    };
}

pub(crate) use pass_on_capabilities;
