//! Loom's models of the files that claim and free: `bits.rs`, `blocks.rs`, `tree.rs`, `index.rs`, `hybrid.rs`, the production
//! files themselves, with blocks of two words.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-frame --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! What holds in every order: no frame has two owners, who gets a frame has seen what was done to it before, and what
//! was freed is found again. Each ordering that the files ask for is needed: weakened alone, it makes a model fail.
//!
//! Loom has no order of all `SeqCst` accesses, but one of `SeqCst` fences. So here a `SeqCst` step that writes is one
//! that acquires and releases, with such a fence behind it, and a `SeqCst` load one that acquires: of what the files
//! rest on (write here, then read there, against the same crosswise) that is all.
#![cfg(loom)]
#![allow(dead_code, reason = "the production files are compiled whole, and a model uses its part")]

#[path = "../src/allocator.rs"]
mod allocator;
#[path = "../src/arch.rs"]
mod arch;
#[path = "../src/batch.rs"]
mod batch;
#[path = "../src/bits.rs"]
mod bits;
#[path = "../src/blocks.rs"]
mod blocks;
#[path = "../src/hybrid.rs"]
mod hybrid;
#[path = "../src/index.rs"]
mod index;
#[path = "../src/map.rs"]
mod map;
#[path = "../src/plan.rs"]
mod plan;
#[path = "../src/tree.rs"]
mod tree;
#[path = "../src/types.rs"]
mod types;
#[path = "../src/word.rs"]
mod word;

#[path = "loom_support/mod.rs"]
mod support;

/// Blocks of two words, so that a block is read in few steps.
mod shape {
    pub(crate) const WORDS_ORDER: u32 = 1;
}

mod hook {
    pub(crate) fn between() {}
    pub(crate) fn lost() {}
    pub(crate) fn touched() {}
}

/// Words of loom's in place of a caller's.
mod storage {
    use std::marker::PhantomData;

    use crate::{atomic::AtomicU64, types::FrameError};

    pub(crate) struct Storage<'m, B>(&'m [AtomicU64], PhantomData<B>);

    impl<B> std::fmt::Debug for Storage<'_, B> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Storage")
        }
    }

    impl<'m, B> Storage<'m, B> {
        pub(crate) fn of_slice(_: &'m mut [u64], count: usize) -> Result<Self, FrameError> {
            Ok(Self(crate::support::storage(count), PhantomData))
        }

        pub(crate) fn of_backing(_: &'m B, count: usize) -> Result<Self, FrameError> {
            Ok(Self(crate::support::storage(count), PhantomData))
        }

        pub(crate) fn words(&self) -> &'m [AtomicU64] {
            self.0
        }
    }
}

use allocator::FrameAllocator;
use blocks::Blocks;
use hybrid::HybridAllocator;
use index::{Index, index_words};
use loom::{sync::Arc, thread};
use map::MemoryMap;
use support::{Shadow, atomic, atomic::Ordering, check, fails_without, storage};
use terrace_sync::NoSlots;
use tree::Tree;
use types::{Frame, Frames, Order};
use word::{BLOCK, BLOCK_ORDER};

const BOUND: Option<usize> = Some(3);

/// An index with a level above its lines.
fn two_levels() -> Index<'static> {
    Index::new(storage(index_words(65)), 65)
}

/// Two threads do the same at once; what this one and the other came to.
fn both<M: Send + Sync + 'static, R: Send + 'static>(
    model: &Arc<M>,
    act: impl Fn(&M) -> R + Copy + Send + 'static,
) -> (R, R) {
    let other = Arc::clone(model);
    let thread = thread::spawn(move || act(&other));
    let ours = act(model);
    (ours, thread.join().unwrap())
}

/// One block, of which the frames from `free` on are free, and memory that sees races.
struct Bitmap {
    blocks: Blocks<'static>,
    shadow: Shadow,
}

impl Bitmap {
    fn new(free: usize) -> Arc<Self> {
        let blocks = Blocks::new(storage(2), 0, two_levels());
        if free < BLOCK {
            blocks.put(free, BLOCK - free);
        }
        blocks.register(0);
        Arc::new(Self { blocks, shadow: Shadow::new(BLOCK) })
    }

    fn own(&self, frame: usize, count: usize) {
        (frame..frame + count).for_each(|frame| self.shadow.write(frame));
    }

    fn free(&self, frame: usize) {
        let free = self.blocks.put_in_word(frame, 1).expect("it is taken");
        self.blocks.settle_word(frame, 1, free);
    }

