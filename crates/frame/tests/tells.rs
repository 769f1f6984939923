//! The layers that tell: each is an allocator before the same judge as its backing, and what it tells is what was done.

mod judge;

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use judge::{Traits, batches_are_calls_in_a_row, holey, refuses_what_is_bad, run, steps};
use proptest::prelude::*;
use terrace_core::SystemAllocator;
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Counts, Frame, FrameAllocator, FrameError, Frames,
    FreeAreas, HybridAllocator, Latencies, MemoryMap, Misuse, Order, Outcome, OwnedFrames, Owner, Request, SiteCounts,
    StatsFrames, TimedFrames, TrackedFrames,
};
use terrace_sync::{NoSlots, Slots};

const ONE: Traits = Traits { boundaries: false, leaf: 1, exact: true, places: true };
const SMALL: usize = 32_768;
const MINE: Owner = Owner(7);
const YOURS: Owner = Owner(8);

fn order(log2: u32) -> Order {
    Order::new(log2).expect("up to 20")
}

fn small_map() -> MemoryMap {
    MemoryMap::of(Frames::new(SMALL, SMALL)).expect("a map")
}

fn bitmap(map: &MemoryMap) -> BitmapAllocator<'static, SystemAllocator> {
    BitmapAllocator::new_in(map, &SystemAllocator).expect("memory")
}

fn hybrid(map: &MemoryMap) -> HybridAllocator<'static, NoSlots, SystemAllocator> {
    HybridAllocator::new_in(map, NoSlots, &SystemAllocator).expect("memory")
}

fn rows<const ROWS: usize>() -> [SiteCounts; ROWS] {
    [const { SiteCounts::new() }; ROWS]
}

fn tracked<'m, F: FrameAllocator>(backing: F, sites: &'m [SiteCounts]) -> TrackedFrames<'m, F, SystemAllocator> {
    TrackedFrames::new_in(backing, &SystemAllocator, sites).expect("memory")
}

/// Callers come from one slot after the other, from none, and from one that has no table.
#[derive(Default)]
struct Turns(Cell<usize>);

// SAFETY: one thread, which leaves before it enters again.
unsafe impl Slots for Turns {
    fn count(&self) -> usize {
        4
    }

    fn enter(&self) -> usize {
        self.0.set((self.0.get() + 1) % 5);
        self.0.get()
    }
}

