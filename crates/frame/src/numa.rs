//! [`NumaAllocator`]: frames near the one who asks, out of an allocator for each node.
//!
//! ```text
//!  caller on node 1 ──▶ policy ──▶ node 1 [ its frames, its allocator, that one's notes in the node's own memory ]
//!                                    │ full
//!                                    ▼ nearest by distance
//!                                  node 2 [ … ] ──▶ node 0 [ none: no memory ] ──▶ node 3 [ memory only: no CPU ]
//!                                                                                    │ full
//!  free: the node that has the frame                                                 ▼
//!                                                                                  pool  frames of no node
//! ```
//!
//! The caller says on which node it is: it knows, or keeps what it was told some time ago. Nothing here asks anybody.
//!
//! - **N1** A frame is managed by one node at most, or by the pool: maps do not overlap, and a node's allocator manages
//!   exactly its map.
//! - **N2** A run lies in one node. It is freed in the node that manages it, whoever got it and how.
//! - **N3** A request goes to the nodes in order: that of the policy, then by rising distance from it those that can be
//!   reached, each once, then the pool; with [`NumaPolicy::Bind`] those of the set, by distance from the caller, and no
//!   other. It is refused when each has refused.
//! - **N4** Each run that was handed out is counted once, for the caller's node and the node that it came from.
//! - **N5** A view's turns are taken one by one: of `n` runs that it got in turn each node has `n` divided by the
//!   nodes, up or down, while memory allows.
//!
//! Cost on the local path, above the node's allocator (`cargo run --release -p terrace-peers -- nodes --instructions`; x86-64, `ThreadSlots`;
//! without slots 7 instructions fewer, but the count is an atomic addition):
//!
//! | | instructions | ns |
//! |---|---|---|
//! | alloc, the node passed in | 10 | −0.7 to 0.5: noise |
//! | free, the node passed in, which is the frame's own | 10 | −0.9 to 0.4: noise |
//! | free without a node: its allocator is reached through a table | 14 | 1.7 to 2.7 |
//! | both by a [`NumaView`], which a thread or CPU keeps | 15 | 1.4 to 2.0 |
//!
//! A full node costs its refusal, each time. The notes are a word for each node and slot, and two for each pair.

mod counts;
mod distances;
mod error;
mod policy;
mod table;
mod view;

use core::fmt;

use terrace_sync::{NoSlots, Slots};

use crate::{
    allocator::{FrameAllocator, Request},
    map::MemoryMap,
    storage::Storage,
    types::{Frame, FrameError, Frames, Misuse, Order},
};

pub use counts::NodeCounts;
use counts::{Came, Counts};
pub use distances::Distances;
pub use error::NumaError;
pub use policy::{NodeSet, NodeWeights, NumaPolicy};
use table::NodeTable;
pub use view::NumaView;

/// The most nodes that there can be.
pub const MAX_NODES: usize = 64;

/// A node: its memory, if it has any, and the allocator over that.
///
/// The allocator's notes belong into the node's own memory: its caller passes storage from there.
#[derive(Debug)]
#[repr(C)] // What most calls read lies in the first line.
pub struct NumaNode<F> {
    /// That of the map, empty without memory: most frees know by it whose a frame is.
    span: Frames,
    memory: Option<Memory<F>>,
}

#[derive(Debug)]
#[repr(C)]
struct Memory<F> {
    frames: F,
    map: MemoryMap,
}

impl<F: FrameAllocator> NumaNode<F> {
    /// The node whose frames are those of `map`, managed by `frames`.
    ///
    /// # Errors
    /// [`NumaError::NotItsMap`]: these are other frames.
    pub fn new(map: &MemoryMap, frames: F) -> Result<Self, NumaError> {
        let all = map.ranges().iter().all(|&range| frames.manages(range)) && frames.total_frames() == map.count();
        let memory = Some(Memory { map: map.clone(), frames });
        if all { Ok(Self { span: map.span(), memory }) } else { Err(NumaError::NotItsMap) }
    }

