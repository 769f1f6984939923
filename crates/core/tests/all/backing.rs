//! `Api2Backing`: allocators of others under ours.

use std::{alloc::Layout, env, num::NonZeroUsize, process::Command, ptr::NonNull, rc::Rc};

use allocator_api2_02::alloc::{AllocError as Api2Error, Allocator as Api2};
use bumpalo::Bump;
use hashbrown::HashMap;
use terrace_core::{Alignment, AllocError, Allocator, AllocatorExt, Api2Backing, Bridge, bridge::V02};

use crate::strict::{Policy, Request, Strict};

fn non_zero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// What ours asks of `Api2Backing` over theirs, which is ours again, bridged: so `Strict` sees all of it.
#[test]
fn exact_lengths_and_alignments_go_down_and_no_length_is_changed_there() {
    let strict = Strict::new(Policy::InPlace);
    let backing = Api2Backing::<_, V02>::new(&strict as &dyn Allocator);
    let eight = Alignment::new(8).unwrap();
    let block = backing.alloc(non_zero(24), eight).unwrap();
    let zeroed = backing.alloc_zeroed(non_zero(16), Alignment::ONE).unwrap();
    assert_eq!(strict.requests(), [Request::Alloc(24, 8), Request::AllocZeroed(16, 1)]);
    let memory = NonNull::slice_from_raw_parts(block, 24);
    for (new_len, granted) in [(23, false), (24, true), (25, false), (isize::MAX as usize, false)] {
        // SAFETY: live, with its length and alignment.
        assert_eq!(unsafe { backing.resize(memory, eight, non_zero(new_len)) }, granted);
        // SAFETY: as above; where it is granted it has not moved.
        let moved = unsafe { backing.remap(memory, eight, non_zero(new_len)) };
        assert_eq!(moved, granted.then_some(block));
    }
    assert_eq!(strict.requests(), [], "theirs may copy, and cannot be asked whether it would");
    // SAFETY: live, 16 bytes that are zero.
    assert_eq!(unsafe { NonNull::slice_from_raw_parts(zeroed, 16).as_ref() }, [0; 16]);
    // SAFETY: live, given up here.
    unsafe { backing.free(NonNull::slice_from_raw_parts(zeroed, 16), Alignment::ONE) };
    // SAFETY: live, given up here.
    unsafe { backing.free(memory, eight) };
    assert_eq!(strict.requests(), [Request::Free(16, 1), Request::Free(24, 8)]);
    strict.finish();
}

#[test]
fn what_no_memory_can_satisfy_is_refused_before_it_is_asked_for() {
    let strict = Strict::new(Policy::Refuse);
    let backing = Api2Backing::<_, V02>::new(&strict as &dyn Allocator);
    for (len, log2) in [(usize::MAX, 0), (isize::MAX as usize + 1, 0), (isize::MAX as usize, 4), (1, usize::BITS - 1)] {
        let alignment = Alignment::from_log2(log2).unwrap();
        assert_eq!(backing.alloc(non_zero(len), alignment), Err(AllocError));
        assert_eq!(backing.alloc_zeroed(non_zero(len), alignment), Err(AllocError));
    }
    assert_eq!(strict.requests(), []);
    strict.allocs_left.set(0);
    assert_eq!(backing.alloc(non_zero(1), Alignment::ONE), Err(AllocError));
    strict.finish();
}

/// Rounds up to 64 bytes and says so, as allocator-api2 lets it: only the length asked is ours.
struct Generous<'a>(&'a Strict);

impl Generous<'_> {
    fn rounded(layout: Layout) -> Layout {
        Layout::from_size_align(layout.size().next_multiple_of(64), layout.align()).unwrap()
    }
}

// SAFETY: the blocks are `Strict`'s, each longer than asked.
unsafe impl Api2 for Generous<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, Api2Error> {
        Bridge::new(self.0).allocate(Self::rounded(layout))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: made with the layout rounded up, given up by the caller.
        unsafe { Bridge::new(self.0).deallocate(block, Self::rounded(layout)) }
    }
}

