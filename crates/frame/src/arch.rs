//! The one thing here that a machine has and Rust's core does not name: to ask for a cache line before it is needed.

/// Asks for the line of `place`, which will be written to. Where there is no such instruction nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: every x86_64 has the instruction, which neither reads nor faults.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(core::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}
