//! Scopes and checkpoints: what is newer ends, what is older stays, and a loop comes to rest.

mod support;

use std::num::NonZeroUsize;

use proptest::prelude::*;
use support::{Ground, HEADER, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Allocator, Owns, ResetMode};
use terrace_heap::ArenaAllocator;

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn scopes_and_checkpoints_keep_what_is_older(
        outer in ops(3000), inner in ops(30_000), innermost in ops(3000), roomy in any::<bool>(),
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let mut arena = ArenaAllocator::new(&ground);
        let mut shadow = Shadow::default();
        for op in &outer {
            shadow.step(&arena, op);
        }
        let used = arena.used_bytes();
        arena.scope(|scope| {
            let mut temporary = Shadow::default();
            for op in &inner {
                temporary.step(&**scope, op);
            }
            for op in outer.iter().filter(|op| matches!(op, Op::Free { .. })) {
                shadow.step(&**scope, op);
            }
            scope.scope(|scope| {
                let mut shadow = Shadow::default();
                for op in &innermost {
                    shadow.step(&**scope, op);
                }
                temporary.check();
            });
            temporary.check();
            shadow.check();
        });
        prop_assert!(arena.used_bytes() <= used);
        let checkpoint = arena.checkpoint();
        let mut temporary = Shadow::default();
        for op in inner.iter().filter(|op| matches!(op, Op::Alloc { .. })) {
            temporary.step(&arena, op);
        }
        prop_assert!(arena.rewind(checkpoint));
        shadow.check();
        for op in &outer {
            shadow.step(&arena, op);
        }
        shadow.check();
    }
}

#[test]
fn a_foreign_or_lost_checkpoint_changes_nothing() {
    let ground = Ground::default();
    let (mut one, mut other) = (ArenaAllocator::new(&ground), ArenaAllocator::new(&ground));
    one.alloc(len(10), align(1)).unwrap();
    other.alloc(len(20), align(1)).unwrap();
    let checkpoint = one.checkpoint();
    assert!(!other.rewind(checkpoint));
    assert_eq!(other.used_bytes(), 20);
    one.reset(ResetMode::FreeAll);
    assert!(!one.rewind(checkpoint));
    let empty = one.checkpoint();
    one.alloc(len(10_000), align(1)).unwrap();
    assert!(one.rewind(empty));
    assert_eq!(one.used_bytes(), 0);
}

#[test]
fn a_scope_that_unwinds_still_ends() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        arena.scope(|scope| {
            scope.alloc_str("temporary").unwrap();
            panic!("out");
        })
    }));
    assert!(caught.is_err());
    assert_eq!(arena.used_bytes(), 0);
}

/// Whatever is kept outside, however often and in whatever nodes.
#[test]
fn a_loop_whose_scope_outgrows_its_node_soon_asks_for_nothing() {
    for (kept, pieces) in [(0, 1), (1, 1), (100, 1), (4200, 84), (734, 14), (10_000, 3)] {
        for (bytes, times) in [(32, 149), (110, 122), (7, 40), (5000, 3), (300, 200)] {
            let ground = Ground::default();
            let mut arena = ArenaAllocator::new(&ground);
            let mut shadow = Shadow::default();
            for _ in 0..if kept == 0 { 0 } else { pieces } {
                shadow.step(&arena, &Op::Alloc { len: kept / pieces, log2: 0, zeroed: false });
            }
            let used = arena.used_bytes();
            let (mut asked, item) = (Vec::new(), vec![9u8; bytes]);
            for _ in 0..8 {
                arena.scope(|scope| {
                    for _ in 0..times {
                        scope.alloc_slice_copy(&item).unwrap().fill(1);
                    }
                });
                shadow.check();
                assert_eq!((arena.used_bytes(), arena.held_bytes()), (used, ground.held()));
                asked.push(ground.allocs.get() + ground.resizes.get());
            }
            assert_eq!(asked[1..], [asked[1]; 7], "{pieces} pieces of {kept} bytes kept, {times} times {bytes}");
        }
    }
}

/// The node that a scope began in may become empty while the scope lasts.
#[test]
fn a_scope_ends_where_it_began_though_the_node_became_empty() {
    let ground = Ground::default();
    for older in [0, 200] {
        let mut arena = ArenaAllocator::new(&ground);
        let kept = NonZeroUsize::new(older).map(|older| arena.alloc(older, align(8)).unwrap());
        arena.alloc(len(300), align(8)).unwrap(); // Larger than what is left: a node of its own where there is an older one.
        let before = arena.used_bytes();
        let last = arena.alloc(len(500), align(8)).unwrap();
        arena.scope(|scope| {
            // SAFETY: live, the last one, and not used again.
            unsafe { scope.free(slice(last, 500), align(8)) };
            for bytes in [2000, 5000, 20_000] {
                let block = scope.alloc(len(bytes), align(8)).unwrap();
                // SAFETY: live, the last one, and not used again.
                unsafe { scope.free(slice(block, bytes), align(8)) };
            }
            scope.alloc(len(3000), align(8)).unwrap();
        });
        assert!(arena.used_bytes() <= before + 8);
        assert!(kept.is_none_or(|kept| arena.owns(kept)));
    }
}

