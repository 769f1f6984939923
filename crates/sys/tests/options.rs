//! `TunedPageAllocator` as the kernel sees it: guards that end a process, pages in memory, huge pages, names.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use terrace_core::{Access, Alignment, Allocator, AllocatorExt, Decommit, GoodSize, PageSize, Protect};
use terrace_sys::{PageOptions, TunedPageAllocator, Unavailable, page_size};

const MIB: usize = 1 << 20;
const CHILD: &str = "TERRACE_SYS_CHILD";

const _: () = {
    const fn is_a_handle_for_all_threads<T: Send + Sync + Copy>() {}
    is_a_handle_for_all_threads::<TunedPageAllocator>();
};

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

fn alloc(pages: TunedPageAllocator, len: usize, alignment: usize) -> NonNull<[u8]> {
    let start = pages.alloc(bytes(len), Alignment::new(alignment).unwrap()).expect("memory");
    assert_eq!(start.addr().get() % alignment, 0);
    NonNull::slice_from_raw_parts(start, len)
}

/// Nothing here looks at the alignment again.
fn free(pages: TunedPageAllocator, memory: NonNull<[u8]>) {
    // SAFETY: every caller made it with `alloc` of the same allocator, and uses it no more.
    unsafe { pages.free(memory, Alignment::ONE) };
}

fn fill(memory: NonNull<[u8]>) {
    // SAFETY: every caller's block is live, and nobody else uses it.
    unsafe { memory.cast::<u8>().write_bytes(7, memory.len()) };
}

/// The map of this process that `address` lies in: its first line in `/proc/self/smaps`, and the fields below.
struct Map {
    line: String,
    fields: Vec<String>,
}

impl Map {
    fn of(address: usize) -> Option<Self> {
        let mut found: Option<Self> = None;
        for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            let number = |hex: &str| usize::from_str_radix(hex, 16).ok();
            let range = range.and_then(|(start, end)| Some(number(start)?..number(end)?));
            match (range, &mut found) {
                (Some(_), Some(_)) => break,
                (Some(range), None) if range.contains(&address) => {
                    found = Some(Self { line: line.to_owned(), fields: Vec::new() });
                }
                (None, Some(map)) => map.fields.push(line.to_owned()),
                _ => {}
            }
        }
        found
    }

    fn access(&self) -> &str {
        &self.line.split(' ').nth(1).unwrap()[..4]
    }

    fn field(&self, name: &str) -> &str {
        self.fields.iter().find_map(|field| field.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    }

    fn kib(&self, name: &str) -> usize {
        self.field(name).trim_end_matches(" kB").parse().unwrap()
    }
}

/// Which pages of a range are in memory.
fn resident(memory: NonNull<[u8]>) -> usize {
    let mut residency = vec![0u8; memory.len().div_ceil(page_size())];
    // SAFETY: the kernel checks the address; `residency` has a byte for each page.
    let answer = unsafe { libc::mincore(memory.as_ptr().cast(), memory.len(), residency.as_mut_ptr()) };
    assert_eq!(answer, 0);
    residency.iter().filter(|&&page| page & 1 == 1).count()
}

/// In the child: what to do. In the parent: `None`, after `name` has run in a child told so; how it ended.
fn in_a_child(name: &str, what: &str) -> Result<String, ExitStatus> {
    if let Ok(what) = env::var(CHILD) {
        return Ok(what);
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, what);
    // Under AddressSanitizer a fault is to end the process as it does without.
    Err(child.env("ASAN_OPTIONS", "handle_segv=0").output().unwrap().status)
}

#[test]
fn touching_a_guard_page_ends_the_process_and_touching_the_block_does_not() {
    let name = "touching_a_guard_page_ends_the_process_and_touching_the_block_does_not";
    for (what, faults) in [("inside", false), ("before", true), ("behind", true)] {
        let what = match in_a_child(name, what) {
            Ok(what) => what,
            Err(status) => {
                let signal = if faults { Some(libc::SIGSEGV) } else { None };
                assert_eq!((status.signal(), status.success()), (signal, !faults), "{what}: {status}");
                continue;
            }
        };
        let block = alloc(PageOptions::new().guard_pages().build(), 2 * page_size(), 1);
        fill(block);
        let start = block.cast::<u8>().as_ptr();
        let guarded = match what.as_str() {
            "before" => start.wrapping_sub(1),
            "behind" => start.wrapping_add(block.len()),
            _ => return free(PageOptions::new().guard_pages().build(), block),
        };
        // SAFETY: none: this is the write that the guard is there for, and the process ends.
        unsafe { guarded.write_volatile(1) };
        return;
    }
}

