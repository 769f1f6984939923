//! [`Heap`]: tracked objects for a garbage collector, marked and swept when the memory beneath is under pressure.
//!
//! ```text
//!   interpreter ── track(value) ──▶ Heap ── chunks of cells ──▶ PressureAllocator ──▶ any backing
//!        │  ◀── Tracked (a number)   │                            ▲          │ 1 MiB, then twice what is live
//!        └── strings, tables ────────┼────────────────────────────┘          ▼
//!            is_due(), at a safe point ◀──────────────────────────────────  Due, the hook
//! ```
//!
//! Who holds a [`Tracked`] holds a number, which the heap looks up: no pointer dangles. An object lives as long as it is reached from the
//! roots at each collection; a number that is kept without telling [`Trace`] of it is a weak reference, and answers `None` when its
//! object has gone.
//!
//! Everything that counts as pressure goes through the same [`PressureAllocator`]: the objects' cells, and what they own, where
//! their collections live in it. Its threshold begins at 1 MiB and after a collection is twice what has survived; between
//! twice and once that nothing is told (hysteresis).
//!
//! - **G1** A bit of `live` is set exactly where a cell has a value; a cell's serial is that of its last value, and no two values of a heap
//!   have the same.
//! - **G2** Outside of a collection `marked` and `grey` do not matter; a collection begins by emptying them.
//!
//! Costs: an object takes its own bytes and 8, and three bits; a look-up two loads and a compare. A collection touches the cells of what lives
//! and of what is swept, once each; the bitmaps are gone through as wide as the machine can ([`crate::memops::bits`]).

mod due;
mod mark;
mod table;

use core::{fmt, marker::PhantomData, mem::MaybeUninit, num::NonZeroU64};

use terrace_core::Allocator;
use terrace_heap::{Pressure, PressureAllocator};
use terrace_memops::bits;

pub use self::{due::Due, mark::Marker};
use self::{
    mark::mark_from,
    table::{CELLS, Table, WORDS},
};

/// What a heap holds: it tells of every object that it reaches.
///
/// ```
/// use terrace::gc::{Marker, Trace, Tracked};
///
/// enum Value {
///     Number(f64),
///     Pair(Tracked<Value>, Tracked<Value>),
/// }
///
/// impl Trace for Value {
///     fn trace(&self, marker: &mut Marker<'_, Self>) {
///         if let Self::Pair(first, second) = self {
///             marker.mark(*first);
///             marker.mark(*second);
///         }
///     }
/// }
/// ```
pub trait Trace: Sized {
    /// Marks each object that `self` holds. One that is forgotten here is swept, and its [`Tracked`] answers `None` from then on.
    fn trace(&self, marker: &mut Marker<'_, Self>);
}

/// A tracked object of a [`Heap`], by number.
///
/// Another heap does not know it, but may have an object of the same number: it is to be asked of its own.
pub struct Tracked<T> {
    cell: usize,
    serial: NonZeroU64,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Tracked<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tracked<T> {}

impl<T> PartialEq for Tracked<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.cell, self.serial) == (other.cell, other.serial)
    }
}

impl<T> Eq for Tracked<T> {}

impl<T> fmt::Debug for Tracked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracked({})", self.serial)
    }
}

/// A place for an object.
struct Cell<T> {
    /// Of the value that is here, or was last.
    serial: u64,
    value: MaybeUninit<T>,
}

/// What a heap has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Objects now.
    pub tracked: usize,
    /// Objects ever.
    pub total_tracked: u64,
    /// Objects that collections have ended.
    pub total_swept: u64,
    /// Collections.
    pub collections: u64,
}

/// What one collection has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collection {
    /// Objects that the roots reach.
    pub survived: usize,
    /// Objects that have ended.
    pub swept: usize,
    /// Bytes live in the allocator beneath, before
    pub bytes_before: usize,
    /// and after.
    pub bytes_after: usize,
}