    fn find(&self, order: u32) -> Option<usize> {
        let want = blocks::Want { count: 1 << order, alignment: order, from: 0, to: BLOCK };
        self.blocks.find(&want, order, BLOCK_ORDER, false)
    }
}

/// Two threads claim the last frame, use it, free it.
fn one_frame() {
    let model = Bitmap::new(BLOCK - 1);
    let act = |model: &Bitmap| {
        if let Some(frame) = model.blocks.take_bit(1) {
            model.own(frame, 1);
            model.free(frame);
        }
    };
    both(&model, act);
    assert_eq!(model.find(0), Some(BLOCK - 1), "the frame is lost");
}

/// The same for the last two, as a run.
fn one_run() {
    let model = Bitmap::new(BLOCK - 2);
    let act = |model: &Bitmap| {
        if let Some(frame) = model.blocks.take_in_word(1, 1) {
            model.own(frame, 2);
            model.blocks.put(frame, 2);
            model.blocks.settle(0);
        }
    };
    both(&model, act);
    assert_eq!(model.find(1), Some(BLOCK - 2), "the frames are lost");
}

/// Two want a run across both words: one gets it, or they hinder one another, and nothing is lost.
fn two_words() {
    let model = Bitmap::new(BLOCK - 65);
    let act = |model: &Bitmap| {
        if model.blocks.claim(0, BLOCK - 65, 65) {
            model.own(BLOCK - 65, 65);
            model.blocks.put(BLOCK - 65, 65);
            model.blocks.register(0);
        }
    };
    both(&model, act);
    assert_eq!(model.find(6), Some(BLOCK - 64), "the frames are lost");
}

/// Two threads each want two of the last three frames in one step, use them, and put them in one.
fn one_batch() {
    let model = Bitmap::new(BLOCK - 3);
    let act = |model: &Bitmap| {
        let runs = model.blocks.take_runs(BLOCK - 64, 0, 2);
        (0..64).filter(|bit| runs >> bit & 1 == 1).for_each(|bit| model.own(BLOCK - 64 + bit, 1));
        if runs != 0 {
            assert!(model.blocks.put_bits(BLOCK - 64, runs).is_some(), "they are this thread's");
        }
    };
    both(&model, act);
    assert_eq!(model.blocks.count(), 3, "a frame is lost");
    assert_eq!(model.find(1), Some(BLOCK - 2), "the frames are lost");
}

/// One frees the only frame while another looks for it, finds nothing, and strikes the block off a class.
fn free_and_strike_off() {
    let model = Bitmap::new(BLOCK);
    model.blocks.index.set(0, 0); // A hint that says too much.
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || other.find(0));
    model.free(3);
    let found = thread.join().unwrap().or_else(|| model.find(0));
    assert_eq!(found, Some(3), "the frame is lost");
}

/// One frees the only frame of a block that another holds and lets go of.
fn free_and_let_go() {
    let model = Bitmap::new(BLOCK);
    model.blocks.index.mark(0, index::HELD);
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        other.blocks.let_go(0);
    });
    model.free(3);
    thread.join().unwrap();
    assert_eq!(model.find(0), Some(3), "the frame is lost");
}

/// One ends the hold of another that has just come to it, with a block of the buddy, and fills it.
fn fill_and_let_go() {
    hold_and_let_go(BLOCK, |blocks| {
        blocks.index.mark(0, index::HELD);
        blocks.fill(0, 3);
    });
}

/// The same, with a block that was found in the index, and is struck off there.
fn find_and_let_go() {
    hold_and_let_go(2, |blocks| {
        let want = blocks::Want { count: 1, alignment: 0, from: 0, to: BLOCK };
        assert_eq!(blocks.find(&want, 0, BLOCK_ORDER, true), Some(2), "nobody else takes any");
    });
}

fn hold_and_let_go(free: usize, hold: fn(&Blocks<'static>)) {
    let model = Bitmap::new(free);
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        if other.blocks.index.has(0, index::HELD) {
            other.blocks.let_go(0);
        }
    });
    hold(&model.blocks);
    thread.join().unwrap();
    // Held, it is its holder's to find, and ended with its lane.
    if !model.blocks.index.has(0, index::HELD) {
        assert_eq!(model.find(0), Some(3), "the frames are lost");
    }
}

