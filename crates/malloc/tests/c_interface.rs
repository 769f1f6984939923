//! Every exported function, called as C calls it, in a library that was opened late: beside the C library's own malloc.

mod common;

use std::{
    env,
    ffi::{CStr, CString, c_int, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    process::Command,
    ptr, slice,
    sync::OnceLock,
    thread,
};

type Alloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Pair = unsafe extern "C" fn(usize, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// The library's functions.
struct Malloc {
    malloc: Alloc,
    free: Free,
    calloc: Pair,
    realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    reallocarray: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    posix_memalign: unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int,
    aligned_alloc: Pair,
    memalign: Pair,
    valloc: Alloc,
    pvalloc: Alloc,
    malloc_usable_size: unsafe extern "C" fn(*mut c_void) -> usize,
    free_sized: unsafe extern "C" fn(*mut c_void, usize),
    free_aligned_sized: unsafe extern "C" fn(*mut c_void, usize, usize),
    malloc_trim: unsafe extern "C" fn(usize) -> c_int,
    mallopt: unsafe extern "C" fn(c_int, c_int) -> c_int,
    mallinfo2: unsafe extern "C" fn() -> libc::mallinfo2,
}

fn symbol(name: &CStr) -> *mut c_void {
    static HANDLE: OnceLock<usize> = OnceLock::new();
    let handle = *HANDLE.get_or_init(|| {
        let path = CString::new(common::library().as_os_str().as_bytes()).unwrap();
        // SAFETY: a path that ends in 0; the library's constructor registers fork handlers and nothing else.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{path:?} is opened");
        handle as usize
    });
    // SAFETY: an open handle, and a name that ends in 0.
    let found = unsafe { libc::dlsym(handle as *mut c_void, name.as_ptr()) };
    assert!(!found.is_null(), "{name:?} is exported");
    found
}

/// The function of a name, in the type that it is used as: the one that C's headers give it.
macro_rules! function {
    ($name:expr) => {{
        let address = symbol($name);
        // SAFETY: an address of a function is as wide as a pointer to one, and this is one of that type.
        unsafe { mem::transmute_copy(&address) }
    }};
}

fn c() -> &'static Malloc {
    static C: OnceLock<Malloc> = OnceLock::new();
    C.get_or_init(|| Malloc {
        malloc: function!(c"malloc"),
        free: function!(c"free"),
        calloc: function!(c"calloc"),
        realloc: function!(c"realloc"),
        reallocarray: function!(c"reallocarray"),
        posix_memalign: function!(c"posix_memalign"),
        aligned_alloc: function!(c"aligned_alloc"),
        memalign: function!(c"memalign"),
        valloc: function!(c"valloc"),
        pvalloc: function!(c"pvalloc"),
        malloc_usable_size: function!(c"malloc_usable_size"),
        free_sized: function!(c"free_sized"),
        free_aligned_sized: function!(c"free_aligned_sized"),
        malloc_trim: function!(c"malloc_trim"),
        mallopt: function!(c"mallopt"),
        mallinfo2: function!(c"mallinfo2"),
    })
}

fn set_errno(number: c_int) {
    // SAFETY: takes nothing.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    unsafe { *place = number };
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Calls one of the functions. Each call stands alone, so that what it may do is said where it stands.
macro_rules! call {
    ($name:ident($($argument:expr),*)) => {{
        let function = c().$name;
        // SAFETY: the arguments are as C asks: blocks are live, and not used after they were freed.
        unsafe { function($($argument),*) }
    }};
}

#[test]
fn every_length_gets_an_aligned_block_of_its_own_that_holds_it() {
    let lens = (0..600).chain((600..70_000).step_by(997)).chain([1 << 20, 5 << 20]);
    let blocks: Vec<_> = lens.map(|len| (call!(malloc(len)), len)).collect();
    for (index, &(block, len)) in blocks.iter().enumerate() {
        assert!(!block.is_null() && block.addr() % 16 == 0, "{len}");
        let usable = call!(malloc_usable_size(block));
        assert!(usable >= len.max(1), "{usable} of {len}");
        // SAFETY: the block has so many bytes.
        unsafe { block.cast::<u8>().write_bytes(index as u8, usable) };
    }
    for (index, &(block, len)) in blocks.iter().enumerate() {
        // SAFETY: written above.
        let bytes = unsafe { slice::from_raw_parts(block.cast::<u8>(), len) };
        assert!(bytes.iter().all(|&byte| byte == index as u8), "block {index} of {len} bytes");
        call!(free(block));
    }
    call!(free(ptr::null_mut()));
    assert_eq!(call!(malloc_usable_size(ptr::null_mut())), 0);
}

#[test]
fn calloc_is_zero_in_memory_that_was_used_before_and_refuses_an_overflow() {
    for len in [1, 100, 4000, 30_000, 200_000] {
        for _ in 0..3 {
            let dirty = call!(malloc(len));
            // SAFETY: the block has `len` bytes.
            unsafe { dirty.cast::<u8>().write_bytes(0xFF, len) };
            call!(free(dirty));
            let block = call!(calloc(len, 1));
            // SAFETY: the block has `len` bytes.
            let bytes = unsafe { slice::from_raw_parts(block.cast::<u8>(), len) };
            assert!(bytes.iter().all(|&byte| byte == 0), "{len}");
            call!(free(block));
        }
    }
    set_errno(0);
    assert!(call!(calloc(1 << 33, 1 << 33)).is_null());
    assert_eq!(errno(), libc::ENOMEM);
    let none = call!(calloc(0, 8));
    assert!(!none.is_null());
    call!(free(none));
}

#[test]
fn realloc_keeps_the_bytes_and_its_ends_are_malloc_and_free() {
    let mut block = call!(realloc(ptr::null_mut(), 10));
    // SAFETY: ten bytes.
    unsafe { block.cast::<[u8; 10]>().write(*b"0123456789") };
    for len in [11, 100, 50, 5000, 40_000, 39_000, 3 << 20, 2 << 20, 33_000, 700, 16, 10] {
        block = call!(realloc(block, len));
        assert!(call!(malloc_usable_size(block)) >= len);
        // SAFETY: ten bytes at least.
        assert_eq!(unsafe { *block.cast::<[u8; 10]>() }, *b"0123456789", "{len}");
    }
    set_errno(0);
    assert!(call!(realloc(block, usize::MAX)).is_null());
    assert_eq!(errno(), libc::ENOMEM);
    assert!(call!(reallocarray(block, usize::MAX, 2)).is_null());
    // SAFETY: refused, so live.
    assert_eq!(unsafe { *block.cast::<[u8; 10]>() }, *b"0123456789");
    block = call!(reallocarray(block, 100, 20));
    assert!(call!(malloc_usable_size(block)) >= 2000);
    assert!(call!(realloc(block, 0)).is_null(), "0 bytes free it");
}

#[test]
fn alignments_are_kept_or_refused_with_the_right_error() {
    let mut place = ptr::dangling_mut();
    for log2 in 3..=24 {
        let alignment = 1usize << log2;
        for len in [0, 1, 100, 40_000] {
            set_errno(77);
            assert_eq!(call!(posix_memalign(&raw mut place, alignment, len)), 0);
            let (second, third) = (call!(aligned_alloc(alignment, len)), call!(memalign(alignment, len)));
            for block in [place, second, third] {
                assert!(!block.is_null() && block.addr() % alignment == 0, "{len} at {alignment}");
                // SAFETY: the block has `len` bytes.
                unsafe { block.cast::<u8>().write_bytes(1, len) };
            }
            call!(free(place));
            call!(free_aligned_sized(second, alignment, len));
            call!(free(third));
            assert_eq!(errno(), 77, "what succeeds leaves errno alone");
        }
    }
    let before = place;
    for alignment in [0, 1, 2, 4, 24, 100, usize::MAX] {
        assert_eq!(call!(posix_memalign(&raw mut place, alignment, 8)), libc::EINVAL, "{alignment}");
    }
    assert_eq!(call!(posix_memalign(&raw mut place, 64, usize::MAX)), libc::ENOMEM);
    assert_eq!((place, errno()), (before, 77), "a refusal changes neither the place nor errno");
    assert!(call!(aligned_alloc(3, 9)).is_null());
    assert_eq!(errno(), libc::EINVAL);
    set_errno(0);
    assert!(call!(memalign(usize::MAX, 9)).is_null());
    assert_eq!(errno(), libc::EINVAL);
    let rounded = call!(memalign(48, 9));
    assert_eq!(rounded.addr() % 64, 0, "as in glibc");
    call!(free(rounded));
}

#[test]
fn valloc_and_pvalloc_give_whole_pages() {
    // SAFETY: only reads its argument.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    for len in [0, 1, page - 1, page, page + 1, 50 * page] {
        let (block, pages) = (call!(valloc(len)), call!(pvalloc(len)));
        assert_eq!((block.addr() % page, pages.addr() % page), (0, 0));
        assert!(call!(malloc_usable_size(block)) >= len);
        assert!(call!(malloc_usable_size(pages)) >= len.next_multiple_of(page));
        call!(free(block));
        call!(free(pages));
    }
    set_errno(0);
    assert!(call!(pvalloc(usize::MAX)).is_null());
    assert_eq!(errno(), libc::ENOMEM);
}

#[test]
fn more_than_half_the_address_space_is_refused() {
    for len in [usize::MAX, isize::MAX as usize + 1, isize::MAX as usize] {
        set_errno(0);
        assert!(call!(malloc(len)).is_null());
        assert_eq!(errno(), libc::ENOMEM);
    }
}

#[test]
fn no_call_that_succeeds_touches_errno() {
    set_errno(77);
    let blocks: Vec<_> = (0..3000).map(|n| call!(malloc(n * 37))).collect();
    for (n, block) in blocks.into_iter().enumerate() {
        if n % 2 == 0 { call!(free(block)) } else { call!(free_sized(block, n * 37)) }
    }
    call!(malloc_trim(0));
    assert_eq!(errno(), 77);
}

/// In a process of its own: the figures are of all that the library serves, the other tests' blocks included.
#[test]
fn what_is_held_is_told_and_given_back() {
    const ALONE: &str = "TERRACE_MALLOC_ALONE";
    if env::var_os(ALONE).is_none() {
        common::library();
        let mut child = Command::new(env::current_exe().unwrap());
        let output = common::succeeds(child.args(["--exact", "what_is_held_is_told_and_given_back"]).env(ALONE, "yes"));
        return assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the child ran it");
    }
    let used = |info: libc::mallinfo2| info.uordblks + info.hblkhd;
    let before = used(call!(mallinfo2()));
    let blocks: Vec<_> = (0..40_000).map(|_| call!(malloc(1000))).collect();
    let medium: Vec<_> = (0..300).map(|_| call!(malloc(100_000))).collect();
    let large = call!(malloc(10 << 20));
    let info = call!(mallinfo2());
    assert!(used(info) >= before + 80_000_000 && info.hblkhd >= 10 << 20 && info.hblks >= 1);
    assert!(info.arena >= 70_000_000 && info.fordblks < info.arena);
    blocks.into_iter().chain(medium).for_each(|block| call!(free(block)));
    call!(free(large));
    assert_eq!(call!(malloc_trim(0)), 1);
    assert_eq!(call!(mallopt(libc::M_MMAP_THRESHOLD, 4096)), 1);
}

#[test]
fn the_operators_of_cxx_are_there_in_all_their_forms() {
    let plain: [Alloc; 2] = [function!(c"_Znwm"), function!(c"_Znam")];
    let deletes: [Free; 2] = [function!(c"_ZdlPv"), function!(c"_ZdaPv")];
    let sized: [unsafe extern "C" fn(*mut c_void, usize); 2] = [function!(c"_ZdlPvm"), function!(c"_ZdaPvm")];
    for index in 0..2 {
        for len in [0, 1, 100, 100_000] {
            // SAFETY: any length may be asked for.
            let first = unsafe { plain[index](len) };
            // SAFETY: any length may be asked for.
            let second = unsafe { plain[index](len) };
            assert!(!first.is_null() && first != second);
            // SAFETY: live, and not used again.
            unsafe { deletes[index](first) };
            // SAFETY: live, and not used again.
            unsafe { sized[index](second, len) };
        }
    }
    let nothrow: [Pair; 2] = [function!(c"_ZnwmRKSt9nothrow_t"), function!(c"_ZnamRKSt9nothrow_t")];
    let aligned: [Pair; 2] = [function!(c"_ZnwmSt11align_val_t"), function!(c"_ZnamSt11align_val_t")];
    for index in 0..2 {
        // SAFETY: the tag has no contents.
        assert!(unsafe { nothrow[index](isize::MAX as usize, 0) }.is_null());
        // SAFETY: a power of two.
        let block = unsafe { aligned[index](100, 256) };
        assert_eq!(block.addr() % 256, 0);
        // SAFETY: live, and not used again.
        unsafe { deletes[index](block) };
    }
    for name in [
        c"_ZnwmSt11align_val_tRKSt9nothrow_t",
        c"_ZnamSt11align_val_tRKSt9nothrow_t",
        c"_ZdlPvRKSt9nothrow_t",
        c"_ZdaPvRKSt9nothrow_t",
        c"_ZdlPvSt11align_val_t",
        c"_ZdaPvSt11align_val_t",
        c"_ZdlPvmSt11align_val_t",
        c"_ZdaPvmSt11align_val_t",
        c"_ZdlPvSt11align_val_tRKSt9nothrow_t",
        c"_ZdaPvSt11align_val_tRKSt9nothrow_t",
    ] {
        symbol(name);
    }
}

#[test]
fn a_library_that_was_opened_late_serves_many_threads() {
    let threads: Vec<_> = (0..64u8)
        .map(|number| {
            thread::spawn(move || {
                let blocks: Vec<_> = (1..500).map(|n| (call!(malloc(n)), n)).collect();
                for &(block, len) in &blocks {
                    // SAFETY: the block has `len` bytes.
                    unsafe { block.cast::<u8>().write_bytes(number, len) };
                }
                blocks.into_iter().map(|(block, len)| (block.expose_provenance(), len)).collect::<Vec<_>>()
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        for (block, len) in thread.join().unwrap() {
            let block = ptr::with_exposed_provenance_mut::<c_void>(block);
            // SAFETY: written by the thread.
            let bytes = unsafe { slice::from_raw_parts(block.cast::<u8>(), len) };
            assert!(bytes.iter().all(|&byte| byte == number as u8));
            call!(free(block));
        }
    }
}
