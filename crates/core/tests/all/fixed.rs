//! `Fixed`: a buffer that decides as Zig's `FixedBufferAllocator` does and writes its requests down as the
//! golden files do. Offsets count from the buffer's start, which lies `mis` bytes past a multiple of 64 KiB.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    num::NonZeroUsize,
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator};

pub struct Fixed {
    /// Of the system's block, `mis` bytes before the buffer.
    base: NonNull<u8>,
    layout: Layout,
    mis: usize,
    end: Cell<usize>,
    requests: RefCell<Vec<String>>,
}

impl Fixed {
    pub fn new(size: usize, mis: usize) -> Self {
        let layout = Layout::from_size_align(size + mis, 65536).unwrap();
        // SAFETY: the size is not 0, as no test asks for an empty buffer.
        let base = NonNull::new(unsafe { System.alloc(layout) }).unwrap();
        // SAFETY: a new block of that size.
        unsafe { base.write_bytes(0x55, layout.size()) };
        Self { base, layout, mis, end: Cell::new(0), requests: RefCell::default() }
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        self.requests.take()
    }

    /// Where in the buffer `pointer` lies, if it does.
    pub fn offset(&self, pointer: NonNull<u8>) -> Option<usize> {
        let offset = pointer.addr().get().checked_sub(self.base.addr().get() + self.mis)?;
        (offset < self.size()).then_some(offset)
    }

    /// The bytes at `offset`, whoever they belong to: freed ones can still be looked at.
    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.size());
        // SAFETY: inside the block, by the assertion.
        let start = unsafe { self.base.add(self.mis + offset) };
        // SAFETY: initialised by `new`, and no reference to them lives while a test looks.
        unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() }.to_vec()
    }

    fn size(&self) -> usize {
        self.layout.size() - self.mis
    }

    fn place(&self, len: usize, alignment: Alignment) -> Option<usize> {
        let origin = self.base.addr().get() + self.mis;
        let start = alignment.forward(origin.checked_add(self.end.get())?)? - origin;
        (start.checked_add(len)? <= self.size()).then_some(start)
    }

    fn fits(&self, memory: NonNull<[u8]>, new_len: usize) -> bool {
        let start = self.offset(memory.cast()).unwrap();
        if start + memory.len() != self.end.get() {
            return new_len <= memory.len();
        }
        match start.checked_add(new_len) {
            Some(end) if end <= self.size() => {
                self.end.set(end);
                true
            }
            _ => false,
        }
    }

    fn request(&self, what: &str, memory: NonNull<[u8]>, alignment: Alignment, tail: &str) {
        let start = self.offset(memory.cast()).unwrap();
        let line = format!("{what} {start} {} {}{tail}", memory.len(), alignment.log2());
        self.requests.borrow_mut().push(line);
    }
}

// SAFETY: blocks are disjoint parts of the buffer: `end` is above every live block, and a block is cut or
// grown only where it is the last. The buffer lies outside of `Fixed`, so a move of it moves no block.
unsafe impl Allocator for Fixed {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let place = self.place(len.get(), alignment);
        let answer = place.map_or("null".to_string(), |start| start.to_string());
        self.requests.borrow_mut().push(format!("alloc {len} {} = {answer}", alignment.log2()));
        let start = place.ok_or(AllocError)?;
        self.end.set(start + len.get());
        // SAFETY: `place` has found `len` bytes there.
        Ok(unsafe { self.base.add(self.mis + start) })
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> bool {
        let fits = self.fits(memory, new_len.get());
        self.request("resize", memory, alignment, &format!(" {new_len} = {fits}"));
        fits
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        let same = self.fits(memory, new_len.get()).then_some(memory.cast());
        let answer = same.map_or("null".to_string(), |same| self.offset(same).unwrap().to_string());
        self.request("remap", memory, alignment, &format!(" {new_len} = {answer}"));
        same
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        self.request("free", memory, alignment, "");
        let start = self.offset(memory.cast()).unwrap();
        if start + memory.len() == self.end.get() {
            self.end.set(start);
        }
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { System.dealloc(self.base.as_ptr(), self.layout) };
    }
}
