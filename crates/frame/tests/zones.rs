//! Zones: what each promise of `zones.rs` means for single calls, and random machines under random loads.

mod zones_model;

use std::{
    cell::{Cell, RefCell},
    process::{Command, Stdio},
};

use proptest::prelude::*;
use terrace_core::SystemAllocator;
use terrace_frame::{
    Frame, FrameAllocator, FrameError, Frames, MapEntry, MemoryMap, MemoryZone, Misuse, Order, PageSize, Pressure,
    Region, Request, Watermarks, ZoneConfig, ZoneCounts, ZoneError, ZonePressure, ZoneType, ZonedAllocator,
};
use terrace_sync::{NoSlots, Slots};

const NONE: Option<Watermarks> = Some(Watermarks::NONE);
const LARGE: usize = 512;

fn marks(min: usize, low: usize, high: usize) -> Option<Watermarks> {
    Some(Watermarks { min, low, high })
}

/// 32 MiB: half of it is the zone DMA.
fn small() -> MemoryMap {
    MemoryMap::of(Frames::new(0, 8192)).expect("a map")
}

fn storage(map: &MemoryMap, config: &ZoneConfig) -> Vec<u64> {
    vec![0; ZonedAllocator::metadata_bytes(map, config, 0).expect("a good configuration") / 8]
}

fn one() -> Request {
    Request::frames(1)
}

