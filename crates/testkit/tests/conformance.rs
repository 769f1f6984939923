//! The suite over allocators that keep the contract, as their own authors would write it.

use std::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, Allocator, SystemAllocator};
use terrace_frame::{
    BitmapAllocator, BuddyAllocator, ClassicBuddyAllocator, Counts, FrameAllocator, Frames, HybridAllocator, MemoryMap,
    Order, Region, StatsFrames, TrackedFrames,
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
use terrace_testkit::{Twins, Wandering, conformance};

#[test]
fn arena_keeps_the_contract() {
    conformance::all(|start, check| check(&ArenaAllocator::new(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(ArenaAllocator::new(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(ArenaAllocator::new(start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| check(&mut ArenaAllocator::new(start.backing())));
}

#[test]
fn fixed_buffer_keeps_the_contract() {
    conformance::all(|start, check| check(&FixedBufferAllocator::new(start.buffer().bytes())));
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(FixedBufferAllocator::new(start.buffer().bytes())));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(FixedBufferAllocator::new(start.buffer().bytes())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut FixedBufferAllocator::new(start.buffer().bytes()));
    });
}

#[test]
fn inline_buffer_keeps_the_contract() {
    conformance::all(|_, check| check(&&InlineBuffer::<{ 128 << 10 }>::new()));
}

#[test]
fn shared_arena_keeps_the_contract() {
    conformance::all(|start, check| check(&SyncArena::new(start.backing())));
    conformance::clause_6_threads(|start, check| check(&SyncArena::new(start.over(SystemAllocator))));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(SyncArena::new(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(SyncArena::new(start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| check(&mut SyncArena::new(start.backing())));
}

#[test]
fn shared_fixed_buffer_keeps_the_contract() {
    conformance::all(|start, check| check(&SyncFixedBuffer::new(start.buffer().bytes())));
    conformance::clause_6_threads(|start, check| check(&SyncFixedBuffer::new(start.buffer().bytes())));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(SyncFixedBuffer::new(start.buffer().bytes())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut SyncFixedBuffer::new(start.buffer().bytes()));
    });
}

#[test]
fn stack_keeps_the_contract() {
    conformance::all(|start, check| check(&StackAllocator::new(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(StackAllocator::new(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(StackAllocator::new(start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| check(&mut StackAllocator::new(start.backing())));
}

#[test]
fn buffer_first_keeps_the_contract() {
    conformance::all(|start, check| {
        check(&BufferFirstAllocator::new(start.buffer().bytes(), start.backing()));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(BufferFirstAllocator::new(start.buffer().bytes(), start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        let arena = ArenaAllocator::new(start.backing());
        check(&mut BufferFirstAllocator::new(start.buffer().bytes(), arena));
    });
}

/// As large as the suite's largest block, so that the suite can ask for anything.
#[test]
fn pool_keeps_the_contract() {
    let item = NonZeroUsize::new(64 << 10).expect("not 0");
    let alignment = Alignment::from_log2(14).expect("a power of two");
    conformance::all(|start, check| check(&PoolAllocator::new(start.backing(), item, alignment)));
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(PoolAllocator::new(start.backing(), item, alignment)));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(PoolAllocator::new(start.backing(), item, alignment)));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut PoolAllocator::new(start.backing(), item, alignment));
    });
}

#[test]
fn failing_keeps_the_contract() {
    conformance::all(|start, check| check(&FailingAllocator::new(start.backing())));
    conformance::clause_6_threads(|start, check| check(&FailingAllocator::new(start.over(SystemAllocator))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(FailingAllocator::new(start.backing())));
    });
}

#[test]
fn stats_and_log_keep_the_contract() {
    conformance::all(|start, check| {
        check(&StatsAllocator::new(LogAllocator::new(start.backing(), |_: &Call| ())));
    });
    conformance::clause_6_threads(|start, check| check(&StatsAllocator::new(start.backing())));
    let counted = |backing| StatsAllocator::with_histograms(backing, Histograms::<2>::new());
    conformance::all(|start, check| check(&counted(start.backing())));
    conformance::clause_6_threads(|start, check| check(&counted(start.backing())));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(StatsAllocator::new(start.backing())));
    });
}

/// A report would be a false one: the suite's programs are correct.
fn no_report(report: &Report) {
    // A judge that has found a breach leaves its blocks where they are.
    assert!(report.mistake == Mistake::Leak, "{report}");
}

#[test]
fn debug_keeps_the_contract_and_reports_nothing() {
    let never_unmap = DebugConfig { never_unmap: true, ..DebugConfig::new() };
    let remembers = DebugConfig { quarantine: 300, retain_metadata: true, ..DebugConfig::new() };
    let bare = DebugConfig { enable_safety: false, ..DebugConfig::new() };
    for config in [DebugConfig::new(), never_unmap, remembers, bare, DebugConfig::tracking()] {
        conformance::all(|start, check| check(&DebugAllocator::with_handler(start.backing(), config, no_report)));
    }
    let config = DebugConfig::new();
    conformance::clause_6_threads(|start, check| {
        check(&DebugAllocator::with_handler(start.over(SystemAllocator), config, no_report));
    });
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(DebugAllocator::with_handler(start.backing(), config, no_report)));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(DebugAllocator::with_handler(start.backing(), config, no_report)));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut DebugAllocator::with_handler(ArenaAllocator::new(start.backing()), config, no_report));
    });
}

