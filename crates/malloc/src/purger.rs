//! A thread that gives back what lies idle, so that a program that stands still shrinks too.
//!
//! ```text
//!   free, the slow way ── much is idle ──▶ RUNNING false → true: a thread
//!                                            every 200 ms purge_idle; nothing left: RUNNING → false, and it ends
//! ```
//!
//! Most programs never have it: it starts when more than 4 MiB of free pages lie about, and ends when they are back, half a second
//! later.
//!
//! - **P1** There is one such thread at most in a process: who turned `RUNNING` to true starts it, and it or a fork's child turns it back.
//! - **P2** It takes no signal.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use terrace_sync::atomic::{AtomicBool, Ordering};

use crate::os::KeptErrno;

/// Half of what `purge_idle` needs to see a thing idle twice, and be done within a second.
const INTERVAL_MICROS: libc::useconds_t = 200_000;
const STACK: usize = 64 << 10;

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Starts the thread, where it is not running. `purge` gives back what is idle, and says whether it is worth another call.
#[cold]
pub(crate) fn wake(purge: fn() -> bool) {
    // Relaxed: nothing but the flag itself is told.
    if RUNNING.load(Ordering::Relaxed) || RUNNING.swap(true, Ordering::Relaxed) {
        return;
    }
    let _errno = KeptErrno::keep();
    if !start(purge) {
        RUNNING.store(false, Ordering::Relaxed);
    }
}

/// For the child of a fork, which has no other thread.
pub(crate) fn forget() {
    RUNNING.store(false, Ordering::Relaxed);
}

extern "C" fn run(purge: *mut c_void) -> *mut c_void {
    // SAFETY: what `start` passed.
    let purge: fn() -> bool = unsafe { core::mem::transmute(purge) };
    loop {
        // SAFETY: takes a number only.
        unsafe { libc::usleep(INTERVAL_MICROS) };
        if !purge() {
            RUNNING.store(false, Ordering::Relaxed); // P1
            return ptr::null_mut();
        }
    }
}

/// Whether a thread was to be had.
fn start(purge: fn() -> bool) -> bool {
    let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the place is writable.
    if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
        return false;
    }
    let attributes = attributes.as_mut_ptr();
    // SAFETY: initialised above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    // SAFETY: the same. Where the size is refused, the usual one serves.
    unsafe { libc::pthread_attr_setstacksize(attributes, STACK) };
    // SAFETY: the place is writable.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is filled, the other place writable. P2: a thread begins with its maker's mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let mut thread = 0;
    // SAFETY: `run` is given what it expects, and belongs to a library that is never unloaded (build.rs).
    let result = unsafe { libc::pthread_create(&raw mut thread, attributes, run, purge as *mut c_void) };
    // SAFETY: the mask from before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    // SAFETY: initialised above, used no more.
    unsafe { libc::pthread_attr_destroy(attributes) };
    result == 0
}
