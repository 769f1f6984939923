//! [`Ground`]: the buffer that a script names, where its offsets come out as in Zig.
//!
//! ```text
//! multiple of 65536 ─▶ ├─ mis ─┼─ size bytes, 0x55 at first ─┤
//! ```

use std::{
    alloc::{Layout, alloc, dealloc},
    mem::MaybeUninit,
    ptr::NonNull,
};

/// `size` bytes that start `mis` bytes past a multiple of 65536.
pub struct Ground {
    base: NonNull<u8>,
    layout: Layout,
    mis: usize,
}

impl Ground {
    pub fn new(size: usize, mis: usize) -> Self {
        // One byte more, so that an empty buffer has an address too.
        let layout = Layout::from_size_align(mis + size + 1, 65536).unwrap();
        // SAFETY: not of size zero.
        let base = NonNull::new(unsafe { alloc(layout) }).unwrap();
        // SAFETY: a new block of that size.
        unsafe { base.write_bytes(0x55, layout.size()) };
        Self { base, layout, mis }
    }

    pub fn buffer(&mut self) -> &mut [MaybeUninit<u8>] {
        let size = self.layout.size() - 1 - self.mis;
        // SAFETY: inside the block.
        let start = unsafe { self.base.add(self.mis) };
        // SAFETY: the block lives as long as `self`, which is borrowed.
        unsafe { NonNull::slice_from_raw_parts(start.cast(), size).as_mut() }
    }

    /// The address that offsets count from.
    pub fn origin(&self) -> usize {
        self.base.addr().get() + self.mis
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
