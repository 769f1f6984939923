//! [`SmpAllocator`]: the general-purpose allocator, for any number of threads, over any backing.
//!
//! ```text
//!   alloc, free                                  one thread, no lock
//!     │ slot.rs?      who am I: a number (`Slots`)
//!     ▼ magazine.rs   per class two chains of free blocks
//!   ──┼───────────────────────────────────────── one lock for up to 64 blocks
//!     ▼ depot.rs      per class a few full chains, and the slabs with free blocks
//!     │ slab.rs       a run of pages cut into blocks of one class (class.rs)
//!   ──┼───────────────────────────────────────── one lock for a slab
//!     ▼ pages.rs      runs of pages out of regions (region.rs, plan.rs, registry.rs)
//!   ──┼───────────────────────────────────────── the backing
//!     ▼ large.rs      lengths above 32 KiB: straight to the backing, and written down
//! ```
//!
//! The interface for those who build on this:
//! - [`SmpAllocator::new`] and [`SmpAllocator::with_decommit`] are const; a `static` needs no further call;
//! - [`Allocator`]: `free` is told the length, so the class needs no look-up;
//! - [`SmpAllocator::free_by_address`], [`SmpAllocator::size_by_address`]: the same blocks, without their length;
//! - [`SmpAllocator::trim`] gives back all that is idle; [`SmpAllocator::class_stats`];
//! - [`SmpAllocator::lock_for_fork`] and [`SmpAllocator::unlock_after_fork`].

mod chain;
mod class;
mod depot;
mod large;
mod magazine;
mod pages;
mod plan;
mod region;
mod registry;
mod slab;

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, AllocError, Allocator, Decommit, GoodSize, Owns};
use terrace_sync::{
    Held, Lock, Slots,
    atomic::{AtomicPtr, Ordering},
};

use self::{
    chain::Chain,
    class::{CLASSES, PAGE, class_of, size, small},
    depot::Depot,
    large::{Book, Large},
    magazine::Slot,
    pages::Pages,
    region::Region,
};

/// How many bytes of a backing a region takes, where nothing else is said.
pub const REGION: usize = 4 << 20;

/// Full chains that the depot keeps of a class.
const CHAINS: u32 = 8;
/// Free pages that stay with their memory, beside a share of those in use.
const RETAINED: usize = 256;

const PAGE_ALIGNMENT: Alignment = match Alignment::new(PAGE) {
    Some(alignment) => alignment,
    None => Alignment::ONE, // Not reached: a power of two.
};

/// How a backing is asked to take the memory of pages back.
type DecommitFn<A> = unsafe fn(&A, NonNull<[u8]>) -> bool;

/// The general-purpose allocator.
///
/// - **I1** Every block of at most [`class::LARGEST`] bytes and alignment is one of a slab's of its class; every other
///   block is one of the backing's, aligned to a page at least, and in the book.
/// - **I2** `table` is null or a block of the backing with `slots.count() + 2` slots: number 0 is nobody's and empty,
///   the last is common to all who have no number, under `common`.
/// - **I3** Locks are taken in the order common, a depot, pages; the book alone; and none is held while
///   the backing is called (clause 10).
pub struct SmpAllocator<A: Allocator, S: Slots, const BYTES: usize = REGION> {
    table: AtomicPtr<Slot>,
    depots: [Lock<Depot<BYTES>>; CLASSES],
    pages: Pages<BYTES>,
    book: Lock<Book>,
    common: Lock<()>,
    decommit: Option<DecommitFn<A>>,
    slots: S,
    backing: A,
}

/// What is known of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// A block's bytes.
    pub size: usize,
    /// Slabs that the class has.
    pub slabs: usize,
    /// Blocks out of the slabs: live, in magazines, or in the depot.
    pub blocks_out: usize,
    /// Those of them that wait in the depot.
    pub blocks_in_depot: usize,
}

impl<A: Allocator, S: Slots> SmpAllocator<A, S> {
    /// An allocator over `backing`, which is asked for nothing before the first block.
    ///
    /// What is idle goes back in whole regions of [`REGION`] bytes; [`with_decommit`](Self::with_decommit) gives more back.
    pub const fn new(backing: A, slots: S) -> Self {
        Self::with_region_size(backing, slots)
    }

