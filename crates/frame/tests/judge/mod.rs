//! One judge for every allocator of frames: random programs against a set of frames, and the contract's clauses one by
//! one.
//!
//! ```text
//!  program  ──▶ allocator   what it gives: disjoint, exact, aligned, within, in the map
//!     │                     what it refuses: nothing has changed
//!     └───────▶ BTreeSet    every frame that is handed out
//! ```

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use terrace_frame::{Frame, FrameAllocator, FrameError, Frames, MapEntry, MemoryMap, Misuse, Order, Request, ZoneType};

/// What an allocator is like, for the judge.
#[derive(Clone, Copy)]
pub struct Traits {
    /// It takes back runs as they were handed out only.
    pub boundaries: bool,
    /// Frames in its smallest run.
    pub leaf: usize,
    /// Whether a run of one frame is always found while one is free.
    pub exact: bool,
    /// Whether a run is had at that very place exactly if it is free.
    pub places: bool,
}

/// One step of a program.
#[derive(Clone, Debug)]
pub enum Step {
    Alloc {
        count: usize,
        alignment: u32,
        within: Option<(usize, usize)>,
        near: Option<usize>,
    },
    Order(u32),
    /// So many runs of an order at once.
    Batch(u32, usize),
    /// Frees so many runs of the same order at once, and the first of them again.
    Back(usize, usize),
    /// That very run.
    Place {
        start: usize,
        count: usize,
    },
    Free(usize),
    /// Frees a run in two parts.
    Parts(usize, usize),
    /// Frees what may be anybody's.
    Wild {
        start: usize,
        count: usize,
    },
    Drain,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![4 => 1usize..20, 2 => 20usize..600, 1 => 600usize..3000];
    let alloc = (
        count,
        prop_oneof![3 => Just(0u32), 1 => 0u32..12],
        prop_oneof![3 => Just(None), 1 => (0usize..70_000, 1usize..30_000).prop_map(Some)],
        prop_oneof![3 => Just(None), 1 => (0usize..70_000).prop_map(Some)],
    );
    let step = prop_oneof![
        4 => alloc.prop_map(|(count, alignment, within, near)| Step::Alloc { count, alignment, within, near }),
        6 => (0u32..16).prop_map(Step::Order),
        2 => (33_000usize..66_000, 1usize..1100).prop_map(|(start, count)| Step::Place { start, count }),
        3 => (0u32..12, 1usize..90).prop_map(|(order, count)| Step::Batch(order, count)),
        8 => any::<usize>().prop_map(Step::Free),
        4 => (any::<usize>(), 1usize..90).prop_map(|(which, most)| Step::Back(which, most)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Step::Parts(which, at)),
        2 => (0usize..70_000, 0usize..700).prop_map(|(start, count)| Step::Wild { start, count }),
        1 => Just(Step::Drain),
    ];
    prop::collection::vec(step, 1..120)
}

/// A map with holes, that begins and ends inside of blocks.
pub fn holey() -> MemoryMap {
    let frame = 4096u64;
    MemoryMap::new(&[
        MapEntry::usable(33_000 * frame, 30_000 * frame),
        MapEntry::reserved(34_000 * frame, 100 * frame),
        MapEntry::reserved(50_001 * frame, frame),
        MapEntry::usable(64_001 * frame, 700 * frame),
    ])
    .expect("a map")
}

struct Model<'a> {
    frames: &'a dyn FrameAllocator,
    map: &'a MemoryMap,
    traits: Traits,
    taken: BTreeSet<usize>,
    runs: BTreeMap<usize, usize>,
}

