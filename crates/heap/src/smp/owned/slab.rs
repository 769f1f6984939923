//! [`Slab`]: a run of pages that one slot owns, cut into blocks of one class, and the books about it.
//!
//! ```text
//!                      ┌─ free ───▶ ●─●─●─∅      given back by the owner
//!   one line of 64 B   ├─ remote ─▶ ●─●─∅        given back by others: pushed by CAS, taken as a whole
//!                      └─ left                   blocks that still have to come back before something happens
//! ```
//!
//! - **I1** `left + hold` blocks of `cut` are out: live, in the slot's list, or in `remote`; the others are in `free`.
//! - **I2** What is a `Cell` is the owner's; the rest is anybody's who has a block of the slab.
//! - **I3** Whoever makes `remote` non-empty pushes the slab on its slot's list of woken ones; only who finds it there
//!   takes `remote`. Until then the block is out, so the slab stays.

use core::{
    cell::Cell,
    ptr::{self, NonNull},
};

use terrace_sync::atomic::{AtomicPtr, Ordering};

use super::{
    super::{
        chain::Block,
        class::{self, PAGE, size},
        region::Region,
    },
    slot::Slot,
};

/// Where a slab is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// Its slot takes blocks from it; in no list.
    Current,
    /// In its slot's list of slabs that have blocks to give.
    Listed,
    /// All blocks are out; in no list.
    Asleep,
}

/// The books of one slab: two entries of the region's table, one line.
#[repr(C, align(64))]
pub(super) struct Slab {
    free: Cell<*mut Block>,
    left: Cell<u16>,
    /// The number of the slot that owns the slab, and that slot.
    pub(super) owner: u16,
    pub(super) class: u8,
    pub(super) place: Cell<Place>,
    remote: AtomicPtr<Block>,
    hold: Cell<u16>,
    cut: Cell<u16>,
    capacity: u16,
    pub(super) home: NonNull<Slot>,
    pub(super) woken_next: Cell<*mut Slab>,
    pub(super) next: Cell<*mut Slab>,
    pub(super) previous: Cell<*mut Slab>,
}

const _: () = assert!(size_of::<Slab>() == 64);

/// Regions from this size on have slabs of one size, whose number follows from the address.
const LARGE: usize = 2 << 20;
/// Pages of those slabs.
const UNIT: usize = 32;

/// Pages of a slab of `class` in regions of `bytes` bytes: an even number.
pub(super) fn pages(bytes: usize, class: usize) -> usize {
    if bytes < LARGE {
        return class::slab_pages(class).next_multiple_of(2);
    }
    UNIT
}

/// What a slab's first page is a multiple of.
pub(super) fn alignment(bytes: usize, class: usize) -> usize {
    if bytes < LARGE { class::slab_alignment(class).max(2) } else { UNIT }
}

/// The slab that `block` lies in.
///
/// # Safety
/// A block of a slab in a region of this size, which is live or the caller's.
#[inline(always)]
pub(super) unsafe fn slab_of<const BYTES: usize>(block: NonNull<u8>) -> NonNull<Slab> {
    // SAFETY: the caller's promise.
    let region = unsafe { Region::<BYTES>::of(block) };
    if BYTES < LARGE {
        // SAFETY: the caller's promise; created as this kind of slab.
        return unsafe { region.slab_of(block) }.cast();
    }
    region.owned(Region::<BYTES>::page_number(block) / UNIT * UNIT).cast()
}

/// The run that a slab has.
///
/// # Safety
/// A slab in a region of this size.
pub(super) unsafe fn run_of<const BYTES: usize>(slab: NonNull<Slab>) -> NonNull<u8> {
    // SAFETY: the caller's promise.
    let region = unsafe { Region::<BYTES>::of(slab) };
    let first =
        if BYTES < LARGE { Region::<BYTES>::first_page(slab.cast()) } else { Region::<BYTES>::owned_page(slab) };
    region.page(first)
}

/// Where the books of a new slab go, after its class was written down.
///
/// # Safety
/// A run of the caller's in a region of this size, of as many pages as the class's slabs have, and as aligned.
pub(super) unsafe fn place<const BYTES: usize>(run: NonNull<u8>, class: usize) -> NonNull<Slab> {
    // SAFETY: the caller's promise.
    let region = unsafe { Region::<BYTES>::of(run) };
    let (first, pages) = (Region::<BYTES>::page_number(run), pages(BYTES, class));
    if BYTES < LARGE {
        // SAFETY: the caller's promise.
        return unsafe { region.create_slab(first, pages, class) }.cast();
    }
    // SAFETY: the caller's promise.
    unsafe { region.set_class(first, pages, class) };
    region.owned(first).cast()
}

fn capacity(bytes: usize, class: usize) -> u16 {
    (pages(bytes, class) * PAGE / size(class)) as u16
}

impl Slab {
    pub(super) fn new(bytes: usize, class: usize, owner: usize, home: NonNull<Slot>) -> Self {
        let null = ptr::null_mut();
        Self {
            free: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
            owner: owner as u16,
            class: class as u8,
            place: Cell::new(Place::Asleep),
            remote: AtomicPtr::new(ptr::null_mut()),
            hold: Cell::new(0),
            cut: Cell::new(0),
            capacity: capacity(bytes, class),
            home,
            woken_next: Cell::new(null),
            next: Cell::new(null),
            previous: Cell::new(null),
        }
    }

