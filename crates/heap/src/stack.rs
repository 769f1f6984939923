//! [`StackAllocator`]: last in, first out.
//!
//! ```text
//!   an arena over `backing`
//!   ├ header │ block ┼ header │ block (dead) ┼ header │ pad │ block ┼┄┄ free ┄┄┤
//!       ▲────────────────│  ▲───────────────────│                    ▲
//!               below            below      top ─┘              freeing the top ends here, or, with dead
//!                                                               blocks below it, at the lowest of them
//! ```
//!
//! Each block is linked to the one made before it. Freeing the top takes its bytes back at once, over the borders of
//! the arena's nodes too. Any other free is legal, and *found*: the block is marked dead, counted with the place that
//! freed it, and its bytes come back when everything above it has gone. [`mark`] and [`release`] end all blocks
//! made in between at once.
//!
//! Memory is held by the law of [`ArenaAllocator`], the headers counted as in use.
//!
//! Costs: a header of one word a block, or as many bytes as its alignment where that is more; `alloc` and the free of
//! the top about twenty instructions, any other free fewer; a dead block is passed once.
//!
//! [`mark`]: StackAllocator::mark
//! [`release`]: StackAllocator::release

use core::{cell::Cell, fmt, num::NonZeroUsize, panic::Location, ptr, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode, bridge_collections};

use crate::{
    arena::ArenaAllocator,
    bump::{prefix, prefixed},
};

/// What stands at the start of every block of the arena.
struct Header {
    /// The block made before this one, or null; the lowest bit says that this block is dead.
    below: *mut Header,
}

const DEAD: usize = 1;
const _: () = assert!(align_of::<Header>() > DEAD);

/// A moment in the life of a [`StackAllocator`], to [`release`](StackAllocator::release) to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The address of the top block's header at that moment, 0 without one: a name, never followed.
    top: usize,
    /// Blocks of the chain at that moment.
    blocks: usize,
}

/// Blocks one above the other, over any backing; see the [module](crate::stack) for the design.
///
/// - **I1** From `top` along `below` there are `chained` headers, each at the start of a block of `arena` that is
///   initialised, of the length `prefix + len` and with an alignment no less than the header's. Later ones stand higher
///   in their node or in a newer node.
/// - **I2** The caller's block begins `prefix(alignment)` bytes after its header; the chain's blocks that are not dead are
///   exactly the live ones, and `top` is not dead. `dead` counts the others.
///
/// ```
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::StackAllocator;
///
/// let stack = StackAllocator::new(SystemAllocator);
/// let below = stack.dupe(b"below")?;
/// let above = stack.dupe(b"above")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { stack.free_slice(below) }; // out of order: found, and its bytes wait
/// assert_eq!((stack.out_of_order(), stack.waiting_blocks()), (1, 1));
/// assert_eq!(stack.last_out_of_order().unwrap().file(), file!());
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { stack.free_slice(above) };
/// assert_eq!((stack.waiting_blocks(), stack.used_bytes()), (0, 0));
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// What lives in a collection cannot be released under it:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::StackAllocator;
///
/// let mut stack = StackAllocator::new(SystemAllocator);
/// let bottom = stack.mark();
/// let mut bytes = Vec::new_in(&stack);
/// bytes.push(1u8);
/// stack.release(bottom);
/// bytes.push(2u8);
/// ```
pub struct StackAllocator<A: Allocator> {
    top: Cell<Option<NonNull<Header>>>,
    chained: Cell<usize>,
    dead: Cell<usize>,
    out_of_order: Cell<u64>,
    last_out_of_order: Cell<Option<&'static Location<'static>>>,
    arena: ArenaAllocator<A>,
}

// SAFETY: by I1 the headers lie in the arena's nodes, which are this allocator's alone and may be freed elsewhere.
unsafe impl<A: Allocator + Send> Send for StackAllocator<A> {}

impl<A: Allocator> StackAllocator<A> {
    /// An empty stack; asks `backing` for nothing yet.
    pub const fn new(backing: A) -> Self {
        Self::over(ArenaAllocator::new(backing))
    }

