//! What the replayed program does with its blocks: the recorded one wrote into them, and so must we,
//! or memory that nobody touches would look free.
//!
//! ```text
//! block   0        stride      2·stride        len-1      stride: the page size
//!  page   ^            ^            ^            ^        writes, one byte each
//!  fill   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^        every byte
//! ```
//!
//! Consecutive places of `page` are at most a page apart, so every page that the block reaches
//! into is written, wherever the block begins. The places depend on the length alone, so that all
//! stacks do the same work. Of a block larger than [`TOUCH_MAX`] only that much is touched: programs
//! reserve such blocks, they seldom fill them.
//!
//! Each place gets the block's tag; a checked replay reads the tags again before a free and
//! after a realloc, and finds blocks that overlap or lose their contents.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};

/// No byte beyond this offset is touched.
pub const TOUCH_MAX: usize = 64 << 20;

/// Which bytes of a new block the replay writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// One byte in each page, and the last byte.
    Page,
    /// Every byte.
    Fill,
    /// Nothing: the allocator's own work alone, and no check of contents.
    None,
}

/// The policy, with what it needs to know of the machine.
#[derive(Clone, Copy)]
pub struct Touch {
    pub policy: Policy,
    /// The page size.
    pub stride: usize,
}

impl Touch {
    /// Writes `tag` to the places of a block of `len` bytes that lie at `from` or beyond.
    ///
    /// # Safety
    /// `block` is a live block of `len` bytes of a [`Target`](super::target::Target).
    #[inline]
    pub unsafe fn write(&self, block: NonNull<u8>, from: usize, len: usize, tag: u8) {
        let len = len.min(TOUCH_MAX);
        match self.policy {
            Policy::None => {}
            Policy::Page => {
                let mut place = from.next_multiple_of(self.stride);
                while place < len {
                    // SAFETY: `place < len <= TOUCH_MAX`, so it lies in the bytes that a target lends.
                    unsafe { put(block, place, tag) };
                    place += self.stride;
                }
                // SAFETY: as above; `len` is not zero.
                unsafe { put(block, len - 1, tag) };
            }
            Policy::Fill if from < len => {
                // SAFETY: `from < len`.
                let rest = unsafe { block.add(from) };
                // SAFETY: the `len - from` bytes from there are lent by the target.
                unsafe { rest.write_bytes(tag, len - from) };
            }
            Policy::Fill => {}
        }
    }

    /// Whether every place that `write` wrote in the first `len` bytes of a block, which was then
    /// `written` bytes long, still holds `tag`.
    ///
    /// # Safety
    /// `block` is a live block of at least `min(len, written)` bytes of a target, not the null one,
    /// and `write` wrote it.
    pub unsafe fn holds(&self, block: NonNull<u8>, len: usize, written: usize, tag: u8) -> bool {
        let (len, written) = (len.min(written).min(TOUCH_MAX), written.min(TOUCH_MAX));
        let step = match self.policy {
            Policy::None => return true,
            Policy::Page => self.stride,
            Policy::Fill => 1,
        };
        let last = (written <= len).then_some(written - 1);
        // SAFETY: every place is below `len`, and `write` wrote it.
        (0..len).step_by(step).chain(last).all(|place| unsafe { get(block, place) } == tag)
    }
}

/// # Safety
/// The byte at `place` is lent by the target.
#[inline(always)]
unsafe fn put(block: NonNull<u8>, place: usize, tag: u8) {
    // SAFETY: inside the block.
    let byte = unsafe { block.add(place) };
    // SAFETY: lent for reading and writing; one byte is always aligned.
    unsafe { byte.write(tag) };
}

/// # Safety
/// The byte at `place` is lent by the target and initialised.
#[inline(always)]
unsafe fn get(block: NonNull<u8>, place: usize) -> u8 {
    // SAFETY: inside the block.
    let byte = unsafe { block.add(place) };
    // SAFETY: lent and aligned. Atomic, so that the compiler keeps each look even where it knows the write.
    unsafe { AtomicU8::from_ptr(byte.as_ptr()) }.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: &mut [u8]) -> NonNull<u8> {
        NonNull::new(bytes.as_mut_ptr()).unwrap()
    }

    fn written(policy: Policy, from: usize, len: usize) -> Vec<usize> {
        let mut bytes = vec![0; len];
        let touch = Touch { policy, stride: 16 };
        // SAFETY: `bytes` has `len` bytes.
        unsafe { touch.write(block(&mut bytes), from, len, 7) };
        (0..len).filter(|place| bytes[*place] == 7).collect()
    }

    #[test]
    fn every_page_is_written_wherever_the_block_begins() {
        for len in 1..100 {
            let places = written(Policy::Page, 0, len);
            for start in 0..16 {
                let mut pages: Vec<usize> = places.iter().map(|place| (start + place) / 16).collect();
                pages.dedup();
                assert_eq!(pages, (0..=(start + len - 1) / 16).collect::<Vec<_>>(), "{start} {len}");
            }
        }
    }

    #[test]
    fn only_what_a_block_grew_by_is_written_again() {
        assert_eq!(written(Policy::Page, 20, 70), [32, 48, 64, 69]);
        assert_eq!(written(Policy::Fill, 68, 70), [68, 69]);
        assert!(written(Policy::None, 0, 70).is_empty());
    }

    #[test]
    fn a_byte_that_changed_is_seen_after_growing_and_after_shrinking() {
        for policy in [Policy::Page, Policy::Fill] {
            let touch = Touch { policy, stride: 16 };
            let mut bytes = [0; 64];
            let memory = block(&mut bytes);
            // SAFETY: 64 bytes, of which the first 40 are written.
            unsafe { touch.write(memory, 0, 40, 9) };
            // SAFETY: as above.
            assert!(unsafe { touch.holds(memory, 64, 40, 9) }, "grown");
            // SAFETY: as above.
            assert!(unsafe { touch.holds(memory, 30, 40, 9) }, "shrunk");
            // SAFETY: inside the array.
            unsafe { put(memory, 16, 1) };
            // SAFETY: as above.
            assert!(!unsafe { touch.holds(memory, 30, 40, 9) }, "changed");
        }
    }
}
