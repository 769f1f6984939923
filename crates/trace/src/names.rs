//! Hands out block names so that a trace has as many as its program ever had live blocks.
//!
//! - **I1** `ended` holds names below `next`, each at most once, none of a live block.
//!
//! The name that came back last goes out first, so that names stay small and near each other (a
//! trace writes differences). Costs: O(1), four bytes for each ended block's name.
#![forbid(unsafe_code)]

use crate::BlockId;

/// Names blocks: the name given back last, or the next number never used so far.
///
/// ```
/// use terrace_trace::BlockNames;
/// let mut names = BlockNames::default();
/// let (first, second) = (names.take(), names.take());
/// names.give_back(first);
/// assert_eq!(names.take(), first);
/// assert_ne!(first, second);
/// ```
#[derive(Clone, Debug, Default)]
pub struct BlockNames {
    ended: Vec<BlockId>,
    next: u32,
}

impl BlockNames {
    /// A name for a new block.
    ///
    /// # Panics
    /// With 2^32 - 1 blocks live at once: a trace cannot name more.
    pub fn take(&mut self) -> BlockId {
        self.ended.pop().unwrap_or_else(|| {
            let name = BlockId(self.next);
            self.next = self.next.checked_add(1).expect("a trace cannot name 2^32 live blocks");
            name
        })
    }

    /// The block `name` has ended. Once for each [`take`](Self::take).
    pub fn give_back(&mut self, name: BlockId) {
        self.ended.push(name);
    }
}
