//! Every allocator of ours over every sensible backing: random programs, each with every call of the backing
//! refused in turn. Prints the matrix.
//!
//! ```text
//! TERRACE_PROGRAMS=10000 cargo test --release -p terrace-testkit --test matrix -- --nocapture
//! ```
//!
//! That takes hours; `TERRACE_FROM=100` goes on with the pair that has that number, counted from 0 in the order of the lines.

use std::{
    cell::Cell,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use terrace_core::{Alignment, Allocator, SystemAllocator};
use terrace_frame::{
    BitmapAllocator, ClassicBuddyAllocator, FrameAllocator, Frames, HybridAllocator, MemoryMap, Region, TrackedFrames,
};
use terrace_heap::{
    AffixAllocator, ArenaAllocator, BucketizeAllocator, BufferFirstAllocator, Call, DebugAllocator, DebugConfig,
    FailingAllocator, FallbackAllocator, FixedBufferAllocator, FreeListAllocator, Histograms, InlineBuffer,
    LimitAllocator, LockAllocator, LogAllocator, OnOomAllocator, OutOfMemory, PoolAllocator, Pressure,
    PressureAllocator, SegregateAllocator, SmpAllocator, StackAllocator, StatsAllocator, SyncArena, SyncFixedBuffer,
    ZeroedAllocator,
    debug::{Mistake, Report},
};
use terrace_sync::NoSlots;
use terrace_sys::{MappedFile, PageAllocator, PageOptions, ReservedAllocator, ThreadSlots};
use terrace_testkit::{Check, Monitor, Programs, Start, programs};

const INLINE: usize = 4096;
/// Of the pools.
const ITEM: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Makes an allocator over a backing, and hands it on.
type Layer = (&'static str, fn(&Start, &dyn Allocator, &mut Check<'_>));
/// Makes a backing, and hands it on.
type Base = (&'static str, fn(&Start, &mut Check<'_>));

/// Regions that the ground, which serves no stricter alignment than 128 KiB, can give.
const SMALL_REGION: usize = 64 << 10;

