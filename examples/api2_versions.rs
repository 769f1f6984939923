//! One `HashMap` over three versions of allocator-api2.
//!
//! ```console
//! $ cargo run -p terrace-examples --example api2_versions
//! ```
//!
//! hashbrown's map takes allocators of allocator-api2 0.2. Others have moved on to 0.3 or 0.4, and a crate that is asked
//! for all three has three traits of one name that know nothing of each other. Terrace stands between them:
//!
//! ```text
//!   allocators of others            Terrace                 collections of others
//!   0.2  bumpalo's &Bump   ─┐                            ┌─▶ 0.2  hashbrown's HashMap, Vec
//!   0.3  Global            ─┼─▶ Api2Backing ─▶ Bridge ───┼─▶ 0.3  Vec
//!   0.4  Global            ─┘   or an arena over it      └─▶ 0.4  Vec
//! ```
//!
//! Whatever speaks any of them becomes a backing, whatever is a backing serves all of them, all at once.

use bumpalo::Bump;
use hashbrown::{DefaultHashBuilder, HashMap};
use terrace_core::{Allocator, Api2Backing, Bridge, Stats};
use terrace_heap::{ArenaAllocator, StatsAllocator};

type Words<'t, A> = HashMap<&'t str, u32, DefaultHashBuilder, Bridge<A>>;

/// One map for all versions: nothing here says which one its allocator speaks.
fn count_words<A: Allocator>(text: &str, allocator: A) -> Words<'_, A> {
    let mut words = HashMap::with_hasher_in(DefaultHashBuilder::default(), Bridge::new(allocator));
    for word in text.split_whitespace() {
        *words.entry(word).or_insert(0) += 1;
    }
    words
}

const TEXT: &str = "one map over three versions and three versions over one map";

/// The map over an allocator of each version: what it says of `three`, and how many words it holds.
fn over_each_version() -> [(u32, usize); 3] {
    let bump = Bump::new();
    let two = count_words(TEXT, Api2Backing::new(&bump));
    let three = count_words(TEXT, Api2Backing::new(allocator_api2_03::alloc::Global));
    let four = count_words(TEXT, Api2Backing::new(allocator_api2_04::alloc::Global));
    [(two["three"], two.len()), (three["three"], three.len()), (four["three"], four.len())]
}

/// One arena under a vector of each version and a map, all alive at once; the requests it made for them.
fn under_each_version() -> u64 {
    let counted = StatsAllocator::new(Api2Backing::new(allocator_api2_04::alloc::Global));
    let arena = ArenaAllocator::new(&counted);
    let mut two = allocator_api2_02::vec::Vec::new_in(&arena);
    let mut three = allocator_api2_03::vec::Vec::new_in(Bridge::new(&arena));
    let mut four = allocator_api2_04::vec::Vec::new_in(&arena as &dyn Allocator);
    let words = count_words(TEXT, &arena);
    for count in words.values() {
        two.push(*count);
        three.push(*count);
        four.push(*count);
    }
    assert!(two[..] == three[..] && three[..] == four[..]);
    counted.stats().total_allocations
}

fn main() {
    for ((version, what), (count, words)) in
        [("0.2", "a Bump"), ("0.3", "Global"), ("0.4", "Global")].into_iter().zip(over_each_version())
    {
        println!("the map over {what} of allocator-api2 {version}: {words} words, \"three\" {count} times");
    }
    println!("one arena under vectors of all three and a map: {} requests to its backing", under_each_version());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_the_same_over_each_version() {
        assert_eq!(over_each_version(), [(2, 6); 3]);
    }

    #[test]
    fn one_arena_serves_all_versions_at_once() {
        assert!((1..=3).contains(&under_each_version()));
    }

    /// What the others cannot do alone: an allocator of 0.4 is none of 0.2.
    #[test]
    fn a_map_of_0_2_empties_and_fills_over_an_allocator_of_0_4() {
        let counted = StatsAllocator::new(Api2Backing::new(allocator_api2_04::alloc::Global));
        let mut words = count_words(TEXT, &counted);
        words.clear();
        words.shrink_to_fit();
        assert_eq!(counted.stats().current_bytes, 0);
        words.insert("again", 1);
        drop(words);
        assert_eq!(counted.stats().current_allocations, 0);
    }
}
