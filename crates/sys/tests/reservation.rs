//! `Reservation` and `ReservedAllocator` from outside: memory only where it is committed, blocks that never move.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{env, fs, os::unix::process::ExitStatusExt, process::Command, thread};

use proptest::{collection::vec, prelude::*};
use terrace_core::{Alignment, Allocator, Owns, Reset, ResetMode};
use terrace_sys::{Reservation, ReservedAllocator, page_size};

const MIB: usize = 1 << 20;

const _: () = {
    const fn goes_to_any_thread<T: Send>() {}
    const fn is_shared_by_threads<T: Sync>() {}
    goes_to_any_thread::<Reservation>();
    is_shared_by_threads::<Reservation>();
    goes_to_any_thread::<ReservedAllocator>();
};

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

fn pages(count: usize) -> usize {
    count * page_size()
}

/// What `/proc/self/maps` says may be done at `address`, or `None` where nothing is mapped.
fn access(address: usize) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&address).then(|| line.split(' ').nth(1).unwrap().to_owned())
    })
}

/// How many pages of a range are in memory.
fn resident(start: NonNull<u8>, count: usize) -> usize {
    let mut residency = vec![0u8; count];
    // SAFETY: the kernel checks the address; `residency` has a byte for each page.
    let answer = unsafe { libc::mincore(start.as_ptr().cast(), pages(count), residency.as_mut_ptr()) };
    assert_eq!(answer, 0);
    residency.iter().filter(|&&page| page & 1 == 1).count()
}

#[test]
fn a_tebibyte_is_reserved_on_any_machine_and_unmapped_when_dropped() {
    let table = Reservation::new(bytes(1 << 40)).expect("addresses cost nothing");
    let start = table.start().addr().get();
    assert_eq!(table.capacity(), 1 << 40);
    for at in [start, start + (1 << 39), start + (1 << 40) - 1] {
        assert_eq!(access(at).as_deref(), Some("---p"));
    }
    drop(table);
    assert_ne!(access(start + (1 << 39)).as_deref(), Some("---p"));
}

#[test]
fn pages_are_usable_exactly_while_they_are_committed() {
    let table = Reservation::with_alignment(bytes(pages(16)), Alignment::new(4 * MIB).unwrap()).unwrap();
    assert_eq!(table.start().addr().get() % (4 * MIB), 0);
    let seen = |page: usize| access(table.start().addr().get() + pages(page)).unwrap();
    table.commit(pages(2)..pages(6)).unwrap();
    assert_eq!([1, 2, 5, 6].map(seen), ["---p", "rw-p", "rw-p", "---p"]);
    // SAFETY: within the reservation.
    let third = unsafe { table.start().add(pages(3)) };
    // SAFETY: committed, of this test alone.
    unsafe { third.write_bytes(9, pages(2)) };
    assert_eq!(resident(table.start(), 16), 2, "memory where it was touched");
    table.commit(0..pages(16)).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { third.read() }, 9, "a second commit keeps the contents");
    // SAFETY: nobody uses the pages.
    assert!(unsafe { table.decommit(pages(3)..pages(4)) });
    assert_eq!([2, 3, 4].map(seen), ["rw-p", "---p", "rw-p"]);
    assert_eq!(resident(table.start(), 16), 1);
    table.commit(pages(3)..pages(4)).unwrap();
    // SAFETY: committed again.
    assert_eq!(unsafe { third.read() }, 0, "and empty");
}

#[test]
fn touching_what_is_not_committed_ends_the_process() {
    const CHILD: &str = "TERRACE_SYS_CHILD";
    if env::var_os(CHILD).is_some() {
        let table = Reservation::new(bytes(pages(4))).unwrap();
        table.commit(0..pages(1)).unwrap();
        // SAFETY: committed.
        unsafe { table.start().write(1) };
        let behind = table.start().as_ptr().wrapping_add(pages(1));
        // SAFETY: none: this is the write that ends the process.
        unsafe { behind.write_volatile(1) };
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["touching_what_is_not_committed_ends_the_process", "--exact"]).env(CHILD, "1");
    // Under AddressSanitizer a fault is to end the process as it does without.
    let output = child.env("ASAN_OPTIONS", "handle_segv=0").output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", output.status);
}

