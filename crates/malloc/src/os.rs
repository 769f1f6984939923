//! What the library asks of the C library beside memory: the error number, thread ends, forks, symbols by name.
//!
//! None of these allocates through `malloc`, but `pthread_setspecific` beyond the 32nd key, and `dlopen` and `dlsym`, which are
//! called only where a request of C++ has been refused for good.

use core::{
    ffi::{CStr, c_void},
    ptr,
};

use terrace_sync::atomic::{AtomicUsize, Ordering};

/// The thread's error number.
pub(crate) fn errno() -> i32 {
    // SAFETY: takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library returns the thread's own, valid as long as the thread.
    unsafe { *place }
}

/// Sets the thread's error number.
pub(crate) fn set_errno(number: i32) {
    // SAFETY: takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the C library returns the thread's own, valid as long as the thread.
    unsafe { *place = number };
}

/// Puts the error number back when it is dropped: a call that succeeds leaves it alone, and `free` always does.
pub(crate) struct KeptErrno(i32);

impl KeptErrno {
    pub(crate) fn keep() -> Self {
        Self(errno())
    }
}

impl Drop for KeptErrno {
    fn drop(&mut self) {
        set_errno(self.0);
    }
}

/// The key whose destructor runs when a thread ends, plus one; 0 until there is one.
static KEY: AtomicUsize = AtomicUsize::new(0);

/// Has `destructor` called when this thread ends. Where no key is to be had, it never is.
pub(crate) fn tell_at_thread_end(destructor: extern "C" fn(*mut c_void)) {
    let _errno = KeptErrno::keep();
    let Some(key) = key(destructor) else { return };
    // SAFETY: a key of ours; the value is a number, never followed.
    unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) };
}

fn key(destructor: extern "C" fn(*mut c_void)) -> Option<libc::pthread_key_t> {
    // Relaxed: a number, which publishes nothing.
    if let Some(key) = KEY.load(Ordering::Relaxed).checked_sub(1) {
        return Some(key as libc::pthread_key_t);
    }
    let mut key = 0;
    // SAFETY: `key` is writable.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(destructor)) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key as usize + 1, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Some(key),
        Err(theirs) => {
            // SAFETY: made above, and nobody knows of it.
            unsafe { libc::pthread_key_delete(key) };
            Some((theirs - 1) as libc::pthread_key_t)
        }
    }
}

/// Has the three called before a fork, and after it in the parent and in the child.
pub(crate) fn tell_at_fork(before: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    let _errno = KeptErrno::keep();
    // SAFETY: the three are functions of a library that is never unloaded (build.rs).
    unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
}

/// The functions of the C++ library that is loaded, if there is one.
#[derive(Clone, Copy)]
pub(crate) struct CxxLibrary(*mut c_void);

impl CxxLibrary {
    /// Looks for it. Its handle is kept: it is never closed.
    pub(crate) fn find() -> Option<Self> {
        [c"libstdc++.so.6", c"libc++.so.1"].into_iter().find_map(|name| {
            // SAFETY: `name` ends in 0; what is loaded already is not initialised again.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
            (!handle.is_null()).then_some(Self(handle))
        })
    }

    /// The address of one of its functions.
    pub(crate) fn function(self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open, `name` ends in 0.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }
}

/// Ends the process with a message.
pub(crate) fn abort(message: &str) -> ! {
    // SAFETY: the message is readable.
    unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
    // SAFETY: takes nothing.
    unsafe { libc::abort() }
}