fn any_clock() -> impl Fn() -> u64 {
    let ticks = Cell::new(0);
    move || ticks.replace(ticks.get() + 7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn counted_frames_do_what_a_set_does(program in steps()) {
        let counts = [const { Counts::new() }; 4];
        let frames = StatsFrames::with_slots(bitmap(&holey()), Turns::default(), &counts).expect("tables");
        run(&frames, &holey(), ONE, &program);
        prop_assert_eq!(frames.live_frames(), 0, "all came back");
        let sum = frames.sum();
        prop_assert_eq!(sum.frames_allocated(), sum.frames_freed());
        prop_assert!(sum.get(Some(order(13)), Outcome::Allocated) > 0, "the judge ends with one of these");
    }

    #[test]
    fn timed_frames_do_what_a_set_does(program in steps()) {
        let latencies = Latencies::new();
        run(&TimedFrames::new(hybrid(&holey()), any_clock(), &latencies), &holey(), ONE, &program);
        prop_assert!(latencies.alloc_large.max() == Some(7) && latencies.free_large.max() == Some(7));
    }

    #[test]
    fn tracked_frames_do_what_a_set_does(program in steps()) {
        let sites = rows::<4>();
        let (one, classic) = (tracked(bitmap(&holey()), &sites), ClassicBuddyAllocator::new_in(&holey(), &SystemAllocator));
        run(&one, &holey(), Traits { boundaries: true, ..ONE }, &program);
        prop_assert_eq!(one.leaks().count(), (0, 0));
        let other = tracked(classic.expect("memory"), &sites);
        run(&other.as_owner(MINE), &holey(), Traits { boundaries: true, places: false, ..ONE }, &program);
        prop_assert_eq!(other.leaks().count(), (0, 0));
    }

    #[test]
    fn tracked_leaves_do_what_a_set_does(program in steps()) {
        let backing = BuddyAllocator::new_in(&holey(), order(4), &SystemAllocator).expect("memory");
        let traits = Traits { boundaries: true, leaf: 16, places: false, ..ONE };
        run(&tracked(backing, &[]), &holey(), traits, &program);
    }
}

#[test]
fn bad_requests_and_frees_are_refused_and_counted() {
    let map = small_map();
    let counts = [Counts::new()];
    let frames = StatsFrames::new(bitmap(&map), &counts).expect("a table");
    refuses_what_is_bad(&frames, &map);
    let total = |outcome| counts[0].total(outcome);
    assert_eq!(total(Outcome::Refused(FrameError::InvalidSize)), 3);
    assert_eq!(total(Outcome::Refused(FrameError::InvalidAlignment)), 3);
    assert_eq!(total(Outcome::Refused(FrameError::OutOfMemory)), 5);
    assert_eq!((total(Outcome::Misused(Misuse::Outside)), total(Outcome::Misused(Misuse::NotARun))), (5, 1));
    assert_eq!((total(Outcome::Misused(Misuse::AlreadyFree)), total(Outcome::Allocated)), (1, 1));
    let latencies = Latencies::new();
    refuses_what_is_bad(&TimedFrames::new(bitmap(&map), any_clock(), &latencies), &map);
    assert_eq!((latencies.refused.count(), latencies.alloc_large.count(), latencies.free_large.count()), (18, 1, 1));
    refuses_what_is_bad(&tracked(bitmap(&map), &rows::<1>()), &map);
    refuses_what_is_bad(&tracked(hybrid(&map), &[]).as_owner(MINE), &map);
    assert_eq!(StatsFrames::new(bitmap(&map), &[]).unwrap_err(), FrameError::InvalidSize);
}

#[test]
fn batches_go_as_far_as_they_can_and_count_run_by_run() {
    let map = small_map();
    let counts = [Counts::new()];
    batches_are_calls_in_a_row(&StatsFrames::new(bitmap(&map), &counts).expect("a table"));
    let all = (SMALL / 512) as u64;
    let get = |outcome| counts[0].get(Some(order(9)), outcome);
    // Of three that were to be freed in one batch, the second is a misuse.
    assert_eq!((get(Outcome::Allocated), get(Outcome::Freed)), (all, all));
    assert_eq!(get(Outcome::Misused(Misuse::AlreadyFree)), 1);
    assert_eq!(get(Outcome::Refused(FrameError::OutOfMemory)), 2, "the batch that ended early, and a call");
    let latencies = Latencies::new();
    batches_are_calls_in_a_row(&TimedFrames::new(bitmap(&map), any_clock(), &latencies));
    let large: u64 = [9, 10, 12].map(|order| (SMALL >> order) as u64).iter().sum();
    assert_eq!((latencies.alloc_large.count(), latencies.free_large.count()), (large, large));
    let sites = rows::<8>();
    let tracked = tracked(hybrid(&map), &sites);
    batches_are_calls_in_a_row(&tracked);
    batches_are_calls_in_a_row(&tracked.as_owner(MINE));
}

#[test]
fn each_slot_has_its_table_and_the_first_is_for_all_others() {
    let counts = [const { Counts::new() }; 4];
    let frames = StatsFrames::with_slots(bitmap(&small_map()), Turns::default(), &counts).expect("tables");
    for _ in 0..10 {
        frames.alloc_order(Order::MIN).expect("there is room");
    }
    let each: Vec<u64> = counts.iter().map(|counts| counts.get(Some(Order::MIN), Outcome::Allocated)).collect();
    assert_eq!(each, [4, 2, 2, 2], "slot 4 has no table, 0 is no slot");
    assert_eq!((frames.live_frames(), frames.sum().total(Outcome::Allocated)), (10, 10));
}

/// A number for whoever asked for one.
#[derive(Default)]
struct Asked(Cell<usize>);

// SAFETY: one thread.
unsafe impl Slots for Asked {
    fn count(&self) -> usize {
        1
    }

    fn enter(&self) -> usize {
        self.0.get()
    }

    fn claim(&self) -> bool {
        self.0.set(1);
        true
    }
}

#[test]
fn a_caller_without_a_slot_tries_to_get_one() {
    let counts = [const { Counts::new() }; 2];
    let frames = StatsFrames::with_slots(bitmap(&small_map()), Asked::default(), &counts).expect("tables");
    for _ in 0..3 {
        frames.alloc_order(Order::MIN).expect("there is room");
    }
    assert_eq!(counts.each_ref().map(|counts| counts.total(Outcome::Allocated)), [1, 2]);
}

#[test]
fn what_threads_do_at_once_is_all_counted() {
    let counts = [Counts::new()];
    let latencies = Latencies::new();
    let ticks = AtomicUsize::new(0);
    let clock = || ticks.fetch_add(1, Ordering::Relaxed) as u64;
    let timed = TimedFrames::new(hybrid(&small_map()), clock, &latencies);
    let frames = StatsFrames::new(timed, &counts).expect("a table");
    thread::scope(|scope| {
        for thread in 0..4 {
            let frames = &frames;
            scope.spawn(move || {
                for _ in 0..500 {
                    let run = frames.alloc_order(order(thread)).expect("there is room");
                    frames.free_order(run, order(thread)).expect("it is this thread's");
                }
            });
        }
    });
    for outcome in [Outcome::Allocated, Outcome::Freed] {
        assert!((0..4).all(|log2| counts[0].get(Some(order(log2)), outcome) == 500));
    }
    assert_eq!((counts[0].frames_allocated(), frames.live_frames()), (500 * 15, 0));
    assert_eq!((latencies.alloc_small.count(), latencies.free_small.count()), (2000, 2000));
    assert!(latencies.alloc_small.max() > Some(0));
}

#[test]
fn a_clock_that_goes_back_counts_as_no_time() {
    let latencies = Latencies::new();
    let ticks = Cell::new(u64::MAX);
    let frames = TimedFrames::new(bitmap(&small_map()), || ticks.replace(ticks.get() / 2), &latencies);
    frames.alloc_order(Order::MIN).expect("there is room");
    assert_eq!((latencies.alloc_small.count(), latencies.alloc_small.max()), (1, Some(0)));
    let more = Latencies::new();
    more.refused.record(90);
    more.merge(&latencies);
    assert_eq!((more.refused.count(), more.alloc_small.count()), (1, 1));
    assert_eq!(
        more.to_string().lines().last(),
        Some("refused: 1 values, mean 89, p50 90, p90 90, p99 90, p99.9 90, max 90")
    );
}

/// A batch's time is that of its runs together.
#[test]
fn a_batch_takes_as_long_as_its_runs() {
    let latencies = Latencies::new();
    let ticks = Cell::new(0);
    let clock = || ticks.replace(ticks.get() + 1000);
    let frames = TimedFrames::new(bitmap(&small_map()), clock, &latencies);
    let mut runs = [Frame(0); 50];
    assert_eq!(frames.alloc_batch(Order::MIN, &mut runs), 50);
    assert_eq!((latencies.alloc_small.count(), latencies.alloc_small.max()), (50, Some(20)));
    assert_eq!(frames.alloc_batch(Order::MIN, &mut []), 0);
    assert_eq!(frames.alloc_batch(Order::MAX, &mut runs[..1]), 0);
    assert_eq!(frames.free_batch(order(9), &[Frame(1)]), Err((0, Misuse::NotARun)));
    assert_eq!((latencies.refused.count(), latencies.alloc_small.count()), (2, 50));
}

/// At the first look, and at the one behind the allocation, where the frames would be lost.
#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_clock_that_panics_aborts() {
    let look = std::env::var("TERRACE_PANICKING_CLOCK").ok().and_then(|look| look.parse().ok());
    if let Some(look) = look {
        let latencies = Latencies::new();
        let looks = Cell::new(0usize);
        let clock = || if looks.replace(looks.get() + 1) == look { panic!("the clock stopped") } else { 0 };
        let frames = TimedFrames::new(bitmap(&small_map()), clock, &latencies);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| frames.alloc_order(Order::MIN)));
        std::process::exit(0); // Not reached, but where the clock is looked at no more.
    }
    for (look, ends_well) in [("0", false), ("1", false), ("2", true)] {
        let status = std::process::Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["a_clock_that_panics_aborts", "--exact", "--nocapture"])
            .env("TERRACE_PANICKING_CLOCK", look)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .expect("a process");
        assert_eq!(status.success(), ends_well, "look {look}");
    }
}

