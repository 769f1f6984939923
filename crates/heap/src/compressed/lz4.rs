//! [`Lz4`]: the codec of the feature `lz4`, by the crate lz4_flex in its form without std and without unsafe code.
//!
//! Cost: a table of 16 KiB on the stack while it packs; it asks nobody for memory.
#![forbid(unsafe_code)]

use lz4_flex::block;

use super::Codec;

/// LZ4's block format: quick in both directions, text to about a third.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lz4;

impl Codec for Lz4 {
    fn bound(&self, len: usize) -> usize {
        // The crate's own sum wraps near the end of the address space, and its positions have 32 bits.
        if u32::try_from(len).is_ok() { block::get_maximum_output_size(len) } else { usize::MAX }
    }

    fn pack(&self, plain: &[u8], packed: &mut [u8]) -> Option<usize> {
        block::compress_into(plain, packed).ok()
    }

    fn unpack(&self, packed: &[u8], plain: &mut [u8]) -> bool {
        block::decompress_into(packed, plain).is_ok_and(|len| len == plain.len())
    }
}