#[test]
fn threads_commit_and_decommit_pages_of_one_reservation() {
    let table = Reservation::new(bytes(pages(64))).unwrap();
    thread::scope(|scope| {
        for thread in 0..4usize {
            let table = &table;
            scope.spawn(move || {
                for round in 0..200usize {
                    let page = thread * 16 + round % 16;
                    table.commit(pages(page)..pages(page + 1)).unwrap();
                    // SAFETY: within the reservation.
                    let start = unsafe { table.start().add(pages(page)) };
                    // SAFETY: committed, and this thread's.
                    assert_eq!(unsafe { start.read() }, 0);
                    // SAFETY: as above.
                    unsafe { start.write(1) };
                    // SAFETY: nobody uses the page any more.
                    assert!(unsafe { table.decommit(pages(page)..pages(page + 1)) });
                }
            });
        }
    });
}

#[test]
fn the_last_block_grows_to_the_end_of_the_reservation_where_it_is() {
    let region = ReservedAllocator::new(bytes(64 * MIB)).unwrap();
    let align = Alignment::of::<u64>();
    let start = region.alloc(bytes(8), align).unwrap();
    let mut len = 8;
    while len < 64 * MIB {
        let memory = NonNull::slice_from_raw_parts(start, len);
        // SAFETY: live, with its alignment.
        assert!(unsafe { region.resize(memory, align, bytes(2 * len)) });
        len *= 2;
        // SAFETY: within the block.
        let last = unsafe { start.add(len - 1) };
        // SAFETY: as above.
        unsafe { last.write(3) };
    }
    let memory = NonNull::slice_from_raw_parts(start, len);
    // SAFETY: live, with its alignment.
    assert!(!unsafe { region.resize(memory, align, bytes(len + 1)) }, "full");
    assert!(region.alloc(bytes(1), Alignment::ONE).is_err());
    // SAFETY: live, with its alignment, not used again.
    unsafe { region.free(memory, align) };
    assert_eq!(region.end_index(), 0);
}

#[test]
fn a_reset_gives_memory_back_as_far_as_it_is_told() {
    let mut region = ReservedAllocator::new(bytes(8 * MIB)).unwrap();
    for (mode, kept) in [
        (ResetMode::RetainCapacity, 4 * MIB),
        (ResetMode::RetainWithLimit(16 * MIB), 4 * MIB),
        (ResetMode::RetainWithLimit(pages(5) + 1), pages(5)),
        (ResetMode::RetainWithLimit(1), 0),
        (ResetMode::FreeAll, 0),
    ] {
        let start = region.alloc(bytes(4 * MIB), Alignment::ONE).unwrap();
        // SAFETY: live, of that length.
        unsafe { start.write_bytes(7, 4 * MIB) };
        assert!(region.owns(start));
        assert!(region.reset(mode));
        assert_eq!((region.end_index(), region.committed()), (0, kept), "{mode:?}");
        assert_eq!(resident(start, 4 * MIB / page_size()), kept / page_size());
        let dirty = region.alloc_zeroed(bytes(5 * MIB), Alignment::ONE).unwrap();
        // SAFETY: live, zeroed.
        let contents = unsafe { NonNull::slice_from_raw_parts(dirty, 5 * MIB).as_ref() };
        assert!(contents.chunks(4096).all(|chunk| chunk == [0; 4096]), "{mode:?}");
        assert!(region.reset(ResetMode::FreeAll));
    }
}

#[test]
fn a_zeroed_block_over_fresh_pages_touches_none_of_them() {
    let region = ReservedAllocator::new(bytes(64 * MIB)).unwrap();
    let start = region.alloc_zeroed(bytes(32 * MIB), Alignment::ONE).unwrap();
    assert_eq!(resident(start, 32 * MIB / page_size()), 0);
}

#[test]
fn an_address_beside_the_reservation_is_not_owned() {
    let region = ReservedAllocator::new(bytes(pages(2))).unwrap();
    let start = region.alloc(bytes(1), Alignment::ONE).unwrap();
    let owned = |offset: isize| region.owns(NonNull::new(start.as_ptr().wrapping_offset(offset)).unwrap());
    let size = pages(2) as isize;
    assert_eq!([-1, 0, size - 1, size].map(owned), [false, true, true, false]);
}

