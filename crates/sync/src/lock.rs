//! [`Lock`]: a spin lock that never spins for long.
//!
//! ```text
//!   free ──try_lock, Acquire──▶ held ──drop, Release──▶ free
//!              ▲ refused: pause(0), pause(1), …  the caller's backoff, which ends in a yield
//! ```
//!
//! How to wait is the caller's knowledge: a program yields to the thread that holds the lock, a kernel
//! spins with interrupts off. So [`Lock::lock`] takes the pause as an argument and the lock stays free of any system.
//!
//! - **I1** The value is reached through a [`Held`] only, and one `Held` exists exactly while `held` is `true`.
//!
//! Cost: one exchange to lock, one store to unlock; a byte of memory.

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use crate::{
    atomic::{AtomicBool, Ordering},
    cell::UnsafeCell,
};

/// A value behind a spin lock.
///
/// ```
/// use terrace_sync::Lock;
///
/// let count = Lock::new(0);
/// *count.lock(|_| std::thread::yield_now()) += 1;
/// assert_eq!(*count.lock(|_| std::thread::yield_now()), 1);
/// ```
#[derive(Debug)]
pub struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: by I1 one thread at a time reaches the value, and the Release of an unlock happens before the Acquire of
// the lock after it; so sharing the lock only moves the value from thread to thread.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: whoever has the lock by value has the value.
unsafe impl<T: Send> Send for Lock<T> {}

macro_rules! constructor {
    ($($const:ident)?) => {
        /// An unlocked `value`.
        pub $($const)? fn new(value: T) -> Self {
            Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
        }
    };
}

impl<T> Lock<T> {
    #[cfg(not(loom))]
    constructor!(const);
    #[cfg(loom)]
    constructor!();

    /// Locks, calling `pause` with the number of failed tries so far, from 0, between one try and the next.
    #[inline]
    pub fn lock(&self, mut pause: impl FnMut(u32)) -> Held<'_, T> {
        let mut tries = 0;
        loop {
            if let Some(held) = self.try_lock() {
                return held;
            }
            // Relaxed: a hint; waiting on a load leaves the line to whoever holds the lock.
            while {
                pause(tries);
                tries = tries.saturating_add(1);
                self.held.load(Ordering::Relaxed)
            } {}
        }
    }

    /// Locks, unless somebody has.
    #[inline]
    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        // Acquire: pairs with the Release of `unlock`.
        if self.held.swap(true, Ordering::Acquire) { None } else { Some(Held { lock: self, value: PhantomData }) }
    }

    /// Locks and leaves it so, for a pair of fork handlers: the one before the fork locks, those after unlock.
    pub fn lock_and_leave(&self, pause: impl FnMut(u32)) {
        core::mem::forget(self.lock(pause));
    }

    /// Unlocks what [`lock_and_leave`](Self::lock_and_leave) locked.
    ///
    /// # Safety
    /// The lock is held by such a call, of this thread or of the one whose fork this process is.
    pub unsafe fn unlock(&self) {
        // Release: pairs with the Acquire of `try_lock`.
        self.held.store(false, Ordering::Release);
    }
}

/// The right to the value, until it is dropped.
///
/// Two threads with one right would be two threads at the value:
///
/// ```compile_fail,E0277
/// use std::cell::Cell;
/// use terrace_sync::Lock;
/// let lock = Lock::new(Cell::new(0));
/// let held = lock.try_lock().unwrap();
/// std::thread::scope(|threads| {
///     threads.spawn(|| held.set(1));
///     held.set(2);
/// });
/// ```
#[derive(Debug)]
pub struct Held<'a, T> {
    lock: &'a Lock<T>,
    /// Shared between threads it shares the value, which a `Lock<T>` alone may not: so it is `Sync` only where `T` is.
    value: PhantomData<&'a mut T>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by I1 nobody else reaches the value while `self` lives.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by I1 nobody else reaches the value while `self` lives.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: held by `self`, which ends.
        unsafe { self.lock.unlock() };
    }
}
