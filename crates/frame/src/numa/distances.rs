//! [`Distances`]: how far the memory of each node is from each, and so where to look when a node is full.
//!
//! ```text
//!         to 0   1   2            from 1, all others by rising distance; of equals, the next in the circle first
//!  from 0   10  16  22
//!       1   16  10  16            1 ──▶ 2 ──▶ 0
//!       2   22  16  10
//! ```
//!
//! - **D1** `rows` has `nodes` × `nodes` entries, `nodes` is 1 to 64; a node is 10 from itself and no other is nearer.
//!
//! The numbers are those of ACPI's SLIT, which firmware gives and Linux shows as `node*/distance`: 10 is local, 255 is
//! out of reach. The two directions may differ.
//!
//! Cost: the next nearest node is found in one look at each node, when a node is full.
#![forbid(unsafe_code)]

use super::{MAX_NODES, NodeSet, NumaError};

/// From a node to itself.
const LOCAL: u8 = 10;
/// No way from one to the other.
const UNREACHABLE: u8 = 255;

/// A matrix of distances that has been looked at.
///
/// ```
/// use terrace_frame::numa::{Distances, NumaError};
///
/// let distances = Distances::new(2, &[10, 21, 21, 10])?;
/// assert_eq!(distances.between(0, 1), Some(21));
/// assert_eq!(Distances::new(2, &[10, 9, 21, 10]).unwrap_err(), NumaError::Distance { from: 0, to: 1 });
/// # Ok::<(), NumaError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distances<'m> {
    rows: &'m [u8],
    nodes: usize,
}

impl<'m> Distances<'m> {
    /// The distances between `nodes` nodes, row by row: first those from node 0.
    ///
    /// # Errors
    /// [`NumaError::Nodes`]: none, more than 64, or a matrix of another size. [`NumaError::Distance`]: the first entry
    /// that is none, since a node is 10 from itself and no other is nearer.
    pub fn new(nodes: usize, rows: &'m [u8]) -> Result<Self, NumaError> {
        if nodes == 0 || nodes > MAX_NODES || rows.len() != nodes * nodes {
            return Err(NumaError::Nodes);
        }
        let is_wrong = |(at, &distance): (usize, &u8)| {
            let (from, to) = (at / nodes, at % nodes);
            let wrong = if from == to { distance != LOCAL } else { distance < LOCAL };
            wrong.then_some(NumaError::Distance { from, to })
        };
        rows.iter().enumerate().find_map(is_wrong).map_or(Ok(Self { rows, nodes }), Err)
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes
    }

    /// How far the memory of `to` is from `from`; 10 is local. `None`: one of them is not there, or there is no way.
    #[must_use]
    pub fn between(&self, from: usize, to: usize) -> Option<u8> {
        let there = from < self.nodes && to < self.nodes;
        there.then(|| self.rows[from * self.nodes + to]).filter(|&distance| distance != UNREACHABLE)
    }

    /// The nearest to `from` of a set, if any can be reached.
    pub(super) fn nearest(&self, from: usize, among: NodeSet) -> Option<usize> {
        let reached = among.iter().filter_map(|to| Some((self.between(from, to)?, to)));
        // Of nodes at one distance each has another first: so what a full node leaves over does not fall upon one.
        let rank = |&(distance, to): &(u8, usize)| (distance, (to + self.nodes - from) % self.nodes);
        reached.min_by_key(rank).map(|(_, to)| to)
    }

    /// Those of a set that can be reached.
    pub(super) fn reachable(&self, from: usize, among: NodeSet) -> NodeSet {
        among.iter().filter(|&to| self.between(from, to).is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    fn order(distances: &Distances<'_>, from: usize) -> Vec<usize> {
        let mut left = NodeSet::first(distances.nodes());
        core::iter::from_fn(|| {
            let node = distances.nearest(from, left)?;
            left = left.without(node);
            Some(node)
        })
        .collect()
    }

    #[test]
    fn what_is_no_matrix_is_refused_with_the_place() {
        assert_eq!(Distances::new(0, &[]), Err(NumaError::Nodes));
        assert_eq!(Distances::new(2, &[10; 3]), Err(NumaError::Nodes));
        assert_eq!(Distances::new(usize::MAX, &[10]), Err(NumaError::Nodes));
        assert_eq!(Distances::new(65, &[10; 65 * 65]), Err(NumaError::Nodes));
        assert_eq!(Distances::new(1, &[11]), Err(NumaError::Distance { from: 0, to: 0 }));
        assert_eq!(Distances::new(2, &[10, 20, 9, 10]), Err(NumaError::Distance { from: 1, to: 0 }));
        assert_eq!(Distances::new(2, &[10, 20, 30, 10]).expect("two ways").between(1, 0), Some(30));
        assert_eq!(Distances::new(64, &[10; 64 * 64]).expect("the most").between(64, 0), None);
    }

    #[test]
    fn a_ring_is_walked_from_the_nearest_to_the_farthest() {
        let rows = [10, 16, 22, 16, 16, 10, 16, 22, 22, 16, 10, 16, 16, 22, 16, 10];
        let ring = Distances::new(4, &rows).expect("a matrix");
        assert_eq!(
            [0, 1, 2, 3].map(|from| order(&ring, from)),
            [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]
        );
    }

    #[test]
    fn what_is_out_of_reach_is_not_walked_to() {
        let distances = Distances::new(3, &[10, 255, 40, 255, 10, 12, 40, 12, 10]).expect("a matrix");
        assert_eq!(order(&distances, 0), [0, 2]);
        assert_eq!(order(&distances, 1), [1, 2]);
        assert_eq!(order(&distances, 2), [2, 1, 0]);
        assert_eq!(distances.reachable(0, NodeSet::first(3)), [0, 2].into_iter().collect());
    }

    #[test]
    fn equal_distances_are_walked_in_a_circle_from_each_node() {
        let equal = vec![10; 25];
        let equal = Distances::new(5, &equal).expect("a matrix");
        for from in 0..5 {
            assert_eq!(order(&equal, from), (0..5).map(|step| (from + step) % 5).collect::<Vec<_>>());
        }
    }
}
