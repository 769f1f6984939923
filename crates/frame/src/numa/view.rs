//! [`NumaView`]: the nodes as callers of one node see them, by a policy of theirs.
//!
//! ```text
//!  thread or CPU ── keeps ──▶ view { node, policy, turn } ──▶ NumaAllocator
//! ```
//!
//! The invariants are those at the top of `numa.rs`. Whoever interleaves has a view of its own, for turns that two took
//! together would be even for neither.
//!
//! Cost: that of the allocator; for a policy other than local a few instructions more, and an atomic addition for a turn.

use core::fmt;

use terrace_sync::Slots;

use super::{Came, NodeSet, NumaAllocator, NumaNode, NumaPolicy, counts::Own, policy};
use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, Ordering},
    types::{Frame, FrameError, Frames, Misuse, Order},
};

/// Frames for callers on one node, by one policy; made by [`NumaAllocator::view`].
///
/// What it hands out may be freed by any other view, and by the allocator.
pub struct NumaView<'a, 'm, F, S> {
    numa: &'a NumaAllocator<'m, F, S>,
    /// The allocator of its node, where the policy is local and the node has memory.
    local: Option<&'m F>,
    /// Where what its node gives by that is counted.
    own: Own<'m>,
    node: usize,
    policy: NumaPolicy,
    /// Those of the policy that have memory and can be reached.
    usable: NodeSet,
    turn: AtomicU64,
}

impl<'a, 'm, F: FrameAllocator, S: Slots> NumaView<'a, 'm, F, S> {
    pub(super) fn new(
        numa: &'a NumaAllocator<'m, F, S>,
        own: Own<'m>,
        node: usize,
        policy: NumaPolicy,
        usable: NodeSet,
    ) -> Self {
        let policy = match policy {
            NumaPolicy::WeightedInterleave(weights) => NumaPolicy::WeightedInterleave(weights.only(usable)),
            policy => policy,
        };
        let local = numa.nodes[node].frames().filter(|_| policy == NumaPolicy::Local);
        Self { numa, local, own, node, policy, usable, turn: AtomicU64::new(0) }
    }

    /// The node of its callers.
    #[must_use]
    pub fn node(&self) -> usize {
        self.node
    }

    /// Its policy.
    #[must_use]
    pub fn policy(&self) -> &NumaPolicy {
        &self.policy
    }

    fn turn(&self) -> u64 {
        // Relaxed: a turn publishes nothing.
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// N3: where the policy leads first.
    fn first(&self) -> Option<usize> {
        match &self.policy {
            NumaPolicy::Local => Some(self.node),
            NumaPolicy::Preferred(node) => Some(*node),
            NumaPolicy::Bind(_) => self.numa.distances.nearest(self.node, self.usable),
            NumaPolicy::Interleave(_) => policy::in_turn(self.usable, self.turn()),
            NumaPolicy::WeightedInterleave(weights) => weights.at(self.turn()),
        }
    }

    #[inline(never)]
    fn order_by_policy(&self, order: Order) -> Result<Frame, FrameError> {
        match self.policy {
            NumaPolicy::Local => self.numa.order_elsewhere(self.node, order),
            _ => self.place(&|frames: &F| frames.alloc_order(order)),
        }
    }

    #[inline(never)]
    fn request_by_policy(&self, request: &Request) -> Result<Frames, FrameError> {
        request.checked()?;
        match self.policy {
            NumaPolicy::Local => self.numa.request_elsewhere(self.node, request),
            _ => self.place(&|frames: &F| frames.alloc(request)),
        }
    }

    fn place<T>(&self, take: &dyn Fn(&F) -> Result<T, FrameError>) -> Result<T, FrameError> {
        let numa = self.numa;
        let first = self.first().ok_or(FrameError::NumaNodeUnavailable)?;
        if let Some(Ok(run)) = numa.nodes.get(first).and_then(NumaNode::frames).map(take) {
            numa.counts.add(self.node, first, Came::Named, 1);
            return Ok(run);
        }
        if matches!(self.policy, NumaPolicy::Bind(_)) {
            return self.bound(first, take);
        }
        numa.elsewhere(self.node, first, numa.with_memory, take)
    }

    /// The rest of a set that nothing outside of serves, by distance from the caller.
    fn bound<T>(&self, first: usize, take: &dyn Fn(&F) -> Result<T, FrameError>) -> Result<T, FrameError> {
        let (numa, mut left) = (self.numa, self.usable.without(first));
        while let Some(node) = numa.distances.nearest(self.node, left) {
            left = left.without(node);
            if let Some(run) = numa.fall(self.node, node, &numa.nodes[node], take) {
                return Ok(run);
            }
        }
        Err(FrameError::OutOfMemory)
    }
}

// SAFETY: every run is one of the allocator's nodes', and goes back to it.
unsafe impl<F: FrameAllocator, S: Slots> FrameAllocator for NumaView<'_, '_, F, S> {
    #[inline]
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        if let Some(frames) = self.local
            && let Ok(run) = frames.alloc(request)
        {
            self.own.one(&self.numa.slots);
            return Ok(run);
        }
        self.request_by_policy(request)
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        // Mostly it is a frame of the own node, which finds out by itself.
        match self.local.map(|own| own.free(frames)) {
            None | Some(Err(Misuse::Outside)) => self.numa.free(frames),
            Some(answer) => answer,
        }
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        if let Some(frames) = self.local
            && let Ok(start) = frames.alloc_order(order)
        {
            self.own.one(&self.numa.slots);
            return Ok(start);
        }
        self.order_by_policy(order)
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        match self.local.map(|own| own.free_order(start, order)) {
            None | Some(Err(Misuse::Outside)) => self.numa.free_order_elsewhere(start, order),
            Some(answer) => answer,
        }
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        if self.policy == NumaPolicy::Local {
            return self.numa.alloc_batch_on(self.node, order, into);
        }
        for (filled, place) in into.iter_mut().enumerate() {
            match self.alloc_order(order) {
                Ok(start) => *place = start,
                Err(_) => return filled,
            }
        }
        into.len()
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        self.numa.free_batch(order, runs)
    }

    fn drain(&self) {
        self.numa.drain();
    }

    fn span(&self) -> Frames {
        self.numa.span()
    }

    fn total_frames(&self) -> usize {
        self.numa.total_frames()
    }

    fn free_frames(&self) -> usize {
        self.numa.free_frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.numa.is_free(frame)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.numa.manages(frames)
    }

    fn keeps_boundaries(&self) -> bool {
        self.numa.keeps_boundaries()
    }
}

impl<F, S> fmt::Debug for NumaView<'_, '_, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumaView").field("node", &self.node).field("policy", &self.policy).finish_non_exhaustive()
    }
}
