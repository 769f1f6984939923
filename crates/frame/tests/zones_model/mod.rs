//! A model of zones, frame by frame: random machines, random loads, and for each answer whether it had to be so.
//!
//! ```text
//!  machine   ranges, holes, watermarks, a reserve, huge pages, devices ── good? ──▶ ZonedAllocator
//!  load      requests for zones, urgent ones, frees in parts and of anything  ──▶ what it gives: whose, from where
//!                                                                                 what it refuses: had it to?
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use proptest::prelude::*;
use terrace_frame::{
    Frame, FrameAllocator, FrameError, Frames, MapEntry, MemoryMap, MemoryZone, Misuse, Pressure, Request, Watermarks,
    ZoneConfig, ZoneError, ZonePressure, ZoneType, ZonedAllocator,
};
use terrace_sync::Slots;

const LARGE: usize = 512;
const ZONES: [ZoneType; 4] = [ZoneType::Dma, ZoneType::Normal, ZoneType::HugePage, ZoneType::Device];
const DEVICES: [(&str, Frames); 2] = [("screen", Frames::new(20_000, 700)), ("net", Frames::new(21_000, 64))];

#[derive(Clone, Debug)]
pub struct Machine {
    ranges: Vec<(usize, usize, bool)>,
    dma_end: usize,
    /// Watermarks and the reserve are in thousandths of their zone's frames.
    dma: Option<[usize; 3]>,
    normal: Option<[usize; 3]>,
    reserve: Option<usize>,
    large: usize,
}

/// Thousandths of so many frames.
fn marks_of(parts: Option<[usize; 3]>, frames: usize) -> Option<[usize; 3]> {
    parts.map(|parts| parts.map(|part| frames * part / 1000))
}

pub fn machine() -> impl Strategy<Value = Machine> {
    let range = (0usize..9000, 1usize..5000, prop::bool::weighted(0.7));
    let marks = prop_oneof![
        1 => Just(None),
        1 => Just(Some([0, 0, 0])),
        4 => prop::array::uniform3(0usize..400).prop_map(|mut marks| {
            marks.sort_unstable();
            Some(marks)
        }),
        1 => prop::array::uniform3(0usize..1100).prop_map(Some),
    ];
    let reserve = prop_oneof![1 => Just(None), 3 => (0usize..700).prop_map(Some)];
    (prop::collection::vec(range, 1..7), 0usize..6000, marks.clone(), marks, reserve, 0usize..4).prop_map(
        |(ranges, dma_end, dma, normal, reserve, large)| Machine { ranges, dma_end, dma, normal, reserve, large },
    )
}

#[derive(Clone, Debug)]
pub enum Step {
    Alloc {
        zone: usize,
        count: usize,
        alignment: u32,
        within: Option<(usize, usize)>,
        urgent: bool,
    },
    /// So many single frames, for a zone.
    Many {
        zone: usize,
        count: usize,
    },
    Device {
        which: usize,
        count: usize,
    },
    Free(usize),
    /// Frees a run in two parts.
    Parts(usize, usize),
    /// Frees so many of the runs.
    Most(usize),
    /// Frees what may be anybody's.
    Wild {
        start: usize,
        count: usize,
    },
}

pub fn load() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![4 => 1usize..20, 2 => 20usize..600, 1 => Just(LARGE), 1 => Just(2 * LARGE)];
    let within = prop_oneof![3 => Just(None), 1 => (0usize..14_000, 1usize..9000).prop_map(Some)];
    let alloc = (0usize..4, count, prop_oneof![4 => Just(0u32), 1 => 0u32..11], within, prop::bool::weighted(0.2));
    let step = prop_oneof![
        6 => alloc.prop_map(|(zone, count, alignment, within, urgent)| Step::Alloc { zone, count, alignment, within, urgent }),
        4 => (0usize..2, 1usize..3000).prop_map(|(zone, count)| Step::Many { zone, count }),
        2 => (0usize..3, 1usize..300).prop_map(|(which, count)| Step::Device { which, count }),
        6 => any::<usize>().prop_map(Step::Free),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Step::Parts(which, at)),
        2 => (0usize..4000).prop_map(Step::Most),
        2 => (0usize..22_000, 0usize..900).prop_map(|(start, count)| Step::Wild { start, count }),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the model knows of a zone.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    total: usize,
    free: usize,
    marks: [usize; 3],
    reserve: usize,
    allocations: u64,
    fallbacks: u64,
    refusals: u64,
}