#[test]
fn debug_among_guard_pages_keeps_the_contract_and_reports_nothing() {
    let config = DebugConfig { guard_pages: true, ..DebugConfig::new() };
    conformance::all(|_, check| check(&DebugAllocator::with_pages(PageAllocator, config, no_report)));
    conformance::clause_6_threads(|_, check| check(&DebugAllocator::with_pages(PageAllocator, config, no_report)));
    conformance::clause_7_moving_it_moves_no_block(|_, check| {
        check(&Wandering::new(DebugAllocator::with_pages(PageAllocator, config, no_report)));
    });
}

#[test]
fn limit_keeps_the_contract() {
    const ENOUGH: usize = 64 << 20;
    conformance::all(|start, check| check(&LimitAllocator::new(start.backing(), ENOUGH)));
    conformance::random_programs(|start, check| check(&LimitAllocator::new(start.backing(), start.limit())));
    conformance::clause_6_threads(|start, check| check(&LimitAllocator::new(start.backing(), ENOUGH)));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(LimitAllocator::new(start.backing(), ENOUGH))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(LimitAllocator::new(start.backing(), ENOUGH)));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut LimitAllocator::new(ArenaAllocator::new(start.backing()), ENOUGH));
    });
}

#[test]
fn lock_keeps_the_contract() {
    conformance::all(|start, check| check(&LockAllocator::new(ArenaAllocator::new(start.backing()))));
    conformance::clause_6_threads(|start, check| check(&LockAllocator::new(StackAllocator::new(start.backing()))));
    conformance::clause_6_threads(|start, check| check(&LockAllocator::new(ArenaAllocator::new(start.backing()))));
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(LockAllocator::new(StackAllocator::new(start.backing()))));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(LockAllocator::new(StackAllocator::new(start.backing()))));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut LockAllocator::new(ArenaAllocator::new(start.backing())));
    });
}

#[test]
fn fallback_keeps_the_contract() {
    let item = NonZeroUsize::new(64).expect("not 0");
    let pool = || PoolAllocator::new(SystemAllocator, item, Alignment::of::<u64>());
    conformance::all(|start, check| check(&FallbackAllocator::new(pool(), start.backing())));
    conformance::all(|start, check| {
        // Two arenas on one backing.
        let first = ArenaAllocator::new(start.backing());
        first.set_limit(start.limit());
        check(&FallbackAllocator::new(first, ArenaAllocator::new(start.backing())));
    });
    conformance::clause_6_threads(|start, check| {
        check(&FallbackAllocator::new(LimitAllocator::new(SyncArena::new(start.backing()), 1000), start.backing()));
    });
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(FallbackAllocator::new(pool(), start.backing())));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(FallbackAllocator::new(pool(), start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut FallbackAllocator::new(pool(), ArenaAllocator::new(start.backing())));
    });
}