    /// A stack whose first `capacity` bytes, headers counted, need no further request of `backing`.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses them.
    #[track_caller]
    pub fn with_capacity(backing: A, capacity: NonZeroUsize) -> Result<Self, AllocError> {
        ArenaAllocator::with_capacity(backing, capacity).map(Self::over)
    }

    const fn over(arena: ArenaAllocator<A>) -> Self {
        Self {
            top: Cell::new(None),
            chained: Cell::new(0),
            dead: Cell::new(0),
            out_of_order: Cell::new(0),
            last_out_of_order: Cell::new(None),
            arena,
        }
    }

    /// Frees so far of blocks that were not the top.
    pub const fn out_of_order(&self) -> u64 {
        self.out_of_order.get()
    }

    /// Who freed a block that was not the top, the last time.
    pub const fn last_out_of_order(&self) -> Option<&'static Location<'static>> {
        self.last_out_of_order.get()
    }

    /// Blocks freed out of order whose bytes wait for those above.
    pub const fn waiting_blocks(&self) -> usize {
        self.dead.get()
    }

    /// Bytes now held of the backing.
    pub fn held_bytes(&self) -> usize {
        self.arena.held_bytes()
    }

    /// Bytes up to the top's end: live, waiting, headers and padding.
    pub fn used_bytes(&self) -> usize {
        self.arena.used_bytes()
    }

    /// Where the stack stands now.
    pub fn mark(&self) -> Marker {
        Marker { top: self.top.get().map_or(0, |top| top.addr().get()), blocks: self.chained.get() }
    }

    /// Ends every block made since `marker`.
    ///
    /// `false`: nothing has changed, because the block that was the top has gone since, or the marker is another
    /// stack's. One step a block that has been made since.
    ///
    /// ```
    /// # use terrace_core::{AllocatorExt, SystemAllocator};
    /// # use terrace_heap::StackAllocator;
    /// let mut stack = StackAllocator::new(SystemAllocator);
    /// let kept = stack.create::<u64>()?;
    /// let used = stack.used_bytes();
    /// let marker = stack.mark();
    /// stack.create::<u64>()?;
    /// stack.dupe(b"ended too")?;
    /// assert!(stack.release(marker));
    /// assert_eq!(stack.used_bytes(), used);
    /// # // SAFETY: live, of this allocator, not used again.
    /// # unsafe { stack.destroy(kept) };
    /// # Ok::<(), terrace_core::AllocError>(())
    /// ```
    #[track_caller]
    pub fn release(&mut self, marker: Marker) -> bool {
        let Some(count) = self.chained.get().checked_sub(marker.blocks) else { return false };
        let mut header = self.top.get();
        for _ in 0..count {
            header = header.and_then(Self::below);
        }
        if header.map_or(0, |header| header.addr().get()) != marker.top {
            return false;
        }
        // SAFETY: `&mut self` ends every borrow of a block, and the marker says which ones end.
        unsafe { self.pop(count) };
        true
    }

    /// Ends every block and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

    /// A new top.
    #[inline(always)]
    #[track_caller]
    fn push(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let (prefix, total) = prefixed(size_of::<Header>(), len, alignment).ok_or(AllocError)?;
        let strict = alignment.max(Alignment::of::<Header>());
        let start = if zeroed { self.arena.alloc_zeroed(total, strict) } else { self.arena.alloc(total, strict) }?;
        // Read after the arena has answered: a hook of the backing may have been here.
        let below = self.top.get().map_or(ptr::null_mut(), NonNull::as_ptr);
        let header = start.cast::<Header>();
        // SAFETY: the block is ours, and has room and alignment for a header.
        unsafe { header.write(Header { below }) };
        self.top.set(Some(header));
        self.chained.set(self.chained.get() + 1);
        // SAFETY: the block has `prefix + len` bytes.
        Ok(unsafe { start.add(prefix) })
    }