    /// A node with processors and no memory.
    #[must_use]
    pub const fn without_memory() -> Self {
        Self { span: Frames { start: Frame(0), count: 0 }, memory: None }
    }

    /// The allocator of its frames.
    #[inline]
    pub fn frames(&self) -> Option<&F> {
        self.memory.as_ref().map(|memory| &memory.frames)
    }

    #[inline]
    fn manages(&self, frames: Frames) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.map.contains(frames))
    }

    fn ranges(&self) -> &[Frames] {
        self.memory.as_ref().map_or(&[], |memory| memory.map.ranges())
    }

    fn shares_frames_with(&self, other: &Self) -> bool {
        self.ranges().iter().any(|one| other.ranges().iter().any(|range| one.shared_with(*range).count > 0))
    }
}

/// Hands out frames of many nodes, near ones first.
///
/// As a [`FrameAllocator`] it serves callers whose node [`with_current`](Self::with_current) tells, by
/// [`NumaPolicy::Local`]; [`alloc_on`](Self::alloc_on) is told the node with the call, and a [`NumaView`] has a node and a
/// policy of its own.
///
/// ```
/// use terrace_frame::{FrameAllocator, Frames, HybridAllocator, MemoryMap, Order};
/// use terrace_frame::numa::{Distances, NodeSet, NumaAllocator, NumaNode, NumaPolicy};
///
/// // Two nodes of 64 MiB, and one with processors alone.
/// let maps = [0, 1].map(|node| MemoryMap::of(Frames::new(node << 14, 1 << 14)).unwrap());
/// let mut notes = [(); 2].map(|()| vec![0; HybridAllocator::metadata_bytes(1 << 14, 0) / 8]);
/// let [here, there] = &mut notes;
/// let nodes = [
///     NumaNode::new(&maps[0], HybridAllocator::new(&maps[0], here).unwrap())?,
///     NumaNode::new(&maps[1], HybridAllocator::new(&maps[1], there).unwrap())?,
///     NumaNode::without_memory(),
/// ];
/// let distances = [10, 20, 20, 20, 10, 12, 20, 12, 10];
/// let mut counts = [0; NumaAllocator::metadata_bytes(3, 0) / 8];
/// let numa = NumaAllocator::new(&nodes, Distances::new(3, &distances)?, &mut counts)?;
///
/// let near = numa.alloc_order_on(1, Order::MIN).unwrap();
/// assert_eq!(numa.node_of(near), Some(1));
/// let nearest = numa.alloc_order_on(2, Order::MIN).unwrap();
/// assert_eq!(numa.node_of(nearest), Some(1), "12 is less than 20");
/// let spread = numa.view(0, NumaPolicy::Interleave(NodeSet::first(2))).unwrap();
/// assert_ne!(numa.node_of(spread.alloc_order(Order::MIN).unwrap()), numa.node_of(spread.alloc_order(Order::MIN).unwrap()));
/// assert_eq!((numa.counts(1, 1).hits, numa.counts(2, 1).fallbacks), (1, 1));
/// # Ok::<(), terrace_frame::numa::NumaError>(())
/// ```
pub struct NumaAllocator<'m, F, S = NoSlots> {
    nodes: &'m [NumaNode<F>],
    counts: Counts<'m>,
    slots: S,
    /// Whose a frame may be.
    table: NodeTable,
    distances: Distances<'m>,
    /// Those that have memory.
    with_memory: NodeSet,
    pool: Option<&'m NumaNode<F>>,
    current: fn() -> usize,
    /// Keeps the words of `counts`.
    _storage: Storage<'m, ()>,
}

impl NumaAllocator<'_, ()> {
    /// Bytes of storage that are enough for the counts of so many nodes and slots; of more than any storage has room for all that a
    /// `usize` holds.
    #[must_use]
    pub const fn metadata_bytes(nodes: usize, slots: usize) -> usize {
        counts::bytes(nodes, slots)
    }
}

