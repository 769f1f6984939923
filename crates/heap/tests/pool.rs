//! The pool: its contract and its values. That its items come in Zig's order is shown by `tests/zig_golden.rs` of the workspace.

mod support;

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    rc::{Rc, Weak},
};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, cases, len, ops, slice};
use terrace_core::{Alignment, Allocator, AllocatorExt, BulkFree, GoodSize, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{Call, LogAllocator, Pool, PoolAllocator, Pooled};

/// The arena's law, with the most in use so far.
fn assert_law(pool: &PoolAllocator<&Ground>, ground: &Ground, most_used: usize) {
    let base = most_used + pool.item_len().get() + pool.item_alignment().bytes();
    let allowed = base + base / 2 + 64 * ground.blocks().max(1);
    assert_eq!(pool.held_bytes(), ground.held(), "the pool knows what it holds");
    assert!(ground.held() <= allowed, "{} bytes held, the law allows {allowed}", ground.held());
}

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn random_programs_keep_the_contract_and_the_law(
        program in ops(3000), item in 1usize..300, log2 in 0u32..9, ahead in 0usize..40,
        growable in any::<bool>(), roomy in any::<bool>(), refuse in 0usize..12, every in 1usize..6,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        let alignment = Alignment::from_log2(log2).unwrap();
        let make = if growable { PoolAllocator::new } else { PoolAllocator::fixed };
        let mut pool = make(&ground, len(item), alignment);
        pool.add_capacity(ahead).unwrap();
        ground.refuse_in.set(refuse);
        let (mut shadow, mut most_used) = (Shadow::default(), pool.used_bytes());
        for (number, op) in program.iter().enumerate() {
            // To ask what is used ends the arena's loan to the pool: not before every step, so that both are met.
            if number % every != 0 {
                shadow.step(&pool, op);
                continue;
            }
            let before = (pool.free_items(), pool.used_bytes(), shadow.live.len());
            shadow.step(&pool, op);
            most_used = most_used.max(pool.used_bytes());
            if every == 1 {
                assert_law(&pool, &ground, most_used);
            }
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

/// Two pools with the same calls, one of which is asked what it uses all the time.
#[test]
fn a_pool_that_is_asked_what_it_uses_grows_as_one_that_is_not() {
    for (item, granted) in [(9, 40), (16, 90), (24, 7), (61, 300)] {
        let sums = [false, true].map(|asked| {
            let ground = Ground::default();
            let pool = PoolAllocator::new(&ground, len(item), align(8));
            let mut live = Vec::new();
            for number in 0..granted {
                live.push(pool.alloc(len(item), align(8)).unwrap());
                if number % 5 == 4 {
                    for block in live.drain(live.len() - 3..) {
                        // SAFETY: live, and not used again.
                        unsafe { pool.free(slice(block, item), align(8)) };
                    }
                }
                if number % 11 == 10 {
                    pool.add_capacity(2).unwrap();
                }
                if asked {
                    pool.used_bytes();
                }
            }
            (pool.used_bytes(), pool.held_bytes(), pool.free_items(), ground.allocs.get())
        });
        assert_eq!(sums[0], sums[1], "items of {item} bytes");
    }
}

type Hooked = PoolAllocator<LogAllocator<Ground, Box<dyn Fn(&Call)>>>;

/// Wherever the backing is called a hook in it may take items and bring them back (clause 10).
#[test]
fn a_hook_in_the_backing_may_come_back_to_the_pool() {
    for ground in [Ground::default(), Ground::roomy()] {
        let slot: Rc<RefCell<Weak<Hooked>>> = Rc::default();
        let kept: Rc<RefCell<Vec<NonNull<u8>>>> = Rc::default();
        let (seen, taken) = (slot.clone(), kept.clone());
        let sink: Box<dyn Fn(&Call)> = Box::new(move |_| {
            let Some(pool) = seen.borrow().upgrade() else { return };
            // What was kept comes back, half of it goes out again, and more is asked for while there is none.
            let mut taken = taken.borrow_mut();
            let back = taken.len();
            for block in taken.drain(..) {
                // SAFETY: live, and not used again.
                unsafe { pool.free(slice(block, 40), align(8)) };
            }
            taken.extend((0..back / 2).map(|_| pool.alloc(len(40), align(8)).unwrap()));
            pool.used_bytes();
        });
        let pool = Rc::new(PoolAllocator::new(LogAllocator::new(ground, sink), len(40), align(8)));
        *slot.borrow_mut() = Rc::downgrade(&pool);
        let mut shadow = Shadow::default();
        for number in 0..2000 {
            if number % 50 == 0 {
                pool.add_capacity(number % 7).unwrap();
            }
            if number % 9 == 0 {
                let block = pool.alloc(len(40), align(8)).unwrap();
                kept.borrow_mut().push(block);
            }
            shadow.step(&*pool, &Op::Alloc { len: 40, log2: 3, zeroed: false });
        }
        assert_eq!(shadow.live.len(), 2000);
        let mut all: Vec<usize> = shadow.live.iter().map(|block| block.memory.addr().get()).collect();
        all.extend(kept.borrow().iter().map(|block| block.addr().get()));
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] >= 40), "items overlap");
        shadow.free_all(&*pool);
    }
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
