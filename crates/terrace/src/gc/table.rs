//! [`Table`]: where a heap's cells are, and what is known of each, in bits.
//!
//! ```text
//! one block: the table                                            one block a chunk, where it has an object
//! +-------------+-------------+-------------+-----------------+   +----------------------+
//! | live        | marked      | grey        | chunks          |──▶| serial, value        |  × CELLS
//! | 8 words a   |             |             | a pointer, or   |   +----------------------+
//! | chunk       |             |             | null            |
//! +-------------+-------------+-------------+-----------------+
//! ```
//!
//! The bitmaps of all chunks lie side by side, so that a sweep goes over them without a gap.
//!
//! - **T1** `memory` is null and `len` 0, or a block of [`words(len)`](words) words of the heap's backing, all of them initialised.
//! - **T2** A chunk's pointer is null, and its live bits 0, or a block of [`CELLS`] cells of the backing.
//! - **T3** Where a live bit is set, the cell is initialised, its value too.

use core::{
    marker::PhantomData,
    mem,
    ptr::{self, NonNull},
    slice,
};

use terrace_core::{AllocError, Allocator, AllocatorExt};

use super::{Cell, Tracked};

/// Words of each bitmap for a chunk.
pub(super) const WORDS: usize = 8;
/// Cells of a chunk.
pub(super) const CELLS: usize = WORDS * 64;
/// Chunks of the first table.
const FIRST: usize = 4;

/// Words of a table of `chunks` chunks: three bitmaps, and the pointers.
const fn words(chunks: usize) -> Option<usize> {
    chunks.checked_mul(3 * WORDS + 1)
}

pub(super) struct Table<T> {
    memory: *mut u64,
    /// Chunks.
    len: usize,
    of: PhantomData<T>,
}

/// The bitmaps, while objects are traced.
pub(super) struct Bitmaps<'a> {
    pub live: &'a [u64],
    pub marked: &'a mut [u64],
    pub grey: &'a mut [u64],
}

/// The cells of all chunks, to be read.
pub(super) struct Cells<'a, T>(&'a [*mut Cell<T>]);

impl<'a, T> Cells<'a, T> {
    /// The object, if `live` says that it is there.
    pub fn get(&self, live: &[u64], object: Tracked<T>) -> Option<&'a T> {
        let cell = self.cell(live, object.cell)?;
        // SAFETY: T3.
        (cell.serial == object.serial.get()).then(|| unsafe { cell.value.assume_init_ref() })
    }

    /// The value of the cell of this number, if `live` says that it has one.
    pub fn value(&self, live: &[u64], cell: usize) -> Option<&'a T> {
        // SAFETY: T3.
        self.cell(live, cell).map(|cell| unsafe { cell.value.assume_init_ref() })
    }

    fn cell(&self, live: &[u64], cell: usize) -> Option<&'a Cell<T>> {
        let is_live = live.get(cell / 64)? & (1 << (cell % 64)) != 0;
        let start = self.0[cell / CELLS];
        // SAFETY: T2 and T3: within a chunk, initialised; nobody changes it while the table is borrowed.
        is_live.then(|| unsafe { &*start.wrapping_add(cell % CELLS) })
    }
}

impl<T> Table<T> {
    pub const fn new() -> Self {
        Self { memory: ptr::null_mut(), len: 0, of: PhantomData }
    }

    /// Chunks, with memory or without.
    pub const fn chunks(&self) -> usize {
        self.len
    }

    /// One of the bitmaps.
    fn map(&self, which: usize) -> *mut u64 {
        let map = self.memory.wrapping_add(which * self.len * WORDS);
        if map.is_null() { NonNull::dangling().as_ptr() } else { map }
    }

    pub fn live(&self) -> &[u64] {
        // SAFETY: T1.
        unsafe { slice::from_raw_parts(self.map(0), self.len * WORDS) }
    }

    pub fn live_mut(&mut self) -> &mut [u64] {
        // SAFETY: T1.
        unsafe { slice::from_raw_parts_mut(self.map(0), self.len * WORDS) }
    }

    pub fn marked(&self) -> &[u64] {
        // SAFETY: T1.
        unsafe { slice::from_raw_parts(self.map(1), self.len * WORDS) }
    }

    pub fn live_and_marked(&mut self) -> (&mut [u64], &mut [u64]) {
        let both = self.len * WORDS;
        // SAFETY: T1: the two lie one behind the other.
        unsafe { slice::from_raw_parts_mut(self.map(0), 2 * both) }.split_at_mut(both)
    }

