//! [`Table`]: the records of all blocks, by address, apart from the memory that they describe.
//!
//! ```text
//! one block of the backing, none for the first blocks (`Few`)
//! +-----------------------+-------------------+---------------------------------+
//! | records: Option       | keys: addresses   | traces: 2 × frames words each   |
//! +-----------------------+-------------------+---------------------------------+
//!   seat i                  seat i, 0 = empty   seat i: of the alloc, of the free
//! ```
//!
//! Open addressing with linear probing; a removal moves the rest of its run up, so that no grave is ever left. The table asks
//! nobody for memory: whoever owns it brings a larger block when [`Table::is_full`] says so, or fills this one as long as it
//! [has room](Table::has_room).
//!
//! - **I1** `memory` is null, or a block of the owner's backing of [`Table::bytes`] bytes, whose parts are initialised.
//! - **I2** A key is not 0 exactly where the record is there, and is its address.
//! - **I3** At least one seat is empty, and no empty seat lies between a record's home and its seat.
//!
//! Cost: at most three quarters full, unless a larger block was refused; a look-up touches the keys of its run, one cache line as a rule.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
    slice,
};

use terrace_core::Alignment;

use super::{config::MAX_FRAMES, record::Record};

/// Seats before the first block of the backing's.
const FEW: usize = 4;
const FEW_LOG2: u32 = FEW.trailing_zeros();

/// Which of a block's two traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Allocated = 0,
    Freed = 1,
}

pub(super) struct Table {
    memory: *mut u8,
    log2: u32,
    len: usize,
    /// Words of a trace.
    frames: usize,
    records: [Option<Record>; FEW],
    keys: [usize; FEW],
    traces: [usize; FEW * 2 * MAX_FRAMES],
}

// SAFETY: by I1 the memory is the table's alone; the records' bases may go where they go.
unsafe impl Send for Table {}

/// The three parts of a table, seat by seat.
struct Parts<'a> {
    records: &'a mut [Option<Record>],
    keys: &'a mut [usize],
    traces: &'a mut [usize],
}

impl Table {
    /// Of the block that holds a table.
    pub const ALIGNMENT: Alignment = Alignment::of::<Option<Record>>();

    /// Without blocks, for traces of `frames` words, at most [`MAX_FRAMES`].
    pub const fn new(frames: usize) -> Self {
        Self {
            memory: ptr::null_mut(),
            log2: FEW_LOG2,
            len: 0,
            frames,
            records: [None; FEW],
            keys: [0; FEW],
            traces: [0; FEW * 2 * MAX_FRAMES],
        }
    }

    /// Records that are there.
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn seats(&self) -> usize {
        1 << self.log2
    }

    /// Whether one more record, beside `promised` ones, would fill more than three quarters.
    pub const fn is_full(&self, promised: usize) -> bool {
        self.len + promised + 1 > self.seats() - self.seats() / 4
    }

    /// Whether there is a seat for one more record, beside `promised` ones (I3).
    pub const fn has_room(&self, promised: usize) -> bool {
        self.len + promised + 1 < self.seats()
    }

    /// Whether it has fewer than two to the power of `log2` seats.
    pub const fn is_below(&self, log2: u32) -> bool {
        self.log2 < log2
    }

    /// The next size, and the bytes of a block that holds a table of that size.
    pub fn next_size(&self) -> Option<(u32, NonZeroUsize)> {
        let log2 = (self.log2 + 1).max(6);
        Some((log2, NonZeroUsize::new(self.bytes(log2)?)?))
    }

    fn bytes(&self, log2: u32) -> Option<usize> {
        let seats = 1usize.checked_shl(log2)?;
        let each = size_of::<Option<Record>>() + (1 + 2 * self.frames) * size_of::<usize>();
        seats.checked_mul(each)
    }

    /// The block that holds the table; `None`: there is none.
    pub fn memory(&self) -> Option<NonNull<[u8]>> {
        let start = NonNull::new(self.memory)?;
        Some(NonNull::slice_from_raw_parts(start, self.bytes(self.log2)?))
    }

    /// Moves into a block of [`next_size`](Self::next_size), and gives up the old one.
    ///
    /// # Safety
    /// `memory` is a live block of the owner's backing of so many bytes, aligned to [`ALIGNMENT`](Self::ALIGNMENT), and the table's from
    /// now on; `log2` is above that of now. What comes back is the owner's.
    pub unsafe fn move_to(&mut self, memory: NonNull<u8>, log2: u32) -> Option<NonNull<[u8]>> {
        let seats = 1usize << log2;
        let records = memory.cast::<Option<Record>>();
        for seat in 0..seats {
            // SAFETY: within the records' part of the block.
            let record = unsafe { records.add(seat) };
            // SAFETY: writable, and aligned by the caller's promise.
            unsafe { record.write(None) };
        }
        // SAFETY: the words begin where the records end, within the block.
        let words = unsafe { records.add(seats) }.cast::<usize>();
        // SAFETY: so many words are left, aligned since records are at least as strictly so.
        unsafe { words.write_bytes(0, seats * (1 + 2 * self.frames)) };

        let mut new = Self::new(self.frames);
        new.memory = memory.as_ptr();
        new.log2 = log2;
        for seat in 0..self.seats() {
            if let Some(record) = self.at(seat) {
                let home = new.insert(record);
                for which in [Which::Allocated, Which::Freed] {
                    new.trace_mut(home, which).copy_from_slice(self.trace(seat, which));
                }
            }
        }
        let old = self.memory();
        *self = new;
        old
    }