impl<'m, F: FrameAllocator> NumaAllocator<'m, F> {
    /// Over `nodes`, node 0 first, with its counts in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// [`NumaError`].
    pub fn new(nodes: &'m [NumaNode<F>], distances: Distances<'m>, storage: &'m mut [u64]) -> Result<Self, NumaError> {
        Self::with_slots(nodes, distances, NoSlots, storage)
    }
}

impl<'m, F: FrameAllocator, S: Slots> NumaAllocator<'m, F, S> {
    /// The same, where callers that have a number of `slots` count what they get by themselves: without an atomic addition.
    ///
    /// # Errors
    /// [`NumaError`].
    pub fn with_slots(
        nodes: &'m [NumaNode<F>],
        distances: Distances<'m>,
        slots: S,
        storage: &'m mut [u64],
    ) -> Result<Self, NumaError> {
        if nodes.len() != distances.nodes() {
            return Err(NumaError::Nodes);
        }
        for (other, node) in nodes.iter().enumerate() {
            if let Some(one) = nodes[..other].iter().position(|before| before.shares_frames_with(node)) {
                return Err(NumaError::Overlap(one, other));
            }
        }
        let words = counts::words(nodes.len(), slots.count());
        let storage = Storage::of_slice(storage, words).map_err(|_| NumaError::Storage)?;
        let counts = Counts::new(storage.words(), nodes.len(), slots.count());
        let with_memory = (0..nodes.len()).filter(|&node| nodes[node].memory.is_some()).collect();
        let table = NodeTable::new(nodes.iter().map(|node| node.span));
        Ok(Self { nodes, counts, slots, table, distances, with_memory, pool: None, current: || 0, _storage: storage })
    }

    /// The same with frames of no node, which are handed out when all nodes that can be reached are full.
    ///
    /// # Errors
    /// [`NumaError::Overlap`]: they are a node's.
    pub fn with_pool(self, pool: &'m NumaNode<F>) -> Result<Self, NumaError> {
        match self.nodes.iter().position(|node| node.shares_frames_with(pool)) {
            Some(node) => Err(NumaError::Overlap(node, self.nodes.len())),
            None => Ok(Self { pool: Some(pool), ..self }),
        }
    }

    /// The same for callers that do not say on which node they are: `current` says it, quickly and without coming back
    /// here. Without it they are on node 0.
    #[must_use]
    pub fn with_current(self, current: fn() -> usize) -> Self {
        Self { current, ..self }
    }

    /// A run as `request` asks for a caller on `node`: of its own, else of the nearest.
    ///
    /// # Errors
    /// [`FrameError::NumaNodeUnavailable`]: there is no such node. Others as those of the nodes' allocators, when none
    /// has such a run.
    #[inline]
    pub fn alloc_on(&self, node: usize, request: &Request) -> Result<Frames, FrameError> {
        if let Some(frames) = self.nodes.get(node).and_then(NumaNode::frames)
            && let Ok(run) = frames.alloc(request)
        {
            // SAFETY: it is below the number of nodes.
            unsafe { self.counts.local(&self.slots, node) };
            return Ok(run);
        }
        self.request_elsewhere(node, request)
    }

    /// A run of `order` likewise: its first frame.
    ///
    /// # Errors
    /// As [`alloc_on`](Self::alloc_on).
    #[inline]
    pub fn alloc_order_on(&self, node: usize, order: Order) -> Result<Frame, FrameError> {
        if let Some(frames) = self.nodes.get(node).and_then(NumaNode::frames)
            && let Ok(start) = frames.alloc_order(order)
        {
            // SAFETY: it is below the number of nodes.
            unsafe { self.counts.local(&self.slots, node) };
            return Ok(start);
        }
        self.order_elsewhere(node, order)
    }