    /// Blocks that are out.
    pub(super) fn out(&self) -> u16 {
        self.left.get() + self.hold.get()
    }

    /// From now on something happens when the last block is back.
    pub(super) fn watch(&self, out: u16) {
        self.left.set(out);
        self.hold.set(0);
    }

    /// Takes a block back from the owner. `true`: as many are back as were waited for.
    ///
    /// # Safety
    /// The caller has the slot, and a block of this slab, which it gives up.
    #[inline(always)]
    pub(super) unsafe fn push(&self, block: NonNull<Block>) -> bool {
        // SAFETY: the caller's block.
        unsafe { Block::link(block, self.free.get()) };
        self.free.set(block.as_ptr());
        let left = self.left.get().wrapping_sub(1);
        self.left.set(left);
        left == 0
    }

    /// As [`push`](Self::push), where nothing happens then. `false`: it would, and nothing has changed.
    ///
    /// # Safety
    /// The caller has the slot, and a block of this slab, which it gives up if the answer is `true`.
    #[inline(always)]
    pub(super) unsafe fn push_at_hand(&self, block: NonNull<Block>) -> bool {
        let left = self.left.get();
        if left == 1 {
            return false;
        }
        // SAFETY: the caller's block.
        unsafe { Block::link(block, self.free.get()) };
        self.free.set(block.as_ptr());
        self.left.set(left.wrapping_sub(1));
        true
    }

    /// Takes a block back from anybody. `true`: it is the first, wake the slab (I3).
    ///
    /// # Safety
    /// A block of this slab, which the caller gives up.
    #[inline]
    pub(super) unsafe fn push_remote(&self, block: NonNull<Block>) -> bool {
        // SAFETY: a chain of one.
        unsafe { self.push_remote_chain(block, block) }
    }

    /// As [`push_remote`](Self::push_remote), for a chain from `first` to `last`.
    ///
    /// # Safety
    /// Blocks of this slab, which the caller gives up.
    pub(super) unsafe fn push_remote_chain(&self, first: NonNull<Block>, last: NonNull<Block>) -> bool {
        let mut head = self.remote.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller's block.
            unsafe { Block::link(last, head) };
            // Release: pairs with the Acquire of `take_remote`.
            match self.remote.compare_exchange_weak(head, first.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return head.is_null(),
                Err(now) => head = now,
            }
        }
    }

    /// Moves what others gave back to the free blocks.
    ///
    /// # Safety
    /// The caller has the slot, and found the slab among the woken ones (I3).
    pub(super) unsafe fn take_remote(&self) {
        // Acquire: pairs with the Release of `push_remote`.
        let Some(head) = NonNull::new(self.remote.swap(ptr::null_mut(), Ordering::Acquire)) else { return };
        let (mut last, mut count) = (head, 1);
        // SAFETY: linked by `push_remote`.
        while let Some(next) = NonNull::new(unsafe { Block::next(last) }) {
            (last, count) = (next, count + 1);
        }
        // SAFETY: ours since the swap.
        unsafe { Block::link(last, self.free.get()) };
        self.free.set(head.as_ptr());
        self.watch(self.out() - count);
    }

    /// The free blocks, which are out from now on, where they are not few or nothing can be cut behind them; else null.
    ///
    /// # Safety
    /// The caller has the slot, whose current slab this is.
    #[inline(always)]
    pub(super) unsafe fn lift_many(&self, few: u16) -> *mut Block {
        let cut = self.cut.get();
        // `hold` is 0 in a current slab.
        if cut - self.left.get() < few && cut != self.capacity {
            return ptr::null_mut();
        }
        self.left.set(cut);
        self.free.replace(ptr::null_mut())
    }

    /// All free blocks, which are out from now on; where they are few, some fresh ones before them.
    ///
    /// # Safety
    /// The caller has the slot, whose current slab this is; its run begins at `run`.
    pub(super) unsafe fn lift(&self, run: NonNull<u8>, few: u16) -> *mut Block {
        // SAFETY: the caller's promise.
        let head = unsafe { self.lift_many(few) };
        if !head.is_null() {
            return head;
        }
        let head = self.free.replace(ptr::null_mut());
        let cut = self.cut.get();
        let bytes = size(usize::from(self.class));
        let end = (cut + few).min(self.capacity);
        let mut fresh = head;
        for number in (cut..end).rev() {
            // SAFETY: below the capacity, so inside the run.
            let block = unsafe { run.add(usize::from(number) * bytes) }.cast();
            // SAFETY: never cut before, so nobody else's.
            unsafe { Block::link(block, fresh) };
            fresh = block.as_ptr();
        }
        self.cut.set(end);
        self.watch(end);
        fresh
    }

    /// All blocks are out: something happens when `wake` of them are back.
    pub(super) fn sleep(&self) {
        let out = self.out();
        let left = (self.capacity / 4).clamp(1, 32).min(out);
        self.left.set(left);
        self.hold.set(out - left);
        self.place.set(Place::Asleep);
    }
}
