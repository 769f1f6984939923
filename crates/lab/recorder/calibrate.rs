//! What recording a call costs on this machine, with this spool: so many calls without the recorder,
//! as many with it, in turns.
//!
//! Run in a process of the lab's own that ends right after, before any of its own code. The recorded
//! calls go the whole way, chunks and page faults included, on one thread; threads that contend for the stamp pay more.

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr::null_mut;

use super::{free, ink, malloc, next, os};

/// Odd, for the median: this machine has other things to do as well.
const TURNS: usize = 5;
const BLOCKS: usize = 64;
/// So that a turn's records fill a whole chunk.
const ROUNDS: usize = 400;

type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// # Safety
/// As `malloc`.
unsafe extern "C" fn plain_malloc(len: usize) -> *mut c_void {
    // SAFETY: any length may be asked for.
    unsafe { next::malloc(len) }
}

/// # Safety
/// As `free`.
unsafe extern "C" fn plain_free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { next::free(block) };
}

/// Measures both and leaves the figures in the control page.
pub fn run() {
    let (mut plain, mut recorded) = ([0; TURNS], [0; TURNS]);
    round_trips(plain_malloc, plain_free); // Warms the allocator up.
    for (plain, recorded) in plain.iter_mut().zip(&mut recorded) {
        *plain = round_trips(plain_malloc, plain_free);
        *recorded = round_trips(malloc, free);
    }
    ink::set_calibration(picoseconds_a_call(plain), picoseconds_a_call(recorded));
}

fn picoseconds_a_call(mut turns: [u64; TURNS]) -> u64 {
    turns.sort_unstable();
    turns[TURNS / 2] * 1000 / (ROUNDS * BLOCKS * 2) as u64
}

/// Nanoseconds for `ROUNDS` times `BLOCKS` allocations and their frees.
fn round_trips(malloc: Malloc, free: Free) -> u64 {
    let mut blocks = [null_mut(); BLOCKS];
    let begin = os::now();
    for _ in 0..ROUNDS {
        for (index, block) in blocks.iter_mut().enumerate() {
            // SAFETY: any length may be asked for.
            *block = black_box(unsafe { malloc(16 + index * 8) });
        }
        for block in blocks {
            // SAFETY: from this `malloc`, freed once.
            unsafe { free(black_box(block)) };
        }
    }
    os::now() - begin
}
