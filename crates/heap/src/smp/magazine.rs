//! A slot's magazines: per class two chains of free blocks, used without a lock by whoever has the slot.
//!
//! ```text
//!            alloc ◀─ pop ┐   ┌ push ◀─ free
//!   active  ●─●─●─●─● ◀───┴───┘           0 … batch blocks, `room` more fit
//!   reserve ●─●─●─●─●─●─●─●               batch blocks or none
//!              │ ▲
//!              ▼ │  whole, when active is full and reserve too, or both are empty
//!            depot
//! ```
//!
//! Two chains, so that no chain is ever cut or counted, and a program that frees and allocates around the edge of a batch
//! does not go to the depot each time (Bonwick and Adams, "Magazines and Vmem", 2001).
//!
//! - **I1** A slot is reached by one caller at a time (`Slots`), or under the lock of the common slot.
//! - **I2** `active` holds `limit − room` blocks. `limit` is `batch`, or `narrow` while the depot is full; 0 in a slot never used,
//!   which is all zeroes: no blocks and no room.
//! - **I3** `reserve` is null or a chain of exactly `batch` blocks. It is put there and taken out by exchanges, so that who purges
//!   what is idle can take it from a running thread; who takes it out has it.
//!
//! Cost: `pop` and `push` are a handful of instructions; 21 bytes a class.

use core::ptr::{self, NonNull};

use terrace_sync::{
    atomic::{AtomicPtr, Ordering},
    cell::UnsafeCell,
};

use super::{
    chain::{Block, Chain},
    class::{CLASSES, batch},
};

/// The magazines of one slot. All zeroes is a slot without blocks.
#[repr(C, align(128))] // No two slots share a line, nor the pair of lines that some processors fetch together.
pub(crate) struct Slot {
    active: [UnsafeCell<*mut Block>; CLASSES],
    room: [UnsafeCell<u32>; CLASSES],
    reserve: [AtomicPtr<Block>; CLASSES],
    limit: [UnsafeCell<u8>; CLASSES],
    /// Chains exchanged with the depot.
    exchanges: UnsafeCell<u32>,
}

