//! [`AffixAllocator`]: a value before and a value behind each block.
//!
//! ```text
//! one block of `backing`, as aligned as the strictest of the three
//! +-----+--------+------------------+-----+--------+
//! | pad | prefix | len bytes        | pad | suffix |
//! +-----+--------+------------------+-----+--------+
//!                ^ handed out        ^ pad: so that the suffix is aligned
//! ```
//!
//! The prefix ends where the block begins, whatever the block's alignment, and so is found by the block's address alone;
//! the suffix by address and length. A change of length moves the suffix along. After D's `AffixAllocator`.
//!
//! Costs: the bytes in the picture; a few instructions and two writes a block.

mod plan;

use core::{fmt, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use plan::{Plan, Shape};
use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, Reset, ResetMode, bridge_collections};

/// Puts a copy of one value before each block of `backing`, and of another behind it.
///
/// Use it where each block carries something of its own that its user should not see: a type tag and a mark bit for a
/// garbage collector, the owner of a buffer, a seal whose change betrays who wrote too far. Without one of the two,
/// take `()`.
///
/// - **I1** A live block of the caller lies in a live block of `backing` at the place that `Shape::plan` says.
/// - **I2** Before it lies an initialised `P`, and behind it an initialised `S`, unless the caller has overwritten them.
///
/// ```
/// use core::ptr::NonNull;
/// use terrace_core::{AllocatorExt, SystemAllocator};
/// use terrace_heap::AffixAllocator;
///
/// /// What a garbage collector knows of an object.
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Header { tag: u32, marked: bool }
///
/// let objects = AffixAllocator::new(SystemAllocator, Header { tag: 7, marked: false }, ());
/// let object = objects.create::<[u64; 3]>()?;
/// let memory = NonNull::slice_from_raw_parts(object.cast::<u8>(), size_of::<[u64; 3]>());
/// // SAFETY: a live block of this allocator; nobody else looks at the header.
/// let header = unsafe { objects.prefix(memory).as_mut() };
/// header.marked = true;
/// assert_eq!(*header, Header { tag: 7, marked: true });
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { objects.destroy(object) };
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct AffixAllocator<A, P, S> {
    prefix: P,
    suffix: S,
    backing: A,
}

impl<A, P: Copy, S: Copy> AffixAllocator<A, P, S> {
    const SHAPE: Shape = Shape::of::<P, S>();

    /// Each block gets a copy of `prefix` before it and of `suffix` behind it.
    pub const fn new(backing: A, prefix: P, suffix: S) -> Self {
        Self { prefix, suffix, backing }
    }

    /// Where the prefix of a block lies: initialised, aligned, and nobody's but the caller's.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator.
    #[inline]
    pub const unsafe fn prefix(&self, memory: NonNull<[u8]>) -> NonNull<P> {
        // SAFETY: by I1 the prefix lies in the same block of the backing, and ends there.
        unsafe { memory.cast::<P>().sub(1) }
    }

    /// Where the suffix of a block lies: initialised, aligned, and nobody's but the caller's. It moves when the block
    /// changes its length.
    ///
    /// # Safety
    /// `memory` is a live block of this allocator, with its length.
    #[inline]
    pub const unsafe fn suffix(&self, memory: NonNull<[u8]>) -> NonNull<S> {
        // The length of a live block can be rounded up (I1).
        let to_suffix = match Self::SHAPE.suffix_alignment.forward(memory.len()) {
            Some(offset) => offset,
            None => memory.len(),
        };
        // SAFETY: by I1 the suffix lies in the same block of the backing, behind so many bytes.
        unsafe { memory.cast::<u8>().add(to_suffix) }.cast()
    }

    /// The caller's block, with both values, in a new block of the backing.
    ///
    /// # Safety
    /// `start` has `plan.total` bytes that nobody uses, aligned to `plan.alignment`.
    #[inline]
    unsafe fn furnish(&self, start: NonNull<u8>, plan: Plan) -> NonNull<u8> {
        // SAFETY: inside the block, by the plan.
        let block = unsafe { start.add(plan.block) };
        // SAFETY: by the plan as many bytes as a `P` lie before it.
        let prefix = unsafe { block.cast::<P>().sub(1) };
        // SAFETY: aligned by the plan, and nobody uses it.
        unsafe { prefix.write(self.prefix) };
        // SAFETY: inside the block, by the plan.
        let suffix = unsafe { block.add(plan.to_suffix) };
        // SAFETY: aligned by the plan, with room for an `S`, and nobody uses it.
        unsafe { suffix.cast::<S>().write(self.suffix) };
        block
    }

