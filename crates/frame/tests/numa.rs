//! `NumaAllocator` on simulated machines: every policy and fallback against a model, the judge of all frame allocators,
//! and races.

mod judge;

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicU8, Ordering},
    thread,
};

use judge::{Traits, batches_are_calls_in_a_row, holey, refuses_what_is_bad, run, steps};
use proptest::prelude::*;
use terrace_core::SystemAllocator;
use terrace_frame::{
    BitmapAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, FrameError, Frames, HybridAllocator, MapEntry,
    MemoryMap, MemoryZone, Misuse, Order, Request, ZoneConfig, ZoneError, ZonedAllocator,
    numa::{Distances, NodeCounts, NodeSet, NodeWeights, NumaAllocator, NumaError, NumaNode, NumaPolicy, NumaView},
};
use terrace_sync::{NoSlots, Slots};

const ONE: Traits = Traits { boundaries: false, leaf: 1, exact: true, places: false };
/// Frames of a node in most tests.
const FRAMES: usize = 600;
/// Four nodes in a ring, as numa-vm has them.
const RING: [u8; 16] = [10, 16, 22, 16, 16, 10, 16, 22, 22, 16, 10, 16, 16, 22, 16, 10];
/// Two nodes, and memory without processors far away.
const CXL: [u8; 9] = [10, 21, 40, 21, 10, 40, 40, 40, 10];

type Hybrid = HybridAllocator<'static, NoSlots, SystemAllocator>;
type Numa<'m> = NumaAllocator<'m, Hybrid>;

fn map_at(start: usize, count: usize) -> MemoryMap {
    MemoryMap::of(Frames::new(start, count)).expect("a map")
}

fn hybrid(map: &MemoryMap) -> Hybrid {
    HybridAllocator::new_in(map, NoSlots, &SystemAllocator).expect("memory")
}

fn node(map: &MemoryMap) -> NumaNode<Hybrid> {
    NumaNode::new(map, hybrid(map)).expect("its own map")
}

/// Nodes of so many frames each, 4096 frames apart; 0 frames: no memory.
fn nodes(counts: &[usize]) -> Vec<NumaNode<Hybrid>> {
    let each = counts.iter().enumerate();
    each.map(|(at, &count)| match count {
        0 => NumaNode::without_memory(),
        count => node(&map_at(at << 12, count)),
    })
    .collect()
}

fn counts(nodes: usize) -> Vec<u64> {
    vec![7; NumaAllocator::metadata_bytes(nodes, 0) / 8]
}

/// The nodes of frames handed out one by one, until a refusal.
fn exhaust(view: &NumaView<'_, '_, Hybrid, NoSlots>, numa: &Numa<'_>) -> (Vec<Option<usize>>, FrameError) {
    let mut served = Vec::new();
    loop {
        match view.alloc_order(Order::MIN) {
            Ok(frame) => served.push(numa.node_of(frame)),
            Err(error) => return (served, error),
        }
    }
}

/// What stands side by side, once.
fn dedup<T: PartialEq>(mut all: Vec<T>) -> Vec<T> {
    all.dedup();
    all
}

#[test]
fn a_full_node_falls_to_the_nearest_and_the_last_to_the_pool() {
    let (nodes, pool) = (nodes(&[FRAMES; 4]), node(&map_at(1 << 20, 5)));
    for (from, order) in [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]].into_iter().enumerate() {
        let mut words = counts(4);
        let numa = NumaAllocator::new(&nodes, Distances::new(4, &RING).unwrap(), &mut words).unwrap();
        let numa = numa.with_pool(&pool).unwrap();
        let (served, error) = exhaust(&numa.on(from).unwrap(), &numa);
        assert_eq!(dedup(served), order.map(Some).into_iter().chain([None]).collect::<Vec<_>>());
        assert_eq!(error, FrameError::OutOfMemory);
        let local = NodeCounts { hits: FRAMES as u64, fallbacks: 0 };
        let fallen = NodeCounts { hits: 0, fallbacks: FRAMES as u64 };
        assert_eq!(order.map(|to| numa.counts(from, to)), [local, fallen, fallen, fallen]);
        assert_eq!(numa.pool_counts(from), NodeCounts { hits: 0, fallbacks: 5 });
        for frame in numa.span().start.0..numa.span().end() {
            assert_eq!(numa.free_order(Frame(frame), Order::MIN).is_ok(), numa.manages(Frames::new(frame, 1)));
        }
        assert_eq!(numa.free_frames(), 4 * FRAMES + 5);
    }
}

