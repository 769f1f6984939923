//! Four allocators, four roles: the same work on each of them, and the table that says what each is for.
//!
//! ```console
//! $ cargo run --release -p terrace-examples --example roles
//! ```
//!
//! | work | what is asked |
//! |---|---|
//! | tiny | 20,000 blocks of 24 bytes, all live at once; freed one by one |
//! | large | 1 MiB, its pages written, then freed; fifty times |
//! | one lifetime | 500 times fifty small values that end together |
//! | independent | 2,000 live blocks of 16 to 271 bytes, of which a random one is replaced 100,000 times |
//!
//! Time is of one block, its `free` or its share of the end included; memory is what is resident more than before, for a block
//! of 24 bytes, and for each byte that is live. docs/roles.md explains the figures; the tests below tell the stories one by one.

use std::{fs, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull, time::Instant};

use terrace::{
    Alignment, AllocError, Allocator, ArenaAllocator, FixedBufferAllocator, PageAllocator, ResetMode, SmpAllocator,
    ThreadSlots,
};

const WORD: Alignment = Alignment::of::<u64>();
const TINY: (usize, usize) = (20_000, 24);
const LARGE: (usize, usize) = (50, 1 << 20);
/// What the fixed buffer has.
const BUFFER: usize = 4 << 20;

type Block = (NonNull<u8>, NonZeroUsize);

/// A block whose bytes are all written, as who asks for them does.
fn filled(allocator: &dyn Allocator, len: usize) -> Result<Block, AllocError> {
    let len = NonZeroUsize::new(len).ok_or(AllocError)?;
    let block = allocator.alloc(len, WORD)?;
    // SAFETY: fresh, of `len` bytes.
    unsafe { block.write_bytes(42, len.get()) };
    Ok((block, len))
}

/// # Safety
/// A live block of [`filled`] from this allocator, not used again.
unsafe fn free(allocator: &dyn Allocator, (block, len): Block) {
    // SAFETY: the caller's promise; all blocks here have this alignment.
    unsafe { allocator.free(NonNull::slice_from_raw_parts(block, len.get()), WORD) };
}

/// What the process has in memory, in bytes; 0 where the system does not say.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0usize);
    pages * terrace::PageSize::page_size(&PageAllocator).bytes()
}

/// Resident bytes a block, nanoseconds a block.
fn tiny(allocator: &dyn Allocator) -> Result<(f64, f64), AllocError> {
    let mut blocks = Vec::with_capacity(TINY.0);
    blocks.resize(TINY.0, (NonNull::dangling(), NonZeroUsize::MIN)); // Resident before the work begins.
    let (before, start) = (resident(), Instant::now());
    for block in &mut blocks {
        *block = filled(allocator, TINY.1)?;
    }
    let (allocs, held) = (start.elapsed(), resident().saturating_sub(before));
    let start = Instant::now();
    for block in blocks {
        // SAFETY: made above, listed once.
        unsafe { free(allocator, block) };
    }
    let time = allocs + start.elapsed();
    Ok((held as f64 / TINY.0 as f64, time.as_nanos() as f64 / TINY.0 as f64))
}

/// Nanoseconds a block.
fn large(allocator: &dyn Allocator) -> Result<f64, AllocError> {
    let start = Instant::now();
    for _ in 0..LARGE.0 {
        let block = filled(allocator, LARGE.1)?;
        // SAFETY: made above.
        unsafe { free(allocator, block) };
    }
    Ok(start.elapsed().as_nanos() as f64 / LARGE.0 as f64)
}

/// Nanoseconds a value. `end` ends all of a request's values at once, where the allocator can.
fn one_lifetime<A: Allocator>(allocator: &mut A, end: Option<fn(&mut A)>) -> Result<f64, AllocError> {
    let (requests, values) = (500, 50);
    let mut blocks = Vec::with_capacity(values);
    let start = Instant::now();
    for _ in 0..requests {
        for value in 0..values {
            blocks.push(filled(&*allocator, 16 + value)?);
        }
        match end {
            Some(end) => {
                blocks.clear();
                end(allocator);
            }
            // SAFETY: made above, taken off the list.
            None => blocks.drain(..).rev().for_each(|block| unsafe { free(&*allocator, block) }),
        }
    }
    Ok(start.elapsed().as_nanos() as f64 / (requests * values) as f64)
}

