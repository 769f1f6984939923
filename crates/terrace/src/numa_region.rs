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
//! With huge pages all frames are memory from the beginning, and the notes lie aside ([`Ground`](ground::Ground)).
//!
//! - **G1** A node's area is the ground's, and no other node's: notes, then frames, both in steps.
//! - **G2** The frames of `steps` that are true are committed and in memory, on the node as far as the kernel has nodes; those of others
//!   are nobody's: taken out of the allocator, and not given back before they are memory.
//! - **G3** What `numa` refers to lives in `Base` until `numa` is gone; handles keep `Base`.
//! - **G4** The owner's number of a frame that is handed out is that of the handle's node that got it.
//!
//! Costs: those of `NumaAllocator` and `Region`, and a byte written for each page of a block. For each step of 2 MiB about four system
//! calls and two files read. A byte for each 4 KiB of addresses, touched as far as they are used.

mod base;
mod filled;
mod ground;

use core::{fmt, num::NonZeroUsize, ptr::NonNull, sync::atomic::Ordering};
use std::sync::Arc;

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, PageSize};
use terrace_frame::{
    FRAME_BYTES, Frame, FrameAllocator as _, FrameError, HybridAllocator, Region,
    numa::{NodeCounts, NumaAllocator, NumaNode, NumaPolicy, NumaView},
};
use terrace_sys::{
    ThreadSlots, Unavailable,
    numa::{self, NumaUnavailable},
};

use base::{Base, machine};
use filled::Filled;

const FRAME: usize = FRAME_BYTES as usize;
/// What becomes memory at once, in bytes, and in frames.
const STEP: usize = 2 << 20;
const STEP_FRAMES: usize = STEP / FRAME;

type Hybrid = HybridAllocator<'static, ThreadSlots>;
type Nodes = NumaAllocator<'static, Filled, ThreadSlots>;

/// Blocks of whole pages out of the memory of many nodes: a handle for callers on one of them, with a policy.
///
/// What one handle hands out another may free. Blocks are in memory: touching one never fails, nor goes to another node than the one it was
/// got from. When the last handle is dropped all of it goes back to the system. With [`with_huge_pages`](Self::with_huge_pages) it is huge pages.
///
/// Nodes are named by their place in [`Topology::nodes`](numa::Topology::nodes). On a machine of one node, or where the kernel does not let pages be placed
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
        Self::over(Base::new(machine(), bytes.get(), None).map_err(|_| AllocError)?).map_err(|_| AllocError)
    }

    /// So many bytes of each node that has memory, rounded up to whole pages, in huge pages of `size` bytes each out of the pool that the machine
    /// keeps on that node: all of them are taken and touched now, and stay until the last handle is dropped.
    ///
    /// As [`PageOptions::explicit_huge_pages`](crate::PageOptions::explicit_huge_pages), for all nodes. [`trim`](Self::trim) gives none of it back.
    ///
    /// # Errors
    /// [`Unavailable`]: with [`Node`](Unavailable::Node) the node that has too few, and how it gets more; nothing was taken.
    ///
    /// ```
    /// use core::num::NonZeroUsize;
    /// use terrace::{Alignment, NumaRegion};
    ///
    /// let (page, of_each_node) = (Alignment::new(2 << 20).unwrap(), NonZeroUsize::new(8 << 20).unwrap());
    /// match NumaRegion::with_huge_pages(page, of_each_node) {
    ///     Ok(region) => println!("{} bytes on node 0", region.filled_bytes(0)),
    ///     Err(why) => println!("{why}"), // "… node 1 has too few huge pages free; their number is set in …"
    /// }
    /// ```
    pub fn with_huge_pages(size: Alignment, bytes: NonZeroUsize) -> Result<Self, Unavailable> {
        Self::over(Base::new(machine(), bytes.get(), Some(size))?).map_err(|_| Unavailable::Memory)
    }

    fn over(base: Base) -> Result<Self, FrameError> {
        let node = base.index_of(numa::current_node());
        Self::handle(Arc::new(base), node, NumaPolicy::Local)
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
        let first = unsafe { base.ground.start().add(start) };
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
        let offset = address.addr().get().wrapping_sub(self.base.ground.start().addr().get());
        // Relaxed: who frees a block has it from who got it, and sees what was written before.
        self.base.owners.get(offset / FRAME).map(|owner| usize::from(owner.load(Ordering::Relaxed)))
    }

    /// What callers on `from` got out of `to`, in blocks.
    pub fn counts(&self, from: usize, to: usize) -> NodeCounts {
        self.base.numa.counts(from, to)
    }

    /// Bytes of a node that are memory now, in blocks or not.
    pub fn filled_bytes(&self, node: usize) -> usize {
        self.base.numa.nodes().get(node).and_then(NumaNode::frames).map_or(0, Filled::bytes)
    }

    /// Gives memory that is in no block back to the system, in steps of 2 MiB; none of huge pages.
    pub fn trim(&self) {
        self.base.numa.nodes().iter().filter_map(NumaNode::frames).for_each(Filled::trim);
    }

    /// Why the machine is taken for one node though it may have more. `None`: pages lie where they should.
    pub fn unplaced(&self) -> Option<NumaUnavailable> {
        self.base.unplaced
    }

    /// G4, for a block.
    fn own(&self, block: NonNull<u8>, len: usize) {
        let first = (block.addr().get() - self.base.ground.start().addr().get()) / FRAME;
        let owners = self.base.owners.iter().skip(first).take(len.div_ceil(FRAME));
        owners.for_each(|owner| owner.store(self.node as u8, Ordering::Relaxed));
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
