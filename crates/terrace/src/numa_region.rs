//! [`NumaRegion`]: memory of a machine with nodes, near the thread that asks.
//!
//! ```text
//!  one reservation of addresses
//!  ├─ node 0: notes │ filled: frames │ addresses ──┤├─ node 1: notes │ filled │ addresses ──┤  a node without memory: none
//!  owners: for each frame the handle's node that holds it
//!
//!  NumaRegion ── Region ── NumaView ── NumaAllocator ─┬─ Filled ── HybridAllocator      node 0
//!   a handle for callers on one node                  └─ Filled ── HybridAllocator      node 1
//! ```
//!
//! Addresses become memory in steps of 2 MiB, when a node's filled frames do not serve a request: then the step is touched on that
//! node, or refused, and the next node is asked. So a full node is an error or another node's memory, never a signal; and what was
//! handed out can be touched.
//!
//! - **G1** A node's area is the reservation's, and no other node's: notes, then frames, both in steps.
//! - **G2** The frames of `steps` that are true are committed and in memory, on the node as far as the kernel has nodes; those of others
//!   are nobody's: taken out of the allocator, and not given back before they are memory.
//! - **G3** What `numa` refers to lives in `Base` until `numa` is gone; handles keep `Base`.
//! - **G4** The owner's number of a frame that is handed out is that of the handle's node that got it.
//!
//! Costs: those of `NumaAllocator` and `Region`, and a byte written for each page of a block. For each step of 2 MiB about four system
//! calls and two files read. A byte for each 4 KiB of addresses, touched as far as they are used.

use core::{
    fmt,
    mem::ManuallyDrop,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU8, Ordering},
};
use std::{
    alloc::{Layout, alloc_zeroed},
    boxed::Box,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    vec,
    vec::Vec,
};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, PageSize};
use terrace_frame::{
    FRAME_BYTES, Frame, FrameAllocator, FrameError, Frames, HybridAllocator, MemoryMap, Misuse, Order, Region, Request,
    numa::{Distances, MAX_NODES, NodeCounts, NumaAllocator, NumaNode, NumaPolicy, NumaView},
};
use terrace_sync::Slots as _;
use terrace_sys::{
    PageAllocator, Reservation, ThreadSlots,
    numa::{self, MemoryPolicy, NumaUnavailable, Topology},
    page_size,
};

const FRAME: usize = FRAME_BYTES as usize;
/// What becomes memory at once, in bytes, and in frames.
const STEP: usize = 2 << 20;
const STEP_FRAMES: usize = STEP / FRAME;

type Hybrid = HybridAllocator<'static, ThreadSlots>;
type Nodes = NumaAllocator<'static, Filled, ThreadSlots>;

/// Blocks of whole pages out of the memory of many nodes: a handle for callers on one of them, with a policy.
///
/// What one handle hands out another may free. Blocks are in memory: touching one never fails, nor goes to another node than the one it was
/// got from. When the last handle is dropped all of it goes back to the system.
///
/// Nodes are named by their place in [`Topology::nodes`]. On a machine of one node, or where the kernel does not let pages be placed
/// ([`unplaced`](Self::unplaced) says why), there is one.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace::{Alignment, AllocError, Allocator, NumaRegion, frame::numa::NumaPolicy};
///
/// let region = NumaRegion::with_limit(NonZeroUsize::new(64 << 20).unwrap())?; // 64 MiB of each node at most
/// let len = NonZeroUsize::new(100_000).unwrap();
/// let block = region.alloc(len, Alignment::ONE)?;
/// assert!(region.node_of(block).is_some());
/// # let block = core::ptr::NonNull::slice_from_raw_parts(block, 100_000);
/// // SAFETY: live, and not used again.
/// unsafe { region.free(block, Alignment::ONE) };
///
/// let far = region.nodes() - 1;
/// let bound = region.on(0, NumaPolicy::Preferred(far)).expect("it is there");
/// # let _ = bound;
/// # Ok::<(), AllocError>(())
/// ```
pub struct NumaRegion {
    region: Region<NumaView<'static, 'static, Filled, ThreadSlots>>,
    node: usize,
    base: Arc<Base>,
}

/// All nodes, and what they refer to.
struct Base {
    numa: ManuallyDrop<Box<Nodes>>,
    /// Leaked parts of `numa`, which the drop takes back.
    nodes: *mut [NumaNode<Filled>],
    distances: *mut [u8],
    counts: *mut [u64],
    reservation: Arc<Reservation>,
    owners: Box<[AtomicU8]>,
    /// The kernel's numbers.
    numbers: Vec<usize>,
    unplaced: Option<NumaUnavailable>,
}

