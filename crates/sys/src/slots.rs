//! [`ThreadSlots`]: slot numbers for the threads of a program with std.
//!
//! ```text
//!   thread-local   NUMBER   0 unclaimed ──claim──▶ n ──its destructor──▶ 0 for good
//!                                           │            │
//!   process        HELD     … 0 1 1 0 1 …   set bit n    clear bit n: the next claim takes the lowest (numbers.rs)
//! ```
//!
//! The number is a thread-local without a destructor, so reading it is one instruction, from the first moment of a thread to the last.
//! Giving it back is the work of another thread-local, which a thread that claims a number registers.
//!
//! - **I1** A bit of `HELD` is 1 exactly while one thread has that number, or one caller of `adopt`.
//! - **I2** Who takes a number sees what was done by who gave it back (I2 of `Numbers`).
//! - **I3** The number is written before the destructor is registered, since registering may allocate, and come back here.
//!
//! Cost: `enter` is a load. A number is a bit; there are 32 for each processor, 256 at most.

use core::{cell::Cell, hint};
use std::{thread, thread_local};

use terrace_sync::{
    Slots,
    atomic::{AtomicUsize, Ordering},
};

use crate::{numbers::Numbers, prim};

/// Threads that have a number of their own, for each processor. More than one, since the fast path of an allocator
/// rests on a slot that nobody else has: threads beyond this share one behind a lock. On two processors 32 threads that replace
/// small blocks take 17 ns an operation with 32 numbers a processor, and 45 with eight, where half of them share.
const PER_PROCESSOR: usize = 32;

terrace_sync::statics! {
    static HELD: Numbers = Numbers::new();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
}

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
            HELD.give_back(number);
        }
    }
}

/// A number for each running thread, given back when it ends.
///
/// There are 32 for each processor that the program may use, 256 at most; threads beyond that have none.
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
        let Some(number) = HELD.take_lowest(self.count()) else { return false };
        NUMBER.set(number);
        // I3. Where the destructor has run already, `MAY_CLAIM` is false, so this cannot fail.
        let _ = GUARD.try_with(|_| ());
        true
    }

    fn adopt(&self, number: usize) -> bool {
        number <= self.count() && HELD.take(number)
    }

    unsafe fn release(&self, number: usize) {
        HELD.give_back(number);
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

/// So many numbers a processor; asked of the system once, since it may answer otherwise later.
#[cold]
fn settle_count() -> usize {
    let count = (prim::processors() * PER_PROCESSOR).min(Numbers::MOST);
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