    /// Everything, for the walk of a marker.
    pub fn parts(&mut self) -> (Cells<'_, T>, Bitmaps<'_>) {
        let each = self.len * WORDS;
        // SAFETY: T1: the three lie one behind the other; the pointers lie behind them.
        let (live, rest) = unsafe { slice::from_raw_parts_mut(self.map(0), 3 * each) }.split_at_mut(each);
        let (marked, grey) = rest.split_at_mut(each);
        // SAFETY: as above.
        let cells = unsafe { slice::from_raw_parts(self.map(3).cast(), self.len) };
        (Cells(cells), Bitmaps { live, marked, grey })
    }

    fn chunk(&mut self, chunk: usize) -> &mut *mut Cell<T> {
        assert!(chunk < self.len);
        // SAFETY: T1: within the pointers, which are no larger than words and initialised: a zero is null.
        unsafe { &mut *self.map(3).cast::<*mut Cell<T>>().wrapping_add(chunk) }
    }

    pub fn get(&self, object: Tracked<T>) -> Option<&T> {
        // SAFETY: T1.
        let cells = unsafe { slice::from_raw_parts(self.map(3).cast(), self.len) };
        Cells(cells).get(self.live(), object)
    }

    pub fn get_mut(&mut self, object: Tracked<T>) -> Option<&mut T> {
        self.get(object)?;
        let start = *self.chunk(object.cell / CELLS);
        // SAFETY: T2 and T3: it is there, as `get` has seen; `&mut self`: nobody else is at it.
        let cell = unsafe { &mut *start.wrapping_add(object.cell % CELLS) };
        // SAFETY: as above.
        Some(unsafe { cell.value.assume_init_mut() })
    }

    /// Writes a cell of a chunk with memory, which has no value.
    pub fn write(&mut self, cell: usize, content: Cell<T>) {
        let start = *self.chunk(cell / CELLS);
        assert!(!start.is_null());
        // SAFETY: T2: within a chunk.
        unsafe { start.wrapping_add(cell % CELLS).write(content) };
    }

    /// Ends the value of a cell whose live bit is taken away, or never looked at again.
    pub fn drop_value(&mut self, cell: usize) {
        let start = *self.chunk(cell / CELLS);
        // SAFETY: T2 and T3: the caller, the sweep, saw its live bit.
        let of_cell = unsafe { &mut *start.wrapping_add(cell % CELLS) };
        // SAFETY: as above; once, since the bit has gone.
        unsafe { of_cell.value.assume_init_drop() };
    }

    /// Memory for a chunk, where it has none.
    pub fn have_cells<A: Allocator>(&mut self, chunk: usize, backing: &A) -> Result<(), AllocError> {
        if self.chunk(chunk).is_null() {
            *self.chunk(chunk) = backing.alloc_slice::<Cell<T>>(CELLS)?.cast::<Cell<T>>().as_ptr();
        }
        Ok(())
    }

    /// Gives a chunk's memory back, where it has any. None of its cells has a value.
    pub fn free_cells<A: Allocator>(&mut self, chunk: usize, backing: &A) {
        let start = mem::replace(self.chunk(chunk), ptr::null_mut());
        if let Some(start) = NonNull::new(start) {
            // SAFETY: T2; its pointer has gone.
            unsafe { backing.free_slice(NonNull::slice_from_raw_parts(start, CELLS)) };
        }
    }

    /// Twice as many chunks.
    pub fn grow<A: Allocator>(&mut self, backing: &A) -> Result<(), AllocError> {
        let len = self.len.checked_mul(2).ok_or(AllocError)?.max(FIRST);
        let memory = backing.alloc_slice_zeroed::<u64>(words(len).ok_or(AllocError)?)?;
        let new = Self { memory: memory.cast().as_ptr(), len, ..Self::new() };
        // SAFETY: T1, of both; two blocks. The other bitmaps do not matter between collections (G2).
        unsafe { ptr::copy_nonoverlapping(self.map(0), new.map(0), self.len * WORDS) };
        let (from, to) = (self.map(3).cast::<*mut Cell<T>>(), new.map(3).cast::<*mut Cell<T>>());
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(from, to, self.len) };
        self.free(backing);
        *self = new;
        Ok(())
    }

    /// Gives the table's own block back.
    pub fn free<A: Allocator>(&mut self, backing: &A) {
        if let (Some(memory), Some(words)) = (NonNull::new(self.memory), words(self.len)) {
            // SAFETY: T1; nobody uses it from now on.
            unsafe { backing.free_slice(NonNull::slice_from_raw_parts(memory, words)) };
        }
        *self = Self::new();
    }
}
