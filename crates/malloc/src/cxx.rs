//! The operators of C++, by their mangled names.
//!
//! ```text
//!   operator new      refused ──▶ the new-handler, if there is one, and again ──▶ … ──▶ throw std::bad_alloc
//!   … (nothrow)       refused ──▶ null; where there is a handler, the C++ library's own, which catches what it throws
//! ```
//!
//! An exception passes through our frames, which hold nothing that would have to be dropped. It is thrown by the C++ library that the
//! program uses, found by name when it is needed; where there is none the process ends with a message, since `new` must
//! not return null.

use core::{
    ffi::{CStr, c_void},
    mem,
    ptr::{self, NonNull},
};

use terrace_core::Alignment;

use crate::{
    HEAP,
    heap::MALLOC_ALIGNMENT,
    os::{self, CxxLibrary},
};

type Handler = extern "C-unwind" fn();

#[inline(always)]
fn alloc(len: usize, alignment: usize) -> Option<NonNull<u8>> {
    if alignment <= MALLOC_ALIGNMENT.bytes() {
        return HEAP.alloc(len);
    }
    HEAP.alloc_aligned(len, Alignment::new(alignment)?)
}

/// A block at hand, for an alignment that any block has.
#[inline(always)]
fn at_hand(len: usize, alignment: usize) -> Option<NonNull<u8>> {
    if alignment <= MALLOC_ALIGNMENT.bytes() { HEAP.alloc_at_hand(len) } else { None }
}

/// A block, come what may.
#[cold]
#[inline(never)]
extern "C-unwind" fn insist(len: usize, alignment: usize) -> *mut c_void {
    loop {
        if let Some(block) = alloc(len, alignment) {
            return block.as_ptr().cast();
        }
        match CxxLibrary::find().and_then(handler) {
            Some(handler) => handler(),
            None => break,
        }
    }
    let library = CxxLibrary::find();
    for name in [c"_ZSt17__throw_bad_allocv", c"_ZNSt3__117__throw_bad_allocEv"] {
        let throw = library.map_or(ptr::null_mut(), |library| library.function(name));
        if !throw.is_null() {
            // SAFETY: that is its signature: `void std::__throw_bad_alloc()`.
            let throw = unsafe { mem::transmute::<*mut c_void, Handler>(throw) };
            throw();
        }
    }
    os::abort("terrace-malloc: out of memory in operator new, and no C++ library to throw bad_alloc\n")
}

/// What `std::set_new_handler` was last told.
fn handler(library: CxxLibrary) -> Option<Handler> {
    let get = library.function(c"_ZSt15get_new_handlerv");
    if get.is_null() {
        return None;
    }
    // SAFETY: that is its signature: `std::new_handler std::get_new_handler()`, null for none.
    let get = unsafe { mem::transmute::<*mut c_void, extern "C" fn() -> Option<Handler>>(get) };
    get()
}

/// A block; or null, unless a handler can do something about it.
#[cold]
#[inline(never)]
extern "C-unwind" fn refuse(len: usize, alignment: usize) -> *mut c_void {
    if let Some(block) = alloc(len, alignment) {
        return block.as_ptr().cast();
    }
    let Some(library) = CxxLibrary::find().filter(|&library| handler(library).is_some()) else {
        return ptr::null_mut();
    };
    // The library's own forms call our throwing ones, and turn what those throw into null.
    let function = |name: &CStr| library.function(name);
    if alignment <= MALLOC_ALIGNMENT.bytes() {
        let own = function(c"_ZnwmRKSt9nothrow_t");
        if own.is_null() || own.addr() == new_nothrow as *const () as usize {
            return ptr::null_mut();
        }
        // SAFETY: that is its signature; the tag has no contents.
        let own = unsafe { mem::transmute::<*mut c_void, extern "C" fn(usize, *const u8) -> *mut c_void>(own) };
        return own(len, &0);
    }
    let own = function(c"_ZnwmSt11align_val_tRKSt9nothrow_t");
    if own.is_null() || own.addr() == new_aligned_nothrow as *const () as usize {
        return ptr::null_mut();
    }
    // SAFETY: that is its signature; the tag has no contents.
    let own = unsafe { mem::transmute::<*mut c_void, extern "C" fn(usize, usize, *const u8) -> *mut c_void>(own) };
    own(len, alignment, &0)
}

