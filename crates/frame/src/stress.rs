//! Threads that race for frames, with an owner noted for each, and yields where a claim can be lost.
//!
//! ```text
//!  owners   [ 0 │ 0 │ 3 │ 3 │ 1 │ … ]   a byte a frame: who has it; a swap that finds another is a double allocation
//!  hooks    load ── between(): yield now and then ── compare-exchange ── lost(): counted
//! ```
//!
//! `TERRACE_FRAME_STRESS` is the number of operations a thread and order, 8 000 by default.

use core::cell::{Cell, RefCell};
use std::{
    env,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    thread, vec,
    vec::Vec,
};

use terrace_sync::Slots;

use crate::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap,
    Order,
};

std::thread_local! {
    /// A generator of yields; 0 means that this thread never yields.
    static YIELDS: Cell<u64> = const { Cell::new(0) };
    static LOST: Cell<u64> = const { Cell::new(0) };
    static TOUCHED: Cell<usize> = const { Cell::new(0) };
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    /// In how many claims' steps this thread stops, and what it waits for then, twice: to have stopped, and to go on.
    static STOP: RefCell<Option<(usize, Arc<Barrier>)>> = const { RefCell::new(None) };
}

/// A number for each racing thread, and one that two of them share: lanes are hints.
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

/// Called between the load and the compare-exchange of every claim.
pub(crate) fn yield_sometimes() {
    stop_if_told();
    YIELDS.with(|state| {
        if state.get() != 0 && random(state).is_multiple_of(16) {
            thread::yield_now();
        }
    });
}

fn stop_if_told() {
    let barrier = STOP.with_borrow_mut(|stop| match stop.take() {
        Some((0, barrier)) => Some(barrier),
        Some((steps, barrier)) => {
            *stop = Some((steps - 1, barrier));
            None
        }
        None => None,
    });
    if let Some(barrier) = barrier {
        barrier.wait();
        barrier.wait();
    }
}

pub(crate) fn count_lost() {
    LOST.set(LOST.get() + 1);
}

pub(crate) fn count_touched() {
    TOUCHED.with(|count| count.set(count.get() + 1));
}

/// The words of metadata that `act` touched on this thread.
pub(crate) fn touched<R>(act: impl FnOnce() -> R) -> (R, usize) {
    let before = TOUCHED.get();
    let result = act();
    (result, TOUCHED.get() - before)
}

fn steps() -> usize {
    env::var("TERRACE_FRAME_STRESS").ok().and_then(|text| text.parse().ok()).unwrap_or(8_000)
}

/// Who owns each frame.
struct Owners {
    first: usize,
    of: Vec<AtomicU8>,
}

impl Owners {
    fn new(span: Frames) -> Self {
        Self { first: span.start.0, of: (0..span.count).map(|_| AtomicU8::new(0)).collect() }
    }

    fn change(&self, start: Frame, order: Order, from: u8, to: u8) {
        for frame in start.0..start.0 + order.frames() {
            let found = self.of[frame - self.first].swap(to, Ordering::Relaxed);
            assert_eq!(found, from, "frame {frame} goes from {from} to {to}");
        }
    }
}

