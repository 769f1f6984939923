//! [`Region`]: a large aligned piece of the backing, with the books of its pages at its beginning.
//!
//! ```text
//!   address of a block ── & !(BYTES - 1) ──▶ region
//!                      ── / PAGE % pages ──▶ page ──▶ classes[page], firsts[page] ──▶ slabs[first]
//! ```
//!
//! So everything about a block is found from its address, without a header in or before it, and the books of many
//! slabs share cache lines instead of lying at the same place of each.
//!
//! - **I1** A region is a live block of the backing of `BYTES` bytes, aligned to that, laid out as `plan.rs` says.
//! - **I2** `classes` and `firsts` of a page are written while no block of the page is live. Whoever holds a live block
//!   may read them. The header and the two maps are reached under the lock of `pages.rs`, a slab under that of its class.
//! - **I3** A page's bit in `free` is 1 exactly where the page is in no run that was handed out; in `dirty`, where
//!   it is free and may hold memory of the machine. The bits of the books' own pages are 0.
//! - **I4** The region's provenance was exposed. What is found from a block's address is reached through that, not through
//!   the block's own pointer (clause 5).

use core::{
    ptr::{self, NonNull},
    slice,
};

use super::{
    class::{CLASSES, PAGE},
    plan::{self, Plan, SLAB},
    slab::Slab,
};

/// What the lock of `pages.rs` guards, beside the maps.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) next: *mut u8,
    pub(crate) previous: *mut u8,
    pub(crate) free_pages: usize,
    /// No run longer than this is free.
    pub(crate) longest: usize,
    pub(crate) dirty_pages: usize,
    pub(crate) listed: bool,
}

const _: () = assert!(size_of::<Header>() <= 64);
const _: () = assert!(size_of::<Slab>() <= SLAB);

/// A region by its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region<const BYTES: usize>(NonNull<u8>);

impl<const BYTES: usize> Region<BYTES> {
    pub(crate) const PLAN: Plan = Plan::of(BYTES);

    /// Lays out a fresh region, all of whose pages are free and clean.
    ///
    /// # Safety
    /// A block of the backing as in I1, the caller's alone, and never reached again but as a region.
    pub(crate) unsafe fn create(start: NonNull<u8>) -> Self {
        start.expose_provenance(); // I4
        let this = Self(start);
        let header = Header {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            free_pages: Self::PLAN.usable(),
            longest: Self::PLAN.usable(),
            dirty_pages: 0,
            listed: false,
        };
        // SAFETY: the region begins with its header, aligned with the region.
        unsafe { start.cast::<Header>().write(header) };
        // SAFETY: inside the region by `plan.rs`.
        let maps = unsafe { this.at::<u64>(Self::PLAN.free) };
        // SAFETY: the two maps lie behind one another, and are words.
        unsafe { maps.write_bytes(0, Self::PLAN.words * 2) };
        // SAFETY: written just now, and the caller's alone.
        plan::set(unsafe { this.free_map() }, Self::PLAN.first_page, Self::PLAN.usable(), true);
        this
    }

    /// # Safety
    /// `start` is one of a region's.
    pub(crate) unsafe fn from_start(start: NonNull<u8>) -> Self {
        Self(start)
    }

    /// The region that `address` would lie in.
    ///
    /// # Safety
    /// `address` lies in a region of this size.
    #[inline(always)]
    pub(crate) unsafe fn of<T>(address: NonNull<T>) -> Self {
        let start = ptr::with_exposed_provenance_mut(address.addr().get() & !(BYTES - 1)); // I4
        // SAFETY: a region begins there, by the caller's promise.
        Self(unsafe { NonNull::new_unchecked(start) })
    }

    #[inline(always)]
    pub(crate) fn start(self) -> NonNull<u8> {
        self.0
    }

    /// The number of the page that `address` lies in.
    #[inline(always)]
    pub(crate) fn page_number<T>(address: NonNull<T>) -> usize {
        (address.addr().get() & (BYTES - 1)) / PAGE
    }