    /// An allocator over a backing that can take the memory of single pages back.
    pub const fn with_decommit(backing: A, slots: S) -> Self
    where
        A: Decommit,
    {
        Self::build(backing, slots, Some(decommit_pages::<A>))
    }
}

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    /// As [`SmpAllocator::new`], with regions of `BYTES` bytes, a power of two from 64 KiB to 256 MiB: small ones for a
    /// backing that is small.
    pub const fn with_region_size(backing: A, slots: S) -> Self {
        Self::build(backing, slots, None)
    }

    const fn build(backing: A, slots: S, decommit: Option<DecommitFn<A>>) -> Self {
        let _ = Region::<BYTES>::PLAN; // Refuses a bad size at compile time.
        Self {
            table: AtomicPtr::new(ptr::null_mut()),
            depots: [const { Lock::new(Depot::new()) }; CLASSES],
            pages: Pages::new(),
            book: Lock::new(Book::new()),
            common: Lock::new(()),
            decommit,
            slots,
            backing,
        }
    }

    /// A block of a class.
    #[inline(always)]
    #[track_caller]
    fn alloc_small(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        // Acquire: pairs with the Release of `create_table`, so that the slots are there.
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            let number = self.slots.enter();
            // SAFETY: by I2 the table has that slot.
            let slot = unsafe { table.add(number) };
            // SAFETY: by I2 a slot.
            let slot = unsafe { slot.as_ref() };
            // SAFETY: the provider gave the slot to this caller; number 0 is empty, so it is not written.
            let block = unsafe { slot.pop(class) };
            self.slots.leave(number);
            if let Some(block) = block {
                return Ok(block.cast());
            }
        }
        self.refill(class)
    }

    /// Takes back a block of a class.
    ///
    /// # Safety
    /// A block of `class`, which the caller gives up.
    #[inline(always)]
    #[track_caller]
    unsafe fn free_small(&self, class: usize, block: NonNull<u8>) {
        // Relaxed: the caller has a block, so the table was there before.
        let table = self.table.load(Ordering::Relaxed);
        let number = self.slots.enter();
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(number) };
        // SAFETY: by I2 a slot.
        let slot = unsafe { &*slot };
        // SAFETY: the provider gave the slot to this caller; number 0 has no room, so it is not written.
        let done = unsafe { slot.push(class, block.cast()) };
        self.slots.leave(number);
        if !done {
            // SAFETY: the caller's promise.
            unsafe { self.flush(class, block) };
        }
    }

    /// The way of a request whose magazine is empty.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn refill(&self, class: usize) -> Result<NonNull<u8>, AllocError> {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            let seat = self.sit(table);
            // SAFETY: the seat's slot is ours.
            if let Some(block) = unsafe { seat.slot.pop(class) } {
                return Ok(block.cast());
            }
            // SAFETY: the seat's slot is ours, and has just been found empty.
            if unsafe { seat.slot.refill(class) } {
                // SAFETY: the seat's slot is ours.
                return unsafe { seat.slot.pop(class) }.map(NonNull::cast).ok_or(AllocError);
            }
        }
        let chain = self.fetch(class)?;
        // SAFETY: a chain of this allocator, and ours.
        let (block, rest) = unsafe { chain.split_first() };
        if let (Some(rest), Some(table)) = (rest, NonNull::new(self.table.load(Ordering::Acquire))) {
            let seat = self.sit(table);
            // SAFETY: the seat's slot is ours, and so is the chain.
            let put = unsafe { seat.slot.put(class, &rest) };
            drop(seat);
            if !put {
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, rest) };
            }
        }
        Ok(block.cast())
    }

    /// The way of a block that finds no room in its magazine.
    ///
    /// # Safety
    /// A block of `class`, which the caller gives up.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn flush(&self, class: usize, block: NonNull<u8>) {
        let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) else { return };
        let seat = self.sit(table);
        let mut out = None;
        // SAFETY: the seat's slot is ours, and so is the block.
        if !unsafe { seat.slot.push(class, block.cast()) } {
            // SAFETY: the seat's slot is ours, and has no room.
            out = unsafe { seat.slot.turn(class) };
            // SAFETY: the seat's slot is ours, and so is the block; there is room for a batch now.
            unsafe { seat.slot.push(class, block.cast()) };
        }
        drop(seat);
        let Some(chain) = out else { return };
        // SAFETY: by the magazine's I3 a full chain, and ours.
        if !unsafe { self.depot(class).keep(&chain, CHAINS) } {
            // SAFETY: a chain of the class, and ours.
            unsafe { self.take_back(class, chain) };
        }
    }

    /// A slot for the slow paths: the caller's own, or the common one.
    fn sit(&self, table: NonNull<Slot>) -> Seat<'_, S> {
        let mut number = self.slots.enter();
        if number == 0 {
            self.slots.leave(number);
            if self.slots.claim() {
                number = self.slots.enter();
            }
        }
        let common = (number == 0).then(|| self.common.lock(|tries| self.slots.pause(tries)));
        let index = if number == 0 { self.slots.count() + 1 } else { number };
        // SAFETY: by I2 the table has that slot.
        let slot = unsafe { table.add(index) };
        // SAFETY: by I2 a slot.
        Seat { slot: unsafe { slot.as_ref() }, slots: &self.slots, number, _common: common }
    }

    fn depot(&self, class: usize) -> Held<'_, Depot<BYTES>> {
        self.depots[class].lock(|tries| self.slots.pause(tries))
    }

    /// A chain of a class, from wherever there is one.
    #[track_caller]
    fn fetch(&self, class: usize) -> Result<Chain, AllocError> {
        loop {
            if let Some(chain) = self.depot(class).take(class) {
                return Ok(chain);
            }
            let pages = class::slab_pages(class);
            let run = self.run(pages, class::slab_alignment(class))?;
            // The table comes second, and mostly out of the same region: what is refused leaves nothing behind.
            if self.table.load(Ordering::Relaxed).is_null() && self.create_table().is_err() {
                // SAFETY: a run of ours.
                unsafe { self.give_run(run, pages, false, 0) };
                return Err(AllocError);
            }
            // SAFETY: a run lies in a region.
            let region = unsafe { Region::<BYTES>::of(run) };
            // SAFETY: a run of ours, of as many pages as the class's slabs have.
            let slab = unsafe { region.create_slab(Region::<BYTES>::page_number(run), pages, class) };
            let mut depot = self.depot(class);
            // SAFETY: a new slab of the class.
            unsafe { depot.add(slab) };
        }
    }

    /// Gives blocks back to their slabs, and slabs that are unused to the page heap.
    ///
    /// # Safety
    /// A chain of the class, which the caller gives up.
    #[track_caller]
    unsafe fn take_back(&self, class: usize, chain: Chain) {
        // SAFETY: the caller's promise.
        let mut unused = unsafe { self.depot(class).take_back(chain) };
        while let Some(slab) = NonNull::new(unused) {
            // SAFETY: a slab that left its depot is ours.
            unused = unsafe { slab.as_ref() }.next;
            // SAFETY: a slab lies in a region.
            let region = unsafe { Region::<BYTES>::of(slab) };
            let run = region.page(Region::<BYTES>::first_page(slab));
            // SAFETY: the slab's run, of which no block is out.
            unsafe { self.give_run(run, class::slab_pages(class), true, RETAINED) };
        }
    }

    /// A run of pages, from a new region where no other has one.
    #[track_caller]
    fn run(&self, pages: usize, alignment: usize) -> Result<NonNull<u8>, AllocError> {
        loop {
            if let Some(run) = self.state().take_run(pages, alignment) {
                return Ok(run);
            }
            self.add_region()?;
        }
    }

    fn state(&self) -> Held<'_, pages::State<BYTES>> {
        self.pages.state.lock(|tries| self.slots.pause(tries))
    }

    #[track_caller]
    fn add_region(&self) -> Result<(), AllocError> {
        let len = const { NonZeroUsize::new(BYTES).expect("a region has bytes") };
        let alignment = const { Alignment::new(BYTES).expect("a region is a power of two") };
        let start = self.backing.alloc(len, alignment)?;
        // SAFETY: a block of the backing, and ours.
        let region = unsafe { Region::<BYTES>::create(start) };
        loop {
            let mut state = self.state();
            // SAFETY: under the lock.
            let entered = unsafe { self.pages.registry.insert(start) };
            let Err(bytes) = entered else {
                state.regions += 1;
                state.list(region);
                return Ok(());
            };
            drop(state);
            let Ok(table) = self.backing.alloc(bytes, registry::Table::ALIGNMENT) else {
                // SAFETY: the block from above; nobody knows of it.
                unsafe { self.backing.free(NonNull::slice_from_raw_parts(start, len.get()), alignment) };
                return Err(AllocError);
            };
            let state = self.state();
            // SAFETY: under the lock; a block of the backing, and ours.
            let kept = unsafe { self.pages.registry.install(table, bytes) };
            drop(state);
            if !kept {
                let memory = NonNull::slice_from_raw_parts(table, bytes.get());
                // SAFETY: a block of the backing, and ours still.
                unsafe { self.backing.free(memory, registry::Table::ALIGNMENT) };
            }
        }
    }

    /// Takes a run back; then what is idle beyond `retained` pages, and a share of those in use, goes to the backing.
    ///
    /// # Safety
    /// A run that was handed out, which the caller gives up.
    #[track_caller]
    unsafe fn give_run(&self, run: NonNull<u8>, pages: usize, dirty: bool, retained: usize) {
        let mut state = self.state();
        // SAFETY: the caller's promise.
        let unused = unsafe { state.give_run(run, pages, dirty) };
        let idle = state.dirty > retained + state.used / 8;
        drop(state);
        if idle || (unused && !dirty) {
            self.purge(retained);
        }
    }

    /// Gives back to the backing what is idle beyond `retained` pages and a share of those in use.
    #[track_caller]
    fn purge(&self, retained: usize) {
        loop {
            let mut state = self.state();
            let goal = if retained == 0 { 0 } else { (retained + state.used / 8) / 2 };
            if state.dirty <= goal && retained != 0 {
                return;
            }
            if let Some(region) = state.unused_region() {
                // SAFETY: a region of this heap.
                let ours = unsafe { state.withdraw(&self.pages.registry, region) };
                drop(state);
                if ours {
                    // SAFETY: out of the heap, and without a block.
                    unsafe { self.free_region(region.start()) };
                }
                continue;
            }
            let Some(decommit) = self.decommit else { return };
            let Some((run, len)) = state.take_dirty() else { return };
            drop(state);
            let memory = NonNull::slice_from_raw_parts(run, len.get() * PAGE);
            // SAFETY: pages of a region, which is a block of the backing; nobody uses them.
            let clean = unsafe { decommit(&self.backing, memory) };
            // SAFETY: taken just now.
            unsafe { self.state().give_run(run, len.get(), !clean) };
            if !clean {
                return;
            }
        }
    }

    /// # Safety
    /// A region that nobody uses.
    #[track_caller]
    unsafe fn free_region(&self, start: NonNull<u8>) {
        let alignment = const { Alignment::new(BYTES).expect("a region is a power of two") };
        // SAFETY: a block of the backing, by the region's I1.
        unsafe { self.backing.free(NonNull::slice_from_raw_parts(start, BYTES), alignment) };
    }

    fn table_layout(&self) -> (NonZeroUsize, Alignment) {
        let slots = self.slots.count() + 2;
        (NonZeroUsize::MIN.saturating_add(slots * size_of::<Slot>() - 1), Alignment::of::<Slot>())
    }

    /// The pages of the table where it lies in a region, beside the largest slab: so that the first block of all
    /// makes one request to the backing, which is granted or not.
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
                let run = self.run(pages, 1)?;
                // SAFETY: a run of ours, of so many bytes at least.
                unsafe { run.write_bytes(0, len.get()) };
                run
            }
            None => self.backing.alloc_zeroed(len, alignment)?,
        };
        let new = table.cast().as_ptr();
        // Release: pairs with the Acquire in `alloc_small`; the slots are zero, which is what an empty slot is.
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
            Some(pages) => unsafe { self.give_run(table, pages, true, RETAINED) },
            // SAFETY: a block of the backing.
            None => unsafe { self.backing.free(NonNull::slice_from_raw_parts(table, len.get()), alignment) },
        }
    }

    /// Gives back all that is idle: the caller's own magazines, those of ended threads, the depot, and every
    /// free page. What other running threads have in their magazines stays there.
    #[track_caller]
    pub fn trim(&self) {
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            for class in 0..CLASSES {
                let seat = self.sit(table);
                // SAFETY: the seat's slot is ours.
                let chains = unsafe { seat.slot.empty(class) };
                drop(seat);
                // SAFETY: chains of the class, and ours.
                unsafe { self.take_back_all(class, chains) };
            }
            self.empty_idle_slots(table);
        }
        for class in 0..CLASSES {
            loop {
                let chain = self.depot(class).pop_chain(class);
                let Some(chain) = chain else { break };
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, chain) };
            }
        }
        self.purge(0);
    }

    /// Empties the magazines of numbers that nobody has, and the common ones.
    #[track_caller]
    fn empty_idle_slots(&self, table: NonNull<Slot>) {
        for number in 1..=self.slots.count() + 1 {
            let common = number > self.slots.count();
            if !common && !self.slots.adopt(number) {
                continue;
            }
            // SAFETY: by I2 the table has that slot.
            let slot = unsafe { table.add(number) };
            // SAFETY: by I2 a slot.
            let slot = unsafe { slot.as_ref() };
            for class in 0..CLASSES {
                let held = common.then(|| self.common.lock(|tries| self.slots.pause(tries)));
                // SAFETY: adopted, or under the lock of the common slot.
                let chains = unsafe { slot.empty(class) };
                drop(held);
                // SAFETY: chains of the class, and ours.
                unsafe { self.take_back_all(class, chains) };
            }
            if !common {
                // SAFETY: adopted above.
                unsafe { self.slots.release(number) };
            }
        }
    }

    /// # Safety
    /// Chains of the class, which the caller gives up.
    #[track_caller]
    unsafe fn take_back_all(&self, class: usize, chains: [Option<Chain>; 2]) {
        for chain in chains.into_iter().flatten() {
            // SAFETY: the caller's promise.
            unsafe { self.take_back(class, chain) };
        }
    }

    /// What is known of class `number`, from 0 on; `None` behind the last.
    pub fn class_stats(&self, number: usize) -> Option<ClassStats> {
        if number >= CLASSES {
            return None;
        }
        let depot = self.depot(number);
        let (slabs, blocks_out) = (depot.slabs, depot.blocks_out);
        let blocks_in_depot = (depot.chains() * class::batch(number)) as usize;
        Some(ClassStats { size: size(number), slabs, blocks_out, blocks_in_depot })
    }

    /// The length that the block at `address` can be used for: at least what it was asked for.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline]
    pub unsafe fn size_by_address(&self, address: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: the caller's promise.
        match unsafe { self.class_by_address(address) } {
            Some(class) => NonZeroUsize::MIN.saturating_add(size(class) - 1),
            None => self.book().get(address).map_or(NonZeroUsize::MIN, |large| large.len),
        }
    }

    /// Ends the block at `address`, whatever its length and alignment are.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`; it is not used again.
    #[inline]
    #[track_caller]
    pub unsafe fn free_by_address(&self, address: NonNull<u8>) {
        // SAFETY: the caller's promise.
        match unsafe { self.class_by_address(address) } {
            // SAFETY: a block of that class, which the caller gives up.
            Some(class) => unsafe { self.free_small(class, address) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.free_large(address) },
        }
    }

    /// The class of the block at `address`; `None`: it is large.
    ///
    /// # Safety
    /// A live block of this allocator begins at `address`.
    #[inline(always)]
    unsafe fn class_by_address(&self, address: NonNull<u8>) -> Option<usize> {
        // By I1 a large block begins at a multiple of PAGE; few others do.
        if address.addr().get() % PAGE == 0 && !self.pages.registry.contains(address) {
            return None;
        }
        // SAFETY: no large block, so it lies in a region.
        let region = unsafe { Region::<BYTES>::of(address) };
        // SAFETY: the block is live.
        Some(unsafe { region.class(Region::<BYTES>::page_number(address)) })
    }

    fn book(&self) -> Held<'_, Book> {
        self.book.lock(|tries| self.slots.pause(tries))
    }

    /// Room in the book for one more block.
    #[track_caller]
    fn reserve_entry(&self) -> Result<(), AllocError> {
        loop {
            let mut book = self.book();
            let Err(bytes) = book.reserve() else { return Ok(()) };
            drop(book);
            let table = self.backing.alloc(bytes, Book::ALIGNMENT)?;
            let mut book = self.book();
            // SAFETY: a block of the backing, and ours.
            let out = unsafe { book.install(table, bytes) };
            drop(book);
            if let Some((table, bytes)) = out {
                let memory = NonNull::slice_from_raw_parts(table, bytes.get());
                // SAFETY: a block of the backing, which the book gave up.
                unsafe { self.backing.free(memory, Book::ALIGNMENT) };
            }
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_large(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let alignment = alignment.max(PAGE_ALIGNMENT);
        let block =
            if zeroed { self.backing.alloc_zeroed(len, alignment) } else { self.backing.alloc(len, alignment) }?;
        // The block first: where the room for the entry is refused, it goes back, and nothing is left behind.
        if self.reserve_entry().is_err() {
            // SAFETY: the block from above.
            unsafe { self.backing.free(NonNull::slice_from_raw_parts(block, len.get()), alignment) };
            return Err(AllocError);
        }
        self.book().enter(block, Large { len, alignment });
        Ok(block)
    }

    /// # Safety
    /// A large block, which the caller gives up.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn free_large(&self, address: NonNull<u8>) {
        let struck = self.book().strike(address, false);
        let Some(Large { len, alignment }) = struck else { return };
        // SAFETY: by I1 the backing's, as the book has it.
        unsafe { self.backing.free(NonNull::slice_from_raw_parts(address, len.get()), alignment) };
    }

    /// # Safety
    /// A live large block.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn resize_large(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> bool {
        let found = self.book().get(address);
        let Some(Large { len, alignment }) = found else { return false };
        // SAFETY: by I1 the backing's, as the book has it.
        let done =
            unsafe { self.backing.resize(NonNull::slice_from_raw_parts(address, len.get()), alignment, new_len) };
        if done {
            self.book().set_len(address, new_len);
        }
        done
    }

    /// # Safety
    /// A live large block.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn remap_large(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // Struck before it moves: another thread may be given its address at once (I3 of the book).
        let struck = self.book().strike(address, true);
        let large = struck?;
        let memory = NonNull::slice_from_raw_parts(address, large.len.get());
        // SAFETY: by I1 the backing's, as the book had it.
        let moved = unsafe { self.backing.remap(memory, large.alignment, new_len) };
        let len = if moved.is_some() { new_len } else { large.len };
        self.book().enter(moved.unwrap_or(address), Large { len, ..large });
        moved
    }

    /// Takes every lock, for the moment before a fork. Nothing of this allocator may be called by the thread until
    /// [`unlock_after_fork`](Self::unlock_after_fork).
    pub fn lock_for_fork(&self) {
        let pause = |tries| self.slots.pause(tries);
        self.common.lock_and_leave(pause);
        self.depots.iter().for_each(|depot| depot.lock_and_leave(pause));
        self.pages.state.lock_and_leave(pause);
        self.book.lock_and_leave(pause);
    }

    /// Releases every lock, in the parent and in the child of a fork.
    ///
    /// # Safety
    /// This thread, or the one that it is the copy of, called [`lock_for_fork`](Self::lock_for_fork), and has not been here since.
    pub unsafe fn unlock_after_fork(&self) {
        // SAFETY: locked by the caller's promise.
        unsafe { self.book.unlock() };
        // SAFETY: locked by the caller's promise.
        unsafe { self.pages.state.unlock() };
        for depot in &self.depots {
            // SAFETY: locked by the caller's promise.
            unsafe { depot.unlock() };
        }
        // SAFETY: locked by the caller's promise.
        unsafe { self.common.unlock() };
    }
}

