//! Nodes as the kernel sees them: where pages lie by each policy, on a full node, after they were moved.
//!
//! On a machine of one node what needs two says that it was skipped. With `.ci/run numa` these run on machines of two to four
//! nodes, where `TERRACE_NUMA_TOPOLOGY` names the one that must be found.

mod kernel;

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{env, fs, sync::Mutex, thread};

use kernel::{are_whole, seen_or_said, smaps};
use terrace_core::{Alignment, Allocator};
use terrace_sys::{
    PageAllocator, PageOptions, Unavailable,
    numa::{self, MemoryPolicy, NumaUnavailable, Place, Topology},
    page_size,
};

const HUGE: usize = 2 << 20;

/// Memory is the machine's: one test at a time, so that one's full node is not another's.
static TURN: Mutex<()> = Mutex::new(());

/// The machine's nodes, or the reason why there are none to test.
fn topology() -> Result<Topology, String> {
    match Topology::read() {
        Ok(topology) => Ok(topology),
        Err(why) if env::var_os("TERRACE_NUMA_TOPOLOGY").is_none() => Err(why.to_string()),
        Err(why) => panic!("this machine must have nodes: {why}"),
    }
}

/// The numbers of the nodes with memory, where there are two at least and the kernel lets itself be asked.
fn several(test: &str) -> Option<Vec<usize>> {
    let nodes = topology().map(|topology| {
        topology.nodes().iter().filter(|node| node.bytes > 0).map(|node| node.number).collect::<Vec<_>>()
    });
    let said = match &nodes {
        Ok(nodes) if nodes.len() > 1 => return Some(nodes.clone()),
        Ok(_) => "one node only",
        Err(why) => why,
    };
    eprintln!("skipped {test}: {said}");
    None
}

/// Whether the kernel says where pages lie; a filter of system calls may forbid it.
fn asks(test: &str) -> bool {
    let answer = numa::places(Pages::new(page_size()).range, |_| {});
    if let Err(why) = answer {
        assert!(env::var_os("TERRACE_NUMA_TOPOLOGY").is_none(), "{why}");
        eprintln!("skipped {test}: {why}");
    }
    answer.is_ok()
}

/// Fresh pages at a multiple of 2 MiB, none of them touched, and never huge unless asked.
struct Pages {
    range: NonNull<[u8]>,
}

impl Pages {
    fn new(len: usize) -> Self {
        let start =
            PageAllocator.alloc(NonZeroUsize::new(len).unwrap(), Alignment::new(HUGE).unwrap()).expect("memory");
        // SAFETY: pages of its own; the advice changes no contents.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Self { range: NonNull::slice_from_raw_parts(start, len) }
    }

    fn fill(&mut self, byte: u8) {
        // SAFETY: live, writable, and reached through this value alone.
        unsafe { self.range.cast::<u8>().write_bytes(byte, self.range.len()) };
    }

    fn holds(&self, byte: u8) -> bool {
        // SAFETY: live, and fresh pages are zero.
        unsafe { self.range.as_ref() }.iter().all(|&found| found == byte)
    }

    fn places(&self) -> Vec<Place> {
        let mut all = Vec::new();
        numa::places(self.range, |place| all.push(place)).expect("the kernel says it");
        all
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: live, and not used again.
        unsafe { PageAllocator.free(self.range, Alignment::new(HUGE).unwrap()) };
    }
}

#[test]
fn the_topology_is_the_one_that_was_ordered() {
    let _turn = TURN.lock();
    let Ok(topology) = topology().inspect_err(|why| eprintln!("skipped: {why}")) else { return };
    eprintln!("{topology:?}");
    let here = numa::current_node();
    let index = topology.index_of(here).expect("the thread runs on one of the nodes");
    assert!(!topology.nodes()[index].processors.is_empty(), "and that has processors");
    assert_eq!(topology.distances().len(), topology.nodes().len().pow(2));
    let Ok(ordered) = env::var("TERRACE_NUMA_TOPOLOGY") else { return };
    let shape: Vec<(u64, usize)> =
        topology.nodes().iter().map(|node| (node.bytes.div_ceil(64 << 20), node.processors.len())).collect();
    let (nodes, distances): (&[(u64, usize)], &[u8]) = match ordered.as_str() {
        "two" => (&[(4, 2); 2], &[10, 20, 20, 10]),
        "four" => (&[(4, 1); 4], &[10, 16, 22, 16, 16, 10, 16, 22, 22, 16, 10, 16, 16, 22, 16, 10]),
        "cxl" => (&[(4, 2), (4, 2), (4, 0)], &[10, 21, 40, 21, 10, 40, 40, 40, 10]),
        "tight" => (&[(4, 2), (1, 2)], &[10, 20, 20, 10]),
        other => panic!("no topology {other}"),
    };
    assert_eq!((&shape[..], topology.distances()), (nodes, distances));
}

