//! Other crates' collections over every form in which an allocator is bridged.

use std::{alloc::System, rc::Rc, sync::Arc};

use hashbrown::HashMap;
use terrace_core::{Allocator, Bridge, GlobalBacking, SystemAllocator};

use crate::strict::{Policy, Strict};

const POLICIES: [Policy; 3] = [Policy::Refuse, Policy::InPlace, Policy::Moving];

/// The same tests over each version's vector and box; `$more` exercises what else speaks the version.
macro_rules! collections {
    ($(#[$cfg:meta] $name:ident: $api2:ident, $more:expr;)+) => {$(
        #[$cfg]
        mod $name {
            use $api2::{alloc::Allocator as Api2, boxed::Box as Api2Box, vec::Vec as Api2Vec};

            use super::*;

            /// A vector, a box and what else there is, that grow, shrink, empty and drop.
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
                $more(allocator);
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
                }
            }

            #[test]
            fn over_what_rc_and_arc_share() {
                for policy in POLICIES {
                    let (rc, arc) = (Rc::new(Strict::new(policy)), Arc::new(Strict::new(policy)));
                    exercise(Bridge::new(rc.clone()));
                    exercise(Bridge::new(arc.clone()));
                    rc.finish();
                    arc.finish();
                    assert_eq!(Rc::strong_count(&rc), 1, "every clone of the bridge has dropped its handle");
                    assert_eq!(Arc::strong_count(&arc), 1, "every clone of the bridge has dropped its handle");
                }
                let shared: Arc<dyn Allocator + Send + Sync> = Arc::new(SystemAllocator);
                exercise(Bridge::new(shared));
            }

            /// Clause 8: whoever shares an allocator gets no `&mut` to it, and cannot take it, under a live collection.
            #[test]
            fn what_is_shared_can_be_neither_emptied_nor_taken_meanwhile() {
                let mut shared = Rc::new(Strict::new(Policy::InPlace));
                let mut numbers = Api2Vec::new_in(Bridge::new(shared.clone()));
                numbers.push(7u8);
                assert!(Rc::get_mut(&mut shared).is_none());
                let shared = Rc::try_unwrap(shared).err().expect("the collection's handle is one too");
                assert_eq!(numbers[0], 7);
                drop(numbers);
                shared.finish();
                assert!(Rc::try_unwrap(shared).is_ok(), "the collection has dropped its handle");
            }

            /// Clause 7 through a box: the box moves, the allocator in it does not, and its blocks do not.
            #[test]
            fn a_boxed_allocator_moves_with_its_collection() {
                let boxed: Box<dyn Allocator> = Box::new(Strict::new(Policy::Moving));
                let mut numbers = Api2Vec::new_in(Bridge::new(boxed));
                numbers.extend(0..10u32);
                let first = numbers.as_ptr();
                let mut several = vec![numbers];
                several.reserve(100);
                let mut numbers = several.pop().unwrap();
                assert_eq!(numbers.as_ptr(), first);
                numbers.extend(10..500);
                assert!(numbers.iter().copied().eq(0..500));
            }

            #[test]
            fn an_owned_allocator_lives_in_its_collection() {
                let mut numbers = Api2Vec::new_in(Bridge::new(Strict::new(Policy::InPlace)));
                numbers.extend(0..100u8);
                let moved = numbers;
                assert_eq!(moved[99], 99, "moving the collection moves no block");
            }

            /// The last handle to the allocator is the leaked box's own: it is leaked with it.
            #[test]
            fn a_leaked_value_outlives_every_other_handle_to_its_allocator() {
                let shared = Arc::new(Strict::new(Policy::Refuse));
                let weak = Arc::downgrade(&shared);
                let number = Api2Box::leak(Api2Box::new_in(7u64, Bridge::new(shared.clone())));
                let mut numbers = Api2Vec::with_capacity_in(3, Bridge::new(shared));
                numbers.extend([1, 2, 3]);
                let numbers = Api2Vec::leak(numbers);
                *number += 1;
                numbers[0] = 9;
                assert_eq!((*number, &*numbers), (8, &[9, 2, 3][..]));
                let strict = weak.upgrade().expect("leaked, so there for good");
                assert_eq!(strict.live_blocks(), 2);
                while Arc::strong_count(&strict) > 1 {
                    // SAFETY: counted for a bridge that was leaked, and nothing it holds is used again.
                    unsafe { Arc::decrement_strong_count(Arc::as_ptr(&strict)) };
                }
            }

            #[test]
            fn over_what_the_platform_has() {
                exercise(SystemAllocator);
                exercise(&SystemAllocator);
                exercise(GlobalBacking::new(&System));
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
                drop(numbers);
                strict.finish();
            }
        }
    )+};
}

collections! {
    #[cfg(feature = "allocator-api2-02")] api2_02: allocator_api2_02, a_map;
    #[cfg(feature = "allocator-api2-03")] api2_03: allocator_api2_03, drop;
    #[cfg(feature = "allocator-api2-04")] api2_04: allocator_api2_04, drop;
    #[cfg(terrace_nightly)] std_nightly: std, drop;
}

/// hashbrown's, which speaks 0.2.
fn a_map<A: allocator_api2_02::alloc::Allocator + Clone>(allocator: A) {
    let mut map = HashMap::new_in(allocator);
    for n in 0..500u32 {
        map.insert(n, n * n);
    }
    map.retain(|n, _| n % 50 == 0);
    map.shrink_to_fit();
    assert_eq!((map.len(), map[&450]), (10, 450 * 450));
}

#[test]
fn no_memory_is_an_error_of_a_map() {
    let strict = Strict::new(Policy::Refuse);
    let mut map: HashMap<u32, u32, _, _> = HashMap::new_in(&strict as &dyn Allocator);
    map.insert(1, 2);
    strict.allocs_left.set(0);
    assert!(map.try_reserve(100).is_err());
    assert_eq!(map[&1], 2);
    drop(map);
    strict.finish();
}
