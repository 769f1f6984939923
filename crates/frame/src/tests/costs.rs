//! Of the layers that tell: the words of metadata that their tables state, counted.

use std::{string::ToString, vec, vec::Vec};

use crate::{
    BitmapAllocator, Frame, FrameAllocator, Frames, FreeAreas, HybridAllocator, MemoryMap, Misuse, Order, Owner,
    Picture, Request, SiteCounts, TrackedFrames, stress::touched,
};

const FRAMES: usize = 1 << 15;

fn order(log2: u32) -> Order {
    Order::new(log2).expect("up to 20")
}

/// A word for 64 frames, and for the hybrid one of each of its trees too where that is empty, whatever is free.
#[test]
fn tables_and_pictures_read_each_word_once() {
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(FRAMES) / 8];
    let bitmap = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(FRAMES, 0) / 8];
    let hybrid = HybridAllocator::new(&map, &mut storage).expect("enough storage");
    for _ in 0..3 {
        for (frames, least, most) in [(&bitmap as &dyn FrameAllocator, 1, 1), (&hybrid, 1, 4)] {
            let each = least * FRAMES / 64..=most * FRAMES / 64;
            let (areas, words) = touched(|| FreeAreas::of(frames));
            assert_eq!(areas.free_frames(), frames.free_frames());
            assert!(each.contains(&words), "{words}");
            let (_, words) = touched(|| Picture::of(frames).to_string());
            assert!(each.contains(&words), "{words}");
            let runs: Vec<Frames> = (0..40).filter_map(|n| frames.alloc(&Request::frames(n * 7 + 1)).ok()).collect();
            runs.iter().step_by(2).for_each(|&run| assert_eq!(frames.free(run), Ok(())));
        }
    }
}

/// What the layer adds to its backing: one word to note a run, two looks at it to strike it out, whatever its size.
#[test]
fn tracking_touches_a_word_for_a_run() {
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(FRAMES) / 8];
    let backing = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let mut notes = vec![0; TrackedFrames::metadata_bytes(FRAMES) / 8];
    let sites = [const { SiteCounts::new() }; 4];
    let tracked = TrackedFrames::new(&backing, &mut notes, &sites).expect("enough storage");
    let mine = tracked.as_owner(Owner(3));
    for log2 in [0, 5, 9, 12] {
        let request = Request::order(order(log2));
        let (run, bare) = touched(|| backing.alloc(&request).expect("there is room"));
        let (_, bare_free) = touched(|| assert_eq!(backing.free(run), Ok(())));
        let (run, words) = touched(|| mine.alloc(&request).expect("there is room"));
        assert_eq!(words, bare + 1, "{log2}");
        let (_, words) = touched(|| assert_eq!(tracked.free(run), Err(Misuse::WrongOwner)));
        assert_eq!(words, 1, "a mistake is seen in the note");
        let (found, words) = touched(|| tracked.run_of(Frame(run.end() - 1)));
        assert_eq!((found.map(|found| found.frames), words), (Some(run), run.count + 1));
        let (_, words) = touched(|| assert_eq!(mine.free(run), Ok(())));
        assert_eq!(words, bare_free + 2, "{log2}");
    }
    assert_eq!(touched(|| tracked.run_of(Frame(FRAMES - 1))).1, FRAMES, "back to the first, and no further");
    assert_eq!(touched(|| tracked.leaks().count()).1, FRAMES);
}