/// One item leaves a line of the index while another comes: the levels above, all of them, still lead there.
fn leave_and_come() {
    let index = Arc::new(Index::new(storage(index_words(4097)), 4097));
    index.set(1, 0);
    let other = Arc::clone(&index);
    let thread = thread::spawn(move || other.clear(1, 0));
    index.set(2, 0);
    thread.join().unwrap();
    assert_eq!(index.next(0, 0), Some(2), "the item is lost");
}

struct Buddy {
    tree: Tree<'static>,
    shadow: Shadow,
}

impl Buddy {
    fn new(words: usize, units: usize) -> Arc<Self> {
        let tree: Tree<'_> = Tree::new(storage(words), 0, two_levels());
        tree.put(0, units);
        Arc::new(Self { tree, shadow: Shadow::new(units) })
    }
}

/// Two threads claim the only unit, use it, free it.
fn one_unit() {
    one_unit_by(|tree| tree.take(0, 0, usize::MAX, false));
}

/// The same out of a word at hand.
fn one_unit_at_hand() {
    one_unit_by(|tree| tree.take_unit(0));
}

/// The same as what is free of some.
fn one_unit_of_some() {
    one_unit_by(|tree| (tree.take_mask(0, 3) == 1).then_some(0));
}

fn one_unit_by(take: fn(&Tree<'static>) -> Option<usize>) {
    let model = Buddy::new(1, 1);
    both(&model, move |model: &Buddy| {
        if let Some(unit) = take(&model.tree) {
            model.shadow.write(unit);
            model.tree.put(unit, 1);
        }
    });
    assert_eq!(model.tree.take(0, 0, usize::MAX, false), Some(0), "the unit is lost");
}

/// Two threads want both words, of which there are two: one is served, and its run comes back.
fn two_words_of_units() {
    let model = Buddy::new(2, 128);
    let act = |model: &Buddy| {
        let run = model.tree.take(7, 0, usize::MAX, false);
        if let Some(unit) = run {
            model.shadow.write(unit);
            model.shadow.write(unit + 64);
            model.tree.put(unit, 128);
        }
        run.is_some()
    };
    let (ours, theirs) = both(&model, act);
    assert!(theirs || ours, "one of two is served");
    assert_eq!(model.tree.take(7, 0, usize::MAX, false), Some(0), "the run is lost");
}

/// One frees two whole words while another looks for one, finds nothing, and strikes a word off.
fn free_words_and_strike_off() {
    let tree = Arc::new(Tree::<'_, 1>::new(storage(2), 0, two_levels()));
    (0..2).for_each(|word| tree.index.set(word, 6)); // Hints that say too much.
    let other = Arc::clone(&tree);
    let thread = thread::spawn(move || other.take(6, 0, usize::MAX, false));
    tree.put_words(0, 2);
    let found = [thread.join().unwrap(), tree.take(6, 0, usize::MAX, false), tree.take(6, 0, usize::MAX, false)];
    assert_eq!([Some(0), Some(64)].map(|unit| found.contains(&unit)), [true; 2], "a word is lost");
}

/// One thread uses two whole words and frees them; another takes one of them.
fn words_pass() {
    let model = Buddy::new(2, 128);
    assert_eq!(model.tree.take(7, 0, usize::MAX, false), Some(0));
    model.tree.index.set(0, 6); // So that the word is found whoever comes first.
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        if let Some(unit) = other.tree.take(6, 0, usize::MAX, false) {
            other.shadow.write(unit);
        }
    });
    model.shadow.write(0);
    model.shadow.write(64);
    model.tree.put_words(0, 2);
    thread.join().unwrap();
}

/// Two threads free the two halves of a block: it goes back to the buddy, whole.
fn two_halves() {
    let map = MemoryMap::of(Frames::new(0, BLOCK)).expect("a map");
    let frames = Arc::new(HybridAllocator::<NoSlots, ()>::new(&map, &mut []).expect("storage"));
    let whole = Order::new(BLOCK_ORDER).expect("up to 20");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)));
    assert_eq!(frames.free(Frames::new(1, 62)), Ok(()));
    assert_eq!(frames.free(Frames::new(64, 63)), Ok(()));
    let other = Arc::clone(&frames);
    let thread = thread::spawn(move || {
        assert_eq!(other.free(Frames::new(0, 1)), Ok(()));
        assert_eq!(other.free(Frames::new(63, 1)), Ok(()));
    });
    assert_eq!(frames.free(Frames::new(127, 1)), Ok(()));
    thread.join().unwrap();
    assert_eq!(frames.free_frames(), BLOCK, "frames are lost");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)), "the block is not one again");
}