#[test]
fn a_far_node_of_memory_alone_comes_last_and_a_node_without_memory_never() {
    let machine = nodes(&[FRAMES, FRAMES, FRAMES, 0]);
    let rows = [10, 21, 40, 12, 21, 10, 40, 12, 40, 40, 10, 40, 12, 12, 40, 10];
    let mut words = counts(4);
    let numa = NumaAllocator::new(&machine, Distances::new(4, &rows).unwrap(), &mut words).unwrap();
    let (served, _) = exhaust(&numa.on(3).unwrap(), &numa);
    assert_eq!(dedup(served), [Some(0), Some(1), Some(2)]);
    assert_eq!(numa.counts(3, 0), NodeCounts { hits: 0, fallbacks: FRAMES as u64 });
    assert_eq!(numa.counts(3, 3), NodeCounts::default());
}

#[test]
fn bind_goes_nowhere_else() {
    let (machine, pool) = (nodes(&[FRAMES; 3]), node(&map_at(1 << 20, 5)));
    let mut words = counts(3);
    let numa = NumaAllocator::new(&machine, Distances::new(3, &CXL).unwrap(), &mut words).unwrap();
    let numa = numa.with_pool(&pool).unwrap();
    let view = numa.view(0, NumaPolicy::Bind([1, 2].into_iter().collect())).unwrap();
    let (served, error) = exhaust(&view, &numa);
    assert_eq!(
        (dedup(served.clone()), served.len(), error),
        (vec![Some(1), Some(2)], 2 * FRAMES, FrameError::OutOfMemory)
    );
    assert_eq!(numa.counts(0, 1), NodeCounts { hits: FRAMES as u64, fallbacks: 0 });
    assert_eq!(numa.counts(0, 2), NodeCounts { hits: 0, fallbacks: FRAMES as u64 });
    assert_eq!(numa.free_frames(), FRAMES + 5);
}

#[test]
fn interleave_is_even_to_one_frame_a_node() {
    let machine = nodes(&[FRAMES, FRAMES, 0, FRAMES]);
    let mut words = counts(4);
    let numa = NumaAllocator::new(&machine, Distances::new(4, &RING).unwrap(), &mut words).unwrap();
    let view = numa.view(2, NumaPolicy::Interleave(NodeSet::first(4))).unwrap();
    let mut given = [0usize; 4];
    for _ in 0..3 * FRAMES {
        given[numa.node_of(view.alloc_order(Order::MIN).unwrap()).unwrap()] += 1;
        let with_memory = [given[0], given[1], given[3]];
        assert!(with_memory.iter().max().unwrap() - with_memory.iter().min().unwrap() <= 1, "{given:?}");
    }
    assert_eq!((given, view.alloc_order(Order::MIN)), ([FRAMES, FRAMES, 0, FRAMES], Err(FrameError::OutOfMemory)));
}

#[test]
fn two_that_interleave_do_not_spoil_each_others_turns() {
    let machine = nodes(&[FRAMES; 2]);
    let mut words = counts(2);
    let numa = NumaAllocator::new(&machine, Distances::new(2, &[10, 20, 20, 10]).unwrap(), &mut words).unwrap();
    let views = [0, 1].map(|from| numa.view(from, NumaPolicy::Interleave(NodeSet::first(2))).unwrap());
    for _ in 0..50 {
        views.iter().for_each(|view| assert!(view.alloc_order(Order::MIN).is_ok()));
    }
    for from in [0, 1] {
        assert_eq!([0, 1].map(|to| numa.counts(from, to).hits), [25, 25]);
    }
}

#[test]
fn weights_say_how_many_runs_each_node_gives() {
    let machine = nodes(&[FRAMES; 3]);
    let mut words = counts(3);
    let numa = NumaAllocator::new(&machine, Distances::new(3, &CXL).unwrap(), &mut words).unwrap();
    let view = numa.view(1, NumaPolicy::WeightedInterleave(NodeWeights::new(&[3, 2, 1]))).unwrap();
    let mut runs = [Frame(0); 60];
    assert_eq!(view.alloc_batch(Order::MIN, &mut runs), 60);
    assert_eq!([0, 1, 2].map(|to| numa.counts(1, to).hits), [30, 20, 10]);
    assert_eq!(view.free_batch(Order::MIN, &runs), Ok(()));
    assert_eq!(view.free_batch(Order::MIN, &runs), Err((0, Misuse::AlreadyFree)));
}

