//! A slot: per class a list of free blocks in use, the slab that it came from, and the other slabs that have blocks to give.
//!
//! ```text
//!   free    ●─●─●─●        alloc pops here, nothing is counted
//!   current ▣              the slab they came from; free pushes on the block's own slab
//!   listed  ▣─▣─▣          slabs with free blocks
//!   woken   ▣─▣            slabs to which others gave blocks back: pushed by CAS
//! ```
//!
//! - **I1** All but `woken` is reached by one caller at a time (`Slots`), or under the lock of the common slot.
//! - **I2** Every slab of the slot is current of its class, listed, or asleep, and says so.

use core::{
    cell::Cell,
    ptr::{self, NonNull},
};

use terrace_sync::{
    KEPT_BYTES,
    atomic::{AtomicPtr, Ordering},
};

use super::{
    super::{
        chain::Block,
        class::{CLASSES, size},
    },
    slab::{Place, Slab, run_of},
};

/// Blocks of so many bytes are few: fresh ones are cut behind them.
const FRESH: usize = 16 << 10;

static FEW: [u16; CLASSES] = {
    let mut few = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let fitting = FRESH / size(class);
        few[class] = if fitting < 4 {
            4
        } else if fitting > 64 {
            64
        } else {
            fitting as u16
        };
        class += 1;
    }
    few
};

/// What the fast path of `alloc` reads. All zeroes is no block.
#[repr(C, align(64))]
pub(super) struct Lists {
    free: [Cell<*mut Block>; CLASSES],
    current: [Cell<*mut Slab>; CLASSES],
}

const _: () = assert!(size_of::<Lists>() <= KEPT_BYTES);

impl Lists {
    /// A block off the list.
    ///
    /// # Safety
    /// The slot is the caller's (I1); `class` is one.
    #[inline(always)]
    pub(super) unsafe fn pop(&self, class: usize) -> Option<NonNull<Block>> {
        // SAFETY: the caller's promise.
        let list = unsafe { self.free.get_unchecked(class) };
        let block = NonNull::new(list.get())?;
        // SAFETY: a linked block of this slot.
        let next = unsafe { Block::next(block) };
        list.set(next);
        Some(block)
    }

    /// A block of the current slab's, where it has more than a few free ones: the short way of a refill.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and its list of the class is empty.
    #[inline(always)]
    pub(super) unsafe fn lift(&self, class: usize) -> Option<NonNull<Block>> {
        let current = NonNull::new(self.current[class].get())?;
        // SAFETY: a slab of the slot.
        let slab = unsafe { current.as_ref() };
        // SAFETY: the slot is ours, and the slab is its current one.
        let head = NonNull::new(unsafe { slab.lift_many(FEW[class]) })?;
        // SAFETY: linked, and ours.
        self.free[class].set(unsafe { Block::next(head) });
        Some(head)
    }
}

/// All zeroes is a slot without slabs.
#[repr(C, align(128))]
pub(super) struct Slot {
    pub(super) lists: Lists,
    listed: [Cell<*mut Slab>; CLASSES],
    woken: [AtomicPtr<Slab>; CLASSES],
    outgoing: [Letter; LETTERS],
}

/// Blocks for a slab of another slot, which go there together.
struct Letter {
    slab: Cell<*mut Slab>,
    first: Cell<*mut Block>,
    last: Cell<*mut Block>,
    count: Cell<usize>,
}

const LETTERS: usize = 8;
/// Blocks that make a letter worth sending.
const FULL: usize = 32;

impl Slot {
    /// Tells the slot that a slab got a block back from elsewhere. Anybody may.
    ///
    /// # Safety
    /// A slab of the slot whose `push_remote` answered `true` to the caller.
    pub(super) unsafe fn wake(&self, slab: NonNull<Slab>) {
        // SAFETY: the caller's block, which nobody takes before the slab is in the list.
        let this = unsafe { slab.as_ref() };
        let woken = &self.woken[usize::from(this.class)];
        let mut head = woken.load(Ordering::Relaxed);
        loop {
            this.woken_next.set(head);
            // Release: pairs with the Acquire of `drain`.
            match woken.compare_exchange_weak(head, slab.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives a block back to a slab of another slot, by and by.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and so is the block, of `slab`, which it gives up.
    pub(super) unsafe fn post(&self, slab: NonNull<Slab>, block: NonNull<Block>) {
        let letter = &self.outgoing[(slab.addr().get() >> 6) % LETTERS];
        if letter.slab.get() != slab.as_ptr() {
            // SAFETY: the slot is ours.
            unsafe { self.send(letter) };
            letter.slab.set(slab.as_ptr());
            letter.last.set(block.as_ptr());
        }
        // SAFETY: the caller's block.
        unsafe { Block::link(block, letter.first.get()) };
        letter.first.set(block.as_ptr());
        letter.count.set(letter.count.get() + 1);
        if letter.count.get() >= FULL {
            // SAFETY: the slot is ours.
            unsafe { self.send(letter) };
        }
    }

    /// # Safety
    /// The slot is the caller's (I1).
    unsafe fn send(&self, letter: &Letter) {
        let Some(slab) = NonNull::new(letter.slab.replace(ptr::null_mut())) else { return };
        let (first, last) = (letter.first.replace(ptr::null_mut()), letter.last.get());
        letter.count.set(0);
        let (Some(first), Some(last)) = (NonNull::new(first), NonNull::new(last)) else { return };
        // SAFETY: it stays while a block is out.
        let this = unsafe { slab.as_ref() };
        // SAFETY: a chain of its blocks.
        if unsafe { this.push_remote_chain(first, last) } {
            // SAFETY: a slot; just answered `true`.
            unsafe { this.home.as_ref().wake(slab) };
        }
    }

    /// Sends what is waiting for other slots.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(super) unsafe fn send_all(&self) {
        // SAFETY: the caller's promise.
        self.outgoing.iter().for_each(|letter| unsafe { self.send(letter) });
    }

    /// Fills the list of `class` again. `false`: a new slab is needed. Slabs without a block out come out in `unused`.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and its list of the class is empty.
    pub(super) unsafe fn refill<const BYTES: usize>(&self, class: usize, unused: &mut *mut Slab) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.drain(class, unused) };
        loop {
            if let Some(at) = NonNull::new(self.lists.current[class].get()) {
                // SAFETY: a slab lies in a region.
                let run = unsafe { run_of::<BYTES>(at) };
                // SAFETY: a slab of the slot.
                let slab = unsafe { at.as_ref() };
                // SAFETY: the slot is ours; the slab's own run.
                let head = unsafe { slab.lift(run, FEW[class]) };
                if !head.is_null() {
                    self.lists.free[class].set(head);
                    return true;
                }
                slab.sleep();
                self.lists.current[class].set(ptr::null_mut());
            }
            let Some(next) = NonNull::new(self.listed[class].get()) else { return false };
            self.unlist(next);
            // SAFETY: a slab of the slot.
            unsafe { next.as_ref() }.place.set(Place::Current);
            self.lists.current[class].set(next.as_ptr());
        }
    }

