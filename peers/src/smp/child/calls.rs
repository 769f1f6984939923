//! The calls that are measured: the C library's own four, as whoever was preloaded serves them.
//!
//! The same program text for every contestant: `malloc` is a symbol that the dynamic linker binds, to the preloaded
//! library or to the C library. [`Plain`] makes the call; [`Sampled`] times single calls too, picked at random, for
//! every n-th would line up with the refills of a cache of n blocks.

use std::{hint::black_box, time::Instant};

use super::table::Random;

/// The four calls of the C interface.
pub trait Calls {
    fn malloc(&mut self, size: usize) -> *mut u8;
    fn calloc(&mut self, size: usize) -> *mut u8;
    /// # Safety
    /// `block` is live; only what comes back is used from then on.
    unsafe fn realloc(&mut self, block: *mut u8, size: usize) -> *mut u8;
    /// # Safety
    /// `block` is live, or null, and used no more.
    unsafe fn free(&mut self, block: *mut u8);
}

/// The calls and nothing besides.
pub struct Plain;

/// Ends the child where there is no memory: no figure is better than one of a refused call.
#[inline(always)]
fn granted(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        refused();
    }
    // Hidden, or the compiler, which knows malloc, leaves it out together with its free.
    black_box(block)
}

#[cold]
fn refused() -> ! {
    eprintln!("the allocator refused a request of the benchmark");
    std::process::exit(3)
}

impl Calls for Plain {
    #[inline(always)]
    fn malloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        granted(unsafe { libc::malloc(size) }.cast())
    }

    #[inline(always)]
    fn calloc(&mut self, size: usize) -> *mut u8 {
        // SAFETY: any size may be asked for.
        granted(unsafe { libc::calloc(1, size) }.cast())
    }

    #[inline(always)]
    unsafe fn realloc(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        granted(unsafe { libc::realloc(block.cast(), size) }.cast())
    }

    #[inline(always)]
    unsafe fn free(&mut self, block: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { libc::free(block.cast()) }
    }
}

/// The loop without the calls: what callgrind counts of it is taken off.
#[derive(Default)]
pub struct Nothing(usize);

impl Calls for Nothing {
    #[inline(always)]
    fn malloc(&mut self, _size: usize) -> *mut u8 {
        black_box((&raw mut self.0).cast())
    }

    #[inline(always)]
    fn calloc(&mut self, size: usize) -> *mut u8 {
        self.malloc(size)
    }

    #[inline(always)]
    unsafe fn realloc(&mut self, block: *mut u8, _size: usize) -> *mut u8 {
        block
    }

    #[inline(always)]
    unsafe fn free(&mut self, block: *mut u8) {
        black_box(block);
    }
}

/// The mean distance between two timed calls.
const SPARSE: usize = 32;

/// The calls, some of them timed alone.
pub struct Sampled {
    random: Random,
    until: usize,
    samples: Vec<u64>,
}

impl Sampled {
    /// Room for `most` samples is taken here, not while calls are timed; past that none are kept.
    pub fn new(most: usize) -> Self {
        Self { random: Random::new(77), until: SPARSE, samples: Vec::with_capacity(most) }
    }

    #[inline(always)]
    fn around<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.until -= 1;
        if self.until > 0 {
            return call();
        }
        self.until = 1 + self.random.below(2 * SPARSE - 1);
        let start = Instant::now();
        let result = call();
        let nanos = start.elapsed().as_nanos() as u64;
        if self.samples.len() < self.samples.capacity() {
            self.samples.push(nanos);
        }
        result
    }

    /// Nanoseconds of the calls at 50, 99 and 99.9 of a hundred, and of the longest, the clock's own included.
    pub fn percentiles(mut self) -> [f64; 4] {
        self.samples.sort_unstable();
        let Some(last) = self.samples.len().checked_sub(1) else { return [0.0; 4] };
        [500, 990, 999, 1000].map(|of_thousand| self.samples[last * of_thousand / 1000] as f64)
    }
}

impl Calls for Sampled {
    #[inline(always)]
    fn malloc(&mut self, size: usize) -> *mut u8 {
        self.around(|| Plain.malloc(size))
    }

    #[inline(always)]
    fn calloc(&mut self, size: usize) -> *mut u8 {
        self.around(|| Plain.calloc(size))
    }

    #[inline(always)]
    unsafe fn realloc(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        self.around(|| unsafe { Plain.realloc(block, size) })
    }

    #[inline(always)]
    unsafe fn free(&mut self, block: *mut u8) {
        // SAFETY: the caller's promise.
        self.around(|| unsafe { Plain.free(block) });
    }
}