#[test]
fn what_is_not_there_is_said_to_be_unavailable() {
    let machine = nodes(&[FRAMES, 0, FRAMES]);
    let rows = [10, 20, 255, 20, 10, 20, 255, 20, 10];
    let mut words = counts(3);
    let numa = NumaAllocator::new(&machine, Distances::new(3, &rows).unwrap(), &mut words).unwrap();
    let none = FrameError::NumaNodeUnavailable;
    assert_eq!(numa.alloc_order_on(3, Order::MIN), Err(none));
    assert_eq!(numa.alloc_on(usize::MAX, &Request::frames(1)), Err(none));
    assert_eq!(numa.alloc_batch_on(3, Order::MIN, &mut [Frame(0)]), 0);
    let policies = [
        NumaPolicy::Preferred(3),
        NumaPolicy::Bind(NodeSet::EMPTY),
        NumaPolicy::Bind(NodeSet::one(1)),
        NumaPolicy::Bind(NodeSet::one(2)), // out of reach from 0
        NumaPolicy::Interleave(NodeSet::first(4)),
        NumaPolicy::WeightedInterleave(NodeWeights::new(&[0, 7])),
    ];
    for policy in policies {
        assert_eq!(numa.view(0, policy).map(|view| view.node()).unwrap_err(), none, "{policy:?}");
    }
    assert!(numa.on(3).is_err() && numa.on(1).is_ok());
    let preferred = numa.view(0, NumaPolicy::Preferred(1)).unwrap();
    assert_eq!(
        preferred.alloc_order(Order::MIN).map(|frame| numa.node_of(frame)),
        Ok(Some(2)),
        "next to 1 in the circle"
    );
    for bad in [Request::frames(0), Request::frames(1).aligned(3)] {
        assert_eq!(numa.alloc_on(1, &bad), Err(bad.checked().unwrap_err()));
        assert_eq!(preferred.alloc(&bad), Err(bad.checked().unwrap_err()));
    }
    assert_eq!(numa.counts(9, 0), NodeCounts::default());
}

#[test]
fn nodes_that_share_a_frame_are_refused() {
    let two = Distances::new(2, &[10, 20, 20, 10]).unwrap();
    let machine = [node(&map_at(0, 100)), node(&map_at(99, 100))];
    let refusal =
        |nodes: &[NumaNode<Hybrid>], words: &mut [u64]| NumaAllocator::new(nodes, two, words).map(|_| ()).unwrap_err();
    assert_eq!(refusal(&machine, &mut counts(2)), NumaError::Overlap(0, 1));
    let machine = nodes(&[FRAMES; 2]);
    assert_eq!(refusal(&machine[..1], &mut counts(2)), NumaError::Nodes);
    assert_eq!(refusal(&machine, &mut [0; 8]), NumaError::Storage);
    let mut words = counts(2);
    let numa = NumaAllocator::new(&machine, two, &mut words).unwrap();
    let pool = node(&map_at(4096 + 10, 1));
    assert_eq!(numa.with_pool(&pool).map(|_| ()).unwrap_err(), NumaError::Overlap(1, 2));
    let other = map_at(50, 10);
    assert_eq!(NumaNode::new(&map_at(50, 11), hybrid(&other)).map(|_| ()).unwrap_err(), NumaError::NotItsMap);
    assert_eq!(NumaNode::new(&map_at(50, 9), hybrid(&other)).map(|_| ()).unwrap_err(), NumaError::NotItsMap);
}

/// The judge's map, cut into nodes that lie between one another.
fn cut() -> [MemoryMap; 3] {
    let part = |ranges: &[(usize, usize)]| {
        let bytes = |(start, end): &(usize, usize)| MapEntry::usable(*start as u64 * 4096, (end - start) as u64 * 4096);
        let inside: Vec<MapEntry> = holey()
            .ranges()
            .iter()
            .flat_map(|range| ranges.iter().map(move |cut| (range.start.0.max(cut.0), range.end().min(cut.1))))
            .filter(|(start, end)| start < end)
            .map(|cut| bytes(&cut))
            .collect();
        MemoryMap::new(&inside).expect("a map")
    };
    [part(&[(0, 40_000), (52_000, 60_000)]), part(&[(40_000, 52_000), (64_100, 70_000)]), part(&[(60_000, 64_100)])]
}