    /// Fills `into` from the front with runs of `order` for a caller on `node`, and says how many there were.
    pub fn alloc_batch_on(&self, node: usize, order: Order, into: &mut [Frame]) -> usize {
        if node >= self.nodes.len() {
            return 0;
        }
        let own = self.nodes[node].frames().map_or(0, |frames| frames.alloc_batch(order, into));
        self.counts.add(node, node, Came::Named, own);
        let rest = &mut into[own..];
        for (filled, place) in rest.iter_mut().enumerate() {
            match self.order_elsewhere(node, order) {
                Ok(start) => *place = start,
                Err(_) => return own + filled,
            }
        }
        own + rest.len()
    }

    /// Takes a run back from a caller on `node`, whose own it mostly is: that node's allocator is asked first. Where it is not, or there is no
    /// such node, this is [`free`](FrameAllocator::free).
    ///
    /// # Errors
    /// As `free`.
    #[inline]
    pub fn free_on(&self, node: usize, frames: Frames) -> Result<(), Misuse> {
        match self.nodes.get(node).and_then(NumaNode::frames).map(|own| own.free(frames)) {
            None | Some(Err(Misuse::Outside)) => self.free_parts(frames),
            Some(answer) => answer,
        }
    }

    /// A run of `order` likewise.
    ///
    /// # Errors
    /// As [`free_order`](FrameAllocator::free_order).
    #[inline]
    pub fn free_order_on(&self, node: usize, start: Frame, order: Order) -> Result<(), Misuse> {
        match self.nodes.get(node).and_then(NumaNode::frames).map(|own| own.free_order(start, order)) {
            None | Some(Err(Misuse::Outside)) => self.free_order_elsewhere(start, order),
            Some(answer) => answer,
        }
    }

    /// A handle for callers on `node`, with [`NumaPolicy::Local`].
    ///
    /// # Errors
    /// [`FrameError::NumaNodeUnavailable`]: there is no such node.
    pub fn on(&self, node: usize) -> Result<NumaView<'_, 'm, F, S>, FrameError> {
        self.view(node, NumaPolicy::Local)
    }

    /// A handle for callers on `node` with a policy of its own.
    ///
    /// # Errors
    /// [`FrameError::NumaNodeUnavailable`]: there is no such node, or the policy names one that is not there, or none
    /// that has memory and can be reached (but a node that is preferred may be without).
    pub fn view(&self, node: usize, policy: NumaPolicy) -> Result<NumaView<'_, 'm, F, S>, FrameError> {
        let all = NodeSet::first(self.nodes.len());
        let named = policy.named().unwrap_or(all);
        let usable = self.distances.reachable(node, named.and(self.with_memory));
        let needs_memory = !matches!(policy, NumaPolicy::Local | NumaPolicy::Preferred(_));
        if named.is_empty() || named.and(all) != named || (needs_memory && usable.is_empty()) {
            return Err(FrameError::NumaNodeUnavailable);
        }
        let own = self.counts.own(node).ok_or(FrameError::NumaNodeUnavailable)?;
        Ok(NumaView::new(self, own, node, policy, usable))
    }

