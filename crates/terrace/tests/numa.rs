//! `NumaRegion` and `presets::numa` on this machine: where blocks lie, what a full node does, what threads of each node get.
//!
//! On a machine of one node what needs two says that it was skipped; `.ci/run numa` runs these on machines of two to four.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{collections::BTreeSet, env, sync::Mutex, thread};

use terrace::{
    Alignment, AllocError, Allocator, AllocatorExt, NumaRegion, Owns,
    frame::{
        FrameError,
        numa::{NodeCounts, NodeSet, NodeWeights, NumaPolicy},
    },
    numa::{self, Place, Topology},
    page_size, presets,
};

const STEP: usize = 2 << 20;
const MIB: usize = 1 << 20;

/// Memory is the machine's: one test at a time, so that one's full node is not another's.
static TURN: Mutex<()> = Mutex::new(());

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

/// A region with so many MiB of each node, where the machine places pages on two nodes at least.
fn several(test: &str, limit: usize) -> Option<NumaRegion> {
    let region = NumaRegion::with_limit(bytes(limit)).expect("addresses");
    if region.nodes() > 1 {
        return Some(region);
    }
    assert!(env::var_os("TERRACE_NUMA_TOPOLOGY").is_none(), "{:?}", region.unplaced());
    eprintln!("skipped {test}: one node only ({:?})", region.unplaced());
    None
}

/// Blocks in the hands of several threads.
struct Shared<T>(T);

// SAFETY: blocks go from one thread to another through a lock, and each has one owner.
unsafe impl<T> Sync for Shared<T> {}

/// The nodes with memory.
fn with_memory() -> Vec<usize> {
    let topology = Topology::read().expect("there are several nodes");
    (0..topology.nodes().len()).filter(|&node| topology.nodes()[node].bytes > 0).collect()
}

fn block(region: &impl Allocator, len: usize) -> Result<NonNull<[u8]>, AllocError> {
    region.alloc(bytes(len), Alignment::ONE).map(|start| NonNull::slice_from_raw_parts(start, len))
}

fn free(region: &impl Allocator, blocks: impl IntoIterator<Item = NonNull<[u8]>>) {
    for block in blocks {
        // SAFETY: every caller made it by `block`, of the same region, and uses it no more.
        unsafe { region.free(block, Alignment::ONE) };
    }
}

fn fill(block: NonNull<[u8]>, byte: u8) {
    // SAFETY: every caller's block is live, and nobody else uses it.
    unsafe { block.cast::<u8>().write_bytes(byte, block.len()) };
}

/// Pages around a block on the node with the kernel's number, and on others.
fn pages_on(block: NonNull<[u8]>, number: usize) -> (usize, usize) {
    let page = page_size();
    let start = block.cast::<u8>().map_addr(|at| at.get().next_multiple_of(page).try_into().unwrap());
    let lost = start.addr().get() - block.cast::<u8>().addr().get();
    let whole = NonNull::slice_from_raw_parts(start, block.len().saturating_sub(lost) / page * page);
    let (mut here, mut elsewhere) = (0, 0);
    numa::places(whole, |place| *if place == Place::Node(number) { &mut here } else { &mut elsewhere } += 1).unwrap();
    (here, elsewhere)
}

#[test]
fn it_keeps_the_contract_whatever_machine_this_is() {
    let _turn = TURN.lock();
    let region = NumaRegion::with_limit(bytes(256 * MIB)).expect("addresses");
    terrace_testkit::conformance::all(|_start, check| check(&region));
    let numa = presets::Numa::over(region).expect("memory");
    terrace_testkit::conformance::all(|_start, check| check(&numa));
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let _turn = TURN.lock();
    let region = NumaRegion::with_limit(bytes(4 * MIB)).expect("addresses");
    for len in [1 << 40, isize::MAX as usize, usize::MAX] {
        assert!(block(&region, len).is_err(), "{len}");
    }
    assert_eq!(region.on(99, NumaPolicy::Local).map(|_| ()), Err(FrameError::NumaNodeUnavailable));
    assert_eq!(region.on(0, NumaPolicy::Preferred(99)).map(|_| ()), Err(FrameError::NumaNodeUnavailable));
    let blocks: Vec<_> = core::iter::from_fn(|| block(&region, MIB).ok()).collect();
    assert_eq!(blocks.len(), 4 * with_memory_or_one(), "all that the limit leaves, and no more");
    free(&region, blocks);
    let whole = block(&region, 4 * MIB).expect("it is one again");
    free(&region, [whole]);
}

