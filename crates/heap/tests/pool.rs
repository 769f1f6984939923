//! The pool: its contract, the order of its items as in Zig's files, and its values.

mod support;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr::NonNull,
};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, len, ops, slice};
use terrace_core::{Alignment, Allocator, AllocatorExt, BulkFree, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{Pool, PoolAllocator, Pooled};

/// The arena's law, with the most in use so far.
fn assert_law(pool: &PoolAllocator<&Ground>, ground: &Ground, most_used: usize) {
    let base = most_used + pool.item_len().get() + pool.item_alignment().bytes();
    let allowed = base + base / 2 + 64 * ground.blocks().max(1);
    assert_eq!(pool.held_bytes(), ground.held(), "the pool knows what it holds");
    assert!(ground.held() <= allowed, "{} bytes held, the law allows {allowed}", ground.held());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn random_programs_keep_the_contract_and_the_law(
        program in ops(3000), item in 1usize..300, log2 in 0u32..9, ahead in 0usize..40,
        growable in any::<bool>(), roomy in any::<bool>(), refuse in 0usize..12,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let alignment = Alignment::from_log2(log2).unwrap();
        let make = if growable { PoolAllocator::new } else { PoolAllocator::fixed };
        let mut pool = make(&ground, len(item), alignment);
        pool.add_capacity(ahead).unwrap();
        ground.refuse_in.set(refuse);
        let (mut shadow, mut most_used) = (Shadow::default(), pool.used_bytes());
        for op in &program {
            let before = (pool.free_items(), pool.used_bytes(), shadow.live.len());
            shadow.step(&pool, op);
            most_used = most_used.max(pool.used_bytes());
            assert_law(&pool, &ground, most_used);
            if let Op::Alloc { len, log2, .. } = *op {
                let granted = shadow.live.len() > before.2;
                let fits = len <= pool.item_len().get() && log2 <= pool.item_alignment().log2();
                prop_assert!(fits || !granted);
                prop_assert!(!fits || granted || before.0 == 0, "an item was there");
                prop_assert!(growable || !granted || pool.used_bytes() == before.1, "a fixed pool grew");
                if !granted {
                    prop_assert_eq!((pool.free_items(), pool.used_bytes()), (before.0, before.1), "a refusal changed something");
                }
            }
            prop_assert!(shadow.live.iter().all(|block| pool.owns(block.memory.cast())));
        }
        let live = shadow.live.len();
        let free = pool.free_items();
        shadow.free_all(&pool);
        prop_assert_eq!(pool.free_items(), free + live);
        prop_assert!(pool.reset(ResetMode::FreeAll));
        prop_assert_eq!((ground.blocks(), pool.free_items()), (0, 0));
    }

    #[test]
    fn values_are_dropped_once_each(steps in proptest::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
        let alive = Cell::new(0usize);
        let pool = Pool::new(SystemAllocator);
        let mut held: Vec<Pooled<'_, Counted<'_>, _>> = Vec::new();
        for &(make, at) in &steps {
            if make || held.is_empty() {
                held.push(pool.create(Counted::new(&alive)).unwrap());
            } else if at % 2 == 0 {
                held.swap_remove(at % held.len());
            } else {
                drop(held.swap_remove(at % held.len()).into_inner());
            }
            prop_assert_eq!(alive.get(), held.len());
        }
        drop(held);
        prop_assert_eq!(alive.get(), 0);
    }
}

/// Counts itself.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(alive: &'a Cell<usize>) -> Self {
        alive.set(alive.get() + 1);
        Self(alive)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn capacity_is_made_in_one_request_and_handed_out_from_the_top() {
    let ground = Ground::default();
    let pool = PoolAllocator::fixed(&ground, len(24), align(8));
    assert!(pool.create::<u64>().is_err(), "a fixed pool begins empty");
    pool.add_capacity(100).unwrap();
    assert_eq!((ground.allocs.get(), pool.free_items()), (1, 100));
    let items: Vec<_> = (0..100).map(|_| pool.alloc(len(24), align(8)).unwrap()).collect();
    assert!(items.is_sorted_by(|above, below| above > below));
    assert!(pool.alloc(len(24), align(8)).is_err());
    assert_eq!(ground.allocs.get(), 1);
}

#[test]
fn capacity_that_cannot_be_had_whole_is_made_item_by_item() {
    let mut bytes = vec![std::mem::MaybeUninit::uninit(); 1000];
    let fixed = terrace_heap::FixedBufferAllocator::new(&mut bytes);
    let pool = PoolAllocator::new(&fixed, len(64), align(8));
    assert!(pool.add_capacity(100).is_err());
    let made = pool.free_items();
    assert!((10..=15).contains(&made), "{made} items of 64 bytes in 1,000");
    for _ in 0..made {
        pool.alloc(len(64), align(8)).unwrap();
    }
    assert!(pool.add_capacity(usize::MAX).is_err());
    assert!(pool.add_capacity(0).is_ok());
}

#[test]
fn a_bulk_free_puts_every_item_back() {
    let pool = PoolAllocator::new(SystemAllocator, len(16), align(8));
    let items: Vec<_> = (0..10).map(|_| slice(pool.alloc(len(16), align(8)).unwrap(), 16)).collect();
    // SAFETY: live, each once, and not used again.
    unsafe { pool.bulk_free(&items, align(8)) };
    assert_eq!(pool.free_items(), 10);
    assert_eq!(pool.alloc(len(16), align(8)).unwrap(), items[9].cast());
}

#[test]
fn an_item_is_good_for_its_whole_length() {
    let pool = PoolAllocator::new(SystemAllocator, len(40), align(8));
    assert_eq!(pool.good_size(len(1), align(1)), len(40));
    assert_eq!(pool.good_size(len(41), align(1)), len(41));
    let block = pool.alloc(len(1), align(1)).unwrap();
    // SAFETY: live, of this pool.
    assert!(unsafe { pool.resize(slice(block, 1), align(1), len(40)) });
    // SAFETY: as above.
    assert!(unsafe { !pool.resize(slice(block, 40), align(1), len(41)) });
    // SAFETY: as above.
    assert!(unsafe { pool.remap(slice(block, 40), align(1), len(41)) }.is_none());
    let tiny = PoolAllocator::new(SystemAllocator, len(1), align(1));
    assert_eq!((tiny.item_len().get(), tiny.item_alignment().bytes()), (size_of::<usize>(), align_of::<usize>()));
    assert!(pool.alloc(len(usize::MAX), align(1)).is_err());
}

#[test]
fn a_destructor_may_use_its_pool() {
    struct Makes<'p>(&'p Pool<u64, SystemAllocator>, &'p Cell<u64>);
    impl Drop for Makes<'_> {
        fn drop(&mut self) {
            self.1.set(*self.0.create(7).unwrap());
        }
    }
    let (numbers, seen) = (Pool::new(SystemAllocator), Cell::new(0));
    let makers = Pool::new(SystemAllocator);
    drop(makers.create(Makes(&numbers, &seen)).unwrap());
    assert_eq!((seen.get(), makers.allocator().free_items()), (7, 1));
}

