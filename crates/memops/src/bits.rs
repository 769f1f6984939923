//! Bitmaps in words: what the mark and sweep of a collector asks, many bits at a time.
//!
//! ```text
//!   live objects   1 1 0 1 1 0 0 1     bit n is bit n % 64 of word n / 64
//!   marked         1 0 0 1 0 0 0 0
//!   and_not        0 1 0 0 1 0 0 1     the garbage: count_ones, first_set_from, for_each_word
//! ```
//!
//! Plain loops, compiled once for each level: the compiler makes vectors of them, 2 to 8 words wide. All are linear in the words.

use crate::level::ops;

/// Takes out of `into` the bits that are set in `mask`. Words that only one of them has stay as they are.
///
/// ```
/// let mut garbage = [0b1001_1011]; // all objects
/// terrace_memops::bits::and_not(&mut garbage, &[0b0000_1001]); // but for the marked ones
/// assert_eq!(garbage, [0b1001_0010]);
/// ```
pub fn and_not(into: &mut [u64], mask: &[u64]) {
    // SAFETY: L1.
    unsafe { (ops().and_not)(into, mask) }
}

/// How many bits are set.
///
/// ```
/// assert_eq!(terrace_memops::bits::count_ones(&[0b101, 0, u64::MAX]), 66);
/// ```
pub fn count_ones(words: &[u64]) -> usize {
    // SAFETY: L1.
    unsafe { (ops().count_ones)(words) }
}

/// The first set bit that is not below `bit`.
///
/// ```
/// use terrace_memops::bits::first_set_from;
///
/// assert_eq!(first_set_from(&[0b1001, 0, 1], 1), Some(3));
/// assert_eq!(first_set_from(&[0b1001, 0, 1], 4), Some(128));
/// assert_eq!(first_set_from(&[0b1001, 0, 1], 129), None);
/// ```
pub fn first_set_from(words: &[u64], bit: usize) -> Option<usize> {
    let index = bit / 64;
    let first = *words.get(index)? & u64::MAX << (bit % 64);
    if first != 0 {
        return Some(index * 64 + first.trailing_zeros() as usize);
    }
    let rest = &words[index + 1..];
    // SAFETY: L1.
    let zeros = unsafe { (ops().first_nonzero)(rest) }?;
    Some((index + 1 + zeros) * 64 + rest[zeros].trailing_zeros() as usize)
}

/// Calls `visit` with the index and the value of each word that is not zero, in order. The zero ones between them are passed
/// over several at a time.
///
/// ```
/// let mut freed = Vec::new();
/// terrace_memops::bits::for_each_word(&[0, 0b101, 0, 1 << 63], |index, mut word| {
///     while word != 0 {
///         freed.push(index * 64 + word.trailing_zeros() as usize);
///         word &= word - 1;
///     }
/// });
/// assert_eq!(freed, [64, 66, 255]);
/// ```
pub fn for_each_word(words: &[u64], mut visit: impl FnMut(usize, u64)) {
    let mut at = 0;
    // SAFETY: L1.
    while let Some(zeros) = unsafe { (ops().first_nonzero)(&words[at..]) } {
        at += zeros;
        while let Some(&word) = words.get(at).filter(|word| **word != 0) {
            visit(at, word);
            at += 1;
        }
    }
}

#[inline(always)]
pub(crate) fn and_not_plain(into: &mut [u64], mask: &[u64]) {
    into.iter_mut().zip(mask).for_each(|(word, mask)| *word &= !mask);
}

#[inline(always)]
pub(crate) fn count_ones_plain(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// The index of the first word that is not zero.
#[inline(always)]
pub(crate) fn first_nonzero_plain(words: &[u64]) -> Option<usize> {
    let (eights, _) = words.as_chunks::<8>();
    let is_zero = |eight: &&[u64; 8]| eight.iter().fold(0, |all, word| all | word) == 0;
    let zeros = 8 * eights.iter().take_while(is_zero).count();
    words[zeros..].iter().position(|word| *word != 0).map(|index| zeros + index)
}
