//! Your own allocator in 40 lines, judged by the testkit.
//!
//! ```console
//! $ cargo run -p terrace-examples --example own_allocator
//! 64 programs in 1996 runs keep the contract; 1000 exact pushes made 11 requests
//! with a mistake in `free` the testkit says:
//! the contract is broken by this script, after which what is live is freed:
//!
//! start offset 0 chunk 1 limit 8
//! alloc 3 align 1
//! …
//! ```
//!
//! `Roomy` rounds lengths up to a power of two, so that a block grows in place until its room is full. It keeps
//! nothing: the room follows from the length, which the caller names at every call.
//!
//! ```text
//! one block of `backing`
//! +----------------------+---------------+
//! | len bytes, caller's  | room to grow  |   len + room to grow = the next power of two
//! +----------------------+---------------+
//! ```
//!
//! - **I1** A live block of `len` bytes is a live block of `backing` with `room(len)` bytes and the same alignment.

use std::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Bridge, Stats, SystemAllocator};
use terrace_heap::StatsAllocator;
use terrace_testkit::{Failure, Programs, programs};

/// Rounds up, and asks `backing` for that.
struct Roomy<A> {
    backing: A,
    /// For the demonstration: frees the length that the caller sees, which is not what came from the backing.
    mistaken: bool,
}

/// What a block of `len` bytes takes from the backing; `None` where no `usize` holds it.
fn room(len: NonZeroUsize) -> Option<NonZeroUsize> {
    len.checked_next_power_of_two()
}

/// The backing's view of a live block: its length had a room when it was made.
fn roomy(memory: NonNull<[u8]>) -> NonNull<[u8]> {
    let len = NonZeroUsize::new(memory.len()).and_then(room).map_or(0, NonZeroUsize::get);
    NonNull::slice_from_raw_parts(memory.cast(), len)
}

// SAFETY: by I1 live blocks are distinct live blocks of `backing`, which keeps the contract; a request whose sum
// overflows is refused, and what goes back is what came, since the room is the same for each length that it has had.
unsafe impl<A: Allocator> Allocator for Roomy<A> {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc(room(len).ok_or(AllocError)?, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let Some(room) = room(new_len) else { return false };
        // SAFETY: by I1 a live block of `backing`; where it says yes, I1 holds for the new length.
        room.get() == roomy(memory).len() || unsafe { self.backing.resize(roomy(memory), alignment, room) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let room = room(new_len)?;
        if room.get() == roomy(memory).len() {
            return Some(memory.cast());
        }
        // SAFETY: by I1 a live block of `backing`; where it says yes, I1 holds for the new length.
        unsafe { self.backing.remap(roomy(memory), alignment, room) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let block = if self.mistaken { memory } else { roomy(memory) };
        // SAFETY: by I1 a live block of `backing`, given up by the caller (but for the mistake, which the testkit is
        // to find: its monitor stands below and lets no such call through).
        unsafe { self.backing.free(block, alignment) }
    }
}

/// The testkit's verdict: random programs, each with every call of the backing refused in turn.
fn judged(mistaken: bool) -> Result<(u64, u64), Box<Failure>> {
    let summary = programs(&Programs::default(), |start, check| check(&Roomy { backing: start.backing(), mistaken }))?;
    Ok((summary.programs, summary.runs))
}

/// Requests to the backing for a vector that never takes more than it needs.
fn requests(pushes: u32) -> u64 {
    let counted = StatsAllocator::new(SystemAllocator);
    let mut numbers = allocator_api2_02::vec::Vec::new_in(Bridge::new(Roomy { backing: &counted, mistaken: false }));
    for n in 0..pushes {
        numbers.reserve_exact(1); // As who saves memory would, at the price of a request each.
        numbers.push(n);
    }
    counted.stats().total_allocations
}

fn main() -> Result<(), Box<Failure>> {
    let (programs, runs) = judged(false)?;
    println!(
        "{programs} programs in {runs} runs keep the contract; 1000 exact pushes made {} requests",
        requests(1000)
    );
    if let Err(failure) = judged(true) {
        println!("with a mistake in `free` the testkit says:\n{failure}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_testkit::conformance;

    #[test]
    fn it_keeps_the_contract() {
        conformance::all(|start, check| check(&Roomy { backing: start.backing(), mistaken: false }));
    }

    #[test]
    fn a_mistake_in_free_is_named_by_its_clause_and_a_short_script() {
        let failure = judged(true).unwrap_err();
        assert_eq!(failure.clause(), 11, "{failure}");
        assert!(failure.script.ops.len() <= 2, "{failure}");
    }

    #[test]
    fn each_power_of_two_is_one_request() {
        assert_eq!(requests(1000), 11, "of 4, 8, 16 … 4096 bytes");
    }

    #[test]
    fn a_block_grows_in_place_until_its_room_is_full() {
        let counted = StatsAllocator::new(SystemAllocator);
        let roomy = Roomy { backing: &counted, mistaken: false };
        let (len, full) = (NonZeroUsize::new(33).unwrap(), NonZeroUsize::new(64).unwrap());
        let block = roomy.alloc(len, Alignment::ONE).unwrap();
        // SAFETY: live, 33 bytes.
        assert!(unsafe { roomy.resize(NonNull::slice_from_raw_parts(block, 33), Alignment::ONE, full) });
        let memory = NonNull::slice_from_raw_parts(block, 64);
        // SAFETY: live, 64 bytes.
        assert!(!unsafe { roomy.resize(memory, Alignment::ONE, full.saturating_add(1)) });
        // SAFETY: live, given up here.
        unsafe { roomy.free(memory, Alignment::ONE) };
        assert_eq!((counted.stats().total_allocations, counted.stats().current_bytes), (1, 0));
    }
}
