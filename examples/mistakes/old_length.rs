//! A buffer that has grown, freed with the length that it had.
//!
//! ```text
//! free with a wrong length, 80 bytes, of 120 bytes at 0x…, block 2
//!   called at     examples/mistakes/old_length.rs:22:20, thread …
//!   allocated     examples/mistakes/old_length.rs:20:33, thread …
//!   freed         examples/mistakes/old_length.rs:22:20, thread …
//!   to do: bring the length of the last alloc, resize or remap, in bytes
//! ```

use std::ptr::NonNull;

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let line = debug.alloc_slice::<u8>(80).unwrap();
    // SAFETY: live.
    let longer = unsafe { debug.realloc_slice(line, 120) }.unwrap();
    // SAFETY: the mistake: 120 bytes by now.
    unsafe { debug.free_slice(NonNull::slice_from_raw_parts(longer.cast::<u8>(), 80)) };
}
