//! The words of metadata that each operation touches, counted: what the tables at the top of the files state.

use std::{vec, vec::Vec};

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

/// The worst cases in words of metadata that the table at the top of `hybrid.rs` states, the index's words included,
/// over orders in turn: filled, half emptied in a pattern, filled again, emptied. With a slot that begins at the first
/// group, and with one that begins in the middle.
#[test]
fn operations_touch_no_more_words_than_they_say() {
    touch_no_more_words(1);
    touch_no_more_words(2);
    NUMBER.set(0);
}

fn touch_no_more_words(number: usize) {
    const FRAMES: usize = 1 << 19;
    NUMBER.set(number);
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(FRAMES, 8) / 8];
    let frames = HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage");
    for log2 in 0..=17 {
        let order = Order::new(log2).expect("up to 20");
        // Full, half empty in a pattern, then full again: the search meets all kinds of blocks.
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
        let (alloc, free) = match log2 {
            0..6 => (100, 130),
            6..9 => (75, 90),
            9..15 => (50, 55),
            _ => (10, 10),
        };
        assert!(
            most_alloc <= alloc && most_free <= free,
            "slot {number}, {order:?}: {most_alloc} of {alloc}, {most_free} of {free}"
        );
    }
}