/// Tracked objects of type `T`, in memory whose pressure is watched.
///
/// ```
/// use terrace::{PageAllocator, PressureAllocator, gc::{Due, Heap, Marker, Trace, Tracked}};
///
/// struct Node(Option<Tracked<Node>>);
///
/// impl Trace for Node {
///     fn trace(&self, marker: &mut Marker<'_, Self>) {
///         if let Some(next) = self.0 {
///             marker.mark(next);
///         }
///     }
/// }
///
/// let memory = PressureAllocator::new(PageAllocator, Due::new());
/// let mut heap = Heap::new(&memory);
/// let root = heap.track(Node(None)).map_err(|_| terrace::AllocError)?;
/// let (one, other) = (heap.track(Node(Some(root))).ok().unwrap(), heap.track(Node(None)).ok().unwrap());
/// heap.get_mut(other).unwrap().0 = Some(other); // a cycle of its own
///
/// let done = heap.collect([one]);
/// assert_eq!((done.survived, done.swept), (2, 1));
/// assert!(heap.get(root).is_some() && heap.get(other).is_none());
/// # Ok::<(), terrace::AllocError>(())
/// ```
///
/// What must not compile: an object that is held during a collection,
///
/// ```compile_fail,E0502
/// # use terrace::{PageAllocator, gc::{Heap, Trace, Tracked}};
/// fn swept_under_a_reader<T: Trace>(heap: &mut Heap<'_, T, PageAllocator>, object: Tracked<T>) -> bool {
///     let held = heap.get(object);
///     heap.collect([]);
///     held.is_some()
/// }
/// ```
///
/// or one whose `drop` would look at what has gone before the heap:
///
/// ```compile_fail,E0597
/// # use terrace::{PageAllocator, PressureAllocator, gc::{Due, Heap, Marker, Trace}};
/// struct Named<'n>(&'n str);
/// impl Trace for Named<'_> {
///     fn trace(&self, _: &mut Marker<'_, Self>) {}
/// }
/// let memory = PressureAllocator::new(PageAllocator, Due::new());
/// let mut heap = Heap::new(&memory);
/// let name = String::from("red");
/// let _ = heap.track(Named(&name));
/// ```
pub struct Heap<'a, T: Trace, A: Allocator, F: Fn(&Pressure) = fn(&Pressure)> {
    backing: &'a PressureAllocator<A, Due<F>>,
    table: Table<T>,
    /// No cell of a word before this one is free.
    first_free: usize,
    serial: u64,
    stats: HeapStats,
}

impl<'a, T: Trace, A: Allocator, F: Fn(&Pressure)> Heap<'a, T, A, F> {
    /// An empty heap; takes no memory before its first object.
    pub const fn new(backing: &'a PressureAllocator<A, Due<F>>) -> Self {
        let stats = HeapStats { tracked: 0, total_tracked: 0, total_swept: 0, collections: 0 };
        Self { backing, table: Table::new(), first_free: 0, serial: 0, stats }
    }

    /// Whether the memory beneath asks for a collection. To be asked where every object in use is reached from the roots.
    pub fn is_due(&self) -> bool {
        self.backing.hook().is_due()
    }

    /// What it has done so far.
    pub fn stats(&self) -> HeapStats {
        self.stats
    }

    /// Keeps `value` as long as it is reached from the roots of every collection.
    ///
    /// # Errors
    /// The value, where there is no memory for a place: after a collection there may be.
    pub fn track(&mut self, value: T) -> Result<Tracked<T>, T> {
        let Some(cell) = self.free_cell() else { return Err(value) };
        self.serial += 1;
        self.table.write(cell, Cell { serial: self.serial, value: MaybeUninit::new(value) });
        self.table.live_mut()[cell / 64] |= 1 << (cell % 64); // G1
        self.stats.tracked += 1;
        self.stats.total_tracked += 1;
        let serial = NonZeroU64::new(self.serial).unwrap_or(NonZeroU64::MIN);
        Ok(Tracked { cell, serial, of: PhantomData })
    }

