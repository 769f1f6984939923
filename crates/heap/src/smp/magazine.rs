//! A slot's magazines: per class three chains of free blocks, used without a lock by whoever has the slot.
//!
//! ```text
//!   alloc ◀─ pop ── loaded  ●─●─●─●─●            nobody counts them
//!                     ▲ turn: all of it, when nothing is loaded
//!   free ── push ──▶ freed  ●─●─●                `room` more fit
//!                     ▼ make_room: all of it, when it is full and something is loaded
//!                  reserve  ●─●─●─●─●─●─●─●      a batch or none
//!                    │ ▲    whole
//!                    ▼ │
//!                   depot ──▶ loaded
//! ```
//!
//! `alloc` and `free` have a chain each, because what one writes the other would read next: where `free` has to look the class
//! up, the processor knows late where it stores, and a load that follows waits for that, or was made too early and is
//! made again (that what is freed waits apart until the rest is used up is from Leijen and others, "Mimalloc: Free List Sharding in
//! Action", 2019). Whole chains change places, none is ever cut or counted, and a program that frees and allocates around the
//! edge of a batch does not go to the depot each time (Bonwick and Adams, "Magazines and Vmem", 2001): without the reserve one that
//! replaces blocks at random would each hundred times, and threads would mix their blocks in the lines of the cache.
//!
//! - **I1** A slot is reached by one caller at a time (`Slots`), or under the lock of the common slot.
//! - **I2** `freed` holds `limit − room` blocks. `limit` is `batch`, or less while the magazine is narrow; 0 in a slot never used,
//!   which is all zeroes: no blocks and no room. `loaded` holds at most a batch.
//! - **I3** `reserve` is null or a chain of exactly `batch` blocks. It is put there and taken out by exchanges, so that who purges
//!   what is idle can take it from a running thread; who takes it out has it.
//!
//! Cost: `pop` is two loads and a store, `push` two loads and three stores; 26 bytes a class.

use core::ptr::{self, NonNull};

use terrace_sync::{
    atomic::{AtomicPtr, Ordering},
    cell::UnsafeCell,
};

use super::{
    chain::{Block, Chain},
    class::{self, CLASSES, batch},
};

/// The magazines of one slot. All zeroes is a slot without blocks.
#[repr(C, align(128))] // No two slots share a line, nor the pair of lines that some processors fetch together.
pub(crate) struct Slot {
    loaded: [UnsafeCell<*mut Block>; CLASSES],
    freed: [UnsafeCell<*mut Block>; CLASSES],
    room: [UnsafeCell<u8>; CLASSES],
    limit: [UnsafeCell<u8>; CLASSES],
    reserve: [AtomicPtr<Block>; CLASSES],
    /// Chains exchanged with the depot.
    exchanges: UnsafeCell<u32>,
}