/// Every way to give back something else than a run, after each of which all is as it was.
#[test]
fn what_is_no_run_of_its_owner_is_found_and_changes_nothing() {
    let map = small_map();
    let sites = rows::<64>();
    let backing = bitmap(&map);
    let frames = tracked(&backing, &sites);
    let mine = frames.as_owner(MINE);
    let first = mine.alloc(&Request::frames(24)).expect("there is room");
    let second = mine.alloc(&Request::frames(8).within(Frames::new(first.end(), 8))).expect("it is free");
    let past = backing.alloc(&Request::frames(5)).expect("there is room");
    let before = (frames.free_frames(), format!("{}", frames.leaks()));
    let run = |start: usize, count| Frames::new(start, count);
    for (wrong, owner, misuse) in [
        (run(first.start.0, 23), MINE, Misuse::NotARun),
        (run(first.start.0 + 1, 23), MINE, Misuse::NotARun),
        (run(first.start.0 + 23, 1), MINE, Misuse::NotARun),
        (run(first.start.0, 32), MINE, Misuse::NotARun),
        (run(first.start.0 + 12, 16), MINE, Misuse::NotARun),
        (first, YOURS, Misuse::WrongOwner),
        (second, Owner::NOBODY, Misuse::WrongOwner),
        (past, MINE, Misuse::NotARun),
        (past, Owner::NOBODY, Misuse::NotARun),
        (run(past.end(), 4), MINE, Misuse::AlreadyFree),
        (run(first.start.0, 0), MINE, Misuse::Outside),
        (run(SMALL - 1, 2), MINE, Misuse::Outside),
        (run(2 * SMALL, 1), MINE, Misuse::Outside),
        (run(usize::MAX, 1), MINE, Misuse::Outside),
        (Frames::ALL, MINE, Misuse::Outside),
    ] {
        assert_eq!(frames.as_owner(owner).free(wrong), Err(misuse), "{wrong:?} by {owner}");
        assert_eq!((frames.free_frames(), format!("{}", frames.leaks())), before);
    }
    assert_eq!(mine.free_order(first.start, order(3)), Err(Misuse::NotARun));
    assert_eq!((mine.free(second), mine.free(first)), (Ok(()), Ok(())));
    assert_eq!(mine.free(first), Err(Misuse::AlreadyFree));
    assert_eq!((frames.leaks().count(), backing.free(past)), ((0, 0), Ok(())));
    assert_eq!(backing.free_frames(), SMALL);
}

