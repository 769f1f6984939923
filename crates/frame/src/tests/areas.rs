//! Of the table of free blocks and its indices: Linux's figures, a slow count, what no machine has.

use std::{format, string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::drawn::{Drawn, drawn};
use crate::{
    BitmapAllocator, FRAME_BYTES, Frame, FrameAllocator, Frames, FreeAreas, HybridAllocator, MapEntry, MemoryMap,
    Order, PhysAddr, Request, Thousandths, word::WORD,
};

fn order(log2: u32) -> Order {
    Order::new(log2).expect("up to 20")
}

/// The example, digit by digit.
#[test]
fn single_frames_alone_give_linuxs_indices() {
    let mut counts = [0; 11];
    counts[0] = 1983;
    let areas = FreeAreas::from_counts(&counts).expect("11 orders");
    let told: Vec<_> = (0..=10).map(|log2| areas.fragmentation_index(order(log2)).to_string()).collect();
    let wanted = ["-1.000", "0.500", "0.750", "0.875", "0.937", "0.969", "0.984", "0.992", "0.996", "0.998", "0.999"];
    assert_eq!(told, wanted);
    assert_eq!(areas.unusable_index(order(0)).get(), 0);
    assert!((1..=20).all(|log2| areas.unusable_index(order(log2)).get() == 1000));
}

#[test]
fn where_nothing_is_free_all_of_it_is_unusable_and_nothing_is_fragmented() {
    let none = FreeAreas::default();
    assert_eq!((none.unusable_index(order(0)).get(), none.fragmentation_index(order(9)).get()), (1000, 0));
    assert_eq!((none.largest(), none.blocks(), none.free_frames()), (None, 0, 0));
}

#[test]
fn the_lowest_index_is_that_of_a_single_block_of_half_the_size() {
    let half = FreeAreas::from_counts(&[0, 0, 0, 1]).expect("4 orders");
    assert_eq!(half.fragmentation_index(order(4)).to_string(), "-0.500");
    assert_eq!(half.fragmentation_index(order(3)).to_string(), "-1.000");
    assert_eq!(
        format!("{:>8}|{:<8}|{:+}", Thousandths(7), Thousandths(-937), Thousandths(1000)),
        "   0.007|-0.937  |+1.000"
    );
}

#[test]
fn a_line_is_that_of_proc_buddyinfo() {
    let line = "Node 0, zone    DMA32    850    854    834    498    303    181    141     58     20     11    703";
    let counts: Vec<usize> = line.split_whitespace().skip(4).map(|count| count.parse().expect("a count")).collect();
    let areas = FreeAreas::from_counts(&counts).expect("11 orders");
    assert_eq!(areas.labelled(0, "DMA32").to_string(), line);
    assert_eq!(areas.free_frames(), counts.iter().enumerate().map(|(order, count)| count << order).sum::<usize>());
    let table = format!("{areas:#}");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[11], ["10", "4096", "703", "0.062", "-1.000"]);
    assert_eq!(rows.len(), 13);
}

#[test]
fn tables_of_no_orders_or_too_many_are_none() {
    assert_eq!(FreeAreas::from_counts(&[]), None);
    assert_eq!(FreeAreas::from_counts(&[0; 22]), None);
    assert_eq!(FreeAreas::from_counts(&[0; 21]), Some(FreeAreas::default()));
}

#[test]
fn counts_that_no_machine_has_overflow_nothing() {
    let mut most = FreeAreas::from_counts(&[usize::MAX; 21]).expect("21 orders");
    most += &most.clone();
    assert_eq!((most.count(order(20)), most.blocks(), most.free_frames()), (usize::MAX, usize::MAX, usize::MAX));
    assert_eq!(most.suitable(order(0)), usize::MAX);
    assert_eq!(most.unusable_index(order(20)).get(), 499, "the lower orders together are one frame each less");
    assert_eq!(most.up_to(order(0)).count(order(0)), usize::MAX);
    let below = FreeAreas::from_counts(&[usize::MAX; 20]).expect("20 orders");
    assert_eq!(below.fragmentation_index(order(20)).get(), 951);
}

#[test]
fn a_sum_has_the_orders_of_both() {
    let mut sum = FreeAreas::from_counts(&[1, 2]).expect("2 orders");
    sum += &FreeAreas::from_counts(&[10, 20, 30]).expect("3 orders");
    assert_eq!(sum, FreeAreas::from_counts(&[11, 22, 30]).expect("3 orders"));
}

#[test]
fn what_lies_outside_of_a_range_is_not_counted() {
    let all = Drawn { first: 100, free: vec![true; 4000] };
    assert_eq!(FreeAreas::within(&all, Frames::new(0, 100)), FreeAreas::default());
    assert_eq!(FreeAreas::within(&all, Frames::new(4100, 9)), FreeAreas::default());
    assert_eq!(FreeAreas::within(&all, Frames::new(usize::MAX, 9)), FreeAreas::default());
    assert_eq!(FreeAreas::within(&all, Frames::new(512, 512)).count(order(9)), 1);
    assert_eq!(FreeAreas::within(&all, Frames::new(511, 512)).count(order(9)), 0);
    assert_eq!(FreeAreas::within(&all, Frames::ALL), FreeAreas::of(&all));
    assert_eq!((all.free_word(usize::MAX), all.free_word(usize::MAX / WORD)), (0, 0), "frames without a number");
}

