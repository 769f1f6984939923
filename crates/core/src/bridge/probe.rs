//! No part of the crate: what `build.rs` compiles to learn whether the bridge to std's `Allocator` will compile.
#![no_std]
#![feature(allocator_api, allow_internal_unstable)]

use core::{
    alloc::{AllocError, Allocator, Layout},
    ptr::NonNull,
};

/// As the macros of `shell.rs` ask for it.
#[macro_export]
#[allow_internal_unstable(allocator_api)]
macro_rules! probe {
    () => {};
}

/// Every method that the bridge writes, with the signature that it writes.
struct Probe;

// SAFETY: it hands out no block.
unsafe impl Allocator for Probe {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    fn allocate_zeroed(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}

    unsafe fn grow(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    unsafe fn grow_zeroed(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    unsafe fn shrink(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }
}
