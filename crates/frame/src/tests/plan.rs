//! The places of the metadata's parts, and how small they are.

use crate::{
    plan::*,
    types::{Frames, Order},
    word::{BLOCK, WORD},
};

#[test]
fn every_frame_of_a_span_has_its_place() {
    for start in (0..3 * GROUP).step_by(509).chain([GROUP - 1, GROUP, BLOCK - 1, BLOCK]) {
        for count in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5000, GROUP - 1, GROUP, GROUP + 1, 3 * GROUP] {
            let span = Frames::new(start, count);
            let plan = Plan::new(span);
            assert_eq!(plan.base % GROUP, 0);
            assert!(plan.base + plan.skip * BLOCK <= start && start - plan.base - plan.skip * BLOCK < BLOCK);
            let stored = plan.base + (plan.skip + plan.blocks) * BLOCK;
            assert!(stored >= span.end() && stored - span.end() < BLOCK);
            assert!(plan.base + plan.groups * GROUP >= stored);
            assert!(plan.hybrid_words(3) * 8 + TO_A_LINE <= hybrid_bytes(count, 3), "{start} {count}");
            assert!(plan.bitmap_words() * 8 + TO_A_LINE <= bitmap_bytes(count));
            for leaf in [0, 5, 9, 20].map(|log2| Order::new(log2).expect("up to 20")) {
                let (first, words) = tree_span(span, leaf);
                assert!(first * leaf.frames() * WORD <= start);
                assert!((first + words) * leaf.frames() * WORD >= span.end());
                assert!(tree_words(words, 1) * 8 + TO_A_LINE <= buddy_bytes(count, leaf));
            }
        }
    }
}

#[test]
fn metadata_is_as_small_as_promised() {
    let share = |frames: usize, bytes: usize| bytes as f64 / (frames as f64 * 4096.0) * 100.0;
    for gib in [4usize, 16, 64, 1024] {
        let frames = gib << 18;
        assert!(share(frames, hybrid_bytes(frames, 64)) <= 0.0035, "{gib} GiB with 64 slots");
        assert!(share(frames, bitmap_bytes(frames)) <= 0.0033);
    }
    assert!(share(1 << 20, hybrid_bytes(1 << 20, 2)) <= 0.0033);
    assert!(share(1 << 20, buddy_bytes(1 << 20, Order::MIN)) <= 0.0039);
}

#[test]
fn a_run_is_split_where_parts_end() {
    let pieces = |start, count| split(start, count, 8).collect::<std::vec::Vec<_>>();
    assert_eq!(pieces(3, 2), [(3, 2)]);
    assert_eq!(pieces(3, 14), [(3, 5), (8, 8), (16, 1)]);
    assert_eq!(pieces(8, 8), [(8, 8)]);
}
