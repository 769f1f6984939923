//! The two designs of `SmpAllocator` beside one another and beside other people's, for docs/measurements/smp-design.md.
//!
//! ```console
//! $ cargo run --release -p terrace-peers --features smp-design --bin smp_design -- 5
//! $ cargo run --release -p terrace-peers --features smp-design --bin smp_design -- 5 pair,lifo A,B
//! $ cargo run --release -p terrace-peers --features smp-design --bin smp_design -- instructions
//! ```
//!
//! Each figure is of a process of its own; round after round every contestant runs a cell once, so that what else the machine does
//! meets all alike. Times are the thread's processor time, but for hand-over, where it is the clock's. The table shows medians, with the smallest and the largest figure in brackets.
//!
//! `A` and `B` are called as C's malloc and free are, by the address alone; `As` and `Bs` are told the length, as in Rust.
#![expect(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    reason = "a measuring program: every block comes from the contestant that frees it, with its length"
)]

use std::{
    cell::Cell,
    env,
    ffi::c_void,
    fs,
    hint::{black_box, spin_loop},
    num::NonZeroUsize,
    process::Command,
    ptr::{self, NonNull},
    sync::{
        Barrier,
        atomic::{
            AtomicPtr, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
    time::{Duration, Instant},
};

use terrace_core::{Alignment, Allocator};
use terrace_heap::{SmpAllocator, smp::owned::SmpOwnedAllocator};
use terrace_sync::{NOTHING_KEPT, Slots};
use terrace_sys::{PageAllocator, ThreadSlots};

const A16: Alignment = match Alignment::new(16) {
    Some(alignment) => alignment,
    None => Alignment::ONE,
};

/// A provider that keeps its callers' slots, as a malloc has it; one for each contestant.
macro_rules! contestant {
    ($module:ident, $allocator:ident) => {
        mod $module {
            use super::*;

            struct Keeping;

            thread_local! {
                static KEPT: Cell<*mut u8> = const { Cell::new((&raw const NOTHING_KEPT).cast_mut().cast()) };
            }

            // SAFETY: the numbers are `ThreadSlots`'s; what is kept is so in a static of this allocator's alone, and no thread calls
            // it after its thread-locals have ended.
            unsafe impl Slots for Keeping {
                fn count(&self) -> usize {
                    ThreadSlots.count()
                }
                #[inline(always)]
                fn enter(&self) -> usize {
                    ThreadSlots.enter()
                }
                fn claim(&self) -> bool {
                    ThreadSlots.claim()
                }
                #[inline(always)]
                fn kept(&self) -> Option<NonNull<u8>> {
                    Some(unsafe { NonNull::new_unchecked(KEPT.get()) })
                }
                fn keep(&self, address: NonNull<u8>) {
                    KEPT.set(address.as_ptr());
                }
                fn adopt(&self, number: usize) -> bool {
                    ThreadSlots.adopt(number)
                }
                unsafe fn release(&self, number: usize) {
                    unsafe { ThreadSlots.release(number) }
                }
                fn pause(&self, tries: u32) {
                    ThreadSlots.pause(tries);
                }
                fn millis(&self) -> u64 {
                    ThreadSlots.millis()
                }
            }

            static IT: $allocator<PageAllocator, Keeping> = $allocator::with_decommit(PageAllocator, Keeping);

            unsafe extern "C" fn malloc(len: usize) -> *mut c_void {
                match IT.alloc_at_hand(len) {
                    Some(block) => block.as_ptr().cast(),
                    None => unsafe { malloc_else(len) },
                }
            }
            #[cold]
            #[inline(never)]
            unsafe extern "C" fn malloc_else(len: usize) -> *mut c_void {
                let len = unsafe { NonZeroUsize::new_unchecked(len) };
                IT.alloc(len, A16).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
            }
            unsafe extern "C" fn free(block: *mut c_void, _: usize) {
                if !unsafe { IT.free_at_hand(block.cast()) } {
                    unsafe { free_else(block) }
                }
            }
            #[cold]
            #[inline(never)]
            unsafe extern "C" fn free_else(block: *mut c_void) {
                unsafe { IT.free_by_address(NonNull::new_unchecked(block.cast())) }
            }
            unsafe extern "C" fn free_sized(block: *mut c_void, len: usize) {
                let start = unsafe { NonNull::new_unchecked(block.cast()) };
                unsafe { IT.free(NonNull::slice_from_raw_parts(start, len), A16) }
            }

            pub(super) const BY_ADDRESS: Contestant =
                Contestant { malloc, free, trim: || IT.trim(), idle: || _ = IT.purge_idle() };
            pub(super) const SIZED: Contestant =
                Contestant { malloc, free: free_sized, trim: || IT.trim(), idle: || _ = IT.purge_idle() };
        }
    };
}

contestant!(magazines, SmpAllocator);
contestant!(owned, SmpOwnedAllocator);

#[derive(Clone, Copy)]
struct Contestant {
    malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, usize),
    trim: fn(),
    idle: fn(),
}

unsafe extern "C" fn glibc_free(block: *mut c_void, _: usize) {
    unsafe { libc::free(block) }
}
unsafe extern "C" fn mimalloc_free(block: *mut c_void, _: usize) {
    unsafe { libmimalloc_sys::mi_free(block.cast()) }
}
unsafe extern "C" fn mimalloc(len: usize) -> *mut c_void {
    unsafe { libmimalloc_sys::mi_malloc(len).cast() }
}
unsafe extern "C" fn snmalloc(len: usize) -> *mut c_void {
    unsafe { snmalloc_sys::sn_rust_alloc(16, len).cast() }
}
unsafe extern "C" fn snmalloc_free(block: *mut c_void, len: usize) {
    unsafe { snmalloc_sys::sn_rust_dealloc(block.cast(), 16, len) };
}

fn contestant(name: &str) -> Contestant {
    match name {
        "A" => magazines::BY_ADDRESS,
        "As" => magazines::SIZED,
        "B" => owned::BY_ADDRESS,
        "Bs" => owned::SIZED,
        "glibc" => Contestant { malloc: libc::malloc, free: glibc_free, trim: || _ = unsafe { libc::malloc_trim(0) }, idle: || () },
        "mimalloc" => Contestant {
            malloc: mimalloc,
            free: mimalloc_free,
            trim: || unsafe { libmimalloc_sys::mi_collect(true) },
            idle: || (),
        },
        "snmalloc" => Contestant { malloc: snmalloc, free: snmalloc_free, trim: || (), idle: || () },
        _ => panic!("no contestant {name}"),
    }
}

/// A table in pages of its own, so that it disturbs no contestant.
fn table<T: Copy>(len: usize) -> &'static mut [T] {
    unsafe {
        let start = libc::mmap(ptr::null_mut(), len * size_of::<T>(), 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        libc::memset(start, 0, len * size_of::<T>());
        std::slice::from_raw_parts_mut(start.cast(), len)
    }
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = text.lines().find(|line| line.starts_with("Rss:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") << 10
}

#[inline(always)]
fn next(state: &mut u64) -> u64 {
    // Marsaglia's xorshift.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Processor time of this thread: what else the machine does is not in it.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn since(start: Duration) -> f64 {
    (processor_time() - start).as_nanos() as f64
}

type Entry = (*mut c_void, u32);

impl Contestant {
    #[inline(always)]
    fn get(&self, len: usize) -> *mut c_void {
        let block = unsafe { (self.malloc)(len) };
        unsafe { block.cast::<u8>().write(1) };
        block
    }

    fn get_filled(&self, len: usize) -> *mut c_void {
        let block = unsafe { (self.malloc)(len) };
        unsafe { libc::memset(block, 1, len) }
    }

    #[inline(always)]
    fn give(&self, block: *mut c_void, len: usize) {
        unsafe { (self.free)(block, len) }
    }

    fn pairs(&self, count: usize, len: usize) {
        (0..count).for_each(|_| self.give(black_box(self.get(len)), len));
    }

    fn batches(&self, lifo: bool, live: usize, len: usize) -> f64 {
        let blocks = table::<*mut c_void>(live);
        let rounds = (10_000_000 / live).max(4);
        let mut start = processor_time();
        for round in 0..rounds + rounds / 4 {
            if round == rounds / 4 {
                start = processor_time();
            }
            blocks.iter_mut().for_each(|block| *block = self.get(len));
            if lifo {
                blocks.iter().rev().for_each(|&block| self.give(block, len));
            } else {
                blocks.iter().for_each(|&block| self.give(block, len));
            }
        }
        since(start) / (rounds * live) as f64
    }

    /// 16 B to 1 KiB, half of them below 128 B.
    fn replacement(&self, live: usize, count: usize, seed: u64) -> f64 {
        let len = |random: &mut u64| {
            let base = 1usize << (4 + next(random) % 6);
            base + (next(random) as usize & (base - 1))
        };
        let (blocks, mut random) = (table::<Entry>(live), seed);
        for entry in blocks.iter_mut() {
            let len = len(&mut random);
            *entry = (self.get(len), len as u32);
        }
        let mut start = processor_time();
        for at in 0..count + count / 4 {
            if at == count / 4 {
                start = processor_time();
            }
            let entry = &mut blocks[next(&mut random) as usize % live];
            let len = len(&mut random);
            self.give(entry.0, entry.1 as usize);
            *entry = (self.get(len), len as u32);
        }
        let time = since(start) / count as f64;
        blocks.iter().for_each(|entry| self.give(entry.0, entry.1 as usize));
        time
    }

    /// Processor time of an operation, since there are fewer processors than threads.
    fn replacement_by_threads(&self, threads: usize, live: usize, count: usize) -> f64 {
        let (barrier, total) = (&Barrier::new(threads), &AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..threads {
                scope.spawn(move || {
                    barrier.wait();
                    self.replacement(live, count, SEED ^ ((number as u64) << 20));
                    total.fetch_add(processor_time().as_nanos() as usize, Relaxed);
                });
            }
        });
        total.load(Relaxed) as f64 / ((count + count / 4 + live) * threads) as f64
    }

    /// One thread allocates, another frees, through a ring.
    fn handed_over(&self, count: usize, len: usize) -> f64 {
        const RING: usize = 1024;
        let ring = &[const { AtomicPtr::<c_void>::new(ptr::null_mut()) }; RING];
        let wait = |tries: &mut u32| {
            *tries += 1;
            if *tries > 64 { thread::yield_now() } else { spin_loop() }
        };
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                for at in 0..count {
                    let (block, place, mut tries) = (self.get(len), &ring[at % RING], 0);
                    while !place.load(Acquire).is_null() {
                        wait(&mut tries);
                    }
                    place.store(block, Release);
                }
            });
            scope.spawn(move || {
                for at in 0..count {
                    let (place, mut tries) = (&ring[at % RING], 0);
                    while place.load(Acquire).is_null() {
                        wait(&mut tries);
                    }
                    let block = place.swap(ptr::null_mut(), Acquire);
                    self.give(block, len);
                }
            });
        });
        start.elapsed().as_nanos() as f64 / count as f64
    }

    /// Three quarters live 256 steps, some 2,048, some long; 16 B to 9 KiB.
    fn lifetimes(&self, count: usize) -> f64 {
        let (blocks, mut random) = (table::<Entry>(20_000), SEED);
        let start = processor_time();
        for step in 0..count {
            let dice = next(&mut random);
            let at = match dice & 15 {
                0 => (dice >> 8) as usize % blocks.len(),
                4 | 8 | 12 => 256 + (dice >> 8) as usize % 2048,
                _ => step % 256,
            };
            let len = match dice >> 60 {
                0..=9 => 16 + (dice >> 20 & 127) as usize,
                10..=13 => 128 + (dice >> 20 & 1023) as usize,
                _ => 1024 + (dice >> 20 & 8191) as usize,
            };
            let entry = &mut blocks[at];
            if !entry.0.is_null() {
                self.give(entry.0, entry.1 as usize);
            }
            *entry = (self.get(len), len as u32);
        }
        since(start) / count as f64
    }

    /// 64 MiB of `before`, seven of eight freed, half of that again of `after`: resident over live.
    fn fragmentation(&self, before: usize, after: usize, pattern: &str) -> f64 {
        let total = 64 << 20;
        let (old, new) = (table::<*mut c_void>(total / before), table::<*mut c_void>(total * 7 / 16 / after));
        let (base, mut random, mut live) = (resident(), SEED, 0);
        old.iter_mut().for_each(|block| *block = self.get_filled(before));
        for (number, &block) in old.iter().enumerate() {
            let kept = match pattern {
                "random" => next(&mut random).is_multiple_of(8),
                "stride" => number % 8 == 0,
                _ => (number / 512) % 8 == 0,
            };
            if kept { live += before } else { self.give(block, before) }
        }
        new.iter_mut().for_each(|block| *block = self.get_filled(after));
        live += new.len() * after;
        (resident() - base) as f64 / live as f64
    }

    /// MiB left of 200 MiB of mixed sizes, freed in random order: at once, after `trim`, or after a second with a timer.
    fn left(&self, when: &str) -> f64 {
        let (blocks, mut random) = (table::<Entry>(800_000), SEED);
        let base = resident();
        for entry in blocks.iter_mut() {
            let len = 16 + next(&mut random) as usize % 480;
            *entry = (self.get_filled(len), len as u32);
        }
        for at in (1..blocks.len()).rev() {
            blocks.swap(at, next(&mut random) as usize % (at + 1));
        }
        blocks.iter().for_each(|entry| self.give(entry.0, entry.1 as usize));
        match when {
            "trim" => (self.trim)(),
            "timer" => (0..4).for_each(|_| {
                thread::sleep(Duration::from_millis(250));
                (self.idle)();
            }),
            _ => {}
        }
        (resident() as f64 - base as f64) / 1_048_576.0
    }
}