/// One thread's part: fills and empties its share in bursts.
fn race(frames: &dyn FrameAllocator, owners: &Owners, me: u8, order: Order, steps: usize) -> u64 {
    YIELDS.set(u64::from(me).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    NUMBER.set(usize::from(me / 2));
    let choice = Cell::new(u64::from(me) << 32 | 77);
    let mut mine: Vec<Frame> = Vec::new();
    for step in 0..steps {
        if step % 997 == 0 {
            frames.drain();
        }
        if !mine.is_empty() && (random(&choice).is_multiple_of(4) || mine.len() > 40) {
            let at = (random(&choice) % mine.len() as u64) as usize;
            let start = mine.swap_remove(at);
            owners.change(start, order, me, 0);
            frames.free_order(start, order).expect("it is this thread's");
        } else if let Ok(start) = frames.alloc_order(order) {
            owners.change(start, order, 0, me);
            mine.push(start);
        } else if let Some(start) = mine.pop() {
            owners.change(start, order, me, 0);
            frames.free_order(start, order).expect("it is this thread's");
        }
    }
    for start in mine {
        owners.change(start, order, me, 0);
        frames.free_order(start, order).expect("it is this thread's");
    }
    YIELDS.set(0);
    LOST.get()
}

/// All of the memory is there again, and as one.
fn storm(name: &str, frames: &(dyn FrameAllocator + Sync), orders: &[u32], threads: u8) {
    let owners = Owners::new(frames.span());
    let (all, lost) = (frames.free_frames(), AtomicU64::new(0));
    for order in orders.iter().filter_map(|&log2| Order::new(log2)) {
        // Owners are noted frame by frame, which is the test's cost.
        let steps = (steps() / order.frames().div_ceil(64)).max(40);
        thread::scope(|scope| {
            for me in 1..=threads {
                let (owners, lost) = (&owners, &lost);
                scope.spawn(move || {
                    lost.fetch_add(race(frames, owners, me, order, steps), Ordering::Relaxed);
                });
            }
        });
        frames.drain();
        assert_eq!(frames.free_frames(), all, "{name}: frames are lost or found at {order:?}");
    }
    let whole = frames.alloc_order(Order::new(13).expect("up to 20")).expect("what was freed is one again");
    frames.free_order(whole, Order::new(13).expect("up to 20")).expect("it is ours");
    std::eprintln!("{name}: {} compare-exchanges lost", lost.into_inner());
}

/// 64 MiB, so that high orders run out.
fn small_map() -> MemoryMap {
    MemoryMap::of(Frames::new(1 << 15, 1 << 14)).expect("a map")
}

const ORDERS: [u32; 10] = [0, 1, 3, 5, 6, 7, 8, 9, 10, 13];

#[test]
fn a_bitmap_gives_no_frame_to_two_threads() {
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(1 << 14) / 8];
    let frames = BitmapAllocator::new(&small_map(), &mut storage).expect("enough storage");
    storm("bitmap", &frames, &ORDERS, 4);
}

#[test]
fn a_buddy_gives_no_frame_to_two_threads() {
    let mut storage = vec![0; BuddyAllocator::metadata_bytes(1 << 14, Order::MIN) / 8];
    let frames = BuddyAllocator::new(&small_map(), &mut storage).expect("enough storage");
    storm("buddy", &frames, &ORDERS, 4);
}

#[test]
fn the_classic_buddy_gives_no_frame_to_two_threads() {
    let mut storage = vec![0; ClassicBuddyAllocator::metadata_bytes(1 << 14) / 8];
    let frames = ClassicBuddyAllocator::new(&small_map(), &mut storage).expect("enough storage");
    storm("classic", &frames, &ORDERS, 3);
}

#[test]
fn a_hybrid_gives_no_frame_to_two_threads() {
    let mut storage = vec![0; HybridAllocator::metadata_bytes(1 << 14, 8) / 8];
    let frames = HybridAllocator::with_slots(&small_map(), Numbers, &mut storage).expect("enough storage");
    storm("hybrid", &frames, &ORDERS, 5);
}

/// One thread stops before a compare-exchange, inside a claim of several words too. The others hand out all that it
/// does not have, and take it back, as if it were not there.
fn goes_on_without(frames: &(dyn FrameAllocator + Sync), orders: &[u32]) {
    let all = frames.free_frames();
    for order in orders.iter().filter_map(|&log2| Order::new(log2)) {
        for steps in [0, 1, 2] {
            let barrier = Arc::new(Barrier::new(2));
            thread::scope(|scope| {
                let told = Arc::clone(&barrier);
                scope.spawn(move || {
                    STOP.set(Some((steps, told)));
                    let mut mine = Vec::new();
                    while STOP.with_borrow(Option::is_some) {
                        mine.extend(frames.alloc_order(order));
                    }
                    mine.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
                });
                barrier.wait();
                let free = frames.free_frames();
                let others: Vec<_> = core::iter::from_fn(|| frames.alloc_order(order).ok()).collect();
                // What lies around the stopped thread's run may be too small for another.
                let got = others.len() * order.frames();
                others.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
                barrier.wait(); // Before anything that may panic, or the thread would never end.
                assert!(got + 1024 + 2 * order.frames() >= free, "{order:?}: {got} of {free}");
            });
            frames.drain();
            assert_eq!(frames.free_frames(), all, "{order:?}, stopped after {steps}");
        }
    }
}

