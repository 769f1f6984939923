//! [`Pages`]: the page heap, which cuts regions into runs of pages and joins them again.
//!
//! ```text
//!   registry ─▶ all regions          open ─▶ region ─▶ region ─▶ ∅     those with a free page
//!   free   1 0 0 0 1 1 1 1 0 0 1 1 1 1 1 1                             one bit a page
//!   dirty  1 0 0 0 1 1 0 0 0 0 0 0 0 0 0 0                             free, but with memory of the machine
//! ```
//!
//! A run comes from the first region of the list that has one, at the lowest address there: so what is in use draws
//! together, and the regions behind become empty. An empty region can go back to the backing, dirty pages of the others can be
//! decommitted where the backing knows how.
//!
//! - **I1** A region is in the registry from before its first run is handed out until after its last came back.
//! - **I2** The list has exactly the regions with free pages; `dirty` is the sum of their `dirty_pages`.
//! - **I3** Nothing here calls the backing: its calls are made without a lock (clause 10). Pages that are
//!   being decommitted are in no map meanwhile.
//!
//! Cost: a run is one lock and a search of the map, 16 words for 4 MiB.

use core::{num::NonZeroUsize, ptr, ptr::NonNull};

use terrace_sync::Lock;

use super::{plan, region::Region, registry::Registry};

/// The page heap over regions of `BYTES` bytes.
pub(crate) struct Pages<const BYTES: usize> {
    pub(crate) registry: Registry<BYTES>,
    pub(crate) state: Lock<State<BYTES>>,
}

/// What the lock guards.
pub(crate) struct State<const BYTES: usize> {
    open: *mut u8,
    /// Free pages that may hold memory of the machine.
    pub(crate) dirty: usize,
    /// Those of them that have been so since [`note_idle_pages`](Self::note_idle_pages).
    idle: usize,
    /// Pages in runs.
    pub(crate) used: usize,
    pub(crate) regions: usize,
}

// SAFETY: the list's regions are the heap's, and nobody else's (I1).
unsafe impl<const BYTES: usize> Send for State<BYTES> {}

impl<const BYTES: usize> Pages<BYTES> {
    terrace_sync::const_fn! {
        pub(crate) const fn new() -> Self {
            let state = State { open: ptr::null_mut(), dirty: 0, idle: 0, used: 0, regions: 0 };
            Self { registry: Registry::new(), state: Lock::new(state) }
        }
    }
}

impl<const BYTES: usize> State<BYTES> {
    /// Hands out `len` pages in a row, the first a multiple of `alignment` pages, and says whether all are clean.
    /// `None`: no region has them.
    pub(crate) fn take_run(&mut self, len: usize, alignment: usize) -> Option<(NonNull<u8>, bool)> {
        let mut at = self.open;
        while let Some(start) = NonNull::new(at) {
            // SAFETY: by I2 a region.
            let region = unsafe { Region::<BYTES>::from_start(start) };
            // SAFETY: `self` is behind the lock.
            let header = unsafe { region.header() };
            at = header.next;
            if header.longest < len {
                continue;
            }
            // SAFETY: `self` is behind the lock.
            let free = unsafe { region.free_map() };
            let Some(first) = plan::find_run(free, len, alignment) else {
                if alignment == 1 {
                    header.longest = len - 1;
                }
                continue;
            };
            let clean = self.take_pages(region, first, len);
            return Some((region.page(first), clean));
        }
        None
    }

    /// Takes free pages out of the maps; whether all were clean.
    fn take_pages(&mut self, region: Region<BYTES>, first: usize, len: usize) -> bool {
        // SAFETY: `self` is behind the lock.
        plan::set(unsafe { region.free_map() }, first, len, false);
        // SAFETY: `self` is behind the lock.
        let cleaned = plan::set(unsafe { region.dirty_map() }, first, len, false);
        // SAFETY: `self` is behind the lock.
        let header = unsafe { region.header() };
        header.free_pages -= len;
        header.dirty_pages -= cleaned;
        self.dirty -= cleaned;
        self.idle = self.idle.min(self.dirty);
        self.used += len;
        if header.free_pages == 0 {
            self.unlist(region);
        }
        cleaned == 0
    }

    /// Hands out the `more` pages behind a run of `len`, where they are free; whether they are clean.
    ///
    /// # Safety
    /// The run was handed out by [`take_run`](Self::take_run), and is the caller's.
    pub(crate) unsafe fn extend_run(&mut self, start: NonNull<u8>, len: usize, more: usize) -> Option<bool> {
        // SAFETY: a run lies in a region.
        let region = unsafe { Region::<BYTES>::of(start) };
        let end = Region::<BYTES>::page_number(start) + len;
        // SAFETY: `self` is behind the lock.
        let free = plan::next_run(unsafe { region.free_map() }, end);
        let (from, room) = free.filter(|&(from, room)| from == end && room >= more)?;
        debug_assert!(room >= more);
        Some(self.take_pages(region, from, more))
    }

