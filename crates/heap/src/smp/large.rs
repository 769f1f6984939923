//! [`Book`]: address, length and alignment of every large block.
//!
//! ```text
//!   hash(address) ──▶ │ ∅ │ address|log2, len │ address|log2, len │ ∅ │ …     linear probing, without tombstones
//! ```
//!
//! Large blocks are the backing's own. They are written down so that they can be freed by their address alone, be
//! told from strangers, and go back when the allocator ends.
//!
//! - **I1** An entry is a live block of the backing; its address is a multiple of [`PAGE`], whose low bits hold the
//!   alignment's logarithm. An address of 0 is no entry.
//! - **I2** `entries + reserved` is less than the table's places, so that every probe ends. Past three quarters a larger table
//!   is asked for, after the block that needed it has come: so no refusal comes behind a grant (clause 3), and a table that is
//!   refused only makes probes longer.
//! - **I3** A block is struck before it goes back or moves, and entered after it came: the backing may give the
//!   address to somebody else at once.
//!
//! Cost: a multiplication and about one line of memory; 16 bytes a block, a third of the table empty.

use core::{
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use terrace_core::Alignment;

use super::class::PAGE;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry {
    tagged: usize,
    len: usize,
}

/// A large block as it was asked of the backing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Large {
    pub(crate) len: NonZeroUsize,
    pub(crate) alignment: Alignment,
}

/// What is known of the large blocks, to be kept behind a lock.
pub(crate) struct Book {
    /// Null while `first` is the table.
    table: *mut Entry,
    /// Places, a power of two.
    places: usize,
    /// So that few large blocks cost the backing no request but their own.
    first: [Entry; FIRST],
    entries: usize,
    reserved: usize,
    /// Whether the last larger table that was asked for was refused.
    refused: bool,
    pub(crate) bytes: usize,
}

// SAFETY: the table is the book's, and nobody else's.
unsafe impl Send for Book {}

const FIRST: usize = 32;
const NONE: Entry = Entry { tagged: 0, len: 0 };

impl Book {
    pub(crate) const ALIGNMENT: Alignment = Alignment::of::<Entry>();

    pub(crate) const fn new() -> Self {
        Self {
            table: ptr::null_mut(),
            places: FIRST,
            first: [NONE; FIRST],
            entries: 0,
            reserved: 0,
            refused: false,
            bytes: 0,
        }
    }

    /// Keeps a place for a block that is still to be asked for. `Err`: there is none; where a table of so many bytes may
    /// be had it is to be [installed](Self::install) first, for many have come at once.
    pub(crate) fn reserve(&mut self) -> Result<(), Option<NonZeroUsize>> {
        if self.entries + self.reserved + 1 >= self.places {
            return Err(if self.refused { None } else { self.larger() });
        }
        self.reserved += 1;
        Ok(())
    }

    /// Notes that a larger table was refused.
    pub(crate) fn note_refused(&mut self) {
        self.refused = true;
    }

    /// Gives up a place that was [reserved](Self::reserve).
    pub(crate) fn give_up(&mut self) {
        self.reserved -= 1;
    }

    /// The bytes of a larger table, where one is to be [installed](Self::install) now.
    pub(crate) fn wanted(&self) -> Option<NonZeroUsize> {
        if (self.entries + self.reserved) * 4 > self.places * 3 { self.larger() } else { None }
    }

