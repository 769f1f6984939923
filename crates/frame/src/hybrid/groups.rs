//! Groups: 64 blocks, a word of the buddy, which is 128 MiB. Runs from there up to 4 GiB are up to 32 of them, claimed and
//! put by one step.
//!
//! ```text
//!  groups   [ 11111111 11111111 … ]      a bit a group, 64 groups a word: 8 GiB
//!                  └── one ──┐     ▲ all 64 are free: back
//!  buddy    [ 1 1 1 0 1 1 … │ … ]        a bit a block, 64 blocks a word
//! ```
//!
//! Bit 0 of the first word stands for a group whose number is a multiple of 64, so that runs are aligned as the memory
//! is. The invariants are those at the top of `hybrid.rs`.

use terrace_sync::Slots;

use crate::{
    atomic::Ordering,
    index::{HELD, SPLIT},
    plan,
    types::Misuse,
    word::{self, WORD},
};

/// The bits of a group of which all blocks are meant.
const ALL: u64 = !0;

/// Whether an aligned run of 2^`order` blocks of the group lies in `from..to`.
const fn fits(group: usize, order: u32, from: usize, to: usize) -> bool {
    let (first, behind) = (group * WORD, group * WORD + WORD);
    let (from, to) = (if from > first { from } else { first }, if to < behind { to } else { behind });
    from.next_multiple_of(1 << order) + (1 << order) <= to
}

/// What is found from `home` on, or else before it.
#[inline]
fn from_home(home: usize, find: impl Fn(usize, usize) -> Option<usize>) -> Option<usize> {
    find(home, usize::MAX).or_else(|| if home == 0 { None } else { find(0, home) })
}

