//! A raw pointer into an arena, used after the reset that a reference would not have outlived.
//!
//! ```text
//! write after free to 80 bytes at 0x…: 1 byte, 32 bytes from its start, block 1
//!   found at      examples/mistakes/main.rs:68:23, thread …
//!   allocated     examples/mistakes/after_reset.rs:17:25, thread …
//!   freed         examples/mistakes/after_reset.rs:18:11, thread …
//!   to do: look for a pointer that outlives the free, or free later; guard_pages shows the first wrong access
//! ```

use terrace::{AllocatorExt, ArenaAllocator, ResetMode};

use super::Debug;

pub fn run(debug: &Debug) {
    let mut arena = ArenaAllocator::new(debug);
    let request = arena.dupe(b"GET /index").unwrap();
    arena.reset(ResetMode::FreeAll);
    // SAFETY: the mistake: the request has ended with the reset.
    unsafe { request.cast::<u8>().write(b'P') };
}