const SEED: u64 = 88_172_645_463_325_252;

const CELLS: &[&str] = &[
    "pair 16", "pair 64", "pair 1024", "pair 32768",
    "lifo 1000 64", "lifo 100000 64", "lifo 1000 1024", "fifo 1000 64", "fifo 100000 64", "fifo 1000 1024",
    "replace 10000", "replace 1000000",
    "threads 2", "threads 4", "threads 8",
    "hand-over 64", "hand-over 1024", "lifetimes",
    "fragmentation 64 1024 random", "fragmentation 256 64 stride", "fragmentation 256 64 clusters",
    "fragmentation 1024 4096 clusters",
    "left at-once", "left trim", "left timer",
];

fn measure(it: Contestant, cell: &str) -> f64 {
    it.pairs(1, 64);
    let words: Vec<&str> = cell.split(' ').collect();
    let number = |at: usize| words[at].parse::<usize>().expect("a number");
    match words[0] {
        "pair" => {
            it.pairs(100_000, number(1));
            let start = processor_time();
            it.pairs(10_000_000, number(1));
            since(start) / 1e7
        }
        "calibrate" => {
            it.pairs(number(1), number(2));
            0.0
        }
        "lifo" | "fifo" => it.batches(words[0] == "lifo", number(1), number(2)),
        "replace" => it.replacement(number(1), 4_000_000, SEED),
        "threads" => it.replacement_by_threads(number(1), 10_000, 2_000_000),
        "hand-over" => it.handed_over(2_000_000, number(1)),
        "lifetimes" => it.lifetimes(5_000_000),
        "fragmentation" => it.fragmentation(number(1), number(2), words[3]),
        "left" => it.left(words[1]),
        _ => panic!("no cell {cell}"),
    }
}