// SAFETY: the pointers are of boxes that this value owns (G3), whose contents may be shared.
unsafe impl Send for Base {}
// SAFETY: as above; through a shared reference they are only read.
unsafe impl Sync for Base {}

/// The frames of a node as far as they are memory.
struct Filled {
    frames: Hybrid,
    reservation: Arc<Reservation>,
    /// The kernel's number of the node; none where it does not place pages.
    node: Option<usize>,
    /// Where the first frame lies, in bytes from the reservation's start.
    offset: usize,
    span: Frames,
    /// Whether each step is memory (G2).
    steps: Mutex<Box<[bool]>>,
}

impl Filled {
    fn steps(&self) -> MutexGuard<'_, Box<[bool]>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of steps that are no memory yet, which become memory for it. The rest of them is free then.
    #[cold]
    fn grow(&self, request: &Request) -> Result<Frames, FrameError> {
        let mut steps = self.steps();
        if let Ok(found) = self.frames.alloc(request) {
            return Ok(found); // Another thread was faster.
        }
        let (first, last, run) = self.place(&steps, request).ok_or(FrameError::OutOfMemory)?;
        for step in first..last {
            if fill(&self.reservation, self.offset + step * STEP, STEP, self.node).is_err() {
                self.give(self.frame(first), self.frame(step));
                return Err(FrameError::OutOfMemory);
            }
            steps[step] = true;
        }
        self.give(self.frame(first), run.start.0);
        self.give(run.end(), self.frame(last));
        Ok(run)
    }

    /// The first run as asked for in steps that are no memory, and these steps.
    fn place(&self, steps: &[bool], request: &Request) -> Option<(usize, usize, Frames)> {
        let mut first = 0;
        loop {
            first += steps.get(first..)?.iter().position(|&here| !here)?;
            let start = self.frame(first).next_multiple_of(request.alignment);
            let behind = start.checked_add(request.count)?;
            let last = first + (behind - self.frame(first)).div_ceil(STEP_FRAMES);
            match steps.get(first..last)?.iter().rposition(|&here| here) {
                Some(taken) => first += taken + 1,
                None => return Some((first, last, Frames::new(start, request.count))),
            }
        }
    }

    /// The first frame of a step.
    fn frame(&self, step: usize) -> usize {
        self.span.start.0 + step * STEP_FRAMES
    }

    /// Steps that are wholly free are no memory any more.
    fn trim(&self) {
        let mut steps = self.steps();
        self.frames.drain();
        for step in 0..steps.len() {
            let run = Frames::new(self.frame(step), STEP_FRAMES);
            // Taken, so that nobody else gets it, and by G2 it stays so.
            if !steps[step] || self.frames.alloc(&Request::frames(run.count).within(run)).is_err() {
                continue;
            }
            let start = self.offset + step * STEP;
            // SAFETY: the frames are nobody's but this function's.
            steps[step] = !unsafe { self.reservation.decommit(start..start + STEP) };
            if steps[step] {
                self.give(run.start.0, run.end());
            }
        }
    }

    /// Frames that are memory, and nobody's yet, are free from now on.
    fn give(&self, from: usize, to: usize) {
        let given = if from < to { self.frames.free(Frames::new(from, to - from)) } else { Ok(()) };
        debug_assert_eq!(given, Ok(()), "by G2 they were taken");
    }
}

/// Makes memory of addresses that nobody has: on a node, or anywhere.
fn fill(reservation: &Reservation, start: usize, len: usize, node: Option<usize>) -> Result<(), NumaUnavailable> {
    reservation.commit(start..start + len).map_err(|AllocError| NumaUnavailable::Memory)?;
    // SAFETY: `commit` has looked that it lies in the reservation.
    let address = unsafe { reservation.start().add(start) };
    let pages = NonNull::slice_from_raw_parts(address, len);
    let filled = match node {
        // SAFETY: committed, and by the caller's word of nobody.
        Some(node) => unsafe { numa::populate_on(pages, node) },
        // SAFETY: as above.
        None => unsafe { numa::populate(pages) },
    };
    if filled.is_err() {
        // SAFETY: nobody uses it. Where it is refused it stays committed and empty, and may be committed again.
        let _ = unsafe { reservation.decommit(start..start + len) };
    }
    filled
}

