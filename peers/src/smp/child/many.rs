//! The work of several threads: replacement side by side, blocks handed over, threads with short lives.
//!
//! Threads are made once and wait between batches, but for those whose life is what is measured.

use std::{
    hint, ptr,
    sync::{
        Arc, Barrier,
        atomic::{
            AtomicPtr, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
};

use super::{
    calls::{Calls, Plain},
    one::{One, write},
    table::{Random, Sizes, Table},
};
use crate::smp::cells::{Cell, Kind};

/// Work that takes several threads.
pub enum Many {
    /// The others wait at the barrier, work, and come to it again.
    Together { barrier: Arc<Barrier> },
    /// The other thread frees what comes through the ring.
    Handover { ring: &'static Ring, size: usize, sent: usize },
    /// Each operation is a thread.
    Births { cell: Cell, table: Table, seed: u64 },
}

impl Many {
    /// Makes the threads, if they are to stay; `count` is the operations of every batch of all together.
    pub fn new(cell: &Cell) -> Self {
        match cell.kind {
            Kind::Handover => {
                let ring: &'static Ring = Box::leak(Box::new(Ring::new()));
                thread::spawn(move || ring.consume());
                Self::Handover { ring, size: cell.size, sent: 0 }
            }
            Kind::Births => Self::Births { cell: cell.clone(), table: Table::new(cell.live), seed: cell.seed },
            _ => {
                let barrier = Arc::new(Barrier::new(cell.threads + 1));
                for number in 0..cell.threads {
                    let (barrier, mut cell) = (Arc::clone(&barrier), cell.clone());
                    cell.seed += 1000 * number as u64;
                    let mut work = One::new(&cell);
                    thread::spawn(move || {
                        work.fill(&mut Plain);
                        loop {
                            barrier.wait();
                            work.batch(&mut Plain, cell.count / cell.threads);
                            barrier.wait();
                        }
                    });
                }
                Self::Together { barrier }
            }
        }
    }

    pub fn batch(&mut self, count: usize) {
        match self {
            Self::Together { barrier } => {
                barrier.wait();
                barrier.wait();
            }
            Self::Handover { ring, size, sent } => {
                for _ in 0..count {
                    let block = Plain.malloc(*size);
                    write(block, 0, *sent);
                    ring.send(*sent, block);
                    *sent += 1;
                }
                ring.drained(*sent);
            }
            Self::Births { cell, table, seed } => {
                for _ in 0..count {
                    *seed += 1;
                    birth(cell, table.entries(), *seed);
                }
            }
        }
    }
}

/// A thread makes the blocks and ends; then this one frees them.
fn birth(cell: &Cell, entries: &mut [*mut u8], seed: u64) {
    let mut life = Life { entries, sizes: Sizes::new(cell), seed };
    let mut thread = 0;
    // SAFETY: `life` lives until the thread is joined below, and nobody else touches it until then.
    let failed = unsafe { libc::pthread_create(&raw mut thread, ptr::null(), live, (&raw mut life).cast()) };
    assert_eq!(failed, 0, "a thread");
    // SAFETY: the thread was made above and is joined once.
    unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    for entry in life.entries {
        // SAFETY: the thread that made it has ended.
        unsafe { Plain.free(*entry) };
    }
}

struct Life<'t> {
    entries: &'t mut [*mut u8],
    sizes: Sizes,
    seed: u64,
}

extern "C" fn live(life: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `birth` passes its own, and does not touch it while this thread runs.
    let life = unsafe { &mut *life.cast::<Life<'_>>() };
    let mut random = Random::new(life.seed);
    for entry in life.entries.iter_mut() {
        *entry = Plain.malloc(life.sizes.pick(random.next()));
        write(*entry, 0, 1);
    }
    ptr::null_mut()
}

const SLOTS: usize = 4096;
/// Blocks between two looks at the other side's counter.
const RUN: usize = 32;

/// A line of its own, so that the two sides' counters do not share one.
#[repr(align(128))]
struct Counter(AtomicUsize);

/// A ring from one thread to one other.
pub struct Ring {
    slots: Vec<AtomicPtr<u8>>,
    sent: Counter,
    freed: Counter,
}

impl Ring {
    fn new() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Self { slots, sent: Counter(AtomicUsize::new(0)), freed: Counter(AtomicUsize::new(0)) }
    }

    #[inline(always)]
    fn send(&self, number: usize, block: *mut u8) {
        if number.is_multiple_of(RUN) {
            wait_until(|| number + RUN - self.freed.0.load(Acquire) <= SLOTS);
        }
        self.slots[number % SLOTS].store(block, Relaxed);
        if (number + 1).is_multiple_of(RUN) {
            // Release: pairs with the Acquire in `consume`, which then sees the slots and the blocks' words.
            self.sent.0.store(number + 1, Release);
        }
    }

    fn drained(&self, sent: usize) {
        self.sent.0.store(sent, Release);
        wait_until(|| self.freed.0.load(Acquire) == sent);
    }

    fn consume(&self) {
        let mut freed = 0;
        loop {
            let mut sent = freed;
            wait_until(|| {
                sent = self.sent.0.load(Acquire);
                sent != freed
            });
            while freed != sent {
                let block = self.slots[freed % SLOTS].load(Relaxed);
                // SAFETY: sent once, and each number is freed once.
                unsafe { Plain.free(block) };
                freed += 1;
                if freed.is_multiple_of(RUN) {
                    self.freed.0.store(freed, Release);
                }
            }
            // Release: pairs with the Acquires of `send` and `drained`.
            self.freed.0.store(freed, Release);
        }
    }
}

/// A short spin, then the processor is offered to others: there may be fewer of them than threads.
#[inline(always)]
fn wait_until(mut done: impl FnMut() -> bool) {
    let mut looks = 0;
    while !done() {
        looks += 1;
        if looks < 100 { hint::spin_loop() } else { thread::yield_now() }
    }
}