    /// Takes what others gave back to slabs of `class`.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(super) unsafe fn drain(&self, class: usize, unused: &mut *mut Slab) {
        if self.woken[class].load(Ordering::Relaxed).is_null() {
            return;
        }
        // Acquire: pairs with the Release of `wake`.
        let mut at = self.woken[class].swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(slab) = NonNull::new(at) {
            // SAFETY: a slab of the slot; it stays while its remote blocks are not taken.
            let this = unsafe { slab.as_ref() };
            // Before the blocks are taken: from then on it may be woken again.
            at = this.woken_next.get();
            // SAFETY: it was among the woken ones.
            unsafe { this.take_remote() };
            self.settle(slab, unused);
        }
    }

    /// Puts a slab where it belongs after blocks came back to it.
    pub(super) fn settle(&self, slab: NonNull<Slab>, unused: &mut *mut Slab) {
        // SAFETY: a slab of the slot.
        let this = unsafe { slab.as_ref() };
        let class = usize::from(this.class);
        let out = this.out();
        this.watch(out);
        match this.place.get() {
            Place::Current => return,
            Place::Asleep => self.list(slab),
            Place::Listed => {}
        }
        // One that is unused stays, so that the next request finds it.
        let alone = self.listed[class].get() == slab.as_ptr() && this.next.get().is_null();
        if out == 0 && !alone {
            self.unlist(slab);
            this.next.set(*unused);
            *unused = slab.as_ptr();
        }
    }

    /// Gives every free block of `class` back to its slab. What is unused comes out.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(super) unsafe fn empty(&self, class: usize, unused: &mut *mut Slab) {
        // SAFETY: the caller's promise.
        unsafe { self.drain(class, unused) };
        if let Some(current) = NonNull::new(self.lists.current[class].replace(ptr::null_mut())) {
            // SAFETY: a slab of the slot.
            let this = unsafe { current.as_ref() };
            // SAFETY: the slot is ours.
            while let Some(block) = unsafe { self.lists.pop(class) } {
                // SAFETY: the list's blocks are of the current slab, and ours.
                unsafe { this.push(block) };
            }
            self.list(current);
        }
        let mut at = self.listed[class].get();
        while let Some(slab) = NonNull::new(at) {
            // SAFETY: a slab of the slot.
            let this = unsafe { slab.as_ref() };
            at = this.next.get();
            if this.out() == 0 {
                self.unlist(slab);
                this.next.set(*unused);
                *unused = slab.as_ptr();
            }
        }
    }

    /// Puts a slab in front of the list.
    pub(super) fn list(&self, slab: NonNull<Slab>) {
        // SAFETY: a slab of the slot.
        let this = unsafe { slab.as_ref() };
        let listed = &self.listed[usize::from(this.class)];
        if let Some(next) = NonNull::new(listed.get()) {
            // SAFETY: a slab of the slot.
            unsafe { next.as_ref() }.previous.set(slab.as_ptr());
        }
        this.place.set(Place::Listed);
        this.previous.set(ptr::null_mut());
        this.next.set(listed.get());
        listed.set(slab.as_ptr());
    }

    fn unlist(&self, slab: NonNull<Slab>) {
        // SAFETY: a slab of the slot.
        let this = unsafe { slab.as_ref() };
        let (next, previous) = (this.next.get(), this.previous.get());
        match NonNull::new(previous) {
            // SAFETY: a slab of the slot.
            Some(previous) => unsafe { previous.as_ref() }.next.set(next),
            None => self.listed[usize::from(this.class)].set(next),
        }
        if let Some(next) = NonNull::new(next) {
            // SAFETY: a slab of the slot.
            unsafe { next.as_ref() }.previous.set(previous);
        }
    }
}
