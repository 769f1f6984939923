//! Small blocks: the fast path, and how chains come to a slot and leave it.
//!
//! ```text
//!   alloc: loaded ─ empty ─▶ freed, where that is enough ─▶ the reserve ─▶ the depot ─▶ the slabs ─▶ a new slab
//!   free:  freed ─ full ──▶ loaded, where that is empty ──▶ the reserve ─▶ the depot ─ full ─▶ the slabs; the magazine becomes narrow
//! ```
//!
//! Between `enter` and `leave` of a slot nothing is called but the magazine, and no lock of a depot or of the pages is held
//! when the backing is called; so a hook of the backing may come back here (clause 10).
//!
//! Cost: a block and its free by address are 34 instructions where the provider keeps the slot's address, about ten more where it
//! does not; a chain of up to 64 blocks costs one lock. No frame: all but the two at hand is outlined.

use core::ptr::{self, NonNull};

use terrace_core::{AllocError, Allocator};
use terrace_sync::{Held, KEPT_BYTES, Slots, atomic::Ordering};

use super::{
    RETAINED, SmpAllocator,
    chain::{Block, Chain},
    class,
    depot::Depot,
    magazine::Slot,
    region::Region,
};

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    /// The caller's slot, and the number to leave when it is done with; the empty slot where it has none. `None`: no slots yet.
    #[inline(always)]
    fn slot(&self) -> Option<(&Slot, usize)> {
        if size_of::<Slot>() <= KEPT_BYTES
            && let Some(kept) = self.slots.kept()
        {
            // SAFETY: given by `sit`, or zeroes, which are an empty slot; there is nothing to leave.
            return Some((unsafe { kept.cast().as_ref() }, 0));
        }
        // Acquire: pairs with the Release of `create_table`, so that the slots are there.
        let table = NonNull::new(self.table.load(Ordering::Acquire))?;
        let number = self.slots.enter();
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(number) };
        // SAFETY: by I2 a slot.
        Some((unsafe { slot.as_ref() }, number))
    }

    /// A block of a class off the caller's magazine, if there is one.
    #[inline(always)]
    pub(super) fn pop(&self, class: usize) -> Option<NonNull<u8>> {
        let (slot, number) = self.slot()?;
        // SAFETY: the provider gave the slot to this caller; the slot of nobody is empty, so it is not written.
        let block = unsafe { slot.pop(class) };
        self.slots.leave(number);
        block.map(NonNull::cast)
    }

    /// Puts a block of a class on the caller's magazine, if there is room.
    ///
    /// # Safety
    /// A block of `class`, which the caller gives up if the answer is `true`.
    #[inline(always)]
    pub(super) unsafe fn push(&self, class: usize, block: NonNull<u8>) -> bool {
        let Some((slot, number)) = self.slot() else { return false };
        // SAFETY: the provider gave the slot to this caller; the slot of nobody has no room, so it is not written.
        let done = unsafe { slot.push(class, block.cast()) };
        self.slots.leave(number);
        done
    }

    /// Puts a block of a class where the caller's next one comes from, if there is nothing.
    ///
    /// # Safety
    /// As [`push`](Self::push).
    #[inline(always)]
    pub(super) unsafe fn push_back(&self, class: usize, block: NonNull<u8>) -> bool {
        let Some((slot, number)) = self.slot() else { return false };
        // SAFETY: the provider gave the slot to this caller; the slot of nobody is not written.
        let done = unsafe { slot.push_back(class, block.cast()) };
        self.slots.leave(number);
        done
    }

    /// A block of a class.
    #[inline(always)]
    #[track_caller]
    pub(super) fn alloc_small(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        match self.pop(class) {
            Some(block) => Ok(block),
            None => self.refill(class),
        }
    }

    /// Takes back a block of a class.
    ///
    /// # Safety
    /// A block of `class`, which the caller gives up.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn free_small(&self, class: usize, block: NonNull<u8>) {
        // SAFETY: the caller's promise.
        if !unsafe { self.push(class, block) } {
            // SAFETY: the caller's promise.
            unsafe { self.flush(class, block) };
        }
    }

    /// The way of a request for which nothing is loaded.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn refill(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        match self.pop_freed(class) {
            Some(block) => Ok(block),
            None => self.exchange(class),
        }
    }

    /// A block of those that the caller freed, which are all loaded, where they are enough.
    #[inline(always)]
    pub(super) fn pop_freed(&self, class: usize) -> Option<NonNull<u8>> {
        let (slot, number) = self.slot()?;
        // SAFETY: the provider gave the slot to this caller; the slot of nobody has no blocks, so it is not written.
        let block = unsafe { slot.pop_freed(class) };
        self.slots.leave(number);
        block.map(NonNull::cast)
    }

    /// The way of a request for which the slot has nothing, or little.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn exchange(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            let seat = self.sit(table);
            // SAFETY: the seat's slot is ours.
            if let Some(block) = unsafe { seat.slot.pop(class) } {
                return Ok(block.cast());
            }
            // SAFETY: the seat's slot is ours.
            if let Some(block) = unsafe { seat.slot.pop_freed(class) } {
                return Ok(block.cast());
            }
            // SAFETY: the seat's slot is ours, and has nothing loaded.
            if unsafe { seat.slot.load_reserve(class) } {
                // SAFETY: the seat's slot is ours.
                return unsafe { seat.slot.pop(class) }.map(NonNull::cast).ok_or(AllocError);
            }
        }
        let Ok(chain) = self.fetch(class) else { return self.last_resort(class) };
        let block = chain.head;
        // SAFETY: a chain of this allocator, and ours.
        if let Some(rest) = NonNull::new(unsafe { Block::next(block) }) {
            let loaded = NonNull::new(self.table.load(Ordering::Acquire)).is_some_and(|table| {
                // SAFETY: the seat's slot is ours, and so is the chain.
                unsafe { self.sit(table).slot.load(class, rest) }
            });
            if !loaded {
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, rest, RETAINED) };
            }
        }
        Ok(block.cast())
    }

    /// What the caller has freed, be it ever so little.
    fn last_resort(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        let table = NonNull::new(self.table.load(Ordering::Acquire)).ok_or(AllocError)?;
        let seat = self.sit(table);
        // SAFETY: the seat's slot is ours.
        if let Some(block) = unsafe { seat.slot.pop(class) } {
            return Ok(block.cast()); // Meanwhile, by a hook of the backing.
        }
        // SAFETY: the seat's slot is ours, and has nothing loaded.
        unsafe { seat.slot.turn(class, 1) };
        // SAFETY: the seat's slot is ours.
        unsafe { seat.slot.pop(class) }.map(NonNull::cast).ok_or(AllocError)
    }

    /// The way of a block that finds no room in its magazine.
    ///
    /// # Safety
    /// A block of `class`, which the caller gives up.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) unsafe fn flush(&self, class: usize, block: NonNull<u8>) {
        let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) else {
            // SAFETY: a block of the class, and ours.
            unsafe { Block::link(block.cast(), ptr::null_mut()) };
            // SAFETY: a chain of one block, of the class, and ours.
            return unsafe { self.take_back(class, block.cast(), RETAINED) };
        };
        let seat = self.sit(table);
        let (mut out, mut late) = (None, false);
        // SAFETY: the seat's slot is ours, and so is the block.
        if !unsafe { seat.slot.push(class, block.cast()) } {
            // SAFETY: the seat's slot is ours, and has no room.
            out = unsafe { seat.slot.make_room(class) };
            // SAFETY: the seat's slot is ours, and so is the block; there is room for a batch now.
            unsafe { seat.slot.push(class, block.cast()) };
            // SAFETY: the seat's slot is ours.
            late = unsafe { seat.slot.count_exchange() };
        }
        drop(seat);
        if let Some(chain) = out {
            // SAFETY: a chain of the class, and ours.
            unsafe { self.deposit(class, chain) };
        }
        if late {
            self.purge_when_due();
        }
    }

    /// Leaves a magazine's chain in the depot, or, where that is full, with the slabs.
    ///
    /// # Safety
    /// A chain of the class, which the caller gives up.
    #[track_caller]
    unsafe fn deposit(&self, class: usize, mut chain: Chain) {
        let (most, batch) = (class::depot_chains(class), class::batch(class));
        let whole = chain.len == u32::from(batch);
        let number = self.number();
        let mut depot = self.depot(class);
        if whole && depot.given_by(number) {
            // Blocks that another thread will use come out of this one's cache: it has a branched chain at hand sooner.
            drop(depot);
            // SAFETY: a chain of the class, and ours.
            unsafe { chain.branch() };
            depot = self.depot(class);
        }
        let had = depot.chains();
        // SAFETY: as long as a batch, and ours.
        let kept = whole && unsafe { depot.keep(&chain, number, most) };
        drop(depot);
        if !kept {
            // SAFETY: a chain of the class, and ours.
            unsafe { self.take_back(class, chain.head, RETAINED) };
        }
        // A full depot, or a quarter of one where many pages are free besides, and nobody takes: the magazines need not hold so
        // much. Not before there is less they do again.
        let less = whole && (!kept || (had >= most / 4 && self.has_idle()));
        if less || (!whole && had < most / 4) {
            let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) else { return };
            let seat = self.sit(table);
            let out = if less {
                // SAFETY: the seat's slot is ours.
                unsafe { seat.slot.narrow(class, class::narrow(class)) }
            } else {
                // SAFETY: the seat's slot is ours.
                unsafe { seat.slot.set_limit(class, batch) };
                None
            };
            drop(seat);
            if let Some(head) = out {
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, head, RETAINED) };
            }
        }
    }

    /// A slot for the slow paths: the caller's own, or the common one.
    pub(super) fn sit(&self, table: NonNull<Slot>) -> Seat<'_, S> {
        let mut number = self.slots.enter();
        if number == 0 {
            self.slots.leave(number);
            if self.slots.claim() {
                number = self.slots.enter();
                if number == 0 {
                    self.slots.leave(number);
                }
            }
        }
        let common = (number == 0).then(|| self.common.lock(|tries| self.slots.pause(tries)));
        let index = if number == 0 { self.slots.count() + 1 } else { number };
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(index) };
        if number != 0 {
            self.slots.keep(slot.cast());
        }
        // SAFETY: by I2 a slot.
        Seat { slot: unsafe { slot.as_ref() }, slots: &self.slots, number, _common: common }
    }

    /// The caller's number, 0 where it has none.
    fn number(&self) -> usize {
        let number = self.slots.enter();
        self.slots.leave(number);
        number
    }

    pub(super) fn depot(&self, class: usize) -> Held<'_, Depot<BYTES>> {
        self.depots[class].lock(|tries| self.slots.pause(tries))
    }

    /// A chain of a class, from wherever there is one.
    #[track_caller]
    pub(super) fn fetch(&self, class: usize) -> Result<Chain, AllocError> {
        let number = self.number();
        loop {
            let mut depot = self.depot(class);
            let chain = depot.take(class, number);
            drop(depot);
            if let Some(chain) = chain {
                if chain.branched {
                    // SAFETY: a chain of the class, and ours.
                    unsafe { chain.fetch_all() };
                }
                return Ok(chain);
            }
            let pages = class::slab_pages(class);
            let (run, clean) = self.run(pages, class::slab_alignment(class))?;
            // The table comes second, and mostly out of the same region. The block is there: where the table is refused it
            // is done without, until the next slab, and the request has nothing to give back that the backing might keep.
            // Relaxed: whoever looks into the slots loads it again.
            if self.table.load(Ordering::Relaxed).is_null() {
                let _ = self.create_table();
            }
            let mut depot = self.depot(class);
            // Somebody else may have been here meanwhile: a slab is added for a block that is taken at once, or it would never be unused.
            if let Some(chain) = depot.take(class, number) {
                drop(depot);
                // SAFETY: a run of ours.
                unsafe { self.give_run(run, pages, !clean, RETAINED) };
                return Ok(chain);
            }
            // SAFETY: a run lies in a region.
            let region = unsafe { Region::<BYTES>::of(run) };
            // SAFETY: a run of ours, of as many pages as the class's slabs have.
            let slab = unsafe { region.create_slab(Region::<BYTES>::page_number(run), pages, class) };
            // SAFETY: a new slab of the class.
            unsafe { depot.add(slab) };
            if let Some(chain) = depot.take(class, number) {
                return Ok(chain);
            }
        }
    }

    /// Gives a chain's blocks back to their slabs, and slabs that are unused to the page heap, which keeps `retained` pages at least.
    ///
    /// # Safety
    /// A chain of the class, which the caller gives up.
    #[track_caller]
    pub(super) unsafe fn take_back(&self, class: usize, head: NonNull<Block>, retained: usize) {
        // SAFETY: the caller's promise.
        let mut unused = unsafe { self.depot(class).take_back(head) };
        while let Some(slab) = NonNull::new(unused) {
            // SAFETY: a slab that left its depot is ours.
            unused = unsafe { slab.as_ref() }.next;
            // SAFETY: a slab lies in a region.
            let region = unsafe { Region::<BYTES>::of(slab) };
            let run = region.page(Region::<BYTES>::first_page(slab));
            // SAFETY: the slab's run, of which no block is out.
            unsafe { self.give_run(run, class::slab_pages(class), true, retained) };
        }
    }
}

/// A slot that is the holder's until this is dropped.
pub(super) struct Seat<'a, S: Slots> {
    pub(super) slot: &'a Slot,
    slots: &'a S,
    number: usize,
    _common: Option<Held<'a, ()>>,
}

impl<S: Slots> Drop for Seat<'_, S> {
    fn drop(&mut self) {
        if self.number != 0 {
            self.slots.leave(self.number);
        } // Who has none has left already.
    }
}
