//! Whole numbers in as few bytes as they need: seven bits a byte, the low ones first, the top bit
//! set on all but the last (LEB128). Differences are folded so that small ones of either sign stay
//! small (zigzag).
//!
//! Costs: one byte below 128, ten at most.
#![forbid(unsafe_code)]

/// The longest encoding of 64 bits.
pub(crate) const MAX_LEN: usize = 10;

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads at `*at` and moves it behind. `None`: the bytes end too early, or the number has more than 64 bits.
#[inline]
pub(crate) fn get(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The way from `from` to `to`, folded.
pub(crate) fn difference(from: u32, to: u32) -> u64 {
    let way = i64::from(to) - i64::from(from);
    ((way << 1) ^ (way >> 63)) as u64
}

/// Where `folded` leads from `from`. `None`: out of 32 bits.
#[inline]
pub(crate) fn apply(from: u32, folded: u64) -> Option<u32> {
    let way = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    u32::try_from(i64::from(from).checked_add(way)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_comes_back(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert!(bytes.len() <= MAX_LEN);
            let mut at = 0;
            prop_assert_eq!(get(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            for cut in 0..bytes.len() {
                prop_assert_eq!(get(&bytes[..cut], &mut 0), None);
            }
        }

        #[test]
        fn a_difference_leads_back(from: u32, to: u32) {
            prop_assert_eq!(apply(from, difference(from, to)), Some(to));
        }

        #[test]
        fn any_difference_is_followed_or_refused(from: u32, folded: u64) {
            if let Some(to) = apply(from, folded) {
                prop_assert_eq!(difference(from, to), folded);
            }
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut bytes = vec![0xff; 9];
        bytes.push(2);
        assert_eq!(get(&bytes, &mut 0), None);
        bytes[9] = 1;
        assert_eq!(get(&bytes, &mut 0), Some(u64::MAX));
        assert_eq!(get(&[0xff; 16], &mut 0), None);
    }
}
