//! [`SmpOwnedAllocator`]: the other design, slabs that slots own, measured beside [`SmpAllocator`] (docs/measurements/smp-design.md).
//!
//! ```text
//!   alloc ◀── the slot's list ◀── lifted as a whole from one of the slot's slabs (slot.rs)
//!   free ──▶ the block's slab: mine? ── yes ──▶ its free list
//!                                 └──── no ───▶ its remote list, by CAS; the first one wakes the slab (slab.rs)
//! ```
//!
//! As in mimalloc and snmalloc every block goes back to the slab that it was cut from at once, so that there is neither magazine
//! nor depot. Pages, regions, the book of large blocks and the backing are [`SmpAllocator`]'s own.

mod slab;
mod slot;

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, AllocError, Allocator, Decommit, GoodSize, Owns};
use terrace_sync::{
    Held, NOTHING_KEPT, Slots,
    atomic::{AtomicPtr, Ordering},
};

use self::{
    slab::{Slab, run_of, slab_of},
    slot::{Lists, Slot},
};
use super::{
    REGION, RETAINED, SmpAllocator,
    class::{self, CLASSES, PAGE, class_of, small},
    region::Region,
};

/// Free pages that stay with their memory for a while: as much as the magazines' depot keeps.
const OWNED_RETAINED: usize = 2048;

/// The general-purpose allocator with slabs that slots own.
///
/// - **I1** As [`SmpAllocator`]'s, whose `table` and depots stay empty here.
/// - **I2** `table` is null or has `slots.count() + 2` slots: number 0 is nobody's and empty, the last is common to all who
///   have no number, under `base.common`.
pub struct SmpOwnedAllocator<A: Allocator, S: Slots, const BYTES: usize = REGION> {
    table: AtomicPtr<Slot>,
    base: SmpAllocator<A, S, BYTES>,
}

impl<A: Allocator, S: Slots> SmpOwnedAllocator<A, S> {
    /// An allocator over `backing`, which is asked for nothing before the first block.
    pub const fn new(backing: A, slots: S) -> Self {
        Self::with_region_size(backing, slots)
    }

    /// An allocator over a backing that can take the memory of single pages back.
    pub const fn with_decommit(backing: A, slots: S) -> Self
    where
        A: Decommit,
    {
        Self { table: AtomicPtr::new(ptr::null_mut()), base: SmpAllocator::with_decommit(backing, slots) }
    }
}

impl<A: Allocator, S: Slots, const BYTES: usize> SmpOwnedAllocator<A, S, BYTES> {
    /// As [`SmpOwnedAllocator::new`], with regions of `BYTES` bytes.
    pub const fn with_region_size(backing: A, slots: S) -> Self {
        Self { table: AtomicPtr::new(ptr::null_mut()), base: SmpAllocator::with_region_size(backing, slots) }
    }

