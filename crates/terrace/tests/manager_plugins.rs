//! Names of allocators, asked for by the program's own allocator in the middle of each of its calls.
#![cfg(feature = "std")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use terrace::{Gpa, gpa, manager};

struct Asking;

thread_local! {
    static ASKS: Cell<bool> = const { Cell::new(false) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

/// Looks for the name, but not in the middle of itself.
fn look() {
    if ASKS.replace(false) {
        let found = manager::registered("tables").is_some() && manager::names().len() > 1;
        FOUND.set(FOUND.get() + usize::from(found));
        ASKS.set(true);
    }
}

// SAFETY: every call is the system's, unchanged.
unsafe impl GlobalAlloc for Asking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        look();
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GLOBAL: Asking = Asking;

static TABLES: Gpa = gpa();

/// A lock that is held while memory is asked for would wait for itself, for ever.
#[test]
fn names_are_found_while_memory_is_asked_for() {
    ASKS.set(true);
    let first = manager::register("tables", &TABLES);
    let second = manager::register("more", &TABLES);
    let taken = manager::register("tables", &TABLES);
    let names = manager::names();
    ASKS.set(false);
    assert_eq!((first, second, taken), (Ok(()), Ok(()), Err(manager::RegisterError::Taken)));
    assert_eq!(names, ["tables", "more"]);
    assert!(FOUND.get() > 0, "nobody asked");
}
