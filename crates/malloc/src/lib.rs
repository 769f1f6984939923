//! The C malloc over Terrace: a shared library that any program can be started with.
//!
//! ```console
//! $ cargo build --release -p terrace-malloc
//! $ LD_PRELOAD=target/release/libterrace_malloc.so python3
//! ```
//!
//! ```text
//!   malloc, free, …      lib.rs      C: the error number, zero lengths, silly alignments
//!   operator new, …      cxx.rs      C++: the new-handler, bad_alloc
//!   mallinfo2, …         info.rs     what is held, trim, mallopt
//!     │ heap.rs                      lengths and alignments
//!     ▼
//!   SmpAllocator         terrace-heap, with slots.rs over arch.rs: a number for each thread, at two instructions
//!     ▼
//!   Pages                pages.rs    counts, and keeps errno
//!     ▼
//!   TunedPageAllocator   terrace-sys: huge pages where a large block grows
//! ```
//!
//! - **I1** There is nothing to initialise: the dynamic linker itself may be the first to call, before any constructor.
//! - **I2** Nothing here allocates through `malloc` while it serves a call, but where a thread or a process is made known to the C
//!   library (os.rs); then it can be called again.
//! - **I3** A call that succeeds leaves `errno` alone, and so does every `free`. One that fails sets `ENOMEM`, or `EINVAL` for an
//!   alignment that is none, and nothing else has changed.
//! - **I4** A fork finds every lock free, in the child too.
//!
//! A length handed to a sized free is not believed: a wrong one is a mistake that other mallocs forgive.
//!
//! Symbols are exported from the shared library only: there is no rlib, and in the unit tests they have no C name.
#![no_std]
#![cfg_attr(test, allow(dead_code, reason = "without a C name the functions have no callers"))]

extern crate std; // For its panic handler; nothing here calls it but arch.rs, where there is no assembly.

mod arch;
mod cxx;
mod heap;
mod info;
mod os;
mod pages;
mod purger;
mod slots;

use core::{
    ffi::{c_int, c_void},
    ptr::{self, NonNull},
};

use terrace_core::Alignment;
use terrace_sys::{PageOptions, TunedPageAllocator, page_size};

use crate::{
    heap::{Heap, MALLOC_ALIGNMENT},
    pages::Pages,
    slots::MallocSlots,
};

/// From where on a block that has grown gets huge pages: four of them of 2 MiB, the last of which may be used in part.
const GROWN: usize = 8 << 20;

/// The memory of the process.
static PAGES: Pages<TunedPageAllocator> = Pages::new(PageOptions::new().huge_pages_where_grown(GROWN).build());
/// The heap of the process.
// SAFETY: the only value of its type.
static HEAP: Heap<&Pages<TunedPageAllocator>, MallocSlots<true>> = Heap::new(&PAGES, unsafe { MallocSlots::sole() });

/// Runs before other constructors (build.rs).
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

#[cfg(not(test))]
extern "C" fn begin() {
    os::tell_at_fork(before_fork, after_fork, in_forked_child);
}

/// I4.
extern "C" fn before_fork() {
    HEAP.smp().lock_for_fork();
}

extern "C" fn after_fork() {
    // SAFETY: `before_fork` was called by this thread, or by the one that it is the copy of; between the two the C
    // library calls nobody.
    unsafe { HEAP.smp().unlock_after_fork() };
}

extern "C" fn in_forked_child() {
    after_fork();
    let forget = |number| {
        // SAFETY: the number of a thread that is not here.
        unsafe { HEAP.smp().forget_slot(number) }
    };
    // SAFETY: the thread that forked is the only one here.
    unsafe { slots::forget_others(forget) };
    purger::forget();
}

/// Gives back what lies idle; whether there may be more.
fn purge() -> bool {
    HEAP.smp().purge_idle() || HEAP.smp().has_idle()
}

/// A block, or null with `ENOMEM`.
#[inline(always)]
fn or_out_of_memory(block: Option<NonNull<u8>>) -> *mut c_void {
    #[cold]
    #[inline(never)]
    fn out_of_memory() -> *mut c_void {
        os::set_errno(libc::ENOMEM);
        ptr::null_mut()
    }
    match block {
        Some(block) => block.as_ptr().cast(),
        None => out_of_memory(),
    }
}

#[cold]
fn invalid() -> *mut c_void {
    os::set_errno(libc::EINVAL);
    ptr::null_mut()
}

arch::begin_with_lines!();

/// `malloc` of C: 0 bytes are a block of their own.
#[cfg_attr(not(test), unsafe(no_mangle), unsafe(link_section = ".text.malloc"))]
pub extern "C" fn malloc(len: usize) -> *mut c_void {
    #[cold]
    #[inline(never)]
    extern "C" fn slow(len: usize) -> *mut c_void {
        match HEAP.alloc_freed(len) {
            Some(block) => block.as_ptr().cast(),
            None => slowest(len),
        }
    }
    #[cold]
    #[inline(never)]
    extern "C" fn slowest(len: usize) -> *mut c_void {
        or_out_of_memory(HEAP.alloc(len))
    }
    match HEAP.alloc_at_hand(len) {
        Some(block) => block.as_ptr().cast(),
        None => slow(len), // The last call, of a function that does not unwind: a jump.
    }
}

