//! The work of one thread: pairs, queues, replacement, growing blocks. Each `batch` is `count` operations.

use super::{
    calls::Calls,
    table::{Random, Sizes, Table, mixture, scale},
};
use crate::smp::cells::{Cell, Kind};

const PAGE: usize = 4096;
const WORD: usize = size_of::<usize>();

/// A cell's work with what it holds between batches.
pub struct One {
    cell: Cell,
    table: Table,
    random: Random,
    sizes: Sizes,
    mixture: [usize; 256],
}

impl One {
    pub fn new(cell: &Cell) -> Self {
        Self {
            table: Table::new(cell.live),
            random: Random::new(cell.seed),
            sizes: Sizes::new(cell),
            mixture: mixture(cell.seed),
            cell: cell.clone(),
        }
    }

    /// So many operations.
    #[inline(never)]
    pub fn batch<C: Calls>(&mut self, calls: &mut C, count: usize) {
        match self.cell.kind {
            Kind::Touched => self.touched(calls, count),
            Kind::Lifo => self.lifo(calls, count),
            Kind::Fifo => self.fifo(calls, count),
            Kind::Replace => self.replace(calls, count),
            Kind::Mixed => self.mixed(calls, count),
            Kind::Realloc => self.grow(calls, count),
            Kind::ReallocPages => self.grow_pages(calls, count),
            Kind::Calloc => self.zeroed(calls, count),
            _ => self.pair(calls, count),
        }
    }

    fn pair<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let size = self.cell.size;
        for number in 0..count {
            let block = calls.malloc(size);
            write(block, 0, number);
            // SAFETY: made above.
            unsafe { calls.free(block) };
        }
    }

    fn touched<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let size = self.cell.size;
        for number in 0..count {
            let block = calls.malloc(size);
            touch(block, 0, size, number);
            // SAFETY: made above.
            unsafe { calls.free(block) };
        }
    }

    fn lifo<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let (size, live) = (self.cell.size, self.table.entries());
        for number in 0..count / live.len().max(1) {
            for entry in live.iter_mut() {
                *entry = calls.malloc(size);
                write(*entry, 0, number);
            }
            for entry in live.iter_mut().rev() {
                // SAFETY: made above.
                unsafe { calls.free(*entry) };
                *entry = std::ptr::null_mut();
            }
        }
    }

    fn fifo<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let size = self.cell.size;
        let live = self.table.entries();
        for number in 0..count / live.len().max(1) {
            for entry in live.iter_mut() {
                // SAFETY: null, or made a round ago.
                unsafe { calls.free(*entry) };
                *entry = calls.malloc(size);
                write(*entry, 0, number);
            }
        }
    }

    fn replace<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let (sizes, live) = (self.sizes, self.table.entries());
        let mut random = self.random.clone();
        for number in 0..count {
            let next = random.next();
            let entry = &mut live[scale(next, self.cell.live)];
            // SAFETY: null, or made by the last step that came here.
            unsafe { calls.free(*entry) };
            *entry = calls.malloc(sizes.pick(next));
            write(*entry, 0, number);
        }
        self.random = random;
    }

    /// Fills every place that blocks are replaced in, so that no batch starts with fewer blocks than another.
    pub fn fill<C: Calls>(&mut self, calls: &mut C) {
        if !matches!(self.cell.kind, Kind::Replace | Kind::Mixed) {
            return;
        }
        let (sizes, mixed) = (self.sizes, self.cell.kind == Kind::Mixed);
        for entry in self.table.entries() {
            let next = self.random.next();
            let size = if mixed { self.mixture[(next >> 56) as usize] } else { sizes.pick(next) };
            *entry = calls.malloc(size);
            write(*entry, 0, size);
        }
    }

    fn mixed<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let live = self.table.entries();
        let mut random = self.random.clone();
        for number in 0..count {
            let next = random.next();
            // Short, middle and long lives; 64 + 4,096 + 32,768 places.
            let place = match (next >> 24) & 0xFF {
                0..179 => (next >> 32) & 0x3F,
                179..243 => 64 + ((next >> 32) & 0xFFF),
                _ => 64 + 4096 + ((next >> 32) & 0x7FFF),
            };
            let entry = &mut live[place as usize];
            // SAFETY: null, or made by the last step that came here.
            unsafe { calls.free(*entry) };
            *entry = calls.malloc(self.mixture[(next >> 56) as usize]);
            write(*entry, 0, number);
        }
        self.random = random;
    }

    fn grow<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let mut steps = 0;
        while steps < count {
            let mut size = self.cell.size;
            let mut block = calls.malloc(size);
            while size < self.cell.size_max {
                size = (size + size / 2).next_multiple_of(WORD).min(self.cell.size_max);
                // SAFETY: made above or by the last step.
                block = unsafe { calls.realloc(block, size) };
                write(block, size - WORD, steps);
                steps += 1;
            }
            // SAFETY: of the last step.
            unsafe { calls.free(block) };
        }
    }

    fn grow_pages<C: Calls>(&mut self, calls: &mut C, count: usize) {
        for number in 0..count {
            let mut size = self.cell.size;
            let mut block = calls.malloc(size);
            touch(block, 0, size, number);
            while size < self.cell.size_max {
                // SAFETY: made above or by the last step.
                block = unsafe { calls.realloc(block, 2 * size) };
                touch(block, size, 2 * size, number);
                size *= 2;
            }
            // SAFETY: of the last step.
            unsafe { calls.free(block) };
        }
    }

    fn zeroed<C: Calls>(&mut self, calls: &mut C, count: usize) {
        let size = self.cell.size;
        for number in 1..=count {
            let block = calls.calloc(size);
            for offset in [0, size - WORD] {
                if read(block, offset) != 0 {
                    eprintln!("calloc handed out a block that is not zero");
                    std::process::exit(4);
                }
                write(block, offset, number);
            }
            // SAFETY: made above.
            unsafe { calls.free(block) };
        }
    }
}

/// Writes a word at `offset` of a block, which every caller knows to reach so far.
#[inline(always)]
pub fn write(block: *mut u8, offset: usize, word: usize) {
    let place = block.wrapping_add(offset).cast::<usize>();
    // SAFETY: every caller passes a live block that holds a word there; `malloc` aligns to 16, offsets to 8.
    unsafe { place.write_volatile(word) };
}

#[inline(always)]
fn read(block: *mut u8, offset: usize) -> usize {
    let place = block.wrapping_add(offset).cast::<usize>();
    // SAFETY: as in `write`; the callers pass blocks that `calloc` made.
    unsafe { place.read_volatile() }
}

/// A word in each page from `from` to `to`.
pub fn touch(block: *mut u8, from: usize, to: usize, word: usize) {
    (from..to).step_by(PAGE).for_each(|offset| write(block, offset, word));
}
