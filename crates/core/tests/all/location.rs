//! The caller's line reaches an allocator through generics, handles, `dyn` and the typed layer.

use std::{num::NonZeroUsize, panic::Location, ptr::NonNull, rc::Rc, sync::Arc};

use allocator_api2_02::alloc::{Allocator as Api2, Layout};
use terrace_core::{Alignment, Allocator, AllocatorExt, Bridge, BulkFree};

use crate::probe::Probe;

const BYTE: NonZeroUsize = NonZeroUsize::MIN;

/// Fails unless all of the probe's callers stand in this file, on the lines from `first` to here.
#[track_caller]
fn all_since(first: u32, probe: &Probe, calls: usize) {
    let last = Location::caller().line();
    let callers = probe.callers();
    assert_eq!(callers.len(), calls);
    for caller in callers {
        assert!(caller.file().ends_with("location.rs"), "{caller}");
        assert!((first..=last).contains(&caller.line()), "{caller}");
    }
}

/// All five functions; their callers are the lines of this function, whatever `A` is.
fn each_function<A: Allocator + ?Sized>(allocator: &A, probe: &Probe) {
    let first = line!();
    let block = NonNull::slice_from_raw_parts(allocator.alloc(BYTE, Alignment::ONE).unwrap(), 1);
    let zeroed = NonNull::slice_from_raw_parts(allocator.alloc_zeroed(BYTE, Alignment::ONE).unwrap(), 1);
    // SAFETY: live; the same length.
    unsafe { allocator.resize(block, Alignment::ONE, BYTE) };
    // SAFETY: live; the same length at the same place.
    unsafe { allocator.remap(block, Alignment::ONE, BYTE) };
    // SAFETY: live, given up here.
    unsafe { allocator.free(block, Alignment::ONE) };
    // SAFETY: live, given up here.
    unsafe { allocator.free(zeroed, Alignment::ONE) };
    all_since(first, probe, 6);
}

#[test]
fn through_generics_handles_and_dyn() {
    let probe = Rc::new(Probe::default());
    each_function(&*probe, &probe);
    each_function(&&*probe, &probe);
    each_function(&probe, &probe);
    each_function::<dyn Allocator>(&*probe, &probe);
    each_function(&(&*probe as &dyn Allocator), &probe);
    each_function(&(Box::new(probe.clone()) as Box<dyn Allocator>), &probe);
    each_function(&Bridge::new(probe.clone()), &probe);
    let mut unique = &*probe;
    each_function(&&mut unique, &probe);
    #[expect(clippy::arc_with_non_send_sync, reason = "what counts here is the handle, not its threads")]
    let shared = Arc::new(probe.clone());
    each_function(&shared, &probe);
}

/// The typed layer over `A`; the callers are the lines of this function.
fn each_typed_function<A: Allocator + ?Sized>(allocator: &A, probe: &Probe) {
    let first = line!();
    let item = allocator.create::<u8>().unwrap();
    let slice = allocator.alloc_slice::<u8>(4).unwrap();
    let zeroed = allocator.alloc_slice_zeroed::<u8>(4).unwrap();
    let sentinel = allocator.alloc_slice_sentinel::<u8>(4, 0).unwrap();
    let copy = allocator.dupe(b"abc").unwrap();
    let copy_z = allocator.dupe_z(b"abc").unwrap();
    all_since(first, probe, 6);
    // SAFETY: live; the system refuses.
    assert!(!unsafe { allocator.resize_slice(slice, 5) });
    // SAFETY: live; the system refuses.
    assert!(unsafe { allocator.remap_slice(slice, 5) }.is_none());
    all_since(first, probe, 2);
    // SAFETY: live; only the new slice is used from here on.
    let slice = unsafe { allocator.realloc_slice(slice, 5) }.unwrap();
    all_since(first, probe, 3); // remap, alloc, free
    // SAFETY: live; only the new block is used from here on.
    let copy = unsafe { allocator.realloc_in_place_or_move(copy, Alignment::ONE, BYTE) }.unwrap();
    all_since(first, probe, 3);
    // SAFETY: live, given up here.
    unsafe { allocator.destroy(item) };
    for slice in [slice, zeroed, NonNull::slice_from_raw_parts(copy, 1)] {
        // SAFETY: live, given up here.
        unsafe { allocator.free_slice(slice) };
    }
    for slice in [sentinel, copy_z] {
        // SAFETY: live, given up here.
        unsafe { allocator.free_slice_sentinel(slice) };
    }
    all_since(first, probe, 6);
}

#[test]
fn through_the_typed_layer() {
    let probe = Probe::default();
    each_typed_function(&probe, &probe);
    each_typed_function::<dyn Allocator>(&probe, &probe);
}

#[test]
fn through_a_bridge_up_to_the_collection() {
    let probe = Probe::default();
    let first = line!();
    let layout = Layout::new::<u64>();
    let block = Bridge::new(&probe).allocate(layout).unwrap();
    // SAFETY: live with this layout; only the new block is used from here on.
    let block = unsafe { Bridge::new(&probe).grow(block.cast(), layout, Layout::new::<[u64; 2]>()) }.unwrap();
    // SAFETY: live with this layout, given up here.
    unsafe { Bridge::new(&probe).deallocate(block.cast(), Layout::new::<[u64; 2]>()) };
    all_since(first, &probe, 5); // alloc; remap, alloc, free; free
}

#[test]
fn through_a_capability() {
    let probe = Probe::default();
    let block = NonNull::slice_from_raw_parts(probe.alloc(BYTE, Alignment::ONE).unwrap(), 1);
    probe.callers();
    let first = line!();
    let dynamic: &dyn BulkFree = &&probe;
    // SAFETY: live, given up here.
    unsafe { dynamic.bulk_free(&[block], Alignment::ONE) };
    all_since(first, &probe, 1);
}
