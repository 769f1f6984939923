//! `SmpAllocator` under many threads: every block carries its owner's pattern from alloc to free.
//!
//! ```text
//! TERRACE_STRESS_SECONDS=60 cargo test --release -p terrace-tests --test smp_stress
//! ```
//!
//! Without the variable each test runs a fraction of a second.

use std::{
    mem::MaybeUninit,
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::{
        Arc, Barrier, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use terrace_core::{Alignment, Allocator, SystemAllocator};
use terrace_heap::SmpAllocator;
use terrace_sync::{NoSlots, Slots};
use terrace_sys::{PageAllocator, ThreadSlots};

const SMALL_REGION: usize = 64 << 10;

/// A block with what was written into it.
struct Owned {
    start: NonNull<u8>,
    len: usize,
    alignment: Alignment,
    seed: u64,
}

// SAFETY: the block is whoever's the value is.
unsafe impl Send for Owned {}

fn next(state: &mut u64) -> u64 {
    // Marsaglia's xorshift.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Mostly small, sometimes large, rarely aligned.
fn request(random: &mut u64) -> (usize, Alignment) {
    let log2 = next(random) % 17;
    let len = 1 + (next(random) as usize & ((1 << log2) - 1));
    let alignment = if next(random).is_multiple_of(8) { 1 << (next(random) % 14) } else { 8 };
    (len, Alignment::new(alignment).expect("a power of two"))
}

impl Owned {
    fn alloc(allocator: &dyn Allocator, random: &mut u64) -> Self {
        let (len, alignment) = request(random);
        let start = allocator.alloc(NonZeroUsize::new(len).expect("from 1"), alignment).expect("memory");
        assert!(alignment.is_aligned(start.addr().get()));
        let mut this = Self { start, len, alignment, seed: next(random) };
        this.fill();
        this
    }

    fn fill(&mut self) {
        let mut state = self.seed | 1;
        // SAFETY: the block is live and this value's alone.
        let bytes = unsafe { slice::from_raw_parts_mut(self.start.cast::<MaybeUninit<u8>>().as_ptr(), self.len) };
        bytes.iter_mut().for_each(|byte| _ = byte.write(next(&mut state) as u8));
    }

    fn check(&self, len: usize) {
        let mut state = self.seed | 1;
        // SAFETY: the block is live, this value's alone, and was filled.
        let bytes = unsafe { slice::from_raw_parts(self.start.as_ptr(), len) };
        for (at, &byte) in bytes.iter().enumerate() {
            assert_eq!(byte, next(&mut state) as u8, "byte {at} of {} belongs to somebody else", self.len);
        }
    }

    fn memory(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.start, self.len)
    }

    fn change(&mut self, allocator: &dyn Allocator, random: &mut u64) {
        let new = NonZeroUsize::new(request(random).0).expect("from 1");
        // SAFETY: live, with its length and alignment.
        let Some(moved) = (unsafe { allocator.remap(self.memory(), self.alignment, new) }) else { return };
        self.start = moved;
        self.check(self.len.min(new.get()));
        self.len = new.get();
        self.fill();
    }

    fn free(self, allocator: &dyn Allocator) {
        self.check(self.len);
        // SAFETY: live, with its length and alignment, and not used again.
        unsafe { allocator.free(self.memory(), self.alignment) };
    }
}

/// One test at a time: a slot's number is the process's, and `trim` leaves alone what a running thread has.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn time() -> Duration {
    let asked = std::env::var("TERRACE_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    asked.map_or(Duration::from_millis(150), Duration::from_secs)
}

/// Threads that keep blocks, hand them to one another, die and are born, until the time is over; nothing is left live.
fn mix(allocator: &(dyn Allocator + Sync), threads: usize, seed: u64) {
    let shared: Mutex<Vec<Owned>> = Mutex::default();
    let over = AtomicBool::new(false);
    let born = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..threads {
            let (shared, over, born) = (&shared, &over, &born);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // Each generation is a thread of its own, so that threads die with full magazines.
                    let generation = born.fetch_add(1, Ordering::Relaxed) as u64;
                    thread::scope(|scope| {
                        scope.spawn(|| live(allocator, shared, seed ^ (number as u64) << 32 ^ generation));
                    });
                }
            });
        }
        thread::sleep(time());
        over.store(true, Ordering::Relaxed);
    });
    for owned in shared.into_inner().expect("nobody panicked") {
        owned.free(allocator);
    }
}

fn live(allocator: &dyn Allocator, shared: &Mutex<Vec<Owned>>, seed: u64) {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut mine = Vec::new();
    for _ in 0..2000 {
        match next(&mut random) % 8 {
            0..3 => mine.push(Owned::alloc(allocator, &mut random)),
            3 | 4 if !mine.is_empty() => {
                let at = next(&mut random) as usize % mine.len();
                mine.swap_remove(at).free(allocator);
            }
            5 if !mine.is_empty() => {
                let at = next(&mut random) as usize % mine.len();
                mine[at].change(allocator, &mut random);
            }
            6 => {
                let given = mine.pop();
                let mut shared = shared.lock().expect("nobody panicked");
                shared.extend(given);
            }
            _ => {
                let taken = shared.lock().expect("nobody panicked").pop();
                if let Some(owned) = taken {
                    owned.free(allocator);
                }
            }
        }
    }
    // Half stays for others.
    let half = mine.split_off(mine.len() / 2);
    shared.lock().expect("nobody panicked").extend(half);
    mine.into_iter().for_each(|owned| owned.free(allocator));
}