fn this() -> Command {
    Command::new(env::current_exe().expect("a path"))
}

fn instructions(name: &str, cell: &str) -> Option<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe().ok()?);
    let output = command.args(["one", name, cell]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok())
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |at: usize| arguments.get(at).map(String::as_str);
    if argument(0) == Some("one") {
        println!("{}", measure(contestant(&arguments[1]), &arguments[2]));
        return;
    }
    let names: Vec<&str> = argument(2).unwrap_or("A,As,B,Bs,mimalloc,snmalloc,glibc").split(',').collect();
    if argument(0) == Some("instructions") {
        for name in names {
            // A loop of pairs is counted at two lengths: what starts and ends the program drops out. The loop itself takes 9.
            let count = |len| {
                let one = |pairs: usize| instructions(name, &format!("calibrate {pairs} {len}"));
                Some((one(200_000)? as f64 - one(100_000)? as f64) / 1e5)
            };
            println!("{name}: {:?} at 64, {:?} at 1024", count(64), count(1024));
        }
        return;
    }
    let rounds: usize = argument(0).and_then(|text| text.parse().ok()).unwrap_or(5);
    let wanted: Vec<&str> = argument(1).unwrap_or("").split(',').collect();
    println!("| cell | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for cell in CELLS.iter().filter(|cell| wanted.iter().any(|wanted| cell.starts_with(wanted))) {
        let mut figures = vec![Vec::new(); names.len()];
        for _ in 0..rounds {
            for (name, figures) in names.iter().zip(&mut figures) {
                let output = this().args(["one", name, cell]).output().expect("this program starts");
                figures.push(String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().unwrap_or(f64::NAN));
            }
        }
        print!("| {cell} |");
        for mut figures in figures {
            figures.sort_by(f64::total_cmp);
            print!(" {:.2} ({:.2}–{:.2}) |", figures[rounds / 2], figures[0], figures[rounds - 1]);
        }
        println!();
    }
}
