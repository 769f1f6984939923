//! A list that frees its first node and forgets the others.
//!
//! ```text
//! leak of 16 bytes at 0x…, block 1
//!   found at      examples/mistakes/main.rs:68:23, thread …
//!   allocated     examples/mistakes/leaky_list.rs:22:22, thread …
//!   to do: free it when it is no longer needed, or let a collection or an arena own it
//! ```

use std::ptr::NonNull;

use terrace::AllocatorExt;

use super::Debug;

struct Node {
    number: u64,
    next: Option<NonNull<Node>>,
}

fn node(debug: &Debug, number: u64, next: Option<NonNull<Node>>) -> NonNull<Node> {
    let node = debug.create::<Node>().unwrap();
    // SAFETY: live, and of this type.
    unsafe { node.write(Node { number, next }) };
    node
}

pub fn run(debug: &Debug) {
    let last = node(debug, 2, None);
    let first = node(debug, 1, Some(last));
    // SAFETY: live, and written.
    let Node { number, next } = unsafe { first.read() };
    assert_eq!((number, next), (1, Some(last)));
    // The mistake: `next` is not followed.
    // SAFETY: live, and not used again.
    unsafe { debug.destroy(first) };
}
