//! `DebugAllocator` among guard pages: the first wrong read or write faults, and a handler of the signal can say what it was.
//!
//! Each access happens in a child, this same test started again with the name of the access in a variable; its handler of
//! SIGSEGV prints what `DebugAllocator::explain` knows of the address, and ends the child.

use std::{
    cell::RefCell,
    env,
    fmt::Write,
    process::{Command, exit},
    ptr::NonNull,
};

use terrace_core::{Access, Alignment, AllocError, Allocator, PageSize, Protect};
use terrace_heap::{
    DebugAllocator, DebugConfig,
    debug::{Mistake, PrintAndAbort, Report},
};
use terrace_sys::{PageAllocator, PageOptions, page_size};

const WORD: Alignment = Alignment::of::<u64>();
const PAGES: DebugConfig = DebugConfig { guard_pages: true, ..DebugConfig::new() };
const ACCESS: &str = "TERRACE_DEBUG_ACCESS";

static DEBUG: DebugAllocator<PageAllocator> = DebugAllocator::with_pages(PageAllocator, PAGES, PrintAndAbort);

fn block(debug: &dyn Allocator, bytes: usize) -> NonNull<[u8]> {
    let len = bytes.try_into().unwrap();
    NonNull::slice_from_raw_parts(debug.alloc(len, WORD).unwrap(), bytes)
}

extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system's, for this signal.
    let info = unsafe { &*info };
    // SAFETY: a fault has an address.
    let address = unsafe { info.si_addr() };
    println!("{}", DEBUG.explain(address.cast()).expect("a block of DEBUG"));
    exit(7);
}

fn handle_faults() {
    // SAFETY: a value that is all zero is one.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: a handler with the arguments of SA_SIGINFO.
    assert_eq!(unsafe { libc::sigaction(libc::SIGSEGV, &action, core::ptr::null_mut()) }, 0);
}

/// Touches what it should not.
fn access(which: &str) {
    let memory = block(&DEBUG, 40);
    let at = |offset: isize| memory.cast::<u8>().as_ptr().wrapping_offset(offset);
    if which.starts_with("freed") {
        // SAFETY: live.
        unsafe { DEBUG.free(memory, WORD) };
    }
    let offset = match which {
        "over" => 40,
        "under" => -(page_size() as isize),
        _ => 3,
    };
    match which {
        // SAFETY: none: this is the mistake, and the pages there cannot be touched.
        "freed read" => drop(unsafe { at(offset).read_volatile() }),
        // SAFETY: as above.
        _ => unsafe { at(offset).write_volatile(1) },
    }
}

#[test]
fn the_first_wrong_access_faults_and_is_explained() {
    if let Ok(which) = env::var(ACCESS) {
        handle_faults();
        access(&which);
        return;
    }
    for (which, wanted) in [
        ("over", "is 0 bytes behind the end of the block of 40 bytes at 0x"),
        ("under", "bytes before the block of 40 bytes at 0x"),
        ("freed read", "is 3 bytes into the freed block of 40 bytes at 0x"),
        ("freed write", "is 3 bytes into the freed block of 40 bytes at 0x"),
    ] {
        let this = env::current_exe().unwrap();
        let name = "the_first_wrong_access_faults_and_is_explained";
        let child = Command::new(this).args([name, "--exact", "--nocapture"]).env(ACCESS, which).output().unwrap();
        let out = String::from_utf8(child.stdout).unwrap();
        assert_eq!(child.status.code(), Some(7), "{which}: {out}");
        assert!(out.contains(wanted), "{which}: {out}");
        assert_eq!(out.contains("\n  freed  "), which.starts_with("freed"), "{out}");
        assert!(out.contains("\n  allocated     "), "{out}");
    }
}

#[test]
fn without_guard_pages_the_same_write_is_found_later() {
    let found = RefCell::new(Vec::new());
    let collect = |report: &Report| found.borrow_mut().push(report.mistake);
    let config = DebugConfig { guard_pages: false, ..PAGES };
    let debug = DebugAllocator::with_pages(PageAllocator, config, collect);
    let memory = block(&debug, 40);
    // SAFETY: in the canary.
    unsafe { memory.cast::<u8>().as_ptr().wrapping_add(40).write_volatile(1) };
    // SAFETY: live.
    unsafe { debug.free(memory, WORD) };
    assert_eq!(*found.borrow(), [Mistake::Overrun { offset: 0, span: 1 }]);
}

