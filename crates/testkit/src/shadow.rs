//! [`Shadow`]: what must be live, as numbers.
//!
//! ```text
//!  addresses  ──[ block ]──[ block ]─────[ block ]──     keyed by start; disjoint (I1)
//! ```
//!
//! - **I1** Entries are disjoint and not empty.
//!
//! Cost: the logarithm of the number of live blocks a step.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::breach::{Block, Finding};

/// The live blocks of one allocator.
#[derive(Default)]
pub(crate) struct Shadow {
    live: BTreeMap<usize, Block>,
}

impl Shadow {
    /// Notes a block; an error is the live one that it lies over, and then nothing is noted.
    pub(crate) fn put(&mut self, block: Block) -> Result<(), Block> {
        let last = block.address.saturating_add(block.len - 1);
        // By I1 the last entry that starts at or before the block's last byte is the only one to look at.
        if let Some((_, &other)) = self.live.range(..=last).next_back()
            && other.address.saturating_add(other.len - 1) >= block.address
        {
            return Err(other);
        }
        self.live.insert(block.address, block);
        Ok(())
    }

    /// Strikes a block out; an error where it is not there exactly so, and then nothing changes.
    pub(crate) fn take(&mut self, block: Block) -> Result<(), Finding> {
        self.look(block)?;
        self.live.remove(&block.address);
        Ok(())
    }

    /// Whether the block is there exactly so.
    pub(crate) fn look(&self, block: Block) -> Result<(), Finding> {
        match self.live.get(&block.address) {
            Some(&live) if live == block => Ok(()),
            Some(&live) => Err(Finding::Mistaken { block, live }),
            None => Err(Finding::NotLive { block }),
        }
    }

    /// The block that holds an address.
    pub(crate) fn around(&self, address: usize) -> Option<Block> {
        let (_, &block) = self.live.range(..=address).next_back()?;
        (address - block.address < block.len).then_some(block)
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.live.values().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.live.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terrace_core::Alignment;

    use super::*;

    fn block(address: usize, len: usize) -> Block {
        Block { address, len, alignment: Alignment::ONE }
    }

    #[test]
    fn every_pair_of_short_blocks_overlaps_exactly_where_they_share_a_byte() {
        for (start, len) in (0..12).flat_map(|start| (1..6).map(move |len| (start, len))) {
            let mut shadow = Shadow::default();
            shadow.put(block(4, 4)).unwrap();
            let shares = (start..start + len).any(|byte| (4..8).contains(&byte));
            assert_eq!(shadow.put(block(start, len)).is_err(), shares, "{start}+{len}");
        }
    }

    proptest! {
        /// Against a map of single bytes.
        #[test]
        fn agrees_with_a_map_of_bytes(program in prop::collection::vec((0usize..60, 1usize..9, any::<bool>()), 1..60)) {
            let (mut shadow, mut bytes) = (Shadow::default(), [None; 80]);
            for (start, len, put) in program {
                let candidate = block(start, len);
                if put {
                    let free = bytes[start..start + len].iter().all(Option::is_none);
                    prop_assert_eq!(shadow.put(candidate).is_ok(), free);
                    if free {
                        bytes[start..start + len].fill(Some(candidate));
                    }
                } else {
                    let exact = bytes[start] == Some(candidate);
                    prop_assert_eq!(shadow.take(candidate).is_ok(), exact);
                    if exact {
                        bytes[start..start + len].fill(None);
                    }
                }
                for (address, held) in bytes.iter().enumerate() {
                    prop_assert_eq!(shadow.around(address), *held);
                }
            }
        }
    }

    #[test]
    fn a_wrong_name_is_told_from_an_unknown_one() {
        let mut shadow = Shadow::default();
        shadow.put(block(4, 4)).unwrap();
        assert!(matches!(shadow.take(block(4, 5)), Err(Finding::Mistaken { .. })));
        assert!(matches!(shadow.take(block(5, 3)), Err(Finding::NotLive { .. })));
        assert!(shadow.take(block(4, 4)).is_ok());
        assert!(matches!(shadow.take(block(4, 4)), Err(Finding::NotLive { .. })));
    }

    #[test]
    fn the_last_address_does_not_overflow() {
        let mut shadow = Shadow::default();
        shadow.put(block(usize::MAX - 3, 4)).unwrap();
        assert!(shadow.put(block(usize::MAX, 1)).is_err());
        assert!(shadow.put(block(usize::MAX - 9, usize::MAX)).is_err());
    }
}
