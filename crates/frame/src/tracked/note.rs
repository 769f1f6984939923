//! [`Note`]: what is known of a run, in a word.
//!
//! ```text
//!  bits   63        52 51                   20 19                 0
//!         [ site      │ owner                  │ frames, less one  ]
//! ```
//!
//! A place that the table has no row for has the number `UNLISTED`, so that a site is never 0, and a word of 0 is no
//! note.
//!
//! - **N1** Packing and unpacking is the identity on notes of 1 to 2²⁰ frames and sites of 1 to `UNLISTED`; no such
//!   note is 0.
//!
//! Cost: shifts and masks.
#![forbid(unsafe_code)]

use crate::types::Order;

const COUNT_BITS: u32 = Order::MAX.log2();
const OWNER_BITS: u32 = u32::BITS;
const SITE_SHIFT: u32 = COUNT_BITS + OWNER_BITS;

/// The number of a place that the table has no row for. Rows have those from 1 to one below.
pub(crate) const UNLISTED: usize = (1 << (u64::BITS - SITE_SHIFT)) - 1;

/// A run's size, its owner, and the row of the place that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) count: usize,
    pub(crate) owner: u32,
    pub(crate) site: usize,
}

impl Note {
    pub(crate) const fn pack(self) -> u64 {
        let count = (self.count as u64 - 1) & ((1 << COUNT_BITS) - 1);
        (self.site as u64) << SITE_SHIFT | (self.owner as u64) << COUNT_BITS | count
    }

    pub(crate) const fn unpack(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        let count = (word & ((1 << COUNT_BITS) - 1)) as usize + 1;
        let (owner, site) = ((word >> COUNT_BITS) as u32, (word >> SITE_SHIFT) as usize);
        Some(Self { count, owner, site })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N1, at each end of each part and around each power of two.
    #[test]
    fn a_note_is_read_as_it_was_written() {
        let around = |bits: u32| (0..bits).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for count in around(21).map(|count| count as usize).filter(|count| (1..=1 << 20).contains(count)) {
            for owner in around(33).filter_map(|owner| u32::try_from(owner).ok()) {
                for site in around(13).map(|site| site as usize).filter(|site| (1..=UNLISTED).contains(site)) {
                    let note = Note { count, owner, site };
                    assert_ne!(note.pack(), 0);
                    assert_eq!(Note::unpack(note.pack()), Some(note));
                }
            }
        }
        assert_eq!((Note::unpack(0), UNLISTED), (None, 4095));
    }
}