/// They are no pages of anybody, so no call about them does anything but say so.
#[test]
fn a_range_that_ends_behind_the_last_address_is_refused() {
    let start = NonNull::without_provenance((usize::MAX - (page_size() - 1)).try_into().unwrap());
    let range = NonNull::slice_from_raw_parts(start, 2 * page_size());
    assert_eq!(numa::places(range, |_| {}), Err(NumaUnavailable::Range));
    assert_eq!(numa::migrate(range, 0), Err(NumaUnavailable::Range));
    assert_eq!(numa::bind(range, &MemoryPolicy::Local), Err(NumaUnavailable::Range));
    assert_eq!(numa::collapse(range), Err(NumaUnavailable::Range));
}

#[test]
fn the_current_node_is_kept_and_forgotten() {
    let _turn = TURN.lock();
    let Ok(topology) = topology().inspect_err(|why| eprintln!("skipped: {why}")) else { return };
    for node in topology.nodes().iter().filter(|node| !node.processors.is_empty()) {
        // A thread of its own, for it will run on that node's processors alone.
        let (cpu, expected) = (node.processors[0], node.number);
        thread::spawn(move || {
            numa::current_node();
            // SAFETY: zeroes are an empty set.
            let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
            // SAFETY: the kernel numbers fewer processors than the set has room for, or the test's machine is no test machine.
            unsafe { libc::CPU_SET(cpu, &mut set) };
            // SAFETY: the set is read only.
            if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
                eprintln!("skipped processor {cpu}: this process may not use it");
                return;
            }
            numa::forget_current_node();
            assert_eq!([0; 3000].map(|_| numa::current_node()), [expected; 3000]);
        })
        .join()
        .expect("it did not panic");
    }
}

#[test]
fn pages_that_nobody_touched_lie_nowhere() {
    let _turn = TURN.lock();
    if asks("untouched pages") {
        let mut pages = Pages::new(4 * page_size());
        assert_eq!(pages.places(), [Place::Nowhere; 4]);
        pages.fill(1);
        assert!(pages.places().iter().all(|place| matches!(place, Place::Node(_))));
    }
}

#[test]
fn pages_lie_where_the_policy_of_their_range_says() {
    let _turn = TURN.lock();
    let Some(nodes) = several("policies of ranges") else { return };
    for &node in &nodes {
        for policy in [MemoryPolicy::Preferred(node), MemoryPolicy::Bind([node].into_iter().collect())] {
            let mut pages = Pages::new(300 * page_size());
            numa::bind(pages.range, &policy).expect("a node with memory");
            pages.fill(1);
            assert_eq!(pages.places(), [Place::Node(node); 300], "{policy:?}");
        }
    }
    let mut pages = Pages::new(60 * page_size());
    numa::bind(pages.range, &MemoryPolicy::Interleave(nodes.iter().copied().collect())).expect("nodes with memory");
    pages.fill(1);
    let places = pages.places();
    for &node in &nodes {
        let here = places.iter().filter(|&&place| place == Place::Node(node)).count();
        assert!(here.abs_diff(60 / nodes.len()) <= 1, "{here} of 60 pages on node {node}");
    }
    assert!(places.windows(2).all(|two| two[0] != two[1]), "in turn");
}

#[test]
fn pages_lie_where_the_policy_of_the_thread_says() {
    let _turn = TURN.lock();
    let Some(nodes) = several("policies of threads") else { return };
    // A thread of its own ends with its policy.
    thread::spawn(move || {
        assert_eq!(numa::policy(), Ok(Some(MemoryPolicy::Local)));
        for &node in nodes.iter().rev() {
            let policy = MemoryPolicy::Bind([node].into_iter().collect());
            numa::set_policy(&policy).expect("a node with memory");
            assert_eq!(numa::policy(), Ok(Some(policy)));
            let mut pages = Pages::new(9 * page_size());
            pages.fill(1);
            assert_eq!(pages.places(), [Place::Node(node); 9]);
        }
        numa::set_policy(&MemoryPolicy::Preferred(nodes[0])).expect("a node with memory");
        assert_eq!(numa::policy(), Ok(Some(MemoryPolicy::Preferred(nodes[0]))));
        numa::set_policy(&MemoryPolicy::Local).expect("always");
    })
    .join()
    .expect("it did not panic");
}

