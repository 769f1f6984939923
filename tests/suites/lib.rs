//! [`Global`]: what stands in the place of allocator-api2's `Global` while other people's test suites run.
//!
//! ```text
//!   hashbrown's tests ──▶ HashMap<K, V, S, Global> ──▶ bridge ──▶ Monitor ──▶ TERRACE_SUITE_STACK
//! ```
//!
//! The monitor holds the bridge, and through it the collection, to the contract's clauses; a breach aborts the suite.

use std::{
    alloc::{GlobalAlloc, Layout},
    env,
    num::NonZeroUsize,
    process,
    ptr::NonNull,
    sync::LazyLock,
};

use terrace_core::{Alignment, AllocError, Allocator, AsGlobal, SystemAllocator, bridge_collections};
use terrace_heap::{SyncArena, SyncFixedBuffer};
use terrace_sys::PageAllocator;
use terrace_testkit::{Breach, Monitor, Role};

type Stack = Box<dyn Allocator + Send + Sync>;
type Watched = Monitor<Stack, fn(&Breach)>;

static STACK: LazyLock<Watched> = LazyLock::new(|| {
    let stack: Stack = match env::var("TERRACE_SUITE_STACK").as_deref() {
        Ok("system") => Box::new(SystemAllocator),
        Ok("page") => Box::new(PageAllocator),
        Ok("sync_arena(page)") => Box::new(SyncArena::new(PageAllocator)),
        // Refuses all: a suite that passes over it does not use it.
        Ok("fixed(0)") => Box::new(SyncFixedBuffer::new(&mut [])),
        other => panic!("TERRACE_SUITE_STACK is {other:?}"),
    };
    Monitor::with_handler(stack, Role::Top, abort)
});

/// A breach is nobody's expected panic.
fn abort(breach: &Breach) {
    eprintln!("{breach}");
    process::abort();
}

/// The one allocator of the process, chosen when it is first asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Global;

// SAFETY: every call goes to the one `STACK`, of which this is a handle.
unsafe impl Allocator for Global {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        STACK.alloc(len, alignment)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { STACK.resize(memory, alignment, new_len) }
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { STACK.remap(memory, alignment, new_len) }
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { STACK.free(memory, alignment) }
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        STACK.alloc_zeroed(len, alignment)
    }
}

bridge_collections!(impl[] for Global);

/// As `std::alloc::alloc`, which some of the tests use beside `Global`.
static GLOBAL: AsGlobal<Global> = AsGlobal::new(Global);

/// # Safety
/// As `std::alloc::alloc`.
pub unsafe fn alloc(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { GLOBAL.alloc(layout) }
}

/// # Safety
/// As `std::alloc::alloc_zeroed`.
pub unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { GLOBAL.alloc_zeroed(layout) }
}

/// # Safety
/// As `std::alloc::dealloc`.
pub unsafe fn dealloc(block: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { GLOBAL.dealloc(block, layout) }
}

/// # Safety
/// As `std::alloc::realloc`.
pub unsafe fn realloc(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { GLOBAL.realloc(block, layout, new_size) }
}
