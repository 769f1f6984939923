//! [`NumaError`]: what nodes, distances and storage can lack.
#![forbid(unsafe_code)]

use core::{error, fmt};

use super::MAX_NODES;

/// Why there is no allocator over these nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumaError {
    /// There are none, more than 64, or another number of them than the distances know.
    Nodes,
    /// This distance is none: a node is 10 from itself, and no other is nearer.
    Distance {
        /// The row.
        from: usize,
        /// The column.
        to: usize,
    },
    /// The allocator of a node does not manage exactly the frames of the node's map.
    NotItsMap,
    /// Two nodes have a frame in common; the pool has the number of nodes.
    Overlap(usize, usize),
    /// The storage is smaller than [`NumaAllocator::metadata_bytes`](super::NumaAllocator::metadata_bytes).
    Storage,
}

impl fmt::Display for NumaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => write!(f, "between 1 and {MAX_NODES} nodes are needed, and a distance for each pair"),
            Self::Distance { from, to } => write!(f, "the distance from node {from} to node {to} is none"),
            Self::NotItsMap => f.write_str("the allocator of a node manages other frames than the node's map has"),
            Self::Overlap(one, other) => write!(f, "nodes {one} and {other} have frames in common"),
            Self::Storage => f.write_str("the storage for the counts is too small"),
        }
    }
}

impl error::Error for NumaError {}