    /// Takes a run back, or a part of one. `true`: its region has no run left.
    ///
    /// # Safety
    /// `len` pages from `start` on were handed out by [`take_run`](Self::take_run), and nobody uses them again.
    pub(crate) unsafe fn give_run(&mut self, start: NonNull<u8>, len: usize, dirty: bool) -> bool {
        // SAFETY: a run lies in a region.
        let region = unsafe { Region::<BYTES>::of(start) };
        let first = Region::<BYTES>::page_number(start);
        // SAFETY: `self` is behind the lock.
        plan::set(unsafe { region.free_map() }, first, len, true);
        // SAFETY: `self` is behind the lock.
        let header = unsafe { region.header() };
        header.free_pages += len;
        header.longest = Region::<BYTES>::PLAN.usable();
        if dirty {
            // SAFETY: `self` is behind the lock.
            plan::set(unsafe { region.dirty_map() }, first, len, true);
            header.dirty_pages += len;
            self.dirty += len;
        }
        self.used -= len;
        let unused = header.free_pages == Region::<BYTES>::PLAN.usable();
        if !header.listed {
            self.list(region);
        }
        unused
    }

    /// Puts a region in front of the list.
    pub(crate) fn list(&mut self, region: Region<BYTES>) {
        // SAFETY: `self` is behind the lock.
        let header = unsafe { region.header() };
        header.listed = true;
        header.previous = ptr::null_mut();
        header.next = self.open;
        if let Some(next) = NonNull::new(self.open) {
            // SAFETY: by I2 a region.
            let next = unsafe { Region::<BYTES>::from_start(next) };
            // SAFETY: `self` is behind the lock; another region than the first.
            unsafe { next.header() }.previous = region.start().as_ptr();
        }
        self.open = region.start().as_ptr();
    }

    /// Takes a region out of the list.
    fn unlist(&mut self, region: Region<BYTES>) {
        // SAFETY: `self` is behind the lock.
        let header = unsafe { region.header() };
        header.listed = false;
        let (next, previous) = (header.next, header.previous);
        match NonNull::new(previous) {
            Some(neighbour) => {
                // SAFETY: by I2 a region.
                let neighbour = unsafe { Region::<BYTES>::from_start(neighbour) };
                // SAFETY: `self` is behind the lock; another region than this.
                unsafe { neighbour.header() }.next = next;
            }
            None => self.open = next,
        }
        if let Some(neighbour) = NonNull::new(next) {
            // SAFETY: by I2 a region.
            let neighbour = unsafe { Region::<BYTES>::from_start(neighbour) };
            // SAFETY: `self` is behind the lock; another region than this.
            unsafe { neighbour.header() }.previous = previous;
        }
    }

    /// Takes a region without runs out of the heap, to be given back to the backing. `false`: it has runs again.
    ///
    /// # Safety
    /// `region` is one of this heap's, and `registry` is the heap's.
    pub(crate) unsafe fn withdraw(&mut self, registry: &Registry<BYTES>, region: Region<BYTES>) -> bool {
        // SAFETY: `self` is behind the lock.
        let header = unsafe { region.header() };
        if header.free_pages != Region::<BYTES>::PLAN.usable() {
            return false;
        }
        self.dirty -= header.dirty_pages;
        self.regions -= 1;
        self.unlist(region);
        // SAFETY: `self` is behind the lock; no run, so no block.
        unsafe { registry.remove(region.start()) };
        true
    }

    /// Pages in no run.
    pub(crate) fn free_pages(&self) -> usize {
        self.regions * Region::<BYTES>::PLAN.usable() - self.used
    }

    /// Dirty pages that have been so since they were [noted](Self::note_idle_pages).
    pub(crate) fn idle_pages(&self) -> usize {
        self.idle.min(self.dirty)
    }

    /// Notes all dirty pages, to be told from those to come; how many there are.
    pub(crate) fn note_idle_pages(&mut self) -> usize {
        self.idle = self.dirty;
        self.dirty
    }

    /// The first region, from `open` on, that has no run.
    pub(crate) fn unused_region(&mut self) -> Option<Region<BYTES>> {
        self.find(|free, _| free == Region::<BYTES>::PLAN.usable())
    }

    /// Takes a run of dirty pages out of the maps, to be decommitted and [given back](Self::give_run) clean.
    pub(crate) fn take_dirty(&mut self) -> Option<(NonNull<u8>, NonZeroUsize)> {
        let region = self.find(|_, dirty| dirty > 0)?;
        // SAFETY: `self` is behind the lock.
        let dirty = unsafe { region.dirty_map() };
        let (first, len) = plan::next_run(dirty, 0)?;
        self.take_pages(region, first, len);
        Some((region.page(first), NonZeroUsize::new(len)?))
    }

    fn find(&mut self, wanted: impl Fn(usize, usize) -> bool) -> Option<Region<BYTES>> {
        let mut at = self.open;
        while let Some(start) = NonNull::new(at) {
            // SAFETY: by I2 a region.
            let region = unsafe { Region::<BYTES>::from_start(start) };
            // SAFETY: `self` is behind the lock.
            let header = unsafe { region.header() };
            if wanted(header.free_pages, header.dirty_pages) {
                return Some(region);
            }
            at = header.next;
        }
        None
    }
}
