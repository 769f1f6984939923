//! The recorder: a library that `LD_PRELOAD` puts between a program and its `malloc`.
//!
//! ```text
//! program ──malloc──> recorder ──malloc──> the C library (or whatever was next)
//!                        └── record ──> chunk in the spool ──> the lab, meanwhile
//! ```
//!
//! The lab's build script compiles this folder, alone and without the standard library, and the lab
//! carries the result inside; `record` writes it into the spool and starts the program with it.
//! Files: [`spool`] says what is written, [`pen`] writes it for one thread, [`ink`] holds what the
//! threads share, [`next`] is the allocator behind, [`early`] serves before that one is known,
//! [`calibrate`] times the recorder itself, [`os`], [`arch`] and [`path`] are the ground.
//!
//! - **R1** Nothing here allocates through what it records.
//! - **R2** Every call is passed on once, with the caller's arguments, and its result and error number are returned.
//! - **R3** A free's stamp is taken before the block is passed on, an allocation's after the block came back (S3).
//!
//! Not seen: calls before the recorder's constructor, which runs before any other (`-z initfirst`) —
//! they are served by [`early`]; `malloc_usable_size`, which goes straight to the next allocator
//! and does not know the blocks of [`early`]; programs that define `malloc` themselves.
#![cfg_attr(not(clippy), no_std)]

pub mod arch;
pub mod calibrate;
pub mod early;
pub mod ink;
pub mod next;
pub mod os;
pub mod path;
pub mod pen;
pub mod spool;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;

use pen::Pen;
use spool::Record;

/// Nothing here should panic; if it does, the program must not go on with half a record.
#[cfg(not(clippy))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    os::exit_now(134)
}

/// Runs before the program, and before its libraries.
///
/// # Safety
/// Called by the dynamic linker, as constructors are, with the program's environment.
unsafe extern "C" fn begin(_: c_int, _: *const *const c_char, environment: *const *const c_char) {
    let found = next::find();
    // SAFETY: the dynamic linker passes the program's environment to constructors.
    let Some(directory) = (unsafe { variable(environment, spool::SPOOL_VARIABLE.as_bytes()) }) else { return };
    if !found || !ink::open(directory) {
        return;
    }
    if os::reached(c"malloc").addr() != malloc as *const () as usize {
        ink::note_own_malloc();
    }
    if ink::calibration_wanted() {
        calibrate::run();
        os::exit_now(0);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = begin;

/// The value of a variable in `environment`.
///
/// # Safety
/// `environment` is a list of strings that ends in a null pointer, all constant meanwhile.
unsafe fn variable<'a>(environment: *const *const c_char, name: &[u8]) -> Option<&'a CStr> {
    let mut at = environment;
    loop {
        // SAFETY: not past the list's end.
        let entry = unsafe { *at };
        if entry.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        let entry = unsafe { CStr::from_ptr(entry) };
        let value = entry.to_bytes_with_nul().strip_prefix(name).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value {
            return CStr::from_bytes_with_nul(value).ok();
        }
        // SAFETY: the entry was not the last.
        at = unsafe { at.add(1) };
    }
}

/// Records what an allocating call gave out: `made` says it with the block's address.
#[inline(always)]
fn gave(pen: &Pen, block: *mut c_void, made: impl FnOnce(u64) -> Record) -> *mut c_void {
    if block.is_null() {
        refused(pen, made(0));
    } else {
        pen.write(made(block.addr() as u64));
    }
    block
}

#[cold]
#[inline(never)]
fn refused(pen: &Pen, wanted: Record) {
    let (call, len) = match wanted {
        Record::Malloc { len, .. } => (0, len),
        Record::Calloc { len, .. } => (1, len),
        Record::Aligned { len, .. } => (2, len),
        Record::FromRealloc { len, .. } => (3, len),
        _ => return,
    };
    pen.write(Record::Failed { len, call });
}

/// `malloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::malloc(len) };
    match &pen {
        Some(pen) => gave(pen, block, |address| Record::Malloc { address, len: len as u64 }),
        None => block,
    }
}

/// `calloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(count: usize, len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::calloc(count, len) };
    match &pen {
        Some(pen) => {
            let len = count.saturating_mul(len) as u64;
            gave(pen, block, |address| Record::Calloc { address, len })
        }
        None => block,
    }
}