/// The forms of `new`: their names, whether they are aligned, what they do when refused.
macro_rules! new {
    ($($(#[$doc:meta])* $name:ident $mangled:literal ($($alignment:ident)? $(; $tag:ident)?) $otherwise:ident;)+) => {$(
        $(#[$doc])*
        #[cfg_attr(not(test), unsafe(export_name = $mangled))]
        pub extern "C-unwind" fn $name(len: usize $(, $alignment: usize)? $(, $tag: *const c_void)?) -> *mut c_void {
            let alignment = 1 $(* $alignment)?;
            $(let _ = $tag;)?
            match at_hand(len, alignment) {
                Some(block) => block.as_ptr().cast(),
                None => $otherwise(len, alignment),
            }
        }
    )+};
}

new! {
    /// `operator new(size_t)`.
    new "_Znwm" () insist;
    /// `operator new[](size_t)`.
    new_array "_Znam" () insist;
    /// `operator new(size_t, const std::nothrow_t&)`.
    new_nothrow "_ZnwmRKSt9nothrow_t" (; tag) refuse;
    /// `operator new[](size_t, const std::nothrow_t&)`.
    new_array_nothrow "_ZnamRKSt9nothrow_t" (; tag) refuse;
    /// `operator new(size_t, std::align_val_t)`.
    new_aligned "_ZnwmSt11align_val_t" (alignment) insist;
    /// `operator new[](size_t, std::align_val_t)`.
    new_array_aligned "_ZnamSt11align_val_t" (alignment) insist;
    /// `operator new(size_t, std::align_val_t, const std::nothrow_t&)`.
    new_aligned_nothrow "_ZnwmSt11align_val_tRKSt9nothrow_t" (alignment; tag) refuse;
    /// `operator new[](size_t, std::align_val_t, const std::nothrow_t&)`.
    new_array_aligned_nothrow "_ZnamSt11align_val_tRKSt9nothrow_t" (alignment; tag) refuse;
}

/// The forms of `delete`: their names, and what they are told beside the block.
macro_rules! delete {
    ($($name:ident $mangled:literal ($($more:ident: $type:ty),*);)+) => {$(
        /// A form of `operator delete`.
        ///
        /// # Safety
        /// Null, or a live block of this library, not used again.
        #[cfg_attr(not(test), unsafe(export_name = $mangled))]
        pub unsafe extern "C" fn $name(block: *mut c_void $(, $more: $type)*) {
            $(let _ = $more;)*
            // SAFETY: the caller's promise.
            unsafe { crate::release(block) }
        }
    )+};
}

delete! {
    delete "_ZdlPv" ();
    delete_array "_ZdaPv" ();
    delete_nothrow "_ZdlPvRKSt9nothrow_t" (tag: *const c_void);
    delete_array_nothrow "_ZdaPvRKSt9nothrow_t" (tag: *const c_void);
    delete_sized "_ZdlPvm" (len: usize);
    delete_array_sized "_ZdaPvm" (len: usize);
    delete_aligned "_ZdlPvSt11align_val_t" (alignment: usize);
    delete_array_aligned "_ZdaPvSt11align_val_t" (alignment: usize);
    delete_sized_aligned "_ZdlPvmSt11align_val_t" (len: usize, alignment: usize);
    delete_array_sized_aligned "_ZdaPvmSt11align_val_t" (len: usize, alignment: usize);
    delete_aligned_nothrow "_ZdlPvSt11align_val_tRKSt9nothrow_t" (alignment: usize, tag: *const c_void);
    delete_array_aligned_nothrow "_ZdaPvSt11align_val_tRKSt9nothrow_t" (alignment: usize, tag: *const c_void);
}