/// Between the end and the guard, where the alignment leaves a gap, canaries stand; and in the page before the block.
#[test]
fn what_no_guard_covers_a_canary_does() {
    let found = RefCell::new(Vec::new());
    let collect = |report: &Report| found.borrow_mut().push(report.mistake);
    let debug = DebugAllocator::with_pages(PageAllocator, PAGES, collect);
    for offset in [37, 39, -1, -300] {
        let memory = block(&debug, 37);
        // SAFETY: in a canary.
        unsafe { memory.cast::<u8>().as_ptr().wrapping_offset(offset).write(1) };
        // SAFETY: live.
        unsafe { debug.free(memory, WORD) };
    }
    let over = |offset| Mistake::Overrun { offset, span: 1 };
    let under = |before| Mistake::Underrun { before, span: 1 };
    assert_eq!(*found.borrow(), [over(0), over(2), under(1), under(300)]);
}

/// A system that has no maps left, say: from the n-th call on it protects nothing more.
struct Weak<'a>(&'a RefCell<usize>);

// SAFETY: every call is `PageAllocator`'s.
unsafe impl Allocator for Weak<'_> {
    fn alloc(&self, len: core::num::NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        PageAllocator.alloc(len, alignment)
    }
    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: core::num::NonZeroUsize) -> bool {
        false
    }
    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: core::num::NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { PageAllocator.free(memory, alignment) };
    }
}

// SAFETY: the blocks are `PageAllocator`'s.
unsafe impl PageSize for Weak<'_> {
    fn page_size(&self) -> Alignment {
        PageAllocator.page_size()
    }
}

// SAFETY: `PageAllocator`'s, or nothing is changed.
unsafe impl Protect for Weak<'_> {
    unsafe fn protect(&self, pages: NonNull<[u8]>, access: Access) -> bool {
        let left = self.0.replace_with(|left| left.saturating_sub(usize::from(access == Access::None)));
        // SAFETY: the caller's promise, passed on unchanged.
        (left > 0 || access == Access::ReadWrite) && unsafe { PageAllocator.protect(pages, access) }
    }
}

#[test]
fn a_system_that_protects_no_more_pages_refuses_blocks_and_loses_none() {
    for calls in 0..8 {
        let left = RefCell::new(calls);
        let found = RefCell::new(String::new());
        let collect = |report: &Report| writeln!(found.borrow_mut(), "{report}").unwrap();
        let debug = DebugAllocator::with_pages(Weak(&left), PAGES, collect);
        let mut served = 0;
        for _ in 0..4 {
            let Ok(start) = debug.alloc(40.try_into().unwrap(), WORD) else { continue };
            served += 1;
            // SAFETY: live, of 40 bytes.
            unsafe { start.write_bytes(7, 40) };
            // SAFETY: live. Where it cannot be sealed it stays open in quarantine.
            unsafe { debug.free(NonNull::slice_from_raw_parts(start, 40), WORD) };
        }
        assert_eq!(served, usize::min(calls / 3 + usize::from(calls % 3 == 2), 4), "two guards and a seal each");
        drop(debug);
        assert_eq!(*found.borrow(), "");
    }
}

/// The backing may have guards of its own, and blocks of any size keep to their pages.
#[test]
fn blocks_grow_as_far_as_their_pages_reach() {
    let tuned = PageOptions::new().guard_pages().build();
    let debug = DebugAllocator::with_pages(tuned, PAGES, |report: &Report| panic!("{report}"));
    let memory = block(&debug, 41);
    let room = 48;
    // SAFETY: live.
    assert!(!unsafe { debug.resize(memory, WORD, (room + 1).try_into().unwrap()) }, "the guard is there");
    // SAFETY: live.
    assert!(unsafe { debug.resize(memory, WORD, room.try_into().unwrap()) });
    let memory = NonNull::slice_from_raw_parts(memory.cast::<u8>(), room);
    // SAFETY: live, of 48 bytes.
    unsafe { memory.cast::<u8>().write_bytes(1, room) };
    // SAFETY: live.
    assert!(unsafe { debug.remap(memory, WORD, 5.try_into().unwrap()) }.is_some());
    // SAFETY: live, of 5 bytes.
    unsafe { debug.free(NonNull::slice_from_raw_parts(memory.cast(), 5), WORD) };
}
