//! [`PoolAllocator`] and [`Pool`]: items of one size.
//!
//! ```text
//!   first ─▶ ┌ free ┐   ┌ free ┐            the free list runs through the items themselves,
//!            │ next ───▶│ next ──────────────────────────────────┐   and ends in what is left
//!            └──────┘   └──────┘                                 ▼
//!   an arena over `backing`:  │ item │ item │ free │ item │ free │┄┄ not yet made ┄┄│
//! ```
//!
//! An item that comes back is the first to go out again; where none has come back, the arena gives a new one. After
//! Zig's `std.heap.MemoryPool`, item for item: lengths and alignments are raised to a pointer's, a pool may be
//! told not to grow, and items made ahead go out from the highest address down. Memory is held by the law of
//! [`ArenaAllocator`].
//!
//! One word says where the next item comes from: it is the first free item's address, or, odd, the arena's next
//! address, negated. A pool of items that never end so reads two words an item, its next address and its limit, as the
//! arena does; a third made the loop around it wait for the first-level cache, by a fourth of its time.
//!
//! Costs: no header; an item taken from the list costs five instructions, one put back three.

mod typed;

use core::{cell::Cell, fmt, mem, num::NonZeroUsize, ptr, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, BulkFree, GoodSize, Owns, Reset, ResetMode, bridge_collections};
pub use typed::{Pool, Pooled};

use crate::{
    arch::fetch,
    arena::ArenaAllocator,
    bump::{CEILING, MAX_LEN, array, bump_negated},
};

/// An item while nobody has it.
struct Free {
    next: *mut u8,
}

/// In a word that is no item's address.
const NO_ITEM: usize = 1;
const _: () = assert!(align_of::<Free>() > NO_ITEM);

/// The word where the arena keeps its next address itself.
const KEPT: *mut u8 = ptr::without_provenance_mut(CEILING.wrapping_neg() | NO_ITEM);

/// Hands out items of one size; refuses requests that do not fit into one.
///
/// The safe way in is [`Pool`], for values of one type.
///
/// - **I1** Items are disjoint blocks of `arena`, of `item_len` bytes and `alignment`, both no less than a `Free`'s.
///   The arena's blocks end only through `&mut self` or drop.
/// - **I2** The arena is closed unless the pool is `growable`, which a fixed one is while its `add_capacity` runs.
/// - **I3** The free list holds each item that is not handed out, once, and each is initialised as a `Free`. It starts
///   in `first` and ends in the first word with `NO_ITEM` set, which is no address.
/// - **I4** Where `neg_limit` is `usize::MAX` that last word is KEPT. Else the newest node's next address has been lent to the
///   pool: the last word is it, negated as in the arena and made odd, with the node's provenance, and `neg_limit` is the
///   node's end, negated, and rounded up to be even. No call of the arena is made then but of those that ask nothing
///   about the next address.
///
/// ```
/// use core::num::NonZeroUsize;
/// use terrace_core::{Alignment, AllocatorExt, SystemAllocator};
/// use terrace_heap::PoolAllocator;
///
/// let pool = PoolAllocator::new(SystemAllocator, NonZeroUsize::new(24).unwrap(), Alignment::of::<u64>());
/// let one = pool.create::<[u64; 3]>()?;
/// assert!(pool.create::<[u64; 4]>().is_err(), "that is no item");
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { pool.destroy(one) };
/// assert_eq!(pool.create::<[u64; 3]>()?, one, "the last to come back is the first to go out");
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
pub struct PoolAllocator<A: Allocator> {
    first: Cell<*mut u8>,
    neg_limit: Cell<usize>,
    item_len: NonZeroUsize,
    alignment: Alignment,
    growable: Cell<bool>,
    arena: ArenaAllocator<A>,
}

// SAFETY: by I1 and I3 the items lie in the arena's nodes, which are this pool's alone and may be freed elsewhere.
unsafe impl<A: Allocator + Send> Send for PoolAllocator<A> {}

impl<A: Allocator> PoolAllocator<A> {
    /// A pool of items of `len` bytes that grows as needed; asks `backing` for nothing yet.
    pub const fn new(backing: A, len: NonZeroUsize, alignment: Alignment) -> Self {
        Self {
            first: Cell::new(KEPT),
            neg_limit: Cell::new(usize::MAX),
            item_len: item_len(len),
            alignment: alignment.max(Alignment::of::<Free>()),
            growable: Cell::new(true),
            arena: ArenaAllocator::new(backing),
        }
    }