type Told = (ZoneType, Pressure, usize);

struct Model<'a, S, F> {
    zones: &'a ZonedAllocator<'a, S, F>,
    of: BTreeMap<usize, ZoneType>,
    taken: BTreeSet<usize>,
    runs: Vec<Frames>,
    state: [Zone; 4],
    levels: [Pressure; 4],
    told: &'a RefCell<Vec<Told>>,
}

impl<S: Slots + Clone, F: Fn(&ZonePressure)> Model<'_, S, F> {
    fn zone(&mut self, zone: ZoneType) -> &mut Zone {
        &mut self.state[zone as usize]
    }

    /// The level that hysteresis says, and that the hook has heard of it, and of nothing else.
    fn heard(&mut self, zone: ZoneType) {
        let Zone { marks: [min, low, high], free, .. } = *self.zone(zone);
        let before = self.levels[zone as usize];
        let level = match before {
            _ if free >= high => Pressure::Calm,
            _ if free <= min && free < low => Pressure::Min,
            Pressure::Min if free < low => Pressure::Min,
            Pressure::Calm if free >= low => Pressure::Calm,
            _ => Pressure::Low,
        };
        let expected = if level == before { Vec::new() } else { vec![(zone, level, free)] };
        assert_eq!(self.told.take(), expected, "{:?}", self.zone(zone));
        self.levels[zone as usize] = level;
    }

    fn agrees(&mut self) {
        for zone in ZONES {
            let (ours, model) = (self.zones.counts(zone), *self.zone(zone));
            assert_eq!((ours.total, ours.free, ours.reserve), (model.total, model.free, model.reserve), "{zone:?}");
            let calls = (ours.allocations, ours.fallbacks, ours.refusals);
            assert_eq!(calls, (model.allocations, model.fallbacks, model.refusals), "{zone:?}");
        }
        let ordinary = self.state[ZoneType::Dma as usize].free + self.state[ZoneType::Normal as usize].free;
        assert_eq!(self.zones.free_frames(), ordinary);
    }

    /// How many frames such a request leaves in a zone.
    fn floor(&self, zone: ZoneType, fallback: bool, urgent: bool) -> usize {
        let Zone { marks, reserve, .. } = self.state[zone as usize];
        (if urgent { 0 } else { marks[0] }) + if fallback { reserve } else { 0 }
    }

    fn given(&mut self, asked: ZoneType, request: &Request, run: Frames, urgent: bool) {
        assert!(run.count == request.count && run.start.0.is_multiple_of(request.alignment), "{run:?} for {request:?}");
        assert!(request.within.contains(run), "{run:?} for {request:?}");
        let zone = self.of[&run.start.0];
        for frame in run.start.0..run.end() {
            assert_eq!(self.of.get(&frame), Some(&zone), "a run lies in one zone");
            assert!(self.taken.insert(frame), "frame {frame} is handed out twice");
        }
        let fallback = zone != asked;
        assert!(!fallback || (asked, zone) == (ZoneType::Normal, ZoneType::Dma), "{asked:?} got {zone:?}");
        let floor = self.floor(zone, fallback, urgent);
        let state = self.zone(zone);
        state.free -= run.count;
        assert!(state.free >= floor, "a reserve is broken: {state:?} after {request:?} for {asked:?}");
        state.allocations += 1;
        state.fallbacks += u64::from(fallback);
        self.runs.push(run);
        self.heard(zone);
    }

    /// A single frame is refused, or found elsewhere, where none is left for it only.
    fn had_to(&self, asked: ZoneType, zone: ZoneType, request: &Request, urgent: bool) {
        let plain = request.count == 1 && request.alignment == 1 && request.within == Frames::ALL;
        if plain && matches!(zone, ZoneType::Dma | ZoneType::Normal) {
            let floor = self.floor(zone, zone != asked, urgent);
            let state = &self.state[zone as usize];
            assert!(state.free <= floor, "one more could be had of {zone:?} for {asked:?}: {state:?}");
        }
    }

    fn alloc(&mut self, asked: ZoneType, request: &Request, urgent: bool) -> bool {
        let zones = self.zones;
        let answer = if urgent { zones.alloc_urgent(asked, request) } else { zones.alloc_in(asked, request) };
        self.answered(asked, request, answer, urgent)
    }

    fn answered(
        &mut self,
        asked: ZoneType,
        request: &Request,
        answer: Result<Frames, FrameError>,
        urgent: bool,
    ) -> bool {
        match answer {
            Ok(run) => {
                if self.of[&run.start.0] != asked {
                    self.had_to(asked, asked, request, urgent);
                }
                self.given(asked, request, run, urgent);
            }
            Err(FrameError::InvalidSize) => {
                assert!(asked == ZoneType::HugePage && !request.count.is_multiple_of(LARGE), "{request:?}");
            }
            Err(error) => {
                assert_eq!(error, FrameError::ZoneDepleted(asked));
                self.had_to(asked, asked, request, urgent);
                if asked == ZoneType::Normal {
                    self.had_to(asked, ZoneType::Dma, request, urgent);
                }
                self.zone(asked).refusals += 1;
                assert_eq!(self.told.take(), [], "a refusal is no change");
            }
        }
        answer.is_ok()
    }

    fn give_back(&mut self, run: Frames) {
        assert_eq!(self.zones.free(run), Ok(()));
        for frame in run.start.0..run.end() {
            assert!(self.taken.remove(&frame));
        }
        let zone = self.of[&run.start.0];
        self.zone(zone).free += run.count;
        self.heard(zone);
    }

    fn wild(&mut self, run: Frames) {
        let mut frames = run.start.0..run.end();
        if run.count > 0 && frames.clone().all(|frame| self.taken.contains(&frame)) {
            return; // Somebody's, and no misuse.
        }
        let outside = run.count == 0 || !frames.all(|frame| self.of.contains_key(&frame));
        let misuse = if outside { Misuse::Outside } else { Misuse::AlreadyFree };
        assert_eq!(self.zones.free(run), Err(misuse), "{run:?}");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Alloc { zone, count, alignment, within, urgent } => {
                let within = within.map_or(Frames::ALL, |(start, count)| Frames::new(start, count));
                let request = Request::frames(count).aligned(1 << alignment).within(within);
                self.alloc(ZONES[zone], &request, urgent);
            }
            Step::Many { zone, count } => {
                (0..count).all(|_| self.alloc(ZONES[zone], &Request::frames(1), false));
            }
            Step::Device { which, count } => {
                let (name, request) = (["screen", "net", "none"][which], Request::frames(count));
                let answer = self.zones.alloc_device(name, &request);
                let inside = |run: &Frames| DEVICES[which].1.contains(*run);
                assert!(answer.as_ref().map_or(true, inside), "{answer:?} for {name}");
                self.answered(ZoneType::Device, &request, answer, false);
            }
            Step::Free(which) => {
                if let Some(at) = which.checked_rem(self.runs.len()) {
                    let run = self.runs.swap_remove(at);
                    self.give_back(run);
                    self.wild(run);
                }
            }
            Step::Parts(which, at) => {
                let Some(index) = which.checked_rem(self.runs.len()) else { return };
                let run = self.runs[index];
                if run.count > 1 {
                    self.runs.swap_remove(index);
                    let at = at % (run.count - 1) + 1;
                    self.give_back(Frames::new(run.start.0, at));
                    self.give_back(Frames::new(run.start.0 + at, run.count - at));
                }
            }
            Step::Most(count) => {
                for _ in 0..count {
                    let Some(run) = self.runs.pop() else { break };
                    self.give_back(run);
                }
            }
            Step::Wild { start, count } => self.wild(Frames::new(start, count)),
        }
        self.agrees();
    }
}

