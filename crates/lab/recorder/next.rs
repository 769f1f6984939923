//! The allocator behind the recorder: the next one in the dynamic linker's order, mostly the C library's.
//!
//! - **N1** Each pointer is null until [`find`] and then the address of the C function of that
//!   name, never changed again. Until then the blocks of [`early`] serve.

use core::ffi::{CStr, c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::os::OUT_OF_MEMORY;
use super::{early, os};

macro_rules! next {
    ($($place:ident = $name:ident($($argument:ident: $type:ty),*) -> $result:ty, else $instead:expr;)*) => {
        $(
            static $place: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

            /// The C function of this name.
            ///
            /// # Safety
            /// As for the C function; a block is none of [`early`]'s.
            #[inline(always)]
            pub unsafe fn $name($($argument: $type),*) -> $result {
                type Function = unsafe extern "C" fn($($type),*) -> $result;
                let found = $place.load(Ordering::Relaxed);
                // SAFETY: by N1 null, which is `None`, or a function of this type.
                match unsafe { core::mem::transmute::<*mut c_void, Option<Function>>(found) } {
                    // SAFETY: the caller's promise.
                    Some(function) => unsafe { function($($argument),*) },
                    None => $instead,
                }
            }
        )*

        /// Looks for all of them. Returns whether all were found.
        pub fn find() -> bool {
            let search = |name: &str| CStr::from_bytes_with_nul(name.as_bytes()).map_or(null_mut(), os::next);
            // All are looked for before one is used, so that what the search itself asks for is `early`'s.
            $(let $name = search(concat!(stringify!($name), "\0"));)*
            $($place.store($name, Ordering::Release);)*
            true $(&& !$name.is_null())*
        }
    };
}

next! {
    MALLOC = malloc(len: usize) -> *mut c_void, else early::alloc(len, 16);
    FREE = free(block: *mut c_void) -> (), else ();
    CALLOC = calloc(count: usize, len: usize) -> *mut c_void, else match count.checked_mul(len) {
        Some(len) => early::alloc(len, 16),
        None => null_mut(),
    };
    REALLOC = realloc(block: *mut c_void, len: usize) -> *mut c_void,
        // No block can be another's yet: what is not null the caller sorted out.
        else if block.is_null() { early::alloc(len, 16) } else { null_mut() };
    MEMALIGN = memalign(align: usize, len: usize) -> *mut c_void, else early::alloc(len, align);
    ALIGNED_ALLOC = aligned_alloc(align: usize, len: usize) -> *mut c_void, else early::alloc(len, align);
    POSIX_MEMALIGN = posix_memalign(place: *mut *mut c_void, align: usize, len: usize) -> c_int, else {
        let block = early::alloc(len, align);
        if block.is_null() {
            OUT_OF_MEMORY
        } else {
            // SAFETY: the caller's promise: a place for the block's address.
            unsafe { *place = block };
            0
        }
    };
    VALLOC = valloc(len: usize) -> *mut c_void, else early::alloc(len, 4096);
    PVALLOC = pvalloc(len: usize) -> *mut c_void, else early::alloc(len.saturating_add(4095) & !4095, 4096);
}
