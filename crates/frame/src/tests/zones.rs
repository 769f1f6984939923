//! Threads that race for zones: reserves hold at every moment, not only at the end.
//!
//! ```text
//!  fill    all threads take, from Normal and by fall-back from DMA, until they are refused   │ barrier
//!  look    the counts, and the frames that are really free in DMA: no fewer than the reserve │ barrier
//!  drop    each thread frees a part of what it has                                           │ barrier
//! ```
//!
//! Another thread reads the count all the time meanwhile (Z2 speaks of every moment), and the hook sees to it that it
//! runs in one thread at a time.

use core::cell::Cell;
use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    thread, vec,
    vec::Vec,
};

use terrace_sync::{NoSlots, Slots};

use crate::{
    Frame, FrameAllocator, FrameError, Frames, MemoryMap, OnPressure, Order, Pressure, Request, Watermarks, ZoneConfig,
    ZonePressure, ZoneType, ZonedAllocator, stress::yield_from_now,
};

const FRAMES: usize = 8192;
const DMA: usize = 4096;
const MIN: usize = 50;
const RESERVE: usize = 700;
const THREADS: usize = 4;
const ROUNDS: usize = 60;

std::thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}

/// A number for each racing thread.
#[derive(Clone, Copy)]
struct Numbers;

// SAFETY: each racing thread has set a number of its own, 1 to 4; others have 0, which is none.
unsafe impl Slots for Numbers {
    fn count(&self) -> usize {
        THREADS
    }

    fn enter(&self) -> usize {
        NUMBER.get()
    }
}

/// Who has each frame; 0 is nobody.
struct Owners(Vec<AtomicU8>);

/// What went wrong, by kind. No thread panics: the others would wait for it at a barrier.
#[derive(Debug, Default)]
struct Wrong {
    owners: AtomicUsize,
    refusals: AtomicUsize,
    frees: AtomicUsize,
    floors: AtomicUsize,
    urgent: AtomicUsize,
}

fn count(place: &AtomicUsize, wrong: bool) {
    place.fetch_add(usize::from(wrong), Ordering::Relaxed);
}

impl Owners {
    fn change(&self, run: Frames, from: u8, to: u8, wrong: &Wrong) {
        for frame in run.start.0..run.end() {
            count(&wrong.owners, self.0[frame].swap(to, Ordering::Relaxed) != from);
        }
    }
}

/// Takes until it is refused, runs of 1 to 8 frames.
fn fill(zones: &impl FrameAllocator, owners: &Owners, me: u8, mine: &mut Vec<Frames>, wrong: &Wrong) {
    let mut length = 8;
    loop {
        match zones.alloc(&Request::frames(length)) {
            Ok(run) => {
                owners.change(run, 0, me, wrong);
                mine.push(run);
                length = 1 + (run.start.0 * 7 + mine.len()) % 8;
            }
            Err(error) => {
                count(&wrong.refusals, error != FrameError::ZoneDepleted(ZoneType::Normal));
                if length == 1 {
                    return;
                }
                length = 1;
            }
        }
    }
}

#[test]
fn a_reserve_holds_at_every_moment_of_a_race() {
    race(NoSlots);
}

/// With frames at hand of the threads' slots. There is no one number to watch then; see `tests/loom_zones.rs`.
#[test]
fn a_reserve_holds_with_frames_at_hand() {
    race(Numbers);
}

