//! What is held, and how to have it given back: `mallinfo2`, `malloc_trim`, `mallopt`.

use core::ffi::c_int;

use crate::{HEAP, PAGES};

/// `struct mallinfo2` of glibc.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mallinfo2 {
    /// Bytes held in regions, for small and medium blocks.
    pub arena: usize,
    /// Always 0.
    pub ordblks: usize,
    /// Always 0.
    pub smblks: usize,
    /// Large blocks.
    pub hblks: usize,
    /// Bytes in large blocks.
    pub hblkhd: usize,
    /// Always 0.
    pub usmblks: usize,
    /// Bytes of free blocks in the depots.
    pub fsmblks: usize,
    /// Bytes in use by small and medium blocks, those included that wait in a thread's magazines.
    pub uordblks: usize,
    /// The rest of `arena`.
    pub fordblks: usize,
    /// The same: all of it goes back by `malloc_trim`, but what is needed to keep the books.
    pub keepcost: usize,
}

/// `mallinfo2`.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn mallinfo2() -> Mallinfo2 {
    let held = PAGES.held();
    let (mut used, mut waiting) = (HEAP.smp().medium_bytes(), 0);
    for class in (0..).map_while(|number| HEAP.smp().class_stats(number)) {
        used += (class.blocks_out - class.blocks_in_depot) * class.size;
        waiting += class.blocks_in_depot * class.size;
    }
    let rest = held.regions.saturating_sub(used);
    Mallinfo2 {
        arena: held.regions,
        hblks: held.other_blocks,
        hblkhd: held.others,
        fsmblks: waiting,
        uordblks: used,
        fordblks: rest,
        keepcost: rest,
        ..Mallinfo2::default()
    }
}

/// `malloc_trim`: gives back what is idle; 1 if that was anything. How much to keep is not for the caller to say.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn malloc_trim(_: usize) -> c_int {
    let before = PAGES.held();
    HEAP.smp().trim();
    let after = PAGES.held();
    let less = after.regions + after.others < before.regions + before.others;
    c_int::from(less || after.decommitted > before.decommitted)
}

/// `mallopt`: every parameter is accepted, none is heeded.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn mallopt(_: c_int, _: c_int) -> c_int {
    1
}