/// The note stays, so that the mistake can be seen.
#[test]
fn a_run_that_was_freed_past_the_layer_is_told_and_still_noted() {
    let sites = rows::<4>();
    let backing = hybrid(&small_map());
    let frames = tracked(&backing, &sites);
    let run = frames.alloc(&Request::frames(600)).expect("there is room");
    backing.free(run).expect("the backing has no notes");
    assert_eq!(frames.free(run), Err(Misuse::AlreadyFree));
    assert_eq!(frames.leaks().count(), (1, 600));
    let site = frames.hot_sites().sites().next().expect("one place asked");
    assert_eq!((site.live_runs, site.live_frames), (1, 600));
}

#[test]
fn a_frames_run_is_found_from_any_of_its_frames() {
    let map = MemoryMap::of(Frames::new(3 << 20, 3 << 20)).expect("a map");
    let sites = rows::<4>();
    let frames = tracked(hybrid(&map), &sites);
    let large = frames.as_owner(MINE).alloc_order(Order::MAX).expect("there is room");
    let one = frames.as_owner(YOURS).alloc(&Request::frames(1).within(Frames::new(large.0 + (1 << 20), 1)));
    let one = one.expect("it is free");
    for at in [0, 1, 77, (1 << 20) - 1] {
        let run = frames.run_of(Frame(large.0 + at)).expect("a run");
        assert_eq!((run.frames, run.owner), (Frames::of_order(large, Order::MAX), MINE));
    }
    assert_eq!(frames.run_of(one.start).map(|run| run.owner), Some(YOURS));
    for nobodys in [0, large.0 - 1, one.end(), 6 << 20, usize::MAX] {
        assert_eq!(frames.run_of(Frame(nobodys)), None, "{nobodys}");
    }
}