fn with_memory_or_one() -> usize {
    let nodes = NumaRegion::with_limit(bytes(1)).expect("addresses").nodes();
    if nodes > 1 { with_memory().len() } else { 1 }
}

#[test]
fn blocks_outlive_the_handle_they_were_got_by_and_any_handle_frees_them() {
    let _turn = TURN.lock();
    let region = NumaRegion::with_limit(bytes(64 * MIB)).expect("addresses");
    let handle = region.on(0, NumaPolicy::Local).expect("there is a node 0");
    let held = block(&handle, 3 * STEP).expect("memory");
    assert_eq!((region.holder_of(held.cast()), region.owns(held.cast())), (Some(0), true));
    drop(handle);
    fill(held, 7);
    free(&region, [held]);
    assert!(region.filled_bytes(region.node_of(held.cast()).expect("its own")) >= 3 * STEP);
}

#[test]
fn what_is_idle_goes_back_by_trim_and_comes_again() {
    let _turn = TURN.lock();
    let region = NumaRegion::with_limit(bytes(32 * MIB)).expect("addresses");
    let node = region.node();
    let held: Vec<_> = (0..5).map(|_| block(&region, 2 * STEP).expect("memory")).collect();
    let place = |block: NonNull<[u8]>| {
        let mut first = Place::Unknown;
        let page = NonNull::slice_from_raw_parts(block.cast::<u8>(), page_size());
        numa::places(page, |place| first = place).map(|()| first)
    };
    free(&region, [held[1], held[3]]);
    assert_eq!(region.filled_bytes(node), 10 * STEP);
    region.trim();
    assert_eq!(region.filled_bytes(node), 6 * STEP);
    if region.unplaced().is_none() {
        assert_eq!((place(held[1]), place(held[3])), (Ok(Place::Nowhere), Ok(Place::Nowhere)));
        assert!(matches!(place(held[2]), Ok(Place::Node(_))));
    }
    // Two steps fit into a hole, three do not.
    let long = block(&region, 3 * STEP).expect("memory");
    let again = block(&region, 2 * STEP).expect("memory");
    assert_eq!(again.cast::<u8>(), held[1].cast::<u8>());
    fill(again, 7);
    fill(long, 7);
    free(&region, [held[0], again, held[2], held[4], long]);
    region.trim();
    assert_eq!(region.filled_bytes(node), 0);
    let numa = presets::Numa::over(region).expect("memory");
    let held: Vec<_> = (1..200).map(|step| block(&numa, step * 100).expect("memory")).collect();
    free(&numa, held);
    assert!(numa.region().filled_bytes(node) > 0);
    numa.trim();
    assert!(block(&numa, 3 * STEP).is_ok_and(|again| {
        free(&numa, [again]);
        true
    }));
}

#[test]
fn many_threads_free_one_anothers_blocks() {
    let _turn = TURN.lock();
    let region = NumaRegion::with_limit(bytes(256 * MIB)).expect("addresses");
    let numa = presets::Numa::over(region).expect("memory");
    let shelf: Vec<Mutex<Vec<NonNull<[u8]>>>> = (0..4).map(|_| Mutex::new(Vec::new())).collect();
    let shared = Shared((&numa, &shelf));
    // In an emulated machine every step takes long.
    let steps = if env::var_os("TERRACE_NUMA_TOPOLOGY").is_some() { 200 } else { 4000 };
    thread::scope(|scope| {
        for me in 0..4u8 {
            let shared = &shared;
            scope.spawn(move || {
                let Shared((numa, shelf)) = *shared;
                for step in 0..steps {
                    let len = [24, 300, 5000, 70_000, 1_500_000][step % 5usize];
                    let made = block(numa, len).expect("memory");
                    fill(made, me);
                    let mut theirs = shelf[step % 4].lock().unwrap();
                    theirs.push(made);
                    if theirs.len() > 8 {
                        let taken = theirs.swap_remove(step % 8);
                        // SAFETY: live, filled by whoever made it, and of this thread alone now.
                        let contents = unsafe { taken.as_ref() };
                        assert!(contents.iter().step_by(509).all(|&byte| byte == contents[0]));
                        free(numa, [taken]);
                    }
                }
            });
        }
    });
    for rest in shelf {
        free(&numa, rest.into_inner().unwrap());
    }
}

