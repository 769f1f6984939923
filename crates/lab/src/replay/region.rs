//! From `region(SIZE, FRAMES)` to an allocator of bytes.
//!
//! ```text
//!  ground   [ SIZE bytes: the frames, at a multiple of 4 MiB if so large ]   [ metadata ]   two requests, held to the end
//!  frames   numbered by their addresses: what is aligned as a frame is aligned as bytes
//! ```

use std::num::NonZeroUsize;

use terrace_core::{Alignment, Allocator, Owns};
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, FrameAllocator, FrameError, Frames, HybridAllocator,
    MemoryMap, Order, Region,
};
use terrace_sys::{PageAllocator, ThreadSlots};

use super::dispatch::{Ground, counted};
use crate::stack::frames::{FRAME, FrameWord};

/// So that the pieces of `smp` lie in it without a rest, and blocks of 2 MiB are pages of that size where the system has them.
const ALIGNMENT: u64 = 4 << 20;

/// A region, which threads may share, and which knows its own blocks.
pub type Shared = Box<dyn Owns + Send + Sync>;

/// Over so many bytes; whether they can be had was tried before. With a `ground` to fill, the pages are counted.
pub fn region(bytes: u64, frames: FrameWord, ground: Option<&mut Ground>) -> Shared {
    let made = match ground {
        None => over(bytes, frames, &PageAllocator),
        Some(ground) => over(bytes, frames, counted(PageAllocator, ground)),
    };
    made.expect("the parser refuses sizes that are wrong, and whether there is memory was tried before")
}

fn over<A: Allocator + Sync>(bytes: u64, word: FrameWord, backing: &'static A) -> Result<Shared, FrameError> {
    let len = usize::try_from(bytes).ok().and_then(NonZeroUsize::new).ok_or(FrameError::InvalidSize)?;
    let alignment = if bytes < ALIGNMENT { FRAME } else { ALIGNMENT };
    let alignment = Alignment::new(alignment as usize).ok_or(FrameError::InvalidAlignment)?;
    let base = backing.alloc(len, alignment).map_err(|_| FrameError::OutOfMemory)?;
    let span = Frames::new(base.addr().get() / FRAME as usize, len.get() / FRAME as usize);
    let map = MemoryMap::of(span).map_err(|_| FrameError::InvalidSize)?;
    Ok(match word {
        FrameWord::Bitmap => cut(base, BitmapAllocator::new_in(&map, backing)?)?,
        FrameWord::Buddy => cut(base, BuddyAllocator::new_in(&map, Order::MIN, backing)?)?,
        FrameWord::Classic => cut(base, ClassicBuddyAllocator::new_in(&map, backing)?)?,
        FrameWord::Hybrid => cut(base, HybridAllocator::new_in(&map, ThreadSlots, backing)?)?,
    })
}

/// `frames` as the bytes of a block that is never given back: the process ends with the replay of its one stack.
fn cut<F>(base: std::ptr::NonNull<u8>, frames: F) -> Result<Shared, FrameError>
where
    F: FrameAllocator + Send + Sync + 'static,
{
    // SAFETY: `over` has just been given a block from `base` on with a page for each frame of the span, which nobody
    // else knows and nobody gives back.
    Ok(Box::new(unsafe { Region::new(base, frames) }?))
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::*;
    use crate::stack::frames::FRAME_WORDS;

    #[test]
    fn every_allocator_of_frames_hands_out_the_whole_region_as_bytes() {
        let frame = NonZeroUsize::new(FRAME as usize).expect("not zero");
        for (name, word, _) in FRAME_WORDS {
            let region = region(2 << 20, word, None);
            let mut blocks = Vec::new();
            while let Ok(block) = region.alloc(frame, Alignment::ONE) {
                assert!(region.owns(block), "{name}");
                // SAFETY: a live block of so many bytes.
                unsafe { block.write_bytes(0xA5, frame.get()) };
                blocks.push(block);
            }
            assert_eq!(blocks.len(), 512, "{name}");
            for block in blocks {
                // SAFETY: it is live, of this length and alignment.
                unsafe { region.free(NonNull::slice_from_raw_parts(block, frame.get()), Alignment::ONE) };
            }
            let all = NonZeroUsize::new(2 << 20).expect("not zero");
            assert!(region.alloc(all, Alignment::ONE).is_ok(), "{name}: one block again");
        }
    }

    #[test]
    fn what_a_region_takes_is_counted() {
        let mut ground = None;
        let region = region(8 << 20, FrameWord::Hybrid, Some(&mut ground));
        let counts = ground.expect("it is counted").stats();
        assert_eq!(counts.total_allocations, 2, "the frames and the metadata");
        assert!((8 << 20..9 << 20).contains(&counts.current_bytes), "{}", counts.current_bytes);
        drop(region);
    }

    #[test]
    fn blocks_are_aligned_as_asked() {
        let region = region(16 << 20, FrameWord::Buddy, None);
        let alignment = Alignment::new(4 << 20).expect("a power of two");
        let block = region.alloc(NonZeroUsize::new(4 << 20).expect("not zero"), alignment).expect("there is room");
        assert!(block.addr().get().is_multiple_of(4 << 20));
    }
}
