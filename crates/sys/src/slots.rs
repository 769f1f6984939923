//! [`ThreadSlots`]: slot numbers for the threads of a program with std.
//!
//! ```text
//!   thread-local   NUMBER   0 unclaimed ──claim──▶ n ──its destructor──▶ 0 for good
//!                                           │            │
//!   process        HELD     … 0 1 1 0 1 …   set bit n    clear bit n: the next claim takes the lowest
//! ```
//!
//! The number is a thread-local without a destructor, so reading it is one instruction, from the first moment of a thread to the last.
//! Giving it back is the work of another thread-local, which a thread that claims a number registers.
//!
//! - **I1** A bit of `HELD` is 1 exactly while one thread has that number, or one caller of `adopt`.
//! - **I2** Who sets a bit (Acquire) sees what was done by who cleared it (Release).
//! - **I3** The number is written before the destructor is registered, since registering may allocate, and come back here.
//!
//! Cost: `enter` is a load. A number is a bit; there are eight for each processor, 256 at most.

use core::{cell::Cell, hint};
use std::{thread, thread_local};

use terrace_sync::{
    Slots,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::prim;

/// Numbers are from 1 to 256: bit `n - 1`.
const WORDS: usize = 4;
/// Threads that have a number of their own, for each processor. More than one, since the fast path of an allocator
/// rests on a slot that nobody else has: threads beyond this share one behind a lock.
const PER_PROCESSOR: usize = 8;

static HELD: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What a thread's number says.
const ENDED: usize = 0;

thread_local! {
    /// The thread's number, or 0.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    /// Whether the thread may still claim one.
    static MAY_CLAIM: Cell<bool> = const { Cell::new(true) };
    /// Gives the number back when the thread ends.
    static GUARD: Guard = const { Guard };
}

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        // What the thread still allocates, in destructors after this one, it does without a number.
        MAY_CLAIM.set(false);
        let number = NUMBER.replace(ENDED);
        if number != 0 {
            clear(number);
        }
    }
}

/// A number for each running thread, given back when it ends.
///
/// There are eight for each processor that the program may use, 256 at most; threads beyond that have none.
///
/// ```
/// use terrace_sync::Slots;
/// use terrace_sys::ThreadSlots;
///
/// assert!(ThreadSlots.claim());
/// let number = ThreadSlots.enter();
/// std::thread::spawn(move || {
///     assert!(ThreadSlots.claim());
///     assert_ne!(ThreadSlots.enter(), number);
/// });
/// assert!(!ThreadSlots.adopt(number), "this thread has it");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSlots;

impl ThreadSlots {
    /// Gives back the numbers of all other threads, in the child of a fork, where they do not exist.
    ///
    /// Whatever such a thread was doing to its slot at that moment stays half done: who adopts the slot has to be
    /// able to live with that.
    ///
    /// # Safety
    /// The calling thread is the only one of the process.
    pub unsafe fn forget_other_threads(&self) {
        let own = NUMBER.get();
        for number in (1..=WORDS * 64).filter(|&number| number != own) {
            clear(number);
        }
    }
}

// SAFETY: by I1 a number is one thread's or one adopter's at a time, with the order of I2; a thread does one thing at
// a time, so `leave` has nothing to do. `count` is settled by the first call.
unsafe impl Slots for ThreadSlots {
    fn count(&self) -> usize {
        // Relaxed: whoever settles it settles it for all, and publishes nothing with it.
        match COUNT.load(Ordering::Relaxed) {
            0 => settle_count(),
            count => count,
        }
    }

    #[inline(always)]
    fn enter(&self) -> usize {
        NUMBER.get()
    }

    #[cold]
    fn claim(&self) -> bool {
        if NUMBER.get() != 0 {
            return true;
        }
        if !MAY_CLAIM.get() {
            return false;
        }
        let Some(number) = set_lowest(self.count()) else { return false };
        NUMBER.set(number);
        // I3. Where the destructor has run already, `MAY_CLAIM` is false, so this cannot fail.
        let _ = GUARD.try_with(|_| ());
        true
    }

    fn adopt(&self, number: usize) -> bool {
        let Some((word, bit)) = place(number) else { return false };
        number <= self.count() && word.fetch_or(bit, Ordering::Acquire) & bit == 0 // Acquire: I2
    }

    unsafe fn release(&self, number: usize) {
        clear(number);
    }

    fn pause(&self, tries: u32) {
        if tries < 4 {
            (0..1 << (tries + 2)).for_each(|_| hint::spin_loop());
        } else {
            thread::yield_now();
        }
    }

    fn millis(&self) -> u64 {
        prim::coarse_millis()
    }
}

fn place(number: usize) -> Option<(&'static AtomicU64, u64)> {
    let index = number.checked_sub(1)?;
    Some((HELD.get(index / 64)?, 1 << (index % 64)))
}

/// Takes the lowest number of `count` that nobody has.
fn set_lowest(count: usize) -> Option<usize> {
    for (index, word) in HELD.iter().enumerate() {
        let fitting = count.saturating_sub(index * 64).min(64);
        let mask = if fitting == 64 { u64::MAX } else { (1 << fitting) - 1 };
        let mut held = word.load(Ordering::Relaxed);
        while !held & mask != 0 {
            let bit = (!held & mask).trailing_zeros();
            // Acquire: I2.
            match word.compare_exchange_weak(held, held | 1 << bit, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(index * 64 + bit as usize + 1),
                Err(now) => held = now,
            }
        }
    }
    None
}

fn clear(number: usize) {
    if let Some((word, bit)) = place(number) {
        word.fetch_and(!bit, Ordering::Release); // Release: I2.
    }
}

/// Eight numbers a processor; asked of the system once, since it may answer otherwise later.
#[cold]
fn settle_count() -> usize {
    let count = (prim::processors() * PER_PROCESSOR).min(WORDS * 64);
    match COUNT.compare_exchange(0, count, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => count,
        Err(settled) => settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, vec::Vec};

    #[test]
    fn threads_that_run_at_once_have_different_numbers_and_give_them_back() {
        let (tell, told) = mpsc::channel();
        for round in 0..3 {
            let threads: Vec<_> = (0..ThreadSlots.count() / 2)
                .map(|_| {
                    let tell = tell.clone();
                    let (go, wait) = mpsc::channel::<()>();
                    let thread = thread::spawn(move || {
                        let claimed = ThreadSlots.claim();
                        tell.send(ThreadSlots.enter()).unwrap();
                        let _ = wait.recv();
                        claimed
                    });
                    (thread, go)
                })
                .collect();
            let mut numbers: Vec<_> = threads.iter().map(|_| told.recv().unwrap()).collect();
            assert!(threads.into_iter().all(|(thread, go)| {
                drop(go);
                thread.join().unwrap()
            }));
            numbers.sort_unstable();
            let len = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), len, "round {round}: {numbers:?}");
            assert!(numbers[0] > 0 && numbers[len - 1] <= ThreadSlots.count());
        }
    }

    #[test]
    fn a_number_that_somebody_has_is_not_adopted() {
        thread::spawn(|| {
            assert!(ThreadSlots.claim());
            assert!(!ThreadSlots.adopt(ThreadSlots.enter()));
        })
        .join()
        .unwrap();
        assert!(!ThreadSlots.adopt(0));
        assert!(!ThreadSlots.adopt(ThreadSlots.count() + 1));
    }
}