    /// The nodes, node 0 first.
    #[must_use]
    pub fn nodes(&self) -> &'m [NumaNode<F>] {
        self.nodes
    }

    /// The distances between them.
    #[must_use]
    pub fn distances(&self) -> Distances<'m> {
        self.distances
    }

    /// The node that has this frame. `None`: it is the pool's, or nobody's.
    #[must_use]
    pub fn node_of(&self, frame: Frame) -> Option<usize> {
        self.nodes.iter().position(|node| node.manages(Frames { start: frame, count: 1 }))
    }

    /// What callers on `from` got out of `to`; all zero where one of them is not there.
    #[must_use]
    pub fn counts(&self, from: usize, to: usize) -> NodeCounts {
        let there = from < self.nodes.len() && to < self.nodes.len();
        if there { self.counts.of(from, to) } else { NodeCounts::default() }
    }

    /// What callers on `from` got out of the pool.
    #[must_use]
    pub fn pool_counts(&self, from: usize) -> NodeCounts {
        if from < self.nodes.len() { self.counts.of(from, self.nodes.len()) } else { NodeCounts::default() }
    }

    #[cold]
    fn order_elsewhere(&self, node: usize, order: Order) -> Result<Frame, FrameError> {
        self.elsewhere(node, node, self.with_memory, &|frames: &F| frames.alloc_order(order))
    }

    #[cold]
    fn request_elsewhere(&self, node: usize, request: &Request) -> Result<Frames, FrameError> {
        request.checked()?;
        self.elsewhere(node, node, self.with_memory, &|frames: &F| frames.alloc(request))
    }

    /// N3, from the second node on: for a caller on `from` when `first` has refused, out of `left`.
    fn elsewhere<T>(
        &self,
        from: usize,
        first: usize,
        left: NodeSet,
        take: &dyn Fn(&F) -> Result<T, FrameError>,
    ) -> Result<T, FrameError> {
        if from >= self.nodes.len() {
            return Err(FrameError::NumaNodeUnavailable);
        }
        let mut left = left.without(first);
        while let Some(node) = self.distances.nearest(first, left) {
            left = left.without(node);
            if let Some(run) = self.fall(from, node, &self.nodes[node], take) {
                return Ok(run);
            }
        }
        let pool = self.pool.and_then(|pool| self.fall(from, self.nodes.len(), pool, take));
        pool.ok_or(FrameError::OutOfMemory)
    }

    /// A run of a node that was not the first; nothing, where it has none.
    fn fall<T>(
        &self,
        from: usize,
        to: usize,
        node: &NumaNode<F>,
        take: &dyn Fn(&F) -> Result<T, FrameError>,
    ) -> Option<T> {
        let run = node.frames().and_then(|frames| take(frames).ok())?;
        self.counts.add(from, to, Came::Fallen, 1);
        Some(run)
    }

    /// Nodes and pool.
    fn all(&self) -> impl Iterator<Item = &'m NumaNode<F>> {
        self.nodes.iter().chain(self.pool)
    }

    /// The allocator that has all of a run.
    #[inline]
    fn owner(&self, frames: Frames) -> Option<&'m F> {
        self.all().find(|node| node.manages(frames)).and_then(NumaNode::frames)
    }

    /// The allocator of the node that a frame may belong to, by the table.
    #[inline(always)]
    fn likely(&self, frame: Frame) -> Option<&'m F> {
        self.nodes.get(self.table.node(frame)).and_then(NumaNode::frames)
    }

    /// The parts of a run that reaches over several nodes, each with its owner; the last is `None` where the rest is
    /// nobody's.
    fn parts(&self, run: Frames) -> impl Iterator<Item = Option<(&'m F, Frames)>> {
        let mut at = Some(run.start.0);
        core::iter::from_fn(move || {
            let start = at.filter(|&start| start < run.end())?;
            let found = self.all().find_map(|node| {
                let range = node.ranges().iter().find(|range| range.contains(Frames::new(start, 1)))?;
                Some((node.frames()?, range.shared_with(Frames::new(start, run.end() - start))))
            });
            at = found.map(|(_, part)| part.end());
            Some(found)
        })
    }

    /// Takes back what the node that was asked first does not have.
    #[inline(never)]
    fn free_order_elsewhere(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        self.free_order(start, order)
    }

    /// The same where the table has named the wrong one.
    #[cold]
    fn free_order_parts(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        let owner = self.owner(Frames { start, count: 1 });
        match owner.map_or(Err(Misuse::Outside), |owner| owner.free_order(start, order)) {
            Err(Misuse::Outside) if start.0 & (order.frames() - 1) != 0 => Err(Misuse::NotARun),
            Err(Misuse::Outside) => self.free_parts(Frames::of_order(start, order)),
            answer => answer,
        }
    }

    /// A run of the pool, or one that nobody has alone (clause 5): all of its parts, or none.
    #[cold]
    fn free_parts(&self, run: Frames) -> Result<(), Misuse> {
        if let Some(owner) = self.owner(run) {
            return owner.free(run);
        }
        if run.count == 0 || self.parts(run).any(|part| part.is_none()) || run.start.0.checked_add(run.count).is_none()
        {
            return Err(Misuse::Outside);
        }
        if self.keeps_boundaries() {
            return Err(Misuse::NotARun); // By N2 none was handed out that reaches over nodes.
        }
        let mut frames = self
            .parts(run)
            .flatten()
            .flat_map(|(owner, part)| (part.start.0..part.end()).map(move |frame| owner.is_free(Frame(frame))));
        if frames.any(|free| free) {
            return Err(Misuse::AlreadyFree);
        }
        self.parts(run).flatten().try_for_each(|(owner, part)| owner.free(part))
    }
}

