//! A string from one allocator, given back to another.
//!
//! ```text
//! free of a foreign pointer 0x…: no block begins there
//!   called at     examples/mistakes/wrong_allocator.rs:16:20, thread …
//!   to do: free it with the allocator that made it; a block freed long ago is known again with retain_metadata
//! ```

use terrace::{AllocatorExt, SystemAllocator};

use super::Debug;

pub fn run(debug: &Debug) {
    let name = SystemAllocator.dupe(b"from elsewhere").unwrap();
    // SAFETY: the mistake: `debug` did not make it.
    unsafe { debug.free_slice(name) };
    // SAFETY: live, and not used again: as it should have been.
    unsafe { SystemAllocator.free_slice(name) };
}