/// Resident bytes for each live byte at the end.
fn independent(allocator: &dyn Allocator) -> Result<f64, AllocError> {
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let before = resident();
    let mut live = Vec::with_capacity(2000);
    for _ in 0..live.capacity() {
        live.push(filled(allocator, 16 + next(256))?);
    }
    for _ in 0..100_000 {
        let place = next(live.len());
        // SAFETY: a live block, whose place on the list is taken by another.
        unsafe { free(allocator, live[place]) };
        live[place] = filled(allocator, 16 + next(256))?;
    }
    let (held, bytes) = (resident().saturating_sub(before), live.iter().map(|(_, len)| len.get()).sum::<usize>());
    // SAFETY: live, and the list ends here.
    live.into_iter().for_each(|block| unsafe { free(allocator, block) });
    Ok(held as f64 / bytes as f64)
}

/// A buffer whose pages are resident.
fn buffer() -> Box<[MaybeUninit<u8>]> {
    vec![MaybeUninit::new(0xFF); BUFFER].into_boxed_slice()
}

fn smp() -> SmpAllocator {
    SmpAllocator::with_decommit(PageAllocator, ThreadSlots)
}

/// One line of the table: what is refused shows as such.
fn line(name: &str, role: [&str; 2], figures: [Result<String, AllocError>; 5]) {
    let figures = figures.map(|figure| figure.unwrap_or_else(|_| "refused".to_owned()));
    println!("| {name} | {} | {} | {} |", role[0], role[1], figures.join(" | "));
}

