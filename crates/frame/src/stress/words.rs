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

/// The worst cases in words of metadata that the table at the top of `hybrid.rs` states, the index's words included: with
/// a slot that begins at the first group and with one that begins in the middle, in a memory whose index has one level
/// where there can be one, and in one whose index has all.
#[test]
fn operations_touch_no_more_words_than_they_say() {
    const LARGE: [(usize, usize); 4] = [(140, 130), (120, 90), (90, 55), (65, 10)];
    for number in [1, 2] {
        NUMBER.set(number);
        in_memory_of(1 << 19, |frames| touch_no_more_words(frames, 0..=17, [(95, 90), (65, 60), (35, 30), (5, 5)]));
        in_memory_of(1 << 28, |frames| {
            touch_no_more_words(frames, 9..=20, LARGE);
            // All but a few groups at either place, so that there are not too many small runs.
            let mut groups: Vec<Frame> = iter::from_fn(|| frames.of_order(15).map(Frame)).collect();
            groups.sort_unstable_by_key(|group| group.0);
            let order = Order::new(15).expect("up to 20");
            for at in [0, 1, groups.len() / 2, groups.len() / 2 + 1] {
                assert_eq!(frames.free_order(groups[at], order), Ok(()));
            }
            touch_no_more_words(frames, 0..=9, LARGE);
        });
    }
    NUMBER.set(0);
}

fn in_memory_of(count: usize, act: impl FnOnce(&HybridAllocator<'_, Numbers>)) {
    let map = MemoryMap::of(Frames::new(0, count)).expect("a map");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(count, 8) / 8];
    act(&HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage"));
}

/// Over orders in turn: filled, half emptied in a pattern, filled again, emptied. `most`: the words of an alloc and of a
/// free, for runs of frames, units, blocks and groups.
fn touch_no_more_words(frames: &HybridAllocator<'_, Numbers>, orders: RangeInclusive<u32>, most: [(usize, usize); 4]) {
    for log2 in orders {
        let order = Order::new(log2).expect("up to 20");
        // The search meets all kinds of blocks.
        let mut runs = Vec::new();
        let (mut most_alloc, mut most_free) = (0, 0);
        for round in 0..2 {
            loop {
                let (run, words) = touched(|| frames.of_order(log2));
                let Some(run) = run else { break };
                runs.push(Frame(run));
                most_alloc = most_alloc.max(words);
            }
            assert_eq!(frames.free_frames(), 0, "{order:?}");
            let mut kept = Vec::new();
            for (at, run) in runs.drain(..).enumerate() {
                if round == 1 || at * 7 % 16 < 8 {
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
    in_memory_of(1 << 24, |frames| {
        for log2 in [0, 6, 9, 14, 15, 18] {
            let firsts = [1, 2, 3, 4].map(|number| {
                NUMBER.set(number);
                Frame(frames.of_order(log2).expect("there is room"))
            });
            let order = Order::new(log2).expect("up to 20");
            firsts.iter().for_each(|&first| assert_eq!(frames.free_order(first, order), Ok(())));
            frames.drain();
            let quarters = firsts.map(|first| first.0 >> 22);
            assert_eq!(quarters, [0, 2, 1, 3], "{order:?}");
        }
        for number in 1..=8 {
            NUMBER.set(number);
            let all = iter::from_fn(|| frames.of_order(18).map(Frame)).collect::<Vec<_>>();
            assert_eq!(all.len(), 64);
            let order = Order::new(18).expect("up to 20");
            all.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
        }
    });
    NUMBER.set(0);
}
