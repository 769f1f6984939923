//! `PageAllocator` where the system truly has no more. Each test runs in a process of its own, which it
//! starts: a limit that it sets or reaches is nobody else's.

use core::{num::NonZeroUsize, ptr, ptr::NonNull};
use std::{env, fs, process::Command};

use terrace_core::{Alignment, Allocator};
use terrace_sys::{PageAllocator, page_size};

const MIB: usize = 1 << 20;
const CHILD: &str = "TERRACE_SYS_CHILD";

/// Whether this is the process to run test `name` in. Otherwise starts that, and it has passed.
fn in_a_child(name: &str) -> bool {
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let program = env::current_exe().unwrap();
    let child = Command::new(program).args([name, "--exact", "--test-threads=1"]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("1 passed"), "the child ran the test: {said}");
    false
}

fn alloc(len: usize, alignment: usize) -> Option<NonNull<[u8]>> {
    let len = NonZeroUsize::new(len).unwrap();
    let start = PageAllocator.alloc(len, Alignment::new(alignment).unwrap()).ok()?;
    Some(NonNull::slice_from_raw_parts(start, len.get()))
}

/// Nothing here looks at the alignment again.
fn free(memory: NonNull<[u8]>) {
    // SAFETY: every caller made it with `alloc`, and uses it no more.
    unsafe { PageAllocator.free(memory, Alignment::ONE) };
}

/// Bytes of address space in use.
fn address_space() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').next().unwrap().parse::<usize>().unwrap() * page_size()
}

/// How many pages of a block are in memory, or `None` where some are not mapped. Allocates nothing.
fn resident<const PAGES: usize>(memory: NonNull<[u8]>) -> Option<usize> {
    let mut residency = [0u8; PAGES];
    // SAFETY: the kernel checks the address; `residency` has a byte for each page.
    let answer = unsafe { libc::mincore(memory.as_ptr().cast(), PAGES * page_size(), residency.as_mut_ptr()) };
    (answer == 0).then(|| residency.iter().filter(|&&page| page & 1 == 1).count())
}

#[test]
fn without_address_space_requests_are_refused_and_nothing_is_lost() {
    if !in_a_child("without_address_space_requests_are_refused_and_nothing_is_lost") {
        return;
    }
    let block = alloc(8 * MIB, 1).unwrap();
    let before = address_space();
    let limit = libc::rlimit { rlim_cur: (before + 64 * MIB) as libc::rlim_t, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is read only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    for _ in 0..100 {
        assert!(alloc(65 * MIB, 1).is_none());
        assert!(alloc(MIB, 128 * MIB).is_none(), "the reservation does not fit");
        for (len, alignment) in [(32 * MIB, 1), (MIB, 32 * MIB), (MIB, 2 * MIB)] {
            free(alloc(len, alignment).expect("it fits"));
        }
        let more = NonZeroUsize::new(80 * MIB).unwrap();
        // SAFETY: live, of this alignment.
        assert!(!unsafe { PageAllocator.resize(block, Alignment::ONE, more) });
        // SAFETY: as above.
        assert!(unsafe { PageAllocator.remap(block, Alignment::ONE, more) }.is_none());
    }
    assert_eq!(address_space(), before);
    // SAFETY: live, of this alignment.
    let grown = unsafe { PageAllocator.remap(block, Alignment::ONE, NonZeroUsize::new(40 * MIB).unwrap()) };
    free(NonNull::slice_from_raw_parts(grown.expect("it fits"), 40 * MIB));
    assert_eq!(address_space(), before - 8 * MIB);
}

/// A block whose map reaches beyond it on both sides, so that unmapping it makes one map more.
fn block_within_a_map() -> NonNull<[u8]> {
    let blocks: Vec<_> = (0..64).map(|_| alloc(4 * page_size(), 1).unwrap()).collect();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let maps = maps.lines().map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        (usize::from_str_radix(start, 16).unwrap(), usize::from_str_radix(end, 16).unwrap())
    });
    let within = |block: &&NonNull<[u8]>| {
        let start = block.addr().get();
        maps.clone().any(|map| map.0 < start && start + 4 * page_size() < map.1)
    };
    *blocks.iter().find(within).expect("the kernel joins maps of one kind that touch")
}

/// Maps pages that differ from their neighbours until the process may have no more maps.
fn take_all_maps(most: usize) -> NonNull<[u8]> {
    let hoard_len = (most + 100) * page_size();
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new map touches no other.
    let start = unsafe { libc::mmap(ptr::null_mut(), hoard_len, libc::PROT_NONE, kind, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    for offset in (0..hoard_len).step_by(2 * page_size()) {
        // SAFETY: a page of the hoard, which nobody touches.
        if unsafe { libc::mprotect(start.wrapping_byte_add(offset), page_size(), libc::PROT_READ) } != 0 {
            return NonNull::slice_from_raw_parts(NonNull::new(start.cast()).unwrap(), hoard_len);
        }
    }
    panic!("no limit after {most} maps");
}

#[test]
fn at_the_limit_of_maps_a_freed_block_is_emptied_and_unmapped_later() {
    if !in_a_child("at_the_limit_of_maps_a_freed_block_is_emptied_and_unmapped_later") {
        return;
    }
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 300_000 {
        return eprintln!("{limit} maps take too long to make: nothing tried");
    }
    // So that one byte written is one page in memory.
    // SAFETY: takes plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    let block = block_within_a_map();
    // SAFETY: live, of that length.
    unsafe { block.cast::<u8>().write_bytes(1, block.len()) };
    assert_eq!(resident::<4>(block), Some(4));
    let hoard = take_all_maps(limit);
    free(block);
    // No assertion before the hoard is gone: its message may need a map.
    let refused = resident::<4>(block);
    // Pages that no longer differ are one map again. (Unmapping them would do, but not for AddressSanitizer,
    // which maps something at that.)
    // SAFETY: the hoard is ours.
    let joined = unsafe { libc::mprotect(hoard.as_ptr().cast(), hoard.len(), libc::PROT_NONE) };
    assert_eq!((refused, joined), (Some(1), 0), "still mapped; only the page that holds the note is in memory");
    free(alloc(1, 1).unwrap());
    assert_eq!(resident::<4>(block), None, "unmapped, now that there is room");
}