/// A slot that is the holder's until this is dropped.
struct Seat<'a, S: Slots> {
    slot: &'a Slot,
    slots: &'a S,
    number: usize,
    _common: Option<Held<'a, ()>>,
}

impl<S: Slots> Drop for Seat<'_, S> {
    fn drop(&mut self) {
        self.slots.leave(self.number);
    }
}

/// # Safety
/// As [`Decommit::decommit`], but for where the pages begin and end.
unsafe fn decommit_pages<A: Decommit>(backing: &A, pages: NonNull<[u8]>) -> bool {
    let page = backing.page_size();
    let start = pages.addr().get();
    let (Some(from), to) = (page.forward(start), page.backward(start + pages.len())) else { return false };
    if from >= to {
        return true; // Less than a page of the machine's: nothing to win.
    }
    // SAFETY: within the pages.
    let inner = unsafe { pages.cast::<u8>().add(from - start) };
    // SAFETY: whole pages of the machine's, by the caller's promise of a live block that nobody uses there.
    unsafe { backing.decommit(NonNull::slice_from_raw_parts(inner, to - from)) }
}

// SAFETY: by I1 blocks are distinct: of a slab, each is out once, or distinct blocks of the backing. What one thread frees
// reaches another through a lock or with the slot's number, both of which order the two (clause 6).
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Allocator for SmpAllocator<A, S, BYTES> {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        match small(len.get(), alignment.bytes()) {
            Some(len) => self.alloc_small(class_of(len)),
            None => self.alloc_large(len, alignment, false),
        }
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        match (small(memory.len(), alignment.bytes()), small(new_len.get(), alignment.bytes())) {
            (Some(old), Some(new)) => class_of(old) == class_of(new),
            // SAFETY: by I1 a large block.
            (None, None) => unsafe { self.resize_large(memory.cast(), new_len) },
            _ => false,
        }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        match (small(memory.len(), alignment.bytes()), small(new_len.get(), alignment.bytes())) {
            (Some(old), Some(new)) => (class_of(old) == class_of(new)).then_some(memory.cast()),
            // SAFETY: by I1 a large block.
            (None, None) => unsafe { self.remap_large(memory.cast(), new_len) },
            _ => None,
        }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        match small(memory.len(), alignment.bytes()) {
            // SAFETY: by I1 a block of that class, which the caller gives up.
            Some(len) => unsafe { self.free_small(class_of(len), memory.cast()) },
            // SAFETY: by I1 a large block.
            None => unsafe { self.free_large(memory.cast()) },
        }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        if small(len.get(), alignment.bytes()).is_none() {
            return self.alloc_large(len, alignment, true);
        }
        let block = self.alloc(len, alignment)?;
        // SAFETY: the block is live and has `len` bytes.
        unsafe { block.write_bytes(0, len.get()) };
        Ok(block)
    }
}