thread_local! {
    static TURN: Cell<usize> = const { Cell::new(0) };
}

/// Callers come from one node after the other, of which the last has no memory.
fn round() -> usize {
    TURN.set((TURN.get() + 1) % 4);
    TURN.get()
}

const FOUR: [u8; 16] = [10, 16, 22, 30, 16, 10, 16, 22, 22, 16, 10, 16, 30, 22, 16, 10];

/// Runs `judge` over the judge's map on four nodes, each with an allocator made by `make`.
fn judged<F: FrameAllocator>(make: impl Fn(&MemoryMap) -> F, judge: impl Fn(&dyn FrameAllocator)) {
    let mut machine: Vec<NumaNode<F>> = cut().iter().map(|map| NumaNode::new(map, make(map)).unwrap()).collect();
    machine.push(NumaNode::without_memory());
    let mut words = counts(4);
    let numa = NumaAllocator::new(&machine, Distances::new(4, &FOUR).unwrap(), &mut words).unwrap();
    let numa = numa.with_current(round);
    judge(&numa);
    judge(&numa.view(1, NumaPolicy::Interleave(NodeSet::first(4))).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn hybrids_of_nodes_do_what_a_set_does(program in steps()) {
        judged(hybrid, |frames| run(frames, &holey(), ONE, &program));
    }

    #[test]
    fn allocators_with_boundaries_do_so_too(program in steps()) {
        let make = |map: &MemoryMap| ClassicBuddyAllocator::new_in(map, &SystemAllocator).expect("memory");
        judged(make, |frames| run(frames, &holey(), Traits { boundaries: true, ..ONE }, &program));
    }
}

#[test]
fn what_is_bad_is_refused_and_batches_are_calls_in_a_row() {
    judged(hybrid, |frames| {
        refuses_what_is_bad(frames, &holey());
        batches_are_calls_in_a_row(frames);
    });
}

#[test]
fn a_run_over_two_nodes_goes_back_as_one_or_not_at_all() {
    let maps = [map_at(0, 1000), map_at(1000, 1000)];
    let machine =
        maps.each_ref().map(|map| NumaNode::new(map, BitmapAllocator::new_in(map, &SystemAllocator).unwrap()).unwrap());
    let mut words = counts(2);
    let numa = NumaAllocator::new(&machine, Distances::new(2, &[10, 20, 20, 10]).unwrap(), &mut words).unwrap();
    let whole = Frames::new(990, 20);
    assert!(numa.manages(whole) && !numa.manages(Frames::new(1990, 20)));
    assert_eq!(numa.alloc(&Request::frames(20).within(whole)), Err(FrameError::OutOfMemory), "N2");
    for part in [Frames::new(990, 10), Frames::new(1000, 10)] {
        assert_eq!(numa.alloc(&Request::frames(10).within(part)), Ok(part));
    }
    assert_eq!(numa.free(Frames::new(990, 21)), Err(Misuse::AlreadyFree));
    assert_eq!(numa.free(Frames::new(1990, 20)), Err(Misuse::Outside));
    assert_eq!((numa.free_frames(), numa.free(whole), numa.free_frames()), (1980, Ok(()), 2000));
    assert_eq!(numa.free(whole), Err(Misuse::AlreadyFree));
}

/// Runs of the pool come back as those of a node, also where runs come back whole only.
#[test]
fn a_run_of_the_pool_comes_back_where_boundaries_are_kept() {
    let classic = |start, count| {
        let map = map_at(start, count);
        NumaNode::new(&map, ClassicBuddyAllocator::new_in(&map, &SystemAllocator).expect("memory"))
            .expect("its own map")
    };
    let (machine, pool) = ([classic(0, 8)], classic(4096, 8));
    let mut counts = counts(1);
    let numa = NumaAllocator::new(&machine, Distances::new(1, &[10]).unwrap(), &mut counts).unwrap();
    let numa = numa.with_pool(&pool).unwrap();
    let order = Order::new(2).expect("up to 20");
    let runs: Vec<Frame> = core::iter::from_fn(|| numa.alloc_order(order).ok()).collect();
    assert_eq!(runs, [0, 4, 4096, 4100].map(Frame));
    assert_eq!(numa.free(Frames::new(4096, 2)), Err(Misuse::NotARun), "half of it");
    assert_eq!(numa.free(Frames::of_order(runs[2], order)), Ok(()));
    assert_eq!(numa.free(Frames::of_order(runs[2], order)), Err(Misuse::AlreadyFree));
    assert_eq!(numa.free_order(runs[3], order), Ok(()));
    assert_eq!(numa.free_frames(), 8);
}

/// A machine of random nodes, distances and a pool, and what is free in each.
#[derive(Clone, Debug)]
struct Machine {
    frames: Vec<usize>,
    rows: Vec<u8>,
    pool: bool,
}

fn machines() -> impl Strategy<Value = Machine> {
    (1usize..=6).prop_flat_map(|nodes| {
        let distance = prop_oneof![4 => 10u8..40, 1 => Just(255)];
        let frames = prop::collection::vec(prop_oneof![1 => Just(0usize), 3 => 1usize..9], nodes);
        (frames, prop::collection::vec(distance, nodes * nodes), any::<bool>()).prop_map(
            move |(frames, mut rows, pool)| {
                (0..nodes).for_each(|node| rows[node * nodes + node] = 10);
                Machine { frames, rows, pool }
            },
        )
    })
}

/// Where a request goes, written down another way: all nodes sorted, then those that are out taken away.
fn order(machine: &Machine, from: usize, policy: &NumaPolicy, turn: usize) -> Vec<usize> {
    let nodes = machine.frames.len();
    let distance = |from: usize, to: usize| machine.rows[from * nodes + to];
    let sorted = |from: usize, among: &dyn Fn(usize) -> bool| {
        let mut all: Vec<usize> = (from..from + nodes).map(|node| node % nodes).collect();
        all.sort_by_key(|&to| distance(from, to)); // stable: of equals the next in the circle
        all.retain(|&to| distance(from, to) != 255 && machine.frames[to] > 0 && among(to));
        all
    };
    let usable = |set: NodeSet| set.iter().filter(|&to| distance(from, to) != 255 && machine.frames[to] > 0);
    let first = match policy {
        NumaPolicy::Local => from,
        NumaPolicy::Preferred(node) => *node,
        NumaPolicy::Bind(set) => return sorted(from, &|to| set.has(to)),
        NumaPolicy::Interleave(set) => usable(*set).nth(turn % usable(*set).count()).unwrap(),
        NumaPolicy::WeightedInterleave(_) => unreachable!("not among the policies below"),
    };
    let mut order = vec![first];
    order.extend(sorted(first, &|to| to != first));
    order.push(nodes);
    order
}

proptest! {
    /// N3, N4, N5: every frame comes from where the model says, until all has been handed out, and is counted so.
    #[test]
    fn every_frame_comes_from_where_the_policy_says(
        machine in machines(), choice in 0usize..4, from in any::<usize>(), bits in any::<u64>(), preferred in any::<usize>()
    ) {
        let count = machine.frames.len();
        let (from, preferred) = (from % count, preferred % count);
        let set = (0..count).filter(|node| bits >> node & 1 == 1).collect();
        let policy = [NumaPolicy::Local, NumaPolicy::Preferred(preferred), NumaPolicy::Bind(set), NumaPolicy::Interleave(set)][choice];
        let (made, pool) = (nodes(&machine.frames), node(&map_at(1 << 20, 3)));
        let mut words = counts(count);
        let numa = NumaAllocator::new(&made, Distances::new(count, &machine.rows).unwrap(), &mut words).unwrap();
        let numa = if machine.pool { numa.with_pool(&pool).unwrap() } else { numa };
        let Ok(view) = numa.view(from, policy) else {
            prop_assert!(set.iter().all(|to| machine.frames[to] == 0 || machine.rows[from * count + to] == 255));
            return Ok(());
        };
        let mut left = machine.frames.clone();
        left.push(if machine.pool { 3 } else { 0 });
        let mut model = vec![NodeCounts::default(); count + 1];
        for turn in 0.. {
            let order = order(&machine, from, &policy, turn);
            let expected = order.iter().position(|&to| left[to] > 0);
            let got = view.alloc_order(Order::MIN).ok().map(|frame| numa.node_of(frame).unwrap_or(count));
            prop_assert_eq!(got, expected.map(|at| order[at]));
            let Some(at) = expected else { break };
            left[order[at]] -= 1;
            let counted = &mut model[order[at]];
            if at == 0 { counted.hits += 1 } else { counted.fallbacks += 1 }
        }
        let counted: Vec<NodeCounts> = (0..count).map(|to| numa.counts(from, to)).chain([numa.pool_counts(from)]).collect();
        prop_assert_eq!(counted, model);
    }
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// Two numbers, and none for the third thread and on.
struct Numbers;

// SAFETY: threads set `NUMBER` to a number of their own, or to 0.
unsafe impl Slots for Numbers {
    fn count(&self) -> usize {
        2
    }

    fn enter(&self) -> usize {
        NUMBER.get()
    }
}

/// Threads of four nodes race for what is not enough for all: no frame is two threads', and no count is lost.
#[test]
fn racing_threads_share_no_frame_and_lose_no_count() {
    const STEPS: usize = 20_000;
    let maps: [MemoryMap; 4] = array::from_fn(|node| map_at(node << 12, 700));
    let machine = maps
        .each_ref()
        .map(|map| NumaNode::new(map, HybridAllocator::new_in(map, Numbers, &SystemAllocator).unwrap()).unwrap());
    let mut words = vec![0; NumaAllocator::metadata_bytes(4, 2) / 8];
    let numa = NumaAllocator::with_slots(&machine, Distances::new(4, &RING).unwrap(), Numbers, &mut words).unwrap();
    let owners: Vec<AtomicU8> = (0..4 << 12).map(|_| AtomicU8::new(0)).collect();
    let race = |me: u8| {
        NUMBER.set(if me < 3 { usize::from(me) } else { 0 });
        let from = usize::from(me) % 4;
        let policy = if me.is_multiple_of(2) { NumaPolicy::Local } else { NumaPolicy::Interleave(NodeSet::first(4)) };
        let view = numa.view(from, policy).unwrap();
        let (mut mine, mut got, mut state) = (Vec::new(), 0u64, u64::from(me) * 0x9E37_79B9 + 1);
        let swap = |start: Frame, order: Order, before, after| {
            (start.0..start.0 + order.frames())
                .for_each(|at| assert_eq!(owners[at].swap(after, Ordering::Relaxed), before));
        };
        for _ in 0..STEPS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let order = Order::new((state >> 8) as u32 % 4).unwrap();
            if state % 5 < 3
                && let Ok(start) = view.alloc_order(order)
            {
                swap(start, order, 0, me);
                mine.push((start, order));
                got += 1;
            } else if !mine.is_empty() {
                let (start, order) = mine.swap_remove((state >> 20) as usize % mine.len());
                swap(start, order, me, 0);
                assert_eq!(numa.free_order(start, order), Ok(()));
            }
        }
        for (start, order) in mine {
            swap(start, order, me, 0);
            assert_eq!(view.free_order(start, order), Ok(()));
        }
        got
    };
    let got: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|me| scope.spawn(move || race(me))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it did not panic")).sum()
    });
    let pairs = (0..4).flat_map(|from| (0..4).map(move |to| (from, to)));
    let counted: u64 = pairs.map(|(from, to)| numa.counts(from, to)).map(|counts| counts.hits + counts.fallbacks).sum();
    assert_eq!((counted, numa.free_frames()), (got, 2800));
}

