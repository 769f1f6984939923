//! The group `pool`: our typed pool, slab, typed-arena and blink-alloc, all over the system's malloc, each in the way
//! that its users write it. Items that end one by one are slab's and ours; the other two end all at once.

use std::{hint::black_box, mem};

use blink_alloc::Blink;
use slab::Slab;
use terrace_core::{GlobalBacking, ResetMode};
use terrace_heap::{Pool, Pooled};
use typed_arena::Arena;

use crate::{
    cells::{Cell, Random},
    counting::{Counting, GLOBAL},
    harness::{Competitor, OURS},
};

type Backing = GlobalBacking<Counting>;

/// What lies in the items.
type Item<const WORDS: usize> = [u64; WORDS];

fn backing() -> Backing {
    GlobalBacking::new(&GLOBAL)
}

/// All that take part in `cell`.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    let count = cell.count;
    match (cell.kind.as_str(), cell.size) {
        ("pair", 64) => vec![ours(move |pool| ours_pair(pool, count)), slab(move |slab| slab_pair(slab, count))],
        ("lifo", 64) => vec![ours_lifo(count), slab_lifo(count)],
        ("replace", 64) => {
            let mut random = Random::new(cell.seed);
            let places: Vec<usize> = (0..count).map(|_| random.below(count)).collect();
            vec![ours_replace(places.clone()), slab_replace(places)]
        }
        ("fill", 64) => fill::<8>(count),
        ("fill", 16) => fill::<2>(count),
        ("fresh", 64) => fresh(count),
        ("list", _) => vec![ours_list(count), slab_list(count)],
        (kind, size) => unreachable!("cells.toml asks for {kind} of {size}, which this group does not do"),
    }
}

fn repeat(name: &'static str, mut work: impl FnMut() + 'static) -> Competitor {
    Competitor { name, run: Box::new(move |repetitions| (0..repetitions).for_each(|_| work())) }
}

fn ours<const WORDS: usize>(work: impl Fn(&mut Pool<Item<WORDS>, Backing>) + 'static) -> Competitor {
    let mut pool = Pool::new(backing());
    repeat(OURS, move || work(&mut pool))
}

fn slab<const WORDS: usize>(work: impl Fn(&mut Slab<Item<WORDS>>) + 'static) -> Competitor {
    let mut slab = Slab::new();
    repeat("slab", move || work(&mut slab))
}

#[inline(never)]
fn ours_pair(pool: &Pool<Item<8>, Backing>, count: usize) {
    for n in 0..count {
        let item = pool.create([n as u64; 8]).expect("memory");
        black_box(&raw const *item);
    }
}

#[inline(never)]
fn slab_pair(slab: &mut Slab<Item<8>>, count: usize) {
    for n in 0..count {
        let key = slab.insert([n as u64; 8]);
        black_box(&raw const slab[key]);
        slab.remove(key);
    }
}

fn ours_lifo(count: usize) -> Competitor {
    let pool: &Pool<Item<8>, Backing> = Box::leak(Box::new(Pool::new(backing())));
    let mut live = Vec::with_capacity(count);
    repeat(OURS, move || ours_up_and_down(pool, &mut live, count))
}

#[inline(never)]
fn ours_up_and_down<'p>(pool: &'p Pool<Item<8>, Backing>, live: &mut Vec<Pooled<'p, Item<8>, Backing>>, count: usize) {
    for n in 0..count {
        live.push(pool.create([n as u64; 8]).expect("memory"));
    }
    while let Some(item) = live.pop() {
        black_box(&raw const *item);
    }
}

fn slab_lifo(count: usize) -> Competitor {
    let mut live = Vec::with_capacity(count);
    let mut slab = Slab::new();
    repeat("slab", move || slab_up_and_down(&mut slab, &mut live, count))
}

#[inline(never)]
fn slab_up_and_down(slab: &mut Slab<Item<8>>, live: &mut Vec<usize>, count: usize) {
    for n in 0..count {
        live.push(slab.insert([n as u64; 8]));
    }
    while let Some(key) = live.pop() {
        black_box(&raw const slab[key]);
        slab.remove(key);
    }
}

fn ours_replace(places: Vec<usize>) -> Competitor {
    let pool: &Pool<Item<8>, Backing> = Box::leak(Box::new(Pool::new(backing())));
    let mut live: Vec<_> = places.iter().map(|_| pool.create([0; 8]).expect("memory")).collect();
    repeat(OURS, move || ours_replaced(pool, &mut live, &places))
}

#[inline(never)]
fn ours_replaced<'p>(pool: &'p Pool<Item<8>, Backing>, live: &mut [Pooled<'p, Item<8>, Backing>], places: &[usize]) {
    for &place in places {
        live[place] = pool.create([place as u64; 8]).expect("memory");
        black_box(&raw const *live[place]);
    }
}

