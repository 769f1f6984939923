//! The group `memops`: our copy, fill and compare beside the C library's.
//!
//! Both are called by name, as Rust code does, with pointers and a length that the compiler does not know: each is one call through
//! a table, ours that of the level, the C library's that of the dynamic linker. None is inlined.
//!
//! - **M1** An offset is below `MARGIN` and a length at most that of the cell, so all lies in buffers that are `MARGIN` longer.

use std::{hint::black_box, num::NonZeroUsize, ptr::NonNull, rc::Rc};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use terrace_core::{Alignment, Allocator};
use terrace_memops::raw;
use terrace_sys::PageAllocator;

use crate::{
    cells::{Cell, Random},
    harness::{Competitor, OURS},
};

const MARGIN: usize = 1024;

/// `memops.toml`.
#[derive(Deserialize)]
struct Plan {
    batch: usize,
    calls: usize,
    sizes: Vec<usize>,
    seed: u64,
    mixed: Vec<Mixed>,
}

/// Random lengths.
#[derive(Deserialize)]
struct Mixed {
    most: usize,
    seed: u64,
}

/// Every size of every kind, and the mixed ones.
pub fn cells() -> Result<Vec<Cell>> {
    let plan: Plan = toml::from_str(include_str!("../memops.toml")).context("peers/memops.toml")?;
    let mut cells = Vec::new();
    for kind in ["copy", "fill", "compare"] {
        for &size in &plan.sizes {
            let count = (plan.batch / size).clamp(1, plan.calls);
            let name = format!("{kind} {}", words(size));
            cells.push(Cell { name, kind: kind.into(), size, seed: plan.seed, count, repetitions: 1 });
        }
        for mixed in &plan.mixed {
            let name = format!("{kind} mixed, up to {}", words(mixed.most));
            let kind = format!("{kind} mixed");
            cells.push(Cell { name, kind, size: mixed.most, seed: mixed.seed, count: 1000, repetitions: 20 });
        }
    }
    Ok(cells)
}

/// Uses the level of this name.
///
/// # Errors
/// Where the machine has none such.
pub fn force(name: &str) -> Result<()> {
    let found = terrace_memops::features().found().find(|level| format!("{level:?}") == name);
    let levels = terrace_memops::features().found().collect::<Vec<_>>();
    ensure!(found.is_some_and(|level| terrace_memops::force(Some(level))), "no level {name}; there are {levels:?}");
    Ok(())
}

fn words(size: usize) -> String {
    match size {
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size.is_multiple_of(1 << 10) => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

/// One call: two offsets and a length (M1).
#[derive(Clone, Copy)]
struct Call {
    to: usize,
    from: usize,
    len: usize,
}

/// What the calls work on.
struct Work {
    to: NonNull<[u8]>,
    from: NonNull<[u8]>,
    calls: Vec<Call>,
}

impl Work {
    fn new(cell: &Cell) -> Self {
        let mixed = cell.kind.ends_with("mixed");
        let mut random = Random::new(cell.seed);
        let (step, number) = if mixed { (1, cell.count) } else { (16, 64) };
        let place = |random: &mut Random| random.below(MARGIN / step) * step;
        let calls = (0..number).map(|_| {
            let (to, from) = (place(&mut random), place(&mut random));
            let doublings = random.below(1 << 20) as f64 / f64::from(1 << 20);
            let len = if mixed { (cell.size as f64).powf(doublings).round() as usize } else { cell.size };
            Call { to, from, len }
        });
        let calls = calls.collect();
        let (to, mut from) = (buffer(cell.size), buffer(cell.size));
        if mixed {
            // SAFETY: a live block that nothing else refers to; this reference ends here.
            let from = unsafe { from.as_mut() };
            for start in (0..from.len()).step_by(cell.size) {
                let at = start + random.below(cell.size);
                from[at.min(MARGIN + cell.size - 1)] ^= 1;
            }
        }
        Self { to, from, calls }
    }

    /// Makes `number` calls.
    #[inline(always)]
    fn run(&self, number: usize, call: impl Fn(*mut u8, *const u8, usize)) {
        let (to, from) = (self.to.cast::<u8>().as_ptr(), self.from.cast::<u8>().as_ptr());
        for next in self.calls.iter().cycle().take(number) {
            call(to.wrapping_add(next.to), from.wrapping_add(next.from), next.len);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for memory in [self.to, self.from] {
            // SAFETY: a live block of `buffer`, not used again.
            unsafe { PageAllocator.free(memory, Alignment::ONE) };
        }
    }
}

/// Pages that are in memory, for lengths up to `size`.
fn buffer(size: usize) -> NonNull<[u8]> {
    let len = NonZeroUsize::new(MARGIN + size).expect("a length");
    let start = PageAllocator.alloc(len, Alignment::ONE).expect("pages");
    // SAFETY: a live block of so many bytes.
    unsafe { start.write_bytes(0x5A, len.get()) };
    NonNull::slice_from_raw_parts(start, len.get())
}

/// Ours and the C library's.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    type Run = fn(&Work, usize);
    let (ours, theirs): (Run, Run) = match cell.kind.split(' ').next() {
        Some("copy") => (copy_ours, copy_theirs),
        Some("fill") => (fill_ours, fill_theirs),
        _ => (compare_ours, compare_theirs),
    };
    let (work, count) = (Rc::new(Work::new(cell)), cell.count);
    let competitor = |name, run: Run| {
        let work = Rc::clone(&work);
        Competitor { name, run: Box::new(move |repetitions| run(&work, count * repetitions)) }
    };
    vec![competitor(OURS, ours), competitor("libc", theirs)]
}

fn copy_ours(work: &Work, number: usize) {
    // SAFETY: M1; two buffers do not overlap.
    work.run(number, |to, from, len| unsafe { raw::copy(to, from, len) });
}

fn copy_theirs(work: &Work, number: usize) {
    // SAFETY: as above.
    work.run(number, |to, from, len| _ = unsafe { libc::memcpy(to.cast(), from.cast(), len) });
}

fn fill_ours(work: &Work, number: usize) {
    // SAFETY: M1.
    work.run(number, |to, _, len| unsafe { raw::fill(to, 0x5A, len) });
}

fn fill_theirs(work: &Work, number: usize) {
    // SAFETY: M1.
    work.run(number, |to, _, len| _ = unsafe { libc::memset(to.cast(), 0x5A, len) });
}

fn compare_ours(work: &Work, number: usize) {
    // SAFETY: M1.
    work.run(number, |a, b, len| _ = black_box(unsafe { raw::compare(a, b, len) }));
}

fn compare_theirs(work: &Work, number: usize) {
    // SAFETY: M1.
    work.run(number, |a, b, len| _ = black_box(unsafe { libc::memcmp(a.cast(), b.cast(), len) }));
}