    /// The backing's view of a live block, and its alignment there.
    #[inline]
    fn whole(memory: NonNull<[u8]>, alignment: Alignment) -> Option<(NonNull<[u8]>, Alignment)> {
        let plan = Self::SHAPE.plan(NonZeroUsize::new(memory.len())?, alignment)?;
        // SAFETY: by I1 so many bytes before it the same block of the backing begins.
        let start = unsafe { memory.cast::<u8>().sub(plan.block) };
        Some((NonNull::slice_from_raw_parts(start, plan.total.get()), plan.alignment))
    }
}

// SAFETY: by I1 blocks are parts of disjoint live blocks of `backing`, as aligned as asked; prefix and suffix lie apart from
// them in the same one.
unsafe impl<A: Allocator, P: Copy, S: Copy> Allocator for AffixAllocator<A, P, S> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let plan = Self::SHAPE.plan(len, alignment).ok_or(AllocError)?;
        let start = self.backing.alloc(plan.total, plan.alignment)?;
        // SAFETY: just handed out, of that length and alignment.
        Ok(unsafe { self.furnish(start, plan) })
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let Some(plan) = Self::SHAPE.plan(new_len, alignment) else { return false };
        let Some((whole, strict)) = Self::whole(memory, alignment) else { return false };
        // SAFETY: the caller's promise.
        let suffix = unsafe { self.suffix(memory) };
        // SAFETY: by I1 it is there; whoever wrote to it may have left what is no `S`. Read before a shrink cuts it off.
        let suffix = unsafe { suffix.cast::<MaybeUninit<S>>().read() };
        // SAFETY: by I1 a live block of `backing`.
        if !unsafe { self.backing.resize(whole, strict, plan.total) } {
            return false;
        }
        // SAFETY: inside the block as it is now, by the plan.
        let place = unsafe { memory.cast::<u8>().add(plan.to_suffix) };
        // SAFETY: aligned by the plan, behind all bytes that the caller keeps.
        unsafe { place.cast().write(suffix) };
        true
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let plan = Self::SHAPE.plan(new_len, alignment)?;
        let (whole, strict) = Self::whole(memory, alignment)?;
        // SAFETY: the caller's promise.
        let suffix = unsafe { self.suffix(memory) };
        // SAFETY: as in `resize`; read before the block may move.
        let suffix = unsafe { suffix.cast::<MaybeUninit<S>>().read() };
        // SAFETY: by I1 a live block of `backing`.
        let start = unsafe { self.backing.remap(whole, strict, plan.total) }?;
        // SAFETY: inside the block as it is now, by the plan; the prefix has come along.
        let block = unsafe { start.add(plan.block) };
        // SAFETY: likewise.
        let place = unsafe { block.add(plan.to_suffix) };
        // SAFETY: aligned by the plan, behind all bytes that the caller keeps.
        unsafe { place.cast().write(suffix) };
        Some(block)
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // A live block has a plan (I1).
        let Some((whole, strict)) = Self::whole(memory, alignment) else { return };
        // SAFETY: by I1 a live block of `backing`, which the caller gives up.
        unsafe { self.backing.free(whole, strict) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let plan = Self::SHAPE.plan(len, alignment).ok_or(AllocError)?;
        let start = self.backing.alloc_zeroed(plan.total, plan.alignment)?;
        // SAFETY: just handed out, of that length and alignment; the block's own bytes stay zero.
        Ok(unsafe { self.furnish(start, plan) })
    }
}

// SAFETY: by I1 blocks lie in the backing's.
unsafe impl<A: Owns, P: Copy, S: Copy> Owns for AffixAllocator<A, P, S> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.backing.owns(address)
    }
}

// SAFETY: at least `len`, and inside what the backing says that a block of its own occupies.
unsafe impl<A: GoodSize, P: Copy, S: Copy> GoodSize for AffixAllocator<A, P, S> {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        let Some(plan) = Self::SHAPE.plan(len, alignment) else { return len };
        let total = self.backing.good_size(plan.total, plan.alignment);
        Self::SHAPE.longest(total.get(), len, alignment)
    }
}

impl<A: Reset, P, S> Reset for AffixAllocator<A, P, S> {
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.backing.reset(mode)
    }
}

bridge_collections!(impl['b, A: Allocator, P: Copy, S: Copy] for &'b AffixAllocator<A, P, S>);

impl<A: fmt::Debug, P: fmt::Debug, S: fmt::Debug> fmt::Debug for AffixAllocator<A, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AffixAllocator")
            .field("prefix", &self.prefix)
            .field("suffix", &self.suffix)
            .field("backing", &self.backing)
            .finish()
    }
}