fn race<S: Slots + Clone + Sync>(slots: S) {
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    let config: ZoneConfig<'_, S> = ZoneConfig {
        dma: Some(Watermarks { min: MIN, low: MIN, high: MIN }),
        normal: Some(Watermarks { min: MIN, low: 2 * MIN, high: 3 * MIN }),
        dma_reserve: Some(RESERVE),
        ..ZoneConfig::default()
    };
    let mut words = vec![0; ZonedAllocator::metadata_bytes(&map, &config, slots.count()).expect("zones") / 8];
    let (telling, told) = (AtomicBool::new(false), AtomicUsize::new(0));
    let hook = |_: &ZonePressure| {
        assert!(!telling.swap(true, Ordering::SeqCst), "two threads tell at once");
        told.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
        telling.store(false, Ordering::SeqCst);
    };
    let zones = ZonedAllocator::with_slots(&map, &config, slots.clone(), hook, &mut words).expect("zones");
    let owners = Owners((0..FRAMES).map(|_| AtomicU8::new(0)).collect());
    let (barrier, done) = (Barrier::new(THREADS), AtomicBool::new(false));
    let (least, wrong) = (AtomicUsize::new(FRAMES), Wrong::default());
    thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS as u8)
            .map(|me| {
                let (zones, owners, barrier, wrong) = (&zones, &owners, &barrier, &wrong);
                scope.spawn(move || {
                    yield_from_now(me);
                    NUMBER.set(usize::from(me));
                    let mut mine = Vec::new();
                    for round in 0..ROUNDS {
                        fill(zones, owners, me, &mut mine, wrong);
                        if barrier.wait().is_leader() {
                            // Alone, it misses nothing that a refusal in the race may have missed.
                            fill(zones, owners, me, &mut mine, wrong);
                            look(zones, wrong);
                        }
                        barrier.wait();
                        let part = mine.split_off(mine.len() / (2 + round % 3));
                        free_all(zones, owners, me, part, wrong);
                    }
                    free_all(zones, owners, me, mine, wrong);
                })
            })
            .collect();
        let (zones, done, least) = (&zones, &done, &least);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                least.fetch_min(zones.counts(ZoneType::Dma).free, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.into_iter().all(|well| well));
    });
    let kinds = [&wrong.owners, &wrong.refusals, &wrong.frees, &wrong.floors, &wrong.urgent];
    assert!(kinds.iter().all(|kind| kind.load(Ordering::Relaxed) == 0), "{wrong:?}");
    let least = least.into_inner();
    assert!(slots.count() > 0 || least == MIN + RESERVE, "{least} were left: the reserve was broken, or never reached");
    assert_eq!(zones.free_frames(), FRAMES);
    assert!(zones.zones().all(|zone| zone.pressure() == Pressure::Calm), "all is free, and the level has followed");
    assert!(told.load(Ordering::Relaxed) >= 2, "Low and Calm at least");
    zones.drain();
    let whole = zones.alloc_order(Order::new(11).expect("up to 20")).expect("what was freed is one again");
    assert_eq!(zones.free_order(whole, Order::new(11).expect("up to 20")), Ok(()));
}

/// While all others wait.
fn look<S: Slots + Clone, H: OnPressure>(zones: &ZonedAllocator<'_, S, H>, wrong: &Wrong) {
    let really = (0..DMA).filter(|&frame| zones.is_free(Frame(frame))).count();
    let counted = zones.counts(ZoneType::Dma).free;
    count(&wrong.floors, really != counted || counted != MIN + RESERVE);
    let urgent = zones.alloc_urgent(ZoneType::Normal, &Request::frames(1));
    count(&wrong.urgent, !urgent.is_ok_and(|run| run.start.0 >= DMA && zones.free(run).is_ok()));
}

fn free_all(zones: &impl FrameAllocator, owners: &Owners, me: u8, runs: Vec<Frames>, wrong: &Wrong) {
    for run in runs {
        owners.change(run, me, 0, wrong);
        count(&wrong.frees, zones.free(run).is_err());
    }
}

/// G1: whichever call comes last, the level is that of the frames which are free then.
#[test]
fn a_level_follows_the_last_of_racing_calls() {
    let map = MemoryMap::of(Frames::new(4096, 64)).expect("a map");
    let normal = Some(Watermarks { min: 2, low: 60, high: 62 });
    let config = ZoneConfig { normal, ..ZoneConfig::default() };
    let mut words = vec![0; ZonedAllocator::metadata_bytes(&map, &config, 0).expect("zones") / 8];
    let zones = ZonedAllocator::new(&map, &config, &mut words).expect("zones");
    for round in 0..400 {
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            for me in 1..=3u8 {
                let (zones, barrier) = (&zones, &barrier);
                scope.spawn(move || {
                    yield_from_now(me.wrapping_add(round as u8) | 1);
                    barrier.wait();
                    for _ in 0..4 {
                        let run = zones.alloc(&Request::frames(3));
                        assert!(run.is_ok_and(|run| zones.free(run).is_ok()), "there is room for all");
                    }
                });
            }
        });
        assert_eq!(zones.zones().next().map(|zone| zone.pressure()), Some(Pressure::Calm), "round {round}");
        let runs = [(); 2].map(|()| zones.alloc(&Request::frames(3)).expect("there is room"));
        assert_eq!(zones.zones().next().map(|zone| zone.pressure()), Some(Pressure::Low), "round {round}");
        runs.into_iter().for_each(|run| zones.free(run).expect("it is ours"));
    }
}