// SAFETY: every frame is one that the hybrid allocator hands out, which keeps the contract; by G2 it has none but those that are memory.
unsafe impl FrameAllocator for Filled {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        match self.frames.alloc(request) {
            // What is to lie in certain frames does not lie in steps more.
            Err(FrameError::OutOfMemory) if request.within == Frames::ALL => self.grow(request),
            answer => answer,
        }
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        self.frames.free(frames)
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        match self.frames.alloc_order(order) {
            Ok(start) => Ok(start),
            Err(_) => self.grow(&Request::order(order)).map(|run| run.start),
        }
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        self.frames.free_order(start, order)
    }

    fn drain(&self) {
        self.frames.drain();
    }

    fn span(&self) -> Frames {
        self.span
    }

    fn total_frames(&self) -> usize {
        self.span.count
    }

    fn free_frames(&self) -> usize {
        self.frames.free_frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.frames.is_free(frame)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.frames.manages(frames)
    }
}

/// Where a node's area lies, in bytes from the reservation's start. Empty without memory.
#[derive(Clone, Copy)]
struct Area {
    notes: usize,
    frames: usize,
    end: usize,
}

/// The areas side by side, of nodes with so many bytes.
fn areas(bytes: impl Iterator<Item = usize>) -> Option<Vec<Area>> {
    let mut at = 0usize;
    let place = |bytes: usize| {
        let count = bytes.div_ceil(STEP).checked_mul(STEP_FRAMES)?;
        let notes = match count {
            0 => 0,
            count => HybridAllocator::metadata_bytes(count, ThreadSlots.count()).checked_next_multiple_of(STEP)?,
        };
        let (start, frames) = (at, at.checked_add(notes)?);
        at = frames.checked_add(count.checked_mul(FRAME)?)?;
        Some(Area { notes: start, frames, end: at })
    };
    bytes.map(place).collect()
}

/// A node's allocator, with its notes in the node and no frame of its area free.
fn filled(reservation: &Arc<Reservation>, area: Area, node: Option<usize>) -> Option<NumaNode<Filled>> {
    if area.frames == area.end {
        return Some(NumaNode::without_memory());
    }
    let len = area.frames - area.notes;
    // A full node has notes elsewhere: they are few, and frames may come free.
    fill(reservation, area.notes, len, node).or_else(|_| fill(reservation, area.notes, len, None)).ok()?;
    // SAFETY: within the reservation.
    let notes = unsafe { reservation.start().add(area.notes) };
    // SAFETY: by G1 committed zeroes of this node alone, in whole words at a multiple of a page, until the reservation goes; by G3 the
    // allocator goes before.
    let notes: &'static mut [u64] = unsafe { core::slice::from_raw_parts_mut(notes.cast().as_ptr(), len / 8) };
    let first = (reservation.start().addr().get() + area.frames) / FRAME;
    let span = Frames::new(first, (area.end - area.frames) / FRAME);
    let map = MemoryMap::of(span).ok()?;
    let frames = HybridAllocator::with_slots(&map, ThreadSlots, notes).ok()?;
    // G2: nothing is memory yet. From the largest runs down all of it is taken, by as few calls as there are orders and runs of 4 GiB.
    for order in (0..=Order::MAX.log2()).rev().filter_map(Order::new) {
        while frames.alloc_order(order).is_ok() {}
    }
    let (reservation, offset) = (Arc::clone(reservation), area.frames);
    let steps = Mutex::new(vec![false; span.count / STEP_FRAMES].into_boxed_slice());
    NumaNode::new(&map, Filled { frames, reservation, node, offset, span, steps }).ok()
}

/// So many bytes, of which none is touched before it is used. `None`: there is no memory for them, where a `Box` would end the program.
fn zeroes(count: usize) -> Option<Box<[AtomicU8]>> {
    let layout = Layout::array::<AtomicU8>(count).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: of more than no bytes.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let all = NonNull::slice_from_raw_parts(start.cast(), count);
    // SAFETY: of the global allocator, by the layout of such a slice; a zero is an `AtomicU8`.
    Some(unsafe { Box::from_raw(all.as_ptr()) })
}

/// The machine's nodes, or one, and why there is no more.
fn machine() -> (Topology, Option<NumaUnavailable>) {
    let placed = Topology::read().and_then(|topology| lets_pages_be_placed(&topology).map(|()| topology));
    match placed {
        Ok(topology) if topology.nodes().len() <= MAX_NODES => (topology, None),
        Ok(_) => (Topology::one_node(), Some(NumaUnavailable::Node)),
        Err(why) => (Topology::one_node(), Some(why)),
    }
}

