//! The words of metadata that each operation touches, counted: what the tables at the top of the files state.

use std::{iter, ops::RangeInclusive, vec, vec::Vec};

use super::{NUMBER, Numbers, touched};
use crate::{BitmapAllocator, BuddyAllocator, Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap, Order};

/// What the top of the files says of the two others.
#[test]
fn bitmap_and_buddy_touch_no_more_words_than_they_say() {
    const FRAMES: usize = 1 << 16;
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(FRAMES) / 8];
    let bitmap = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let mut storage = vec![0; BuddyAllocator::metadata_bytes(FRAMES, Order::MIN) / 8];
    let buddy = BuddyAllocator::new(&map, &mut storage).expect("enough storage");
    for log2 in 0..=9 {
        let order = Order::new(log2).expect("up to 20");
        let words = 1usize << log2.saturating_sub(6);
        // A class looked at is up to 3 words; a stale hint is up to the block and 30 words of its rows.
        for (name, frames, alloc, free) in [
            ("bitmap", &bitmap as &dyn FrameAllocator, 100, 2 * words + 24),
            ("buddy", &buddy, 60 + 3 * words, 8 * words),
        ] {
            let mut runs = Vec::new();
            for run in 0.. {
                let (found, touches) = touched(|| frames.alloc_order(order));
                let Ok(found) = found else { break };
                assert!(touches <= alloc, "{name}, {order:?}, run {run}: {touches} of {alloc} to alloc");
                runs.push(found);
            }
            assert_eq!(frames.free_frames(), 0);
            for run in runs {
                let (result, touches) = touched(|| frames.free_order(run, order));
                assert_eq!(result, Ok(()));
                assert!(touches <= free, "{name}, {order:?}: {touches} of {free} to free");
            }
        }
    }
}

/// The worst cases in words of metadata that the table at the top of `hybrid.rs` states, the index's words included: in
/// memories that begin and end anywhere, with a slot that begins at the first group, and with several in turn; where the
/// index has one level, where it can, and where it has all.
#[test]
fn operations_touch_no_more_words_than_they_say() {
    const GROUP: usize = 1 << 15;
    let small = [(180, 90), (95, 60), (45, 30), (5, 5)];
    let large = [(230, 130), (160, 90), (100, 55), (110, 10)];
    for (start, count, highest, most) in [
        (0, 1 << 19, 17, small),
        (0, (1 << 19) - 600, 17, small),
        (63 * GROUP + 700, 1 << 19, 17, small),
        (3 * GROUP, 9 * GROUP, 17, small),
        (0, 1 << 28, 20, large),
        (5 * GROUP + 700, 1 << 28, 20, large),
    ] {
        for numbers in [&[1][..], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            in_memory_of(start, count, |frames| {
                touch_no_more_words(frames, 14..=highest, numbers, most);
                // All but two whole groups, and the ends, so that there are not too many small runs.
                let mut groups: Vec<Frame> = iter::from_fn(|| frames.alloc_order(order(15)).ok()).collect();
                groups.sort_unstable_by_key(|group| group.0);
                for at in [0, groups.len() / 2] {
                    assert_eq!(frames.free_order(groups[at], order(15)), Ok(()));
                }
                touch_no_more_words(frames, 0..=14, numbers, most);
            });
        }
    }
    NUMBER.set(0);
}

fn order(log2: u32) -> Order {
    Order::new(log2).expect("up to 20")
}

fn in_memory_of(start: usize, count: usize, act: impl FnOnce(&HybridAllocator<'_, Numbers>)) {
    let map = MemoryMap::of(Frames::new(start, count)).expect("a map");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(count, 8) / 8];
    act(&HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage"));
}

/// Over orders in turn: filled, half emptied in a pattern, filled again, emptied; each slot makes five calls, then the
/// next one. `most`: the words of an alloc and of a free, for runs of frames, units, blocks and groups.
fn touch_no_more_words(
    frames: &HybridAllocator<'_, Numbers>,
    orders: RangeInclusive<u32>,
    numbers: &[usize],
    most: [(usize, usize); 4],
) {
    let scattered: fn(usize, Frame, u32) -> bool = |at, _, _| at * 7 % 16 < 8;
    // Each third of the runs, and all of each second part of the memory.
    let striped: fn(usize, Frame, u32) -> bool = |_, run, log2| (run.0 >> log2) % 3 != 1 || run.0 >> 13 & 1 == 0;
    let mut calls = 0;
    for (log2, pattern) in orders.flat_map(|log2| [(log2, scattered), (log2, striped)]) {
        let (mut runs, order) = (Vec::new(), order(log2));
        let (mut most_alloc, mut most_free) = (0, 0);
        for goes in [pattern, |_, _, _| true] {
            loop {
                NUMBER.set(numbers[calls / 5 % numbers.len()]);
                calls += 1;
                let (run, words) = touched(|| frames.of_order(log2));
                let Some(run) = run else { break };
                // Numbers begin at the group in which the memory does.
                runs.push(Frame(run + (frames.span().start.0 >> 15 << 15)));
                most_alloc = most_alloc.max(words);
            }
            let mut kept = Vec::new();
            for (at, run) in runs.drain(..).enumerate() {
                if goes(at, run, log2) {
                    let (result, words) = touched(|| frames.free_order(run, order));
                    assert_eq!(result, Ok(()));
                    most_free = most_free.max(words);
                } else {
                    kept.push(run);
                }
            }
            runs = kept;
        }
        frames.drain();
        let [of_frames, of_units, of_blocks, of_groups] = most;
        let (alloc, free) = match log2 {
            0..6 => of_frames,
            6..9 => of_units,
            9..15 => of_blocks,
            _ => of_groups,
        };
        assert!(most_alloc <= alloc && most_free <= free, "{order:?}: {most_alloc} of {alloc}, {most_free} of {free}");
    }
}

/// Each slot begins in a part of the memory that is its own, at a 1 GiB page, and has all of the memory none the less.
#[test]
fn slots_begin_far_from_one_another() {
    in_memory_of(0, 1 << 24, |frames| {
        for log2 in [0, 6, 9, 14, 15, 18] {
            let firsts = [1, 2, 3, 4].map(|number| {
                NUMBER.set(number);
                Frame(frames.of_order(log2).expect("there is room"))
            });
            let order = order(log2);
            firsts.iter().for_each(|&first| assert_eq!(frames.free_order(first, order), Ok(())));
            frames.drain();
            let quarters = firsts.map(|first| first.0 >> 22);
            assert_eq!(quarters, [0, 2, 1, 3], "{order:?}");
        }
        for number in 1..=8 {
            NUMBER.set(number);
            let all = iter::from_fn(|| frames.of_order(18).map(Frame)).collect::<Vec<_>>();
            assert_eq!(all.len(), 64);
            all.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order(18)), Ok(())));
        }
    });
    NUMBER.set(0);
}