/// A span above 4 GiB: blocks stop at order 20, and the holes of a map are nobody's.
#[test]
fn the_largest_blocks_are_of_order_20() {
    let map = MemoryMap::new(&[MapEntry::usable(0, 13 << 30), MapEntry::reserved(9 << 30, 1 << 30)]).expect("a map");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(map.span().count, 0) / 8];
    let frames = HybridAllocator::new(&map, &mut storage).expect("enough storage");
    let areas = FreeAreas::of(&frames);
    // 0–8 GiB, 8–9, 10–12, 12–13.
    assert_eq!((areas.count(order(20)), areas.count(order(19)), areas.count(order(18))), (2, 1, 2));
    assert_eq!((areas.blocks(), areas.largest(), areas.suitable(order(18))), (5, Some(order(20)), 12));
    assert_eq!(areas.up_to(order(10)).count(order(10)), 12 << 8, "as a Linux counts them");
    assert_eq!(frames.free_word(PhysAddr(9 << 30).frame().0 / WORD), 0);
}

/// From the largest order down: every aligned run of free frames that is in no larger one.
fn slow(first: usize, free: &[bool], top: u32) -> Vec<usize> {
    let mut left: Vec<bool> = free.to_vec();
    let mut counts = vec![0; top as usize + 1];
    for log2 in (0..=top).rev() {
        let size = 1usize << log2;
        for start in
            (first.next_multiple_of(size)..).step_by(size).take_while(|start| start + size <= first + free.len())
        {
            let block = &mut left[start - first..start - first + size];
            if block.iter().all(|&free| free) {
                block.fill(false);
                counts[log2 as usize] += 1;
            }
        }
    }
    counts
}

proptest! {
    #[test]
    fn a_table_is_what_a_slow_count_finds(drawn in drawn(), top in 0u32..=20) {
        let areas = FreeAreas::of(&drawn);
        let wanted = slow(drawn.first, &drawn.free, 20);
        prop_assert_eq!(areas, FreeAreas::from_counts(&wanted).expect("21 orders"));
        let limited = slow(drawn.first, &drawn.free, top);
        prop_assert_eq!(areas.up_to(order(top)), FreeAreas::from_counts(&limited).expect("up to 21 orders"));
        prop_assert_eq!(areas.free_frames(), drawn.free_frames());
    }

    /// What allocators answer word by word is what they answer frame by frame.
    #[test]
    fn words_of_free_frames_are_frames_that_are_free(drawn in drawn(), hole in 0u64..3000) {
        let (span, frame) = (drawn.span(), FRAME_BYTES);
        let hole = MapEntry::reserved(hole * frame, 70 * frame);
        let usable = MapEntry::usable(span.start.0 as u64 * frame, span.count as u64 * frame);
        let Ok(map) = MemoryMap::new(&[usable, hole]) else { return Ok(()) };
        let mut storage = vec![0; BitmapAllocator::metadata_bytes(map.span().count) / 8];
        let bitmap = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
        let mut storage = vec![0; HybridAllocator::metadata_bytes(map.span().count, 0) / 8];
        let hybrid = HybridAllocator::new(&map, &mut storage).expect("enough storage");
        for frames in [&bitmap as &dyn FrameAllocator, &hybrid] {
            for (at, _) in drawn.free.iter().enumerate().filter(|(_, free)| !**free) {
                let one = Frames::new(span.start.0 + at, 1);
                let taken = frames.alloc(&Request::frames(1).within(one));
                prop_assert_eq!(taken.is_ok(), map.contains(one));
            }
            for word in (0..8000 / WORD).chain([usize::MAX / WORD, usize::MAX]) {
                let is_free = |bit: &usize| word.checked_mul(WORD).is_some_and(|first| frames.is_free(Frame(first + bit)));
                let wanted = (0..WORD).filter(is_free).fold(0u64, |bits, bit| bits | 1 << bit);
                prop_assert_eq!(frames.free_word(word), wanted, "word {}", word);
            }
            let free: Vec<bool> = (0..span.end()).map(|at| frames.is_free(Frame(at))).collect();
            prop_assert_eq!(FreeAreas::of(frames), FreeAreas::from_counts(&slow(0, &free, 20)).expect("21 orders"));
        }
    }

    /// Linux's own lines, in its own words and widths.
    #[test]
    fn indices_are_those_that_linux_computes(counts in prop::collection::vec(0u64..5000, 1..=21)) {
        let areas = FreeAreas::from_counts(&counts.iter().map(|&count| count as usize).collect::<Vec<_>>());
        let areas = areas.expect("1 to 21 orders");
        let free_pages: u64 = counts.iter().enumerate().map(|(at, count)| count << at).sum();
        let free_blocks_total: u64 = counts.iter().sum();
        for log2 in 0..=20 {
            let suitable = |(at, count): (usize, &u64)| if at >= log2 { count << (at - log2) } else { 0 };
            let free_blocks_suitable: u64 = counts.iter().enumerate().map(suitable).sum();
            let unusable = match free_pages {
                0 => 1000,
                _ => (free_pages - (free_blocks_suitable << log2)) * 1000 / free_pages,
            };
            let fragmentation = match (free_blocks_total, free_blocks_suitable) {
                (0, _) => 0,
                (_, 1..) => -1000,
                (total, 0) => 1000 - ((1000 + free_pages * 1000 / (1 << log2)) / total) as i32,
            };
            let log2 = order(log2 as u32);
            prop_assert_eq!(areas.unusable_index(log2).get(), unusable as i32);
            prop_assert_eq!(areas.fragmentation_index(log2).get(), fragmentation);
            prop_assert_eq!(areas.suitable(log2) as u64, free_blocks_suitable);
        }
    }
}
