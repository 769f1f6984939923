//! Who was served where: a count for each pair of nodes, that of the own node kept apart for each slot.
//!
//! ```text
//!  own     slot 0 [ node 0, node 1, … ]  slot 1 [ … ]  …     a line or more for each slot: nobody else writes there
//!  pairs   from 0 [ to 0: named, fallen │ to 1: … │ pool ]  from 1 [ … ]     shared: they are counted off the fast path
//! ```
//!
//! - **C1** A word of slot 1 and up is written by whoever has the slot's number, and by a load and a store; a word of
//!   slot 0 and of the pairs by atomic addition. So no count is lost.
//!
//! Cost: a few instructions for a run of the caller's own node, an atomic addition for others.
#![forbid(unsafe_code)]

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
}

const fn own_words(nodes: usize, slots: usize) -> usize {
    nodes.next_multiple_of(LINE) * (slots + 1)
}

/// Words for so many nodes and slots.
pub(super) const fn words(nodes: usize, slots: usize) -> usize {
    own_words(nodes, slots) + nodes * (nodes + 1) * 2
}

/// Bytes that they take in storage of any alignment.
pub(super) const fn bytes(nodes: usize, slots: usize) -> usize {
    words(nodes, slots).next_multiple_of(LINE) * 8 + TO_A_LINE
}

impl<'m> Counts<'m> {
    /// In `words` zeroed words.
    pub(super) fn new(words: &'m [AtomicU64], nodes: usize, slots: usize) -> Self {
        let (own, pairs) = words.split_at(own_words(nodes, slots));
        Self { own, pairs, nodes }
    }

    /// A caller of `node` got a run of its own node.
    #[inline(always)]
    pub(super) fn local(&self, slots: &impl Slots, node: usize) {
        let number = slots.enter();
        let place = self.own.get(number * self.nodes.next_multiple_of(LINE) + node);
        match place {
            // Relaxed: by C1 nobody else writes it, and a count publishes nothing.
            Some(count) if number != 0 => count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            _ => {
                self.own[node].fetch_add(1, Ordering::Relaxed);
            }
        }
        slots.leave(number);
    }

    /// A caller of `from` got runs of `to`; the pool's number is that of nodes.
    pub(super) fn add(&self, from: usize, to: usize, came: Came, runs: usize) {
        let at = (from * (self.nodes + 1) + to) * 2 + came as usize;
        self.pairs[at].fetch_add(runs as u64, Ordering::Relaxed);
    }

    pub(super) fn of(&self, from: usize, to: usize) -> NodeCounts {
        let pair = |came: Came| self.pairs[(from * (self.nodes + 1) + to) * 2 + came as usize].load(Ordering::Relaxed);
        let stripes = self.own.iter().skip(from).step_by(self.nodes.next_multiple_of(LINE));
        let own: u64 = if from == to { stripes.map(|count| count.load(Ordering::Relaxed)).sum() } else { 0 };
        NodeCounts { hits: own + pair(Came::Named), fallbacks: pair(Came::Fallen) }
    }
}
