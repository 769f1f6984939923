//! The C library's functions that the recorder calls, and the few wrappers that keep its other files short.
//!
//! Declared by hand: the recorder has no dependencies, so that a build script can compile it with
//! one call of the compiler. Linux with glibc only; the numbers are those of x86-64 and AArch64 alike.
//!
//! None of these allocates through `malloc`, but `dlsym` (for an error's text) and
//! `pthread_setspecific` (beyond the 32nd key): both are called where a nested `malloc` goes by unrecorded.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::ptr::{NonNull, null_mut};

use super::spool::{NAMESPACE_LINK, namespace_number};

/// `ENOMEM`.
pub const OUT_OF_MEMORY: c_int = 12;
/// `EFBIG`.
const FILE_TOO_BIG: c_int = 27;

const OPEN_READ_WRITE_CLOEXEC: c_int = 0o2 | 0o2_000_000;
const OPEN_CREATE_NEW: c_int = 0o100 | 0o200;
const PROTECT_READ_WRITE: c_int = 1 | 2;
const MAP_SHARED: c_int = 1;
const MAP_PRIVATE_ANONYMOUS: c_int = 2 | 0x20;
const MADV_WIPEONFORK: c_int = 18;
const MADV_POPULATE_WRITE: c_int = 23;
const RLIMIT_FSIZE: c_int = 1;
const CLOCK_THREAD_CPUTIME_ID: c_int = 3;
const CANCEL_DISABLE: c_int = 1;
const SC_PAGESIZE: c_int = 30;
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const RTLD_DEFAULT: *mut c_void = null_mut();

#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: i64,
}

// SAFETY: declared as glibc's headers have them on 64-bit Linux.
// `dl` and `pthread` are empty where the C library is 2.34 or newer.
#[link(name = "c")]
#[link(name = "dl")]
#[link(name = "pthread")]
unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(fd: c_int) -> c_int;
    fn posix_fallocate(fd: c_int, from: i64, len: i64) -> c_int;
    fn mmap(at: *mut c_void, len: usize, protect: c_int, flags: c_int, fd: c_int, from: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
    fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
    fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
    fn getpid() -> c_int;
    fn readlink(path: *const c_char, link: *mut c_char, len: usize) -> isize;
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    fn sysconf(name: c_int) -> c_long;
    fn pthread_key_create(key: *mut u32, destructor: Option<unsafe extern "C" fn(*mut c_void)>) -> c_int;
    fn pthread_setspecific(key: u32, value: *const c_void) -> c_int;
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

/// The next definition of `name` after the recorder's own.
pub fn next(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends in 0.
    unsafe { dlsym(RTLD_NEXT, name.as_ptr()) }
}

/// The definition of `name` that the program itself reaches.
pub fn reached(name: &CStr) -> *mut c_void {
    // SAFETY: `name` ends in 0.
    unsafe { dlsym(RTLD_DEFAULT, name.as_ptr()) }
}

/// The thread's error number.
pub fn errno() -> c_int {
    // SAFETY: takes nothing.
    let place = unsafe { __errno_location() };
    // SAFETY: the C library returns the thread's own, valid as long as the thread.
    unsafe { *place }
}

/// Sets the thread's error number.
pub fn set_errno(number: c_int) {
    // SAFETY: takes nothing.
    let place = unsafe { __errno_location() };
    // SAFETY: the C library returns the thread's own, valid as long as the thread.
    unsafe { *place = number };
}

/// Maps the first `bytes` of a file that exists, shared.
pub fn map_existing(path: &CStr, bytes: usize) -> Result<NonNull<u64>, c_int> {
    // SAFETY: `path` ends in 0.
    let fd = unsafe { open(path.as_ptr(), OPEN_READ_WRITE_CLOEXEC) };
    if fd < 0 {
        return Err(errno());
    }
    map_and_close(fd, bytes)
}

/// Makes a file of `bytes` zeros whose room on the disk is reserved, and maps it, shared: with the
/// room reserved a full disk is an error here, not a bus error at the first write.
pub fn map_new(path: &CStr, bytes: usize) -> Result<NonNull<u64>, c_int> {
    if file_size_limit() < bytes as u64 {
        return Err(FILE_TOO_BIG); // Asking the kernel would also send SIGXFSZ to the program.
    }
    let owner_only = 0o600_u32;
    // SAFETY: `path` ends in 0; the mode is the variadic argument that creation wants.
    let fd = unsafe { open(path.as_ptr(), OPEN_READ_WRITE_CLOEXEC | OPEN_CREATE_NEW, owner_only) };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: `fd` is ours.
    match unsafe { posix_fallocate(fd, 0, bytes as i64) } {
        0 => {
            let start = map_and_close(fd, bytes)?;
            // SAFETY: our own mapping. One call instead of a page fault every 4 KiB; where the kernel
            // is older than 5.14 the faults come after all.
            unsafe { madvise(start.as_ptr().cast(), bytes, MADV_POPULATE_WRITE) };
            Ok(start)
        }
        error => {
            // SAFETY: `fd` is ours and not used again.
            unsafe { close(fd) };
            Err(error)
        }
    }
}

fn map_and_close(fd: c_int, bytes: usize) -> Result<NonNull<u64>, c_int> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe { mmap(null_mut(), bytes, PROTECT_READ_WRITE, MAP_SHARED, fd, 0) };
    let error = errno();
    // SAFETY: `fd` is ours and not used again; a mapping does not need it.
    unsafe { close(fd) };
    mapped(start).ok_or(error)
}