    fn larger(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.places * 2 * size_of::<Entry>())
    }

    /// Takes a larger table; what is to be given back comes out: the former table, or this one if the book's is as large.
    ///
    /// # Safety
    /// A block of `bytes` bytes that the book keeps unless it comes out again.
    pub(crate) unsafe fn install(
        &mut self,
        memory: NonNull<u8>,
        bytes: NonZeroUsize,
    ) -> Option<(NonNull<u8>, NonZeroUsize)> {
        let places = bytes.get() / size_of::<Entry>();
        if places <= self.places {
            return Some((memory, bytes));
        }
        let new = memory.cast::<Entry>().as_ptr();
        // SAFETY: the table has so many places.
        unsafe { new.write_bytes(0, places) };
        let (former, former_places) = (self.table, self.places);
        for entry in (0..former_places).map(|place| self.at(place)).filter(|entry| entry.tagged != 0) {
            let mut place = place_of(entry.tagged, places);
            loop {
                // SAFETY: within the new table.
                let to = unsafe { new.add(place) };
                // SAFETY: within the new table, which is initialised.
                if unsafe { *to }.tagged == 0 {
                    // SAFETY: within the new table.
                    unsafe { *to = entry };
                    break;
                }
                place = (place + 1) & (places - 1);
            }
        }
        (self.table, self.places, self.refused) = (new, places, false);
        let former_bytes = NonZeroUsize::new(former_places * size_of::<Entry>())?;
        Some((NonNull::new(former)?.cast(), former_bytes))
    }

    /// Enters a block for which a place was [reserved](Self::reserve).
    pub(crate) fn enter(&mut self, address: NonNull<u8>, large: Large) {
        debug_assert!(self.reserved > 0 && address.addr().get().is_multiple_of(PAGE));
        self.reserved -= 1;
        self.bytes += large.len.get();
        address.expose_provenance(); // For `block`, when the allocator ends.
        self.put(Entry { tagged: address.addr().get() | large.alignment.log2() as usize, len: large.len.get() });
    }

    /// Strikes a block; with `keep_room`, room stays reserved for one.
    pub(crate) fn strike(&mut self, address: NonNull<u8>, keep_room: bool) -> Option<Large> {
        let mut hole = self.find(address)?;
        let entry = self.at(hole);
        self.entries -= 1;
        self.reserved += usize::from(keep_room);
        self.bytes -= entry.len;
        // What stands behind the hole without a gap moves up, where that is nearer to its own place.
        let mut next = hole;
        loop {
            next = (next + 1) & (self.places - 1);
            let moved = self.at(next);
            if moved.tagged == 0 {
                break;
            }
            let distance = next.wrapping_sub(place_of(moved.tagged, self.places)) & (self.places - 1);
            if distance >= (next.wrapping_sub(hole) & (self.places - 1)) {
                self.set(hole, moved);
                hole = next;
            }
        }
        self.set(hole, NONE);
        large_of(entry)
    }

    /// Looks a block up.
    pub(crate) fn get(&self, address: NonNull<u8>) -> Option<Large> {
        self.find(address).and_then(|place| large_of(self.at(place)))
    }

    /// Changes the length of a block that stays where it is.
    pub(crate) fn set_len(&mut self, address: NonNull<u8>, len: NonZeroUsize) {
        if let Some(place) = self.find(address) {
            let entry = self.at(place);
            self.bytes = self.bytes - entry.len + len.get();
            self.set(place, Entry { len: len.get(), ..entry });
        }
    }

    /// Places of the table: so many steps take the book's end through all blocks.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// The block that stands at a place, for the book's end: it stays there, so that nothing has to move up.
    pub(crate) fn block(&self, place: usize) -> Option<(usize, Large)> {
        let entry = self.at(place);
        (entry.tagged != 0).then_some(entry.tagged & !(PAGE - 1)).zip(large_of(entry))
    }

    /// Takes the table out, to be given back.
    pub(crate) fn pop_table(&mut self) -> Option<(NonNull<u8>, NonZeroUsize)> {
        let table = NonNull::new(self.table)?;
        let bytes = NonZeroUsize::new(self.places * size_of::<Entry>())?;
        *self = Self::new();
        Some((table.cast(), bytes))
    }

    fn put(&mut self, entry: Entry) {
        let mut place = place_of(entry.tagged, self.places);
        while self.at(place).tagged != 0 {
            place = (place + 1) & (self.places - 1);
        }
        self.set(place, entry);
        self.entries += 1;
    }

    fn find(&self, address: NonNull<u8>) -> Option<usize> {
        let address = address.addr().get();
        if !address.is_multiple_of(PAGE) {
            return None;
        }
        let mut place = place_of(address, self.places);
        loop {
            match self.at(place).tagged {
                0 => return None,
                tagged if tagged & !(PAGE - 1) == address => return Some(place),
                _ => place = (place + 1) & (self.places - 1),
            }
        }
    }

    fn table(&self) -> *const Entry {
        if self.table.is_null() { self.first.as_ptr() } else { self.table }
    }

    fn at(&self, place: usize) -> Entry {
        debug_assert!(place < self.places);
        // SAFETY: within the table.
        let entry = unsafe { self.table().add(place) };
        // SAFETY: written by `new` or `install`, and after.
        unsafe { *entry }
    }

    fn set(&mut self, place: usize, to: Entry) {
        debug_assert!(place < self.places);
        let table = if self.table.is_null() { self.first.as_mut_ptr() } else { self.table };
        // SAFETY: within the table.
        let entry = unsafe { table.add(place) };
        // SAFETY: within the table.
        unsafe { *entry = to };
    }
}

/// Where an entry would stand in an empty table. Fibonacci hashing: the middle bits of a product with 2⁶⁴ / φ.
fn place_of(tagged: usize, places: usize) -> usize {
    let product = ((tagged / PAGE) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (product >> 32) as usize & (places - 1)
}

fn large_of(entry: Entry) -> Option<Large> {
    let alignment = Alignment::from_log2((entry.tagged % PAGE) as u32)?;
    Some(Large { len: NonZeroUsize::new(entry.len)?, alignment })
}