/// Two threads free the two words of a block: whoever comes second takes the first one's word, and the block goes back.
fn two_words_back() {
    let map = MemoryMap::of(Frames::new(0, BLOCK)).expect("a map");
    let frames = Arc::new(HybridAllocator::<NoSlots, ()>::new(&map, &mut []).expect("storage"));
    let (whole, half) = (Order::new(BLOCK_ORDER).expect("up to 20"), Order::new(6).expect("up to 20"));
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)));
    let other = Arc::clone(&frames);
    let thread = thread::spawn(move || assert_eq!(other.free_order(Frame(64), half), Ok(())));
    assert_eq!(frames.free_order(Frame(0), half), Ok(()));
    thread.join().unwrap();
    assert_eq!(frames.free_frames(), BLOCK, "frames are lost");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)), "the block is not one again");
}

/// A hybrid of one block, which the model's thread has used, and of which the first word is free again.
fn first_word_free() -> Arc<(HybridAllocator<'static, NoSlots, ()>, Shadow)> {
    let map = MemoryMap::of(Frames::new(0, BLOCK)).expect("a map");
    let frames = HybridAllocator::<NoSlots, ()>::new(&map, &mut []).expect("storage");
    assert_eq!(frames.alloc_order(Order::new(BLOCK_ORDER).expect("up to 20")), Ok(Frame(0)));
    assert_eq!(frames.free_order(Frame(0), Order::new(6).expect("up to 20")), Ok(()));
    Arc::new((frames, Shadow::new(BLOCK)))
}

/// One thread uses the second word and frees it; another that has taken the first, and frees it, gets both as a block.
fn words_of_two() {
    let model = first_word_free();
    let (whole, half) = (Order::new(BLOCK_ORDER).expect("up to 20"), Order::new(6).expect("up to 20"));
    assert_eq!(model.0.alloc_order(half), Ok(Frame(0)));
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        assert_eq!(other.0.free_order(Frame(0), half), Ok(()));
        if other.0.alloc_order(whole) == Ok(Frame(0)) {
            other.1.write(64);
        }
    });
    model.1.write(64);
    assert_eq!(model.0.free_order(Frame(64), half), Ok(()));
    thread.join().unwrap();
}

/// The same, where the other takes small runs out of the first word, and of the second as far as that is free.
fn words_come_down() {
    let model = first_word_free();
    let (part, half) = (Order::new(5).expect("up to 20"), Order::new(6).expect("up to 20"));
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        for _ in 0..3 {
            if let Ok(run) = other.0.alloc_order(part) {
                other.1.write(run.0);
            }
        }
    });
    model.1.write(64);
    assert_eq!(model.0.free_order(Frame(64), half), Ok(()));
    thread.join().unwrap();
}

/// One thread frees the second word of a block while another takes a few frames of the first.
fn last_word_and_take() {
    let map = MemoryMap::of(Frames::new(0, BLOCK)).expect("a map");
    let frames = Arc::new(HybridAllocator::<NoSlots, ()>::new(&map, &mut []).expect("storage"));
    let (whole, half) = (Order::new(BLOCK_ORDER).expect("up to 20"), Order::new(6).expect("up to 20"));
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)));
    assert_eq!(frames.free_order(Frame(0), half), Ok(()));
    let other = Arc::clone(&frames);
    let thread = thread::spawn(move || {
        if let Ok(run) = other.alloc(&allocator::Request::frames(3)) {
            assert_eq!(other.free(run), Ok(()));
        }
    });
    assert_eq!(frames.free_order(Frame(64), half), Ok(()));
    thread.join().unwrap();
    assert_eq!(frames.free_frames(), BLOCK, "frames are lost");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)), "the block is not one again");
}

/// One thread frees the last frame of a block while another takes one out of it.
fn return_and_take() {
    let map = MemoryMap::of(Frames::new(0, BLOCK)).expect("a map");
    let frames = Arc::new(HybridAllocator::<NoSlots, ()>::new(&map, &mut []).expect("storage"));
    let whole = Order::new(BLOCK_ORDER).expect("up to 20");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)));
    assert_eq!(frames.free(Frames::new(1, BLOCK - 1)), Ok(()));
    let other = Arc::clone(&frames);
    let thread = thread::spawn(move || {
        // While the block is on its way to the buddy there is nothing to be had.
        if let Ok(run) = other.alloc(&allocator::Request::frames(3)) {
            assert_eq!(other.free(run), Ok(()));
        }
    });
    assert_eq!(frames.free(Frames::new(0, 1)), Ok(()));
    thread.join().unwrap();
    assert_eq!(frames.free_frames(), BLOCK, "frames are lost");
    assert_eq!(frames.alloc_order(whole), Ok(Frame(0)), "the block is not one again");
}