/// Tries what a step needs on a page.
fn lets_pages_be_placed(topology: &Topology) -> Result<(), NumaUnavailable> {
    let len = NonZeroUsize::new(page_size()).ok_or(NumaUnavailable::Memory)?;
    let start = PageAllocator.alloc(len, Alignment::ONE).map_err(|AllocError| NumaUnavailable::Memory)?;
    let page = NonNull::slice_from_raw_parts(start, len.get());
    let with_memory = topology.nodes().iter().find(|node| node.bytes > 0).ok_or(NumaUnavailable::Node);
    let tried = with_memory.and_then(|node| {
        numa::bind(page, &MemoryPolicy::Preferred(node.number))?;
        numa::places(page, |_| {})
    });
    // SAFETY: live, and not used again.
    unsafe { PageAllocator.free(page, Alignment::ONE) };
    tried
}

impl NumaRegion {
    /// As much of each node as it has memory; for callers on the node of this thread. The memory itself is asked for later.
    ///
    /// # Errors
    /// [`AllocError`]: there are no addresses, or no memory for the notes.
    pub fn new() -> Result<Self, AllocError> {
        Self::with_limit(NonZeroUsize::MAX)
    }

    /// So many bytes of each node at most.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limit(bytes: NonZeroUsize) -> Result<Self, AllocError> {
        let (topology, unplaced) = machine();
        let base = Arc::new(Base::new(&topology, bytes.get(), unplaced).ok_or(AllocError)?);
        let node = base.index_of(numa::current_node());
        Self::handle(base, node, NumaPolicy::Local).map_err(|_| AllocError)
    }

    /// A handle for callers on that node, with a policy.
    ///
    /// # Errors
    /// [`FrameError::NumaNodeUnavailable`]: the node, or one that the policy names, is not there.
    pub fn on(&self, node: usize, policy: NumaPolicy) -> Result<Self, FrameError> {
        Self::handle(Arc::clone(&self.base), node, policy)
    }

    fn handle(base: Arc<Base>, node: usize, policy: NumaPolicy) -> Result<Self, FrameError> {
        let numa: *const Nodes = &raw const **base.numa;
        // SAFETY: by G3 it lives as long as this handle, which keeps `base`, and hands the view to nobody.
        let numa: &'static Nodes = unsafe { &*numa };
        let view = numa.view(node, policy)?;
        let start = base.offset(view.span().start.0).ok_or(FrameError::OutOfMemory)?;
        // SAFETY: within the reservation.
        let first = unsafe { base.reservation.start().add(start) };
        // SAFETY: frames are numbered by their addresses, in one reservation, which `base` keeps; by G2 those that are handed out are
        // committed, and by the contract of frames nobody else's.
        let region = unsafe { Region::new(first, view) }?;
        Ok(Self { region, node, base })
    }

    /// How many nodes there are, those without memory too.
    pub fn nodes(&self) -> usize {
        self.base.numbers.len()
    }

    /// The node of this handle's callers.
    pub fn node(&self) -> usize {
        self.node
    }

    /// The place of the node that this thread runs on, as of a while ago.
    #[inline]
    pub fn current(&self) -> usize {
        self.base.index_of(numa::current_node())
    }

    /// The kernel's number of a node.
    pub fn number_of(&self, node: usize) -> Option<usize> {
        self.base.numbers.get(node).copied()
    }

    /// The node whose memory an address of this region is.
    pub fn node_of(&self, address: NonNull<u8>) -> Option<usize> {
        self.base.numa.node_of(Frame(address.addr().get() / FRAME))
    }

    /// The node of the handle that a block at this address was got by.
    #[inline]
    pub fn holder_of(&self, address: NonNull<u8>) -> Option<usize> {
        let offset = address.addr().get().wrapping_sub(self.base.reservation.start().addr().get());
        // Relaxed: who frees a block has it from who got it, and sees what was written before.
        self.base.owners.get(offset / FRAME).map(|owner| usize::from(owner.load(Ordering::Relaxed)))
    }

    /// What callers on `from` got out of `to`, in blocks.
    pub fn counts(&self, from: usize, to: usize) -> NodeCounts {
        self.base.numa.counts(from, to)
    }

    /// Bytes of a node that are memory now, in blocks or not.
    pub fn filled_bytes(&self, node: usize) -> usize {
        self.base
            .numa
            .nodes()
            .get(node)
            .and_then(NumaNode::frames)
            .map_or(0, |node| node.steps().iter().filter(|&&here| here).count() * STEP)
    }

    /// Gives memory that is in no block back to the system, in steps of 2 MiB.
    pub fn trim(&self) {
        self.base.numa.nodes().iter().filter_map(NumaNode::frames).for_each(Filled::trim);
    }

    /// Why the machine is taken for one node though it may have more. `None`: pages lie where they should.
    pub fn unplaced(&self) -> Option<NumaUnavailable> {
        self.base.unplaced
    }

    /// G4, for a block.
    fn own(&self, block: NonNull<u8>, len: usize) {
        let first = (block.addr().get() - self.base.reservation.start().addr().get()) / FRAME;
        let owners = self.base.owners.iter().skip(first).take(len.div_ceil(FRAME));
        owners.for_each(|owner| owner.store(self.node as u8, Ordering::Relaxed));
    }
}