#[test]
fn a_block_longer_than_asked_goes_back_with_the_length_asked() {
    let strict = Strict::new(Policy::Refuse);
    let backing = Api2Backing::new(Generous(&strict));
    let numbers = backing.alloc_slice::<u32>(5).unwrap();
    assert_eq!(numbers.len(), 5);
    // SAFETY: live, of this allocator, not used again.
    unsafe { backing.free_slice(numbers) };
    assert_eq!(strict.requests(), [Request::Alloc(64, 4), Request::Free(64, 4)]);
    strict.finish();
}

#[test]
fn a_bump_stands_under_a_hash_map_of_another_owner() {
    let bump = Bump::new();
    let backing = Api2Backing::new(&bump);
    let mut squares = HashMap::new_in(Bridge::new(backing));
    squares.extend((0..1000u64).map(|n| (n, n * n)));
    assert_eq!(squares[&31], 961);
    assert!(bump.allocated_bytes() > 1000 * 16);
}

/// An allocator of one version carried to collections of the others: theirs, under ours, under theirs.
#[cfg(all(feature = "allocator-api2-03", feature = "allocator-api2-04"))]
#[test]
fn a_version_is_carried_to_the_others() {
    let (bump, strict) = (Bump::new(), Strict::new(Policy::InPlace));
    let mut two = allocator_api2_02::vec::Vec::new_in(Bridge::new(Api2Backing::new(allocator_api2_04::alloc::Global)));
    let mut three = allocator_api2_03::vec::Vec::new_in(Bridge::new(Api2Backing::new(&bump)));
    let mut four = allocator_api2_04::vec::Vec::new_in(Api2Backing::new(allocator_api2_03::alloc::Global));
    let mut all = allocator_api2_03::vec::Vec::new_in(Bridge::new(Api2Backing::<_, V02>::new(Bridge::new(&strict))));
    for n in 0..1000u32 {
        two.push(n);
        three.push(n);
        four.push(n);
        all.push(n);
    }
    assert!(two[..] == three[..] && three[..] == four[..] && four[..] == all[..]);
    assert!(bump.allocated_bytes() > 4000);
    drop(all);
    strict.finish();
}

#[cfg(terrace_nightly)]
#[test]
fn stds_trait_is_a_version_too() {
    let mut numbers = allocator_api2_02::vec::Vec::new_in(Bridge::new(Api2Backing::new(std::alloc::Global)));
    numbers.extend(0..100);
    assert_eq!(numbers[99], 99);
    let bump = Bump::new();
    let mut numbers = Vec::new_in(Bridge::new(Api2Backing::new(&bump)));
    numbers.extend(0..100);
    assert_eq!(numbers[99], 99);
}

/// Clause 9, from their side: a clone is the same allocator, and each may free the other's blocks.
#[test]
fn a_clone_frees_what_the_original_allocated() {
    let strict = Rc::new(Strict::new(Policy::Refuse));
    let backing = Api2Backing::<_, V02>::new(Bridge::new(strict.clone()));
    let clone = backing.clone();
    let numbers = backing.alloc_slice::<u64>(3).unwrap();
    drop(backing);
    // SAFETY: live, of an allocator that `clone` is, not used again.
    unsafe { clone.free_slice(numbers) };
    drop(clone);
    strict.finish();
}

/// Panics at every call, which theirs may and ours may not (clause 10).
struct Panicking;

// SAFETY: it hands out no block.
unsafe impl Api2 for Panicking {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, Api2Error> {
        panic!("out of cheese")
    }

    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
}

#[test]
fn a_panic_below_aborts_and_unwinds_into_nobody() {
    if env::var_os("TERRACE_TEST_PANICS").is_some() {
        let unwound = std::panic::catch_unwind(|| Api2Backing::new(Panicking).alloc(non_zero(1), Alignment::ONE));
        println!("came back: {unwound:?}");
        return;
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "backing::a_panic_below_aborts_and_unwinds_into_nobody", "--nocapture"])
        .env("TERRACE_TEST_PANICS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("out of cheese") && said.contains("unwound under Api2Backing"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("came back"));
}