#[test]
fn leaks_are_values_and_a_text_of_them() {
    let sites = rows::<2>();
    let frames = tracked(bitmap(&small_map()), &sites);
    let (disk, made_at) = (frames.as_owner(MINE), line!());
    let mut runs: Vec<Frames> =
        (1..=3).map(|count| disk.alloc(&Request::frames(count)).expect("there is room")).collect();
    runs.push(frames.as_owner(YOURS).alloc(&Request::frames(9)).expect("there is room"));
    runs.push(frames.as_owner(Owner::NOBODY).alloc(&Request::frames(10)).expect("there is room"));
    assert_eq!(frames.leaks().count(), (5, 25));
    assert_eq!(frames.leaks().of(MINE).count(), (3, 6));
    assert!(frames.leaks().runs().map(|run| run.frames).eq(runs.iter().copied()), "the lowest first");
    let text = format!("{:.1}", frames.leaks().of(MINE));
    let site = frames.leaks().runs().next().and_then(|run| run.site).expect("it has a row");
    assert_eq!((site.file(), site.line()), (file!(), made_at));
    let run = format!("{:>10} frames from 32768 (0x8000000), owner 7, asked for at {site}", 1);
    assert_eq!(text, format!("3 runs of 6 frames are live\n{run}\n{:>10} runs more", 2));
    let text = frames.leaks().to_string();
    assert!(text.contains("nobody's, asked for at a place without a row"), "two rows, three places: {text}");
    assert_eq!(text.lines().count(), 6);
    assert_eq!(format!("{:?}", frames.leaks()).matches("Run {").count(), 5);
}

#[test]
fn hot_sites_come_first_and_the_rest_is_one() {
    let sites = rows::<3>();
    let frames = tracked(bitmap(&small_map()), &sites);
    let ask = |place: &OwnedFrames<'_, _, _>, count| place.alloc(&Request::frames(count)).expect("there is room");
    let places = [frames.as_owner(MINE), frames.as_owner(MINE), frames.as_owner(MINE), frames.as_owner(MINE)];
    let kept: Vec<Frames> = [10, 300, 40, 5].iter().zip(&places).map(|(&count, place)| ask(place, count)).collect();
    ask(&places[0], 7);
    assert_eq!(places[3].free(kept[3]), Ok(()));
    assert_eq!(places[1].free(kept[1]), Ok(()));
    let told = frames.hot_sites().sites().map(|site| (site.runs, site.frames, site.live_runs, site.live_frames));
    assert_eq!(told.collect::<Vec<_>>(), [(1, 300, 0, 0), (1, 40, 1, 40), (2, 17, 2, 17), (1, 5, 0, 0)]);
    assert!(frames.hot_sites().sites().last().is_some_and(|site| site.location.is_none()), "the table had three rows");
    assert_eq!(format!("{:.2}", frames.hot_sites()).lines().count(), 3);
    assert_eq!(frames.hot_sites().to_string().lines().count(), 5);
    assert!(frames.hot_sites().to_string().contains(file!()));
    assert_eq!(frames.tracking_bytes(), SMALL * 8 + 3 * 40);
}

