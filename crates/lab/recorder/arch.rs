//! Where a thread finds its own record of itself, without a call.
//!
//! `#[thread_local]` is not stable, a pthread key costs a call, and the usual way of a shared
//! library to thread-local storage (`__tls_get_addr`) may itself allocate. A library that is
//! loaded with the program may take a place in the threads' static block instead, at an offset that the
//! dynamic linker fills in once (the ELF initial-exec model): two instructions.
//!
//! - **A1** The place is `THREAD_BYTES` long, aligned to 64, all zero in a new thread, and lives as long as the thread.

use core::arch::{asm, global_asm};

/// What [`thread_block`] points to.
pub const THREAD_BYTES: usize = 64;

global_asm!(
    ".section .tbss.terrace_thread,\"awT\",@nobits",
    ".balign 64",
    ".globl terrace_recorder_thread",
    ".hidden terrace_recorder_thread",
    ".type terrace_recorder_thread,@object",
    ".size terrace_recorder_thread,64",
    "terrace_recorder_thread:",
    ".zero 64",
    ".previous",
);

// Parts of `core` name the function that unwinding would ask. Nothing unwinds here, so an address is
// enough; hidden, for the program may have a function of that name.
#[cfg(not(clippy))]
global_asm!(".globl rust_eh_personality", ".hidden rust_eh_personality", "rust_eh_personality:", ".byte 0");

/// The calling thread's block (A1).
#[inline(always)]
pub fn thread_block() -> *mut u8 {
    let block: *mut u8;
    // SAFETY: reads the thread pointer and an offset that the linker filled in; touches nothing else.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "mov {block}, qword ptr fs:[0]",
            "add {block}, qword ptr [rip + terrace_recorder_thread@GOTTPOFF]",
            block = out(reg) block,
            options(pure, nomem, nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "mrs {block}, tpidr_el0",
            "adrp {offset}, :gottprel:terrace_recorder_thread",
            "ldr {offset}, [{offset}, :gottprel_lo12:terrace_recorder_thread]",
            "add {block}, {block}, {offset}",
            block = out(reg) block,
            offset = out(reg) _,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    block
}