#[test]
fn pages_that_migrate_keep_what_they_hold() {
    let _turn = TURN.lock();
    let Some(nodes) = several("migration") else { return };
    let mut pages = Pages::new(300 * page_size());
    pages.fill(7);
    for &node in nodes.iter().chain(&nodes) {
        assert_eq!(numa::migrate(pages.range, node), Ok(300));
        assert_eq!(pages.places(), [Place::Node(node); 300]);
        assert!(pages.holds(7));
    }
}

#[test]
fn what_is_not_there_is_refused_with_a_reason() {
    let _turn = TURN.lock();
    let pages = Pages::new(4 * page_size());
    let start = pages.range.cast::<u8>();
    let odd = NonNull::slice_from_raw_parts(start, 100);
    assert_eq!(numa::bind(odd, &MemoryPolicy::Local), Err(NumaUnavailable::Range));
    assert_eq!(numa::migrate(odd, 0), Err(NumaUnavailable::Range));
    assert_eq!(numa::collapse(odd), Err(NumaUnavailable::Range));
    let nothing = MemoryPolicy::Bind(core::iter::empty().collect());
    assert_eq!(numa::bind(pages.range, &nothing), Err(NumaUnavailable::Node));
    assert_eq!(numa::has_room(5000, 1), Err(NumaUnavailable::Node));
    if asks("nodes that are not there") {
        assert_eq!(numa::bind(pages.range, &MemoryPolicy::Preferred(1000)), Err(NumaUnavailable::Node));
        assert_eq!(
            numa::set_policy(&MemoryPolicy::Interleave([1001].into_iter().collect())),
            Err(NumaUnavailable::Node)
        );
        assert_eq!(numa::migrate(pages.range, 1000), Err(NumaUnavailable::Node));
        assert_eq!(numa::migrate(pages.range, usize::MAX), Err(NumaUnavailable::Node));
    }
    // SAFETY: writable, of nobody else, and empty.
    assert_eq!(unsafe { numa::populate_on(pages.range, 1000) }, Err(NumaUnavailable::Node));
    for why in [NumaUnavailable::Kernel, NumaUnavailable::Node, NumaUnavailable::NodeFull { node: 3 }] {
        assert!(why.to_string().len() > 40, "with a remedy: {why}");
    }
}

/// One range after the other on a node, until it is refused.
fn fill_node(node: usize) -> Vec<Pages> {
    let mut all = Vec::new();
    loop {
        let pages = Pages::new(HUGE);
        // SAFETY: writable, of nobody else, and empty.
        match unsafe { numa::populate_on(pages.range, node) } {
            Ok(()) => all.push(pages),
            Err(why) => {
                assert_eq!(why, NumaUnavailable::NodeFull { node });
                assert!(pages.places().iter().all(|&place| place == Place::Nowhere), "it was given back");
                return all;
            }
        }
        assert_eq!(all[all.len() - 1].places(), [Place::Node(node); HUGE / 4096]);
    }
}

#[test]
fn a_full_node_is_an_error_and_no_signal_and_so_is_a_full_machine() {
    let _turn = TURN.lock();
    let Some(nodes) = several("full nodes") else { return };
    let topology = topology().expect("it has several nodes");
    if topology.nodes().iter().any(|node| node.bytes > 1 << 30) {
        eprintln!("skipped full nodes: this machine is too large to be filled by a test");
        return;
    }
    let mut full: Vec<(usize, Vec<Pages>)> = nodes.iter().rev().map(|&node| (node, fill_node(node))).collect();
    for (node, pages) in &mut full {
        let bytes = topology.nodes()[topology.index_of(*node).unwrap()].free_bytes as usize;
        eprintln!("node {node}: {} of {} MiB", pages.len() * 2, bytes >> 20);
        assert!(pages.len() * HUGE * 2 > bytes, "most of node {node} could be had");
        let on_node = PageOptions::new().on_node(*node).build();
        for round in 0.. {
            let room = numa::has_room(*node, HUGE);
            let block = on_node.alloc(NonZeroUsize::new(HUGE).unwrap(), Alignment::ONE);
            if room == Err(NumaUnavailable::NodeFull { node: *node }) && block.is_err() {
                break;
            }
            // The kernel gets some of its own pages back when memory is short, and a node has room again.
            assert!(round < 100, "node {node} is full: {room:?}, a block of it: {block:?}");
            if let Ok(start) = block {
                // SAFETY: live, and not used again.
                unsafe { on_node.free(NonNull::slice_from_raw_parts(start, HUGE), Alignment::ONE) };
            }
            pages.extend(fill_node(*node));
        }
    }
    drop(full);
    assert!(nodes.iter().all(|&node| numa::has_room(node, HUGE).is_ok()), "it came back");
}