#[test]
fn guards_lie_directly_around_the_pages_wherever_the_block_is_aligned() {
    let pages = PageOptions::new().guard_pages().build();
    for (len, alignment) in [(1, 1), (3 * page_size(), 8), (page_size() + 1, 32 * page_size()), (5, 4 * MIB)] {
        let block = alloc(pages, len, alignment);
        fill(block);
        let (start, end) = (block.addr().get(), block.addr().get() + len.next_multiple_of(page_size()));
        let access = |at| Map::of(at).map(|map| map.access().to_owned());
        assert_eq!([start, end - 1].map(access), [Some("rw-p".to_owned()), Some("rw-p".to_owned())]);
        assert_eq!([start - 1, end].map(access), [Some("---p".to_owned()), Some("---p".to_owned())]);
        free(pages, block);
    }
}

#[test]
fn a_populated_block_is_in_memory_before_it_is_touched_and_so_is_its_growth() {
    let options = PageOptions::new().populate();
    if let Err(why) = options.check() {
        return eprintln!("{why}: nothing tried");
    }
    let pages = options.build();
    for alignment in [1, 16 * page_size()] {
        let block = alloc(pages, 64 * page_size(), alignment);
        assert_eq!(resident(block), 64);
        // SAFETY: live, with its alignment.
        assert!(unsafe { pages.resize(block, Alignment::new(alignment).unwrap(), bytes(16 * page_size())) });
        let block = NonNull::slice_from_raw_parts(block.cast::<u8>(), 16 * page_size());
        // SAFETY: as above. The pages behind were its own, and are free unless another thread was quicker.
        if unsafe { pages.resize(block, Alignment::new(alignment).unwrap(), bytes(48 * page_size())) } {
            let block = NonNull::slice_from_raw_parts(block.cast::<u8>(), 48 * page_size());
            assert_eq!(resident(block), 48);
            free(pages, block);
        } else {
            free(pages, block);
        }
    }
    let lazy = PageOptions::new().build();
    let block = alloc(lazy, 64 * page_size(), 1);
    assert_eq!(resident(block), 0, "without the option nothing is");
    free(lazy, block);
}

#[test]
fn transparent_huge_pages_are_asked_for_and_come_where_the_machine_has_them() {
    let options = PageOptions::new().transparent_huge_pages();
    if let Err(why) = options.check() {
        return eprintln!("{why}: nothing tried");
    }
    let pages = options.build();
    // A length that the kernel does not align by itself.
    let block = alloc(pages, 16 * MIB + page_size(), 1);
    let map = Map::of(block.addr().get()).unwrap();
    assert!(map.field("VmFlags").split(' ').any(|flag| flag == "hg"), "the wish is noted: {}", map.field("VmFlags"));
    if page_size() == 4096 {
        assert_eq!(block.addr().get() % (2 * MIB), 0, "where it could be a huge page it begins at one");
    }
    let enabled = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    fill(block);
    let huge = Map::of(block.addr().get()).unwrap().kib("AnonHugePages");
    match enabled.contains("[never]") || enabled.is_empty() {
        true => eprintln!("transparent huge pages are switched off: only the wish was looked at"),
        // No promise of the kernel's, but 16 MiB without one would be strange; say so rather than fail.
        false if huge == 0 => eprintln!("the kernel had no huge page to spare"),
        false => assert!(huge >= 2048, "{huge} KiB"),
    }
    free(pages, block);
}

