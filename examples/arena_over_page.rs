//! An arena over pages: three strings, one end.
//!
//! ```console
//! $ cargo run -p terrace-examples --example arena_over_page
//! red, green, blue
//! 12 bytes in use, 1 mapping held, none after the arena's end
//! ```
//!
//! The arena asks the page allocator for memory and hands it on in small pieces. Nobody frees the strings
//! one by one: they end with the arena, and the compiler knows.

use terrace_core::{AllocError, Stats};
use terrace_heap::{ArenaAllocator, StatsAllocator};
use terrace_sys::PageAllocator;

fn main() -> Result<(), AllocError> {
    let (line, in_use, mappings, left) = story()?;
    println!("{line}");
    let left = if left == 0 { "none" } else { "some" };
    println!("{in_use} bytes in use, {mappings} mapping held, {left} after the arena's end");
    Ok(())
}

/// The line, the bytes in use, the mappings held meanwhile, and those held afterwards.
fn story() -> Result<(String, usize, u64, u64), AllocError> {
    // A layer that counts, so that the story can say what it cost.
    let pages = StatsAllocator::new(PageAllocator);
    let arena = ArenaAllocator::new(&pages);

    let red = arena.alloc_str("red")?;
    let green = arena.alloc_str("green")?;
    let blue = arena.alloc_str("blue")?;

    let line = format!("{red}, {green}, {blue}");
    let (in_use, mappings) = (arena.used_bytes(), pages.stats().current_allocations);
    drop(arena); // Everything goes back to the pages' allocator, and from there to the system.
    Ok((line, in_use, mappings, pages.stats().current_allocations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_in_one_mapping_and_nothing_left() {
        assert_eq!(story(), Ok(("red, green, blue".into(), 12, 1, 0)));
    }
}