/// One thread has a whole block, uses it, and gives all but a frame of it to the bitmap, where another takes one.
fn filled() {
    let model = Bitmap::new(BLOCK);
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        if let Some(frame) = other.blocks.take_bit(0) {
            other.own(frame, 1);
        }
    });
    model.own(0, 3);
    model.blocks.fill(0, 1);
    thread.join().unwrap();
}

#[test]
fn a_frame_has_one_owner_at_a_time() {
    check(BOUND, one_frame);
    check(BOUND, one_run);
    check(BOUND, one_batch);
}

#[test]
fn a_run_over_two_words_is_had_whole_or_not() {
    check(BOUND, two_words);
}

#[test]
fn what_is_freed_is_found_beside_who_strikes_off() {
    check(BOUND, free_and_strike_off);
    check(BOUND, free_and_let_go);
    check(BOUND, leave_and_come);
    check(BOUND, free_words_and_strike_off);
    check(BOUND, fill_and_let_go);
    check(BOUND, find_and_let_go);
}

#[test]
fn units_have_one_owner_at_a_time() {
    check(BOUND, one_unit);
    check(BOUND, one_unit_at_hand);
    check(BOUND, one_unit_of_some);
    check(BOUND, two_words_of_units);
    check(BOUND, words_pass);
}

#[test]
fn a_block_goes_back_whole() {
    check(Some(2), two_halves);
    check(Some(2), two_words_back);
}

#[test]
fn units_pass_from_thread_to_thread() {
    check(Some(2), words_of_two);
    check(Some(1), words_come_down);
}

#[test]
fn units_must_release() {
    fails_without(("compare_exchange", Ordering::SeqCst), Some(2), words_of_two);
}

#[test]
fn a_new_block_is_filled_for_all() {
    check(BOUND, filled);
}

#[test]
fn what_fills_a_new_block_must_release() {
    fails_without(("store", Ordering::Release), BOUND, filled);
}

#[test]
fn a_block_goes_back_beside_who_takes_of_it() {
    check(Some(2), return_and_take);
    check(Some(2), last_word_and_take);
}

#[test]
fn claims_must_acquire() {
    fails_without(("fetch_and", Ordering::Acquire), BOUND, one_frame);
    fails_without(("compare_exchange", Ordering::Acquire), BOUND, one_run);
    fails_without(("compare_exchange", Ordering::Acquire), BOUND, one_batch);
    fails_without(("compare_exchange", Ordering::Acquire), BOUND, one_unit);
    fails_without(("fetch_and", Ordering::Acquire), BOUND, one_unit_at_hand);
    fails_without(("fetch_and", Ordering::Acquire), BOUND, one_unit_of_some);
}

#[test]
fn puts_must_release() {
    fails_without(("compare_exchange", Ordering::SeqCst), BOUND, one_frame);
    fails_without(("fetch_or", Ordering::SeqCst), BOUND, one_run);
    fails_without(("compare_exchange", Ordering::SeqCst), BOUND, one_batch);
    fails_without(("store", Ordering::Release), BOUND, words_pass);
    fails_without(("compare_exchange", Ordering::SeqCst), BOUND, one_unit);
}

#[test]
fn a_put_stands_before_the_look_at_the_index() {
    fails_without(("compare_exchange", Ordering::SeqCst), BOUND, free_and_strike_off);
    fails_without(("compare_exchange", Ordering::SeqCst), BOUND, free_and_let_go);
}

#[test]
fn words_that_are_stored_stand_before_the_look_at_the_index() {
    fails_without(("fence", Ordering::SeqCst), BOUND, free_words_and_strike_off);
    fails_without(("fence", Ordering::SeqCst), BOUND, fill_and_let_go);
}

#[test]
fn striking_off_stands_before_the_look_at_the_bits() {
    fails_without(("fetch_and", Ordering::SeqCst), BOUND, free_and_strike_off);
    fails_without(("fetch_and", Ordering::SeqCst), BOUND, free_and_let_go);
    fails_without(("fetch_and", Ordering::SeqCst), BOUND, leave_and_come);
    fails_without(("fetch_or", Ordering::SeqCst), BOUND, leave_and_come);
}