#[test]
fn segregate_keeps_the_contract() {
    conformance::all(|start, check| check(&SegregateAllocator::new(100, start.backing(), start.backing())));
    conformance::all(|start, check| {
        check(&SegregateAllocator::new(64, StackAllocator::new(start.backing()), start.backing()));
    });
    conformance::clause_6_threads(|start, check| {
        check(&SegregateAllocator::new(64, SyncArena::new(start.backing()), start.backing()));
    });
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(SegregateAllocator::new(64, StackAllocator::new(start.backing()), start.backing())));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(SegregateAllocator::new(64, StackAllocator::new(start.backing()), start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        let arena = || ArenaAllocator::new(start.backing());
        check(&mut SegregateAllocator::new(64, arena(), arena()));
    });
}

#[test]
fn free_list_keeps_the_contract() {
    let list = |backing| FreeListAllocator::new(backing, 20..=200, 3);
    conformance::all(|start, check| check(&list(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(list(start.backing()))));
    conformance::clause_6_threads(|start, check| check(&LockAllocator::new(list(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| check(&Wandering::new(list(start.backing()))));
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut FreeListAllocator::new(ArenaAllocator::new(start.backing()), 20..=200, 3));
    });
}

#[test]
fn affix_keeps_the_contract() {
    conformance::all(|start, check| check(&AffixAllocator::new(start.backing(), 7u64, [1u16; 3])));
    conformance::all(|start, check| check(&AffixAllocator::new(start.backing(), (), 1u128)));
    conformance::clause_6_threads(|start, check| check(&AffixAllocator::new(start.backing(), 7u8, ())));
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(AffixAllocator::new(start.backing(), 7u8, 8u64)));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(AffixAllocator::new(start.backing(), 7u64, 1u8)));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut AffixAllocator::new(ArenaAllocator::new(start.backing()), 7u64, ()));
    });
}

#[test]
fn on_oom_keeps_the_contract() {
    // As often as it is asked again, a backing that refuses one call grants the next.
    let oom = |backing| OnOomAllocator::new(backing, 2, |refused: &OutOfMemory| refused.len.get().is_multiple_of(2));
    conformance::all(|start, check| check(&oom(start.backing())));
    conformance::clause_6_threads(|start, check| check(&oom(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(oom(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| check(&Wandering::new(oom(start.backing()))));
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut OnOomAllocator::new(ArenaAllocator::new(start.backing()), 1, |_: &OutOfMemory| false));
    });
}

#[test]
fn zeroed_keeps_the_contract() {
    conformance::all(|start, check| check(&ZeroedAllocator::new(start.backing())));
    conformance::clause_6_threads(|start, check| check(&ZeroedAllocator::new(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(ZeroedAllocator::new(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(ZeroedAllocator::new(start.backing())));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut ZeroedAllocator::new(ArenaAllocator::new(start.backing())));
    });
}

#[test]
fn pressure_keeps_the_contract() {
    let heap = |backing| PressureAllocator::with_threshold(backing, 1000, |_: &Pressure| false);
    conformance::all(|start, check| check(&heap(start.backing())));
    conformance::clause_6_threads(|start, check| check(&heap(start.backing())));
    conformance::clause_6_freed_elsewhere(|start, check| check(Box::new(heap(start.backing()))));
    conformance::clause_7_moving_it_moves_no_block(|start, check| check(&Wandering::new(heap(start.backing()))));
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut PressureAllocator::new(ArenaAllocator::new(start.backing()), |_: &Pressure| false));
    });
}