/// A zeroed page of this process that a forked child finds zeroed again. `None` before Linux 4.14.
pub fn page_wiped_on_fork(bytes: usize) -> Option<NonNull<u64>> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe { mmap(null_mut(), bytes, PROTECT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) };
    let page = mapped(start)?;
    // SAFETY: our own mapping.
    (unsafe { madvise(start, bytes, MADV_WIPEONFORK) } == 0).then_some(page)
}

fn mapped(start: *mut c_void) -> Option<NonNull<u64>> {
    let failed = usize::MAX;
    if start.addr() == failed { None } else { NonNull::new(start.cast()) }
}

/// # Safety
/// `start` and `bytes` are those of a mapping that nobody uses any more.
pub unsafe fn unmap(start: *mut u64, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { munmap(start.cast(), bytes) };
}

fn file_size_limit() -> u64 {
    let mut limit = Limit { soft: u64::MAX, hard: u64::MAX };
    // SAFETY: `limit` is writable and laid out as the C library's on 64-bit Linux.
    unsafe { getrlimit(RLIMIT_FSIZE, &raw mut limit) };
    limit.soft
}

/// The process's number.
pub fn process() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    u64::from(unsafe { getpid() }.unsigned_abs())
}

/// The number of this process's namespace of process ids; 0 where the kernel does not tell.
pub fn namespace() -> u64 {
    let mut link = [0_u8; 64];
    // SAFETY: the path ends in 0; `link` is writable and as long as said.
    let len = unsafe { readlink(NAMESPACE_LINK.as_ptr(), link.as_mut_ptr().cast(), link.len()) };
    link.get(..usize::try_from(len).unwrap_or(0)).map_or(0, namespace_number)
}

/// The page size in bytes.
pub fn page_size() -> u64 {
    // SAFETY: takes a number only; the page size is always known.
    unsafe { sysconf(SC_PAGESIZE) }.unsigned_abs()
}

/// Nanoseconds that this thread has run, in the kernel too; not those that others ran.
pub fn processor_time() -> u64 {
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is writable and laid out as the C library's on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    (time.seconds * 1_000_000_000 + time.nanoseconds).unsigned_abs()
}

/// A key whose `destructor` runs at the end of each thread that set it.
pub fn thread_end_key(destructor: unsafe extern "C" fn(*mut c_void)) -> Option<u32> {
    let mut key = 0;
    // SAFETY: `key` is writable.
    (unsafe { pthread_key_create(&raw mut key, Some(destructor)) } == 0).then_some(key)
}

/// Gives the calling thread's key a value; one that is not 0 brings the destructor.
pub fn set_thread_key(key: u32, value: usize) {
    // SAFETY: a key of ours; the value is a number, never followed.
    unsafe { pthread_setspecific(key, core::ptr::without_provenance(value)) };
}

/// Runs `work`, which may open files, so that the thread is not cancelled in the midst of it
/// (`malloc` must not be a cancellation point) and the program's error number stays.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let number = errno();
    let mut before = 0;
    // SAFETY: `before` is writable.
    unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
    let result = work();
    // SAFETY: what the first call returned; a null pointer for the old state is allowed.
    unsafe { pthread_setcancelstate(before, null_mut()) };
    set_errno(number);
    result
}

/// Ends the process at once.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: takes a number only.
    unsafe { _exit(code) }
}
