//! Blocks by their address alone: what a C `free` is told. The same mistakes are found as with length and alignment, but for those two.
//!
//! All of it needs records ([`enable_safety`](super::DebugConfig::enable_safety) or
//! [`enable_leak_detection`](super::DebugConfig::enable_leak_detection)): without them no block is known here.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator};

use super::{DebugAllocator, Found, Handler, Mistake, state::Named};

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// The length of the block that begins at `address`, as it was last asked for. `None`: no live block does, which is reported.
    #[track_caller]
    pub fn size_by_address(&self, address: NonNull<u8>) -> Option<NonZeroUsize> {
        self.layout_by_address(address, Found::Size).map(|(len, _)| len)
    }

    /// Changes the length of the block at `address` where that copies nothing, as `remap` does. `None`: nothing has changed.
    ///
    /// # Safety
    /// If a live block of this allocator begins at `address`, it is the caller's, with the pointer that its `alloc` gave.
    #[track_caller]
    pub unsafe fn remap_by_address(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let (len, alignment) = self.layout_by_address(address, Found::Remap)?;
        // SAFETY: the caller's promise, with the length and alignment that the block has.
        unsafe { self.remap(NonNull::slice_from_raw_parts(address, len.get()), alignment, new_len) }
    }

    /// Ends the block at `address`, whatever its length and alignment are. A mistake is reported, and nothing else happens.
    ///
    /// # Safety
    /// If a live block of this allocator begins at `address`, it is the caller's, and not used again.
    #[track_caller]
    pub unsafe fn free_by_address(&self, address: NonNull<u8>) {
        if self.config.keeps_records() {
            self.end_recorded(&Named { address: address.addr().get(), layout: None });
        }
    }

    #[track_caller]
    fn layout_by_address(&self, address: NonNull<u8>, found: Found) -> Option<(NonZeroUsize, Alignment)> {
        if !self.config.keeps_records() {
            return None;
        }
        let named = Named { address: address.addr().get(), layout: None };
        let looked = self.lock(found).named(&named, Mistake::UseAfterFree);
        match looked {
            Ok((_, record)) => Some((NonZeroUsize::new(record.len)?, record.alignment)),
            Err(denied) => {
                self.deny(denied, found, &named, &self.caller());
                None
            }
        }
    }
}