#[test]
fn a_destructor_that_unwinds_still_gives_its_item_back() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let pool = Pool::new(SystemAllocator);
    let one = pool.create(Panics).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(one))).is_err());
    assert_eq!(pool.allocator().free_items(), 1);
}

#[test]
fn a_refused_value_is_dropped() {
    let alive = Cell::new(0);
    let pool = Pool::fixed(SystemAllocator);
    assert!(pool.create(Counted::new(&alive)).is_err());
    assert_eq!(alive.get(), 0);
}

#[test]
fn forgotten_values_stay_valid_and_a_reset_takes_their_items_back() {
    let ground = Ground::default();
    let mut pool: Pool<String, _> = Pool::new(&ground);
    let mut forgotten = std::mem::ManuallyDrop::new(pool.create("kept".into()).unwrap());
    forgotten.push('!');
    assert_eq!(**forgotten, "kept!");
    drop(forgotten.split_off(0)); // The string's own bytes are the heap's, and not the pool's to free.
    **forgotten = String::new();
    assert!(pool.reset(ResetMode::FreeAll));
    assert_eq!(ground.blocks(), 0);
}

#[test]
fn values_of_every_size_and_alignment_find_room() {
    #[repr(align(256))]
    struct Wide([u8; 3]);
    let empty = Pool::new(SystemAllocator);
    let (one, two) = (empty.create(()).unwrap(), empty.create(()).unwrap());
    assert_eq!((*one, *two), ((), ()));
    let wide = Pool::new(SystemAllocator);
    let values: Vec<_> = (0..10u8).map(|n| wide.create(Wide([n; 3])).unwrap()).collect();
    for (n, value) in values.iter().enumerate() {
        assert_eq!((&raw const **value).addr() % 256, 0);
        assert_eq!(value.0, [n as u8; 3]);
    }
}

#[test]
fn collections_take_single_items() {
    let pool = PoolAllocator::new(SystemAllocator, len(8), align(8));
    let boxed = allocator_api2_02::boxed::Box::new_in(5u64, &pool);
    assert_eq!(*boxed, 5);
    drop(boxed);
    assert_eq!(pool.free_items(), 1);
}

/// Zig's addresses and ours of the same items, while the pool is the same.
#[derive(Default)]
struct Pairs {
    ours: HashMap<String, usize>,
    zigs: HashMap<usize, String>,
}

