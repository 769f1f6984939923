//! [`Depot`]: where the slots' magazines get chains of a class and leave them, and the class's slabs.
//!
//! ```text
//!   magazines ══ full chains ══▶ stacks ●━━ ●━━ ●━━   by the slot's number, the newest first
//!             ◀═════════════════   │ too many
//!             ◀═ blocks ══ slabs ◀─┘ block by block, each to the slab that it was cut from
//!                           │ ▲
//!          unused, to `pages` ▼ │ a new run
//! ```
//!
//! - **I1** `partial` lists exactly the class's slabs that have a block to give. A slab that is unused leaves the depot at once.
//! - **I2** Every chain of `stacks` has exactly a batch of blocks; `chains` of them there are.
//! - **I3** `blocks_out` is the number of blocks that are out of their slabs; those of `stacks` among them.
//!
//! Cost: one lock for a chain.

use core::ptr::{self, NonNull};

use super::{
    chain::{Block, Chain, Stack},
    class::batch,
    region::Region,
    slab::Slab,
};

/// Threads give to and take from one of so many stacks, by their numbers: they would mix their blocks in the lines of the cache if they
/// took each other's chains without need.
const STACKS: usize = 8;

/// The centre of one class, to be kept behind a lock.
pub(crate) struct Depot<const BYTES: usize> {
    stacks: [Stack; STACKS],
    chains: u32,
    partial: *mut Slab,
    /// A bit for each number, modulo 64, that took a chain since the last 32 were given.
    takers: u64,
    given: u32,
    /// Chains that have lain in the stack since [`idle_chain`](Self::idle_chain) was through.
    idle: u32,
    pub(crate) slabs: usize,
    pub(crate) blocks_out: usize,
}

// SAFETY: chains and slabs are the depot's, and nobody else's.
unsafe impl<const BYTES: usize> Send for Depot<BYTES> {}

impl<const BYTES: usize> Depot<BYTES> {
    pub(crate) const fn new() -> Self {
        Self {
            stacks: [Stack::EMPTY; STACKS],
            chains: 0,
            partial: ptr::null_mut(),
            takers: 0,
            given: 0,
            idle: 0,
            slabs: 0,
            blocks_out: 0,
        }
    }

    /// Chains in the stacks.
    pub(crate) fn chains(&self) -> u32 {
        self.chains
    }

    /// A chain of up to a batch for slot `number`, from the stacks or the slabs. `None`: there is nothing, a new slab is needed.
    pub(crate) fn take(&mut self, class: usize, number: usize) -> Option<Chain> {
        let batch = u32::from(batch(class));
        self.takers |= 1 << (number % 64);
        if let Some(chain) = self.pop_chain(class, number) {
            return Some(chain);
        }
        let mut chain = None;
        while let Some(mut at) = NonNull::new(self.partial) {
            let len = chain.as_ref().map_or(0, |chain: &Chain| chain.len);
            if len == batch {
                break;
            }
            // SAFETY: a slab lies in a region.
            let run = unsafe { Region::<BYTES>::of(at) }.page(Region::<BYTES>::first_page(at));
            // SAFETY: under the lock of the class.
            let slab = unsafe { at.as_mut() };
            // SAFETY: by I1 it has a block; the chain is of its class.
            let longer = unsafe { slab.give(run, batch - len, chain) };
            self.blocks_out += (longer.len - len) as usize;
            chain = Some(longer);
            if slab.is_exhausted() {
                self.unlist(at);
            }
        }
        chain
    }

    /// Notes that slot `number` gives a chain. `true`: it seems to give to others what it does not take itself.
    pub(crate) fn given_by(&mut self, number: usize) -> bool {
        self.given = self.given.wrapping_add(1);
        if self.given.is_multiple_of(32) {
            self.takers = 0;
        }
        self.takers != 0 && self.takers & (1 << (number % 64)) == 0
    }

