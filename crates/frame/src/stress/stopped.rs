//! A thread that stops in the middle of a claim, and others that go on without it.
//!
//! ```text
//!  the thread    alloc ── load ── "I have stopped" ─────── waits ─────── compare-exchange ── free
//!  the others                      └─ hand out all that it does not have ─┘ "go on"
//! ```
//!
//! Both words go through channels: whoever panics drops its ends, and the other goes on.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread, vec,
    vec::Vec,
};

use super::{Numbers, STOP, STOP_AT_WORD, map_for, touched};
use crate::{BitmapAllocator, BuddyAllocator, FrameAllocator, Frames, HybridAllocator, MemoryMap, Order};

/// Where a thread stops: after so many claims' steps, by sending that it has, until it hears anything.
pub(super) struct Stop {
    steps: usize,
    stopped: Sender<()>,
    go_on: Receiver<()>,
}

impl Stop {
    /// In a claim's step. `None`: it has stopped and goes on.
    pub(super) fn step(self) -> Option<Self> {
        if let Some(steps) = self.steps.checked_sub(1) {
            return Some(Self { steps, ..self });
        }
        // An error is the end of the other thread: nothing to wait for.
        if self.stopped.send(()).is_ok() {
            let _ = self.go_on.recv();
        }
        None
    }
}

/// One thread stops before a compare-exchange, inside a claim of several words too. The others hand out all that it
/// does not have, and take it back, as if it were not there.
pub(super) fn goes_on_without(frames: &(dyn FrameAllocator + Sync), orders: &[u32]) {
    let all = frames.free_frames();
    for order in orders.iter().filter_map(|&log2| Order::new(log2)) {
        for steps in [0, 1, 2] {
            let (stopped, has_stopped) = mpsc::channel();
            let (goes_on, go_on) = mpsc::channel();
            thread::scope(|scope| {
                // Moved in, so that they are dropped before the scope waits for the thread.
                let goes_on = goes_on;
                scope.spawn(move || {
                    STOP.set(Some(Stop { steps, stopped, go_on }));
                    let mut mine = Vec::new();
                    for _ in 0..=steps {
                        mine.extend(frames.alloc_order(order));
                    }
                    STOP.set(None);
                    mine.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
                });
                has_stopped.recv().expect("it has stopped");
                let free = frames.free_frames();
                let others: Vec<_> = core::iter::from_fn(|| frames.alloc_order(order).ok()).collect();
                // What lies around the stopped thread's run may be too small for another.
                let got = others.len() * order.frames();
                others.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
                assert!(got + 1024 + 2 * order.frames() >= free, "{order:?}: {got} of {free}");
                drop(goes_on);
            });
            frames.drain();
            assert_eq!(frames.free_frames(), all, "{order:?}, stopped after {steps}");
        }
    }
}

const ORDERS: [u32; 9] = [0, 1, 3, 5, 6, 7, 8, 9, 10];

#[test]
fn a_stopped_thread_stops_nobody() {
    let map = map_for(Order::MIN);
    let count = map.count();
    let mut storage = vec![0; HybridAllocator::metadata_bytes(count, 8) / 8];
    let hybrid = HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage");
    goes_on_without(&hybrid, &ORDERS);
    let mut storage = vec![0; BitmapAllocator::metadata_bytes(count) / 8];
    goes_on_without(&BitmapAllocator::new(&map, &mut storage).expect("enough storage"), &ORDERS);
    let mut storage = vec![0; BuddyAllocator::metadata_bytes(count, Order::MIN) / 8];
    goes_on_without(&BuddyAllocator::new(&map, &mut storage).expect("enough storage"), &ORDERS);
}

/// A thread takes a hold, and at any of its steps another ends all holds and goes; when it has gone on, what it left of
/// its block is still found, by whoever looks alone. Half of the blocks' frames are free at first, or all.
#[test]
fn a_hold_that_is_ended_while_it_is_taken_hides_nothing() {
    let map = MemoryMap::of(Frames::new(0, 4 << 15)).expect("a map");
    for (order, holes) in [(0, false), (0, true), (3, true), (7, true), (9, false)] {
        let order = Order::new(order).expect("an order");
        for steps in 0.. {
            let mut storage = vec![0; HybridAllocator::metadata_bytes(map.count(), 8) / 8];
            let frames = HybridAllocator::with_slots(&map, Numbers, &mut storage).expect("enough storage");
            if holes {
                let all = Order::new(8).expect("an order");
                let runs: Vec<_> = core::iter::from_fn(|| frames.alloc_order(all).ok()).collect();
                runs.iter().step_by(2).for_each(|&run| assert_eq!(frames.free_order(run, all), Ok(())));
                frames.drain();
            }
            let (stopped, has_stopped) = mpsc::channel();
            let (goes_on, go_on) = mpsc::channel::<()>();
            let looked_at = thread::scope(|scope| {
                let goes_on = goes_on;
                let thread = scope.spawn(|| {
                    STOP_AT_WORD.set(Some(Stop { steps, stopped, go_on }));
                    let (run, words) = touched(|| frames.alloc_order(order));
                    STOP_AT_WORD.set(None);
                    assert!(run.is_ok());
                    words
                });
                if has_stopped.recv().is_ok() {
                    frames.drain();
                }
                drop(goes_on);
                thread.join().expect("no panic")
            });
            frames.drain();
            let (free, least) = (frames.free_frames(), Order::MIN);
            let found = core::iter::from_fn(|| frames.alloc_order(least).ok()).count();
            assert_eq!(found, free, "{order:?}, holes {holes}, stopped after {steps} words");
            if steps > looked_at {
                break;
            }
        }
    }
}

/// What the test above rests on: it ends where the stopped thread, or the others, panic.
#[test]
fn who_panics_leaves_nobody_waiting() {
    let (stopped, has_stopped) = mpsc::channel();
    let (goes_on, go_on) = mpsc::channel::<()>();
    drop(Stop { steps: 0, stopped: stopped.clone(), go_on });
    drop(stopped);
    assert!(has_stopped.recv().is_err(), "the thread is gone");
    assert!(goes_on.send(()).is_err());

    let (stopped, has_stopped) = mpsc::channel();
    let (goes_on, go_on) = mpsc::channel();
    let thread = thread::spawn(move || Stop { steps: 0, stopped, go_on }.step().is_none());
    assert!(has_stopped.recv().is_ok());
    drop(goes_on);
    assert!(thread.join().is_ok_and(|goes_on| goes_on), "it goes on");
}
