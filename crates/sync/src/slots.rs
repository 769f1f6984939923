//! [`Slots`]: numbered places of which a caller has one to itself, so that it can keep things there without a lock.
//!
//! ```text
//!   threads      ●   ●       ●  (one without: 0)      CPUs, in a kernel
//!                │   │       │
//!   numbers  0   1   2   3   4  …  count()
//!                    held    free: the next thread gets the lowest
//! ```
//!
//! A number is a place in *every* structure that is built on the same provider: what one thread leaves in slot 3 of an
//! allocator, the next thread with number 3 finds there. So nothing has to be told when a thread ends or an
//! allocator is dropped, in whichever order; no table holds a pointer to either.
//!
//! With std the provider is `terrace_sys::ThreadSlots`. A kernel writes its own, from its CPU numbers.

use core::{hint, ptr::NonNull};

/// How many zero bytes lie at [`NOTHING_KEPT`].
pub const KEPT_BYTES: usize = 2048;

/// Zeroes.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Zeroes([u64; KEPT_BYTES / 8]);

/// What a caller that has kept nothing finds at [`Slots::kept`]: [`KEPT_BYTES`] zero bytes, never written.
pub static NOTHING_KEPT: Zeroes = Zeroes([0; KEPT_BYTES / 8]);

/// Hands out slot numbers.
///
/// # Safety
///
/// Unsafe code keeps unlocked state per number, so:
/// - a number that `enter` or `adopt` gave to one caller is given to no other until that caller's `leave` or `release`
///   of it; what the first did to the slot happens before what the next does;
/// - numbers are from 1 to `count()`; `count()` never changes;
/// - `kept` answers as it says; what is kept through one value of the provider is not seen through another, nor through a
///   reference to it: who has the value is the only one to find what it gave.
///
/// A provider that numbers threads may give the thread its number once and for all, and let `leave` do nothing:
/// a thread does one thing at a time. Callers therefore call nothing between `enter` and `leave` that could
/// come back to them.
pub unsafe trait Slots {
    /// How many numbers there are, at most.
    fn count(&self) -> usize;

    /// The caller's number, which is its own until it [leaves](Self::leave), or 0 where it has none.
    fn enter(&self) -> usize;

    /// Ends what [`enter`](Self::enter) began.
    #[inline(always)]
    fn leave(&self, number: usize) {
        let _ = number;
    }

    /// For a caller whose `enter` answered 0: tries to get it a number for the next time. `false`: there is none.
    fn claim(&self) -> bool {
        false
    }

    /// The address that the caller gave [`keep`](Self::keep) since it has its number, or else that of
    /// [`NOTHING_KEPT`]. `None`: this provider keeps none.
    ///
    /// A provider that serves one structure alone can so save its callers the way to their slots. Its
    /// [`leave`](Self::leave) does nothing: a number is its caller's until the caller ends.
    #[inline(always)]
    fn kept(&self) -> Option<NonNull<u8>> {
        None
    }

    /// Keeps an address for the caller, which has a number, as long as it has it; where there is a place for one.
    fn keep(&self, address: NonNull<u8>) {
        let _ = address;
    }

    /// Takes `number`, where nobody has it, to look after what was left in that slot.
    fn adopt(&self, number: usize) -> bool {
        let _ = number;
        false
    }

    /// Gives back what [`adopt`](Self::adopt) took.
    ///
    /// # Safety
    /// The caller has `number` from `adopt`.
    unsafe fn release(&self, number: usize) {
        let _ = number;
    }

    /// Waits a moment for another caller, after `tries` failed tries: spins a few times, then yields where it can.
    fn pause(&self, tries: u32) {
        for _ in 0..1 << tries.min(6) {
            hint::spin_loop();
        }
    }

    /// Milliseconds from some moment on, for giving back what has lain idle; a clock that stands still is allowed.
    fn millis(&self) -> u64 {
        0
    }
}

// SAFETY: the numbers are those of the provider behind the reference, which keeps the promises; there is no way to what it
// keeps, for there may be other references.
unsafe impl<S: Slots + ?Sized> Slots for &S {
    #[inline(always)]
    fn count(&self) -> usize {
        (**self).count()
    }

    #[inline(always)]
    fn enter(&self) -> usize {
        (**self).enter()
    }

    #[inline(always)]
    fn leave(&self, number: usize) {
        (**self).leave(number);
    }

    fn claim(&self) -> bool {
        (**self).claim()
    }

    fn adopt(&self, number: usize) -> bool {
        (**self).adopt(number)
    }

    unsafe fn release(&self, number: usize) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { (**self).release(number) }
    }

    fn pause(&self, tries: u32) {
        (**self).pause(tries);
    }

    fn millis(&self) -> u64 {
        (**self).millis()
    }
}

/// No numbers: every caller shares what is behind a lock. For a program of one thread, or where memory is dearer than time.
///
/// ```
/// use terrace_sync::{NoSlots, Slots};
///
/// assert_eq!((NoSlots.count(), NoSlots.enter()), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSlots;

// SAFETY: no number is ever given.
unsafe impl Slots for NoSlots {
    fn count(&self) -> usize {
        0
    }

    #[inline(always)]
    fn enter(&self) -> usize {
        0
    }
}
