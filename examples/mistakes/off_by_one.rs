//! A loop that goes up to the length, and not to the one before it.
//!
//! ```text
//! write past the end of 10 bytes at 0x…: 1 byte, 0 bytes behind the end, block 1
//!   found at      examples/mistakes/off_by_one.rs:24:20, thread …
//!   allocated     examples/mistakes/off_by_one.rs:16:25, thread …
//!   freed         examples/mistakes/off_by_one.rs:24:20, thread …
//!   to do: look for an index at or above the length; guard_pages shows the write itself
//! ```

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let squares = debug.alloc_slice::<u8>(10).unwrap();
    for index in 0..=10 {
        // SAFETY: the mistake: there is no index 10.
        let square = unsafe { squares.cast::<u8>().add(index) };
        // SAFETY: as above.
        unsafe { square.write((index * index) as u8) };
    }
    // SAFETY: live, and not used again.
    unsafe { debug.free_slice(squares) };
}
