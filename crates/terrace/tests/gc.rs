//! The heap against what it says: reachability against a model, drops counted, pressure and refusals through real layers.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use allocator_api2_02::vec::Vec as Bytes;
use proptest::prelude::*;
use terrace::{
    Allocator, FixedBufferAllocator, Pressure, PressureAllocator, Stats, StatsAllocator, SystemAllocator,
    gc::{Due, Heap, Marker, Trace, Tracked},
    memops::{self, Level},
};

/// An object with edges, which says when it ends.
struct Node {
    edges: Vec<Tracked<Node>>,
    ended: Rc<Cell<usize>>,
}

impl Trace for Node {
    fn trace(&self, marker: &mut Marker<'_, Self>) {
        self.edges.iter().for_each(|edge| marker.mark(*edge));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ended.set(self.ended.get() + 1);
    }
}

type Memory = PressureAllocator<StatsAllocator<SystemAllocator>, Due>;

fn memory() -> Memory {
    PressureAllocator::new(StatsAllocator::new(SystemAllocator), Due::new())
}

fn track<T: Trace, A: Allocator, F: Fn(&Pressure)>(heap: &mut Heap<'_, T, A, F>, value: T) -> Tracked<T> {
    heap.track(value).ok().expect("there is memory")
}

#[test]
fn cycles_end_chains_survive_and_weak_references_say_that_it_is_gone() {
    let (memory, ended) = (memory(), Rc::new(Cell::new(0)));
    {
        let mut heap = Heap::new(&memory);
        let node = |edges: &[_]| Node { edges: edges.to_vec(), ended: ended.clone() };
        let leaf = track(&mut heap, node(&[]));
        let root = track(&mut heap, node(&[leaf, leaf]));
        let (left, right) = (track(&mut heap, node(&[])), track(&mut heap, node(&[root])));
        heap.get_mut(left).unwrap().edges.push(right);
        heap.get_mut(right).unwrap().edges.push(left);

        let done = heap.collect([root]);
        assert_eq!((done.survived, done.swept, ended.get()), (2, 2, 2));
        assert!(heap.get(left).is_none() && heap.get_mut(right).is_none(), "weak");
        let done = heap.collect([left, leaf]); // A root that has gone is passed over.
        assert_eq!((done.survived, done.swept), (1, 1));

        let reused = track(&mut heap, node(&[]));
        assert!(heap.get(root).is_none() && heap.get(reused).is_some(), "another object in the same cell");
        let stats = heap.stats();
        assert_eq!((stats.tracked, stats.total_tracked, stats.total_swept, stats.collections), (2, 5, 3, 2));
    }
    assert_eq!(ended.get(), 5, "each value once, those of the end too");
    assert_eq!((memory.stats().current_bytes, memory.live_bytes()), (0, 0), "everything went back");
}

#[test]
fn neither_a_long_chain_nor_a_wide_fan_needs_a_deep_stack_or_memory() {
    const MANY: usize = 100_000;
    let (memory, ended) = (memory(), Rc::new(Cell::new(0)));
    let mut heap = Heap::new(&memory);
    let node = |edges| Node { edges, ended: ended.clone() };
    let mut chain = track(&mut heap, node(Vec::new()));
    for _ in 1..MANY {
        chain = track(&mut heap, node(vec![chain]));
    }
    // More than the marker's stack holds, and each with something behind it.
    let fan = (0..MANY / 2).map(|_| {
        let leaf = track(&mut heap, node(Vec::new()));
        track(&mut heap, node(vec![leaf]))
    });
    let fan = fan.collect();
    let fan = track(&mut heap, node(fan));
    let asked = memory.stats().total_allocations;
    let done = heap.collect([chain, fan]);
    assert_eq!((done.survived, done.swept), (2 * MANY + 1, 0));
    assert_eq!(memory.stats().total_allocations, asked, "a collection asks for nothing");
    assert_eq!(heap.collect([fan]).swept, MANY);
    let bytes = memory.live_bytes();
    let done = heap.collect([]);
    assert_eq!((done.survived, ended.get()), (0, 2 * MANY + 1));
    assert!(done.bytes_before == bytes && done.bytes_after < bytes / 20, "{done:?}: chunks without objects go back");
}

/// What the program does to the heap and to the model.
#[derive(Clone, Debug)]
enum Step {
    Track,
    Link(usize, usize),
    Unlink(usize),
    /// The objects that are roots, by position among those that live.
    Collect(Vec<usize>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Track),
        6 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => any::<usize>().prop_map(Step::Unlink),
        1 => proptest::collection::vec(any::<usize>(), 0..6).prop_map(Step::Collect),
    ];
    proptest::collection::vec(step, 1..400)
}