const LAYERS: [Layer; 28] = [
    ("arena", |_, backing, check| check(&ArenaAllocator::new(backing))),
    ("arena, limit", |start, backing, check| {
        let arena = ArenaAllocator::new(backing);
        arena.set_limit(start.limit());
        check(&arena);
    }),
    ("arena, chunk", |start, backing, check| {
        // Half, so that a fixed buffer of a whole chunk has room for it.
        let chunk = NonZeroUsize::new(start.chunk().div_ceil(2)).expect("a chunk has a byte");
        // Where it is refused, there is nothing to check.
        if let Ok(arena) = ArenaAllocator::with_capacity(backing, chunk) {
            check(&arena);
        }
    }),
    ("sync_arena", |_, backing, check| check(&SyncArena::new(backing))),
    ("stack", |_, backing, check| check(&StackAllocator::new(backing))),
    ("buffer_first", |start, backing, check| {
        check(&BufferFirstAllocator::new(start.buffer().bytes(), backing));
    }),
    ("pool", |_, backing, check| check(&PoolAllocator::new(backing, ITEM, Alignment::of::<u64>()))),
    ("pool, full", |_, backing, check| {
        let pool = PoolAllocator::fixed(backing, ITEM, Alignment::of::<u128>());
        // Where it is refused, the items made so far stay.
        let _ = pool.add_capacity(8);
        check(&pool);
    }),
    ("failing", |start, backing, check| {
        let failing = FailingAllocator::new(backing);
        // Not its resizes: a remap refused where a resize is granted breaks clause 4, which it does on command.
        failing.refuse_allocs(start.chunk() as u64 % 8..16);
        check(&failing);
    }),
    ("stack of a pool", |_, backing, check| {
        check(&StackAllocator::new(PoolAllocator::new(backing, ITEM, Alignment::of::<u64>())));
    }),
    ("log", |_, backing, check| {
        let calls = Cell::new(0usize);
        check(&LogAllocator::new(backing, |_: &Call| calls.set(calls.get() + 1)));
    }),
    ("stats", |_, backing, check| check(&StatsAllocator::new(backing))),
    ("stats, histograms", |_, backing, check| {
        check(&StatsAllocator::with_histograms(backing, Histograms::<2>::new()));
    }),
    ("debug", |_, backing, check| {
        check(&DebugAllocator::with_handler(backing, DebugConfig::new(), no_report));
    }),
    ("debug, short", |start, backing, check| {
        let config = DebugConfig { quarantine: start.chunk(), retain_metadata: true, ..DebugConfig::new() };
        check(&DebugAllocator::with_handler(backing, config, no_report));
    }),
    ("smp", |_, backing, check| {
        check(&SmpAllocator::<_, _, SMALL_REGION>::with_region_size(backing, ThreadSlots));
    }),
    ("smp, no slots", |_, backing, check| {
        check(&SmpAllocator::<_, _, SMALL_REGION>::with_region_size(backing, NoSlots));
    }),
    ("limit", |start, backing, check| check(&LimitAllocator::new(backing, start.limit()))),
    ("lock(arena)", |_, backing, check| check(&LockAllocator::new(ArenaAllocator::new(backing)))),
    ("fallback", |_, backing, check| {
        let pool = PoolAllocator::new(SystemAllocator, ITEM, Alignment::of::<u64>());
        check(&FallbackAllocator::new(pool, backing));
    }),
    ("segregate", |_, backing, check| {
        // Both sides on one backing, and a threshold that programs cross.
        check(&SegregateAllocator::new(100, ArenaAllocator::new(backing), backing));
    }),
    ("free_list", |_, backing, check| check(&FreeListAllocator::new(backing, 20..=200, 3))),
    ("affix", |_, backing, check| check(&AffixAllocator::new(backing, 7u64, [1u16; 3]))),
    ("on_oom", |_, backing, check| {
        // The hook frees nothing, so that each refusal must leave everything as it was.
        check(&OnOomAllocator::new(backing, 2, |_: &OutOfMemory| false));
    }),
    ("zeroed", |_, backing, check| check(&ZeroedAllocator::new(backing))),
    ("pressure", |start, backing, check| {
        check(&PressureAllocator::with_threshold(backing, start.limit() / 8, |_: &Pressure| true));
    }),
    ("bucketize", |_, backing, check| {
        // Few lengths fit: what is refused must change nothing.
        check(&BucketizeAllocator::new(ITEM, [0; 3].map(|_| backing)));
    }),
    ("arena of an arena", |_, backing, check| check(&ArenaAllocator::new(ArenaAllocator::new(backing)))),
];

const BASES: [Base; 13] = [
    ("ground", |start, use_it| use_it(&start.backing())),
    ("system", |start, use_it| use_it(&start.over(SystemAllocator))),
    ("page", |start, use_it| use_it(&start.over(PageAllocator))),
    ("fixed", |start, use_it| {
        let mut buffer = start.buffer();
        use_it(&start.over(FixedBufferAllocator::new(buffer.bytes())));
    }),
    ("inline", |start, use_it| {
        let buffer = InlineBuffer::<INLINE>::new();
        use_it(&start.over(&buffer));
    }),
    ("sync_fixed", |start, use_it| {
        let mut buffer = start.buffer();
        use_it(&start.over(SyncFixedBuffer::new(buffer.bytes())));
    }),
    ("pool(page)", |start, use_it| {
        let items = NonZeroUsize::new(start.chunk()).expect("a chunk has a byte");
        use_it(&start.over(PoolAllocator::new(start.over(PageAllocator), items, Alignment::of::<u128>())));
    }),
    ("arena(page)", |start, use_it| use_it(&start.over(ArenaAllocator::new(start.over(PageAllocator))))),
    ("log(ground)", |start, use_it| {
        use_it(&start.over(LogAllocator::new(start.backing(), |_: &Call| ())));
    }),
    ("stats(system)", |start, use_it| {
        use_it(&start.over(StatsAllocator::new(start.over(SystemAllocator))));
    }),
    ("guarded page", |start, use_it| use_it(&start.over(GUARDED.build()))),
    ("reserved", |start, use_it| use_it(&start.over(reserved()))),
    ("mapped file", |start, use_it| use_it(&start.over(mapped_file()))),
];