/// Node 1 lies in a hole of node 0, and the pool behind both.
#[test]
fn a_free_with_a_node_named_finds_whoever_has_the_frame() {
    let entries = [MapEntry::usable(0, 900 << 12), MapEntry::reserved(300 << 12, 300 << 12)];
    let maps = [MemoryMap::new(&entries).expect("a map"), map_at(320, 256)];
    let (all, pool) = (maps.each_ref().map(node), node(&map_at(4096, 64)));
    let distances = Distances::new(2, &[10, 20, 20, 10]).expect("a matrix");
    let mut words = counts(2);
    let numa = NumaAllocator::new(&all, distances, &mut words).unwrap().with_pool(&pool).unwrap();
    let of = |owner: usize| all.get(owner).unwrap_or(&pool).frames().expect("memory");
    for (owner, named) in (0..3).flat_map(|owner| [0, 1, 2, usize::MAX].map(|named| (owner, named))) {
        for order in [Order::MIN, Order::new(3).unwrap()] {
            let free = numa.free_frames();
            let run = of(owner).alloc_order(order).expect("room");
            assert_eq!(numa.free_order_on(named, run, order), Ok(()), "of {owner}, by {named}");
            assert_eq!(numa.free_order_on(named, run, order), Err(Misuse::AlreadyFree));
            let run = of(owner).alloc(&Request::frames(5)).expect("room");
            assert_eq!(numa.free_on(named, run), Ok(()), "of {owner}, by {named}");
            assert_eq!(numa.free_on(named, run), Err(Misuse::AlreadyFree));
            let run = of(owner).alloc_order(order).expect("room");
            assert_eq!((numa.free_order(run, order), numa.free_frames()), (Ok(()), free), "and without a node");
        }
    }
    for named in [0, 1, usize::MAX] {
        for outside in [310, 590, 900, 4095, 4160, usize::MAX] {
            assert_eq!(numa.free_order_on(named, Frame(outside), Order::MIN), Err(Misuse::Outside), "{outside}");
            assert_eq!(numa.free_on(named, Frames::new(outside, 1)), Err(Misuse::Outside), "{outside}");
        }
        assert_eq!(numa.free_order_on(named, Frame(4), Order::new(3).unwrap()), Err(Misuse::NotARun));
    }
    assert_eq!(numa.free_frames(), numa.total_frames());
}