/// The model's objects that `roots` reach.
fn reached(edges: &[Vec<usize>], roots: &[usize]) -> BTreeSet<usize> {
    let (mut seen, mut waiting) = (BTreeSet::new(), roots.to_vec());
    while let Some(at) = waiting.pop() {
        if seen.insert(at) {
            waiting.extend(&edges[at]);
        }
    }
    seen
}

fn play(steps: &[Step]) {
    let (memory, ended) = (memory(), Rc::new(Cell::new(0)));
    let mut heap = Heap::new(&memory);
    let (mut objects, mut edges, mut live) = (Vec::new(), Vec::<Vec<usize>>::new(), Vec::new());
    for step in steps {
        match step {
            Step::Track => {
                live.push(objects.len());
                objects.push(track(&mut heap, Node { edges: Vec::new(), ended: ended.clone() }));
                edges.push(Vec::new());
            }
            Step::Link(from, to) if !live.is_empty() => {
                let (from, to) = (live[from % live.len()], live[to % live.len()]);
                edges[from].push(to);
                heap.get_mut(objects[from]).unwrap().edges.push(objects[to]);
            }
            Step::Unlink(of) if !live.is_empty() => {
                let of = live[of % live.len()];
                edges[of].clear();
                heap.get_mut(objects[of]).unwrap().edges.clear();
            }
            Step::Collect(roots) if !live.is_empty() => {
                let roots: Vec<_> = roots.iter().map(|root| live[root % live.len()]).collect();
                let wanted = reached(&edges, &roots);
                let done = heap.collect(roots.iter().map(|root| objects[*root]));
                assert_eq!((done.survived, done.swept), (wanted.len(), live.len() - wanted.len()));
                live = wanted.into_iter().collect();
            }
            _ => (),
        }
        assert_eq!(heap.stats().tracked, live.len());
    }
    let there = objects.iter().enumerate().filter(|(_, object)| heap.get(**object).is_some()).map(|(at, _)| at);
    assert!(there.eq(live.iter().copied()));
    assert_eq!(ended.get(), objects.len() - live.len());
}

proptest! {
    #[test]
    fn what_the_roots_reach_survives_and_nothing_else(steps in steps()) {
        play(&steps);
    }
}

#[test]
fn every_level_of_registers_sweeps_the_same() {
    let steps: Vec<_> = (0..3000)
        .map(|n: usize| match n % 7 {
            0..4 => Step::Track,
            4 | 5 => Step::Link(n * 31, n * 17),
            _ if n % 500 == 6 => Step::Collect((0..40).map(|root| root * 13).collect()),
            _ => Step::Unlink(n * 7),
        })
        .collect();
    for level in [Level::Portable, Level::Sse2, Level::Avx2, Level::Avx512, Level::Neon] {
        match memops::force(Some(level)) {
            true => play(&steps),
            false => eprintln!("skipped: this machine has no {level:?}"),
        }
    }
    assert!(memops::force(None));
}

/// An object with bytes in the memory that is watched.
struct Text<'a>(Bytes<u8, &'a Memory>);

impl Trace for Text<'_> {
    fn trace(&self, _: &mut Marker<'_, Self>) {}
}

/// Tracks texts of 1000 bytes, of which every second is kept, until a collection is due.
fn fill<'m>(
    memory: &'m Memory,
    heap: &mut Heap<'m, Text<'m>, StatsAllocator<SystemAllocator>>,
    kept: &mut Vec<Tracked<Text<'m>>>,
) -> usize {
    let mut keep = false;
    while !heap.is_due() {
        let mut bytes = Bytes::new_in(memory);
        bytes.extend_from_slice(&[7; 1000]);
        let object = track(heap, Text(bytes));
        keep = !keep;
        kept.extend(keep.then_some(object));
    }
    memory.live_bytes()
}

