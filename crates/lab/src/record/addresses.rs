//! Which block lives at which address of an image.
//!
//! ```text
//! pages: 4 KiB of the program's addresses ──> a table      tables
//!        0x55d0_1234_5 ───────────────────────────────┐    +--------------------------------+
//!        0x7f00_0000_0 ──────────┐                    └──> | 0 | 7 | 0 | 0 | 3 | …  256 × u32  | block + 1, or 0
//!                                └───────────────────────> | 12 | 0 | …                     |
//!                                                          +--------------------------------+
//! ```
//!
//! Neighbours in the program are neighbours here, so that a call seldom leaves the cache; a hash
//! table of addresses costs a miss for nearly each one. Takes 1 KiB for each page where a block begins,
//! a quarter of a heap of small blocks; a page without blocks gives its table back.
//!
//! - **L1** `tables[t].live` is the number of entries in it that are not 0; a table in `spare` has none.
//! - **L2** Each page in `pages` has a table of its own, which is not spare. `recent` is one of them, or a page that does not exist.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use terrace_trace::BlockId;

const PAGE_BITS: u32 = 12;
const GRAIN_BITS: u32 = 4;
const ENTRIES: usize = 1 << (PAGE_BITS - GRAIN_BITS);
/// No page has this number.
const NOWHERE: u64 = u64::MAX;

struct Table {
    live: u32,
    blocks: [u32; ENTRIES],
}

/// A map from addresses to blocks.
pub struct Addresses {
    pages: NumberMap<u64, u32>,
    recent: (u64, u32),
    tables: Vec<Table>,
    spare: Vec<u32>,
    /// Blocks whose address is no multiple of 16, which some allocators give out for very small ones.
    odd: NumberMap<u64, BlockId>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            pages: HashMap::default(),
            recent: (NOWHERE, 0),
            tables: Vec::new(),
            spare: Vec::new(),
            odd: HashMap::default(),
        }
    }
}

impl Addresses {
    /// The block at `address`.
    #[inline]
    pub fn get(&mut self, address: u64) -> Option<BlockId> {
        if is_odd(address) {
            return self.odd.get(&address).copied();
        }
        let table = self.table(address)?;
        self.tables[table as usize].blocks[entry(address)].checked_sub(1).map(BlockId)
    }

    /// `block` now lives at `address`, where none does.
    #[inline]
    pub fn insert(&mut self, address: u64, block: BlockId) {
        if is_odd(address) {
            self.odd.insert(address, block);
            return;
        }
        let index = match self.table(address) {
            Some(index) => index,
            None => self.new_table(address),
        };
        let table = &mut self.tables[index as usize];
        table.live += 1;
        table.blocks[entry(address)] = block.0 + 1;
    }

    /// No block lives at `address` any more; returns the one that did.
    #[inline]
    pub fn remove(&mut self, address: u64) -> Option<BlockId> {
        if is_odd(address) {
            return self.odd.remove(&address);
        }
        let index = self.table(address)?;
        let table = &mut self.tables[index as usize];
        let block = std::mem::take(&mut table.blocks[entry(address)]).checked_sub(1)?;
        table.live -= 1;
        if table.live == 0 {
            self.give_back(address, index);
        }
        Some(BlockId(block))
    }

    /// All blocks.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        let entries = self.tables.iter().flat_map(|table| table.blocks.iter());
        entries.filter_map(|entry| entry.checked_sub(1).map(BlockId)).chain(self.odd.values().copied())
    }

    #[inline]
    fn table(&mut self, address: u64) -> Option<u32> {
        let page = address >> PAGE_BITS;
        if self.recent.0 != page {
            self.recent = (page, *self.pages.get(&page)?);
        }
        Some(self.recent.1)
    }

    fn new_table(&mut self, address: u64) -> u32 {
        let index = self.spare.pop().unwrap_or_else(|| {
            self.tables.push(Table { live: 0, blocks: [0; ENTRIES] });
            self.tables.len() as u32 - 1
        });
        let page = address >> PAGE_BITS;
        self.pages.insert(page, index);
        self.recent = (page, index);
        index
    }

    fn give_back(&mut self, address: u64, index: u32) {
        self.pages.remove(&(address >> PAGE_BITS));
        self.recent = (NOWHERE, 0);
        self.spare.push(index);
    }
}

#[inline]
fn is_odd(address: u64) -> bool {
    address & ((1 << GRAIN_BITS) - 1) != 0
}

#[inline]
fn entry(address: u64) -> usize {
    (address >> GRAIN_BITS) as usize % ENTRIES
}

/// A map by numbers. A multiplication spreads them well enough, and they are nobody's to choose.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// See [`NumberMap`].
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its place from the low bits and its tag from the high ones.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u64..3, 0_u64..40, 0_u64..3), 0..400)) {
            let mut addresses = Addresses::default();
            let mut model = std::collections::BTreeMap::new();
            for (number, (what, grain, page)) in steps.into_iter().enumerate() {
                let address = (page << 40) + grain * 8; // every other one is odd
                let block = BlockId(number as u32);
                match what {
                    0 => prop_assert_eq!(addresses.remove(address), model.remove(&address)),
                    1 => prop_assert_eq!(addresses.get(address), model.get(&address).copied()),
                    _ => if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(address) {
                        entry.insert(block);
                        addresses.insert(address, block);
                    },
                }
            }
            let mut left: Vec<_> = addresses.blocks().collect();
            left.sort_unstable();
            let mut expected: Vec<_> = model.values().copied().collect();
            expected.sort_unstable();
            prop_assert_eq!(left, expected);
        }
    }

    #[test]
    fn pages_without_blocks_take_nothing() {
        let mut addresses = Addresses::default();
        for page in 1..10_000 {
            addresses.insert(page << PAGE_BITS, BlockId(0));
            assert_eq!(addresses.remove(page << PAGE_BITS), Some(BlockId(0)));
        }
        assert_eq!((addresses.tables.len(), addresses.pages.len()), (1, 0));
    }

    #[test]
    fn the_highest_name_and_the_ends_of_the_address_space_fit() {
        let mut addresses = Addresses::default();
        for address in [0, !15, u64::MAX] {
            addresses.insert(address, BlockId(u32::MAX - 1));
            assert_eq!(addresses.get(address), Some(BlockId(u32::MAX - 1)));
        }
        assert_eq!(addresses.blocks().count(), 3);
    }
}