#[test]
fn a_block_that_has_grown_gets_huge_pages_and_grows_again() {
    let options = PageOptions::new().huge_pages_where_grown(8 * MIB);
    if let Err(why) = options.check() {
        return eprintln!("{why}: nothing tried");
    }
    let pages = options.build();
    let wished = |block: NonNull<[u8]>| {
        let map = Map::of(block.addr().get()).unwrap();
        map.field("VmFlags").split(' ').any(|flag| flag == "hg")
    };
    let large = alloc(pages, 16 * MIB, 1);
    assert!(!wished(large), "it is large from the beginning");
    free(pages, large);
    let mut block = alloc(pages, MIB, 1);
    fill(block);
    for len in [2, 4, 8, 16, 32].map(|mib| mib * MIB) {
        // SAFETY: live; only what comes back is used from then on.
        let Some(start) = (unsafe { pages.remap(block, Alignment::ONE, bytes(len)) }) else {
            return eprintln!("the system grows no map: nothing tried");
        };
        let before = block.len();
        block = NonNull::slice_from_raw_parts(start, len);
        assert_eq!(wished(block), len >= 8 * MIB, "{len}");
        // SAFETY: live, and filled so far.
        let kept = unsafe { core::slice::from_raw_parts(start.as_ptr(), before) };
        assert!(kept.iter().step_by(997).all(|&byte| byte == 7));
        fill(block);
    }
    free(pages, block);
}

#[test]
fn explicit_huge_pages_come_from_the_pool_or_are_refused_with_the_remedy() {
    let size = Alignment::new(2 * MIB).unwrap();
    let options = PageOptions::new().explicit_huge_pages(size);
    let pages = options.build();
    match options.check() {
        Ok(()) => {}
        Err(why) => {
            assert!(pages.alloc(bytes(1), Alignment::ONE).is_err());
            assert!(why != (Unavailable::HugePages { size }) || why.to_string().contains("/proc/sys/vm/nr_hugepages"));
            return eprintln!("{why}: only the refusal was tried");
        }
    }
    let free_before = huge_pages_not_promised();
    let block = alloc(pages, 3 * MIB, 1);
    assert_eq!(huge_pages_not_promised(), free_before - 2, "promised before it is touched");
    assert_eq!((pages.page_size(), pages.good_size(bytes(1), Alignment::ONE)), (size, bytes(2 * MIB)));
    fill(block);
    assert_eq!(Map::of(block.addr().get()).unwrap().kib("KernelPageSize"), 2048);
    // SAFETY: live, with its alignment.
    assert!(unsafe { pages.resize(block, Alignment::ONE, bytes(4 * MIB)) }, "within its pages");
    // SAFETY: as above.
    assert!(unsafe { pages.remap(block, Alignment::ONE, bytes(5 * MIB)) }.is_none(), "it never grows");
    // SAFETY: as above.
    assert!(unsafe { pages.resize(block, Alignment::ONE, bytes(1)) });
    assert_eq!(huge_pages_not_promised(), free_before - 1, "the second page has gone back");
    let page = NonNull::slice_from_raw_parts(block.cast::<u8>(), 2 * MIB);
    // SAFETY: a page of the block, used by nobody meanwhile.
    assert!(!unsafe { pages.decommit(page) }, "it would lose its place");
    // SAFETY: as above.
    assert!(unsafe { pages.protect(page, Access::Read) } && unsafe { pages.protect(page, Access::ReadWrite) });
    free(pages, NonNull::slice_from_raw_parts(block.cast::<u8>(), 1));
    let too_many = bytes((free_before + 1) * 2 * MIB);
    assert!(pages.alloc(too_many, Alignment::ONE).is_err(), "refused, not granted and faulting later");
    explicit_and_more(options, free_before);
}

/// Over-aligned, guarded and populated, where the pool has room.
fn explicit_and_more(options: PageOptions, free_before: usize) {
    if free_before < 4 {
        return eprintln!("{free_before} huge pages: over-aligned and guarded blocks not tried");
    }
    for (options, len, alignment, takes) in [
        (options, 2 * MIB, 4 * MIB, 1),
        (options.guard_pages(), 1, 1, 3),
        (options.guard_pages().populate(), 2 * MIB, 4 * MIB, 3),
    ] {
        let pages = options.build();
        let block = alloc(pages, len, alignment);
        assert_eq!(huge_pages_not_promised(), free_before - takes, "{options:?}");
        fill(block);
        free(pages, block);
        assert_eq!(huge_pages_not_promised(), free_before);
    }
}

/// Huge pages of the default size that nobody has been promised.
fn huge_pages_not_promised() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let number = |name: &str| -> usize {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    number("HugePages_Free:") - number("HugePages_Rsvd:")
}

