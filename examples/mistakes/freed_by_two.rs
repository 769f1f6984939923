//! Two threads, each of which thinks that it is the last to use a message.
//!
//! ```text
//! double free of 4 bytes at 0x…, block 1
//!   freed again   examples/mistakes/freed_by_two.rs:26:32, thread …
//!   allocated     examples/mistakes/freed_by_two.rs:18:25, thread …
//!   freed         examples/mistakes/freed_by_two.rs:26:32, thread …
//!   to do: free a block once: of the two places that free it, one is not its owner
//! ```

use std::{ptr::NonNull, sync::Mutex, thread};

use terrace::AllocatorExt;

use super::Debug;

pub fn run(debug: &Debug) {
    let message = debug.dupe(b"done").unwrap().cast::<u8>().addr().get();
    let turn = Mutex::new(0);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let _turn = turn.lock();
                let message = NonNull::new(message as *mut u8).unwrap();
                // SAFETY: the mistake: the other does the same.
                unsafe { debug.free_by_address(message) };
            });
        }
    });
}
