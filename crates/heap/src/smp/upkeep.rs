//! Upkeep: giving back what is idle, telling what there is, and standing still for a fork.

use core::ptr::NonNull;

use terrace_core::Allocator;
use terrace_sync::{Slots, atomic::Ordering};

use super::{
    ClassStats, KEEP, PURGE_MILLIS, SmpAllocator,
    chain::Block,
    class::{self, CLASSES, PAGE, size},
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
        self.empty_depot();
        self.empty_runs();
        self.purge_to(0);
    }

    /// Gives back what has lain idle since the call before: chains of the depot, those that threads have in reserve, runs at
    /// hand, and free pages. `false`: there was nothing; until something is freed, a further call finds nothing either.
    ///
    /// For a timer or a thread, so that a program that stands still shrinks too: what is freed goes back at the second call. Without
    /// one this is done now and then by calls that free, where the slots have a clock.
    #[track_caller]
    pub fn purge_idle(&self) -> bool {
        let mut found = false;
        self.idle.store(false, Ordering::Relaxed);
        if let Some(table) = NonNull::new(self.table.load(Ordering::Acquire)) {
            self.empty_idle_slots(table);
            found |= self.take_reserves(table);
        }
        for class in 0..CLASSES {
            loop {
                let chain = self.depot(class).idle_chain(class);
                let Some(chain) = chain else { break };
                found = true;
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, chain.head, KEEP) };
            }
            found |= self.depot(class).chains() > 0;
        }
        self.empty_runs();
        let (dirty, idle) = {
            let state = self.state();
            (state.dirty, state.idle_pages())
        };
        if dirty > 0 {
            self.purge_to(dirty - idle);
        }
        // What stays was there now, so it is idle next time. Idle pages that the backing did not take are no reason for a further call.
        let left = self.state().note_idle_pages();
        found || idle < dirty || left < dirty
    }

    /// Whether there were more than 4 MiB of free pages since [`purge_idle`](Self::purge_idle) was called: worth a timer or a thread that calls it, until
    /// it answers `false`.
    #[inline]
    pub fn has_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed) // A hint.
    }

    pub(super) fn note_idle(&self) {
        if !self.has_idle() {
            self.idle.store(true, Ordering::Relaxed);
        }
    }

    /// Purges where that was not done for a while.
    #[track_caller]
    pub(super) fn purge_when_due(&self) {
        let now = self.slots.millis() as usize;
        let last = self.purged.load(Ordering::Relaxed);
        // Relaxed: who wins does the work; nothing is published.
        if now.wrapping_sub(last) >= PURGE_MILLIS
            && self.purged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.purge_idle();
        }
    }

    /// Gives back what threads have in reserve; whether there was something.
    #[track_caller]
    fn take_reserves(&self, table: NonNull<Slot>) -> bool {
        let mut found = false;
        for number in 1..=self.slots.count() + 1 {
            // SAFETY: by I2 the table has that slot.
            let slot = unsafe { table.add(number) };
            // SAFETY: by I2 a slot.
            let slot = unsafe { slot.as_ref() };
            for class in 0..CLASSES {
                let Some(chain) = slot.take_reserve(class) else { continue };
                found = true;
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, chain.head, KEEP) };
            }
        }
        found
    }

    /// Gives the depot's chains back to their slabs.
    #[track_caller]
    fn empty_depot(&self) {
        for class in 0..CLASSES {
            loop {
                let chain = self.depot(class).pop_chain(class, 0);
                let Some(chain) = chain else { break };
                // SAFETY: a chain of the class, and ours.
                unsafe { self.take_back(class, chain.head, KEEP) };
            }
        }
    }

    /// Gives the depot's chains and the runs at hand back to the pages, for a run that is wanted. `true`: there may be one now.
    #[track_caller]
    pub(super) fn reclaim(&self, pages: usize) -> bool {
        let before = self.state().free_pages();
        self.empty_depot();
        self.empty_runs();
        self.state().free_pages() >= before + pages
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
    pub(super) unsafe fn take_back_all(&self, class: usize, chains: [Option<NonNull<Block>>; 3]) {
        for chain in chains.into_iter().flatten() {
            // SAFETY: the caller's promise.
            unsafe { self.take_back(class, chain, KEEP) };
        }
    }

    /// What is known of class `number`, from 0 on; `None` behind the last.
    pub fn class_stats(&self, number: usize) -> Option<ClassStats> {
        if number >= CLASSES {
            return None;
        }
        let depot = self.depot(number);
        let (slabs, blocks_out) = (depot.slabs, depot.blocks_out);
        let blocks_in_depot = depot.chains() as usize * usize::from(class::batch(number));
        Some(ClassStats { size: size(number), slabs, blocks_out, blocks_in_depot })
    }

    /// Bytes of live medium blocks, which are pages of the regions. While other threads work, what it is about.
    pub fn medium_bytes(&self) -> usize {
        let slabs: usize = (0..CLASSES).map(|class| self.depot(class).slabs * class::slab_pages(class)).sum();
        // Relaxed: the runs are not followed.
        let at_hand: usize = self.runs.iter().map(|run| run.load(Ordering::Relaxed) % PAGE).sum();
        let table = if self.table.load(Ordering::Relaxed).is_null() { None } else { self.table_pages() };
        self.state().used.saturating_sub(slabs + at_hand + table.unwrap_or(0)) * PAGE
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