impl Model<'_> {
    /// What a run takes up: whole leaves.
    fn whole(&self, count: usize) -> usize {
        count.next_multiple_of(self.traits.leaf)
    }

    fn given(&mut self, run: Frames, request: &Request) {
        self.note(run, request);
        self.agrees();
    }

    fn note(&mut self, run: Frames, request: &Request) {
        assert_eq!(run.count, request.count, "clause 2: exactly as many");
        assert!(run.start.0.is_multiple_of(request.alignment), "clause 2: {run:?} for {request:?}");
        assert!(self.map.contains(run) && request.within.contains(run), "clause 2: {run:?} for {request:?}");
        for frame in run.start.0..run.start.0 + self.whole(run.count) {
            assert!(self.taken.insert(frame), "clause 1: frame {frame} is handed out twice");
        }
        self.runs.insert(run.start.0, run.count);
    }

    fn agrees(&self) {
        assert_eq!(self.frames.free_frames(), self.frames.total_frames() - self.taken.len());
    }

    fn give_back(&mut self, start: usize, count: usize) {
        assert_eq!(self.frames.free(Frames::new(start, count)), Ok(()));
        for frame in start..start + self.whole(count) {
            assert!(self.taken.remove(&frame));
        }
        self.agrees();
    }

    fn pick(&self, which: usize) -> Option<(usize, usize)> {
        let at = which.checked_rem(self.runs.len())?;
        self.runs.iter().nth(at).map(|(&start, &count)| (start, count))
    }

    fn alloc(&mut self, request: &Request) {
        match self.frames.alloc(request) {
            Ok(run) => self.given(run, request),
            Err(error) => {
                // Zones name the one that was asked for.
                assert!(
                    matches!(error, FrameError::OutOfMemory | FrameError::ZoneDepleted(ZoneType::Normal)),
                    "{error}"
                );
                let any_is_free = self.taken.len() < self.frames.total_frames();
                let plain = request.count == 1 && request.alignment == 1 && request.within == Frames::ALL;
                assert!(!(self.traits.exact && plain && any_is_free), "one frame is free and is not found");
                self.agrees();
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Alloc { count, alignment, within, near } => {
                let within = within.map_or(Frames::ALL, |(start, count)| Frames::new(start, count));
                let request = Request { near: near.map(Frame), ..Request::frames(count).within(within) };
                self.alloc(&request.aligned(1 << alignment));
            }
            Step::Order(order) => self.alloc(&Request::order(Order::new(order).expect("up to 20"))),
            Step::Batch(order, count) => {
                let order = Order::new(order).expect("up to 20");
                let mut runs = vec![Frame(0); count];
                let got = self.frames.alloc_batch(order, &mut runs);
                for &start in &runs[..got] {
                    self.note(Frames::of_order(start, order), &Request::order(order));
                }
                self.agrees();
            }
            Step::Back(which, most) => self.back(which, most),
            Step::Place { start, count } => {
                let run = Frames::new(start, count);
                let free = self.map.contains(run) && (start..start + count).all(|frame| !self.taken.contains(&frame));
                let request = Request::frames(count).within(run);
                match self.frames.alloc(&request) {
                    Ok(run) => self.given(run, &request),
                    Err(_) => assert!(!(self.traits.places && free), "{run:?} is free"),
                }
                self.agrees();
            }
            Step::Free(which) => {
                if let Some((start, count)) = self.pick(which) {
                    self.runs.remove(&start);
                    self.give_back(start, count);
                    let again = self.frames.free(Frames::new(start, count));
                    assert_eq!(again, Err(Misuse::AlreadyFree), "clause 4");
                    self.agrees();
                }
            }
            Step::Parts(which, at) => {
                if let Some((start, count)) =
                    self.pick(which).filter(|run| !self.traits.boundaries && run.1 > self.traits.leaf)
                {
                    let leaf = self.traits.leaf;
                    let at = (at % (count - 1) + 1).next_multiple_of(leaf).min((count - 1) / leaf * leaf);
                    self.runs.remove(&start);
                    self.give_back(start, at);
                    self.give_back(start + at, count - at);
                }
            }
            Step::Wild { start, count } => self.wild(Frames::new(start, count)),
            Step::Drain => self.frames.drain(),
        }
    }

    fn back(&mut self, which: usize, most: usize) {
        let Some((_, count)) = self.pick(which).filter(|run| run.1.is_power_of_two()) else { return };
        let order = Order::holding(count).expect("a power of two");
        let same = |run: &(&usize, &usize)| *run.1 == count && run.0.is_multiple_of(count);
        let mut runs: Vec<_> = self.runs.iter().filter(same).map(|(&start, _)| Frame(start)).take(most).collect();
        // In the order of a caller who has moved some of them.
        let half = runs.len() / 2;
        runs.rotate_left(half);
        let freed = runs.len();
        if let Some(&first) = runs.first() {
            runs.push(first);
            runs.extend(runs.get(1).copied());
        }
        let misuse = if freed == 0 { Ok(()) } else { Err((freed, Misuse::AlreadyFree)) };
        assert_eq!(self.frames.free_batch(order, &runs), misuse, "clause 4, by the index of the first");
        for run in &runs[..freed] {
            self.runs.remove(&run.0);
            for frame in run.0..run.0 + self.whole(count) {
                assert!(self.taken.remove(&frame));
            }
        }
        self.agrees();
    }

    /// Any run, freed only where that is misuse.
    fn wild(&mut self, run: Frames) {
        let touched = run.start.0..run.start.0 + self.whole(run.count);
        let legitimate = run.count > 0 && touched.clone().all(|frame| self.taken.contains(&frame));
        if !legitimate {
            let answer = self.frames.free(run);
            assert!(answer.is_err(), "clause 4: {run:?}");
            let outside = run.count == 0 || !self.map.contains(run);
            assert!(!outside || matches!(answer, Err(Misuse::Outside | Misuse::NotARun)), "{answer:?} for {run:?}");
            self.agrees();
        }
    }
}