impl Pairs {
    fn meet(&mut self, zigs: &str, ours: usize) -> bool {
        let seen = self.ours.insert(zigs.into(), ours);
        let known = self.zigs.insert(ours, zigs.into());
        seen.is_none_or(|before| before == ours) && known.is_none_or(|before| before == zigs)
    }
}

/// A file under way. Which item comes out is compared, not where it lies: our arena asks for memory by its own law.
/// What Zig's buffer has no room for ours may have; then the op is left out on our side, and counted.
struct Replay<'g> {
    pool: PoolAllocator<&'g Ground>,
    item: usize,
    alignment: Alignment,
    growable: bool,
    live: Vec<Option<NonNull<u8>>>,
    pairs: Pairs,
    compared: usize,
    left_out: usize,
}

impl<'g> Replay<'g> {
    fn new(ground: &'g Ground, stack: &str) -> Self {
        let words: Vec<usize> = stack.split(' ').skip(2).map(|word| word.parse().unwrap()).collect();
        let [item, log2, grow, ..] = words[..] else { panic!("{words:?}") };
        let make = if grow == 1 { PoolAllocator::new } else { PoolAllocator::fixed };
        let alignment = Alignment::from_log2(log2 as u32).unwrap();
        let pool = make(ground, len(item), alignment);
        let (live, pairs) = (vec![None; 1000], Pairs::default());
        Self { pool, item, alignment, growable: grow == 1, live, pairs, compared: 0, left_out: 0 }
    }

    fn take(&mut self, at: &str, op: &str, answer: &str) {
        let words: Vec<&str> = op.split(' ').collect();
        let first = words.get(1).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        let mut comparable = 1;
        match (words[0], answer) {
            ("c", "null") if self.growable => {
                assert_eq!(self.pool.free_items(), 0, "{at}");
                comparable = 0;
            }
            ("c", "null") => assert!(self.pool.alloc(len(self.item), self.alignment).is_err(), "{at}"),
            ("c", _) => {
                let block = self.pool.alloc(len(self.item), self.alignment);
                let block = block.unwrap_or_else(|_| panic!("{at}: Zig grants it"));
                assert!(self.pairs.meet(answer, block.addr().get()), "{at}: another item");
                self.live[first] = Some(block);
            }
            ("k", _) => {
                let block = self.live[first].take().unwrap();
                // SAFETY: live, and not used again.
                unsafe { self.pool.free(slice(block, self.item), self.alignment) };
            }
            ("s", "true") => assert!(self.pool.add_capacity(first).is_ok(), "{at}"),
            ("s", _) => {
                // Zig made one item for each request granted before the refusal; the next look proves it.
                assert!(self.pool.add_capacity(at.matches("= true").count()).is_ok(), "{at}");
                comparable = 0;
            }
            ("q", _) => {
                assert_eq!(answer.rsplit_once("free=").unwrap().1, self.pool.free_items().to_string(), "{at}");
            }
            ("x" | "d", _) => self.reset(at, &words, answer),
            ("p" | "u", _) => return, // Straight on Zig's buffer: not the pool's.
            (other, _) => panic!("{at}: an unknown op {other}"),
        }
        self.compared += comparable;
        self.left_out += 1 - comparable;
    }

    fn reset(&mut self, at: &str, words: &[&str], answer: &str) {
        let mode = match words {
            ["d"] | ["x", "free_all"] => ResetMode::FreeAll,
            ["x", "retain_capacity"] => ResetMode::RetainCapacity,
            _ => ResetMode::RetainWithLimit(words[2].parse().unwrap()),
        };
        assert!(self.pool.reset(mode) || answer == "false", "{at}: Zig could");
        self.pairs = Pairs::default();
    }
}

/// Decisions compared and left out.
fn replay(path: &Path, text: &str) -> (usize, usize) {
    let ground = Ground::default();
    let mut replay = Replay::new(&ground, text.lines().nth(1).unwrap());
    for (number, line) in text.lines().enumerate().skip(3) {
        let at = format!("{}:{}: {line}", path.display(), number + 1);
        let (op, answer) = line.split_once(" -> ").unwrap();
        replay.take(&at, op, answer.split(" | ").next().unwrap());
    }
    (replay.compared, replay.left_out)
}

#[test]
fn items_come_and_go_in_zigs_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/zig");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let total = RefCell::new((0, 0));
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.file_name().unwrap().to_string_lossy().starts_with("pool-fba") {
            let (compared, left_out) = replay(&path, &fs::read_to_string(&path).unwrap());
            total.replace_with(|total| (total.0 + compared, total.1 + left_out));
        }
    }
    let (compared, left_out) = total.take();
    println!("{compared} decisions compared; {left_out} left out, where Zig's buffer was full");
    assert!(compared > 1000);
}