/// `free` of C.
///
/// # Safety
/// Null, or a live block of this library, not used again.
#[cfg_attr(not(test), unsafe(no_mangle), unsafe(link_section = ".text.free"))]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// # Safety
/// As [`free`].
#[inline(always)]
unsafe fn release(block: *mut c_void) {
    /// # Safety
    /// As [`free`].
    #[cold]
    #[inline(never)]
    unsafe extern "C" fn slow(block: *mut c_void) {
        if let Some(block) = NonNull::new(block.cast()) {
            // SAFETY: the caller's promise.
            unsafe { HEAP.free(block) };
            if HEAP.smp().has_idle() {
                purger::wake(purge);
            }
        }
    }
    // SAFETY: the caller's promise.
    if !unsafe { HEAP.free_at_hand(block.cast()) } {
        // SAFETY: the caller's promise; nothing has happened.
        unsafe { slow(block) }; // As in `malloc`, a jump.
    }
}

/// `calloc` of C: `count` times `len` bytes, zero.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn calloc(count: usize, len: usize) -> *mut c_void {
    or_out_of_memory(count.checked_mul(len).and_then(|len| HEAP.alloc_zeroed(len)))
}

/// `realloc` of C: of null it is `malloc`; to 0 bytes it is `free`, and returns null, as in glibc.
///
/// # Safety
/// As [`free`], where the call succeeds.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { reallocate(block, len) }
}

/// # Safety
/// As [`realloc`].
#[inline(always)]
unsafe fn reallocate(block: *mut c_void, len: usize) -> *mut c_void {
    let Some(old) = NonNull::new(block.cast()) else { return or_out_of_memory(HEAP.alloc(len)) };
    if len == 0 {
        // SAFETY: the caller's promise.
        unsafe { HEAP.free(old) };
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    or_out_of_memory(unsafe { HEAP.realloc(old, len) })
}

/// `reallocarray`: a `realloc` to the product, refused where that overflows.
///
/// # Safety
/// As [`realloc`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, len: usize) -> *mut c_void {
    match count.checked_mul(len) {
        // SAFETY: the caller's promise.
        Some(len) => unsafe { reallocate(block, len) },
        None => or_out_of_memory(None),
    }
}

/// `posix_memalign`: the error is returned, `errno` and `*place` stay.
///
/// # Safety
/// `place` is writable.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, alignment: usize, len: usize) -> c_int {
    let fitting = Alignment::new(alignment).filter(|alignment| alignment.bytes() >= size_of::<*mut c_void>());
    let Some(alignment) = fitting else { return libc::EINVAL };
    let Some(block) = HEAP.alloc_aligned(len, alignment) else { return libc::ENOMEM };
    // SAFETY: the caller's promise.
    unsafe { *place = block.as_ptr().cast() };
    0
}

/// `aligned_alloc` of C: `len` need not be a multiple of the alignment.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn aligned_alloc(alignment: usize, len: usize) -> *mut c_void {
    match Alignment::new(alignment) {
        Some(alignment) => or_out_of_memory(HEAP.alloc_aligned(len, alignment)),
        None => invalid(),
    }
}

/// `memalign`: an alignment that is no power of two is rounded up to one, as in glibc.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn memalign(alignment: usize, len: usize) -> *mut c_void {
    match alignment.checked_next_power_of_two().and_then(Alignment::new) {
        Some(alignment) => or_out_of_memory(HEAP.alloc_aligned(len, alignment)),
        None => invalid(),
    }
}

/// What a page is aligned to.
fn page() -> Alignment {
    Alignment::new(page_size()).unwrap_or(MALLOC_ALIGNMENT)
}

/// `valloc`: aligned to a page.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn valloc(len: usize) -> *mut c_void {
    or_out_of_memory(HEAP.alloc_aligned(len, page()))
}

/// `pvalloc`: whole pages.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn pvalloc(len: usize) -> *mut c_void {
    or_out_of_memory(page().forward(len).and_then(|len| HEAP.alloc_aligned(len, page())))
}

/// `malloc_usable_size`: what the block has, at least what was asked for; 0 of null.
///
/// # Safety
/// Null, or a live block of this library.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    match NonNull::new(block.cast()) {
        // SAFETY: the caller's promise.
        Some(block) => unsafe { HEAP.usable(block) }.get(),
        None => 0,
    }
}

/// `free_sized` of C23.
///
/// # Safety
/// As [`free`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free_sized(block: *mut c_void, _: usize) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// `free_aligned_sized` of C23.
///
/// # Safety
/// As [`free`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _: usize, _: usize) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}