// SAFETY: by I1 a block lies in a region or is in the book, and nothing else is.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> Owns for SmpAllocator<A, S, BYTES> {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.pages.registry.contains(address) || self.book().get(address).is_some()
    }
}

// SAFETY: a class is at least as large as what it is for; otherwise the length itself.
unsafe impl<A: Allocator, S: Slots, const BYTES: usize> GoodSize for SmpAllocator<A, S, BYTES> {
    #[inline]
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        small(len.get(), alignment.bytes()).and_then(|len| NonZeroUsize::new(size(class_of(len)))).unwrap_or(len)
    }
}

impl<A: Allocator, S: Slots, const BYTES: usize> Drop for SmpAllocator<A, S, BYTES> {
    /// Everything goes back to the backing, live blocks too.
    fn drop(&mut self) {
        while let Some((address, Large { len, alignment })) = {
            let popped = self.book().pop();
            popped
        } {
            // The block's provenance was exposed when it was entered.
            let Some(block) = NonNull::new(ptr::with_exposed_provenance_mut(address)) else { continue };
            // SAFETY: by I1 the backing's, as the book had it.
            unsafe { self.backing.free(NonNull::slice_from_raw_parts(block, len.get()), alignment) };
        }
        let table = self.book().pop_table();
        if let Some((table, bytes)) = table {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, which the book gave up.
            unsafe { self.backing.free(memory, Book::ALIGNMENT) };
        }
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            // SAFETY: by I2 from `create_table`; nobody is here but us.
            unsafe { self.free_table(table.cast()) };
        }
        for start in self.pages.registry.regions() {
            let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else { continue };
            // SAFETY: in the registry, so a region; its provenance was exposed. No block of it is used again.
            unsafe { self.free_region(start) };
        }
        while let Some((table, bytes)) = self.pages.registry.pop_table() {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, which the registry gave up.
            unsafe { self.backing.free(memory, registry::Table::ALIGNMENT) };
        }
    }
}
