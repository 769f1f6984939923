//! [`gpa`]: the everyday stack.
//!
//! ```text
//!   debug(smp(page))    with debug assertions: a mistake is printed with the places that led to it, and aborts; leaks are printed
//!   smp(page)           without
//! ```
//!
//! Cost: `SmpAllocator`'s own, and with debug assertions that of `DebugAllocator` (`docs/measurements/layers.md`).

use core::{fmt, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, GoodSize, Owns, bridge_collections};
use terrace_heap::debug::Check;
use terrace_sys::{PageAllocator, ThreadSlots};

use crate::SmpAllocator;

#[cfg(debug_assertions)]
type Everyday = terrace_heap::DebugAllocator<SmpAllocator, Teller>;
#[cfg(all(debug_assertions, not(feature = "backtrace")))]
type Teller = terrace_heap::debug::PrintAndAbort;
#[cfg(all(debug_assertions, feature = "backtrace"))]
type Teller = crate::Backtraced<terrace_heap::debug::PrintAndAbort>;
#[cfg(not(debug_assertions))]
type Everyday = SmpAllocator;

/// The everyday allocator, for any number of threads; made by [`gpa`].
///
/// Collections take it by value, or better by reference, since whatever is left in it ends with it:
///
#[cfg_attr(feature = "allocator-api2-02", doc = "```")]
#[cfg_attr(not(feature = "allocator-api2-02"), doc = "```ignore")]
/// use allocator_api2_02::vec::Vec;
///
/// static TABLES: terrace::Gpa = terrace::gpa();
///
/// let mut primes = Vec::new_in(&TABLES);
/// primes.extend([2, 3, 5, 7]);
/// assert_eq!(primes.len(), 4);
/// ```
pub struct Gpa {
    backing: Everyday,
}

/// A general-purpose allocator of your own, over pages: as a local, a field or a `static`.
///
/// It asks the system for nothing before its first block. When it is dropped everything goes back, live blocks too, of which
/// a debug build tells on the standard error stream. There a double free, a wrong length, or a write past an end aborts the program,
/// with a report: see [`DebugAllocator`](crate::DebugAllocator).
///
/// ```
/// use terrace::AllocatorExt;
///
/// let gpa = terrace::gpa();
/// let name = gpa.dupe(b"terrace")?;
/// // SAFETY: live, of this allocator, not used again.
/// unsafe { gpa.free_slice(name) };
/// gpa.trim();
/// # Ok::<(), terrace::AllocError>(())
/// ```
pub const fn gpa() -> Gpa {
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    #[cfg(debug_assertions)]
    let backing = {
        use terrace_heap::{DebugAllocator, DebugConfig, debug::PrintAndAbort};
        #[cfg(not(feature = "backtrace"))]
        let teller = PrintAndAbort;
        #[cfg(feature = "backtrace")]
        let teller = crate::Backtraced::new(PrintAndAbort);
        DebugAllocator::with_handler(smp, DebugConfig::new(), teller)
    };
    #[cfg(not(debug_assertions))]
    let backing = smp;
    Gpa { backing }
}

impl Gpa {
    /// Gives back to the system what is idle.
    pub fn trim(&self) {
        #[cfg(debug_assertions)]
        self.backing.backing().trim();
        #[cfg(not(debug_assertions))]
        self.backing.trim();
    }

    /// Prints every block that is live, with the place that made it, and ends none. `None`: a build without debug assertions, which
    /// does not look.
    #[track_caller]
    pub fn check_for_leaks(&self) -> Option<Check> {
        #[cfg(debug_assertions)]
        return Some(self.backing.check_for_leaks());
        #[cfg(not(debug_assertions))]
        None
    }
}

impl fmt::Debug for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpa").finish_non_exhaustive()
    }
}

// SAFETY: every call is the backing's, unchanged.
unsafe impl Allocator for Gpa {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc(len, alignment)
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.resize(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.remap(memory, alignment, new_len) }
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.backing.free(memory, alignment) }
    }

    #[inline]
    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.backing.alloc_zeroed(len, alignment)
    }
}

// SAFETY: its blocks are exactly the backing's.
unsafe impl Owns for Gpa {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.backing.owns(address)
    }
}

// SAFETY: nothing is added to a request.
unsafe impl GoodSize for Gpa {
    #[inline]
    fn good_size(&self, len: NonZeroUsize, alignment: Alignment) -> NonZeroUsize {
        self.backing.good_size(len, alignment)
    }
}

bridge_collections!(impl[] for Gpa);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::thread;

    use terrace_core::AllocatorExt;

    use super::*;

    #[test]
    fn it_keeps_the_contract() {
        terrace_testkit::conformance::all(|_start, check| check(&gpa()));
    }

    #[test]
    fn a_debug_build_sees_what_is_live() {
        let gpa = gpa();
        let word = gpa.dupe(b"red").unwrap();
        let leaks = |gpa: &Gpa| gpa.check_for_leaks().map(|check| (check.leaks, check.leaked_bytes));
        assert_eq!(leaks(&gpa), cfg!(debug_assertions).then_some((1, 3)));
        // SAFETY: live, of this allocator, not used again.
        unsafe { gpa.free_slice(word) };
        assert_eq!(leaks(&gpa), cfg!(debug_assertions).then_some((0, 0)));
    }

    #[test]
    fn two_of_them_know_their_own_blocks_only() {
        let (ours, theirs) = (gpa(), gpa());
        for len in [1, 5000, 100_000] {
            let block = ours.alloc_slice::<u8>(len).unwrap();
            assert!(ours.owns(block.cast()) && !theirs.owns(block.cast()), "{len}");
            // SAFETY: live, of this allocator, not used again.
            unsafe { ours.free_slice(block) };
        }
    }

    #[test]
    fn what_one_thread_allocates_another_may_free() {
        static SHARED: Gpa = gpa();
        let address = thread::spawn(|| SHARED.dupe(&[7u64; 100]).unwrap().cast::<u8>().as_ptr() as usize);
        let block = NonNull::new(address.join().unwrap() as *mut u64).unwrap();
        let slice = NonNull::slice_from_raw_parts(block, 100);
        // SAFETY: live, and of 100 numbers.
        assert!(unsafe { slice.as_ref() }.iter().all(|&number| number == 7));
        // SAFETY: live, of this allocator, not used again.
        unsafe { SHARED.free_slice(slice) };
    }
}