/// Whether the machine must be refused, where it has as many pages as asked for.
fn is_bad(machine: &Machine, dma: usize, normal: usize) -> bool {
    let bad = |parts: Option<[usize; 3]>, frames: usize| {
        marks_of(parts, frames).is_some_and(|[min, low, high]| min > low || low > high || high > frames)
    };
    let all = dma + normal;
    let share = || (Watermarks::for_frames(all).min * dma).checked_div(all).unwrap_or(0);
    let min = marks_of(machine.dma, dma).map_or_else(share, |marks| marks[0]);
    let reserve = machine.reserve.map_or(0, |parts| dma * parts / 1000);
    bad(machine.dma, dma) || bad(machine.normal, normal) || reserve + min > dma || all == 0
}

/// Makes the machine, runs the load on it, and wants everything back.
pub fn run<S: Slots + Clone>(machine: &Machine, load: &[Step], slots: &S) {
    let entry = |&(start, count, usable): &(usize, usize, bool)| {
        let make = if usable { MapEntry::usable } else { MapEntry::reserved };
        make(start as u64 * 4096, count as u64 * 4096 / if usable { 1 } else { 8 })
    };
    let Ok(map) = MemoryMap::new(&machine.ranges.iter().map(entry).collect::<Vec<_>>()) else { return };
    let mut notes = DEVICES.map(|(_, range)| vec![0; MemoryZone::metadata_bytes(range.count, slots.count()) / 8]);
    let mut notes = notes.iter_mut();
    let devices = DEVICES.map(|(name, range)| {
        MemoryZone::device_with_slots(name, range, slots.clone(), notes.next().expect("one for each"))
            .expect("a device")
    });
    let marks = |parts: Option<[usize; 3]>, frames: usize| {
        marks_of(parts, frames).map(|[min, low, high]| Watermarks { min, low, high })
    };
    let below: usize = map.ranges().iter().map(|range| range.shared_with(Frames::new(0, machine.dma_end)).count).sum();
    // Not what Normal has, where there are too few pages: then nothing comes of it.
    let normal = (map.count() - below).saturating_sub(machine.large * LARGE);
    let config = ZoneConfig {
        dma_end: Frame(machine.dma_end),
        dma: marks(machine.dma, below),
        normal: marks(machine.normal, normal),
        dma_reserve: machine.reserve.map(|parts| below * parts / 1000),
        large_pages: machine.large,
        devices: &devices,
        ..ZoneConfig::default()
    };
    let told = RefCell::new(Vec::new());
    let hook = |now: &ZonePressure| told.borrow_mut().push((now.zone, now.level, now.free));
    let bytes = ZonedAllocator::metadata_bytes(&map, &config, slots.count());
    let mut storage = vec![0; bytes.unwrap_or(0) / 8];
    let zones = match ZonedAllocator::with_slots(&map, &config, slots.clone(), hook, &mut storage) {
        Ok(zones) => zones,
        Err(ZoneError::TooFewPages(_)) => return assert!(machine.large > 0),
        Err(error) => return assert!(is_bad(machine, below, normal), "{error}"),
    };
    assert!(!is_bad(machine, below, normal), "it was to be refused");

    let mut model = Model {
        zones: &zones,
        of: BTreeMap::new(),
        taken: BTreeSet::new(),
        runs: Vec::new(),
        state: Default::default(),
        levels: [Pressure::Calm; 4],
        told: &told,
    };
    for zone in zones.zones() {
        for range in zone.map().ranges() {
            for frame in range.start.0..range.end() {
                assert_eq!(model.of.insert(frame, zone.kind()), None, "frame {frame} is in two zones");
                let below = zone.kind() == ZoneType::Dma;
                assert!(zone.kind() == ZoneType::Device || below == (frame < machine.dma_end));
            }
        }
        let (marks, total) = (zone.watermarks(), zone.total_frames());
        let state = model.zone(zone.kind());
        (state.total, state.free) = (state.total + total, state.free + total);
        (state.marks, state.reserve) = ([marks.min, marks.low, marks.high], zone.reserve());
    }
    assert_eq!(model.of.len(), map.count() + 764);
    load.iter().for_each(|step| model.step(step));
    while let Some(run) = model.runs.pop() {
        model.give_back(run);
    }
    model.agrees();
    let calm =
        |zone: &MemoryZone<'_, S>| zone.pressure() == Pressure::Calm && zone.free_frames() == zone.total_frames();
    assert!(zones.zones().all(calm));
}
