//! Where a thread keeps its slot and its number, without a call.
//!
//! `#[thread_local]` is not stable, a pthread key costs a call, and the usual way of a shared library to thread-local
//! storage (`__tls_get_addr`) may itself allocate. A library that is loaded with the program takes a place in the
//! threads' static block instead, at an offset that the dynamic linker fills in once (the ELF initial-exec model): two
//! instructions. One that is opened later gets a place in the room that the C library leaves there for small ones.
//!
//! ```text
//!   thread pointer ──offset from the GOT──▶ [ kept: address | number: u32 | state: u32 ]
//!                                 in a new thread  NOTHING_KEPT         0             0
//! ```
//!
//! - **A1** The place is the calling thread's own and lives as long as the thread: from before any call to the last one.
//! - **A2** `kept` is not null: the dynamic linker fills it in for each thread, from the library's own picture.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use core::arch::{asm, global_asm};
use core::ptr::NonNull;

use terrace_sync::NOTHING_KEPT;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
global_asm!(
    ".section .tdata.terrace_malloc_thread,\"awT\",@progbits",
    ".balign 16",
    ".globl terrace_malloc_thread",
    ".hidden terrace_malloc_thread",
    ".type terrace_malloc_thread,@object",
    ".size terrace_malloc_thread,16",
    "terrace_malloc_thread:",
    ".quad {nothing_kept}",
    ".zero 8",
    ".previous",
    nothing_kept = sym NOTHING_KEPT,
);

/// Has the sections `.text.malloc` and `.text.free` begin with a cache line. To be written in the module whose functions lie there, so
/// that it goes into the same object.
///
/// Where a function begins among the lines decides how many of them the processor fetches for it, and for a pair of calls that
/// is a sixteenth of the time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! begin_with_lines {
    () => {
        core::arch::global_asm!(
            ".pushsection .text.malloc,\"ax\",@progbits",
            ".balign 64",
            ".popsection",
            ".pushsection .text.free,\"ax\",@progbits",
            ".balign 64",
            ".popsection",
        );
    };
}
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
macro_rules! begin_with_lines {
    () => {};
}
pub(crate) use begin_with_lines;

/// What a thread keeps.
#[repr(C)]
pub(crate) struct Place {
    pub(crate) kept: NonNull<u8>,
    pub(crate) number: u32,
    pub(crate) state: u32,
}

/// What the calling thread keeps in its [`place`].
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn kept() -> NonNull<u8> {
    let kept: *mut u8;
    // SAFETY: reads the first word of the thread's own place (A1), at an offset that the linker filled in.
    unsafe {
        asm!(
            "mov {kept}, qword ptr [rip + terrace_malloc_thread@GOTTPOFF]",
            "mov {kept}, qword ptr fs:[{kept}]",
            kept = out(reg) kept,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    // SAFETY: A2.
    unsafe { NonNull::new_unchecked(kept) }
}

/// What the calling thread keeps in its [`place`].
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn kept() -> NonNull<u8> {
    // SAFETY: the thread's own, and readable (A1).
    unsafe { (*place()).kept }
}

/// The calling thread's number, as it stands in its [`place`].
#[inline(always)]
pub(crate) fn number() -> usize {
    // SAFETY: the thread's own, and readable (A1).
    unsafe { (*place()).number as usize }
}

/// What a thread keeps that has nothing to keep.
pub(crate) fn nothing() -> NonNull<u8> {
    NonNull::from_ref(&NOTHING_KEPT).cast()
}

/// The calling thread's place (A1).
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) fn place() -> *mut Place {
    let place: *mut Place;
    // SAFETY: reads the thread pointer and an offset that the linker filled in; touches nothing else.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {place}, qword ptr fs:[0]",
            "add {place}, qword ptr [rip + terrace_malloc_thread@GOTTPOFF]",
            place = out(reg) place,
            options(pure, nomem, nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mrs {place}, tpidr_el0",
            "adrp {offset}, :gottprel:terrace_malloc_thread",
            "ldr {offset}, [{offset}, :gottprel_lo12:terrace_malloc_thread]",
            "add {place}, {place}, {offset}",
            place = out(reg) place,
            offset = out(reg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    place
}

/// The calling thread's place (A1). Without assembly for this machine, by the usual way, which serves a library that is loaded
/// with the program.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn place() -> *mut Place {
    std::thread_local! {
        static PLACE: core::cell::UnsafeCell<Place> = const {
            core::cell::UnsafeCell::new(Place { kept: NonNull::from_ref(&NOTHING_KEPT).cast(), number: 0, state: 0 })
        };
    }
    PLACE.with(|place| place.get())
}