#[test]
fn blocks_of_a_node_lie_there() {
    let _turn = TURN.lock();
    let Some(nodes) = several("blocks of nodes") else { return };
    for node in nodes {
        let pages = PageOptions::new().on_node(node).build();
        let start = pages.alloc(NonZeroUsize::new(5 * page_size()).unwrap(), Alignment::ONE).expect("room");
        let block = NonNull::slice_from_raw_parts(start, 5 * page_size());
        let mut places = Vec::new();
        numa::places(block, |place| places.push(place)).expect("the kernel says it");
        assert_eq!(places, [Place::Node(node); 5]);
        // SAFETY: live; it stays so when it is refused.
        assert!(!unsafe { pages.resize(block, Alignment::ONE, NonZeroUsize::new(9 * page_size()).unwrap()) });
        // SAFETY: live, and not used again.
        unsafe { pages.free(block, Alignment::ONE) };
    }
}

#[test]
fn small_pages_are_joined_to_huge_ones_or_the_reason_is_told() {
    let _turn = TURN.lock();
    let mut pages = Pages::new(2 * HUGE);
    pages.fill(7);
    let address = pages.range.cast::<u8>().addr().get();
    assert_eq!(smaps(address, "AnonHugePages"), Some(0));
    if let Some(seen) = seen_or_said(pages.range) {
        assert!(seen.iter().all(|page| page.is_some_and(|page| !page.is_transparent())));
    }
    // SAFETY: pages of its own; the advice changes no contents, it takes back what `Pages::new` has said.
    let _ = unsafe { libc::madvise(pages.range.cast::<u8>().as_ptr().cast(), 2 * HUGE, libc::MADV_HUGEPAGE) };
    match numa::collapse(pages.range) {
        Ok(()) => {
            assert_eq!(smaps(address, "AnonHugePages"), Some(4096));
            if let Some(seen) = seen_or_said(pages.range) {
                assert!(are_whole(&seen), "side by side");
                assert!(seen.iter().flatten().all(|page| page.is_transparent()));
                eprintln!("{} frames of two huge pages, by the kernel's flags", seen.len());
            }
        }
        Err(why) => {
            assert!(matches!(why, NumaUnavailable::Kernel | NumaUnavailable::Memory), "{why:?}");
            eprintln!("skipped huge pages: {why}");
        }
    }
    assert!(pages.holds(7), "contents stay");
}

#[test]
fn huge_pages_of_a_node_lie_there_and_when_it_has_none_left_that_is_an_error() {
    let _turn = TURN.lock();
    let huge = Alignment::new(HUGE).unwrap();
    let Some(nodes) = several("huge pages of nodes") else { return };
    if let Err(why) = PageOptions::new().explicit_huge_pages(huge).check() {
        eprintln!("skipped huge pages of nodes: {why}");
        return;
    }
    let free = |node: usize| {
        let path = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages");
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(0)
    };
    for &node in &nodes {
        let (pages, before) = (PageOptions::new().explicit_huge_pages(huge).on_node(node).build(), free(node));
        let blocks: Vec<NonNull<[u8]>> = core::iter::from_fn(|| {
            let block = pages.alloc(NonZeroUsize::new(HUGE).unwrap(), Alignment::ONE).ok()?;
            Some(NonNull::slice_from_raw_parts(block, HUGE))
        })
        .collect();
        eprintln!("node {node}: {} of {before} huge pages", blocks.len());
        assert_eq!((blocks.len(), free(node)), (before, 0), "all of node {node}, and no more");
        assert!(matches!(pages.options().check(), Err(Unavailable::Node { .. } | Unavailable::HugePages { .. })));
        for block in blocks {
            let address = block.cast::<u8>().addr().get();
            assert_eq!(smaps(address, "KernelPageSize"), Some(2048));
            let mut here = true;
            numa::places(block, |place| here &= place == Place::Node(node)).expect("the kernel says it");
            assert!(here, "on node {node}");
            if let Some(seen) = seen_or_said(block) {
                assert!(are_whole(&seen) && seen.iter().flatten().all(|page| page.is_reserved()));
            }
            // SAFETY: live, and not used again.
            unsafe { pages.free(block, Alignment::ONE) };
        }
        assert_eq!(free(node), before);
    }
}