/// Up to the suite's largest block, so that the suite can ask for anything.
#[test]
fn bucketize_keeps_the_contract() {
    let step = NonZeroUsize::new(16 << 10).expect("not 0");
    conformance::all(|start, check| {
        check(&BucketizeAllocator::new(step, [0; 4].map(|_| ArenaAllocator::new(start.backing()))));
    });
    conformance::clause_6_threads(|start, check| {
        check(&BucketizeAllocator::new(step, [0; 4].map(|_| start.backing())));
    });
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(BucketizeAllocator::new(step, [0; 4].map(|_| StackAllocator::new(start.backing())))));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(BucketizeAllocator::new(step, [0; 4].map(|_| StackAllocator::new(start.backing())))));
    });
    conformance::clause_8_reset_ends_every_block(|start, check| {
        check(&mut BucketizeAllocator::new(step, [0; 4].map(|_| ArenaAllocator::new(start.backing()))));
    });
}

#[test]
fn smp_keeps_the_contract() {
    /// With regions that the ground can give.
    type Smp<A, S> = SmpAllocator<A, S, { 64 << 10 }>;
    conformance::all(|start, check| check(&Smp::with_region_size(start.backing(), ThreadSlots)));
    conformance::all(|start, check| check(&Smp::with_region_size(start.backing(), NoSlots)));
    conformance::all(|_, check| check(&SmpAllocator::with_decommit(PageAllocator, ThreadSlots)));
    conformance::clause_6_threads(|start, check| check(&Smp::with_region_size(start.backing(), ThreadSlots)));
    conformance::clause_6_threads(|start, check| check(&Smp::with_region_size(start.backing(), NoSlots)));
    conformance::clause_6_freed_elsewhere(|start, check| {
        check(Box::new(Smp::with_region_size(start.backing(), ThreadSlots)));
    });
    conformance::clause_7_moving_it_moves_no_block(|start, check| {
        check(&Wandering::new(Smp::with_region_size(start.backing(), ThreadSlots)));
    });
}

/// The frames of some pages, numbered by their addresses.
fn region<F: FrameAllocator>(make: impl FnOnce(&MemoryMap) -> F, check: impl FnOnce(Region<F>)) {
    const BYTES: NonZeroUsize = NonZeroUsize::new(4 << 20).unwrap();
    let large = Alignment::new(2 << 20).expect("a power of two");
    let memory = PageAllocator.alloc(BYTES, large).expect("memory");
    let map = MemoryMap::of(Frames::new(memory.addr().get() >> 12, BYTES.get() >> 12)).expect("a map");
    // SAFETY: the map's frames are the pages at `memory`, which nobody else has.
    let region = unsafe { Region::new(memory, make(&map)) };
    check(region.expect("pages are aligned"));
    // SAFETY: live, and the region is gone.
    unsafe { PageAllocator.free(NonNull::slice_from_raw_parts(memory, BYTES.get()), large) };
}

#[test]
fn regions_keep_the_contract() {
    let hybrid = |map: &MemoryMap| HybridAllocator::new_in(map, ThreadSlots, &SystemAllocator).expect("memory");
    let bitmap = |map: &MemoryMap| BitmapAllocator::new_in(map, &SystemAllocator).expect("memory");
    let buddy = |map: &MemoryMap| BuddyAllocator::new_in(map, Order::MIN, &SystemAllocator).expect("memory");
    let classic = |map: &MemoryMap| ClassicBuddyAllocator::new_in(map, &SystemAllocator).expect("memory");
    let tracked = |map: &MemoryMap| TrackedFrames::new_in(hybrid(map), &SystemAllocator, &[]).expect("memory");
    static COUNTS: [Counts; 1] = [Counts::new()];
    conformance::all(|_, check| region(hybrid, |region| check(&region)));
    conformance::all(|_, check| region(bitmap, |region| check(&region)));
    conformance::all(|_, check| region(buddy, |region| check(&region)));
    conformance::all(|_, check| region(classic, |region| check(&region)));
    conformance::all(|_, check| region(tracked, |region| check(&region)));
    conformance::all(|_, check| {
        region(|map| StatsFrames::new(bitmap(map), &COUNTS).expect("a table"), |region| check(&region))
    });
    conformance::clause_6_threads(|_, check| region(tracked, |region| check(&region)));
    conformance::clause_6_threads(|_, check| region(hybrid, |region| check(&region)));
    conformance::clause_6_freed_elsewhere(|_, check| region(hybrid, |region| check(Box::new(region))));
    conformance::clause_7_moving_it_moves_no_block(|_, check| {
        region(hybrid, |region| check(&Wandering::new(region)));
    });
}