    /// # Safety
    /// `offset` is within the region.
    #[inline(always)]
    unsafe fn at<T>(self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.as_ptr().add(offset) }.cast()
    }

    /// Page `number`.
    pub(crate) fn page(self, number: usize) -> NonNull<u8> {
        debug_assert!(number < Self::PLAN.pages);
        // SAFETY: a region has that many pages (I1).
        unsafe { self.0.add(number * PAGE) }
    }

    /// # Safety
    /// The caller has the lock of `pages.rs` (I2), and keeps no other reference to the header.
    pub(crate) unsafe fn header<'a>(self) -> &'a mut Header {
        // SAFETY: by I1 it begins with one; the caller's promise.
        unsafe { self.0.cast().as_mut() }
    }

    /// # Safety
    /// The caller has the lock of `pages.rs` (I2), and keeps no other reference to the map.
    pub(crate) unsafe fn free_map<'a>(self) -> &'a mut [u64] {
        // SAFETY: inside the region.
        let words = unsafe { self.at(Self::PLAN.free) };
        // SAFETY: by I1 so many words, written by `create`; the caller's promise.
        unsafe { slice::from_raw_parts_mut(words, Self::PLAN.words) }
    }

    /// # Safety
    /// The caller has the lock of `pages.rs` (I2), and keeps no other reference to the map.
    pub(crate) unsafe fn dirty_map<'a>(self) -> &'a mut [u64] {
        // SAFETY: inside the region.
        let words = unsafe { self.at(Self::PLAN.dirty) };
        // SAFETY: by I1 so many words, written by `create`; the caller's promise.
        unsafe { slice::from_raw_parts_mut(words, Self::PLAN.words) }
    }

    /// The class of the page's blocks, [`CLASSES`] where it begins a medium one.
    ///
    /// # Safety
    /// A block of the page is live, or the page is the caller's (I2).
    #[inline(always)]
    pub(crate) unsafe fn class(self, page: usize) -> usize {
        // SAFETY: a page has a byte there (I1).
        let class = unsafe { self.at::<u8>(Self::PLAN.classes + page) };
        // SAFETY: written by `create_slab`, and by I2 not being written.
        usize::from(unsafe { *class })
    }

    /// Writes the books of a medium block of `pages` pages from page `first` on.
    ///
    /// # Safety
    /// The pages are a run of the caller's.
    pub(crate) unsafe fn set_medium(self, first: usize, pages: usize) {
        // SAFETY: a page has a byte there (I1).
        let at = unsafe { self.at::<u8>(Self::PLAN.classes + first) };
        // SAFETY: the page is the caller's (I2).
        unsafe { at.write(CLASSES as u8) };
        // SAFETY: the books of the page are the caller's, as the run is.
        unsafe { self.slab(first).cast::<usize>().write(pages) };
    }

    /// The length in pages of the medium block that begins page `first`.
    ///
    /// # Safety
    /// The block is live (I2).
    pub(crate) unsafe fn medium(self, first: usize) -> usize {
        // SAFETY: written by `set_medium`.
        unsafe { self.slab(first).cast::<usize>().read() }
    }

    /// Writes the books of a new slab of `pages` pages from page `first` on.
    ///
    /// # Safety
    /// The pages are a run of the caller's. `class` is one whose slabs have so many pages.
    pub(crate) unsafe fn create_slab(self, first: usize, pages: usize, class: usize) -> NonNull<Slab> {
        for page in first..first + pages {
            // SAFETY: a page has a byte there (I1).
            let at = unsafe { self.at::<u8>(Self::PLAN.classes + page) };
            // SAFETY: no block of the page is live (I2).
            unsafe { at.write(class as u8) };
            // SAFETY: a page has two bytes there (I1).
            let at = unsafe { self.at::<u16>(Self::PLAN.firsts + page * 2) };
            // SAFETY: no block of the page is live (I2).
            unsafe { at.write(first as u16) };
        }
        let slab = self.slab(first);
        // SAFETY: the slab's books are the caller's, as the run is.
        unsafe { slab.write(Slab::new(class)) };
        slab
    }

    /// The slab that `block` lies in.
    ///
    /// # Safety
    /// `block` lies in a slab of this region and is live, or free and the caller's (I2).
    pub(crate) unsafe fn slab_of<T>(self, block: NonNull<T>) -> NonNull<Slab> {
        // SAFETY: a page has two bytes there (I1).
        let first = unsafe { self.at::<u16>(Self::PLAN.firsts + Self::page_number(block) * 2) };
        // SAFETY: written by `create_slab`, and by I2 not being written.
        self.slab(usize::from(unsafe { *first }))
    }

    fn slab(self, first: usize) -> NonNull<Slab> {
        debug_assert!(first < Self::PLAN.pages);
        // SAFETY: a page has the room for a slab's books (I1).
        unsafe { self.0.add(Self::PLAN.slabs + first * SLAB) }.cast()
    }

    /// The page where `slab` begins.
    pub(crate) fn first_page(slab: NonNull<Slab>) -> usize {
        ((slab.addr().get() & (BYTES - 1)) - Self::PLAN.slabs) / SLAB
    }
}