/// Blocks that are out of the slabs, after everything was given back. A scope ends a moment before its threads give
/// their slots back, so it may take several tries.
fn blocks_out<A: Allocator, S: Slots, const BYTES: usize>(smp: &SmpAllocator<A, S, BYTES>) -> usize {
    let count = || (0..).map_while(|class| smp.class_stats(class)).map(|stats| stats.blocks_out).sum();
    for _ in 0..2000 {
        smp.trim();
        if count() == 0 {
            return 0;
        }
        thread::sleep(Duration::from_millis(1));
    }
    count()
}

#[test]
fn one_to_sixteen_threads_over_pages() {
    let _alone = alone();
    for threads in [1, 2, 4, 8, 16] {
        let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
        mix(&smp, threads, threads as u64);
        assert_eq!(blocks_out(&smp), 0, "with {threads} threads");
    }
}

#[test]
fn threads_over_small_regions_that_come_and_go() {
    let _alone = alone();
    let smp = SmpAllocator::<_, _, SMALL_REGION>::with_region_size(SystemAllocator, ThreadSlots);
    mix(&smp, 4, 7);
    assert_eq!(blocks_out(&smp), 0);
}

#[test]
fn threads_without_a_slot_share_one() {
    let _alone = alone();
    let smp = SmpAllocator::with_decommit(PageAllocator, NoSlots);
    mix(&smp, 6, 11);
    assert_eq!(blocks_out(&smp), 0);
}

#[test]
fn more_threads_than_slots() {
    let _alone = alone();
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    mix(&smp, ThreadSlots.count() + 8, 13);
    assert_eq!(blocks_out(&smp), 0);
}

#[test]
fn several_instances_at_once_in_the_same_threads() {
    let _alone = alone();
    let instances: Vec<_> = (0..5).map(|_| SmpAllocator::with_decommit(PageAllocator, ThreadSlots)).collect();
    thread::scope(|scope| {
        for (seed, smp) in instances.iter().enumerate() {
            scope.spawn(move || mix(smp, 2, seed as u64));
        }
        scope.spawn(|| {
            let shared = Mutex::default();
            for seed in 0..20 {
                live(&instances[seed % 5], &shared, seed as u64);
                for owned in shared.lock().expect("nobody panicked").drain(..) {
                    owned.free(&instances[seed % 5]);
                }
            }
        });
    });
    instances.iter().for_each(|smp| assert_eq!(blocks_out(smp), 0));
}

#[test]
fn an_instance_dropped_before_its_threads_end() {
    let _alone = alone();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let smp = Arc::new(SmpAllocator::with_decommit(PageAllocator, ThreadSlots));
        let (lent, barrier) = (Arc::clone(&smp), &barrier);
        scope.spawn(move || {
            let mut random = 5;
            let blocks: Vec<_> = (0..1000).map(|_| Owned::alloc(&*lent, &mut random)).collect();
            blocks.into_iter().for_each(|owned| owned.free(&*lent));
            drop(lent);
            barrier.wait(); // The instance is gone now; the thread goes on, with another one, in the same slot.
            let other = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
            let blocks: Vec<_> = (0..1000).map(|_| Owned::alloc(&other, &mut random)).collect();
            blocks.into_iter().for_each(|owned| owned.free(&other));
            assert_eq!(blocks_out(&other), 0);
        });
        while Arc::strong_count(&smp) > 1 {
            thread::yield_now();
        }
        drop(Arc::into_inner(smp).expect("the only one"));
        barrier.wait();
    });
}

#[test]
fn an_instance_outlives_its_threads_and_gets_their_magazines_back() {
    let _alone = alone();
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    for seed in 0..50 {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = seed * 2 + 1;
                let blocks: Vec<_> = (0..100).map(|_| Owned::alloc(&smp, &mut random)).collect();
                blocks.into_iter().for_each(|owned| owned.free(&smp));
            });
        });
    }
    assert_eq!(blocks_out(&smp), 0);
}

/// Forks in the middle of other threads' work: parent and child go on, and each has what it had.
#[test]
fn a_fork_in_a_threaded_program() {
    let _alone = alone();
    let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..4 {
            let (smp, over) = (&smp, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let shared = Mutex::default();
                    live(smp, &shared, seed);
                    shared.into_inner().expect("nobody panicked").into_iter().for_each(|owned: Owned| owned.free(smp));
                }
            });
        }
        let mut random = 77;
        let mut mine: Vec<Owned> = (0..200).map(|_| Owned::alloc(&smp, &mut random)).collect();
        for _ in 0..6 {
            smp.lock_for_fork();
            // SAFETY: the child calls nothing that another thread's locks could stop, but what was locked for it.
            let child = unsafe { libc::fork() };
            // SAFETY: locked above, in this thread or in the one that it is the copy of.
            unsafe { smp.unlock_after_fork() };
            if child == 0 {
                in_the_child(&smp, &mut mine);
            }
            assert!(child > 0, "a process more");
            let at = next(&mut random) as usize % mine.len();
            mine.swap_remove(at).free(&smp);
            mine.push(Owned::alloc(&smp, &mut random));
            let mut status = 0;
            // SAFETY: a child of ours.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child found its blocks as they were");
        }
        mine.into_iter().for_each(|owned| owned.free(&smp));
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(blocks_out(&smp), 0);
}

/// Frees what the parent had, and allocates in its stead; the process ends by 0, or by an alarm where it waits for somebody.
fn in_the_child(smp: &dyn Allocator, mine: &mut Vec<Owned>) -> ! {
    // SAFETY: sets a timer.
    unsafe { libc::alarm(20) };
    let mut random = 99;
    let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..300 {
            let at = next(&mut random) as usize % mine.len();
            mine.swap_remove(at).free(smp);
            mine.push(Owned::alloc(smp, &mut random));
        }
        mine.drain(..).for_each(|owned| owned.free(smp));
    }));
    // SAFETY: ends the process, without the destructors of its threads.
    unsafe { libc::_exit(i32::from(work.is_err())) }
}