#[test]
fn notes_of_more_frames_than_there_can_be_are_more_than_any_storage() {
    assert_eq!(TrackedFrames::metadata_bytes(usize::MAX), usize::MAX);
    assert_eq!(TrackedFrames::metadata_bytes(usize::MAX / 8), usize::MAX);
}

#[test]
fn storage_that_is_too_small_is_refused() {
    let map = MemoryMap::of(Frames::new(32_767, 1001)).expect("a map");
    let bytes = TrackedFrames::metadata_bytes(1001);
    assert_eq!(bytes, 1008 * 8 + 64);
    let mut words = vec![u64::MAX; bytes / 8 + 8];
    for skip in 0..8 {
        let enough = &mut words[skip..skip + bytes / 8];
        let frames = TrackedFrames::new(bitmap(&map), enough, &[]).expect("enough storage");
        assert_eq!(frames.leaks().count(), (0, 0), "what the storage held is no run");
        drop(frames);
        let too_small = TrackedFrames::new(bitmap(&map), &mut words[skip..skip + 1000], &[]);
        assert_eq!(too_small.unwrap_err(), FrameError::InvalidSize);
    }
}

/// Of threads that free the same run, one does.
#[test]
fn a_run_is_taken_back_once_whoever_races() {
    let sites = rows::<4>();
    let frames = tracked(hybrid(&small_map()), &sites);
    let (barrier, taken) = (Barrier::new(3), AtomicUsize::new(0));
    for _ in 0..300 {
        let run = frames.as_owner(MINE).alloc(&Request::frames(65)).expect("there is room");
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    barrier.wait();
                    match frames.as_owner(MINE).free(run) {
                        Ok(()) => _ = taken.fetch_add(1, Ordering::Relaxed),
                        Err(misuse) => assert!(matches!(misuse, Misuse::NotARun | Misuse::AlreadyFree)),
                    }
                });
            }
        });
    }
    assert_eq!((taken.into_inner(), frames.free_frames(), frames.leaks().count()), (300, SMALL, (0, 0)));
}

/// Owners that race for the same frames keep theirs, and the counts of places add up.
#[test]
fn owners_race_and_keep_what_is_theirs() {
    let sites = rows::<64>();
    let frames = tracked(hybrid(&MemoryMap::of(Frames::new(0, 2048)).expect("a map")), &sites);
    thread::scope(|scope| {
        for me in 1..=4u32 {
            let frames = &frames;
            scope.spawn(move || {
                let (mine, other) = (frames.as_owner(Owner(me)), frames.as_owner(Owner(me % 4 + 1)));
                let mut runs: Vec<Frames> = Vec::new();
                for step in 0..2000usize {
                    if runs.len() > 20 || (step % 3 == 2 && !runs.is_empty()) {
                        let run = runs.swap_remove(step * 7 % runs.len());
                        assert_eq!(other.free(run), Err(Misuse::WrongOwner));
                        assert_eq!(mine.free(run), Ok(()));
                    } else if let Ok(run) = mine.alloc(&Request::frames(step * 13 % 40 + 1)) {
                        runs.push(run);
                    }
                }
                let live = frames.leaks().of(Owner(me)).count();
                assert_eq!(live, (runs.len(), runs.iter().map(|run| run.count).sum()));
                runs.into_iter().for_each(|run| assert_eq!(mine.free(run), Ok(())));
            });
        }
    });
    assert_eq!((frames.leaks().count(), frames.free_frames()), ((0, 0), 2048));
    assert!(frames.hot_sites().sites().all(|site| site.live_runs == 0 && site.live_frames == 0 && site.runs > 0));
    assert_eq!(frames.hot_sites().sites().count(), 1, "one line asks for all four");
}

