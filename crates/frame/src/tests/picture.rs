//! Of the picture: each mark against the frames that it stands for.

use std::{string::ToString, vec, vec::Vec};

use proptest::prelude::*;

use super::drawn::{Drawn, drawn};
use crate::{BitmapAllocator, Frame, FrameAllocator, Frames, MapEntry, MemoryMap, Order, PageSize, Picture, Request};

/// The marks by address, of the lines that there are.
fn marks(text: &str) -> Vec<(usize, Vec<char>)> {
    let lines = text.lines().filter_map(|line| line.split_once(" |"));
    let read = |(address, marks): (&str, &str)| {
        let address = usize::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        Some((address / 4096, marks.strip_suffix('|')?.chars().collect()))
    };
    lines.filter_map(read).collect()
}

#[test]
fn a_block_is_drawn_by_the_tenths_that_are_in_use() {
    let map = MemoryMap::new(&[MapEntry::usable(0x20_0000, 16 << 21), MapEntry::reserved(0x60_0000, 0x20_1000)]);
    let map = map.expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(map.span().count) / 8];
    let frames = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let take = |start, count| {
        frames.alloc(&Request::frames(count).within(Frames::new(start, count))).expect("it is free");
    };
    take(512, 1); // A frame of 512 is in use: less than a tenth, and still not free.
    take(1024, 511); // One is free: more than nine tenths, and still not full.
    take(2049, 100); // Of a block whose first frame is in a hole.
    take(2560, 512);
    take(3072, 256);
    let text = Picture::of(&frames).to_string();
    let line = std::format!("0x000000000000 | 19 1#5{}{}|", ".".repeat(10), " ".repeat(47));
    assert_eq!(text.lines().next(), Some(line.as_str()), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.ends_with("each 2048 KiB: . free, 1 to 9 tenths in use, # in use, blank no memory"), "{text}");
}

#[test]
fn lines_without_memory_are_counted_not_drawn() {
    let (gib, line) = (1 << 30, 128 << 20);
    let map = MemoryMap::new(&[MapEntry::usable(0, line), MapEntry::usable(gib, line)]).expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(map.span().count) / 8];
    let frames = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let text = Picture::of(&frames).to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[1].trim(), "lines without memory: 7");
    assert!(lines[2].starts_with("0x000040000000 |...."));
    let nothing = Picture::of(&frames).within(Frames::new(usize::MAX, 9)).to_string();
    assert!(marks(&nothing).is_empty(), "{nothing}");
    let giant = Picture::of(&frames).of_blocks(PageSize::Giant.order()).to_string();
    assert_eq!(marks(&giant)[0].1[..3], ['.', '.', ' ']);
}

proptest! {
    #[test]
    fn each_mark_is_what_its_frames_are(drawn in drawn(), log2 in 0u32..=11, from in 0usize..3000, count in 0usize..9000) {
        let order = Order::new(log2).expect("up to 20");
        let range = Frames::new(from, count);
        let shown = drawn.span().shared_with(range);
        let text = Picture::of(&drawn).of_blocks(order).within(range).to_string();
        let lines = marks(&text);
        prop_assert!(lines.windows(2).all(|two| two[0].0 < two[1].0));
        let mark = |block: usize| {
            let inside = (block..block + order.frames()).map(|at| Frames::new(at, 1)).filter(|&one| shown.contains(one));
            let free: Vec<bool> = inside.map(|one| drawn.is_free(one.start)).collect();
            let used = free.iter().filter(|&&free| !free).count();
            match (used, free.len()) {
                (_, 0) => ' ',
                (0, _) => '.',
                (used, all) if used == all => '#',
                (used, all) => char::from_digit((used * 10 / all).max(1) as u32, 10).unwrap_or('?'),
            }
        };
        let mut drawn_blocks = 0;
        for (first, line) in lines {
            prop_assert_eq!(line.len(), 64);
            for (at, found) in line.into_iter().enumerate() {
                prop_assert_eq!(found, mark(first + at * order.frames()), "block {} of line {:#x}", at, first);
                drawn_blocks += usize::from(found != ' ');
            }
        }
        let blocks = (shown.start.0 / order.frames()..shown.end().div_ceil(order.frames())).count();
        prop_assert_eq!(drawn_blocks, if shown.count == 0 { 0 } else { blocks }, "none is left out");
    }
}

#[test]
fn a_picture_of_one_free_frame_has_one_mark_that_is_free() {
    let one = Drawn { first: 77, free: vec![true] };
    assert!(one.is_free(Frame(77)));
    let text = Picture::of(&one).of_blocks(Order::MIN).to_string();
    assert_eq!(marks(&text), [(64, std::format!("{:13}.{:50}", "", "").chars().collect::<Vec<_>>())]);
}