#[test]
fn blocks_lie_where_the_policy_of_the_handle_says() {
    let _turn = TURN.lock();
    let Some(region) = several("policies", 48 * MIB) else { return };
    let nodes = with_memory();
    for &node in &nodes {
        let number = region.number_of(node).unwrap();
        for policy in [NumaPolicy::Local, NumaPolicy::Preferred(node), NumaPolicy::Bind(NodeSet::one(node))] {
            let from = if policy == NumaPolicy::Local { node } else { 0 };
            let handle = region.on(from, policy).expect("a node with memory");
            let held: Vec<_> = (1..40).map(|pages| block(&handle, pages * 4096).expect("memory")).collect();
            for &block in &held {
                assert_eq!(region.node_of(block.cast()), Some(node));
                assert_eq!(pages_on(block, number).1, 0, "{policy:?}");
            }
            free(&region, held);
        }
    }
}

/// How many of these blocks lie wholly on each of the nodes, by their places; all of them do on one.
fn shares(region: &NumaRegion, held: &[NonNull<[u8]>]) -> Vec<usize> {
    let mut shares = vec![0; region.nodes()];
    for &block in held {
        let node = region.node_of(block.cast()).expect("the region's own");
        assert_eq!(pages_on(block, region.number_of(node).unwrap()).1, 0, "all of it on node {node}");
        shares[node] += 1;
    }
    shares
}

#[test]
fn interleaved_blocks_lie_on_each_node_alike_to_one() {
    let _turn = TURN.lock();
    let Some(region) = several("interleaving", 48 * MIB) else { return };
    let nodes = with_memory();
    for len in [4096, 5 * 4096, STEP] {
        let spread = region.on(0, NumaPolicy::Interleave(nodes.iter().copied().collect())).expect("with memory");
        let count = if len == STEP { 2 * nodes.len() + 1 } else { 20 * nodes.len() + 1 };
        let held: Vec<_> = (0..count).map(|_| block(&spread, len).expect("memory")).collect();
        let shares = shares(&region, &held);
        eprintln!("interleaved, {len} bytes each: {shares:?}");
        for &node in &nodes {
            let least = count / nodes.len();
            assert!((least..=least + 1).contains(&shares[node]), "{shares:?} of {count}");
        }
        free(&region, held);
    }
}

#[test]
fn weighted_blocks_lie_on_each_node_in_proportion_to_its_weight() {
    let _turn = TURN.lock();
    let Some(region) = several("weights", 48 * MIB) else { return };
    let nodes = with_memory();
    let last = *nodes.last().unwrap();
    let (mut rising, mut far, mut without_first) = ([0; 64], [0; 64], [0; 64]);
    nodes.iter().zip(1..).for_each(|(&node, weight)| rising[node] = weight);
    (far[nodes[0]], far[last]) = (7, 3);
    nodes[1..].iter().for_each(|&node| without_first[node] = 2);
    for weights in [rising, far, without_first] {
        let round: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
        for (len, rounds) in [(4096, 12), (3 * 4096, 5), (STEP / 4, 2)] {
            let policy = NumaPolicy::WeightedInterleave(NodeWeights::new(&weights));
            let spread = region.on(last, policy).expect("with memory");
            let before: Vec<_> = (0..region.nodes()).map(|to| region.counts(last, to).hits).collect();
            let held: Vec<_> = (0..rounds * round).map(|_| block(&spread, len).expect("memory")).collect();
            let shares = shares(&region, &held);
            eprintln!("weights {:?}, {len} bytes each: {shares:?}", &weights[..region.nodes()]);
            for node in 0..region.nodes() {
                let due = rounds * usize::from(weights[node]);
                assert_eq!(shares[node], due, "node {node}, {rounds} rounds of {:?}", &weights[..region.nodes()]);
                assert_eq!(region.counts(last, node).hits - before[node], due as u64, "and that is counted");
            }
            free(&region, held);
        }
    }
}

#[test]
fn the_notes_of_a_node_lie_in_it() {
    let _turn = TURN.lock();
    let Some(region) = several("notes", 16 * MIB) else { return };
    for node in with_memory() {
        let first = block(&region.on(node, NumaPolicy::Bind(NodeSet::one(node))).unwrap(), STEP).expect("memory");
        // The first frames of a node stand right behind its notes.
        let end = first.cast::<u8>().addr().get();
        let notes = first.cast::<u8>().map_addr(|_| NonZeroUsize::new(end - STEP).unwrap());
        let on = pages_on(NonNull::slice_from_raw_parts(notes, STEP), region.number_of(node).unwrap());
        assert_eq!(on, (STEP / page_size(), 0), "node {node}");
        assert_eq!(region.node_of(notes), None, "and they are no frames");
        free(&region, [first]);
    }
}