/// What a free of any run by any owner is to be answered, by a map of the runs there are.
fn wanted(runs: &BTreeMap<usize, (usize, Owner)>, run: Frames, owner: Owner, map: &MemoryMap) -> Result<(), Misuse> {
    let taken =
        |frame: usize| runs.range(..=frame).next_back().is_some_and(|(start, (count, _))| frame < start + count);
    match runs.get(&run.start.0) {
        _ if !map.contains(run) => Err(Misuse::Outside),
        Some(&(count, _)) if count != run.count => Err(Misuse::NotARun),
        Some(&(_, of)) if of != owner => Err(Misuse::WrongOwner),
        Some(_) => Ok(()),
        None if taken(run.start.0) => Err(Misuse::NotARun),
        None => Err(Misuse::AlreadyFree),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    /// Runs of three owners, and frees of anything by anybody.
    #[test]
    fn every_free_is_answered_as_a_map_of_runs_answers(
        program in prop::collection::vec((any::<bool>(), 0u32..3, 1usize..70, 0usize..600), 1..150)
    ) {
        let map = MemoryMap::of(Frames::new(100, 500)).expect("a map");
        let sites = rows::<8>();
        let frames = tracked(bitmap(&map), &sites);
        let mut runs = BTreeMap::new();
        for (alloc, tag, count, at) in program {
            let (owner, handle) = (Owner(tag), frames.as_owner(Owner(tag)));
            if alloc {
                let Ok(run) = handle.alloc(&Request::frames(count)) else { continue };
                runs.insert(run.start.0, (run.count, owner));
            } else {
                // Now a run that there is, now a guess.
                let known = runs.iter().nth(at % 40).map(|(&start, &(count, _))| Frames::new(start, count));
                let run = known.filter(|_| at % 4 != 0).unwrap_or(Frames::new(at, count));
                let answer = wanted(&runs, run, owner, &map);
                prop_assert_eq!(handle.free(run), answer, "{:?} by {}", run, owner);
                if answer.is_ok() {
                    runs.remove(&run.start.0);
                }
            }
            let live = frames.leaks().runs().map(|run| (run.frames.start.0, (run.frames.count, run.owner)));
            prop_assert!(live.eq(runs.iter().map(|(&start, &run)| (start, run))));
            let held: usize = runs.values().map(|(count, _)| count).sum();
            prop_assert_eq!(frames.free_frames(), 500 - held);
            let (site_runs, site_frames) = frames.hot_sites().sites().fold((0, 0), |(runs, frames), site| {
                (runs + site.live_runs, frames + site.live_frames)
            });
            prop_assert_eq!((site_runs as usize, site_frames as usize), (runs.len(), held));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 16, ..ProptestConfig::default() })]

    /// The table foretells how many runs of an order can be had, of every allocator, whatever was done before.
    #[test]
    fn as_many_runs_can_be_had_as_the_table_says(program in prop::collection::vec((1usize..700, 0usize..4), 1..60)) {
        let classic = ClassicBuddyAllocator::new_in(&holey(), &SystemAllocator).expect("memory");
        let buddy = BuddyAllocator::new_in(&holey(), Order::MIN, &SystemAllocator).expect("memory");
        let (bitmap, hybrid) = (bitmap(&holey()), hybrid(&holey()));
        for frames in [&classic as &dyn FrameAllocator, &buddy, &bitmap, &hybrid] {
            let runs: Vec<_> = program.iter().filter_map(|&(count, _)| frames.alloc(&Request::frames(count)).ok()).collect();
            for (run, _) in runs.iter().zip(&program).filter(|(_, step)| step.1 > 0) {
                prop_assert_eq!(frames.free(*run), Ok(()));
            }
            for order in [3, 5, 6, 9, 10, 13, 15].map(order) {
                let areas = FreeAreas::of(frames);
                prop_assert_eq!(areas.free_frames(), frames.free_frames());
                let had: Vec<Frame> = core::iter::from_fn(|| frames.alloc_order(order).ok()).collect();
                prop_assert_eq!(areas.suitable(order), had.len(), "{:?}", order);
                prop_assert_eq!(areas.fragmentation_index(order).get() == -1000, !had.is_empty());
                had.into_iter().for_each(|run| assert_eq!(frames.free_order(run, order), Ok(())));
            }
        }
    }
}
