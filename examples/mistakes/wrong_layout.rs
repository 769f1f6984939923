//! Numbers that are freed as the bytes that they were sent as.
//!
//! ```text
//! free with a wrong alignment, 1 instead of 8, of 32 bytes at 0x…, block 1
//!   called at     examples/mistakes/wrong_layout.rs:21:20, thread …
//!   allocated     examples/mistakes/wrong_layout.rs:18:25, thread …
//!   freed         examples/mistakes/wrong_layout.rs:21:20, thread …
//!   to do: bring the alignment of the alloc: it is part of a block, as its length is
//! ```

use std::ptr::NonNull;

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let numbers = debug.alloc_slice::<u64>(4).unwrap();
    let bytes = NonNull::slice_from_raw_parts(numbers.cast::<u8>(), 4 * size_of::<u64>());
    // SAFETY: the mistake: as many bytes, but an alignment of 8, not of 1.
    unsafe { debug.free_slice(bytes) };
}