    /// Keeps a full chain of slot `number`. `false`: there are `limit` chains, give the blocks [back](Self::take_back).
    ///
    /// # Safety
    /// The chain has a batch of blocks of the class, and is the caller's if the answer is `false`.
    pub(crate) unsafe fn keep(&mut self, chain: &Chain, number: usize, limit: u32) -> bool {
        if self.chains >= limit {
            return false;
        }
        // SAFETY: the caller gives the chain up.
        unsafe { self.stacks[number % STACKS].push(chain) };
        self.chains += 1;
        true
    }

    /// Gives the blocks of the chain that `head` begins back to their slabs. Unused slabs come out, linked by `next`.
    ///
    /// # Safety
    /// The chain is of the class, and the caller's.
    pub(crate) unsafe fn take_back(&mut self, head: NonNull<Block>) -> *mut Slab {
        let mut unused = ptr::null_mut();
        let mut at = head.as_ptr();
        while let Some(block) = NonNull::new(at) {
            self.blocks_out -= 1;
            // SAFETY: linked, for it is in a chain.
            at = unsafe { Block::next(block) };
            // SAFETY: a block lies in a region.
            let region = unsafe { Region::<BYTES>::of(block) };
            // SAFETY: the block is free and ours.
            let mut of = unsafe { region.slab_of(block) };
            // SAFETY: under the lock of the class.
            let slab = unsafe { of.as_mut() };
            let was_exhausted = slab.is_exhausted();
            // SAFETY: a block of this slab, and ours.
            unsafe { slab.take_back(block) };
            if slab.is_unused() {
                if !was_exhausted {
                    self.unlist(of);
                }
                self.slabs -= 1;
                // SAFETY: under the lock of the class.
                unsafe { of.as_mut() }.next = unused;
                unused = of.as_ptr();
            } else if was_exhausted {
                self.list(of);
            }
        }
        unused
    }

    /// The newest chain of the stack that slot `number` gives to, or of another.
    pub(crate) fn pop_chain(&mut self, class: usize, number: usize) -> Option<Chain> {
        if self.chains == 0 {
            return None;
        }
        let chain = (0..STACKS).find_map(|other| self.stacks[(number + other) % STACKS].pop(batch(class).into()))?; // I2
        self.chains -= 1;
        self.idle = self.idle.min(self.chains);
        Some(chain)
    }

    /// A chain that has lain here since all of those were taken. `None`: no more; from now on it counts anew.
    pub(crate) fn idle_chain(&mut self, class: usize) -> Option<Chain> {
        if self.idle == 0 {
            self.idle = self.chains;
            return None;
        }
        let idle = self.idle - 1;
        let chain = self.pop_chain(class, 0);
        self.idle = idle;
        chain
    }

    /// Adds a new slab.
    ///
    /// # Safety
    /// A slab of the class, in no depot.
    pub(crate) unsafe fn add(&mut self, slab: NonNull<Slab>) {
        self.slabs += 1;
        self.list(slab);
    }

    fn list(&mut self, mut slab: NonNull<Slab>) {
        if let Some(mut next) = NonNull::new(self.partial) {
            // SAFETY: by I1 a slab; under the lock of the class.
            unsafe { next.as_mut() }.previous = slab.as_ptr();
        }
        // SAFETY: under the lock of the class.
        let this = unsafe { slab.as_mut() };
        this.previous = ptr::null_mut();
        this.next = self.partial;
        self.partial = slab.as_ptr();
    }

    fn unlist(&mut self, slab: NonNull<Slab>) {
        // SAFETY: under the lock of the class.
        let this = unsafe { slab.as_ref() };
        let (next, previous) = (this.next, this.previous);
        match NonNull::new(previous) {
            // SAFETY: by I1 a slab, not this one; under the lock of the class.
            Some(mut previous) => unsafe { previous.as_mut() }.next = next,
            None => self.partial = next,
        }
        if let Some(mut next) = NonNull::new(next) {
            // SAFETY: by I1 a slab, not this one; under the lock of the class.
            unsafe { next.as_mut() }.previous = previous;
        }
    }
}