/// Runs a program, then frees everything and wants it back as it was.
pub fn run(frames: &dyn FrameAllocator, map: &MemoryMap, traits: Traits, program: &[Step]) {
    let mut model = Model { frames, map, traits, taken: BTreeSet::new(), runs: BTreeMap::new() };
    for step in program {
        model.step(step);
    }
    let is_free = |frame: usize| frames.is_free(Frame(frame));
    for run in map.ranges() {
        for frame in [run.start.0, run.end() - 1, run.start.0 + run.count / 2] {
            let managed = traits.leaf == 1 || is_free(frame);
            assert!(!managed || is_free(frame) != model.taken.contains(&frame), "frame {frame}");
        }
    }
    for (start, count) in core::mem::take(&mut model.runs) {
        model.give_back(start, count);
    }
    frames.drain();
    let largest = Order::new(13).expect("up to 20");
    let whole = frames.alloc_order(largest).expect("what was freed is one run again");
    assert_eq!(frames.free_order(whole, largest), Ok(()));
    assert_eq!(frames.free_frames(), frames.total_frames());
}

/// Bad requests and bad frees, each with its answer, after which everything is as it was.
pub fn refuses_what_is_bad(frames: &dyn FrameAllocator, map: &MemoryMap) {
    let free = frames.free_frames();
    let span = map.span();
    let answer = |request: Request| frames.alloc(&request).unwrap_err();
    assert_eq!(answer(Request::frames(0)), FrameError::InvalidSize);
    assert_eq!(answer(Request::frames(usize::MAX)), FrameError::InvalidSize);
    assert_eq!(answer(Request::frames((1 << 20) + 1)), FrameError::InvalidSize);
    assert_eq!(answer(Request::frames(span.count + 1)), FrameError::OutOfMemory);
    assert_eq!(answer(Request::order(Order::MAX)), FrameError::OutOfMemory);
    assert_eq!(answer(Request::frames(1).aligned(0)), FrameError::InvalidAlignment);
    assert_eq!(answer(Request::frames(1).aligned(12)), FrameError::InvalidAlignment);
    assert_eq!(answer(Request::frames(1).aligned(1 << 21)), FrameError::InvalidAlignment);
    assert_eq!(answer(Request::frames(1).within(Frames::new(0, 0))), FrameError::OutOfMemory);
    assert_eq!(answer(Request::frames(1).within(Frames::new(span.end(), 9))), FrameError::OutOfMemory);
    assert_eq!(answer(Request::frames(2).within(Frames::new(span.start.0, 1))), FrameError::OutOfMemory);
    assert_eq!(frames.free_frames(), free);
    for run in [
        Frames::new(span.start.0, 0),
        Frames::new(span.end(), 1 << 13),
        Frames::new(0, 1 << 13),
        Frames::new(usize::MAX & !((1 << 20) - 1), 1 << 20),
        Frames::ALL,
    ] {
        assert_eq!(frames.free(run), Err(Misuse::Outside), "{run:?}");
    }
    let run = frames.alloc_order(Order::new(9).expect("up to 20")).expect("there is room");
    assert_eq!(frames.free_order(Frame(run.0 + 1), Order::new(9).expect("up to 20")), Err(Misuse::NotARun));
    assert_eq!(frames.free(Frames::new(run.0, 512)), Ok(()));
    assert_eq!(frames.free(Frames::new(run.0, 512)), Err(Misuse::AlreadyFree));
    assert_eq!(frames.free_frames(), free);
}

/// Batches are as many single calls, up to the first that fails; in whichever order the runs come back.
pub fn batches_are_calls_in_a_row(frames: &dyn FrameAllocator) {
    for order in [0, 2, 5, 6, 8, 9, 10, 12].into_iter().filter_map(Order::new) {
        let free = frames.free_frames();
        let mut runs = vec![Frame(0); 100_000];
        let count = frames.alloc_batch(order, &mut runs);
        assert!(count < runs.len());
        assert!(frames.alloc_order(order).is_err(), "the batch took all");
        if count < 6 {
            // Too few for thirds: several nodes have few runs of many frames.
            assert!(order.log2() > 10);
            assert_eq!(frames.free_batch(order, &runs[..count]), Ok(()));
            continue;
        }
        let distinct: BTreeSet<_> = runs[..count].iter().collect();
        assert_eq!(distinct.len(), count);
        assert_eq!(frames.free_frames(), free - count * order.frames());
        let third = count / 3;
        assert_eq!(frames.free_batch(order, &runs[..third]), Ok(()));
        runs[third..2 * third].reverse();
        assert_eq!(frames.free_batch(order, &runs[third..2 * third]), Ok(()));
        // The third of these is free by then, so that it is a misuse, and what stands behind it is not freed.
        let (kept, last) = (2 * third + 1, runs[count - 1]);
        let mixed = [runs[2 * third], last, runs[2 * third], runs[kept]];
        assert_eq!(frames.free_batch(order, &mixed), Err((2, Misuse::AlreadyFree)));
        assert_eq!(frames.free_frames(), free - (count - 2 * third - 2) * order.frames());
        assert_eq!(frames.free_batch(order, &runs[kept..count - 1]), Ok(()));
        assert_eq!(frames.free_batch(order, &[Frame(usize::MAX)]).map_err(|error| error.0), Err(0));
        assert_eq!(frames.free_frames(), free);
        frames.drain();
    }
}