impl Base {
    fn new(topology: &Topology, most: usize, unplaced: Option<NumaUnavailable>) -> Option<Self> {
        let bytes = topology.nodes().iter().map(|node| usize::try_from(node.bytes).unwrap_or(usize::MAX).min(most));
        let areas = areas(bytes)?;
        let len = NonZeroUsize::new(areas.last()?.end)?;
        let step = Alignment::new(STEP)?;
        let reservation = Arc::new(Reservation::with_alignment(len, step).ok()?);
        let owners = zeroes(len.get() / FRAME)?;
        let numbers: Vec<usize> = topology.nodes().iter().map(|node| node.number).collect();
        let placed = |&number: &usize| unplaced.is_none().then_some(number);
        let nodes = areas.iter().zip(&numbers).map(|(&area, number)| filled(&reservation, area, placed(number)));
        let nodes = Box::into_raw(nodes.collect::<Option<Box<[_]>>>()?);
        let distances = Box::into_raw(Box::from(topology.distances()));
        let words = NumaAllocator::metadata_bytes(numbers.len(), ThreadSlots.count()).div_ceil(8);
        let counts = Box::into_raw(vec![0u64; words].into_boxed_slice());
        // SAFETY: just made, and by G3 given back after the allocator is gone.
        let (all, rows) = (unsafe { &*nodes }, unsafe { &*distances });
        // SAFETY: as above; nobody else reaches it.
        let words = unsafe { &mut *counts };
        let numa = Distances::new(numbers.len(), rows)
            .and_then(|distances| NumaAllocator::with_slots(all, distances, ThreadSlots, words));
        // What is refused here, a torn matrix, has leaked a few words: it happens once.
        let numa = ManuallyDrop::new(Box::new(numa.ok()?));
        Some(Self { numa, nodes, distances, counts, reservation, owners, numbers, unplaced })
    }

    /// The place of the node with the kernel's number; the first, where it is not there.
    #[inline]
    fn index_of(&self, number: usize) -> usize {
        // Mostly there are no gaps.
        match self.numbers.get(number) {
            Some(&same) if same == number => number,
            _ => self.numbers.iter().position(|&known| known == number).unwrap_or(0),
        }
    }

    /// Where a frame lies, in bytes from the reservation's start.
    fn offset(&self, frame: usize) -> Option<usize> {
        frame.checked_mul(FRAME)?.checked_sub(self.reservation.start().addr().get())
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // SAFETY: once, and it is not used again.
        unsafe { ManuallyDrop::drop(&mut self.numa) };
        // SAFETY: by G3 from `into_raw`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.nodes) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.distances) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.counts) });
    }
}

// SAFETY: every call is the region's, unchanged; what is written beside is no block's.
unsafe impl Allocator for NumaRegion {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.region.alloc(len, alignment)?;
        self.own(block, len.get());
        Ok(block)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promises, passed on unchanged.
        let resized = unsafe { self.region.resize(memory, alignment, new_len) };
        if resized && new_len.get() > memory.len() {
            self.own(memory.cast(), new_len.get());
        }
        resized
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.region.free(memory, alignment) }
    }
}

// SAFETY: blocks are the region's.
unsafe impl Owns for NumaRegion {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.region.owns(address)
    }
}

// SAFETY: nothing is added to a request.
unsafe impl GoodSize for NumaRegion {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.region.good_size(len, alignment)
    }
}

// SAFETY: blocks are the region's.
unsafe impl PageSize for NumaRegion {
    fn page_size(&self) -> Alignment {
        self.region.page_size()
    }
}

impl fmt::Debug for NumaRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumaRegion")
            .field("node", &self.node)
            .field("numbers", &self.base.numbers)
            .field("unplaced", &self.base.unplaced)
            .finish_non_exhaustive()
    }
}

terrace_core::bridge_collections!(impl[] for NumaRegion);