/// A report would be a false one: the programs are correct.
fn no_report(report: &Report) {
    // A judge that has found a breach leaves its blocks where they are.
    assert!(report.mistake == Mistake::Leak, "{report}");
}

const GUARDED: PageOptions = PageOptions::new().guard_pages();

fn reserved() -> ReservedAllocator {
    ReservedAllocator::new(REGION).expect("addresses")
}

/// Where no file can be without a name, in memory.
fn mapped_file() -> MappedFile {
    let folders = [std::env::temp_dir(), "/dev/shm".into()];
    let made = folders.iter().find_map(|folder| MappedFile::scratch(folder, REGION).ok());
    made.expect("a file system that has files without names")
}

/// The frames of a megabyte of pages, numbered by their addresses, by an allocator of frames with its notes apart.
fn region<F: FrameAllocator>(make: impl FnOnce(&MemoryMap) -> F, check: &mut Check<'_>) {
    const BYTES: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();
    let large = Alignment::new(128 << 10).expect("a power of two");
    let memory = PageAllocator.alloc(BYTES, large).expect("memory");
    let map = MemoryMap::of(Frames::new(memory.addr().get() >> 12, BYTES.get() >> 12)).expect("a map");
    // SAFETY: the map's frames are the pages at `memory`, which nobody else has.
    let region = unsafe { Region::new(memory, make(&map)) };
    check(&region.expect("pages are aligned"));
    // SAFETY: live, and the region is gone.
    unsafe { PageAllocator.free(NonNull::slice_from_raw_parts(memory, BYTES.get()), large) };
}

const REGION: NonZeroUsize = NonZeroUsize::new(8 << 20).unwrap();

/// Allocators that stand on nothing.
const ALONE: [Base; 15] = [
    ("fixed", |start, check| check(&FixedBufferAllocator::new(start.buffer().bytes()))),
    ("sync_fixed", |start, check| check(&SyncFixedBuffer::new(start.buffer().bytes()))),
    ("inline", |_, check| check(&&InlineBuffer::<INLINE>::new())),
    ("page", |_, check| check(&PageAllocator)),
    ("smp(page)", |_, check| check(&SmpAllocator::with_decommit(PageAllocator, ThreadSlots))),
    ("debug(smp(page))", |_, check| {
        let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
        check(&DebugAllocator::with_handler(smp, DebugConfig::new(), no_report));
    }),
    ("debug(page), paged", |_, check| {
        let config = DebugConfig { guard_pages: true, ..DebugConfig::new() };
        check(&DebugAllocator::with_pages(PageAllocator, config, no_report));
    }),
    ("system", |_, check| check(&SystemAllocator)),
    ("guarded page", |_, check| check(&GUARDED.build())),
    ("reserved", |_, check| check(&reserved())),
    ("mapped file", |_, check| check(&mapped_file())),
    ("region(hybrid)", |_, check| {
        region(|map| HybridAllocator::new_in(map, ThreadSlots, &SystemAllocator).expect("memory"), check);
    }),
    ("region(bitmap)", |_, check| {
        region(|map| BitmapAllocator::new_in(map, &SystemAllocator).expect("memory"), check);
    }),
    ("region(classic)", |_, check| {
        region(|map| ClassicBuddyAllocator::new_in(map, &SystemAllocator).expect("memory"), check);
    }),
    ("region(tracked(bitmap))", |_, check| {
        let bitmap = |map: &MemoryMap| BitmapAllocator::new_in(map, &SystemAllocator).expect("memory");
        region(|map| TrackedFrames::new_in(bitmap(map), &SystemAllocator, &[]).expect("memory"), check);
    }),
];

