//! What recording a call costs on this machine, with this spool: so many calls without the recorder,
//! as many with it, in turns.
//!
//! Run in a process of the lab's own that ends right after, before any of its own code. The recorded
//! calls go the whole way, chunks and page faults included, on one thread; threads that contend for the stamp pay more.

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr::null_mut;

use super::{free, ink, malloc, next, os};

/// With and without in turns, so that both meet the same disturbances.
const TURNS: usize = 5;
const BLOCKS: usize = 64;
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
    let (mut plain, mut recorded) = (0, 0);
    round_trips(plain_malloc, plain_free); // Warms the allocator up.
    for _ in 0..TURNS {
        plain += round_trips(plain_malloc, plain_free);
        recorded += round_trips(malloc, free);
    }
    let calls = (TURNS * ROUNDS * BLOCKS * 2) as u64;
    ink::set_calibration(plain * 1000 / calls, recorded * 1000 / calls);
}

/// Nanoseconds of processor time for `ROUNDS` times `BLOCKS` allocations and their frees.
fn round_trips(malloc: Malloc, free: Free) -> u64 {
    let mut blocks = [null_mut(); BLOCKS];
    let begin = os::processor_time();
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
    os::processor_time() - begin
}