    /// As [`new`](Self::new), but only [`add_capacity`](Self::add_capacity) makes it grow.
    pub const fn fixed(backing: A, len: NonZeroUsize, alignment: Alignment) -> Self {
        Self {
            first: Cell::new(KEPT),
            neg_limit: Cell::new(usize::MAX),
            item_len: item_len(len),
            alignment: alignment.max(Alignment::of::<Free>()),
            growable: Cell::new(false),
            arena: ArenaAllocator::new_closed(backing),
        }
    }

    /// Makes `n` items ahead, in one request to the backing where it can be: they are touched now, and handed out
    /// from the highest address down. Takes time in `n`.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses; the items made so far stay.
    #[track_caller]
    pub fn add_capacity(&self, n: usize) -> Result<(), AllocError> {
        // Opened by one call at a time: to open the arena while it asks the backing would let a hook ask once more.
        if self.growable.replace(true) {
            return self.make(n);
        }
        self.arena.reopen();
        let made = self.make(n);
        self.arena.close();
        self.growable.set(false);
        made
    }

    #[track_caller]
    fn make(&self, n: usize) -> Result<(), AllocError> {
        let Some((stride, total)) = array(self.item_len.get(), self.alignment, n) else { return Err(AllocError) };
        let Some(total) = NonZeroUsize::new(total) else { return Ok(()) };
        self.give_back_next();
        if let Ok(items) = self.arena.alloc(total, self.alignment) {
            for index in 0..n {
                // SAFETY: inside the block, by `array`.
                let item = unsafe { items.add(index * stride) };
                // SAFETY: a new item (I1); the arena's block is cut into items for good.
                unsafe { self.put(item) };
            }
            return Ok(());
        }
        for _ in 0..n {
            let item = self.arena.alloc(self.item_len, self.alignment)?;
            // SAFETY: a new item (I1).
            unsafe { self.put(item) };
        }
        Ok(())
    }

    /// The length of an item in bytes.
    pub const fn item_len(&self) -> NonZeroUsize {
        self.item_len
    }

    /// The alignment of an item.
    pub const fn item_alignment(&self) -> Alignment {
        self.alignment
    }

    /// Items that wait in the free list. Walks it.
    pub fn free_items(&self) -> usize {
        let mut count = 0;
        let mut word = self.first.get();
        while let Some(item) = item_of(word) {
            count += 1;
            // SAFETY: by I3 initialised, and nobody writes to it meanwhile.
            word = unsafe { item.as_ref() }.next;
        }
        count
    }

    /// Bytes now held of the backing.
    pub fn held_bytes(&self) -> usize {
        self.arena.held_bytes()
    }

    /// Bytes of items made so far, handed out or free, and padding. Walks what came back since items were last made.
    pub fn used_bytes(&self) -> usize {
        self.give_back_next();
        self.arena.used_bytes()
    }

    /// Ends every item and gives all memory back; what drop does, said aloud.
    pub fn deinit(self) {}

    /// An item; `len` and `alignment` are the pool's own, named again where the compiler knows them.
    #[inline(always)]
    #[track_caller]
    fn take(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let word = self.first.get();
        if let Some(item) = item_of(word) {
            // SAFETY: by I3 initialised, and nobody writes to it meanwhile.
            self.first.set(unsafe { item.as_ref() }.next);
            return Ok(item.cast());
        }
        // Rounding to the alignment clears NO_ITEM.
        if let Some((neg_start, neg_end)) = bump_negated(word.addr(), len.get(), alignment)
            && neg_end | NO_ITEM >= self.neg_limit.get()
        {
            self.first.set(word.with_addr(neg_end | NO_ITEM));
            // SAFETY: `neg_start` is no less than the limit, which by I4 is not 0, so neither is the address.
            return Ok(unsafe { NonNull::new_unchecked(word.with_addr(0).wrapping_byte_sub(neg_start)) });
        }
        self.take_slow(len, alignment)
    }

