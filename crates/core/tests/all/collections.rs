//! Other crates' collections over every form in which an allocator is bridged.

use std::{alloc::System, rc::Rc, sync::Arc};

use allocator_api2_02::{alloc::Allocator as Api2, boxed::Box as Api2Box, vec::Vec as Api2Vec};
use hashbrown::HashMap;
use terrace_core::{Allocator, Bridge, GlobalBacking, SystemAllocator};

use crate::strict::{Policy, Strict};

const POLICIES: [Policy; 3] = [Policy::Refuse, Policy::InPlace, Policy::Moving];

/// A vector, a box and a map that grow, shrink, empty and drop.
fn exercise<A: Api2 + Clone>(allocator: A) {
    let mut numbers = Api2Vec::new_in(allocator.clone());
    numbers.extend(0..1000u64);
    numbers.truncate(10);
    numbers.shrink_to_fit();
    assert_eq!(numbers[..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(numbers.capacity(), 10, "the exact length came back");
    numbers.clear();
    numbers.shrink_to_fit();
    numbers.push(7);
    let units: Api2Vec<(), A> = Api2Vec::with_capacity_in(5, allocator.clone());
    let text: Api2Box<[u8], A> = {
        let mut text = Api2Vec::new_in(allocator.clone());
        text.extend_from_slice(b"terraces");
        text.into_boxed_slice()
    };
    let boxed = Api2Box::new_in([1u128, 2, 3], allocator.clone());
    let unit = Api2Box::new_in((), allocator.clone());

    let mut map = HashMap::new_in(allocator);
    for n in 0..500u32 {
        map.insert(n, n * n);
    }
    map.retain(|n, _| n % 50 == 0);
    map.shrink_to_fit();
    assert_eq!((map.len(), map[&450]), (10, 450 * 450));
    assert_eq!((&*text, *boxed, numbers[0], units.len(), *unit), (&b"terraces"[..], [1, 2, 3], 7, 0, ()));
}

#[test]
fn over_dyn_in_all_four_forms() {
    for policy in POLICIES {
        let strict = Strict::new(policy);
        exercise(&strict as &dyn Allocator);
        strict.finish();
    }
    exercise(&SystemAllocator as &(dyn Allocator + Send));
    exercise(&SystemAllocator as &(dyn Allocator + Sync));
    exercise(&SystemAllocator as &(dyn Allocator + Send + Sync));
    let boxed: Box<dyn Allocator> = Box::new(SystemAllocator);
    exercise(&*boxed);
}

#[test]
fn over_a_generic_through_a_bridge() {
    fn inside_a_library<A: Allocator>(allocator: A) {
        exercise(&Bridge::new(allocator));
    }
    for policy in POLICIES {
        let strict = Strict::new(policy);
        inside_a_library(&strict);
        strict.finish();
        let shared = Rc::new(Strict::new(policy));
        exercise(Bridge::new(shared.clone()));
        shared.finish();
        assert_eq!(Rc::strong_count(&shared), 1, "every clone of the bridge has dropped its handle");
    }
}

#[test]
fn an_owned_allocator_lives_in_its_collection() {
    let mut numbers = Api2Vec::new_in(Bridge::new(Strict::new(Policy::InPlace)));
    numbers.extend(0..100u8);
    let moved = numbers;
    assert_eq!(moved[99], 99, "moving the collection moves no block");
}

#[test]
fn over_what_the_platform_has() {
    exercise(SystemAllocator);
    exercise(&SystemAllocator);
    exercise(GlobalBacking::new(&System));
    exercise(Bridge::new(Arc::new(SystemAllocator)));
}

#[test]
fn a_collection_over_a_shared_allocator_goes_to_another_thread() {
    let shared: Arc<dyn Allocator + Send + Sync> = Arc::new(SystemAllocator);
    let mut words = Api2Vec::new_in(Bridge::new(shared.clone()));
    words.push("red");
    let words = std::thread::spawn(move || {
        words.push("green");
        words
    })
    .join()
    .unwrap();
    assert_eq!(words[..], ["red", "green"]);
}

#[test]
fn no_memory_is_an_error_of_the_collection() {
    let strict = Strict::new(Policy::Refuse);
    let mut numbers = Api2Vec::new_in(&strict as &dyn Allocator);
    numbers.push(1u32);
    strict.allocs_left.set(0);
    assert!(numbers.try_reserve(100).is_err());
    assert_eq!(numbers[..], [1]);
    let mut map: HashMap<u32, u32, _, _> = HashMap::new_in(&strict as &dyn Allocator);
    assert!(map.try_reserve(100).is_err());
    drop((numbers, map));
    strict.finish();
}