/// `free` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    if early::owns(block) {
        return;
    }
    let pen = Pen::take();
    if let Some(pen) = &pen {
        pen.write(Record::Free { address: block.addr() as u64 });
    }
    // SAFETY: passed on (R2); none of `early`'s.
    unsafe { next::free(block) };
}

/// `free_sized` of C23: the same as `free`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, _: usize) {
    // SAFETY: the caller's promise.
    unsafe { free(block) };
}

/// `free_aligned_sized` of C23: the same as `free`.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, _: usize, _: usize) {
    // SAFETY: the caller's promise.
    unsafe { free(block) };
}

/// `realloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    if early::owns(block) {
        // SAFETY: one of `early`'s.
        return unsafe { move_out_of_early(block, len) };
    }
    let pen = Pen::take();
    let Some(pen) = &pen else {
        // SAFETY: passed on (R2); none of `early`'s.
        return unsafe { next::realloc(block, len) };
    };
    if block.is_null() {
        // SAFETY: passed on (R2).
        let new = unsafe { next::realloc(block, len) };
        return gave(pen, new, |address| Record::FromRealloc { address, len: len as u64 });
    }
    pen.write(Record::ReallocFrom { address: block.addr() as u64 });
    // SAFETY: passed on (R2); none of `early`'s.
    let new = unsafe { next::realloc(block, len) };
    pen.write(Record::ReallocTo { address: new.addr() as u64, len: len as u64 });
    new
}

/// # Safety
/// `block` is one of `early`'s.
#[cold]
#[inline(never)]
unsafe fn move_out_of_early(block: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: any length may be asked for.
    let new = unsafe { malloc(len) };
    if !new.is_null() {
        // SAFETY: the caller's promise.
        let old_len = unsafe { early::len(block) };
        // SAFETY: both blocks have as many bytes, and they are not the same.
        unsafe { new.cast::<u8>().copy_from_nonoverlapping(block.cast(), old_len.min(len)) };
    }
    new
}

/// `reallocarray` of the C library: a `realloc` of the product, refused where that overflows.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, len: usize) -> *mut c_void {
    // A saturated product is more than any allocator gives out: it is refused with `ENOMEM`.
    // SAFETY: the caller's promise.
    unsafe { realloc(block, count.saturating_mul(len)) }
}

/// Records a block whose alignment was asked for.
#[inline(always)]
fn aligned(pen: Option<&Pen>, block: *mut c_void, len: usize, align: usize) -> *mut c_void {
    let Some(pen) = pen else { return block };
    let align_log2 = align.max(1).ilog2() as u8;
    gave(pen, block, |address| Record::Aligned { address, len: len as u64, align_log2 })
}

/// `memalign` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::memalign(align, len) };
    aligned(pen.as_ref(), block, len, align)
}

/// `aligned_alloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::aligned_alloc(align, len) };
    aligned(pen.as_ref(), block, len, align)
}

/// `posix_memalign` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, len: usize) -> c_int {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let error = unsafe { next::posix_memalign(place, align, len) };
    // SAFETY: without an error the C library has written the block's address there.
    let block = if error == 0 { unsafe { *place } } else { null_mut() };
    aligned(pen.as_ref(), block, len, align);
    error
}

/// `valloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::valloc(len) };
    aligned(pen.as_ref(), block, len, os::page_size() as usize)
}

/// `pvalloc` of the C library.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(len: usize) -> *mut c_void {
    let pen = Pen::take();
    // SAFETY: passed on (R2).
    let block = unsafe { next::pvalloc(len) };
    aligned(pen.as_ref(), block, len, os::page_size() as usize)
}