    /// A block of a class off the caller's list, if there is one.
    #[inline(always)]
    fn pop(&self, class: usize) -> Option<NonNull<u8>> {
        if let Some(kept) = self.base.slots.kept() {
            // SAFETY: a slot given by `sit`, which begins with its lists, or zeroes, which are empty lists.
            let lists: &Lists = unsafe { kept.cast().as_ref() };
            // SAFETY: the provider gave the slot to this caller; empty lists are not written.
            return unsafe { lists.pop(class) }.map(NonNull::cast);
        }
        // Acquire: pairs with the Release of `create_table`, so that the slots are there.
        let table = NonNull::new(self.table.load(Ordering::Acquire))?;
        let number = self.base.slots.enter();
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(number) };
        // SAFETY: by I2 a slot.
        let slot = unsafe { slot.as_ref() };
        // SAFETY: the provider gave the slot to this caller; number 0 is empty, so it is not written.
        let block = unsafe { slot.lists.pop(class) };
        self.base.slots.leave(number);
        block.map(NonNull::cast)
    }

    #[inline(always)]
    #[track_caller]
    fn alloc_small(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        match self.pop(class) {
            Some(block) => Ok(block),
            None => self.refill(class),
        }
    }

    /// # Safety
    /// A block of a slab, which the caller gives up.
    #[inline(always)]
    #[track_caller]
    unsafe fn free_small(&self, block: NonNull<u8>) {
        // SAFETY: a small block of the caller's.
        let at = unsafe { slab_of::<BYTES>(block) };
        // SAFETY: created as this kind of slab; it stays while a block is out.
        let slab = unsafe { at.as_ref() };
        let (own, number) = match self.base.slots.kept() {
            Some(kept) => (slab.home.cast() == kept, 0),
            None => {
                let number = self.base.slots.enter();
                (usize::from(slab.owner) == number, number)
            }
        };
        // SAFETY: the slot is ours, so is the block.
        let waking = own && unsafe { slab.push(block.cast()) };
        if !own {
            self.base.slots.leave(number);
            // SAFETY: the caller's promise.
            unsafe { self.free_remote(at, block) };
        } else if waking {
            self.settle(at, number);
        } else {
            self.base.slots.leave(number);
        }
    }

    /// As [`SmpAllocator::alloc_at_hand`].
    #[inline(always)]
    pub fn alloc_at_hand(&self, len: usize) -> Option<NonNull<u8>> {
        if len.wrapping_sub(1) < class::LARGEST { self.pop(class_of(len)) } else { None }
    }

    /// As [`SmpAllocator::free_at_hand`], for a provider that keeps its callers' slots.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`, or it is null; the block is not used again if the answer is `true`.
    #[inline(always)]
    pub unsafe fn free_at_hand(&self, address: *mut u8) -> bool {
        if address.addr().is_multiple_of(PAGE) {
            return false;
        }
        // SAFETY: no multiple of PAGE, so not null.
        let block = unsafe { NonNull::new_unchecked(address) };
        // SAFETY: by I1 a small block, of the caller's.
        let at = unsafe { slab_of::<BYTES>(block) };
        // SAFETY: created as this kind of slab; it stays while a block is out.
        let slab = unsafe { at.as_ref() };
        match self.base.slots.kept() {
            Some(kept) if slab.home.cast() == kept => {
                // SAFETY: the slot is ours, so is the block.
                unsafe { slab.push_at_hand(block.cast()) }
            }
            _ => false,
        }
    }

    /// A slab has got as many blocks back as it waited for.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn settle(&self, slab: NonNull<Slab>, number: usize) {
        let mut unused = ptr::null_mut();
        // SAFETY: a slab of ours.
        let home = unsafe { slab.as_ref() }.home;
        // SAFETY: by I2 a slot, the caller's.
        unsafe { home.as_ref() }.settle(slab, &mut unused);
        self.base.slots.leave(number);
        self.retire(unused);
    }

    /// Gives a block back to a slab of another slot.
    ///
    /// # Safety
    /// A block of `slab`, which the caller gives up.
    #[inline(never)]
    #[track_caller]
    unsafe fn free_remote(&self, at: NonNull<Slab>, block: NonNull<u8>) {
        if let Some(kept) = self.base.slots.kept().filter(|kept| *kept != NonNull::from(&NOTHING_KEPT).cast()) {
            // SAFETY: not the zeroes, so a slot given by `sit`.
            let slot: &Slot = unsafe { kept.cast().as_ref() };
            // SAFETY: the provider gave the slot to this caller; the caller's promise.
            return unsafe { slot.post(at, block.cast()) };
        }
        // SAFETY: it stays while a block is out.
        let slab = unsafe { at.as_ref() };
        // SAFETY: by I2 a slot.
        let slot = unsafe { slab.home.as_ref() };
        // SAFETY: the caller's promise.
        if unsafe { slab.push_remote(block.cast()) } {
            // SAFETY: just answered `true`.
            unsafe { slot.wake(at) };
        }
    }

    /// The way of a request whose list is empty.
    #[inline(never)]
    #[track_caller]
    fn refill(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        if let Some(kept) = self.base.slots.kept() {
            // SAFETY: a slot given by `sit`, which begins with its lists, or zeroes, which are empty lists.
            let lists: &Lists = unsafe { kept.cast().as_ref() };
            // SAFETY: the provider gave the slot to this caller; where there is no slab nothing is written.
            if let Some(block) = unsafe { lists.lift(class) } {
                return Ok(block.cast());
            }
        }
        self.refill_else(class)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn refill_else(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        loop {
            if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
                let seat = self.sit(table);
                let mut unused = ptr::null_mut();
                // SAFETY: the seat's slot is ours.
                let mut block = unsafe { seat.slot.lists.pop(class) };
                // SAFETY: the seat's slot is ours, and has just been found empty.
                if block.is_none() && unsafe { seat.slot.refill::<BYTES>(class, &mut unused) } {
                    // SAFETY: the seat's slot is ours.
                    block = unsafe { seat.slot.lists.pop(class) };
                }
                drop(seat);
                self.retire(unused);
                if let Some(block) = block {
                    return Ok(block.cast());
                }
            }
            let pages = slab::pages(BYTES, class);
            let (run, _) = self.base.run(pages, slab::alignment(BYTES, class))?;
            if self.table.load(Ordering::Relaxed).is_null() && self.create_table().is_err() {
                // SAFETY: a run of ours.
                unsafe { self.base.give_run(run, pages, false, 0) };
                return Err(AllocError);
            }
            let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) else { return Err(AllocError) };
            // SAFETY: a run of ours, of so many pages.
            let slab = unsafe { slab::place::<BYTES>(run, class) };
            let seat = self.sit(table);
            // SAFETY: two entries of the region's table, since the run begins at an even page.
            unsafe { slab.write(Slab::new(BYTES, class, seat.index, seat.slot.into())) };
            seat.slot.list(slab);
        }
    }

    /// Gives unused slabs, linked by `next`, to the page heap.
    #[track_caller]
    fn retire(&self, mut unused: *mut Slab) {
        while let Some(at) = NonNull::new(unused) {
            // SAFETY: a slab that left its slot is ours.
            let slab = unsafe { at.as_ref() };
            unused = slab.next.get();
            let pages = slab::pages(BYTES, usize::from(slab.class));
            // SAFETY: a slab lies in a region.
            let run = unsafe { run_of::<BYTES>(at) };
            // SAFETY: the slab's run, of which no block is out.
            unsafe { self.base.give_run(run, pages, true, OWNED_RETAINED) };
            if unused.is_null() {
                self.base.purge_when_due();
            }
        }
    }

    /// As [`SmpAllocator::purge_idle`]: the slabs of ended threads, and free pages.
    #[track_caller]
    pub fn purge_idle(&self) -> bool {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            (1..=self.base.slots.count() + 1).for_each(|number| self.empty_idle(table, number));
        }
        self.base.purge_idle()
    }

    fn sit(&self, table: NonNull<Slot>) -> Seat<'_, S> {
        let slots = &self.base.slots;
        let mut number = slots.enter();
        if number == 0 {
            slots.leave(number);
            if slots.claim() {
                number = slots.enter();
            }
        }
        let common = (number == 0).then(|| self.base.common.lock(|tries| slots.pause(tries)));
        let index = if number == 0 { slots.count() + 1 } else { number };
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(index) };
        if number != 0 {
            slots.keep(slot.cast());
        }
        // SAFETY: by I2 a slot.
        Seat { slot: unsafe { slot.as_ref() }, slots, number, index, _common: common }
    }

    /// Gives back all that is idle: the caller's own slabs, those of ended threads, and every free page.
    #[track_caller]
    pub fn trim(&self) {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            let seat = self.sit(table);
            let own = seat.index;
            let mut unused = ptr::null_mut();
            // SAFETY: the seat's slot is ours.
            unsafe { seat.slot.send_all() };
            for class in 0..CLASSES {
                // SAFETY: the seat's slot is ours.
                unsafe { seat.slot.empty(class, &mut unused) };
            }
            drop(seat);
            self.retire(unused);
            for number in (1..=self.base.slots.count() + 1).filter(|&number| number != own) {
                self.empty_idle(table, number);
            }
        }
        self.base.trim();
    }

    #[track_caller]
    fn empty_idle(&self, table: NonNull<Slot>, number: usize) {
        let slots = &self.base.slots;
        let common = number > slots.count();
        if !common && !slots.adopt(number) {
            return;
        }
        let held = common.then(|| self.base.common.lock(|tries| slots.pause(tries)));
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(number) };
        let mut unused = ptr::null_mut();
        // SAFETY: by I2 a slot.
        let slot = unsafe { slot.as_ref() };
        // SAFETY: adopted, or under the lock of the common slot.
        unsafe { slot.send_all() };
        for class in 0..CLASSES {
            // SAFETY: adopted, or under the lock of the common slot.
            unsafe { slot.empty(class, &mut unused) };
        }
        drop(held);
        if !common {
            // SAFETY: adopted above.
            unsafe { slots.release(number) };
        }
        self.retire(unused);
    }

    /// Pages that slabs have.
    pub fn slab_pages(&self) -> usize {
        let has_table = !self.table.load(Ordering::Acquire).is_null();
        self.base.state().used - self.table_pages().filter(|_| has_table).unwrap_or(0)
    }

    fn table_layout(&self) -> (NonZeroUsize, Alignment) {
        let slots = self.base.slots.count() + 2;
        (NonZeroUsize::MIN.saturating_add(slots * size_of::<Slot>() - 1), Alignment::of::<Slot>())
    }

    /// The pages of the table where it lies in a region.
    fn table_pages(&self) -> Option<usize> {
        let pages = self.table_layout().0.get().div_ceil(PAGE);
        (pages + Region::<BYTES>::PLAN.first_page <= Region::<BYTES>::PLAN.pages / 2).then_some(pages)
    }

    #[cold]
    #[track_caller]
    fn create_table(&self) -> Result<(), AllocError> {
        let (len, alignment) = self.table_layout();
        let table = match self.table_pages() {
            Some(pages) => {
                let (run, _) = self.base.run(pages, 1)?;
                // SAFETY: a run of ours, of so many bytes at least.
                unsafe { run.write_bytes(0, len.get()) };
                run
            }
            None => self.base.backing.alloc_zeroed(len, alignment)?,
        };
        // Release: pairs with the Acquire in `alloc_small`; the slots are zero, which is what an empty slot is.
        let new = table.cast().as_ptr();
        if self.table.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: somebody else's stands; this one is ours still.
            unsafe { self.free_table(table) };
        }
        Ok(())
    }

    /// # Safety
    /// What `create_table` made, and nobody uses.
    #[track_caller]
    unsafe fn free_table(&self, table: NonNull<u8>) {
        let (len, alignment) = self.table_layout();
        match self.table_pages() {
            // SAFETY: a run of ours.
            Some(pages) => unsafe { self.base.give_run(table, pages, true, RETAINED) },
            // SAFETY: a block of the backing.
            None => unsafe { self.base.backing.free(NonNull::slice_from_raw_parts(table, len.get()), alignment) },
        }
    }

    /// As [`SmpAllocator::size_by_address`].
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline]
    pub unsafe fn size_by_address(&self, address: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: the caller's promise; both designs write a page's class down at the same place.
        unsafe { self.base.size_by_address(address) }
    }

    /// As [`SmpAllocator::free_by_address`].
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`; it is not used again.
    #[inline]
    #[track_caller]
    pub unsafe fn free_by_address(&self, address: NonNull<u8>) {
        // SAFETY: the caller's promise.
        if unsafe { self.base.class_by_address(address) }.is_none() {
            // SAFETY: by I1 a large block.
            return unsafe { self.base.free_large(address) };
        }
        // SAFETY: a small block, which the caller gives up.
        unsafe { self.free_small(address) };
    }
}

/// A slot that is the holder's until this is dropped.
struct Seat<'a, S: Slots> {
    slot: &'a Slot,
    slots: &'a S,
    number: usize,
    index: usize,
    _common: Option<Held<'a, ()>>,
}

impl<S: Slots> Drop for Seat<'_, S> {
    fn drop(&mut self) {
        self.slots.leave(self.number);
    }
}

// SAFETY: by I1 blocks are distinct. What one thread frees reaches another through a slab's remote list, through a lock or with
// the slot's number, all of which order the two (clause 6).
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Allocator for SmpOwnedAllocator<A, S, BYTES> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match small(len.get(), alignment.bytes()) {
            Some(len) => self.alloc_small(class_of(len)),
            None => self.base.alloc_large(len, alignment, false),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise; it looks at the class or at the book alone.
        unsafe { self.base.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise; it looks at the class or at the book alone.
        unsafe { self.base.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        match small(memory.len(), alignment.bytes()) {
            // SAFETY: by I1 a block of a slab, which the caller gives up.
            Some(_) => unsafe { self.free_small(memory.cast()) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.base.free_large(memory.cast()) },
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if small(len.get(), alignment.bytes()).is_none() {
            return self.base.alloc_large(len, alignment, true);
        }
        let block = self.alloc(len, alignment)?;
        // SAFETY: the block is live and has `len` bytes.
        unsafe { block.write_bytes(0, len.get()) };
        Ok(block)
    }
}

// SAFETY: as `SmpAllocator`'s.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Owns for SmpOwnedAllocator<A, S, BYTES> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.base.owns(address)
    }
}

// SAFETY: as `SmpAllocator`'s.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> GoodSize for SmpOwnedAllocator<A, S, BYTES> {
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.base.good_size(len, alignment)
    }
}

impl<A: Allocator, S: Slots, const BYTES: usize> Drop for SmpOwnedAllocator<A, S, BYTES> {
    /// The table goes back; `base` gives back everything else.
    fn drop(&mut self) {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            // SAFETY: from `create_table`; nobody is here but us.
            unsafe { self.free_table(table.cast()) };
        }
    }
}
