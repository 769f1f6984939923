//! Threads that pass blocks round: every thread puts blocks into everybody's basket, and frees those in its own.

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{Mutex, PoisonError},
};

use terrace_core::{Alignment, Allocator};

const ROUNDS: usize = 60;

/// A painted block on its way between threads.
struct Parcel {
    memory: NonNull<[u8]>,
    alignment: Alignment,
    color: u8,
}

// SAFETY: a parcel is the only way to its block, which by clause 6 may end in another thread.
unsafe impl Send for Parcel {}

impl Parcel {
    fn new(allocator: &dyn Allocator, n: usize) -> Option<Self> {
        let (len, alignment) = (NonZeroUsize::new(1 + n * 37 % 200)?, Alignment::from_log2(n as u32 % 7)?);
        let block = allocator.alloc(len, alignment).ok()?;
        let mut parcel =
            Self { memory: NonNull::slice_from_raw_parts(block, len.get()), alignment, color: (n % 251) as u8 };
        parcel.paint();
        Some(parcel)
    }

    fn paint(&mut self) {
        // SAFETY: live, reached through the parcel alone.
        unsafe { self.memory.cast::<u8>().write_bytes(self.color, self.memory.len()) };
    }

    /// Changes the length as far as the allocator grants it.
    fn resize(&mut self, allocator: &dyn Allocator, len: usize) {
        let Some(len) = NonZeroUsize::new(len) else { return };
        // SAFETY: live, of this allocator.
        if let Some(block) = unsafe { allocator.remap(self.memory, self.alignment, len) } {
            let kept = self.memory.len().min(len.get());
            self.memory = NonNull::slice_from_raw_parts(block, kept);
            self.check();
            self.memory = NonNull::slice_from_raw_parts(block, len.get());
            self.paint();
        }
    }

    /// Nobody else wrote here.
    fn check(&self) {
        // SAFETY: live and painted, reached through the parcel alone.
        let bytes = unsafe { self.memory.as_ref() };
        assert!(bytes.iter().all(|&byte| byte == self.color), "clause 6: another thread wrote to a live block");
    }

    fn free(self, allocator: &dyn Allocator) {
        self.check();
        // SAFETY: live, of this allocator, and gone with the parcel.
        unsafe { allocator.free(self.memory, self.alignment) };
    }
}

/// Blocks for one thread to free.
#[derive(Default)]
pub(super) struct Basket(Mutex<Vec<Parcel>>);

impl Basket {
    fn put(&self, parcel: Parcel) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(parcel);
    }

    fn take_all(&self) -> Vec<Parcel> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn free_all(&self, allocator: &dyn Allocator) {
        self.take_all().into_iter().for_each(|parcel| parcel.free(allocator));
    }
}

pub(super) fn fill_basket(allocator: &dyn Allocator, basket: &Basket, seed: usize) {
    (0..ROUNDS).filter_map(|n| Parcel::new(allocator, n + seed)).for_each(|parcel| basket.put(parcel));
}

/// One thread's part.
pub(super) fn race(allocator: &(dyn Allocator + Sync), baskets: &[Basket], seed: usize) {
    for round in 0..ROUNDS {
        if let Some(mut parcel) = Parcel::new(allocator, round * baskets.len() + seed) {
            parcel.resize(allocator, 1 + round * 11 % 300);
            baskets[(seed + round) % baskets.len()].put(parcel);
        }
        if round % 8 == seed {
            baskets[seed].free_all(allocator);
        }
    }
}
