//! [`FreeListAllocator`]: keeps freed blocks of a range of lengths for the next requests.
//!
//! ```text
//!   len:  1 ┄┄┄ min ─────────── max ┄┄┄ isize::MAX
//!         backing │ blocks of max bytes │ backing
//!                          ▲ alloc   │ free
//!                          └─ first ─▶ ┌ free ┐   ┌ free ┐       at most `most` of them
//!                                      │ next ───▶│ next ───▶ none
//!                                      └──────┘   └──────┘
//! ```
//!
//! A request whose length lies in the range gets a block of the range's longest length, so that each block in the list
//! serves each of them, and a change of length within the range costs nothing. What is outside of the range, or wants a
//! stricter alignment than the list's, goes straight to the backing. After D's `FreeList`; bounded, as its
//! `BoundedFreeList` was to be. The blocks in the list go back at [`trim`](FreeListAllocator::trim) and at drop.
//!
//! Costs: a block from the list and back about fifteen instructions; the difference between a request and the
//! range's longest length is wasted.

use core::{cell::Cell, fmt, num::NonZeroUsize, ops::RangeInclusive, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, bridge_collections};

use crate::bump::MAX_LEN;

/// A block while nobody has it.
struct Free {
    next: Option<NonNull<Free>>,
}

/// Keeps up to a number of freed blocks of one range of lengths; passes everything else to `backing`.
///
/// Use it before a backing that is slow to ask (pages, a lock, a kernel) where blocks of like lengths come and go: the
/// nodes of a queue, the buffers of a connection. A pool is faster still, but keeps what it once had to its end.
///
/// - **I1** A live block whose length lies in the range, and whose alignment is at most `alignment`, is a live block of
///   `backing` with `block_len` bytes and `alignment`; every other one is a live block of `backing` as the caller knows it.
/// - **I2** The list holds `count` blocks of the first kind that nobody has, each once, each initialised as a `Free`.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_core::{AllocatorExt, Stats, SystemAllocator};
/// use terrace_heap::{FreeListAllocator, StatsAllocator};
///
/// let counted = StatsAllocator::new(SystemAllocator);
/// let buffers = FreeListAllocator::new(&counted, 1024..=4096, 8);
/// for len in [1500, 4096, 1024, 2000] {
///     let buffer = buffers.alloc_slice::<u8>(len)?;
///     // SAFETY: live, of this allocator, not used again.
///     unsafe { buffers.free_slice(buffer) };
/// }
/// assert_eq!(counted.stats().total_allocations, 1, "the backing was asked once");
/// buffers.trim();
/// assert_eq!(counted.stats().current_bytes, 0);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct FreeListAllocator<A: Allocator> {
    first: Cell<Option<NonNull<Free>>>,
    count: Cell<usize>,
    most: usize,
    min: usize,
    /// From the range's shortest length to its longest. A range without lengths is kept as that from 0 to 0.
    span: usize,
    block_len: NonZeroUsize,
    alignment: Alignment,
    backing: A,
}

// SAFETY: by I2 the list's blocks are this allocator's alone, and `backing`, which goes along, may free them elsewhere.
unsafe impl<A: Allocator + Send> Send for FreeListAllocator<A> {}

impl<A: Allocator> FreeListAllocator<A> {
    /// Keeps at most `most` blocks of lengths in the range `lens`, with alignments up to that of a `u128`.
    pub const fn new(backing: A, lens: RangeInclusive<usize>, most: usize) -> Self {
        Self::with_alignment(backing, lens, most, Alignment::of::<u128>())
    }

    /// As [`new`](Self::new), for alignments up to `alignment`, which each block then has.
    pub const fn with_alignment(backing: A, lens: RangeInclusive<usize>, most: usize, alignment: Alignment) -> Self {
        let (min, max) = (*lens.start(), *lens.end());
        // A longer block there is not, so such a list serves nothing, and all goes to the backing.
        let (min, max) = if min > max || max > MAX_LEN { (0, 0) } else { (min, max) };
        let least = size_of::<Free>();
        let block_len = NonZeroUsize::new(if max < least { least } else { max }).expect("a pointer has a size");
        let span = max - min;
        let alignment = alignment.max(Alignment::of::<Free>());
        Self { first: Cell::new(None), count: Cell::new(0), most, min, span, block_len, alignment, backing }
    }

    /// Blocks that wait in the list.
    pub const fn kept_blocks(&self) -> usize {
        self.count.get()
    }

    /// Gives the blocks in the list back to the backing.
    #[track_caller]
    pub fn trim(&self) {
        // Off the list all at once: what a hook of the backing frees here meanwhile begins a new one.
        let mut next = self.first.take();
        self.count.set(0);
        while let Some(block) = next {
            // SAFETY: by I2 initialised; it is off the list, and nobody has it.
            next = unsafe { block.as_ref() }.next;
            // SAFETY: by I2 of the listed kind, off the list, and nobody uses it.
            unsafe { self.give_back(block.cast()) };
        }
    }

    #[inline]
    fn is_listed(&self, len: usize, alignment: Alignment) -> bool {
        // What is shorter than `min` wraps, and is then longer than any span.
        len.wrapping_sub(self.min) <= self.span && alignment <= self.alignment
    }

    /// The longest length of the range.
    const fn max(&self) -> usize {
        self.min + self.span
    }

