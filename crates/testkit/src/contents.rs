//! Looking at the bytes of a block before and after a call.
//!
//! ```text
//!  block  ├── window ──┤┄┄┄┄┄┄┄┄┄┄┄┄├── window ──┤      all of it up to LIMIT bytes,
//!                                               ▲      else both ends of what must be kept
//!                                             kept
//! ```
//!
//! A monitor fills what it hands out, so the bytes that it reads are initialised, but for what the program
//! itself leaves undefined (padding of a value): a tool that tracks that, like Miri, will object.

use std::{ops::Range, ptr::NonNull};

/// The most bytes of a block that are looked at.
const LIMIT: usize = 1 << 20;
/// What fresh memory is filled with, as the typed layer does.
const FRESH: u8 = 0xAA;

/// Where to look in a block of `len` bytes of which the first `kept` are kept.
fn windows(len: usize, kept: usize) -> [Range<usize>; 2] {
    if len <= LIMIT {
        return [0..len, 0..0];
    }
    let half = LIMIT / 2;
    [0..half, kept.saturating_sub(half).max(half)..kept.max(half)]
}

/// The bytes of a block as they were; by default none.
#[derive(Default)]
pub(crate) struct Snapshot {
    windows: [(usize, Vec<u8>); 2],
}

impl Snapshot {
    /// # Safety
    /// `memory` is live, and nobody writes to it meanwhile.
    pub(crate) unsafe fn take(memory: NonNull<[u8]>, new_len: usize) -> Self {
        let ranges = windows(memory.len(), memory.len().min(new_len));
        // SAFETY: live by the caller's promise; filled when it was handed out.
        let bytes = unsafe { memory.as_ref() };
        Self { windows: ranges.map(|range| (range.start, bytes[range].to_vec())) }
    }

    /// The first byte below `kept` that is another at `block` now.
    ///
    /// # Safety
    /// `block` is live with at least `kept` bytes, and nobody writes to it meanwhile, unless the snapshot is empty.
    pub(crate) unsafe fn first_change(&self, block: NonNull<u8>, kept: usize) -> Option<usize> {
        if self.windows.iter().all(|(_, was)| was.is_empty()) {
            return None;
        }
        // SAFETY: the caller's promise.
        let bytes = unsafe { NonNull::slice_from_raw_parts(block, kept).as_ref() };
        self.windows.iter().find_map(|(start, was)| {
            let end = (start + was.len()).min(kept);
            let now = bytes.get(*start..end)?;
            if now == &was[..now.len()] {
                return None;
            }
            let at = now.iter().zip(was).position(|(now, was)| now != was)?;
            Some(start + at)
        })
    }
}

/// Fills `from..len` of a block.
///
/// # Safety
/// `block` is live with `len` bytes, and nobody uses those.
pub(crate) unsafe fn fill(block: NonNull<u8>, from: usize, len: usize) {
    let [head, tail] = windows(len - from, len - from);
    for range in [head, tail] {
        // SAFETY: the ranges lie inside `from..len`.
        let start = unsafe { block.add(from + range.start) };
        // SAFETY: as above.
        unsafe { start.write_bytes(FRESH, range.len()) };
    }
}

/// The first byte that is not zero.
///
/// # Safety
/// `block` is live with `len` bytes, initialised.
pub(crate) unsafe fn first_not_zero(block: NonNull<u8>, len: usize) -> Option<usize> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { NonNull::slice_from_raw_parts(block, len).as_ref() };
    let zeroes = [0; 256]; // By whole chunks, since tests are not optimised.
    windows(len, len).into_iter().find_map(|range| {
        let chunks = bytes[range.clone()].chunks(zeroes.len());
        let at = chunks.clone().position(|chunk| *chunk != zeroes[..chunk.len()])?;
        let within = chunks.skip(at).flatten().position(|&byte| byte != 0)?;
        Some(range.start + at * zeroes.len() + within)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_not_zero_is_found_in_every_place() {
        let mut bytes = vec![0u8; 600];
        for at in 0..600 {
            bytes[at] = 1;
            // SAFETY: the vector's own bytes.
            assert_eq!(unsafe { first_not_zero(NonNull::from(&mut bytes[..]).cast(), 600) }, Some(at));
            // SAFETY: as above.
            assert_eq!(unsafe { first_not_zero(NonNull::from(&mut bytes[..]).cast(), at) }, None);
            bytes[at] = 0;
        }
    }

    #[test]
    fn windows_lie_inside_and_reach_both_ends() {
        for len in [1, 100, LIMIT, LIMIT + 1, 5 * LIMIT] {
            for kept in [1, len / 2 + 1, len] {
                let [head, tail] = windows(len, kept);
                assert!(head.start == 0 && head.end <= len && tail.end <= len && tail.start <= tail.end);
                assert!(head.end >= kept || tail.end == kept, "{len} {kept}");
            }
        }
    }

    #[test]
    fn a_change_is_found_where_it_is_and_not_behind_what_is_kept() {
        let mut bytes = vec![7u8; 3 * LIMIT];
        let memory = NonNull::from(&mut bytes[..]);
        // SAFETY: the vector's own bytes, written by nobody meanwhile.
        let before = unsafe { Snapshot::take(memory, LIMIT * 2) };
        for at in [0, LIMIT / 2 - 1, 2 * LIMIT - 1] {
            // SAFETY: inside the vector.
            let byte = unsafe { memory.cast::<u8>().add(at) };
            // SAFETY: as above.
            unsafe { byte.write(8) };
            // SAFETY: as above.
            assert_eq!(unsafe { before.first_change(memory.cast(), 2 * LIMIT) }, Some(at));
            // SAFETY: as above.
            assert_eq!(unsafe { before.first_change(memory.cast(), at) }, None);
            // SAFETY: as above.
            unsafe { byte.write(7) };
        }
    }
}