    /// Forgets everything and gives up its block.
    pub fn take(&mut self) -> Option<NonNull<[u8]>> {
        let old = self.memory();
        *self = Self::new(self.frames);
        old
    }

    fn words(&self) -> *mut usize {
        // By I1 the words begin where the records end; the sum was formed when the block was asked for.
        self.memory.wrapping_add(size_of::<Option<Record>>() << self.log2).cast()
    }

    fn keys(&self) -> &[usize] {
        if self.memory.is_null() {
            return &self.keys;
        }
        // SAFETY: by I1 initialised, and nobody's but ours.
        unsafe { slice::from_raw_parts(self.words(), self.seats()) }
    }

    fn parts(&mut self) -> Parts<'_> {
        if self.memory.is_null() {
            return Parts { records: &mut self.records, keys: &mut self.keys, traces: &mut self.traces };
        }
        let (seats, words) = (self.seats(), self.words());
        // SAFETY: by I1 initialised, and nobody's but ours.
        let records = unsafe { slice::from_raw_parts_mut(self.memory.cast(), seats) };
        // SAFETY: as above.
        let keys = unsafe { slice::from_raw_parts_mut(words, seats) };
        // SAFETY: as above; the three parts lie one behind the other.
        let traces = unsafe { slice::from_raw_parts_mut(words.wrapping_add(seats), seats * 2 * self.frames) };
        Parts { records, keys, traces }
    }

    /// What sits at `seat`.
    pub fn at(&self, seat: usize) -> &Option<Record> {
        if self.memory.is_null() {
            return &self.records[seat];
        }
        assert!(seat < self.seats());
        // SAFETY: by I1 initialised, and nobody's but ours.
        unsafe { &*self.memory.cast::<Option<Record>>().wrapping_add(seat) }
    }

    /// The record at `seat`, to be changed in all but its address.
    pub fn at_mut(&mut self, seat: usize) -> Option<&mut Record> {
        self.parts().records.get_mut(seat)?.as_mut()
    }

    /// The words of a trace; ends with a 0 where it is shorter.
    pub fn trace(&self, seat: usize, which: Which) -> &[usize] {
        let start = (2 * seat + which as usize) * self.frames;
        if self.memory.is_null() {
            return &self.traces[start..start + self.frames];
        }
        assert!(seat < self.seats());
        // SAFETY: by I1 initialised, and nobody's but ours.
        unsafe { slice::from_raw_parts(self.words().wrapping_add(self.seats() + start), self.frames) }
    }

    pub fn trace_mut(&mut self, seat: usize, which: Which) -> &mut [usize] {
        let start = (2 * seat + which as usize) * self.frames;
        let frames = self.frames;
        &mut self.parts().traces[start..start + frames]
    }

    /// Where a block that begins at `address` sits.
    #[inline]
    pub fn find(&self, address: usize) -> Option<usize> {
        let (seat, taken) = self.probe(address);
        taken.then_some(seat)
    }

    /// The seat of `address`, or the empty one at the end of its run.
    #[inline]
    fn probe(&self, address: usize) -> (usize, bool) {
        let (keys, mask) = (self.keys(), self.seats() - 1);
        let mut seat = self.home(address);
        loop {
            match keys[seat] {
                0 => return (seat, false), // By I3 reached in the end.
                key if key == address => return (seat, true),
                _ => seat = (seat + 1) & mask,
            }
        }
    }

    /// Fibonacci hashing: blocks lie at multiples of their alignment, so their low bits say little.
    #[inline]
    fn home(&self, address: usize) -> usize {
        let mixed = (address as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> (u64::BITS - self.log2)) as usize
    }

    /// Seats a record, in the place of another with its address if there is one; its traces are empty. The table has room.
    pub fn insert(&mut self, record: &Record) -> usize {
        let (seat, taken) = self.probe(record.address);
        self.len += usize::from(!taken);
        let frames = self.frames;
        let parts = self.parts();
        parts.records[seat] = Some(*record);
        parts.keys[seat] = record.address;
        let (start, end) = (2 * seat * frames, 2 * (seat + 1) * frames);
        parts.traces[start..end].fill(0);
        seat
    }

    /// Removes the record at `seat`.
    pub fn remove(&mut self, seat: usize) {
        let (mask, frames) = (self.seats() - 1, self.frames);
        self.len -= 1;
        let (mut hole, mut next) = (seat, (seat + 1) & mask);
        while self.keys()[next] != 0 {
            // The one at `next` may move up where its home does not lie behind the hole.
            let from_home = next.wrapping_sub(self.home(self.keys()[next])) & mask;
            if from_home >= (next.wrapping_sub(hole) & mask) {
                let parts = self.parts();
                parts.records[hole] = parts.records[next];
                parts.keys[hole] = parts.keys[next];
                let start = 2 * next * frames;
                parts.traces.copy_within(start..start + 2 * frames, 2 * hole * frames);
                hole = next;
            }
            next = (next + 1) & mask;
        }
        let parts = self.parts();
        parts.records[hole] = None;
        parts.keys[hole] = 0;
    }
}