/// Takes single frames until the zone refuses, and says how many there were.
fn exhaust(zones: &ZonedAllocator, zone: ZoneType) -> usize {
    let mut count = 0;
    let answer = loop {
        match zones.alloc_in(zone, &one()) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(answer, FrameError::ZoneDepleted(zone));
    count
}

#[test]
fn normal_falls_back_to_dma_and_leaves_its_reserve() {
    let config = ZoneConfig {
        dma: marks(16, 32, 64),
        normal: marks(100, 200, 300),
        dma_reserve: Some(1000),
        ..ZoneConfig::default()
    };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");

    let normal = 4096 - 100;
    assert_eq!(exhaust(&zones, ZoneType::Normal), normal + 4096 - 1016);
    let dma = zones.counts(ZoneType::Dma);
    let fallbacks = 4096 - 1016;
    assert_eq!(
        dma,
        ZoneCounts { total: 4096, free: 1016, reserve: 1000, allocations: fallbacks, fallbacks, refusals: 0 }
    );
    let allocations = normal as u64;
    let normal = ZoneCounts { total: 4096, free: 100, reserve: 0, allocations, fallbacks: 0, refusals: 1 };
    assert_eq!(zones.counts(ZoneType::Normal), normal);

    // The reserve is for those who ask for it; `min` is for urgent ones.
    assert_eq!(exhaust(&zones, ZoneType::Dma), 1000);
    for _ in 0..100 {
        let run = zones.alloc_urgent(ZoneType::Normal, &one()).expect("min is theirs");
        assert!(run.start >= Frame(4096), "{run:?}");
    }
    let answer = zones.alloc_urgent(ZoneType::Normal, &one());
    assert_eq!(answer, Err(FrameError::ZoneDepleted(ZoneType::Normal)), "16 are left in DMA, the reserve is 1000");
    for _ in 0..16 {
        zones.alloc_urgent(ZoneType::Dma, &one()).expect("min is theirs");
    }
    assert_eq!(zones.alloc_urgent(ZoneType::Dma, &one()), Err(FrameError::ZoneDepleted(ZoneType::Dma)));
    assert_eq!(zones.free_frames(), 0);
}

#[test]
fn an_urgent_request_that_falls_back_leaves_the_reserve_too() {
    let config = ZoneConfig { dma: marks(16, 16, 16), normal: NONE, dma_reserve: Some(1000), ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    let count = (0..).take_while(|_| zones.alloc_urgent(ZoneType::Normal, &one()).is_ok()).count();
    assert_eq!((count, zones.counts(ZoneType::Dma).free), (4096 + 3096, 1000));
}

#[test]
fn each_zone_is_named_when_it_is_depleted() {
    let mut notes = vec![0; MemoryZone::metadata_bytes(64, 0) / 8];
    let devices = [MemoryZone::device("net", Frames::new(1 << 20, 64), &mut notes).expect("a device")];
    let config = ZoneConfig {
        dma: NONE,
        normal: NONE,
        dma_reserve: Some(0),
        large_pages: 2,
        devices: &devices,
        ..ZoneConfig::default()
    };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    let depleted = |zone| Err(FrameError::ZoneDepleted(zone));

    // What a zone could never have is said with the same words.
    let (giant, large) = (Request::order(PageSize::Giant.order()), Request::order(PageSize::Large.order()));
    assert_eq!(zones.alloc_in(ZoneType::HugePage, &giant), depleted(ZoneType::HugePage));
    assert_eq!(zones.alloc_in(ZoneType::Dma, &giant), depleted(ZoneType::Dma));
    assert_eq!(zones.alloc(&giant), depleted(ZoneType::Normal));
    assert_eq!(zones.alloc_order(Order::MAX), Err(FrameError::ZoneDepleted(ZoneType::Normal)));
    assert_eq!(zones.alloc(&one().within(Frames::new(1 << 20, 64))), depleted(ZoneType::Normal));

    for _ in 0..2 {
        zones.alloc_in(ZoneType::HugePage, &large).expect("there are two");
    }
    assert_eq!(zones.alloc_in(ZoneType::HugePage, &large), depleted(ZoneType::HugePage));
    zones.alloc_device("net", &Request::frames(64)).expect("all of it");
    assert_eq!(zones.alloc_device("net", &one()), depleted(ZoneType::Device));
    assert_eq!(zones.alloc_device("none", &one()), depleted(ZoneType::Device));
    assert_eq!(exhaust(&zones, ZoneType::Dma), 4096);
    assert_eq!(exhaust(&zones, ZoneType::Normal), 4096 - 2 * LARGE);
    assert_eq!(zones.counts(ZoneType::Device).refusals, 2);
    assert_eq!(zones.counts(ZoneType::HugePage).refusals, 2);
    assert_eq!(zones.counts(ZoneType::Dma).refusals, 2);
    assert_eq!(zones.counts(ZoneType::Normal).refusals, 4);
}

#[test]
fn silly_requests_are_named_and_counted_nowhere() {
    let config = ZoneConfig { large_pages: 2, ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    for zone in [ZoneType::Dma, ZoneType::Normal, ZoneType::HugePage, ZoneType::Device] {
        let before = zones.counts(zone);
        let error = |request: Request| zones.alloc_in(zone, &request).unwrap_err();
        assert_eq!(error(Request::frames(0)), FrameError::InvalidSize);
        assert_eq!(error(Request::frames(usize::MAX)), FrameError::InvalidSize);
        assert_eq!(error(Request::frames(LARGE).aligned(3)), FrameError::InvalidAlignment);
        assert_eq!(zones.counts(zone), before);
    }
    let parts = Request::frames(LARGE + 1);
    assert_eq!(zones.alloc_in(ZoneType::HugePage, &parts), Err(FrameError::InvalidSize), "whole pages only");
}

#[test]
fn a_devices_frames_go_to_who_names_it() {
    let (screen, net) = (Frames::new(0xe_0000, 300), Frames::new(0xf_0000, 64));
    let mut notes = [0; 2].map(|_| vec![0; MemoryZone::metadata_bytes(300, 0) / 8]);
    let [first, second] = &mut notes;
    let devices = [
        MemoryZone::device("screen", screen, first).expect("a device"),
        MemoryZone::device("net", net, second).expect("a device"),
    ];
    let config = ZoneConfig { devices: &devices, ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    let depleted = Err(FrameError::ZoneDepleted(ZoneType::Device));

    assert!(screen.contains(zones.alloc_device("screen", &Request::frames(10)).expect("by name")));
    assert!(net.contains(zones.alloc_in(ZoneType::Device, &one().within(net)).expect("by range")));
    assert_eq!(zones.alloc_in(ZoneType::Device, &one()), depleted, "which one?");
    assert_eq!(zones.alloc_in(ZoneType::Device, &one().within(Frames::new(0xe_0000, 0x1_0040))), depleted, "two");
    assert_eq!(zones.alloc_device("screen", &one().within(net)), depleted, "another's");
    assert_eq!(zones.alloc(&one().within(screen)), Err(FrameError::ZoneDepleted(ZoneType::Normal)));

    // A layer above never takes it for memory.
    assert!(!zones.manages(screen) && !zones.is_free(Frame(0xf_0030)) && zones.span() == Frames::new(0, 8192));
    assert_eq!((zones.total_frames(), zones.counts(ZoneType::Device).total), (8192, 364));
}

#[test]
fn huge_pages_leave_whole_and_come_back_in_parts() {
    // Two pages of 1 GiB and three of 2 MiB, in 3 GiB.
    let map = MemoryMap::of(Frames::new(0, 3 << 18)).expect("a map");
    let config = ZoneConfig { large_pages: 3, giant_pages: 2, ..ZoneConfig::default() };
    let mut words = storage(&map, &config);
    let zones = ZonedAllocator::new(&map, &config, &mut words).expect("zones");
    let (giant, large) = (Request::order(PageSize::Giant.order()), Request::order(PageSize::Large.order()));
    let get = |request: &Request| zones.alloc_in(ZoneType::HugePage, request);

    let pages = [get(&large), get(&large), get(&large)].map(|page| page.expect("there are three"));
    assert!(pages.iter().all(|page| page.start.0 % LARGE == 0 && page.count == LARGE));
    assert!(get(&large).is_err(), "a giant page is not broken up");
    let page = get(&giant).expect("there are two");
    assert!(page.start.0 % (1 << 18) == 0);
    assert_eq!(zones.counts(ZoneType::HugePage).free, 1 << 18);

    // Half a page is free, but is no page.
    let (low, high) = (Frames::new(pages[0].start.0, 256), Frames::new(pages[0].start.0 + 256, 256));
    assert_eq!(zones.free(low), Ok(()));
    assert_eq!(zones.counts(ZoneType::HugePage).free, (1 << 18) + 256);
    assert!(get(&large).is_err() && zones.free(low) == Err(Misuse::AlreadyFree));
    assert_eq!(zones.free(high), Ok(()));
    assert_eq!(get(&large), Ok(pages[0]));
    assert_eq!(zones.free(page), Ok(()));
    assert_eq!(zones.alloc_in(ZoneType::HugePage, &Request::frames(2 << 18)).expect("both").count, 2 << 18);
    // Ordinary requests never got any of it.
    assert!(!zones.manages(pages[1]) && zones.total_frames() == (1 << 18) - 3 * LARGE);
}

#[test]
fn pressure_is_told_once_and_with_hysteresis() {
    let told = RefCell::new(Vec::new());
    let hook = |now: &ZonePressure| told.borrow_mut().push((now.zone, now.level, now.free));
    let config = ZoneConfig { normal: marks(10, 20, 40), dma: NONE, dma_reserve: Some(0), ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::with_slots(&small(), &config, NoSlots, hook, &mut words).expect("zones");
    let normal = Frames::new(4096, 4096);
    let mut runs = Vec::new();
    let mut down_to = |free: usize| {
        while zones.counts(ZoneType::Normal).free > free {
            runs.push(zones.alloc(&one().within(normal)).expect("above min"));
        }
        while zones.counts(ZoneType::Normal).free < free {
            zones.free(runs.pop().expect("they are ours")).expect("they are ours");
        }
        told.take()
    };
    let event = |level, free| vec![(ZoneType::Normal, level, free)];
    assert_eq!(down_to(20), []);
    assert_eq!(down_to(19), event(Pressure::Low, 19));
    assert_eq!(down_to(39), []);
    assert_eq!(down_to(11), []);
    assert_eq!(down_to(10), event(Pressure::Min, 10));
    assert_eq!(down_to(19), []);
    assert_eq!(down_to(20), event(Pressure::Low, 20));
    assert_eq!(down_to(10), event(Pressure::Min, 10));
    assert_eq!(down_to(40), [event(Pressure::Low, 20), event(Pressure::Calm, 40)].concat());
    assert_eq!(down_to(21), []);
}

/// The word that two zones share, and those around it.
#[test]
fn a_word_of_free_bits_says_what_64_questions_say() {
    let config = ZoneConfig { dma_end: Frame(4000), large_pages: 1, ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    for frame in [3990, 3999, 4000, 4031, 4032] {
        zones.alloc(&one().within(Frames::new(frame, 1))).expect("it is free");
    }
    for word in (0..130).chain([usize::MAX / 64, usize::MAX]) {
        let first = word.checked_mul(64);
        let is_free = |bit: &usize| first.is_some_and(|first| zones.is_free(Frame(first + bit)));
        let bits = (0..64).filter(is_free).fold(0, |bits, bit| bits | 1u64 << bit);
        assert_eq!(zones.free_word(word), bits, "word {word}");
    }
}

/// Callers come from one slot after the other, and from none.
#[derive(Default)]
struct Turns(Cell<usize>);

// SAFETY: one thread, which leaves before it enters again.
unsafe impl Slots for Turns {
    fn count(&self) -> usize {
        3
    }

    fn enter(&self) -> usize {
        self.0.set((self.0.get() + 1) % 4);
        self.0.get()
    }
}

/// A zone's allocator that its own hook reaches.
struct Reclaim<'a> {
    zones: &'a Cell<Option<&'a dyn FrameAllocator>>,
    caches: &'a RefCell<Vec<Frames>>,
    told: &'a RefCell<Vec<Pressure>>,
}

impl terrace_frame::OnPressure for Reclaim<'_> {
    fn pressure(&self, now: &ZonePressure) {
        self.told.borrow_mut().push(now.level);
        let zones = self.zones.get().expect("set before any call");
        // It may allocate and free, and is not called inside of itself.
        let note = zones.alloc(&one()).expect("min is not reached");
        zones.free(note).expect("it is ours");
        let caches = self.caches.take();
        caches.into_iter().for_each(|run| zones.free(run).expect("it was cached"));
    }
}

#[test]
fn a_hook_reclaims_through_the_allocator_itself() {
    let (zones_cell, caches, told) = (Cell::new(None), RefCell::default(), RefCell::default());
    let config = ZoneConfig { normal: marks(10, 20, 40), dma: NONE, dma_reserve: Some(4096), ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let hook = Reclaim { zones: &zones_cell, caches: &caches, told: &told };
    let zones = ZonedAllocator::with_slots(&small(), &config, NoSlots, hook, &mut words).expect("zones");
    zones_cell.set(Some(&zones));
    for _ in 0..3 {
        for _ in 0..4096 - 40 {
            let run = zones.alloc(&one()).expect("there is room");
            caches.borrow_mut().push(run);
        }
        // 40 are free; 21 more calls, and the caches are shed.
        let runs: Vec<_> = (0..30).map(|_| zones.alloc(&one()).expect("the caches went")).collect();
        runs.into_iter().for_each(|run| zones.free(run).expect("ours"));
        assert_eq!(zones.counts(ZoneType::Normal).free, 4096);
        assert_eq!(told.take(), [Pressure::Low, Pressure::Calm]);
    }
}

/// Whether the frames on both sides of a zone's end were free when the hook heard of calm.
struct Looks<'a> {
    zones: &'a Cell<Option<&'a dyn FrameAllocator>>,
    both_free: &'a RefCell<Vec<(ZoneType, bool)>>,
}

impl terrace_frame::OnPressure for Looks<'_> {
    fn pressure(&self, now: &ZonePressure) {
        if now.level == Pressure::Calm {
            let zones = self.zones.get().expect("set before any call");
            self.both_free.borrow_mut().push((now.zone, [4095, 4096].iter().all(|&at| zones.is_free(Frame(at)))));
        }
    }
}

#[test]
fn a_hook_runs_when_a_run_of_two_zones_is_back_whole() {
    let (zones_cell, both_free) = (Cell::new(None), RefCell::default());
    let config =
        ZoneConfig { normal: marks(10, 20, 40), dma: marks(10, 20, 40), dma_reserve: Some(0), ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let hook = Looks { zones: &zones_cell, both_free: &both_free };
    let zones = ZonedAllocator::with_slots(&small(), &config, NoSlots, hook, &mut words).expect("zones");
    zones_cell.set(Some(&zones));
    for zone in [ZoneType::Dma, ZoneType::Normal] {
        zones.alloc_urgent(zone, &Request::frames(4096)).expect("all of it");
    }
    assert_eq!(zones.free(Frames::new(4000, 200)), Ok(()));
    assert_eq!(both_free.take(), [(ZoneType::Dma, true), (ZoneType::Normal, true)]);
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no process")]
fn a_hook_that_panics_aborts() {
    if std::env::var_os("TERRACE_PANICKING_ZONES").is_some() {
        let config = ZoneConfig { normal: marks(10, 4096, 4096), ..ZoneConfig::default() };
        let mut words = storage(&small(), &config);
        let hook = |_: &ZonePressure| panic!("gave up");
        let zones = ZonedAllocator::with_slots(&small(), &config, NoSlots, hook, &mut words).expect("zones");
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| zones.alloc(&one())));
        std::process::exit(0); // Not reached: an allocator does not unwind.
    }
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"));
    child.args(["a_hook_that_panics_aborts", "--exact", "--nocapture"]).env("TERRACE_PANICKING_ZONES", "1");
    let status = child.stderr(Stdio::null()).stdout(Stdio::null()).status().expect("it starts");
    assert!(!status.success());
}

#[test]
fn bad_configurations_are_named_and_nothing_is_written() {
    let map = small();
    let mut words = vec![7; 1 << 16];
    let mut refused = |config: &ZoneConfig, map: &MemoryMap| {
        let error = ZonedAllocator::new(map, config, &mut words).expect_err("it is bad");
        assert!(words.iter().all(|&word| word == 7), "{error}: storage was written");
        error
    };
    let base = ZoneConfig::default;
    let (dma, normal, huge) = (ZoneType::Dma, ZoneType::Normal, PageSize::Large);
    for bad in [(2, 1, 3), (1, 3, 2), (9, 1, 1), (usize::MAX, 1, 0)] {
        let config = ZoneConfig { dma: marks(bad.0, bad.1, bad.2), ..base() };
        assert_eq!(refused(&config, &map), ZoneError::WatermarksOutOfOrder(dma));
        let config = ZoneConfig { normal: marks(bad.0, bad.1, bad.2), ..base() };
        assert_eq!(refused(&config, &map), ZoneError::WatermarksOutOfOrder(normal));
    }
    let too_high = ZoneConfig { normal: marks(0, 1, 4097), ..base() };
    assert_eq!(refused(&too_high, &map), ZoneError::WatermarksTooHigh(normal));
    let reserve = ZoneConfig { dma: marks(16, 16, 16), dma_reserve: Some(4081), ..base() };
    assert_eq!(refused(&reserve, &map), ZoneError::ReserveTooLarge(dma));
    let reserve = ZoneConfig { dma_reserve: Some(usize::MAX), ..base() };
    assert_eq!(refused(&reserve, &map), ZoneError::ReserveTooLarge(dma));
    assert_eq!(refused(&ZoneConfig { large_pages: 9, ..base() }, &map), ZoneError::TooFewPages(huge));
    assert_eq!(refused(&ZoneConfig { giant_pages: 1, ..base() }, &map), ZoneError::TooFewPages(PageSize::Giant));

    // Zones that are empty.
    let above = MemoryMap::of(Frames::new(4096, 1024)).expect("a map");
    assert_eq!(refused(&ZoneConfig { dma: marks(0, 0, 1), ..base() }, &above), ZoneError::WatermarksTooHigh(dma));
    assert_eq!(refused(&ZoneConfig { dma_reserve: Some(1), ..base() }, &above), ZoneError::ReserveTooLarge(dma));
    assert_eq!(refused(&ZoneConfig { large_pages: 2, ..base() }, &above), ZoneError::NothingLeft);
    let below = MemoryMap::of(Frames::new(16, 1024)).expect("a map");
    assert_eq!(refused(&ZoneConfig { normal: marks(0, 0, 1), ..base() }, &below), ZoneError::WatermarksTooHigh(normal));

    let mut small_storage = vec![7; ZonedAllocator::metadata_bytes(&map, &base(), 0).expect("good") / 8 - 1];
    let answer = ZonedAllocator::new(&map, &base(), &mut small_storage);
    assert_eq!(answer.expect_err("a word too few"), ZoneError::StorageTooSmall);
    assert!(small_storage.iter().all(|&word| word == 7));
    let entries: Vec<_> = (0..64).map(|n| MapEntry::usable((5000 + 2 * n) * 4096, 4096)).collect();
    let full =
        MemoryMap::new(&[&entries[..63], &[MapEntry::usable(6000 * 4096, 4096 * 1200)]].concat()).expect("a map");
    assert_eq!(refused(&ZoneConfig { large_pages: 1, ..base() }, &full), ZoneError::TooManyRanges);
}

#[test]
fn bad_devices_are_named() {
    let mut notes = vec![7; 3 << 12];
    let (first, rest) = notes.split_at_mut(1 << 12);
    let (second, third) = rest.split_at_mut(1 << 12);
    let error = |range, words: &mut [u64]| MemoryZone::device("a", range, words).expect_err("it is bad");
    assert_eq!(error(Frames::new(9, 0), &mut *first), ZoneError::NoRange);
    assert_eq!(error(Frames::new(usize::MAX, 2), &mut *first), ZoneError::NoRange);
    assert_eq!(error(Frames::ALL, &mut *first), ZoneError::NoRange);
    assert_eq!(error(Frames::new(9, 9000), &mut first[..20]), ZoneError::StorageTooSmall);
    assert!(first.iter().all(|&word| word == 7));

    fn device<'m>(name: &'m str, range: Frames, words: &'m mut [u64]) -> MemoryZone<'m> {
        MemoryZone::device(name, range, words).expect("a device")
    }
    let far = Frames::new(9000, 100);
    let good = device("a", far, &mut *first);
    let over = [device("b", Frames::new(8191, 10), &mut *second), device("c", Frames::new(9099, 10), &mut *third)];
    let check = |devices: &[MemoryZone<'_>]| {
        let config = ZoneConfig { devices, ..ZoneConfig::default() };
        ZonedAllocator::metadata_bytes(&small(), &config, 0)
    };
    assert!(check(std::slice::from_ref(&good)).is_ok());
    assert_eq!(check(&over[..1]), Err(ZoneError::DeviceIsMemory(0)));
    let [_, touching] = over;
    assert_eq!(check(&[good, touching]), Err(ZoneError::DeviceTwice(1)));
    let (mut one, mut other) = (vec![0; 1 << 12], vec![0; 1 << 12]);
    let twins = [device("a", far, &mut one), device("a", Frames::new(9500, 10), &mut other)];
    assert_eq!(check(&twins), Err(ZoneError::DeviceTwice(1)), "the same name");
}

#[test]
fn one_run_of_several_zones_is_freed_or_nothing_is() {
    let config = ZoneConfig { dma: NONE, normal: NONE, dma_reserve: Some(0), large_pages: 1, ..ZoneConfig::default() };
    let mut words = storage(&small(), &config);
    let zones = ZonedAllocator::new(&small(), &config, &mut words).expect("zones");
    zones.alloc_in(ZoneType::HugePage, &Request::frames(LARGE)).expect("there is one");
    while zones.alloc_order(Order::MIN).is_ok() {}
    let all = Frames::new(0, 8192);
    assert_eq!(zones.free(Frames::new(4090, 1)), Ok(()));
    assert_eq!(zones.free(all), Err(Misuse::AlreadyFree), "one of them is free");
    assert_eq!(zones.free(Frames::new(0, 8193)), Err(Misuse::Outside));
    assert_eq!(zones.free(Frames::new(4000, 0)), Err(Misuse::Outside));
    assert_eq!(zones.free(Frames::new(8000, usize::MAX)), Err(Misuse::Outside));
    assert_eq!(zones.free_frames(), 1, "nothing has changed");
    assert_eq!(zones.free(Frames::new(4091, 8192 - 4091)), Ok(()));
    assert_eq!(zones.free_order(Frame(0), Order::new(13).expect("up to 20")), Err(Misuse::AlreadyFree));
    assert_eq!(zones.free(Frames::new(0, 4090)), Ok(()));
    assert_eq!(zones.free_frames() + zones.counts(ZoneType::HugePage).free, 8192);
}

#[test]
fn zones_are_memory_for_a_region() {
    use terrace_core::{Alignment, Allocator};
    const BYTES: std::num::NonZeroUsize = std::num::NonZeroUsize::new(4 << 20).unwrap();
    let page = Alignment::new(4096).expect("a power of two");
    let memory = SystemAllocator.alloc(BYTES, page).expect("memory");
    let map = MemoryMap::of(Frames::new(3584, 1024)).expect("a map");
    let config = ZoneConfig { dma: NONE, normal: NONE, dma_reserve: Some(0), ..ZoneConfig::default() };
    let mut words = storage(&map, &config);
    let zones = ZonedAllocator::new(&map, &config, &mut words).expect("zones");
    // SAFETY: 1024 frames of memory that nobody else uses.
    let region = unsafe { Region::new(memory, &zones) }.expect("a page's address");
    let half = std::num::NonZeroUsize::new(2 << 20).expect("not zero");
    let blocks = [region.alloc(half, page), region.alloc(half, page)].map(|block| block.expect("half for each zone"));
    assert!(region.alloc(half, page).is_err());
    for block in blocks {
        // SAFETY: it is live, of half the memory.
        unsafe { block.as_ptr().write_bytes(1, half.get()) };
        // SAFETY: it is live, and is not used again.
        unsafe { region.free(std::ptr::NonNull::slice_from_raw_parts(block, half.get()), page) };
    }
    assert_eq!(zones.free_frames(), 1024);
    // SAFETY: it is live, and no block of the region is.
    unsafe { SystemAllocator.free(std::ptr::NonNull::slice_from_raw_parts(memory, BYTES.get()), page) };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, ..ProptestConfig::default() })]

    #[test]
    fn no_load_breaks_a_reserve_or_gets_a_devices_frames_unasked(
        machine in zones_model::machine(), load in zones_model::load()
    ) {
        zones_model::run(&machine, &load, &NoSlots);
    }

    /// Callers come from one slot after the other, each with frames at its hand, and from none.
    #[test]
    fn slots_change_nothing_of_what_zones_do(machine in zones_model::machine(), load in zones_model::load()) {
        zones_model::run(&machine, &load, &&Turns::default());
    }
}
