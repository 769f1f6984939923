//! The only things borrowed from outside: C's `write`, to have something to look at; and what every program without std
//! has to have itself.

use core::{
    ffi::{c_int, c_void},
    fmt,
    panic::PanicInfo,
};

/// The standard output.
pub struct Stdout;

// SAFETY: the C library's function, with the signature that POSIX gives it.
// SAFETY: the signature is the one of POSIX.
unsafe extern "C" {
    fn write(file: c_int, bytes: *const c_void, len: usize) -> isize;
}

impl fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the bytes of `text`, which live through the call.
        let written = unsafe { write(1, text.as_ptr().cast(), text.len()) };
        if written == text.len() as isize { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The compiled core library names it in its unwind tables; nothing unwinds here, so nobody calls it.
// SAFETY: no other of this name is linked, since std is not.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
