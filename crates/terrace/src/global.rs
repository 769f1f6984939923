//! [`Global`]: the everyday stack as the program's malloc.
//!
//! ```text
//!   Box, Vec, String ──▶ std::alloc ──▶ Global ──▶ smp(page)      with the exact length and alignment at every free
//! ```
//!
//! Cost: `SmpAllocator`'s own; one copy where a `realloc` moves a block that the system cannot move.

use core::{
    alloc::{GlobalAlloc, Layout},
    fmt,
};

use terrace_core::AsGlobal;
use terrace_sys::{PageAllocator, ThreadSlots};

use crate::SmpAllocator;

/// Serves every `Box`, `Vec` and `String` of the program.
///
/// ```
/// #[global_allocator]
/// static A: terrace::Global = terrace::Global::new();
///
/// let words: Vec<String> = ["memory", "in", "terraces"].map(String::from).into();
/// assert_eq!(words.len(), 3);
/// A.trim(); // gives back what is idle
/// ```
pub struct Global {
    backing: SmpAllocator,
}

impl Global {
    /// Takes no memory before the first request.
    #[expect(clippy::new_without_default, reason = "it is made to be a static, where Default cannot be called")]
    pub const fn new() -> Self {
        Self { backing: SmpAllocator::with_decommit(PageAllocator, ThreadSlots) }
    }

    /// Gives back to the system what is idle.
    pub fn trim(&self) {
        self.backing.trim();
    }
}

impl fmt::Debug for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Global").finish_non_exhaustive()
    }
}

// SAFETY: every call is `AsGlobal`'s over `backing`, which is neither lent nor moved out, and which threads may share.
unsafe impl GlobalAlloc for Global {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { AsGlobal::new(&self.backing).alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { AsGlobal::new(&self.backing).dealloc(block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { AsGlobal::new(&self.backing).alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { AsGlobal::new(&self.backing).realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::HashMap, format, thread, vec::Vec};

    use super::*;

    /// Every allocation of this test program, the harness's included.
    #[global_allocator]
    static A: Global = Global::new();

    #[test]
    fn it_keeps_the_contract_as_a_backing() {
        static GLOBAL: Global = Global::new();
        terrace_testkit::conformance::all(|_start, check| check(&terrace_core::GlobalBacking::new(&GLOBAL)));
    }

    #[test]
    fn collections_of_many_threads_grow_shrink_and_end_elsewhere() {
        let (tell, told) = std::sync::mpsc::channel();
        for thread in 0..8u64 {
            let tell = tell.clone();
            thread::spawn(move || {
                let mut map: HashMap<_, _> = (0..500).map(|n| (n, format!("{thread}-{n}"))).collect();
                map.retain(|n, _| n % 3 == thread % 3);
                map.shrink_to_fit();
                tell.send(map).unwrap();
            });
        }
        drop(tell);
        let maps: Vec<_> = told.iter().collect();
        assert_eq!(maps.len(), 8);
        for map in maps {
            assert!(map.iter().all(|(n, text)| text.ends_with(&format!("-{n}"))) && map.len() >= 166);
        }
    }

    #[test]
    fn a_large_vector_keeps_its_contents_as_it_grows_and_shrinks() {
        let mut numbers: Vec<u32> = Vec::new();
        (0..3_000_000).for_each(|n| numbers.push(n));
        numbers.truncate(1000);
        numbers.shrink_to_fit();
        assert!(numbers.iter().enumerate().all(|(index, &n)| index as u32 == n));
        A.trim();
    }

    #[test]
    fn what_no_memory_can_hold_is_refused() {
        assert!(Vec::<u8>::new().try_reserve(isize::MAX as usize).is_err());
        let layout = Layout::from_size_align(isize::MAX as usize - 4095, 4096).unwrap();
        // SAFETY: not of 0 bytes.
        assert!(unsafe { A.alloc(layout) }.is_null());
    }
}
