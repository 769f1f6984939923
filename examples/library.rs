//! A small library that takes an allocator: its caller decides where the memory comes from.
//!
//! ```console
//! $ cargo run -p terrace-examples --example library
//! the sea: 3 of 8 words are different
//! ```
//!
//! `WordCount` never mentions a global allocator. It is generic over anything that speaks Terrace's interface,
//! and bridges it to hashbrown's map. Here the same function runs over the system's malloc, over
//! an arena, inside a buffer on the stack, and over an allocator chosen at run time.

use std::mem::MaybeUninit;

use hashbrown::{DefaultHashBuilder, HashMap};
use terrace_core::{AllocError, Allocator, AllocatorExt, Bridge, SystemAllocator};
use terrace_heap::{ArenaAllocator, FixedBufferAllocator};
use terrace_sys::PageAllocator;

/// How often each word occurs. Its table and its copies of the words live in `allocator`.
struct WordCount<'a, A: Allocator> {
    counts: HashMap<&'a [u8], usize, DefaultHashBuilder, Bridge<&'a A>>,
    allocator: &'a A,
}

impl<'a, A: Allocator> WordCount<'a, A> {
    fn new(allocator: &'a A) -> Self {
        Self { counts: HashMap::new_in(Bridge::new(allocator)), allocator }
    }

    /// Counts every word of `text`, of which it keeps nothing.
    ///
    /// # Errors
    /// [`AllocError`] where the caller's allocator has no memory left; what was counted stays counted.
    fn add(&mut self, text: &str) -> Result<(), AllocError> {
        for word in text.split_whitespace() {
            if let Some(count) = self.counts.get_mut(word.as_bytes()) {
                *count += 1;
                continue;
            }
            self.counts.try_reserve(1).map_err(|_| AllocError)?;
            let copy = self.allocator.dupe(word.as_bytes())?;
            // SAFETY: a live block that only `drop` frees, after the map's last use of it.
            let copy = unsafe { copy.as_ref() };
            self.counts.insert(copy, 1);
        }
        Ok(())
    }

    /// Words in all, and different ones.
    fn totals(&self) -> (usize, usize) {
        (self.counts.values().sum(), self.counts.len())
    }
}

impl<A: Allocator> Drop for WordCount<'_, A> {
    fn drop(&mut self) {
        for (word, _) in self.counts.drain() {
            // SAFETY: made by `dupe` in `add`, and no longer in the map.
            unsafe { self.allocator.free_slice(word.into()) };
        }
    }
}

fn count<A: Allocator>(allocator: &A, text: &str) -> Result<(usize, usize), AllocError> {
    let mut words = WordCount::new(allocator);
    words.add(text)?;
    Ok(words.totals())
}

const TEXT: &str = "the sea the sea the open sea the";

fn main() -> Result<(), AllocError> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let chosen: &dyn Allocator = if std::env::args().len() > 1 { &PageAllocator } else { &SystemAllocator };
    let totals = count(&SystemAllocator, TEXT)?;
    assert_eq!(count(&ArenaAllocator::new(PageAllocator), TEXT)?, totals);
    assert_eq!(count(&FixedBufferAllocator::new(&mut buffer), TEXT)?, totals);
    assert_eq!(count(&chosen, TEXT)?, totals);
    println!("the sea: {} of {} words are different", totals.1, totals.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::Stats;
    use terrace_heap::StatsAllocator;

    #[test]
    fn the_same_answer_over_every_allocator() {
        main().unwrap();
    }

    #[test]
    fn what_it_took_it_gives_back() {
        let counted = StatsAllocator::new(SystemAllocator);
        assert_eq!(count(&counted, TEXT), Ok((8, 3)));
        assert!(counted.stats().total_allocations >= 4, "three words and a table");
        assert_eq!(counted.stats().current_bytes, 0);
    }

    #[test]
    fn too_little_memory_is_an_error_and_not_an_abort() {
        let mut buffer = [MaybeUninit::uninit(); 64];
        assert_eq!(count(&FixedBufferAllocator::new(&mut buffer), TEXT), Err(AllocError));
    }
}
