//! A length written before the text, as some C libraries do, in a block that has no room for it.
//!
//! ```text
//! write before the start of 7 bytes at 0x…: 1 byte, from 1 byte before it, block 1
//!   found at      examples/mistakes/negative_index.rs:22:20, thread …
//!   allocated     examples/mistakes/negative_index.rs:16:22, thread …
//!   freed         examples/mistakes/negative_index.rs:22:20, thread …
//!   to do: look for an index below 0; guard_pages or a larger canary shows more
//! ```

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let text = debug.dupe(b"terrace").unwrap();
    // SAFETY: the mistake: the block begins with the text.
    let len = unsafe { text.cast::<u8>().sub(1) };
    // SAFETY: as above.
    unsafe { len.write(7) };
    // SAFETY: live, and not used again.
    unsafe { debug.free_slice(text) };
}
