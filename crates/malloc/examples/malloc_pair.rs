//! Pairs of `malloc` and `free`, to be counted from outside.
//!
//! ```console
//! $ cargo build --release -p terrace-malloc && cargo build --release -p terrace-malloc --example malloc_pair
//! $ LD_PRELOAD=target/release/libterrace_malloc.so valgrind --tool=callgrind target/release/examples/malloc_pair 101000 64
//! ```
//!
//! and with 1000: the difference is that of 100,000 rounds, of which the loop has 6 instructions.

use std::{env, hint::black_box};

#[inline(never)]
fn pairs(count: usize, len: usize) {
    // Through pointers: the compiler takes a pair whose block nobody uses out of the program.
    let (malloc, free) =
        black_box((libc::malloc as unsafe extern "C" fn(_) -> _, libc::free as unsafe extern "C" fn(_)));
    for _ in 0..count {
        // SAFETY: any length may be asked for.
        let block = unsafe { malloc(len) };
        // SAFETY: live, and not used again.
        unsafe { free(block) };
    }
}

fn main() {
    let numbers: Vec<usize> = env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [count, len] = numbers[..] else { panic!("pair COUNT LEN") };
    // A block that begins at a page is looked up when it is freed. Few do, but a slab's first does: it stays.
    // SAFETY: any length may be asked for.
    let kept = [(); 2].map(|()| unsafe { libc::malloc(len) });
    pairs(count, len);
    black_box(kept);
}