#[test]
fn system_and_page_keep_the_contract() {
    conformance::all(|_, check| check(&SystemAllocator));
    conformance::all(|_, check| check(&PageAllocator));
    conformance::clause_6_threads(|start, check| check(&start.over(SystemAllocator)));
    conformance::clause_6_threads(|_, check| check(&PageAllocator));
    conformance::clause_6_freed_elsewhere(|_, check| check(Box::new(PageAllocator)));
    conformance::clause_9_clones_are_handles(|_, check| check(&Twins::new(PageAllocator)));
    conformance::clause_9_clones_are_handles(|_, check| check(&Twins::new(SystemAllocator)));
}

#[test]
fn pages_with_options_keep_the_contract() {
    let none = PageOptions::new();
    let all = none.transparent_huge_pages().populate().guard_pages().name(c"testkit");
    for options in [none, none.guard_pages(), none.transparent_huge_pages(), none.populate(), all] {
        conformance::all(|_, check| check(&options.build()));
    }
    let pages = none.guard_pages().build();
    conformance::clause_6_threads(|_, check| check(&pages));
    conformance::clause_6_freed_elsewhere(|_, check| check(Box::new(pages)));
    conformance::clause_7_moving_it_moves_no_block(|_, check| check(&Wandering::new(pages)));
    conformance::clause_9_clones_are_handles(|_, check| check(&Twins::new(pages)));
}

#[test]
fn reserved_keeps_the_contract() {
    let region = || ReservedAllocator::new(NonZeroUsize::new(64 << 20).expect("not 0")).expect("addresses");
    conformance::all(|_, check| check(&region()));
    conformance::clause_6_freed_elsewhere(|_, check| check(Box::new(region())));
    conformance::clause_7_moving_it_moves_no_block(|_, check| check(&Wandering::new(region())));
    conformance::clause_8_reset_ends_every_block(|_, check| check(&mut region()));
}

#[test]
fn mapped_file_keeps_the_contract() {
    let size = NonZeroUsize::new(64 << 20).expect("not 0");
    let scratch = || MappedFile::scratch(std::env::temp_dir(), size);
    if let Err(why) = scratch() {
        return eprintln!("{:?}: {why}: nothing tried", std::env::temp_dir());
    }
    let file = || scratch().expect("as a moment ago");
    conformance::all(|_, check| check(&file()));
    conformance::clause_6_freed_elsewhere(|_, check| check(Box::new(file())));
    conformance::clause_7_moving_it_moves_no_block(|_, check| check(&Wandering::new(file())));
    conformance::clause_8_reset_ends_every_block(|_, check| check(&mut file()));
}

/// An allocator that is never asked has not been judged.
#[test]
fn a_maker_that_checks_nothing_is_told_so() {
    let judged = std::panic::catch_unwind(|| conformance::clause_1_plain(|_, _| ()));
    assert!(judged.is_err());
    let judged = std::panic::catch_unwind(|| conformance::random_programs(|_, _| ()));
    assert!(judged.is_err());
}

/// Refusing everything breaks no clause; the suite asks for more.
#[test]
fn an_allocator_that_refuses_everything_is_told_so() {
    let empty = || FixedBufferAllocator::new(&mut []);
    let judged = std::panic::catch_unwind(|| conformance::clause_1_plain(|_, check| check(&empty())));
    assert!(judged.is_err());
}