    /// An item from the arena, whose next address is then lent to the pool.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take_slow(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.give_back_next();
        let item = self.arena.alloc(len, alignment)?;
        // A hook of the backing may have put items into the list, or have been in a call of the arena that still runs.
        if self.first.get().addr() == KEPT.addr()
            && let Some((neg_next, neg_end)) = self.arena.lend_neg_next()
        {
            self.first.set(neg_next.map_addr(|addr| addr | NO_ITEM));
            self.neg_limit.set(neg_end.next_multiple_of(2));
        }
        Ok(item)
    }

    /// Ends the loan of the arena's next address (I4). Walks the items that came back since it was lent, when there
    /// was none.
    #[cold]
    fn give_back_next(&self) {
        if self.neg_limit.replace(usize::MAX) == usize::MAX {
            return;
        }
        let word = match self.last_free() {
            None => self.first.replace(KEPT),
            Some(mut last) => {
                // SAFETY: by I3 nobody uses the item, and no reference to it exists.
                mem::replace(unsafe { &mut last.as_mut().next }, KEPT)
            }
        };
        // The last item made ended there, and starts are even: the bit that NO_ITEM covers is its length's.
        let low = self.item_len.get() & NO_ITEM;
        self.arena.set_neg_next(word.map_addr(|addr| addr & !NO_ITEM | low));
    }

    /// The item at the end of the list.
    fn last_free(&self) -> Option<NonNull<Free>> {
        let mut last = item_of(self.first.get())?;
        loop {
            // SAFETY: by I3 initialised, and nobody writes to it meanwhile.
            let Some(item) = item_of(unsafe { last.as_ref() }.next) else { return Some(last) };
            last = item;
        }
    }

    /// # Safety
    /// `item` is an item of this pool that nobody uses any more and that is not in the list.
    #[inline(always)]
    unsafe fn put(&self, item: NonNull<u8>) {
        // Stores that miss the cache wait for their lines one after another; these are under way together.
        fetch(item);
        // SAFETY: by I1 an item has room and alignment for a `Free`, and by the caller's promise nobody uses it.
        unsafe { item.cast::<Free>().write(Free { next: self.first.get() }) };
        self.first.set(item.as_ptr());
    }
}

// SAFETY: by I1 blocks are parts of disjoint items; by I3 an item is handed out only when nobody has it. No block is
// longer or stricter aligned than an item.
unsafe impl<A: Allocator> Allocator for PoolAllocator<A> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if len > self.item_len || alignment > self.alignment {
            return Err(AllocError);
        }
        self.take(self.item_len, self.alignment)
    }

    #[inline]
    unsafe fn resize(&self, _memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> bool {
        new_len <= self.item_len
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        (new_len <= self.item_len).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _alignment: Alignment) {
        // SAFETY: live by the caller's promise, so by I1 an item and by I3 not in the list; the caller gives it up.
        unsafe { self.put(memory.cast()) };
    }
}

impl<A: Allocator> BulkFree for PoolAllocator<A> {
    /// The last of `blocks` is the first to go out again.
    unsafe fn bulk_free(&self, blocks: &[NonNull<[u8]>], _alignment: Alignment) {
        let mut first = self.first.get();
        for block in blocks {
            let item = block.cast::<Free>();
            // SAFETY: live by the caller's promise, so by I1 an item and by I3 not in the list; the caller gives it up.
            unsafe { item.write(Free { next: first }) };
            first = item.as_ptr().cast();
        }
        self.first.set(first);
    }
}

// SAFETY: by I1 a block is an item, and every request up to its length gets the whole of it; items that are too long
// for a block are never made.
unsafe impl<A: Allocator> GoodSize for PoolAllocator<A> {
    fn good_size(&self, len: NonZeroUsize, _alignment: Alignment) -> NonZeroUsize {
        if self.item_len.get() > MAX_LEN { len } else { len.max(self.item_len) }
    }
}

// SAFETY: by I1 items lie in the arena's blocks.
unsafe impl<A: Allocator> Owns for PoolAllocator<A> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.arena.owns(address)
    }
}

impl<A: Allocator> Reset for PoolAllocator<A> {
    /// As [`ArenaAllocator::reset`]; the free list is empty then, and the next items are new ones.
    fn reset(&mut self, mode: ResetMode) -> bool {
        self.first.set(KEPT);
        self.neg_limit.set(usize::MAX);
        let kept = self.arena.reset(mode);
        if !self.growable.get() {
            self.arena.close();
        }
        kept
    }
}

bridge_collections!(impl['b, A: Allocator] for &'b PoolAllocator<A>);

impl<A: Allocator> fmt::Debug for PoolAllocator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolAllocator")
            .field("item_len", &self.item_len)
            .field("free_items", &self.free_items())
            .field("held", &self.held_bytes())
            .finish()
    }
}

/// The free item whose address `word` is, if it is one.
#[inline(always)]
fn item_of(word: *mut u8) -> Option<NonNull<Free>> {
    if word.addr() & NO_ITEM != 0 {
        return None;
    }
    // SAFETY: by I3 a word without NO_ITEM is the address of an item.
    Some(unsafe { NonNull::new_unchecked(word.cast()) })
}

/// An item of `len` bytes has room for a `Free` at least.
const fn item_len(len: NonZeroUsize) -> NonZeroUsize {
    const LEAST: NonZeroUsize = NonZeroUsize::new(size_of::<Free>()).expect("a pointer has a size");
    if len.get() < LEAST.get() { LEAST } else { len }
}
