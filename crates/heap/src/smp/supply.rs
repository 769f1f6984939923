//! Pages: runs for slabs and for the slot table, regions from the backing, and what is idle back to it.
//!
//! The backing is called without a lock (clause 10). Every request makes one call of it that may be refused for good (clause 3):
//! what it asks for beyond, tables, comes behind what it needs, and is done without where it is refused.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::{Alignment, AllocError, Allocator, Decommit};
use terrace_sync::{Held, Slots, atomic::Ordering};

use super::{MUCH, RETAINED, SmpAllocator, class::PAGE, magazine::Slot, pages, region::Region, registry};

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    /// A run of pages, from a new region where no other has one; and whether its memory is all zero.
    #[track_caller]
    pub(super) fn run(&self, pages: usize, alignment: usize) -> Result<(NonNull<u8>, bool), AllocError> {
        let mut reclaimed = false;
        loop {
            let run = self.state().take_run(pages, alignment);
            if let Some((start, clean)) = run {
                return Ok((start, clean && self.decommit.is_some()));
            }
            // What lies about in chains may be whole slabs.
            if reclaimed || !self.reclaim(pages) {
                self.add_region()?;
            }
            reclaimed = true;
        }
    }

    pub(super) fn state(&self) -> Held<'_, pages::State<BYTES>> {
        self.pages.state.lock(|tries| self.slots.pause(tries))
    }

    #[track_caller]
    pub(super) fn add_region(&self) -> Result<(), AllocError> {
        let len = const { NonZeroUsize::new(BYTES).expect("a region has bytes") };
        let alignment = const { Alignment::new(BYTES).expect("a region is a power of two") };
        loop {
            let state = self.state();
            // SAFETY: under the lock.
            let reserved = unsafe { self.pages.registry.reserve() };
            drop(state);
            match reserved {
                Ok(()) => break,
                Err(larger) => self.grow_registry(larger.ok_or(AllocError)?),
            }
        }
        // Where pages are decommitted, clean ones are zero, those of a new region too.
        let start = match self.decommit {
            Some(_) => self.backing.alloc_zeroed(len, alignment),
            None => self.backing.alloc(len, alignment),
        };
        // SAFETY: a block of the backing, and ours.
        let region = start.map(|start| unsafe { Region::<BYTES>::create(start) });
        let mut state = self.state();
        let Ok(region) = region else {
            // SAFETY: under the lock.
            unsafe { self.pages.registry.give_up() };
            return Err(AllocError);
        };
        // SAFETY: under the lock.
        let wanted = unsafe { self.pages.registry.insert(region.start()) };
        state.regions += 1;
        state.list(region);
        drop(state);
        if let Some(bytes) = wanted {
            self.grow_registry(bytes);
        }
        Ok(())
    }

    /// Gives the registry a larger table, if there is one to be had.
    #[cold]
    #[track_caller]
    fn grow_registry(&self, bytes: NonZeroUsize) {
        let table = self.backing.alloc(bytes, registry::Table::ALIGNMENT);
        let state = self.state();
        let Ok(table) = table else {
            // SAFETY: under the lock.
            return unsafe { self.pages.registry.note_refused() };
        };
        // SAFETY: under the lock; a block of the backing, and ours.
        let kept = unsafe { self.pages.registry.install(table, bytes) };
        drop(state);
        if !kept {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, and ours still.
            unsafe { self.backing.free(memory, registry::Table::ALIGNMENT) };
        }
    }

    /// Takes a run back; then what is idle beyond `retained` pages, and a share of those in use, goes to the backing.
    ///
    /// # Safety
    /// A run that was handed out, which the caller gives up.
    #[track_caller]
    pub(super) unsafe fn give_run(&self, run: NonNull<u8>, pages: usize, dirty: bool, retained: usize) {
        let mut state = self.state();
        // SAFETY: the caller's promise.
        let unused = unsafe { state.give_run(run, pages, dirty) };
        let idle = state.dirty > retained + state.used / 8;
        let much = state.dirty > MUCH;
        drop(state);
        if much {
            self.note_idle();
        }
        if idle || (unused && !dirty) {
            self.purge(retained);
        }
    }

    /// Gives back to the backing what is idle beyond `retained` pages and a share of those in use.
    #[track_caller]
    pub(super) fn purge(&self, retained: usize) {
        let goal = if retained == 0 { 0 } else { (retained + self.state().used / 8) / 2 };
        self.purge_to(goal);
    }

    /// Gives empty regions and dirty pages back to the backing, until `goal` dirty ones are left.
    #[track_caller]
    pub(super) fn purge_to(&self, goal: usize) {
        loop {
            let mut state = self.state();
            if state.dirty <= goal && goal != 0 {
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
    pub(super) unsafe fn free_region(&self, start: NonNull<u8>) {
        let alignment = const { Alignment::new(BYTES).expect("a region is a power of two") };
        // SAFETY: a block of the backing, by the region's I1.
        unsafe { self.backing.free(NonNull::slice_from_raw_parts(start, BYTES), alignment) };
    }

    pub(super) fn table_layout(&self) -> (NonZeroUsize, Alignment) {
        // More slots than can be are a length that no backing has.
        let bytes = self.slots.count().saturating_add(2).saturating_mul(size_of::<Slot>());
        (NonZeroUsize::MIN.saturating_add(bytes - 1), Alignment::of::<Slot>())
    }

    /// The pages of the table where it lies in a region, beside the largest slab: so that the first block of all
    /// makes one request to the backing, which is granted or not.
    pub(super) fn table_pages(&self) -> Option<usize> {
        let pages = self.table_layout().0.get().div_ceil(PAGE);
        (pages + Region::<BYTES>::PLAN.first_page <= Region::<BYTES>::PLAN.pages / 2).then_some(pages)
    }

    #[cold]
    #[track_caller]
    pub(super) fn create_table(&self) -> Result<(), AllocError> {
        let (len, alignment) = self.table_layout();
        let table = match self.table_pages() {
            Some(pages) => {
                let (run, zero) = self.run(pages, 1)?;
                if !zero {
                    // SAFETY: a run of ours, of so many bytes at least.
                    unsafe { run.write_bytes(0, len.get()) };
                }
                run
            }
            None => self.backing.alloc_zeroed(len, alignment)?,
        };
        let new = table.cast().as_ptr();
        // Release: pairs with the Acquire in `slot` and its like; the slots are zero, which is what an empty slot is.
        if self.table.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: somebody else's stands; this one is ours still.
            unsafe { self.free_table(table) };
        }
        Ok(())
    }

    /// # Safety
    /// What `create_table` made, and nobody uses.
    #[track_caller]
    pub(super) unsafe fn free_table(&self, table: NonNull<u8>) {
        let (len, alignment) = self.table_layout();
        match self.table_pages() {
            // SAFETY: a run of ours.
            Some(pages) => unsafe { self.give_run(table, pages, true, RETAINED) },
            // SAFETY: a block of the backing.
            None => unsafe { self.backing.free(NonNull::slice_from_raw_parts(table, len.get()), alignment) },
        }
    }
}

/// Has the memory of pages taken back, as far as they are whole pages of the machine's, and makes the rest zero.
///
/// # Safety
/// As [`Decommit::decommit`], but for where the pages begin and end.
pub(super) unsafe fn decommit_pages<A: Decommit>(backing: &A, pages: NonNull<[u8]>) -> bool {
    let page = backing.page_size();
    let (start, len) = (pages.addr().get(), pages.len());
    let from = page.forward(start).map_or(len, |from| (from - start).min(len));
    let to = page.backward(start + len).saturating_sub(start).max(from);
    let block = pages.cast::<u8>();
    // SAFETY: within the pages.
    let inner = unsafe { block.add(from) };
    // SAFETY: within the pages.
    let rest = unsafe { block.add(to) };
    // SAFETY: before the whole pages of the machine's; nobody uses them, by the caller's promise.
    unsafe { block.write_bytes(0, from) };
    // SAFETY: behind them; the same.
    unsafe { rest.write_bytes(0, len - to) };
    // SAFETY: whole pages of the machine's, by the caller's promise of a live block that nobody uses there.
    from == to || unsafe { backing.decommit(NonNull::slice_from_raw_parts(inner, to - from)) }
}