#[test]
fn blocks_stay_where_they_are_when_the_allocator_goes_to_another_thread() {
    let region = ReservedAllocator::new(bytes(MIB)).unwrap();
    let start = region.alloc(bytes(100), Alignment::ONE).unwrap();
    // SAFETY: live.
    unsafe { start.write(5) };
    let place = start.addr();
    let moved = thread::spawn(move || {
        let next = region.alloc(bytes(1), Alignment::ONE).unwrap();
        assert_eq!(next.addr().get(), place.get() + 100);
        region
    });
    let _region = moved.join().unwrap();
    // SAFETY: live, since the allocator is.
    assert_eq!(unsafe { start.read() }, 5);
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { len: usize, log2: u32, zeroed: bool },
    Change { which: usize, len: usize },
    Free { which: usize },
    Reset { limit: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![1..300usize, 1..600_000usize];
    prop_oneof![
        4 => (len(), 0..14u32, any::<bool>()).prop_map(|(len, log2, zeroed)| Op::Alloc { len, log2, zeroed }),
        3 => (any::<usize>(), len()).prop_map(|(which, len)| Op::Change { which, len }),
        3 => any::<usize>().prop_map(|which| Op::Free { which }),
        1 => (0..3 * MIB).prop_map(|limit| Op::Reset { limit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// What stays zero where it is promised, and whole where it is live, whatever came before.
    #[test]
    fn blocks_keep_their_bytes_and_zeroed_ones_are_zero(ops in vec(op(), 1..40)) {
        let mut region = ReservedAllocator::new(bytes(4 * MIB)).unwrap();
        let mut live: Vec<(NonNull<[u8]>, Alignment, u8)> = Vec::new();
        for (mark, op) in (1..).zip(ops) {
            match op {
                Op::Alloc { len, log2, zeroed } => {
                    let alignment = Alignment::from_log2(log2).unwrap();
                    let asked = if zeroed { region.alloc_zeroed(bytes(len), alignment) } else { region.alloc(bytes(len), alignment) };
                    let Ok(start) = asked else { continue };
                    prop_assert!(alignment.is_aligned(start.addr().get()));
                    let memory = NonNull::slice_from_raw_parts(start, len);
                    if zeroed {
                        // SAFETY: live, zeroed.
                        let contents = unsafe { memory.as_ref() };
                        prop_assert!(contents.iter().all(|&byte| byte == 0));
                    }
                    // SAFETY: live, of that length.
                    unsafe { start.write_bytes(mark, len) };
                    live.push((memory, alignment, mark));
                }
                Op::Change { which, len } if !live.is_empty() => {
                    let which = which % live.len();
                    let (memory, alignment, mark) = live[which];
                    // SAFETY: live, with its alignment.
                    if unsafe { region.resize(memory, alignment, bytes(len)) } {
                        let start = memory.cast::<u8>();
                        // SAFETY: live, of that length.
                        unsafe { start.write_bytes(mark, len) };
                        live[which].0 = NonNull::slice_from_raw_parts(start, len);
                    }
                }
                Op::Free { which } if !live.is_empty() => {
                    let (memory, alignment, _) = live.swap_remove(which % live.len());
                    // SAFETY: live, with its alignment, not used again.
                    unsafe { region.free(memory, alignment) };
                }
                Op::Reset { limit } => {
                    live.clear();
                    prop_assert!(region.reset(ResetMode::RetainWithLimit(limit)));
                }
                Op::Change { .. } | Op::Free { .. } => {}
            }
            for &(memory, _, mark) in &live {
                // SAFETY: live, written.
                let contents = unsafe { memory.as_ref() };
                prop_assert!(contents.first() == Some(&mark) && contents.last() == Some(&mark));
            }
        }
        for (memory, _, mark) in live {
            // SAFETY: live, written.
            let contents = unsafe { memory.as_ref() };
            prop_assert!(contents.iter().all(|&byte| byte == mark));
        }
    }
}