fn slab_replace(places: Vec<usize>) -> Competitor {
    let mut slab = Slab::new();
    let mut live: Vec<_> = places.iter().map(|_| slab.insert([0; 8])).collect();
    repeat("slab", move || slab_replaced(&mut slab, &mut live, &places))
}

#[inline(never)]
fn slab_replaced(slab: &mut Slab<Item<8>>, live: &mut [usize], places: &[usize]) {
    for &place in places {
        let key = slab.insert([place as u64; 8]);
        slab.remove(mem::replace(&mut live[place], key));
        black_box(&raw const slab[key]);
    }
}

fn fill<const WORDS: usize>(count: usize) -> Vec<Competitor> {
    let mut blink = Blink::new();
    vec![
        ours(move |pool| {
            ours_fill::<WORDS>(pool, count);
            pool.reset(ResetMode::RetainCapacity);
        }),
        slab(move |slab| {
            slab_fill::<WORDS>(slab, count);
            slab.clear();
        }),
        // Its items end only with the arena itself.
        repeat("typed-arena", move || typed_fill::<WORDS>(&Arena::with_capacity(count), count)),
        repeat("blink-alloc", move || {
            blink_fill::<WORDS>(&blink, count);
            blink.reset();
        }),
    ]
}

fn fresh(count: usize) -> Vec<Competitor> {
    vec![
        repeat(OURS, move || ours_fill::<8>(&Pool::new(backing()), count)),
        repeat("slab", move || slab_fill::<8>(&mut Slab::new(), count)),
        repeat("typed-arena", move || typed_fill::<8>(&Arena::new(), count)),
        repeat("blink-alloc", move || blink_fill::<8>(&Blink::new(), count)),
    ]
}

#[inline(never)]
fn ours_fill<const WORDS: usize>(pool: &Pool<Item<WORDS>, Backing>, count: usize) {
    for n in 0..count {
        let item = pool.create([n as u64; WORDS]).expect("memory");
        black_box(&raw const *item);
        mem::forget(item); // It has no destructor, and its item ends with the others.
    }
}

#[inline(never)]
fn slab_fill<const WORDS: usize>(slab: &mut Slab<Item<WORDS>>, count: usize) {
    for n in 0..count {
        let key = slab.insert([n as u64; WORDS]);
        black_box(&raw const slab[key]);
    }
}

#[inline(never)]
fn typed_fill<const WORDS: usize>(arena: &Arena<Item<WORDS>>, count: usize) {
    for n in 0..count {
        black_box(&raw const *arena.alloc([n as u64; WORDS]));
    }
}

#[inline(never)]
fn blink_fill<const WORDS: usize>(blink: &Blink, count: usize) {
    for n in 0..count {
        black_box(&raw const *blink.put([n as u64; WORDS]));
    }
}

/// A node of our list owns the next one.
struct Node<'p> {
    value: u64,
    next: Option<Pooled<'p, Node<'p>, Backing>>,
}

fn ours_list(count: usize) -> Competitor {
    let pool: &Pool<Node<'_>, Backing> = Box::leak(Box::new(Pool::new(backing())));
    repeat(OURS, move || ours_push_walk_pop(pool, count))
}

#[inline(never)]
fn ours_push_walk_pop<'p>(pool: &'p Pool<Node<'p>, Backing>, count: usize) {
    let mut head = None;
    for n in 0..count {
        head = Some(pool.create(Node { value: n as u64, next: head }).expect("memory"));
    }
    let mut sum = 0;
    let mut at = &head;
    while let Some(node) = at {
        sum += node.value;
        at = &node.next;
    }
    while let Some(node) = head {
        let Node { value, next } = node.into_inner();
        sum -= value;
        head = next;
    }
    black_box(sum);
}

/// A node of a list in a slab knows the next one's key.
struct Keyed {
    value: u64,
    next: Option<usize>,
}

fn slab_list(count: usize) -> Competitor {
    let mut slab = Slab::new();
    repeat("slab", move || slab_push_walk_pop(&mut slab, count))
}

#[inline(never)]
fn slab_push_walk_pop(slab: &mut Slab<Keyed>, count: usize) {
    let mut head = None;
    for n in 0..count {
        head = Some(slab.insert(Keyed { value: n as u64, next: head }));
    }
    let mut sum = 0;
    let mut at = head;
    while let Some(key) = at {
        sum += slab[key].value;
        at = slab[key].next;
    }
    while let Some(key) = head {
        let Keyed { value, next } = slab.remove(key);
        sum -= value;
        head = next;
    }
    black_box(sum);
}
