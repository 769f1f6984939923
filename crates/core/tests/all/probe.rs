//! `Probe`: the system's allocator, remembering the line that each call came from.

use std::{cell::RefCell, num::NonZeroUsize, panic::Location, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, BulkFree, SystemAllocator};

#[derive(Default)]
pub struct Probe {
    callers: RefCell<Vec<&'static Location<'static>>>,
}

impl Probe {
    /// Who called since the last time.
    pub fn callers(&self) -> Vec<&'static Location<'static>> {
        self.callers.take()
    }
}

// SAFETY: every call goes to the system's allocator, which keeps the contract.
unsafe impl Allocator for Probe {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.callers.borrow_mut().push(Location::caller());
        SystemAllocator.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        self.callers.borrow_mut().push(Location::caller());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.callers.borrow_mut().push(Location::caller());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.callers.borrow_mut().push(Location::caller());
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { SystemAllocator.free(memory, alignment) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.callers.borrow_mut().push(Location::caller());
        SystemAllocator.alloc_zeroed(len, alignment)
    }
}

impl BulkFree for Probe {
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        self.callers.borrow_mut().push(Location::caller());
        for block in blocks {
            // SAFETY: the caller's promise, for each of them.
            unsafe { SystemAllocator.free(*block, alignment) };
        }
    }
}