#[test]
fn blocks_that_migrate_keep_what_they_hold() {
    let _turn = TURN.lock();
    let Some(region) = several("migration", 16 * MIB) else { return };
    let held = block(&region, STEP).expect("memory");
    fill(held, 7);
    for node in with_memory() {
        let number = region.number_of(node).unwrap();
        assert_eq!(numa::migrate(held, number), Ok(STEP / page_size()));
        assert_eq!(pages_on(held, number), (STEP / page_size(), 0));
    }
    // SAFETY: live, and nobody writes to it.
    assert!(unsafe { held.as_ref() }.iter().all(|&byte| byte == 7));
    free(&region, [held]);
}

/// Blocks until a refusal, each filled.
fn exhaust(region: &NumaRegion) -> Vec<NonNull<[u8]>> {
    core::iter::from_fn(|| block(region, STEP).ok().inspect(|&block| fill(block, 1))).collect()
}

#[test]
fn a_full_node_gives_way_to_the_nearest_and_a_full_machine_to_an_error() {
    let _turn = TURN.lock();
    let Some(region) = several("full nodes", usize::MAX) else { return };
    let topology = Topology::read().expect("there are several nodes");
    if topology.nodes().iter().any(|node| node.bytes > 1 << 30) {
        eprintln!("skipped full nodes: this machine is too large to be filled by a test");
        return;
    }
    let last = *with_memory().last().unwrap();
    let bound = region.on(0, NumaPolicy::Bind(NodeSet::one(last))).unwrap();
    let of_last = exhaust(&bound);
    eprintln!("node {last}: {} MiB", of_last.len() * 2);
    assert!(of_last.len() * STEP * 2 > topology.nodes()[last].free_bytes as usize, "most of it");
    assert!(of_last.iter().all(|&block| pages_on(block, topology.nodes()[last].number).1 == 0));

    // Callers of the full node get the nearest, then the others, then nothing.
    let held = exhaust(&region.on(last, NumaPolicy::Local).unwrap());
    let mut served: Vec<usize> = held.iter().map(|block| region.node_of(block.cast()).unwrap()).collect();
    for (block, &node) in held.iter().zip(&served) {
        assert_eq!(pages_on(*block, topology.nodes()[node].number).1, 0, "in node {node}'s memory");
    }
    served.retain(|&node| node != last);
    let count = |node: usize| served.iter().filter(|&&served| served == node).count() as u64;
    for node in (0..region.nodes()).filter(|&node| node != last) {
        eprintln!("node {node}: {} MiB", count(node) * 2);
        assert_eq!(region.counts(last, node), NodeCounts { hits: 0, fallbacks: count(node) });
    }
    // What a node could not give at once, since the kernel held it back for a moment, it may give later.
    let row = topology.row(last);
    for (near, far) in
        served.iter().flat_map(|&near| served.iter().map(move |&far| (near, far))).collect::<BTreeSet<_>>()
    {
        let first = served.iter().position(|&node| node == far).unwrap_or(served.len());
        let before = served[..first].iter().filter(|&&node| node == near).count() as u64;
        let in_order = row[near] >= row[far] || before * 10 >= count(near) * 8;
        assert!(in_order, "{before} of {} blocks of node {near} came before node {far}: {row:?}", count(near));
    }
    let late: Vec<_> = (0..100).map_while(|_| block(&region, STEP).ok()).collect();
    assert!(late.len() < 100, "all is full, but for what the kernel gave later, and this process is alive");
    free(&region, of_last.into_iter().chain(held).chain(late));
    assert!(block(&bound, STEP).is_ok_and(|again| {
        free(&region, [again]);
        true
    }));
}

