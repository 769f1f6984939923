//! [`Marker`]: the walk from the roots over all that they reach, without recursion and without memory.
//!
//! ```text
//!   mark ──▶ marked, and on the stack of FEW ──▶ trace, which marks more
//!                       │ full
//!                       ▼
//!                     grey: a bitmap, gone through from its lowest bit when the stack is empty
//! ```
//!
//! - **M1** Every marked object has been traced, is on the stack, is grey, or is the one that is traced now.
//! - **M2** No bit of `grey` below `lowest` is set.
//!
//! Cost: each object once; a look over `grey` for what did not fit onto the stack.
#![forbid(unsafe_code)]

use terrace_memops::bits;

use super::{
    Trace, Tracked,
    table::{Bitmaps, Cells, Table},
};

/// Objects that wait to be traced, beside the grey ones.
const FEW: usize = 128;

/// Is told of objects that are reached.
pub struct Marker<'a, T: Trace> {
    cells: Cells<'a, T>,
    maps: Bitmaps<'a>,
    lowest: usize,
    waiting: [usize; FEW],
    len: usize,
}

impl<T: Trace> Marker<'_, T> {
    /// `object` is reached, so it and all that it reaches survives. One that has gone already is passed over.
    pub fn mark(&mut self, object: Tracked<T>) {
        let (cell, word, bit) = (object.cell, object.cell / 64, 1 << (object.cell % 64));
        if self.cells.get(self.maps.live, object).is_none() || self.maps.marked[word] & bit != 0 {
            return;
        }
        self.maps.marked[word] |= bit;
        match self.waiting.get_mut(self.len) {
            Some(place) => {
                *place = cell;
                self.len += 1;
            }
            None => {
                self.maps.grey[word] |= bit;
                self.lowest = self.lowest.min(cell);
            }
        }
    }

    /// The next object to be traced.
    fn next(&mut self) -> Option<usize> {
        if self.len > 0 {
            self.len -= 1;
            return Some(self.waiting[self.len]);
        }
        let cell = bits::first_set_from(self.maps.grey, self.lowest)?;
        self.maps.grey[cell / 64] &= !(1 << (cell % 64));
        self.lowest = cell;
        Some(cell)
    }

    fn trace_all(&mut self) {
        while let Some(cell) = self.next() {
            if let Some(value) = self.cells.value(self.maps.live, cell) {
                value.trace(self);
            }
        }
    }
}

/// Marks all that `roots` reach, and nothing else.
pub(super) fn mark_from<T: Trace>(table: &mut Table<T>, roots: impl IntoIterator<Item = Tracked<T>>) {
    let (cells, maps) = table.parts();
    maps.marked.fill(0); // G2
    maps.grey.fill(0);
    let mut marker = Marker { cells, maps, lowest: usize::MAX, waiting: [0; FEW], len: 0 };
    for root in roots {
        marker.mark(root);
        marker.trace_all();
    }
}