/// Runs one pair; the cell says how many programs and runs passed. Without the variable few, since there are many pairs.
fn cell(make: impl Fn(&Start, &mut Check<'_>)) -> Result<String, String> {
    let asked = std::env::var_os("TERRACE_PROGRAMS").is_some();
    let options = Programs::default();
    let options = if asked { options } else { Programs { count: 16, ..options } };
    let summary = programs(&options, make).map_err(|failure| failure.to_string())?;
    if summary.steps == 0 {
        return Err("nothing was run".to_owned());
    }
    Ok(format!("{}/{}", summary.programs, summary.runs))
}

/// Over the backing under a monitor of its own, so that both sides of each layer are watched.
fn over(base: &Base, layer: &Layer) -> Result<String, String> {
    let result = cell(|start, check| (base.1)(start, &mut |backing| (layer.1)(start, backing, check)));
    result.map_err(|failure| format!("{} over {}: {failure}", layer.0, base.0))
}

/// The cells of all pairs, row by row, then of those that stand alone; as many at a time as there are processors.
fn cells() -> Vec<Result<String, String>> {
    let pairs: Vec<_> = LAYERS.iter().flat_map(|layer| BASES.iter().map(move |base| (base, layer))).collect();
    let from =
        std::env::var("TERRACE_FROM").map_or(0, |from| from.parse().expect("TERRACE_FROM is the number of a pair"));
    let (next, count) = (AtomicUsize::new(from), pairs.len() + ALONE.len());
    let mut cells = vec![Err("not run".to_owned()); count];
    cells.iter_mut().take(from).for_each(|cell| *cell = Ok("before".to_owned()));
    let done = Mutex::new(cells);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (name, result) = match pairs.get(at) {
                        Some((base, layer)) => (format!("{} over {}", layer.0, base.0), over(base, layer)),
                        None if at < count => {
                            let (name, make) = ALONE[at - pairs.len()];
                            (name.to_owned(), cell(make))
                        }
                        None => return,
                    };
                    // Told at once: with many programs the whole takes hours.
                    eprintln!("{name}: {}", result.as_deref().unwrap_or_else(|breach| breach));
                    done.lock().expect("nobody panicked")[at] = result;
                }
            });
        }
    });
    done.into_inner().expect("nobody panicked")
}

#[test]
fn every_allocator_passes_over_every_backing() {
    let cells = cells();
    let (pairs, alone) = cells.split_at(LAYERS.len() * BASES.len());
    let shown = |cell: &Result<String, String>| format!(" {:>16}", cell.as_deref().unwrap_or("BROKEN"));
    println!("programs/runs passed, rows over columns");
    println!("{:<18}{}", "", BASES.map(|(name, _)| format!(" {name:>16}")).concat());
    for ((name, _), row) in LAYERS.iter().zip(pairs.chunks(BASES.len())) {
        println!("{name:<18}{}", row.iter().map(shown).collect::<String>());
    }
    for ((name, _), cell) in ALONE.iter().zip(alone) {
        println!("{name:<18}{}", shown(cell));
    }
    let broken: Vec<&str> = cells.iter().filter_map(|cell| cell.as_ref().err().map(String::as_str)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Correct programs are never reported: each layer above once more, with a layer over it that looks for mistakes.
#[test]
fn no_allocator_is_reported_under_debug() {
    let options = Programs { count: 16, failures: false, ..Programs::default() };
    for (name, layer) in &LAYERS {
        let summary = programs(&options, |start, check| {
            layer(start, &start.backing(), &mut |allocator| {
                check(&DebugAllocator::with_handler(allocator, DebugConfig::new(), no_report));
            });
        });
        let summary = summary.unwrap_or_else(|failure| panic!("debug over {name}: {failure}"));
        assert!(summary.steps > 0, "debug over {name}: nothing was run");
    }
}

/// What a program sees of a correct stack is no breach.
#[test]
fn a_program_runs_clean_over_monitors() {
    let below = Monitor::backing(PageAllocator);
    let reports = below.reports();
    let arena = Monitor::new(ArenaAllocator::new(below));
    let numbers: Vec<_> = (1..500usize).map(|n| (n, terrace_core::Alignment::of::<u64>())).collect();
    for &(len, alignment) in &numbers {
        arena.alloc(NonZeroUsize::new(len).expect("from 1"), alignment).expect("memory");
    }
    assert_eq!(arena.live().len(), numbers.len());
    arena.assert_clean();
    drop(arena);
    reports.assert_clean();
}
