//! A pointer to an element, kept while the slice grows and moves.
//!
//! ```text
//! write after free to 12 bytes at 0x…: 4 bytes, 0 bytes from its start, block 1
//!   found at      examples/mistakes/main.rs:68:23, thread …
//!   allocated     examples/mistakes/stale_after_growth.rs:16:24, thread …
//!   freed         examples/mistakes/stale_after_growth.rs:19:33, thread …
//!   to do: look for a pointer that outlives the free, or free later; guard_pages shows the first wrong access
//! ```

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let scores = debug.dupe(&[3u32, 1, 4]).unwrap();
    let best = scores.cast::<u32>();
    // SAFETY: live.
    let scores = unsafe { debug.realloc_slice(scores, 1000) }.unwrap();
    // SAFETY: the mistake: `best` points to where the scores have been.
    unsafe { best.write(9) };
    // SAFETY: live, and not used again.
    unsafe { debug.free_slice(scores) };
}
