//! [`MallocSlots`]: slot numbers for the threads of a program that did not ask for us.
//!
//! ```text
//!   place (arch.rs)    number 0, state 0 ──claim──▶ number n ──keep──▶ its slot ──the thread ends──▶ number 0, ENDED
//!                                            │                                        │
//!   terrace_sys        0 1 1 0 1 …        adopt(n)                               release(n)
//! ```
//!
//! `terrace_sys::ThreadSlots` finds the thread's number through std's thread-locals, which in a shared library may
//! allocate. Here the number lies where no call is needed, and a pthread key tells of the thread's end; who has which
//! number is still written in `ThreadSlots`.
//!
//! - **I1** A thread's number is one that this thread adopted, and has not released.
//! - **I2** The number is written before the key is set, since setting it may allocate, and come back here.
//! - **I3** What a thread keeps is of the one value that keeps, and `NOTHING_KEPT` while it has no number.
//!
//! Cost: `kept` is two instructions. A thread that finds every number taken asks again at every 64th slow path only.

use core::ptr::NonNull;

use terrace_sync::Slots;
use terrace_sys::ThreadSlots;

use crate::{arch, os};

/// In a place's `state`: the thread has given its number back, and claims no other.
const ENDED: u32 = u32::MAX;
/// Slow paths that a thread without a number goes before it asks again.
const PATIENCE: u32 = 64;

/// A number for each thread that allocates, given back when it ends; where it `KEEPS`, the way to its slot too.
pub(crate) struct MallocSlots<const KEEPS: bool>(());

impl MallocSlots<false> {
    /// For any number of heaps.
    #[cfg(test)]
    pub(crate) const SHARED: Self = Self(());
}

impl MallocSlots<true> {
    /// For the one heap of the process.
    ///
    /// # Safety
    /// There is no other value of this type.
    pub(crate) const unsafe fn sole() -> Self {
        Self(())
    }
}

// SAFETY: by I1 a number is one thread's at a time, or one adopter's, with the order that `ThreadSlots` promises; a
// thread does one thing at a time, so `leave` has nothing to do. `count` is settled by the first call. What is kept is the
// only value's, by I3.
unsafe impl<const KEEPS: bool> Slots for MallocSlots<KEEPS> {
    fn count(&self) -> usize {
        let _errno = os::KeptErrno::keep();
        ThreadSlots.count()
    }

    #[inline(always)]
    fn enter(&self) -> usize {
        arch::number()
    }

    #[inline(always)]
    fn kept(&self) -> Option<NonNull<u8>> {
        KEEPS.then(arch::kept)
    }

    fn keep(&self, address: NonNull<u8>) {
        if KEEPS {
            // SAFETY: the thread's own place (A1 of arch.rs).
            unsafe { (*arch::place()).kept = address };
        }
    }

    #[cold]
    fn claim(&self) -> bool {
        if arch::number() != 0 {
            return true;
        }
        let place = arch::place();
        // SAFETY: the thread's own place (A1 of arch.rs).
        let state = unsafe { (*place).state };
        if state == ENDED {
            return false;
        }
        // SAFETY: as above.
        unsafe { (*place).state = (state + 1) % PATIENCE };
        if state != 0 {
            return false;
        }
        let Some(number) = (1..=self.count()).find(|&number| ThreadSlots.adopt(number)) else { return false };
        // SAFETY: as above.
        unsafe { (*place).number = number as u32 };
        os::tell_at_thread_end(thread_ends); // I2
        true
    }

    fn adopt(&self, number: usize) -> bool {
        ThreadSlots.adopt(number)
    }

    unsafe fn release(&self, number: usize) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { ThreadSlots.release(number) }
    }

    fn pause(&self, tries: u32) {
        ThreadSlots.pause(tries);
    }

    fn millis(&self) -> u64 {
        let _errno = os::KeptErrno::keep();
        ThreadSlots.millis()
    }
}

/// What the thread still allocates and frees after this, in destructors of others, it does without a number.
extern "C" fn thread_ends(_: *mut libc::c_void) {
    let place = arch::place();
    let number = arch::number();
    // SAFETY: the thread's own place (A1 of arch.rs).
    unsafe { (*place).state = ENDED };
    // SAFETY: as above.
    unsafe { (*place).kept = arch::nothing() };
    // SAFETY: as above.
    unsafe { (*place).number = 0 };
    if number != 0 {
        // SAFETY: by I1 adopted by this thread.
        unsafe { ThreadSlots.release(number) };
    }
}

/// In the child of a fork gives back the numbers of the threads that are not there, each after `forget` was told of it.
///
/// # Safety
/// This is the child of a fork, which has no other thread.
pub(crate) unsafe fn forget_others(forget: impl Fn(usize)) {
    for number in (1..=ThreadSlots.count()).filter(|&number| number != arch::number()) {
        if !ThreadSlots.adopt(number) {
            forget(number);
        }
        // SAFETY: adopted above, or by a thread that is not there.
        unsafe { ThreadSlots.release(number) };
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::mpsc, thread, vec::Vec};

    use super::*;

    const SLOTS: MallocSlots<false> = MallocSlots::SHARED;

    #[test]
    fn a_number_goes_to_another_thread_when_its_own_has_ended() {
        let mut seen = HashSet::new();
        for _ in 0..ThreadSlots.count() * 4 {
            let number = thread::spawn(|| {
                assert_eq!(SLOTS.enter(), 0, "a new thread has none");
                assert!(SLOTS.claim() && SLOTS.claim());
                SLOTS.enter()
            });
            seen.insert(number.join().unwrap());
        }
        assert!(!seen.contains(&0) && seen.iter().all(|&number| number <= SLOTS.count()), "{seen:?}");
    }

    #[test]
    fn a_forked_child_has_every_number_but_its_own_to_give() {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            SLOTS.claim();
            tell.send(SLOTS.enter()).unwrap();
            thread::park();
        });
        let theirs = told.recv().unwrap();
        SLOTS.claim();
        // SAFETY: the child calls what needs no lock, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the child of a fork.
            unsafe { forget_others(|_| ()) };
            let free = (1..=SLOTS.count()).filter(|&number| SLOTS.adopt(number)).count();
            let all = SLOTS.count() - usize::from(SLOTS.enter() != 0);
            // SAFETY: takes a number only.
            unsafe { libc::_exit(i32::from(free != all)) };
        }
        let mut status = -1;
        // SAFETY: a child of ours, and a place that is writable.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(!SLOTS.adopt(theirs) || theirs == 0, "the parent's thread has its number still");
        thread.thread().unpark();
        thread.join().unwrap();
    }

    #[test]
    fn threads_that_run_at_once_have_different_numbers() {
        let (tell, told) = mpsc::channel();
        let stops: Vec<_> = (0..SLOTS.count() / 2)
            .map(|_| {
                let (tell, (stop, stopped)) = (tell.clone(), mpsc::channel::<()>());
                let thread = thread::spawn(move || {
                    SLOTS.claim();
                    tell.send(SLOTS.enter()).unwrap();
                    let _ = stopped.recv();
                });
                (thread, stop)
            })
            .collect();
        let numbers: HashSet<_> = stops.iter().map(|_| told.recv().unwrap()).filter(|&number| number != 0).collect();
        assert!(numbers.len() + 2 >= stops.len(), "the other test's threads may have some: {numbers:?}");
        for (thread, stop) in stops {
            drop(stop);
            thread.join().unwrap();
        }
    }
}
