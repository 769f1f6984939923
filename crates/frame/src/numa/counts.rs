//! Who was served where: a count for each pair of nodes, that of the own node kept apart for each slot.
//!
//! ```text
//!  own     slot 0 [ node 0, node 1, … ]  slot 1 [ … ]  …     a line or more for each slot: nobody else writes there
//!  pairs   from 0 [ to 0: named, fallen │ to 1: … │ pool ]  from 1 [ … ]     shared: they are counted off the fast path
//! ```
//!
//! - **C1** A word of slot 1 and up is written by whoever has the slot's number, and by a load and a store; a word of
//!   slot 0 and of the pairs by atomic addition. So no count is lost.
//! - **C2** `own` has a row of `1 << row` words, no fewer than there are nodes, for each number from 0 to the count of
//!   the slots.
//!
//! Cost: a few instructions for a run of the caller's own node, an atomic addition for others.

use terrace_sync::Slots;

use crate::{
    atomic::{AtomicU64, Ordering},
    plan::{LINE, TO_A_LINE},
};

/// Runs that the callers of one node got out of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeCounts {
    /// Of the node to which the policy led first: local hits where the two nodes are one, else remote ones.
    pub hits: u64,
    /// Of a node that came after one without room.
    pub fallbacks: u64,
}

/// How a run came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Named = 0,
    Fallen = 1,
}

/// All counts of an allocator.
pub(super) struct Counts<'m> {
    own: &'m [AtomicU64],
    pairs: &'m [AtomicU64],
    nodes: usize,
    /// Words from one slot's to the next: the logarithm.
    row: u32,
}

/// Whole lines, and a power of two of them: the place of a count is a shift and a sum.
const fn row(nodes: usize) -> usize {
    match nodes.checked_next_power_of_two() {
        Some(..LINE) => LINE,
        Some(words) => words,
        None => usize::MAX, // Nobody has so many, nor storage for them.
    }
}

const fn own_words(nodes: usize, slots: usize) -> usize {
    row(nodes).saturating_mul(slots.saturating_add(1))
}

/// Words for so many nodes and slots.
pub(super) const fn words(nodes: usize, slots: usize) -> usize {
    let pairs = nodes.saturating_mul(nodes.saturating_add(1)).saturating_mul(2);
    own_words(nodes, slots).saturating_add(pairs)
}

/// Bytes that they take in storage of any alignment.
pub(super) const fn bytes(nodes: usize, slots: usize) -> usize {
    words(nodes, slots).div_ceil(LINE).saturating_mul(LINE * 8).saturating_add(TO_A_LINE)
}

/// The words of a node, one in each slot's row.
///
/// - **C3** `words` begins in row 0 of C2, at one of its words.
pub(super) struct Own<'m> {
    words: &'m [AtomicU64],
    row: u32,
}

impl Own<'_> {
    /// A run more.
    #[inline(always)]
    pub(super) fn one(&self, slots: &impl Slots) {
        let number = slots.enter();
        // SAFETY: by C2 and C3, for a provider's number is at most its count.
        let count = unsafe { self.words.get_unchecked(number << self.row) };
        if number == 0 {
            shared(count);
        } else {
            // Relaxed: by C1 nobody else writes it, and a count publishes nothing.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        slots.leave(number);
    }
}

#[cold]
fn shared(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl<'m> Counts<'m> {
    /// In zeroed words, as many as `words` says.
    pub(super) fn new(words: &'m [AtomicU64], nodes: usize, slots: usize) -> Self {
        let (own, pairs) = words.split_at(own_words(nodes, slots));
        Self { own, pairs, nodes, row: row(nodes).trailing_zeros() }
    }

    /// Where callers of `node` count what they get of it. Nothing, where there is no such node.
    pub(super) fn own(&self, node: usize) -> Option<Own<'m>> {
        let words = self.own.get(node..).filter(|_| node < self.nodes)?;
        Some(Own { words, row: self.row })
    }

    /// A caller of `node` got a run of its own node.
    ///
    /// # Safety
    /// `node` is below the number of nodes.
    #[inline(always)]
    pub(super) unsafe fn local(&self, slots: &impl Slots, node: usize) {
        // SAFETY: by C2 each row has a word for each node.
        let words = unsafe { self.own.get_unchecked(node..) };
        Own { words, row: self.row }.one(slots);
    }

    /// A caller of `from` got runs of `to`; the pool's number is that of nodes.
    pub(super) fn add(&self, from: usize, to: usize, came: Came, runs: usize) {
        let at = (from * (self.nodes + 1) + to) * 2 + came as usize;
        self.pairs[at].fetch_add(runs as u64, Ordering::Relaxed);
    }

    pub(super) fn of(&self, from: usize, to: usize) -> NodeCounts {
        let pair = |came: Came| self.pairs[(from * (self.nodes + 1) + to) * 2 + came as usize].load(Ordering::Relaxed);
        let stripes = self.own.iter().skip(from).step_by(1 << self.row);
        let own: u64 = if from == to { stripes.map(|count| count.load(Ordering::Relaxed)).sum() } else { 0 };
        NodeCounts { hits: own + pair(Came::Named), fallbacks: pair(Came::Fallen) }
    }
}