    #[inline]
    fn take(&self) -> Option<NonNull<u8>> {
        let block = self.first.get()?;
        // SAFETY: by I2 initialised, and nobody writes to it meanwhile.
        self.first.set(unsafe { block.as_ref() }.next);
        self.count.set(self.count.get() - 1);
        Some(block.cast())
    }

    /// Keeps the block, or gives it back where the list is full.
    ///
    /// # Safety
    /// `block` is a live block of the listed kind, which nobody uses any more.
    #[inline]
    #[track_caller]
    unsafe fn put(&self, block: NonNull<u8>) {
        if self.count.get() >= self.most {
            // SAFETY: the caller's promise, passed on unchanged.
            return unsafe { self.give_back(block) };
        }
        let block = block.cast::<Free>();
        // SAFETY: by I1 a listed block has room and alignment for a `Free`, and by the caller's promise nobody uses it.
        unsafe { block.write(Free { next: self.first.get() }) };
        self.first.set(Some(block));
        self.count.set(self.count.get() + 1);
    }

    /// # Safety
    /// `block` is a live block of the listed kind, not in the list, which nobody uses any more.
    #[track_caller]
    unsafe fn give_back(&self, block: NonNull<u8>) {
        let memory = NonNull::slice_from_raw_parts(block, self.block_len.get());
        // SAFETY: by I1 a live block of `backing` with this length and alignment.
        unsafe { self.backing.free(memory, self.alignment) };
    }
}

// SAFETY: by I1 each block is a block of `backing` that is as long and as aligned as the caller knows it, or more; by I2 no
// block is handed out while somebody has it. Between the two kinds no change of length leads.
unsafe impl<A: Allocator> Allocator for FreeListAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if !self.is_listed(len.get(), alignment) {
            return self.backing.alloc(len, alignment);
        }
        match self.take() {
            Some(block) => Ok(block),
            None => self.backing.alloc(self.block_len, self.alignment),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        match (self.is_listed(memory.len(), alignment), self.is_listed(new_len.get(), alignment)) {
            (true, true) => true,
            // SAFETY: by I1 a live block of `backing`, as the caller knows it.
            (false, false) => unsafe { self.backing.resize(memory, alignment, new_len) },
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        match (self.is_listed(memory.len(), alignment), self.is_listed(new_len.get(), alignment)) {
            (true, true) => Some(memory.cast()),
            // SAFETY: by I1 a live block of `backing`, as the caller knows it.
            (false, false) => unsafe { self.backing.remap(memory, alignment, new_len) },
            _ => None,
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if self.is_listed(memory.len(), alignment) {
            // SAFETY: by I1 of the listed kind; the caller gives it up.
            unsafe { self.put(memory.cast()) }
        } else {
            // SAFETY: by I1 a live block of `backing`, as the caller knows it.
            unsafe { self.backing.free(memory, alignment) }
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if !self.is_listed(len.get(), alignment) {
            return self.backing.alloc_zeroed(len, alignment);
        }
        match self.take() {
            Some(block) => {
                // SAFETY: a block that nobody has (I2), of at least `len` bytes (I1).
                unsafe { block.write_bytes(0, len.get()) };
                Ok(block)
            }
            None => self.backing.alloc_zeroed(self.block_len, self.alignment),
        }
    }
}

impl<A: BulkFree> BulkFree for FreeListAllocator<A> {
    /// Blocks of the list's lengths one by one, each run of others by one call of the backing.
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], alignment: Alignment) {
        let is_listed = |block: &NonNull<[u8]>| self.is_listed(block.len(), alignment);
        for run in blocks.chunk_by(|one, next| is_listed(one) == is_listed(next)) {
            if is_listed(&run[0]) {
                for block in run {
                    // SAFETY: by I1 of the listed kind; the caller gives it up.
                    unsafe { self.put(block.cast()) };
                }
            } else {
                // SAFETY: by I1 live blocks of `backing`, as the caller knows them.
                unsafe { self.backing.bulk_free(run, alignment) };
            }
        }
    }
}

// SAFETY: by I1 a listed block has `block_len` bytes, of which `max()` may be asked for; of the others the backing's answer,
// or less, but no less than `len`.
unsafe impl<A: GoodSize> GoodSize for FreeListAllocator<A> {
    /// Of a length below the range never more than stays below.
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        if self.is_listed(len.get(), alignment) {
            return NonZeroUsize::new(self.max()).map_or(len, |max| max.max(len));
        }
        let good = self.backing.good_size(len, alignment);
        if self.is_listed(good.get(), alignment) {
            NonZeroUsize::new(self.min - 1).map_or(len, |below| below.max(len))
        } else {
            good
        }
    }
}

// SAFETY: by I1 and I2 all blocks are the backing's.
unsafe impl<A: Owns> Owns for FreeListAllocator<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.backing.owns(address)
    }
}

impl<A: Allocator + Reset> Reset for FreeListAllocator<A> {
    /// The blocks in the list end with the others.
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.first.set(None);
        self.count.set(0);
        self.backing.reset(mode)
    }
}

impl<A: Allocator> Drop for FreeListAllocator<A> {
    fn drop(&mut self) {
        self.trim();
    }
}

bridge_collections!(impl['b, A: Allocator] for &'b FreeListAllocator<A>);

impl<A: Allocator + fmt::Debug> fmt::Debug for FreeListAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreeListAllocator")
            .field("lens", &(self.min..=self.max()))
            .field("kept", &self.count.get())
            .field("most", &self.most)
            .field("backing", &self.backing)
            .finish()
    }
}