impl<S: Slots, B> super::HybridAllocator<'_, S, B> {
    /// A run of 2^`order` groups, up to 32, among `from..to`: the first.
    pub(super) fn take_groups(&self, order: u32, from: usize, to: usize) -> Option<usize> {
        let found = self.groups.take(order, from.saturating_add(self.gap), to.saturating_add(self.gap), false);
        found.map(|at| at - self.gap)
    }

    /// A run of 2^`order` groups, up to 32, for the slot with that number: the first from the word of its home on, or the
    /// first.
    pub(super) fn groups_of_order(&self, number: usize, order: u32) -> Option<usize> {
        let home = (self.home(number) + self.gap) / WORD * WORD;
        from_home(home, |from, to| self.groups.take(order, from, to, false)).map(|at| at - self.gap)
    }

    /// Whether the group is free as one.
    #[inline]
    pub(super) fn has_group(&self, group: usize) -> bool {
        self.groups.has(group + self.gap)
    }

    /// Whether the block is free as one, or its group is.
    pub(super) fn has_block(&self, block: usize) -> bool {
        self.tree.has(block) || self.has_group(block / WORD)
    }

    /// The group from which on the slot with that number looks for one to hold, the first of a cache line of the buddy's
    /// words. By the reversed bits of their numbers slots spread over the memory however many there are, so that what
    /// they hold shares as few lines as can be.
    fn home(&self, number: usize) -> usize {
        let part = number.saturating_sub(1).reverse_bits();
        let home = (part as u128 * self.tree.len() as u128) >> usize::BITS;
        home as usize / plan::LINE * plan::LINE
    }

    /// A run of 2^`order` blocks, less than a group, for the slot with that number, which did not have it in its word: the
    /// first from its home on, or the first.
    #[cold]
    pub(super) fn refill_large(&self, number: usize, order: u32) -> Option<usize> {
        let open = from_home(self.home(number) * WORD, |from, to| self.tree.take(order, from, to, true));
        let (block, hold) = open.map(|block| (block, true)).or_else(|| self.blocks_from_group(number, order))?;
        if hold {
            let before = self.lane(number, super::LARGE).swap((block / WORD) as u64, Ordering::Relaxed);
            if before != super::NOTHING {
                self.end_group_hold(before as usize);
            }
        }
        Some(block)
    }

    /// The first run out of a group that was free as one, and whether it is the caller's to hold.
    fn blocks_from_group(&self, number: usize, order: u32) -> Option<(usize, bool)> {
        let home = self.home(number) + self.gap;
        let near = self.groups.take_in(home / WORD, 0, home, usize::MAX).map(|at| at - self.gap);
        let group = near.or_else(|| self.groups_of_order(number, 0))?;
        let hold = !self.tree.index.mark(group, HELD);
        self.split_group(group);
        self.tree.set(group, !word::ones(0, 1 << order));
        // Whoever has ended the hold since saw less than there is.
        self.settle_group(group);
        Some((group * WORD, hold))
    }

    /// A run of 2^`order` blocks, less than a group, among `from..to`, held by nobody.
    pub(super) fn take_blocks(&self, order: u32, from: usize, to: usize) -> Option<usize> {
        self.tree.take(order, from, to, false).or_else(|| {
            if let Some(group) = self.take_groups(0, from.div_ceil(WORD), to / WORD) {
                return self.in_group(group, order, from, to);
            }
            // The groups that the limits cut; none is opened for nothing.
            let ends = [from / WORD, to.div_ceil(WORD).saturating_sub(1)];
            ends.into_iter().filter(|&group| fits(group, order, from, to)).find_map(|group| {
                let group = self.take_groups(0, group, group + 1)?;
                self.in_group(group, order, from, to)
            })
        })
    }

    /// The same out of a group that the caller has.
    fn in_group(&self, group: usize, order: u32, from: usize, to: usize) -> Option<usize> {
        self.split_group(group);
        self.tree.set(group, ALL);
        let found = self.tree.take_in(group, order, from, to);
        self.settle_group(group);
        found
    }

    /// A run of 2^`order` blocks, less than a group, of that one among `from..to`.
    pub(super) fn take_of_group(&self, group: usize, order: u32, from: usize, to: usize) -> Option<usize> {
        match self.take_groups(0, group, group + usize::from(fits(group, order, from, to))) {
            Some(group) => self.in_group(group, order, from, to),
            None => self.tree.take_in(group, order, from, to),
        }
    }

    /// Makes blocks of a group free, which is marked `SPLIT`. `false`: one of them was, and nothing has changed.
    #[inline]
    pub(super) fn put_blocks(&self, group: usize, blocks: u64) -> bool {
        let put = self.tree.put_held(group, blocks);
        if put {
            self.settle_group(group);
        }
        put
    }

    /// The same for an aligned run.
    #[inline]
    pub(super) fn put_run(&self, group: usize, run: u64) -> bool {
        if self.tree.index.has(group, HELD) {
            return self.put_blocks(group, run);
        }
        match self.tree.put_or_take(group, run, ALL) {
            Some(true) => self.move_to_groups(group),
            Some(false) => {}
            None => return false,
        }
        true
    }

    /// Takes an aligned run of whole groups back.
    pub(super) fn free_groups(&self, first: usize, count: usize) -> Result<(), Misuse> {
        // By H3 groups that are not split have no blocks, nor less.
        let is_plain = word::pieces(first, count).all(|(at, groups)| self.tree.index.group(at, SPLIT) & groups == 0);
        if !is_plain {
            if self.has_any(first * plan::GROUP, count * plan::GROUP) {
                return Err(Misuse::AlreadyFree);
            }
            (first..first + count).filter(|&group| self.tree.index.has(group, SPLIT)).for_each(|group| {
                self.close(group, ALL);
                self.tree.index.unmark(group, SPLIT);
            });
        }
        if self.put_groups(first, count) { Ok(()) } else { Err(Misuse::AlreadyFree) }
    }

    /// Makes an aligned run of groups free.
    fn put_groups(&self, first: usize, count: usize) -> bool {
        let at = first + self.gap;
        self.groups.put_run(at / WORD, word::ones((at % WORD) as u32, count as u32))
    }

    /// Marks a group whose blocks come to the buddy one by one, or in parts (H3).
    #[inline]
    pub(super) fn split_group(&self, group: usize) {
        if !self.tree.index.has(group, SPLIT) {
            self.tree.index.mark(group, SPLIT);
        }
    }

    /// A group all of whose blocks the caller has.
    #[inline(never)]
    fn move_to_groups(&self, group: usize) {
        self.tree.index.unmark(group, SPLIT);
        self.put_groups(group, 1);
    }

    /// After puts to a group: moves it on if it is whole, and registers it else, unless it is held.
    #[inline]
    pub(super) fn settle_group(&self, group: usize) {
        if !self.tree.index.has(group, HELD) {
            self.settle_open_group(group);
        }
    }

    #[inline(never)]
    fn settle_open_group(&self, group: usize) {
        if self.tree.bits(group) == ALL && self.tree.claim(group, ALL) {
            self.move_to_groups(group);
        } else {
            self.tree.settle(group);
        }
    }

    /// Ends a hold on a group.
    pub(super) fn end_group_hold(&self, group: usize) {
        self.tree.index.unmark(group, HELD);
        self.settle_group(group);
    }
}