#[test]
fn a_size_that_the_machine_does_not_have_is_named() {
    let size = Alignment::new(1 << 40).unwrap();
    let options = PageOptions::new().explicit_huge_pages(size);
    let why = options.check().unwrap_err();
    assert_eq!(why, Unavailable::HugePageSize { size });
    assert!(why.to_string().contains("/sys/kernel/mm/hugepages"));
    assert!(options.build().alloc(bytes(1), Alignment::ONE).is_err());
}

#[test]
fn a_name_is_shown_where_the_kernel_has_names_and_harms_nowhere() {
    let options = PageOptions::new().name(c"terrace test");
    let pages = options.build();
    let block = alloc(pages, 3 * page_size(), 1);
    fill(block);
    let line = Map::of(block.addr().get()).unwrap().line;
    match options.check() {
        Ok(()) => assert!(line.ends_with("[anon:terrace test]"), "{line}"),
        Err(why) => {
            assert_eq!(why, Unavailable::Name);
            eprintln!("{why}: only looked whether it harms");
        }
    }
    free(pages, block);
    let bad = PageOptions::new().name(c"[brackets]");
    assert_eq!(bad.check(), Err(Unavailable::Name));
    let block = alloc(bad.build(), 1, 1);
    free(bad.build(), block);
}

#[test]
fn without_options_check_is_content() {
    assert_eq!(PageOptions::new().check(), Ok(()));
    assert_eq!(PageOptions::new().guard_pages().check(), Ok(()));
    assert_eq!(PageOptions::new().guard_pages().build().options(), PageOptions::new().guard_pages());
}

#[test]
fn decommitted_and_protected_pages_of_a_guarded_block_are_its_own() {
    let pages = PageOptions::new().guard_pages().build();
    assert_eq!(pages.page_size().bytes(), page_size());
    let block = alloc(pages, 4 * page_size(), 1);
    fill(block);
    // SAFETY: within the block.
    let second = unsafe { block.cast::<u8>().add(page_size()) };
    let middle = NonNull::slice_from_raw_parts(second, 2 * page_size());
    // SAFETY: whole pages of the block, used by nobody meanwhile.
    assert!(unsafe { pages.decommit(middle) });
    assert_eq!(resident(block), 2);
    // SAFETY: live; what was emptied reads as zero.
    let contents = unsafe { block.as_ref() };
    let expected = |at: usize| if (1..3).contains(&(at / page_size())) { 0 } else { 7 };
    assert!(contents.iter().enumerate().all(|(at, &byte)| byte == expected(at)));
    for (access, shown) in [(Access::None, "---p"), (Access::Read, "r--p"), (Access::ReadWrite, "rw-p")] {
        // SAFETY: as above.
        assert!(unsafe { pages.protect(middle, access) });
        assert_eq!(Map::of(second.addr().get()).unwrap().access(), shown);
    }
    free(pages, block);
}

#[test]
fn the_typed_layer_and_dyn_work_over_options() {
    let pages = PageOptions::new().guard_pages().transparent_huge_pages().name(c"typed").build();
    let dynamic: &dyn Allocator = &pages;
    let numbers = dynamic.alloc_slice_zeroed::<u64>(100_000).unwrap();
    // SAFETY: live, zeroed.
    assert!(unsafe { numbers.as_ref() }.iter().all(|&number| number == 0));
    // SAFETY: live, of this allocator, not used again.
    unsafe { dynamic.free_slice(numbers) };
}

/// Whether the same bytes of address space are in use after many blocks of every kind as before.
#[test]
fn every_block_is_exactly_returned() {
    let name = "every_block_is_exactly_returned";
    match in_a_child(name, "count") {
        Ok(_) => {}
        Err(status) => return assert!(status.success(), "{status}"),
    }
    let none = PageOptions::new();
    let options = [none, none.guard_pages(), none.transparent_huge_pages(), none.populate().guard_pages()];
    let address_space = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let before = address_space();
    for round in 0..200usize {
        let blocks: Vec<_> = options
            .iter()
            .flat_map(|options| [1, page_size() * 8, 4 * MIB].map(|alignment| (options.build(), alignment)))
            .map(|(pages, alignment)| (pages, alloc(pages, 1 + round * 977 % 100_000, alignment)))
            .collect();
        blocks.into_iter().for_each(|(pages, block)| free(pages, block));
    }
    // The vector of blocks is malloc's, which may have asked for a little.
    assert!(address_space() < before + 100, "{} pages more", address_space() - before);
}
