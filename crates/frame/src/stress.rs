//! Threads that race for frames, with an owner noted for each, and yields where a claim can be lost.
//!
//! ```text
//!  owners   [ 0 │ 0 │ 3 │ 3 │ 1 │ … ]   a byte a run of the least order: a swap that finds another is a double allocation
//!  hooks    load ── between(): yield now and then ── compare-exchange ── lost(): counted
//! ```
//!
//! Each thread takes and gives back, one by one and in batches, and drains now and then; so do 1, 2, 4, 8, 16 threads in
//! turn. The long form, which prints how many compare-exchanges were lost to another thread:
//!
//! ```text
//! TERRACE_FRAME_OPS=50000000 cargo test --release -p terrace-frame --lib stress:: -- --nocapture --test-threads 1
//! ```
//!
//! `TERRACE_FRAME_OPS` is how many runs are taken or given back at each order of [`PROMISED`], by all threads together;
//! a tenth of it at the others, and less where a run has more than eight words.

mod stopped;
mod words;

use core::cell::{Cell, RefCell};
use std::{
    env,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    thread, vec,
    vec::Vec,
};

use stopped::{Stop, goes_on_without};
use terrace_core::SystemAllocator;
use terrace_sync::Slots;

use crate::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap,
    Order, PageSize,
    numa::{Distances, NodeSet, NumaAllocator, NumaNode, NumaPolicy},
};