fn main() {
    println!(
        "| allocator | good for | weak at | tiny, bytes each | tiny, ns | large, ns | one lifetime, ns | independent |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let bytes = |figures: &Result<(f64, f64), AllocError>| figures.map(|(bytes, _)| format!("{bytes:.0}"));
    let time = |figures: Result<(f64, f64), AllocError>| figures.map(|(_, time)| format!("{time:.0}"));
    let ns = |figure: Result<f64, AllocError>| figure.map(|ns| format!("{ns:.0}"));
    let ratio = |figure: Result<f64, AllocError>| figure.map(|ratio| format!("{ratio:.2}"));

    let first = tiny(&PageAllocator);
    line(
        "`PageAllocator`",
        ["large blocks, backings", "tiny ones"],
        [
            bytes(&first),
            time(first),
            ns(large(&PageAllocator)),
            ns(one_lifetime(&mut PageAllocator, None)),
            ratio(independent(&PageAllocator)),
        ],
    );
    let first = tiny(&smp());
    line(
        "`SmpAllocator`",
        ["everything mixed, threads", "more machinery"],
        [bytes(&first), time(first), ns(large(&smp())), ns(one_lifetime(&mut smp(), None)), ratio(independent(&smp()))],
    );
    let arena = || ArenaAllocator::new(PageAllocator);
    let first = tiny(&arena());
    line(
        "`ArenaAllocator`",
        ["values that end together", "independent lifetimes"],
        [
            bytes(&first),
            time(first),
            ns(large(&arena())),
            ns(one_lifetime(&mut arena(), Some(|arena| _ = arena.reset(ResetMode::RetainCapacity)))),
            ratio(independent(&arena())),
        ],
    );
    let mut memory = buffer();
    let first = tiny(&FixedBufferAllocator::new(&mut memory));
    let rest = [
        ns(large(&FixedBufferAllocator::new(&mut memory))),
        ns(one_lifetime(&mut FixedBufferAllocator::new(&mut memory), None)),
        ratio(independent(&FixedBufferAllocator::new(&mut memory))),
    ];
    let [large, lifetime, independent] = rest;
    // The buffer was there before: a block takes what the mark moves by.
    let mark = FixedBufferAllocator::new(&mut memory);
    let taken = tiny_in_buffer(&mark).map(|bytes| format!("{bytes:.0}"));
    line(
        "`FixedBufferAllocator`",
        ["a strict limit, no system", "cannot grow"],
        [taken, time(first), large, lifetime, independent],
    );
}

/// Bytes of the buffer that a tiny block takes.
fn tiny_in_buffer(fixed: &FixedBufferAllocator<'_>) -> Result<f64, AllocError> {
    for _ in 0..TINY.0 {
        filled(fixed, TINY.1)?;
    }
    Ok(fixed.end_index() as f64 / TINY.0 as f64)
}

#[cfg(test)]
mod tests {
    use terrace::{AllocatorExt, GoodSize, PageSize, Stats, StatsAllocator};

    use super::*;

    fn good(allocator: &impl GoodSize, len: usize) -> usize {
        allocator.good_size(NonZeroUsize::new(len).unwrap(), WORD).get()
    }

    #[test]
    fn a_page_is_what_the_system_says_and_the_least_that_is_given() {
        let page = PageAllocator.page_size().bytes();
        assert!(page.is_power_of_two() && page >= 4096);
        assert_eq!(good(&PageAllocator, 10), page);
        let block = filled(&PageAllocator, 10).unwrap();
        assert_eq!(block.0.addr().get() % page, 0, "ten bytes have a page to themselves");
        // SAFETY: made above.
        unsafe { free(&PageAllocator, block) };
    }

    #[test]
    fn thousands_of_tiny_blocks_cost_pages_alone_and_bytes_above_another_layer() {
        let page = PageAllocator.page_size().bytes();
        assert_eq!(good(&PageAllocator, TINY.1), page);
        assert!(good(&smp(), TINY.1) <= 2 * TINY.1);
        let counted = StatsAllocator::new(PageAllocator);
        let arena = ArenaAllocator::new(&counted);
        for _ in 0..TINY.0 {
            filled(&arena, TINY.1).unwrap();
        }
        let held = counted.stats().current_bytes as usize;
        assert!(held <= 2 * TINY.0 * TINY.1, "the arena asked for {held} bytes");
        assert!(counted.stats().total_allocations < 50);
    }

    #[test]
    fn large_blocks_suit_pages_and_leave_nothing_behind() {
        let counted = StatsAllocator::new(PageAllocator);
        large(&counted).unwrap();
        let stats = counted.stats();
        assert_eq!((stats.total_allocations, stats.current_bytes), (LARGE.0 as u64, 0));
        assert_eq!(good(&PageAllocator, LARGE.1), LARGE.1, "a whole number of pages wastes nothing");
    }

    #[test]
    fn words_in_an_arena_are_never_freed_one_by_one() {
        let counted = StatsAllocator::new(PageAllocator);
        let arena = ArenaAllocator::new(&counted);
        let words = ["red", "green", "blue"].map(|word| &*arena.alloc_str(word).unwrap());
        assert_eq!(words.join(", "), "red, green, blue");
        drop(arena);
        assert_eq!(counted.stats().current_allocations, 0);
    }

    #[test]
    fn an_arena_suits_one_lifetime_and_is_poor_for_independent_ones() {
        let counted = StatsAllocator::new(PageAllocator);
        let mut arena = ArenaAllocator::new(&counted);
        one_lifetime(&mut arena, Some(|arena| _ = arena.reset(ResetMode::RetainCapacity))).unwrap();
        let requests = counted.stats().total_allocations;
        assert!(requests < 10, "{requests} requests to the pages for 25,000 values");
        drop(arena);

        let held = |allocator: &dyn Allocator, counted: &StatsAllocator<PageAllocator>| {
            independent(allocator).unwrap();
            counted.stats().peak_bytes
        };
        let below_arena = StatsAllocator::new(PageAllocator);
        let below_smp = StatsAllocator::new(PageAllocator);
        let arena = held(&ArenaAllocator::new(&below_arena), &below_arena);
        let smp = held(&SmpAllocator::<_>::new(&below_smp, ThreadSlots), &below_smp);
        assert!(arena > 2 * smp, "the arena held {arena} bytes, the general-purpose allocator {smp}");
    }

    #[test]
    fn a_fixed_buffer_keeps_a_strict_limit_and_takes_nothing_beside_it() {
        let mut memory = [MaybeUninit::<u8>::uninit(); 4096];
        let fixed = FixedBufferAllocator::new(&mut memory);
        assert!(fixed.alloc_slice::<u8>(4096).is_ok());
        assert_eq!(fixed.end_index(), 4096);
        assert!(fixed.alloc_slice::<u8>(1).is_err(), "it cannot grow");
    }

    #[test]
    fn each_role_serves_its_own_work() {
        assert!(tiny(&smp()).is_ok() && large(&PageAllocator).is_ok());
        let mut memory = buffer();
        assert!(tiny_in_buffer(&FixedBufferAllocator::new(&mut memory)).is_ok_and(|bytes| bytes == 24.0));
        assert!(independent(&FixedBufferAllocator::new(&mut memory)).is_err(), "100,000 blocks do not fit");
    }
}
