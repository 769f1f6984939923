//! What processors offer beyond their arithmetic.

use core::ptr::NonNull;

/// Asks for the line at `address`, which is to be written soon, and waits for nothing. Nothing where the processor is not told how.
#[inline(always)]
pub(crate) fn fetch(address: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint: it reads no memory that the program could see, and no address is wrong.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