// SAFETY: by N1 and N2 a run is one that a node's allocator handed out, which keeps the contract; no two of them manage
// a frame.
unsafe impl<F: FrameAllocator, S: Slots> FrameAllocator for NumaAllocator<'_, F, S> {
    #[inline]
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        self.alloc_on((self.current)(), request)
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        match self.likely(frames.start).map(|owner| owner.free(frames)) {
            None | Some(Err(Misuse::Outside)) => self.free_parts(frames),
            Some(answer) => answer,
        }
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        self.alloc_order_on((self.current)(), order)
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        match self.likely(start).map(|owner| owner.free_order(start, order)) {
            None | Some(Err(Misuse::Outside)) => self.free_order_parts(start, order),
            Some(answer) => answer,
        }
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        self.alloc_batch_on((self.current)(), order, into)
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        let mut done = 0;
        while let Some(&start) = runs.get(done) {
            let node = self.all().find(|node| node.manages(Frames::of_order(start, order)));
            let Some((node, owner)) = node.and_then(|node| Some((node, node.frames()?))) else {
                self.free_order(start, order).map_err(|misuse| (done, misuse))?;
                done += 1;
                continue;
            };
            let same = runs[done..].iter().take_while(|&&run| node.manages(Frames::of_order(run, order))).count();
            owner.free_batch(order, &runs[done..done + same]).map_err(|(at, misuse)| (done + at, misuse))?;
            done += same;
        }
        Ok(())
    }

    fn drain(&self) {
        self.all().filter_map(NumaNode::frames).for_each(FrameAllocator::drain);
    }

    fn span(&self) -> Frames {
        let ranges = || self.all().flat_map(NumaNode::ranges);
        let start = ranges().map(|range| range.start.0).min().unwrap_or(0);
        Frames::new(start, ranges().map(|range| range.end()).max().unwrap_or(0) - start)
    }

    fn total_frames(&self) -> usize {
        self.all().filter_map(NumaNode::frames).map(FrameAllocator::total_frames).sum()
    }

    fn free_frames(&self) -> usize {
        self.all().filter_map(NumaNode::frames).map(FrameAllocator::free_frames).sum()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.owner(Frames { start: frame, count: 1 }).is_some_and(|owner| owner.is_free(frame))
    }

    fn manages(&self, frames: Frames) -> bool {
        let whole = frames.count > 0 && frames.start.0.checked_add(frames.count).is_some();
        self.owner(frames).is_some() || (whole && self.parts(frames).all(|part| part.is_some()))
    }

    fn keeps_boundaries(&self) -> bool {
        self.all().filter_map(NumaNode::frames).any(FrameAllocator::keeps_boundaries)
    }
}

impl<F: FrameAllocator, S: Slots> fmt::Debug for NumaAllocator<'_, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumaAllocator")
            .field("nodes", &self.nodes.len())
            .field("with_memory", &self.with_memory)
            .field("span", &self.span())
            .field("free", &self.free_frames())
            .finish_non_exhaustive()
    }
}