#[test]
fn a_collection_is_due_at_a_mebibyte_and_then_at_twice_what_survived() {
    let memory = memory();
    let mut heap = Heap::new(&memory);
    let mut kept = Vec::new();
    let first = fill(&memory, &mut heap, &mut kept);
    assert!(((1 << 20) + 1..(1 << 20) + 70_000).contains(&first), "{first}");
    let done = heap.collect(kept.iter().copied());
    assert!(kept.iter().all(|object| heap.get(*object).is_some_and(|text| text.0[..] == [7; 1000])));
    assert!(!heap.is_due() && done.bytes_before == first && done.bytes_after < first * 2 / 3, "{done:?}");
    assert_eq!(memory.threshold(), (2 * done.bytes_after).max(1 << 20));

    let second = fill(&memory, &mut heap, &mut kept);
    assert!(second > memory.threshold() && second < memory.threshold() + 70_000, "{second}");
    let done = heap.collect(kept.iter().copied());
    assert_eq!(memory.threshold(), 2 * done.bytes_after, "{done:?}");
    assert!(memory.threshold() > 1 << 20);

    heap.collect([]);
    assert_eq!(memory.threshold(), 1 << 20, "never less");
    assert!(kept.iter().all(|object| heap.get(*object).is_none()));
}

#[test]
fn who_wants_to_know_of_pressure_is_told_once_in_each_direction_and_may_allocate() {
    let told = RefCell::new(Vec::new());
    let other = PressureAllocator::new(SystemAllocator, Due::new());
    let hook = Due::telling(|pressure: &Pressure| {
        let mut text = Bytes::<u8, _>::new_in(&other);
        text.extend_from_slice(b"a hook may allocate");
        told.borrow_mut().push(matches!(pressure, Pressure::High { .. }));
    });
    let memory = PressureAllocator::with_threshold(SystemAllocator, 100_000, hook);
    let mut heap = Heap::new(&memory);
    while !heap.is_due() {
        track(&mut heap, Node { edges: Vec::new(), ended: Rc::default() });
    }
    for _ in 0..1000 {
        track(&mut heap, Node { edges: Vec::new(), ended: Rc::default() });
    }
    assert_eq!(*told.borrow(), [true]);
    heap.collect([]);
    assert_eq!(*told.borrow(), [true, false], "what was swept has ended the pressure");
}

#[test]
fn where_there_is_no_memory_the_value_comes_back_and_a_collection_makes_room() {
    let mut buffer = [const { MaybeUninit::uninit() }; 50_000]; // The table and two chunks.
    let memory = PressureAllocator::new(FixedBufferAllocator::new(&mut buffer), Due::new());
    let ended = Rc::new(Cell::new(0));
    let mut heap = Heap::new(&memory);
    let mut tracked = 0;
    let refused = loop {
        match heap.track(Node { edges: Vec::new(), ended: ended.clone() }) {
            Ok(_) => tracked += 1,
            Err(value) => break value,
        }
    };
    assert!(tracked > 0 && tracked % 512 == 0, "{tracked}");
    assert_eq!((heap.stats().tracked, ended.get()), (tracked, 0), "nothing has changed");
    drop(refused);
    assert_eq!(heap.collect([]).swept, tracked);
    assert!(heap.track(Node { edges: Vec::new(), ended: ended.clone() }).is_ok());
}

/// Panics where it is told to, when it ends.
struct Fragile(bool, Rc<Cell<usize>>);

impl Trace for Fragile {
    fn trace(&self, _: &mut Marker<'_, Self>) {}
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        assert!(!self.0, "told to panic");
    }
}

#[test]
fn a_drop_that_panics_leaves_a_heap_that_goes_on() {
    let (memory, ended) = (memory(), Rc::new(Cell::new(0)));
    let mut heap = Heap::new(&memory);
    let kept = track(&mut heap, Fragile(false, ended.clone()));
    for n in 0..10 {
        track(&mut heap, Fragile(n == 4, ended.clone()));
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| heap.collect([kept])));
    assert!(panicked.is_err() && ended.get() == 10, "{}: the others, too", ended.get());
    assert!(heap.get(kept).is_some());
    assert_eq!(heap.stats().tracked, 1);
    let next = track(&mut heap, Fragile(false, ended.clone()));
    let done = heap.collect([kept]);
    assert_eq!((done.survived, done.swept, ended.get()), (1, 1, 11), "no value ends twice");
    assert!(heap.get(next).is_none());
}

#[test]
fn a_drop_that_panics_at_the_end_leaves_no_memory_behind() {
    let (memory, ended) = (memory(), Rc::new(Cell::new(0)));
    let mut heap = Heap::new(&memory);
    for n in 0..10 {
        track(&mut heap, Fragile(n == 4, ended.clone()));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(heap))).is_err());
    assert_eq!((ended.get(), memory.live_bytes()), (10, 0), "every value, and every byte");
}
