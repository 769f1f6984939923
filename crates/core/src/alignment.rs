//! [`Alignment`]: a power of two, kept as its logarithm.
//!
//! A type of its own, so that no `usize` is ever both a size and an alignment. All arithmetic
//! here is on plain integers: `forward` reports overflow, nothing else can overflow.
//!
//! Cost: every method is one or two instructions; with a constant alignment they fold away.
#![forbid(unsafe_code)]

use core::{
    alloc::Layout,
    ptr::{self, NonNull},
};

/// A power of two in bytes, from 1 to `1 << (usize::BITS - 1)`.
///
/// Kept as its base-2 logarithm (**I1**: below `usize::BITS`), as Zig's `std.mem.Alignment` is.
///
/// ```
/// use terrace_core::Alignment;
///
/// let eight = Alignment::of::<u64>();
/// assert_eq!(eight.bytes(), 8);
/// assert_eq!(eight.forward(13), Some(16));
/// assert_eq!(eight.backward(13), 8);
/// assert!(Alignment::new(24).is_none(), "24 is not a power of two");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alignment(u8);

impl Alignment {
    /// Every address is aligned to one byte.
    pub const ONE: Self = Self(0);

    /// The alignment that values of type `T` need.
    #[inline(always)]
    pub const fn of<T>() -> Self {
        Self(align_of::<T>().trailing_zeros() as u8)
    }

    /// The alignment of `bytes` bytes, or `None` where that is not a power of two.
    #[inline]
    pub const fn new(bytes: usize) -> Option<Self> {
        if bytes.is_power_of_two() { Some(Self(bytes.trailing_zeros() as u8)) } else { None }
    }

    /// The alignment that `layout` asks for.
    #[inline(always)]
    pub const fn of_layout(layout: Layout) -> Self {
        Self(layout.align().trailing_zeros() as u8)
    }

    /// The alignment of `1 << log2` bytes, or `None` where no `usize` holds that.
    #[inline]
    pub const fn from_log2(log2: u32) -> Option<Self> {
        if log2 < usize::BITS { Some(Self(log2 as u8)) } else { None }
    }

    /// In bytes.
    #[inline(always)]
    pub const fn bytes(self) -> usize {
        1 << self.0 // By I1 the shift is in range.
    }

    /// The base-2 logarithm.
    #[inline(always)]
    pub const fn log2(self) -> u32 {
        self.0 as u32
    }

    /// The lowest aligned address that is not below `address`, or `None` where there is none.
    #[inline(always)]
    pub const fn forward(self, address: usize) -> Option<usize> {
        match address.checked_add(self.bytes() - 1) {
            Some(sum) => Some(self.backward(sum)),
            None => None,
        }
    }

    /// The highest aligned address that is not above `address`.
    #[inline(always)]
    pub const fn backward(self, address: usize) -> usize {
        address & !(self.bytes() - 1)
    }

    /// Whether `address` is a multiple of this alignment.
    #[inline(always)]
    pub const fn is_aligned(self, address: usize) -> bool {
        address & (self.bytes() - 1) == 0
    }

    /// A pointer for zero bytes: aligned, not null, never to be read or written.
    #[inline(always)]
    pub const fn dangling(self) -> NonNull<u8> {
        match NonNull::new(ptr::without_provenance_mut(self.bytes())) {
            Some(dangling) => dangling,
            None => NonNull::dangling(), // Not reached: a power of two is not 0.
        }
    }

    /// The stricter of the two.
    #[inline]
    pub const fn max(self, other: Self) -> Self {
        if self.0 >= other.0 { self } else { other }
    }
}

impl core::fmt::Debug for Alignment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Alignment({})", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every alignment against plain division, on addresses around each power of two.
    #[test]
    fn rounding_agrees_with_division() {
        for log2 in 0..usize::BITS {
            let alignment = Alignment::from_log2(log2).unwrap();
            assert_eq!(alignment.bytes(), 1usize << log2);
            assert_eq!(Alignment::new(alignment.bytes()), Some(alignment));
            for near in (0..usize::BITS).map(|bit| 1usize << bit).chain([0, usize::MAX]) {
                for address in [near.wrapping_sub(1), near, near.wrapping_add(1)] {
                    let below = address / alignment.bytes() * alignment.bytes();
                    let above = if below == address { Some(below) } else { below.checked_add(alignment.bytes()) };
                    assert_eq!(alignment.backward(address), below);
                    assert_eq!(alignment.forward(address), above);
                    assert_eq!(alignment.is_aligned(address), below == address);
                }
            }
        }
    }

    #[test]
    fn only_powers_of_two_are_alignments() {
        for bytes in 0..4096 {
            assert_eq!(Alignment::new(bytes).is_some(), bytes.is_power_of_two());
        }
        assert_eq!(Alignment::from_log2(usize::BITS), None);
    }

    #[test]
    fn a_dangling_pointer_is_the_alignment_itself() {
        for log2 in 0..usize::BITS {
            let alignment = Alignment::from_log2(log2).unwrap();
            assert_eq!(alignment.dangling().addr().get(), alignment.bytes());
        }
    }

    #[test]
    fn a_layout_and_its_type_ask_for_the_same() {
        assert_eq!(Alignment::of_layout(Layout::new::<u128>()), Alignment::of::<u128>());
        assert_eq!(Alignment::of_layout(Layout::from_size_align(3, 4096).unwrap()).bytes(), 4096);
    }

    #[test]
    fn the_stricter_of_two_is_the_larger() {
        let (two, eight) = (Alignment::new(2).unwrap(), Alignment::new(8).unwrap());
        assert_eq!(two.max(eight), eight);
        assert_eq!(eight.max(two), eight);
        assert_eq!(eight.max(eight), eight);
    }
}