std::thread_local! {
    /// A generator of yields; 0 means that this thread never yields.
    static YIELDS: Cell<u64> = const { Cell::new(0) };
    static LOST: Cell<u64> = const { Cell::new(0) };
    static TOUCHED: Cell<usize> = const { Cell::new(0) };
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static STOP: RefCell<Option<Stop>> = const { RefCell::new(None) };
    /// The same before a word of metadata is read or written, by claims or else.
    static STOP_AT_WORD: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// A number for each two of the racing threads: lanes are hints.
struct Numbers;

// SAFETY: a frame allocator keeps nothing unlocked under a number (H1 rests on atomic steps alone), and nobody else
// sees these.
unsafe impl Slots for Numbers {
    fn count(&self) -> usize {
        8
    }

    fn enter(&self) -> usize {
        NUMBER.get()
    }
}

fn random(state: &Cell<u64>) -> u64 {
    let mut x = state.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    state.set(x);
    x
}

/// Called between the load and the compare-exchange of every step on free bits.
pub(crate) fn yield_sometimes() {
    if let Some(stop) = STOP.take() {
        STOP.set(stop.step());
    }
    YIELDS.with(|state| {
        if state.get() != 0 && random(state).is_multiple_of(16) {
            thread::yield_now();
        }
    });
}

pub(crate) fn count_lost() {
    LOST.set(LOST.get() + 1);
}

/// From now on this thread yields where a claim can be lost; `seed` is not 0.
pub(crate) fn yield_from_now(seed: u8) {
    YIELDS.set(u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
}

pub(crate) fn count_touched() {
    TOUCHED.with(|count| count.set(count.get() + 1));
    if let Some(stop) = STOP_AT_WORD.take() {
        STOP_AT_WORD.set(stop.step());
    }
}

/// The words of metadata that `act` touched on this thread.
pub(crate) fn touched<R>(act: impl FnOnce() -> R) -> (R, usize) {
    let before = TOUCHED.get();
    let result = act();
    (result, TOUCHED.get() - before)
}

/// Who has each run of the least order that the race hands out: so each frame has its owner noted.
struct Owners {
    first: usize,
    unit: usize,
    of: Vec<AtomicU8>,
}

impl Owners {
    fn new(span: Frames, least: Order) -> Self {
        let unit = least.frames();
        Self { first: span.start.0, unit, of: (0..span.count / unit).map(|_| AtomicU8::new(0)).collect() }
    }

    fn change(&self, start: Frame, order: Order, from: u8, to: u8) {
        assert!(start.0.is_multiple_of(order.frames()), "{start:?} is not aligned to {order:?}");
        let first = (start.0 - self.first) / self.unit;
        for (at, owner) in self.of[first..first + order.frames() / self.unit].iter().enumerate() {
            let found = owner.swap(to, Ordering::Relaxed);
            assert_eq!(found, from, "{at} units into {start:?}, which goes from {from} to {to}");
        }
    }
}

/// One thread's part of a race.
struct Racer<'a> {
    frames: &'a dyn FrameAllocator,
    owners: &'a Owners,
    me: u8,
    choice: Cell<u64>,
    mine: Vec<(Frame, Order)>,
    done: u64,
}

impl Racer<'_> {
    fn choose(&self, below: usize) -> usize {
        (random(&self.choice) >> 7) as usize % below
    }

    /// Takes up to so many runs of an order, and says how many there were.
    fn take(&mut self, order: Order, count: usize) -> usize {
        let mut runs = [Frame(0); 16];
        let got = if count == 1 {
            self.frames.alloc_order(order).map_or(0, |run| {
                runs[0] = run;
                1
            })
        } else {
            self.frames.alloc_batch(order, &mut runs[..count])
        };
        for &run in &runs[..got] {
            self.owners.change(run, order, 0, self.me);
            self.mine.push((run, order));
        }
        self.done += got as u64;
        got
    }

    /// Gives a run back that is its own, or a few of the same order.
    fn give(&mut self, count: usize) {
        let order = self.mine[self.choose(self.mine.len())].1;
        let mut runs = Vec::new();
        while runs.len() < count
            && let Some(at) = self.mine.iter().rposition(|run| run.1 == order)
        {
            // The last, or any other.
            let other = self.choose(self.mine.len());
            let at = if self.mine[other].1 == order { other } else { at };
            let (run, _) = self.mine.swap_remove(at);
            self.owners.change(run, order, self.me, 0);
            runs.push(run);
        }
        self.done += runs.len() as u64;
        match runs[..] {
            [run] => assert_eq!(self.frames.free_order(run, order), Ok(()), "it is this thread's"),
            _ => assert_eq!(self.frames.free_batch(order, &runs), Ok(()), "they are this thread's"),
        }
    }

    /// Fills and empties its share in bursts, `steps` runs in and out.
    fn race(mut self, orders: &[Order], steps: u64) -> u64 {
        YIELDS.set(u64::from(self.me).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        NUMBER.set(usize::from(self.me / 2));
        let (mut vain, mut turn) = (0, 0u64);
        while self.done < steps {
            turn += 1;
            if turn.is_multiple_of(997) {
                self.frames.drain();
            }
            let count = if self.choose(8) == 0 { 2 + self.choose(15) } else { 1 };
            if !self.mine.is_empty() && (self.choose(4) == 0 || self.mine.len() > 40) {
                self.give(count);
            } else if self.take(orders[self.choose(orders.len())], count) > 0 {
                vain = 0;
            } else if !self.mine.is_empty() {
                self.give(count);
            } else {
                vain += 1;
                assert!(vain < 1_000_000, "all others have ended or wait, and nothing is free");
                thread::yield_now();
            }
        }
        while !self.mine.is_empty() {
            self.give(1);
        }
        YIELDS.set(0);
        LOST.take()
    }
}

/// The orders of the long form's promise.
const PROMISED: [u32; 9] = [0, 3, 6, 7, 8, 9, 10, 13, 18];

/// How many runs go in and out at an order whose runs are so many words of the allocator's.
fn steps(order: Order, words: usize) -> u64 {
    let all = env::var("TERRACE_FRAME_OPS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let share = if PROMISED.contains(&order.log2()) { 1 } else { 10 };
    all / share / (words as u64).div_ceil(8)
}

/// 64 MiB or eight runs, so that they run out.
fn map_for(order: Order) -> MemoryMap {
    let count = (1usize << 14).max(order.frames() << 3);
    MemoryMap::of(Frames::new(count, count)).expect("a map")
}

/// Races for runs of these orders, by 1 to `most` threads in turn. At the end all of the memory is there, and as one.
fn storm(name: &str, frames: &(dyn FrameAllocator + Sync), orders: &[Order], steps: u64, most: u8) {
    let (least, largest) = (orders[0], orders[orders.len() - 1]);
    let owners = Owners::new(frames.span(), least);
    let all = frames.free_frames();
    let (lost, crowds) = (AtomicU64::new(0), u64::from(most.ilog2() + 1));
    for threads in (0..crowds).map(|log2| 1u8 << log2) {
        thread::scope(|scope| {
            for me in 1..=threads {
                let (owners, lost) = (&owners, &lost);
                let choice = Cell::new(u64::from(me) << 32 | 77);
                scope.spawn(move || {
                    let racer = Racer { frames, owners, me, choice, mine: Vec::new(), done: 0 };
                    lost.fetch_add(racer.race(orders, steps / crowds / u64::from(threads) + 1), Ordering::Relaxed);
                });
            }
        });
        frames.drain();
        assert_eq!(frames.free_frames(), all, "{name}, {threads} threads: frames are lost or found at {orders:?}");
    }
    let whole = largest.max(Order::new(13).expect("up to 20"));
    let run = frames.alloc_order(whole).expect("what was freed is one again");
    assert_eq!(frames.free_order(run, whole), Ok(()));
    std::eprintln!("{name}, {orders:?}: {steps} runs in and out, {} compare-exchanges lost", lost.into_inner());
}

fn orders(log2s: impl IntoIterator<Item = u32>) -> Vec<Order> {
    log2s.into_iter().map(|log2| Order::new(log2).expect("up to 20")).collect()
}

/// The same race in a new allocator for each order, and one of many orders at once.
fn storms(name: &str, frames: impl Fn(&MemoryMap, &mut dyn FnMut(&(dyn FrameAllocator + Sync))), set: Set) {
    for order in orders(set.orders) {
        let steps = steps(order, order.frames().div_ceil(set.word.frames()));
        frames(&map_for(order), &mut |frames| storm(name, frames, &[order], steps, set.threads));
    }
    let mixed = orders(set.mixed.iter().copied());
    let steps = steps(Order::MIN, 1) / 8;
    frames(&map_for(Order::MIN), &mut |frames| storm(name, frames, &mixed, steps, set.threads));
}

struct Set {
    orders: core::ops::RangeInclusive<u32>,
    mixed: &'static [u32],
    /// What lies in a word.
    word: Order,
    threads: u8,
}

const WORD: Order = Order::new(6).unwrap();
const WORD_OF_BLOCKS: Order = Order::new(15).unwrap();

#[test]
fn a_bitmap_gives_no_frame_to_two_threads() {
    let set = Set { orders: 0..=13, mixed: &[0, 1, 3, 6, 8, 10], word: WORD, threads: 16 };
    let race = |map: &MemoryMap, act: &mut dyn FnMut(&(dyn FrameAllocator + Sync))| {
        let mut storage = vec![0; BitmapAllocator::metadata_bytes(map.count()) / 8];
        act(&BitmapAllocator::new(map, &mut storage).expect("enough storage"));
    };
    storms("bitmap", race, set);
}

#[test]
fn a_buddy_gives_no_frame_to_two_threads() {
    for (leaf, word, orders, mixed) in [
        (Order::MIN, WORD, 0..=13, &[0, 1, 3, 6, 8, 10]),
        (PageSize::Large.order(), WORD_OF_BLOCKS, 9..=20, &[9, 9, 10, 10, 11, 12]),
    ] {
        let race = |map: &MemoryMap, act: &mut dyn FnMut(&(dyn FrameAllocator + Sync))| {
            let mut storage = vec![0; BuddyAllocator::metadata_bytes(map.count(), leaf) / 8];
            act(&BuddyAllocator::with_leaf(map, leaf, &mut storage).expect("enough storage"));
        };
        storms("buddy", race, Set { orders, mixed, word, threads: 16 });
    }
}

#[test]
fn the_classic_buddy_gives_no_frame_to_two_threads() {
    let set = Set { orders: 0..=10, mixed: &[0, 1, 3, 6, 8, 10], word: Order::MIN, threads: 4 };
    let race = |map: &MemoryMap, act: &mut dyn FnMut(&(dyn FrameAllocator + Sync))| {
        let mut storage = vec![0; ClassicBuddyAllocator::metadata_bytes(map.count()) / 8];
        act(&ClassicBuddyAllocator::new(map, &mut storage).expect("enough storage"));
    };
    storms("classic", race, set);
}

#[test]
fn a_hybrid_gives_no_frame_to_two_threads() {
    let set = Set { orders: 0..=20, mixed: &[0, 1, 3, 6, 8, 9, 10], word: WORD_OF_BLOCKS, threads: 16 };
    let race = |map: &MemoryMap, act: &mut dyn FnMut(&(dyn FrameAllocator + Sync))| {
        let mut storage = vec![0; HybridAllocator::metadata_bytes(map.count(), 8) / 8];
        act(&HybridAllocator::with_slots(map, Numbers, &mut storage).expect("enough storage"));
    };
    storms("hybrid", race, set);
    // Slots that begin apart, in groups that do not begin at a multiple of 64.
    let map = MemoryMap::of(Frames::new(5 << 15, 17 << 15)).expect("a map");
    for mixed in [[0, 3, 6, 9, 13, 15], [9, 12, 14, 15, 16, 17]] {
        race(&map, &mut |frames| storm("hybrid, apart", frames, &orders(mixed), steps(Order::MIN, 1) / 8, 16));
    }
}

/// Hybrids of two nodes, by a view that takes from both in turn: what it passes on rests on them alone.
#[test]
fn nodes_give_no_frame_to_two_threads_and_a_stopped_one_stops_nobody() {
    const HALF: usize = 1 << 13;
    let maps = [0, 1].map(|node| MemoryMap::of(Frames::new((1 << 15) + node * HALF, HALF)).expect("a map"));
    let nodes = maps.each_ref().map(|map| {
        let frames = HybridAllocator::new_in(map, Numbers, &SystemAllocator).expect("memory");
        NumaNode::new(map, frames).expect("its own map")
    });
    let mut words = vec![0; NumaAllocator::metadata_bytes(2, 8) / 8];
    let distances = Distances::new(2, &[10, 20, 20, 10]).expect("a matrix");
    let numa = NumaAllocator::with_slots(&nodes, distances, Numbers, &mut words).expect("two nodes");
    let both = numa.view(0, NumaPolicy::Interleave(NodeSet::first(2))).expect("both have memory");
    storm("nodes in turn", &both, &orders([0, 1, 3, 6, 8, 9, 10]), steps(Order::MIN, 1) / 8, 4);
    goes_on_without(&numa.on(1).expect("it is there"), &[0, 1, 2, 3, 5, 6, 8, 9]);
}