impl Slot {
    /// A block off the loaded chain.
    ///
    /// # Safety
    /// The slot is the caller's (I1); `class` is one.
    #[inline(always)]
    pub(crate) unsafe fn pop(&self, class: usize) -> Option<NonNull<Block>> {
        // SAFETY: the caller's promise.
        let block = NonNull::new(unsafe { get(&self.loaded, class) })?;
        // SAFETY: by I2 a linked block of this slot.
        let next = unsafe { Block::next(block) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, next) };
        Some(block)
    }

    /// Puts a block on the freed chain. `false`: there is no room, [make some](Self::make_room) first.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and so is the block, of `class`, if the answer is `true`.
    #[inline(always)]
    pub(crate) unsafe fn push(&self, class: usize, block: NonNull<Block>) -> bool {
        // SAFETY: the caller's promise.
        let room = unsafe { get(&self.room, class) };
        if room == 0 {
            return false;
        }
        // SAFETY: the caller's promise.
        let freed = unsafe { get(&self.freed, class) };
        // SAFETY: the caller gives the block up.
        unsafe { Block::link(block, freed) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.freed, class, block.as_ptr()) };
        // SAFETY: the caller's promise; this keeps I2.
        unsafe { set(&self.room, class, room - 1) };
        true
    }

    /// A block off the freed chain, the rest of which is loaded, where it has a [fair](class::fair) number and nothing is loaded: the
    /// caller found nothing, but perhaps in another slot.
    ///
    /// # Safety
    /// The slot is the caller's (I1); `class` is one.
    #[inline(always)]
    pub(crate) unsafe fn pop_freed(&self, class: usize) -> Option<NonNull<Block>> {
        // SAFETY: the caller's promise.
        if !unsafe { get(&self.loaded, class) }.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        let limit = unsafe { get(&self.limit, class) };
        // SAFETY: the caller's promise.
        if limit - unsafe { get(&self.room, class) } < class::fair(class) {
            return None;
        }
        // SAFETY: the caller's promise.
        let block = NonNull::new(unsafe { self.take_freed(class) })?;
        // SAFETY: by I2 a linked block of this slot.
        let next = unsafe { Block::next(block) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, next) };
        Some(block)
    }

    /// Loads a block where nothing is loaded. `false`: something is, or the slot was never used.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and so is the block, of `class`, if the answer is `true`.
    #[inline(always)]
    pub(crate) unsafe fn push_back(&self, class: usize, block: NonNull<Block>) -> bool {
        // SAFETY: the caller's promise.
        if unsafe { get(&self.limit, class) } == 0 || !unsafe { get(&self.loaded, class) }.is_null() {
            return false;
        }
        // SAFETY: the caller gives the block up.
        unsafe { Block::link(block, ptr::null_mut()) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, block.as_ptr()) };
        true
    }

    /// Makes the freed chain the loaded one, which is empty, where it has `least` blocks. `false`: it has not.
    ///
    /// # Safety
    /// The slot is the caller's (I1), its loaded chain of `class` is empty; `least` is not 0.
    #[inline(always)]
    pub(crate) unsafe fn turn(&self, class: usize, least: u8) -> bool {
        // SAFETY: the caller's promise.
        let limit = unsafe { get(&self.limit, class) };
        // SAFETY: the caller's promise.
        if limit - unsafe { get(&self.room, class) } < least {
            return false;
        }
        // SAFETY: the caller's promise.
        let freed = unsafe { self.take_freed(class) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, freed) };
        true
    }

    /// Makes the reserve the loaded chain, which is empty. `false`: the reserve is empty too.
    ///
    /// # Safety
    /// The slot is the caller's (I1), its loaded chain of `class` is empty.
    pub(crate) unsafe fn load_reserve(&self, class: usize) -> bool {
        // SAFETY: the caller's promise; by I3 at most a batch.
        self.take_reserve(class).is_some_and(|reserve| unsafe { self.load(class, reserve.head) })
    }

    /// Takes the reserve of `class` out; anyone may.
    pub(crate) fn take_reserve(&self, class: usize) -> Option<Chain> {
        // Relaxed: mostly there is none, and nothing is read through it.
        if self.reserve[class].load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Acquire: the blocks' links come with the chain.
        let head = self.reserve[class].swap(ptr::null_mut(), Ordering::Acquire);
        NonNull::new(head).map(|head| Chain { head, len: batch(class).into(), branched: false })
    }

    /// Loads a chain from elsewhere, where the loaded one is empty. `false`: it is not, and nothing has changed.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and so is the chain, of `class` and at most a batch, if the answer is `true`.
    pub(crate) unsafe fn load(&self, class: usize, head: NonNull<Block>) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { get(&self.loaded, class) }.is_null() {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, head.as_ptr()) };
        // SAFETY: the caller's promise. Who allocates can do with what it frees.
        unsafe { self.set_limit(class, batch(class)) };
        true
    }

    /// Makes room in the freed chain, which is full: it becomes the loaded one where that is empty, or else the reserve, whose former
    /// chain comes out. While the magazine is [narrow](Self::narrow), the freed chain itself does.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and has no room for `class`.
    pub(crate) unsafe fn make_room(&self, class: usize) -> Option<Chain> {
        // SAFETY: the caller's promise.
        let limit = unsafe { get(&self.limit, class) };
        if limit == 0 {
            // SAFETY: the caller's promise; by I2 the slot is used for the first time.
            unsafe { self.set_limit(class, batch(class)) };
            return None;
        }
        let full = limit == batch(class);
        // SAFETY: the caller's promise; the freed chain is full.
        if full && unsafe { get(&self.loaded, class) }.is_null() && unsafe { self.turn(class, limit) } {
            return None;
        }
        // SAFETY: the caller's promise.
        let freed = unsafe { self.take_freed(class) };
        let mut out = freed;
        if full {
            // By I2 the chain was full, which keeps I3. Acquire and Release: the blocks' links go with the chain.
            out = self.reserve[class].swap(freed, Ordering::AcqRel);
        }
        NonNull::new(out).map(|head| Chain { head, len: limit.into(), branched: false })
    }

    /// Takes the freed chain out.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    #[inline(always)]
    unsafe fn take_freed(&self, class: usize) -> *mut Block {
        // SAFETY: the caller's promise.
        let freed = unsafe { get(&self.freed, class) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.freed, class, ptr::null_mut()) };
        // SAFETY: the caller's promise.
        let limit = unsafe { get(&self.limit, class) };
        // SAFETY: the caller's promise; this keeps I2.
        unsafe { set(&self.room, class, limit) };
        freed
    }

    /// Holds fewer blocks of `class` from now on, where the freed chain is short enough for that; the loaded chain comes out.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn narrow(&self, class: usize, to: u8) -> Option<NonNull<Block>> {
        // SAFETY: the caller's promise.
        unsafe { self.set_limit(class, to) };
        // SAFETY: the caller's promise.
        let loaded = unsafe { get(&self.loaded, class) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, ptr::null_mut()) };
        NonNull::new(loaded)
    }

    /// Changes how many blocks the freed chain may hold, where it holds no more.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn set_limit(&self, class: usize, to: u8) {
        // SAFETY: the caller's promise.
        let limit = unsafe { get(&self.limit, class) };
        // SAFETY: the caller's promise.
        let len = limit - unsafe { get(&self.room, class) };
        if len <= to {
            // SAFETY: the caller's promise.
            unsafe { set(&self.limit, class, to) };
            // SAFETY: the caller's promise; this keeps I2.
            unsafe { set(&self.room, class, to - len) };
        }
    }

    /// Counts an exchange with the depot; `true` at every 64th.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn count_exchange(&self) -> bool {
        self.exchanges.with_mut(|count| {
            // SAFETY: the caller's promise.
            let count = unsafe { &mut *count };
            *count = count.wrapping_add(1);
            count.is_multiple_of(64)
        })
    }

    /// Takes everything of `class` out: what is loaded, what was freed, and the reserve.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn empty(&self, class: usize) -> [Option<NonNull<Block>>; 3] {
        // SAFETY: the caller's promise.
        unsafe { set(&self.limit, class, 0) };
        // SAFETY: the caller's promise; the slot is as one never used (I2).
        let freed = unsafe { self.take_freed(class) };
        // SAFETY: the caller's promise.
        let loaded = unsafe { get(&self.loaded, class) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.loaded, class, ptr::null_mut()) };
        [NonNull::new(loaded), NonNull::new(freed), self.take_reserve(class).map(|chain| chain.head)]
    }
}

/// # Safety
/// `cells` is the caller's to read; `class` is within it.
#[inline(always)]
unsafe fn get<T: Copy>(cells: &[UnsafeCell<T>; CLASSES], class: usize) -> T {
    // SAFETY: the caller's promise.
    let cell = unsafe { cells.get_unchecked(class) };
    cell.with(|value| {
        // SAFETY: the caller's promise.
        unsafe { *value }
    })
}

/// # Safety
/// `cells` is the caller's to write; `class` is within it.
#[inline(always)]
unsafe fn set<T>(cells: &[UnsafeCell<T>; CLASSES], class: usize, to: T) {
    // SAFETY: the caller's promise.
    let cell = unsafe { cells.get_unchecked(class) };
    cell.with_mut(|value| {
        // SAFETY: the caller's promise.
        unsafe { *value = to }
    });
}
