//! Blocks for those who ask before the recorder knows the allocator behind it.
//!
//! ```text
//! static ROOM, 1 MiB of zero pages
//! +-----+---------+-----+-----------+------------------------------+
//! | len |  block  | len |   block   |                              |
//! +-----+---------+-----+-----------+------------------------------+
//!       ^ 16 or more aligned         ^ TAKEN
//! ```
//!
//! `dlsym` may ask for memory while it looks for `malloc`, and so may whatever the dynamic
//! linker starts before the recorder. Such blocks are never recorded and their room is never used again.
//!
//! - **E1** The bytes below `TAKEN` belong to the blocks handed out, each once. None was written
//!   before, so all are zero.
//! - **E2** The word before each block holds its length.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

const ROOM_BYTES: usize = 1024 * 1024;
const LEN_BYTES: usize = size_of::<usize>();

#[repr(align(4096))]
struct Room(UnsafeCell<[u8; ROOM_BYTES]>);

// SAFETY: by E1 no two threads get the same bytes, and nobody reaches them but through blocks.
unsafe impl Sync for Room {}

static ROOM: Room = Room(UnsafeCell::new([0; ROOM_BYTES]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Zeroed bytes (E1), or null when the room is used up.
#[cold]
#[inline(never)]
pub fn alloc(len: usize, align: usize) -> *mut c_void {
    let mut taken = TAKEN.load(Ordering::Relaxed);
    loop {
        let Some(place) = place(taken, len, align.max(16)) else { return null_mut() };
        match TAKEN.compare_exchange_weak(taken, place + len, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return hand_out(place, len),
            Err(other) => taken = other,
        }
    }
}

/// Where a block goes when `taken` bytes are used: room for its length before it, and it ends inside.
/// Offsets stand for addresses up to the room's own alignment, which is a page.
fn place(taken: usize, len: usize, align: usize) -> Option<usize> {
    if align > 4096 {
        return None;
    }
    let place = (taken + LEN_BYTES).next_multiple_of(align);
    (place <= ROOM_BYTES && len <= ROOM_BYTES - place).then_some(place)
}

fn hand_out(place: usize, len: usize) -> *mut c_void {
    let start: *mut u8 = ROOM.0.get().cast();
    // SAFETY: `place` lies inside the room.
    let block = unsafe { start.add(place) };
    // SAFETY: `place` is `LEN_BYTES` or more past what was taken before.
    let len_word = unsafe { block.sub(LEN_BYTES) }.cast::<usize>();
    // SAFETY: by E1 these bytes are this block's; `place` is a multiple of 16, so the word is aligned.
    unsafe { len_word.write(len) };
    block.cast()
}

/// Whether [`alloc`] gave out `block`.
#[inline(always)]
pub fn owns(block: *const c_void) -> bool {
    block.addr().wrapping_sub(ROOM.0.get().addr()) < ROOM_BYTES
}

/// The length of a block.
///
/// # Safety
/// `block` came from [`alloc`].
pub unsafe fn len(block: *const c_void) -> usize {
    // SAFETY: by E2 the word before it is part of the room.
    let len_word = unsafe { block.byte_sub(LEN_BYTES) }.cast::<usize>();
    // SAFETY: written when the block was handed out (E2), and nobody else's.
    unsafe { len_word.read() }
}