/// The outer scope's node has become empty: an inner one must neither give it back nor take it off the list.
#[test]
fn an_inner_scope_leaves_the_outer_ones_node_in_its_place() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    arena.alloc(len(100), align(1)).unwrap();
    let last = arena.alloc(len(1000), align(1)).unwrap();
    assert_eq!(ground.blocks(), 2);
    arena.scope(|scope| {
        // SAFETY: live, the last one, and not used again.
        unsafe { scope.free(slice(last, 1000), align(1)) };
        for bytes in [10, 5000] {
            scope.scope(|inner| inner.alloc(len(bytes), align(1)).map(|_| ())).unwrap();
            scope.alloc(len(20), align(1)).unwrap();
        }
    });
    assert!(arena.used_bytes() <= 1100);
    arena.alloc(len(1), align(1)).unwrap();
    assert!(arena.reset(ResetMode::RetainCapacity));
}

/// Left by a scope, taken up by what comes next, and given back with the rest.
#[test]
fn the_spare_is_held_used_and_given_back() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::with_capacity(&ground, len(100)).unwrap();
    arena.alloc(len(50), align(1)).unwrap();
    arena.scope(|scope| scope.alloc(len(1000), align(8)).map(|_| ())).unwrap();
    assert_eq!((ground.blocks(), arena.used_bytes(), arena.held_bytes()), (2, 50, ground.held()));
    assert_eq!(arena.query_capacity(), ground.held() - 2 * HEADER);
    arena.alloc(len(40), align(1)).unwrap();
    assert_eq!(arena.used_bytes(), 90, "the older node goes on");
    arena.alloc(len(1000), align(8)).unwrap();
    assert_eq!(ground.allocs.get(), 2, "the spare serves it");
    arena.scope(|scope| scope.alloc(len(10_000), align(8)).map(|_| ())).unwrap();
    arena.scope(|scope| scope.alloc(len(20_000), align(8)).map(|_| ())).unwrap();
    assert_eq!((ground.allocs.get(), ground.blocks()), (4, 3), "one spare at most");
    let capacity = arena.query_capacity();
    assert!(arena.reset(ResetMode::RetainCapacity));
    assert_eq!((ground.blocks(), arena.query_capacity()), (1, capacity));
    arena.scope(|scope| scope.alloc(len(capacity + 1), align(1)).map(|_| ())).unwrap();
    assert!(arena.reset(ResetMode::RetainWithLimit(10)));
    assert_eq!((ground.blocks(), arena.query_capacity()), (1, 10));
    arena.alloc(len(1), align(1)).unwrap();
    arena.scope(|scope| scope.alloc(len(1 << 20), align(1)).map(|_| ())).unwrap();
    assert_eq!(ground.blocks(), 2);
    let capacity = arena.query_capacity();
    assert!(arena.reset(ResetMode::RetainCapacity));
    assert_eq!((ground.blocks(), arena.query_capacity()), (1, capacity), "one piece, the spare's room too");
    arena.alloc(len(1), align(1)).unwrap();
    arena.scope(|scope| scope.alloc(len(1 << 22), align(1)).map(|_| ())).unwrap();
    assert_eq!(ground.blocks(), 2);
    arena.deinit();
    assert_eq!(ground.blocks(), 0);
}

#[test]
fn a_checkpoint_of_an_inner_scope_ends_nothing_older() {
    let ground = Ground::default();
    let mut arena = ArenaAllocator::new(&ground);
    let mut shadow = Shadow::default();
    shadow.step(&arena, &Op::Alloc { len: 100, log2: 0, zeroed: false });
    let inner = arena.scope(|scope| {
        scope.alloc(len(30), align(1)).unwrap();
        scope.checkpoint()
    });
    assert!(arena.rewind(inner));
    assert_eq!(arena.used_bytes(), 100, "a checkpoint ahead of the arena moves nothing");
    let lost = arena.scope(|scope| {
        scope.alloc(len(10_000), align(1)).unwrap();
        scope.alloc(len(100_000), align(1)).unwrap();
        scope.checkpoint()
    });
    assert!(!arena.rewind(lost), "two nodes were added and went back");
    shadow.check();
    assert_eq!(arena.used_bytes(), 100);
}