#[test]
fn a_stopped_thread_stops_nobody() {
    let mut storage = vec![0; HybridAllocator::metadata_bytes(1 << 14, 8) / 8];
    let hybrid = HybridAllocator::with_slots(&small_map(), Numbers, &mut storage).expect("enough storage");
    goes_on_without(&hybrid, &ORDERS[..9]);
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(1 << 14) / 8];
    goes_on_without(&BitmapAllocator::new(&small_map(), &mut storage).expect("enough storage"), &ORDERS[..9]);
    let mut storage = vec![0; BuddyAllocator::metadata_bytes(1 << 14, Order::MIN) / 8];
    goes_on_without(&BuddyAllocator::new(&small_map(), &mut storage).expect("enough storage"), &ORDERS[..9]);
}

/// What the top of the files says of the two others.
#[test]
fn bitmap_and_buddy_touch_no_more_words_than_they_say() {
    const FRAMES: usize = 1 << 16;
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(FRAMES) / 8];
    let bitmap = BitmapAllocator::new(&map, &mut storage).expect("enough storage");
    let mut storage = vec![0; BuddyAllocator::metadata_bytes(FRAMES, Order::MIN) / 8];
    let buddy = BuddyAllocator::new(&map, &mut storage).expect("enough storage");
    for log2 in 0..=9 {
        let order = Order::new(log2).expect("up to 20");
        let words = 1usize << log2.saturating_sub(6);
        // A class looked at is up to 3 words; a stale hint is up to the block and 30 words of its rows.
        for (name, frames, alloc, free) in [
            ("bitmap", &bitmap as &dyn FrameAllocator, 100, 2 * words + 24),
            ("buddy", &buddy, 60 + 3 * words, 8 * words),
        ] {
            let mut runs = Vec::new();
            for run in 0.. {
                let (found, touches) = touched(|| frames.alloc_order(order));
                let Ok(found) = found else { break };
                assert!(touches <= alloc, "{name}, {order:?}, run {run}: {touches} of {alloc} to alloc");
                runs.push(found);
            }
            assert_eq!(frames.free_frames(), 0);
            for run in runs {
                let (result, touches) = touched(|| frames.free_order(run, order));
                assert_eq!(result, Ok(()));
                assert!(touches <= free, "{name}, {order:?}: {touches} of {free} to free");
            }
        }
    }
}

/// The worst cases in words of metadata that the table at the top of `hybrid.rs` states, the index's words included,
/// over orders in turn: filled, half emptied in a pattern, filled again, emptied.
#[test]
fn operations_touch_no_more_words_than_they_say() {
    const FRAMES: usize = 1 << 18;
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let mut storage = vec![0; HybridAllocator::metadata_bytes(FRAMES, 8) / 8];
    let frames = HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage");
    for log2 in 0..=17 {
        let order = Order::new(log2).expect("up to 20");
        // Full, half empty in a pattern, then full again: the search meets all kinds of blocks.
        let mut runs = Vec::new();
        let (mut most_alloc, mut most_free) = (0, 0);
        for round in 0..2 {
            loop {
                let (run, words) = touched(|| frames.of_order(log2));
                let Some(run) = run else { break };
                runs.push(Frame(run));
                most_alloc = most_alloc.max(words);
            }
            assert_eq!(frames.free_frames(), 0, "{order:?}");
            let mut kept = Vec::new();
            for (at, run) in runs.drain(..).enumerate() {
                if round == 1 || at * 7 % 16 < 8 {
                    let (result, words) = touched(|| frames.free_order(run, order));
                    assert_eq!(result, Ok(()));
                    most_free = most_free.max(words);
                } else {
                    kept.push(run);
                }
            }
            runs = kept;
        }
        frames.drain();
        let words = 1 << log2.saturating_sub(15);
        let (alloc, free) = match log2 {
            0..9 => (80, 64),
            9..16 => (40, 7),
            _ => (16 + 2 * words, 8 * words),
        };
        assert!(most_alloc <= alloc && most_free <= free, "{order:?}: {most_alloc} of {alloc}, {most_free} of {free}");
    }
}
