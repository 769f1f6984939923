//! [`Base`]: a backing's block, and all that is done to its bytes.
//!
//! The one file that touches user memory: canaries, the fill of fresh and of freed bytes, and the looks at both. Metadata lies
//! elsewhere (`table.rs`), and only pointers that came from the backing are used (clause 5).
//!
//! Cost: what is written or read, once.

use core::{ops::Range, ptr::NonNull};

/// Fresh bytes.
pub(super) const FRESH: u8 = 0xAA;
/// Freed bytes.
pub(super) const FREED: u8 = 0xDD;
/// Bytes of a canary: unlike both, and unlike zero.
pub(super) const CANARY: u8 = 0xCA;

/// The first byte of a backing's block.
///
/// - **I1** From the backing, with the provenance of its whole block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base(NonNull<u8>);

// SAFETY: a pointer to a block that the allocator holds; what may be done with it is said where it is done.
unsafe impl Send for Base {}

impl Base {
    pub const fn new(block: NonNull<u8>) -> Self {
        Self(block)
    }

    pub const fn pointer(self) -> NonNull<u8> {
        self.0
    }

    /// # Safety
    /// `offset` is within the block.
    pub unsafe fn at(self, offset: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise; by I1 the pointer may reach it.
        unsafe { self.0.add(offset) }
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    /// `range` is within the block.
    pub unsafe fn part(self, range: Range<usize>) -> NonNull<[u8]> {
        // SAFETY: the caller's promise.
        NonNull::slice_from_raw_parts(unsafe { self.at(range.start) }, range.len())
    }

    /// Writes `byte` all over `range`.
    ///
    /// # Safety
    /// `range` is within the block, can be written, and nobody else uses it.
    pub unsafe fn fill(self, range: Range<usize>, byte: u8) {
        // SAFETY: within the block.
        let start = unsafe { self.at(range.start) };
        // SAFETY: the caller's promise.
        unsafe { start.write_bytes(byte, range.len()) };
    }

    /// The first and the last byte of `range` that are not `byte`, as offsets from its start.
    ///
    /// # Safety
    /// `range` is within the block, can be read, was filled, and nobody writes it meanwhile.
    pub unsafe fn changed(self, range: Range<usize>, byte: u8) -> Option<(usize, usize)> {
        // SAFETY: within the block.
        let start = unsafe { self.at(range.start) };
        // SAFETY: the caller's promise: readable, initialised, and not written meanwhile.
        let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), range.len()) };
        let first = first_other(bytes, byte)?;
        let last = bytes.iter().rposition(|&now| now != byte)?;
        Some((first, last))
    }
}

/// Compares in pieces, which the compiler makes wide; a freed block may be large.
fn first_other(bytes: &[u8], byte: u8) -> Option<usize> {
    const PIECE: usize = 64;
    let (pieces, rest) = bytes.as_chunks::<PIECE>();
    let whole = pieces.iter().position(|piece| *piece != [byte; PIECE]);
    let (from, tail) = match whole {
        Some(piece) => (piece * PIECE, pieces[piece].as_slice()),
        None => (pieces.len() * PIECE, rest),
    };
    tail.iter().position(|&now| now != byte).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_other_byte_is_found_wherever_it_is() {
        for len in [0, 1, 63, 64, 65, 200] {
            let mut bytes = std::vec![7; len];
            assert_eq!(first_other(&bytes, 7), None);
            for at in 0..len {
                bytes[at] = 8;
                assert_eq!(first_other(&bytes, 7), Some(at));
                bytes[at] = 7;
            }
        }
    }
}
