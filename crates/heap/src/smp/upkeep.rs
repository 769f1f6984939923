//! Upkeep: giving back what is idle, telling what there is, and standing still for a fork.

use core::ptr::NonNull;

use terrace_core::Allocator;
use terrace_sync::{Slots, atomic::Ordering};

use super::{
    ClassStats, SmpAllocator,
    chain::Chain,
    class::{self, CLASSES, size},
    magazine::Slot,
};

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
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
        self.empty_runs();
        self.purge(0);
    }

    /// Empties the magazines of numbers that nobody has, and the common ones.
    #[track_caller]
    pub(super) fn empty_idle_slots(&self, table: NonNull<Slot>) {
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
    pub(super) unsafe fn take_back_all(&self, class: usize, chains: [Option<Chain>; 2]) {
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

    /// Gives up what lay in the magazines of `number`, which its thread may have been writing when a fork left it behind.
    /// Its blocks are lost to the child; the number can be given to somebody else.
    ///
    /// # Safety
    /// This is the child of a fork, in which no thread uses the number.
    pub unsafe fn forget_slot(&self, number: usize) {
        let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) else { return };
        if (1..=self.slots.count()).contains(&number) {
            // SAFETY: by I2 the table has that slot.
            let slot = unsafe { table.add(number) };
            // SAFETY: by I2 a slot.
            let slot = unsafe { slot.as_ref() };
            for class in 0..CLASSES {
                // SAFETY: nobody else's, by the caller's promise. The chains are not followed: they may end anywhere.
                let _ = unsafe { slot.empty(class) };
            }
        }
    }
}
