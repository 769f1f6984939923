//! The general-purpose allocator over a buffer: many threads, nothing of the system beneath, and an end that is an error.
//!
//! ```console
//! $ cargo run -p terrace-examples --example smp_over_fixed_buffer
//! 4 threads made 4000 messages in 4 MiB and freed them
//! then the buffer was filled with blocks of 100 bytes: 28620 of them, 68 % of it, and the next was refused
//! ```
//!
//! A device has four megabytes of fast memory, or a service wants a limit that cannot be passed. `SmpAllocator` stands on any
//! backing: here on a buffer that threads share, asked for regions of 64 KiB instead of the usual 4 MiB.

use core::mem::MaybeUninit;
use std::thread;

use terrace::{AllocError, AllocatorExt, SmpAllocator, SyncFixedBuffer, ThreadSlots};

const BUFFER: usize = 4 << 20;
const REGION: usize = 64 << 10;

type Heap<'a> = SmpAllocator<&'a SyncFixedBuffer<'a>, REGION>;

/// Messages that one thread makes, two at a time, and frees.
fn messages(heap: &Heap<'_>, thread: u8, count: usize) -> Result<(), AllocError> {
    for number in 0..count {
        let len = 1 + number * 37 % 700;
        let (message, answer) = (heap.alloc_slice::<u8>(len)?, heap.alloc_slice::<u8>(len / 2 + 1)?);
        // SAFETY: fresh, and of `len` bytes.
        unsafe { message.cast::<u8>().write_bytes(thread, len) };
        // SAFETY: written above.
        assert!(unsafe { message.as_ref() }.iter().all(|&byte| byte == thread));
        for block in [message, answer] {
            // SAFETY: live, of this allocator, not used again.
            unsafe { heap.free_slice(block) };
        }
    }
    Ok(())
}

/// The blocks of 100 bytes that fit into the buffer after four threads have used and freed it.
fn story() -> Result<usize, AllocError> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let fixed = SyncFixedBuffer::new(&mut buffer);
    let heap = Heap::with_region_size(&fixed, ThreadSlots);
    thread::scope(|scope| {
        let heap = &heap;
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || messages(heap, thread, 1000))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no message panics"))
    })?;
    heap.trim(); // What the threads left in their magazines could only be had as blocks of the same size.
    let blocks: Vec<_> = core::iter::from_fn(|| heap.dupe(&[7u8; 100]).ok()).collect();
    for block in &blocks {
        // SAFETY: live, of this allocator, not used again.
        unsafe { heap.free_slice(*block) };
    }
    Ok(blocks.len())
}

fn main() -> Result<(), AllocError> {
    let blocks = story()?;
    println!("4 threads made 4000 messages in 4 MiB and freed them");
    let percent = blocks * 100 * 100 / BUFFER;
    println!(
        "then the buffer was filled with blocks of 100 bytes: {blocks} of them, {percent} % of it, and the next was refused"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_buffer_can_be_had_and_its_end_is_an_error() {
        let bytes = story().unwrap() * 100;
        assert!((BUFFER / 2..BUFFER).contains(&bytes), "{bytes} bytes of {BUFFER}");
    }
}
