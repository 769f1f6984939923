//! Whose the frames of a block are, in one word: sums over the frames, and what they prove.
//!
//! ```text
//!  bit 63 …          24 23            0
//!      [ Σ tag² : 40 │ Σ tag : 24     ]     over the frames of a block of 512 that have an owner
//! ```
//!
//! - **O1** The word is the sum of `tag` and of `tag²` over the block's frames that are handed out to owners.
//! - **O2** The block is wholly one owner's exactly if both sums are those of 512 frames with one tag. For with at most
//!   512 frames, `(Σ tag)² ≤ 512 · Σ tag²` by Cauchy and Schwarz, and the two are equal only if there are 512 frames and
//!   all tags are the same.
//! - **O3** Tags are 15 bits, so that no sum leaves its field.
//!
//! So a word is brought up to date by one addition, without a look at the other frames, and says at any moment whether
//! its block can be mapped as one page.
#![forbid(unsafe_code)]

use crate::word::{BLOCK, BLOCK_ORDER};

const TAGS: u32 = 15;
const SQUARES: u32 = TAGS + BLOCK_ORDER;
const SUM: u64 = (1 << SQUARES) - 1;

// O3: the largest sums fit, that of the squares behind the other.
const _: () = assert!(word_of(MOST, BLOCK) >> SQUARES == BLOCK as u64 * (MOST as u64 * MOST as u64));
const _: () = assert!(BLOCK as u64 * MOST as u64 <= SUM);

const MOST: u16 = (1 << TAGS) - 1;

/// Whose frames a block's are, for [`HugePages`](crate::HugePages): a number from 1 to 32767 that the caller gives an
/// address space, a file, a guest.
///
/// ```
/// use terrace_frame::PageOwner;
///
/// assert_eq!(PageOwner::new(7).map(PageOwner::tag), Some(7));
/// assert!(PageOwner::new(0).is_none() && PageOwner::new(1 << 15).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageOwner(u16);

impl PageOwner {
    /// The owner with that tag, 1 to 32767.
    #[must_use]
    pub const fn new(tag: u16) -> Option<Self> {
        if tag == 0 || tag > MOST { None } else { Some(Self(tag)) }
    }

    /// The tag.
    #[must_use]
    pub const fn tag(self) -> u16 {
        self.0
    }
}

/// The sums of so many frames with one tag.
const fn word_of(tag: u16, frames: usize) -> u64 {
    let tag = tag as u64;
    ((tag * tag * frames as u64) << SQUARES) + tag * frames as u64
}

/// The word when the owner has got so many frames more, 512 at most. `None`: there cannot be so many.
pub(crate) const fn more(word: u64, owner: PageOwner, frames: usize) -> Option<u64> {
    let sum = (word & SUM) + (word_of(owner.0, frames) & SUM);
    if sum > SUM { None } else { word.checked_add(word_of(owner.0, frames)) }
}

/// The word when the owner has so many frames less, 512 at most. `None`: it cannot have had so many.
pub(crate) const fn less(word: u64, owner: PageOwner, frames: usize) -> Option<u64> {
    let theirs = word_of(owner.0, frames);
    if word & SUM < theirs & SUM || word >> SQUARES < theirs >> SQUARES { None } else { Some(word - theirs) }
}

/// Whose the block is, wholly (O2).
pub(crate) const fn wholly(word: u64) -> Option<PageOwner> {
    let tag = ((word & SUM) / BLOCK as u64) as u16;
    if tag > 0 && word == word_of(tag, BLOCK) { Some(PageOwner(tag)) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    use super::*;

    fn sum(tags: &[u16]) -> u64 {
        tags.iter()
            .fold(0, |word, &tag| PageOwner::new(tag).map_or(word, |owner| more(word, owner, 1).expect("it fits")))
    }

    #[test]
    fn a_block_of_one_owner_is_known_for_every_tag() {
        for tag in 1..=MOST {
            let owner = PageOwner::new(tag).expect("a tag");
            let whole = more(0, owner, BLOCK).expect("it fits");
            assert_eq!(wholly(whole), Some(owner));
            assert_eq!(wholly(less(whole, owner, 1).expect("one of them")), None);
            assert_eq!(less(whole, owner, BLOCK), Some(0));
            let most = less(whole, owner, 1).expect("one of them");
            assert_eq!((less(most, owner, BLOCK), more(most, owner, 1)), (None, Some(whole)));
        }
        let full = word_of(MOST, BLOCK);
        assert_eq!((wholly(0), more(full, PageOwner(MOST), 2), less(0, PageOwner(1), 1)), (None, None, None));
    }

    /// The averages of these are those of one owner: the squares tell them apart.
    #[test]
    fn owners_that_balance_are_not_one() {
        for (low, high) in [(1, 3), (5, 7), (1, 32767), (16_000, 16_002)] {
            let tags: Vec<u16> = (0..BLOCK).map(|at| if at % 2 == 0 { low } else { high }).collect();
            assert_eq!(wholly(sum(&tags)), None, "{low} and {high}");
        }
        // The sums of fewer frames than a block's.
        assert_eq!(wholly(sum(&vec![1024; BLOCK / 2])), None);
        assert_eq!(wholly(sum(&vec![4; BLOCK - 1])), None);
    }

    proptest! {
        /// O1 and O2 against the frames one by one.
        #[test]
        fn the_sums_say_what_a_look_at_each_frame_says(
            steps in prop::collection::vec((0usize..BLOCK, 1usize..=BLOCK, 0u16..4), 1..60), scale in 1u16..8000
        ) {
            let (mut tags, mut word) = (vec![0; BLOCK], 0);
            for (start, count, tag) in steps {
                for place in &mut tags[start..(start + count).min(BLOCK)] {
                    if let Some(owner) = PageOwner::new(*place) {
                        word = less(word, owner, 1).expect("it is there");
                    }
                    *place = tag * scale;
                    if let Some(owner) = PageOwner::new(*place) {
                        word = more(word, owner, 1).expect("it fits");
                    }
                }
                let one = tags.iter().all(|&tag| tag == tags[0]).then(|| PageOwner::new(tags[0])).flatten();
                prop_assert_eq!(wholly(word), one);
                prop_assert_eq!(word, sum(&tags));
            }
        }
    }
}
