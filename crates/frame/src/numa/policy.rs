//! [`NumaPolicy`]: which node a request goes to first, and whether others may serve it.
//!
//! ```text
//!                        first                         when that is full
//!  Local                 the caller's node             the nearest to it, and on; the pool
//!  Preferred(2)          2                             the nearest to 2, and on; the pool
//!  Bind({1, 2})          the one nearer the caller     the other, and nobody else
//!  Interleave({0, 2})    0 2 0 2 0 2 …                 the nearest to it, and on; the pool
//!  WeightedInterleave    0 0 0 2 0 0 0 2 …  (3 : 1)    the nearest to it, and on; the pool
//! ```
//!
//! They are Linux's, by its names.
#![forbid(unsafe_code)]

use super::MAX_NODES;

/// Some of the nodes 0 to 63.
///
/// ```
/// use terrace_frame::numa::NodeSet;
///
/// let set: NodeSet = [0, 2].into_iter().collect();
/// assert!(set.has(2) && !set.has(1));
/// assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSet(u64);

impl NodeSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// That node alone; none, where it is above 63.
    #[must_use]
    pub const fn one(node: usize) -> Self {
        Self::EMPTY.with(node)
    }

    /// The nodes below `count`.
    #[must_use]
    pub const fn first(count: usize) -> Self {
        if count >= MAX_NODES { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// The same and `node`, which is at most 63.
    #[must_use]
    pub const fn with(self, node: usize) -> Self {
        if node < MAX_NODES { Self(self.0 | 1 << node) } else { self }
    }

    /// The same without `node`.
    #[must_use]
    pub const fn without(self, node: usize) -> Self {
        if node < MAX_NODES { Self(self.0 & !(1 << node)) } else { self }
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `node` is one of them.
    #[must_use]
    pub const fn has(self, node: usize) -> bool {
        node < MAX_NODES && self.0 >> node & 1 == 1
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// A bit for each node, from node 0 on.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The nodes, in rising order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_NODES).filter(move |&node| self.has(node))
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// A weight for each of the nodes 0 to 63. A node with 0 gets none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeWeights([u8; MAX_NODES]);

impl NodeWeights {
    /// The weights of the first nodes; those behind the slice have 0, and what is behind the 64th is left out.
    #[must_use]
    pub fn new(weights: &[u8]) -> Self {
        let mut all = [0; MAX_NODES];
        all.iter_mut().zip(weights).for_each(|(place, &weight)| *place = weight);
        Self(all)
    }

    /// That of a node; 0 for what is above 63.
    #[must_use]
    pub fn of(&self, node: usize) -> u8 {
        self.0.get(node).copied().unwrap_or(0)
    }

    /// The nodes that get any.
    #[must_use]
    pub fn set(&self) -> NodeSet {
        (0..MAX_NODES).filter(|&node| self.0[node] > 0).collect()
    }

    /// The same for the nodes of `set`, 0 for others.
    pub(super) fn only(mut self, set: NodeSet) -> Self {
        (0..MAX_NODES).filter(|&node| !set.has(node)).for_each(|node| self.0[node] = 0);
        self
    }

    /// The node whose turn it is. `None`: all weights are 0.
    pub(super) fn at(&self, turn: u64) -> Option<usize> {
        let round: u64 = self.0.iter().map(|&weight| u64::from(weight)).sum();
        let mut left = turn.checked_rem(round)?;
        self.0.iter().position(|&weight| {
            let mine = left < u64::from(weight);
            left = left.saturating_sub(u64::from(weight));
            mine
        })
    }
}

/// Where runs of frames are to come from. See the picture at the top of the file `policy.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NumaPolicy {
    /// From the caller's node, else from the nearest, else from the pool of no node.
    #[default]
    Local,
    /// From that node, else from the nearest to it, and on.
    Preferred(usize),
    /// From these nodes alone, the nearest to the caller first.
    Bind(NodeSet),
    /// From these nodes in turn, a run each.
    Interleave(NodeSet),
    /// From the nodes with a weight, so many runs each in turn.
    WeightedInterleave(NodeWeights),
}

impl NumaPolicy {
    /// The nodes that it names. `None`: it names none.
    pub(super) fn named(&self) -> Option<NodeSet> {
        match self {
            Self::Local => None,
            Self::Preferred(node) => Some(NodeSet::one(*node)),
            Self::Bind(set) | Self::Interleave(set) => Some(*set),
            Self::WeightedInterleave(weights) => Some(weights.set()),
        }
    }
}

/// The member of a set whose turn it is.
pub(super) fn in_turn(set: NodeSet, turn: u64) -> Option<usize> {
    set.iter().nth(turn.checked_rem(set.len() as u64)? as usize)
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nodes_beyond_the_last_are_in_no_set() {
        assert_eq!(NodeSet::one(64), NodeSet::EMPTY);
        assert_eq!(NodeSet::first(usize::MAX).len(), 64);
        assert!(!NodeSet::first(64).has(64) && NodeSet::first(64).has(63));
        assert_eq!(NodeSet::first(3).without(1).without(99).iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(in_turn(NodeSet::EMPTY, 7), None);
    }

    #[test]
    fn weights_share_a_round_as_they_say() {
        let weights = NodeWeights::new(&[3, 0, 1]);
        let nodes: Vec<usize> = (0..8).filter_map(|turn| weights.at(turn)).collect();
        assert_eq!(nodes, [0, 0, 0, 2, 0, 0, 0, 2]);
        assert_eq!(NodeWeights::new(&[]).at(0), None);
        assert_eq!(weights.only(NodeSet::one(2)).at(5), Some(2));
        assert_eq!([0, 1, 2, 64].map(|node| weights.of(node)), [3, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn turns_are_even_to_one(bits in 1u64.., from in 0u64..1 << 40, turns in 0u64..500) {
            let set = NodeSet(bits);
            let mut given = vec![0u64; MAX_NODES];
            for turn in from..from + turns {
                given[in_turn(set, turn).expect("it is not empty")] += 1;
            }
            prop_assert!((0..MAX_NODES).all(|node| set.has(node) || given[node] == 0));
            let least = set.iter().map(|node| given[node]).min();
            prop_assert!(set.iter().map(|node| given[node]).max() <= least.map(|least| least + 1));
        }

        #[test]
        fn whole_rounds_give_each_node_its_weight(weights in prop::collection::vec(any::<u8>(), 0..64), rounds in 1u64..4) {
            let all = NodeWeights::new(&weights);
            let round: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let mut given = vec![0u64; MAX_NODES];
            (0..round * rounds).for_each(|turn| given[all.at(turn).expect("a weight")] += 1);
            prop_assert!(weights.iter().enumerate().all(|(node, &weight)| given[node] == rounds * u64::from(weight)));
        }
    }
}