impl Slot {
    /// A block off the active chain.
    ///
    /// # Safety
    /// The slot is the caller's (I1); `class` is one.
    #[inline(always)]
    pub(crate) unsafe fn pop(&self, class: usize) -> Option<NonNull<Block>> {
        // SAFETY: the caller's promise.
        let block = NonNull::new(unsafe { get(&self.active, class) })?;
        // SAFETY: by I2 a linked block of this slot.
        let next = unsafe { Block::next(block) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, next) };
        // SAFETY: the caller's promise.
        let room = unsafe { get(&self.room, class) };
        // SAFETY: the caller's promise; this keeps I2.
        unsafe { set(&self.room, class, room + 1) };
        Some(block)
    }

    /// Puts a block on the active chain. `false`: there is no room, [`turn`](Self::turn) it first.
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
        let active = unsafe { get(&self.active, class) };
        // SAFETY: the caller gives the block up.
        unsafe { Block::link(block, active) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, block.as_ptr()) };
        // SAFETY: the caller's promise; this keeps I2.
        unsafe { set(&self.room, class, room - 1) };
        true
    }

    /// Makes the reserve the active chain, which is empty. `false`: the reserve is empty too.
    ///
    /// # Safety
    /// The slot is the caller's (I1), its active chain of `class` is empty.
    pub(crate) unsafe fn refill(&self, class: usize) -> bool {
        let Some(reserve) = self.take_reserve(class) else { return false };
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, reserve.head.as_ptr()) };
        // SAFETY: the caller's promise; by I3 this keeps I2.
        unsafe { self.set_limit(class, batch(class), batch(class)) };
        true
    }

    /// Puts a chain from elsewhere in, where the active chain is empty. `false`: it is not, and nothing has changed.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and so is the chain, of `class` and at most a batch, if the answer is `true`.
    pub(crate) unsafe fn put(&self, class: usize, chain: &Chain) -> bool {
        // SAFETY: the caller's promise.
        if !unsafe { get(&self.active, class) }.is_null() {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, chain.head.as_ptr()) };
        // SAFETY: the caller's promise; this keeps I2.
        unsafe { self.set_limit(class, batch(class), chain.len) };
        true
    }

    /// Makes room: the active chain, which is full, becomes the reserve; the former reserve comes out. While the magazine is
    /// [narrow](Self::narrow), the active chain itself comes out.
    ///
    /// # Safety
    /// The slot is the caller's (I1), and has no room for `class`.
    pub(crate) unsafe fn turn(&self, class: usize) -> Option<Chain> {
        // SAFETY: the caller's promise.
        let active = unsafe { get(&self.active, class) };
        // SAFETY: the caller's promise.
        let limit = u32::from(unsafe { get(&self.limit, class) });
        if limit == 0 {
            // SAFETY: the caller's promise; by I2 the slot is used for the first time.
            unsafe { self.set_limit(class, batch(class), 0) };
            return None;
        }
        // SAFETY: the caller's promise; the active chain goes.
        unsafe { self.set_limit(class, limit, 0) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, ptr::null_mut()) };
        if limit < batch(class) {
            return NonNull::new(active).map(|head| Chain { head, len: limit });
        }
        // By I2 the active chain is full, which keeps I3. Acquire and Release: the blocks' links go with the chain.
        let reserve = self.reserve[class].swap(active, Ordering::AcqRel);
        NonNull::new(reserve).map(|head| Chain { head, len: batch(class) })
    }

    /// Holds fewer blocks of `class` from now on, or as many as is usual, where the active chain is short enough for that.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn narrow(&self, class: usize, to: u32) {
        // SAFETY: the caller's promise.
        let limit = u32::from(unsafe { get(&self.limit, class) });
        // SAFETY: the caller's promise.
        let len = limit - unsafe { get(&self.room, class) };
        if len <= to {
            // SAFETY: the caller's promise; this keeps I2.
            unsafe { self.set_limit(class, to, len) };
        }
    }

    /// # Safety
    /// The slot is the caller's (I1); the active chain has `len` blocks, at most `limit`.
    unsafe fn set_limit(&self, class: usize, limit: u32, len: u32) {
        // SAFETY: the caller's promise.
        unsafe { set(&self.limit, class, limit as u8) };
        // SAFETY: the caller's promise.
        unsafe { set(&self.room, class, limit - len) };
    }

    /// Takes the reserve of `class` out; anyone may.
    pub(crate) fn take_reserve(&self, class: usize) -> Option<Chain> {
        // Relaxed: mostly there is none, and nothing is read through it.
        if self.reserve[class].load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Acquire: the blocks' links come with the chain.
        let head = self.reserve[class].swap(ptr::null_mut(), Ordering::Acquire);
        NonNull::new(head).map(|head| Chain { head, len: batch(class) })
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

    /// Takes everything of `class` out: the active chain and the reserve.
    ///
    /// # Safety
    /// The slot is the caller's (I1).
    pub(crate) unsafe fn empty(&self, class: usize) -> [Option<Chain>; 2] {
        // SAFETY: the caller's promise.
        let active = NonNull::new(unsafe { get(&self.active, class) });
        let reserve = self.take_reserve(class);
        // SAFETY: the caller's promise.
        let room = unsafe { get(&self.room, class) };
        // SAFETY: the caller's promise.
        let limit = u32::from(unsafe { get(&self.limit, class) });
        // SAFETY: the caller's promise.
        unsafe { set(&self.active, class, ptr::null_mut()) };
        // SAFETY: the caller's promise; both chains are empty, as in a slot never used (I2).
        unsafe { self.set_limit(class, 0, 0) };
        // In the child of a fork the slot of a thread that is not there may be half written; its chains are not used.
        [active.map(|head| Chain { head, len: limit.wrapping_sub(room) }), reserve]
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
