//! A pointer that a parser has moved forward, freed where it stands.
//!
//! ```text
//! free of 0x…, which is 2 bytes inside of 6 bytes at 0x…, block 1
//!   called at     examples/mistakes/moved_pointer.rs:25:20, thread …
//!   allocated     examples/mistakes/moved_pointer.rs:17:22, thread …
//!   to do: keep the pointer that alloc gave, and bring that one
//! ```

use std::ptr::NonNull;

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let text = debug.dupe(b"  name").unwrap();
    let mut word = text.cast::<u8>();
    // SAFETY: within the text, which has another byte behind its spaces.
    while unsafe { word.read() } == b' ' {
        // SAFETY: as above.
        word = unsafe { word.add(1) };
    }
    // SAFETY: the mistake: no block begins at the word.
    unsafe { debug.free_slice(NonNull::slice_from_raw_parts(word, 4)) };
    // SAFETY: live, and not used again: as it should have been.
    unsafe { debug.free_slice(text) };
}