/// A provider that claims to have all numbers there are.
#[derive(Clone)]
struct Endless;

// SAFETY: it gives nobody a number.
unsafe impl Slots for Endless {
    fn count(&self) -> usize {
        usize::MAX
    }

    fn enter(&self) -> usize {
        0
    }
}

#[test]
fn absurd_numbers_ask_for_all_that_a_usize_holds_and_are_refused() {
    for (nodes, slots) in
        [(usize::MAX, usize::MAX), (usize::MAX, 0), (0, usize::MAX), (64, usize::MAX / 64), (usize::MAX / 3, 1)]
    {
        assert_eq!(NumaAllocator::metadata_bytes(nodes, slots), usize::MAX, "{nodes} nodes, {slots} slots");
    }
    assert!(NumaAllocator::metadata_bytes(0, 0) < 1000 && NumaAllocator::metadata_bytes(64, 256) < 1 << 20);
    for slots in [usize::MAX, usize::MAX - 1, usize::MAX / 8, usize::MAX / 64] {
        assert_eq!(HybridAllocator::metadata_bytes(4096, slots), usize::MAX);
        assert_eq!(HybridAllocator::metadata_bytes(usize::MAX, slots), usize::MAX);
        assert_eq!(MemoryZone::metadata_bytes(4096, slots), usize::MAX);
        let config: ZoneConfig<'_, NoSlots> = ZoneConfig::default();
        assert_eq!(ZonedAllocator::metadata_bytes(&map_at(0, 8192), &config, slots), Ok(usize::MAX));
    }
    assert!(HybridAllocator::metadata_bytes(usize::MAX, 0) < usize::MAX / 4, "two bits a frame at most");
    assert!(ClassicBuddyAllocator::metadata_bytes(usize::MAX) == usize::MAX);

    let map = map_at(0, 4096);
    let mut storage = vec![0; 1 << 16];
    assert_eq!(HybridAllocator::with_slots(&map, Endless, &mut storage).map(|_| ()), Err(FrameError::InvalidSize));
    assert_eq!(HybridAllocator::new_in(&map, Endless, &SystemAllocator).map(|_| ()), Err(FrameError::InvalidSize));
    let device = MemoryZone::device_with_slots("screen", Frames::new(0, 4096), Endless, &mut storage);
    assert_eq!(device.map(|_| ()), Err(ZoneError::StorageTooSmall));
    let zones = ZonedAllocator::with_slots(&map, &ZoneConfig::default(), Endless, (), &mut storage);
    assert_eq!(zones.map(|_| ()), Err(ZoneError::StorageTooSmall));
    let nodes = nodes(&[FRAMES, FRAMES]);
    let distances = Distances::new(2, &[10, 20, 20, 10]).expect("a matrix");
    let numa = NumaAllocator::with_slots(&nodes, distances, Endless, &mut storage);
    assert_eq!(numa.map(|_| ()), Err(NumaError::Storage));
    assert!(storage.iter().all(|&word| word == 0), "and nothing was written");
}