    /// Takes the `count` uppermost headers off the chain, and the dead ones that then come.
    ///
    /// # Safety
    /// Nobody uses their blocks any more.
    #[inline]
    #[track_caller]
    unsafe fn pop(&self, mut count: usize) {
        let mut lowest = None;
        let mut top = self.top.get();
        while let Some(header) = top {
            let dead = Self::is_dead(header);
            if count == 0 && !dead {
                break;
            }
            count = count.saturating_sub(1);
            self.dead.set(self.dead.get() - usize::from(dead));
            self.chained.set(self.chained.get() - 1);
            lowest = top;
            top = Self::below(header);
        }
        self.top.set(top);
        let Some(lowest) = lowest else { return };
        // SAFETY: by I1 the start of a block of the arena; it and all later ones are off the chain, and used by nobody.
        unsafe { self.arena.rewind_to(lowest.cast(), top.is_none()) };
    }

    #[inline]
    fn is_dead(header: NonNull<Header>) -> bool {
        // SAFETY: callers pass headers of the chain, which by I1 are initialised.
        unsafe { header.as_ref() }.below.addr() & DEAD != 0
    }

    #[inline]
    fn below(header: NonNull<Header>) -> Option<NonNull<Header>> {
        // SAFETY: callers pass headers of the chain, which by I1 are initialised.
        let below = unsafe { header.as_ref() }.below;
        NonNull::new(below.map_addr(|address| address & !DEAD))
    }

    /// The arena's view of a live block.
    #[inline]
    fn block_of(memory: NonNull<[u8]>, alignment: Alignment) -> NonNull<[u8]> {
        let prefix = prefix(size_of::<Header>(), alignment);
        // SAFETY: by I2 the header stands so many bytes before, in the same block of the arena.
        let start = unsafe { memory.cast::<u8>().sub(prefix) };
        NonNull::slice_from_raw_parts(start, prefix + memory.len())
    }
}

// SAFETY: by I1 and I2 blocks are parts of disjoint blocks of the arena, live until they leave the chain, aligned since
// both their arena block and `prefix` are; what the arena refuses changes nothing.
unsafe impl<A: Allocator> Allocator for StackAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.push(len, alignment, false)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let Some((_, total)) = prefixed(size_of::<Header>(), new_len, alignment) else { return false };
        let block = Self::block_of(memory, alignment);
        if self.top.get() != Some(block.cast()) {
            return new_len.get() <= memory.len();
        }
        // SAFETY: by I1 a live block of the arena; nothing stands above the top.
        unsafe { self.arena.resize_topmost(block, total) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { self.resize(memory, alignment, new_len) }.then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let header = Self::block_of(memory, alignment).cast::<Header>();
        if self.top.get() == Some(header) {
            // SAFETY: the caller gives the top up.
            unsafe { self.pop(1) };
            return;
        }
        self.out_of_order.set(self.out_of_order.get() + 1);
        self.last_out_of_order.set(Some(Location::caller()));
        self.dead.set(self.dead.get() + 1);
        // SAFETY: by I1 the header is there, and no reference to it exists.
        let below = unsafe { &mut (*header.as_ptr()).below };
        *below = below.map_addr(|address| address | DEAD);
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.push(len, alignment, true)
    }
}

// SAFETY: by I1 blocks lie in the arena's.
unsafe impl<A: Allocator> Owns for StackAllocator<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.arena.owns(address)
    }
}

impl<A: Allocator> Reset for StackAllocator<A> {
    /// As [`ArenaAllocator::reset`]. What was found out of order stays counted.
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.top.set(None);
        self.chained.set(0);
        self.dead.set(0);
        self.arena.reset(mode)
    }
}

bridge_collections!(impl['b, A: Allocator] for &'b StackAllocator<A>);

impl<A: Allocator> fmt::Debug for StackAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackAllocator")
            .field("live", &(self.chained.get() - self.dead.get()))
            .field("waiting", &self.dead.get())
            .field("out_of_order", &self.out_of_order.get())
            .field("held", &self.held_bytes())
            .finish()
    }
}