#[test]
fn a_full_node_is_passed_over_by_every_policy_but_the_one_that_binds() {
    let _turn = TURN.lock();
    let Some(region) = several("policies at a full node", usize::MAX) else { return };
    let topology = Topology::read().expect("there are several nodes");
    if topology.nodes().iter().any(|node| node.bytes > 1 << 30) {
        eprintln!("skipped policies at a full node: this machine is too large to be filled by a test");
        return;
    }
    let nodes = with_memory();
    let full = *nodes.last().unwrap();
    let row = topology.row(full);
    let others = || nodes.iter().copied().filter(|&node| node != full);
    let nearest = others().map(|node| row[node]).min();
    let bound = region.on(0, NumaPolicy::Bind(NodeSet::one(full))).unwrap();
    let mut held = exhaust(&bound);
    assert!(!held.is_empty(), "node {full} had memory");
    let mut weights = [1; 64];
    weights[full] = 200;
    for policy in [
        NumaPolicy::Local,
        NumaPolicy::Preferred(full),
        NumaPolicy::Interleave(NodeSet::one(full)),
        NumaPolicy::WeightedInterleave(NodeWeights::new(&weights[..region.nodes()])),
        NumaPolicy::Bind(NodeSet::one(full)),
    ] {
        // A full node may have room again, when the kernel has got some of its own pages back.
        held.extend(exhaust(&bound));
        let handle = region.on(full, policy).expect("a node with memory");
        let before: Vec<_> = (0..region.nodes()).map(|to| region.counts(full, to)).collect();
        let got: Vec<_> = (0..6).map_while(|_| block(&handle, STEP).ok()).collect();
        let shares = shares(&region, &got);
        eprintln!("node {full} full, {}: {shares:?}", name(&policy));
        let fallbacks = |to: usize| region.counts(full, to).fallbacks - before[to].fallbacks;
        if matches!(policy, NumaPolicy::Bind(_)) {
            assert!(got.len() < 6 && others().all(|node| shares[node] == 0), "nowhere else: {shares:?}");
        } else {
            assert_eq!(got.len(), 6, "others have room: {policy:?}");
            let near: u64 = others().filter(|&node| Some(row[node]) == nearest).map(fallbacks).sum();
            let far: u64 = others().filter(|&node| Some(row[node]) > nearest).map(fallbacks).sum();
            assert!(near > 0 && far == 0, "the nearest serves: {near}, {far} by others");
        }
        free(&region, got);
    }
    free(&region, held);
}

/// Without its set or its weights.
fn name(policy: &NumaPolicy) -> String {
    format!("{policy:?}").split('(').next().unwrap_or_default().into()
}

fn run_on(processor: usize) {
    // SAFETY: zeroes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
    // SAFETY: the set has room for more processors than a test's machine has.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is read only.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) }, 0);
}

/// Has `act` run on a processor of each node that has some, with the node's place.
fn on_each_node(act: impl Fn(usize) + Sync) {
    let topology = Topology::read().expect("there are several nodes");
    for (index, node) in topology.nodes().iter().enumerate().filter(|(_, node)| !node.processors.is_empty()) {
        let (act, processor) = (&act, node.processors[0]);
        thread::scope(|scope| {
            scope.spawn(move || {
                run_on(processor);
                act(index);
            });
        });
    }
}

#[test]
fn threads_of_each_node_get_its_memory_and_all_of_it_comes_back() {
    let _turn = TURN.lock();
    let Some(region) = several("threads", usize::MAX) else { return };
    let numa = presets::Numa::over(region).expect("memory");
    // A quarter of the smallest node's free memory, at 25 KiB a block, or 75 MiB.
    let topology = Topology::read().expect("there are several nodes");
    let least = topology.nodes().iter().filter(|node| node.bytes > 0).map(|node| node.free_bytes as usize).min();
    let blocks = (least.expect("a node with memory") / 4 / 25_000).min(3000);
    on_each_node(|node| {
        let number = numa.region().number_of(node).unwrap();
        let (mut here, mut elsewhere) = (0, 0);
        let held: Vec<_> =
            (0..blocks).map(|step| block(&numa, [40, 900, 9000, 200_000][step % 4] / 2).expect("memory")).collect();
        for &block in &held {
            fill(block, 1);
            let on = pages_on(block, number);
            (here, elsewhere) = (here + on.0, elsewhere + on.1);
        }
        let counts = |to: usize| numa.counts(node, to);
        let own = counts(node).hits;
        let other: u64 = (0..numa.region().nodes()).map(|to| counts(to).hits + counts(to).fallbacks).sum::<u64>() - own;
        eprintln!("node {node}: {here} of {} pages, {own} of {} runs local", here + elsewhere, own + other);
        assert!(here >= 99 * elsewhere && here > blocks && own >= 99 * other, "99 % local");
        assert!(held.iter().all(|block| numa.region().holder_of(block.cast()) == Some(node)));
        free(&numa, held);
    });
    // What a thread of one node made, a thread of another frees, and the first gets it again.
    let made = Shared(Mutex::new(Vec::new()));
    on_each_node(|_| {
        let made = &made;
        let mut made = made.0.lock().unwrap();
        free(&numa, made.drain(..));
        made.extend((1..200).map(|step| block(&numa, step * 50).expect("memory")));
    });
    free(&numa, made.0.lock().unwrap().drain(..));
    let words = numa.alloc_slice::<u64>(1000).expect("memory");
    // SAFETY: live, of this allocator, not used again.
    unsafe { numa.free_slice(words) };
}