    /// The object, as long as it lives.
    pub fn get(&self, object: Tracked<T>) -> Option<&T> {
        self.table.get(object)
    }

    /// The object, to be changed, as long as it lives.
    pub fn get_mut(&mut self, object: Tracked<T>) -> Option<&mut T> {
        self.table.get_mut(object)
    }

    /// Ends every object that no root reaches, and gives chunks back in which none is left. Roots that have gone already are passed over.
    ///
    /// Cycles are no matter. It asks for no memory, so it serves when there is none left; and it does not recurse, however long the chains are.
    /// Should a value's `drop` panic, the others are still dropped, and the heap stays usable.
    pub fn collect(&mut self, roots: impl IntoIterator<Item = Tracked<T>>) -> Collection {
        let bytes_before = self.backing.live_bytes();
        mark_from(&mut self.table, roots);
        let swept = self.sweep();
        self.stats.collections += 1;
        self.first_free = 0;
        self.backing.hook().done();
        self.backing.collected();
        Collection { survived: self.stats.tracked, swept, bytes_before, bytes_after: self.backing.live_bytes() }
    }

    fn sweep(&mut self) -> usize {
        let (live, marked) = self.table.live_and_marked();
        bits::and_not(live, marked);
        let swept = bits::count_ones(live);
        live.swap_with_slice(marked); // G1 holds again, before a `drop` is called; the garbage is in `marked` now.
        self.stats.tracked -= swept;
        self.stats.total_swept += swept as u64;
        Dropping { table: &mut self.table, map: Table::marked, from: 0 }.all();
        for chunk in 0..self.table.chunks() {
            if self.table.live()[chunk * WORDS..][..WORDS].iter().all(|word| *word == 0) {
                self.table.free_cells(chunk, self.backing);
            }
        }
        swept
    }

    /// A cell without a value, in memory.
    fn free_cell(&mut self) -> Option<usize> {
        let words = &self.table.live()[self.first_free..];
        let word = self.first_free + words.iter().position(|word| *word != u64::MAX).unwrap_or(words.len());
        self.first_free = word;
        if word == self.table.live().len() {
            self.table.grow(self.backing).ok()?;
        }
        self.table.have_cells(word / WORDS, self.backing).ok()?;
        Some(word * 64 + self.table.live()[word].trailing_ones() as usize)
    }
}

/// Ends the values of the cells that a bitmap names: also those behind one whose `drop` panics, as `Vec` does.
struct Dropping<'t, T> {
    table: &'t mut Table<T>,
    map: fn(&Table<T>) -> &[u64],
    from: usize,
}

impl<T> Dropping<'_, T> {
    fn all(&mut self) {
        while let Some(cell) = bits::first_set_from((self.map)(self.table), self.from) {
            self.from = cell + 1;
            self.table.drop_value(cell);
        }
    }
}

impl<T> Drop for Dropping<'_, T> {
    fn drop(&mut self) {
        self.all();
    }
}

impl<T: Trace, A: Allocator, F: Fn(&Pressure)> Drop for Heap<'_, T, A, F> {
    /// Ends every object, and gives all memory back, also where a value's `drop` panics.
    fn drop(&mut self) {
        let memory = Memory { table: &mut self.table, backing: self.backing };
        Dropping { table: &mut *memory.table, map: Table::live, from: 0 }.all();
    }
}

/// The chunks and the table, which go back when this is dropped.
struct Memory<'t, T, A: Allocator> {
    table: &'t mut Table<T>,
    backing: &'t A,
}

impl<T, A: Allocator> Drop for Memory<'_, T, A> {
    fn drop(&mut self) {
        (0..self.table.chunks()).for_each(|chunk| self.table.free_cells(chunk, self.backing));
        self.table.free(self.backing);
    }
}

impl<T: Trace, A: Allocator, F: Fn(&Pressure)> fmt::Debug for Heap<'_, T, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("stats", &self.stats).field("cells", &(self.table.chunks() * CELLS)).finish()
    }
}
