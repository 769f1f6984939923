//! An allocator for each part of a program: what a part holds can be told, and given back, without the others.
//!
//! ```console
//! $ cargo run -p terrace-examples --example instance_per_subsystem
//! index: 16.0 MiB of pages, cache: 4.0 MiB
//! the index has ended: index 0.0 MiB, cache 4.0 MiB
//! ```
//!
//! Both parts have the everyday allocator, an instance each, over pages that a layer counts. The index is thrown away as a whole:
//! no block of it is freed one by one, and not a page of the cache lies between.

use std::thread;

use allocator_api2_02::{boxed::Box, vec::Vec};
use terrace::{AllocError, AllocatorExt, Bridge, PageAllocator, SmpAllocator, Stats, StatsAllocator, ThreadSlots};

/// Pages, counted.
type Counted = StatsAllocator<PageAllocator>;
/// A part's allocator: threads may share it.
type Heap<'a> = SmpAllocator<&'a Counted>;

fn mebibytes(pages: &Counted) -> f64 {
    pages.stats().current_bytes as f64 / (1 << 20) as f64
}

/// What the parts hold while both are there, and when the index has ended: index, cache, index, cache.
fn story() -> Result<[f64; 4], AllocError> {
    let (index_pages, cache_pages) = (Counted::new(PageAllocator), Counted::new(PageAllocator));
    let cache = Heap::new(&cache_pages, ThreadSlots);
    let mut recent = Vec::new_in(Bridge::new(&cache));
    recent.extend((0..1000).map(|n| Box::new_in(n, Bridge::new(&cache))));

    let index = Heap::new(&index_pages, ThreadSlots);
    build(&index)?;
    let (held_index, held_cache) = (mebibytes(&index_pages), mebibytes(&cache_pages));

    drop(index); // Everything at once, whichever thread it came from.
    assert!(recent.iter().enumerate().all(|(n, value)| **value == n));
    Ok([held_index, held_cache, mebibytes(&index_pages), mebibytes(&cache_pages)])
}

/// A hundred thousand entries, from four threads.
fn build(index: &Heap<'_>) -> Result<(), AllocError> {
    thread::scope(|scope| {
        let threads: std::vec::Vec<_> = (0..4)
            .map(|thread: u8| {
                scope.spawn(move || {
                    (0..25_000usize).try_for_each(|n| {
                        index.alloc_slice::<u8>(1 + n % 250).map(|entry| {
                            // SAFETY: fresh, and of a byte at least.
                            unsafe { entry.cast::<u8>().write(thread) };
                        })
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no entry panics"))
    })
}

fn main() -> Result<(), AllocError> {
    let [index, cache, index_after, cache_after] = story()?;
    println!("index: {index:.1} MiB of pages, cache: {cache:.1} MiB");
    println!("the index has ended: index {index_after:.1} MiB, cache {cache_after:.1} MiB");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_ends_gives_back_its_own_memory_and_nobody_elses() {
        let [index, cache, index_after, cache_after] = story().unwrap();
        assert!(index > 10.0 && cache > 0.0);
        assert_eq!((index_after, cache_after), (0.0, cache));
    }
}
