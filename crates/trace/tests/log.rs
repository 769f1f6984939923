//! What a `LogAllocator` hears becomes a valid trace that says the same.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::sync::Barrier;

use terrace_core::{Alignment, Allocator, AllocatorExt, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, Call, CallOp, LogAllocator, Sink};
use terrace_trace::{
    AllocKind, BlockId, Event, FreeKind, Header, Nothing, Op, Reader, Source, Summary, ThreadId, TraceError, TraceSink,
};

const WORD: Alignment = Alignment::of::<u64>();

fn sink() -> TraceSink<Vec<u8>> {
    TraceSink::new(Vec::new(), Header { labels: vec!["warm".to_owned()], ..Header::default() }).unwrap()
}

fn read(sink: &TraceSink<Vec<u8>>) -> (Vec<Event>, Summary) {
    let file = sink.finish().unwrap().expect("finished once");
    assert!(sink.finish().unwrap().is_none());
    let reader = Reader::from_bytes(file).unwrap();
    assert_eq!(reader.header().source, Source::Logged);
    assert!(!reader.truncated());
    let events: Vec<Event> = reader.events().collect::<Result<_, _>>().unwrap();
    (events, Summary::of(reader.events()).unwrap())
}

fn ops(sink: &TraceSink<Vec<u8>>) -> Vec<Op> {
    read(sink).0.into_iter().map(|event| event.op).collect()
}

fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).unwrap()
}

#[test]
fn a_vectors_life_and_an_arenas_end_are_written() {
    let mut arena = LogAllocator::new(ArenaAllocator::new(SystemAllocator), sink());
    for _ in 0..3 {
        arena.alloc(len(100), WORD).unwrap();
        arena.alloc_zeroed(len(10), Alignment::new(64).unwrap()).unwrap();
        arena.alloc(len(10), Alignment::new(64).unwrap()).unwrap();
        arena.sink().mark(0);
        arena.reset(ResetMode::RetainCapacity);
    }
    let (events, sum) = read(arena.sink());
    assert_eq!((sum.mallocs, sum.callocs, sum.memaligns, sum.max_align), (3, 3, 3, 64));
    assert_eq!((sum.resets, sum.bulk_frees, sum.frees, sum.marks), (3, 9, 0, 3));
    assert_eq!((sum.peak_live_bytes, sum.peak_live_blocks, sum.leaked_blocks), (120, 3, 0));
    assert_eq!(events[0], Event { thread: ThreadId(0), op: Op::ThreadStart });
    assert!(events.iter().all(|event| !matches!(event.op, Op::Alloc { block: BlockId(3..), .. })), "names are reused");
}

/// Calls of an allocator that is not there.
fn at(address: usize, bytes: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(NonNull::without_provenance(len(address)), bytes)
}

fn record(sink: &TraceSink<Vec<u8>>, op: CallOp) {
    sink.record(&Call { op, site: core::panic::Location::caller() });
}

fn alloc(address: usize, bytes: usize) -> CallOp {
    CallOp::Alloc { len: len(bytes), alignment: WORD, zeroed: false, result: Ok(at(address, bytes).cast()) }
}

fn remap(from: usize, to: usize, bytes: usize) -> CallOp {
    let result = Some(at(to, bytes).cast());
    CallOp::Remap { memory: at(from, 8), alignment: WORD, new_len: len(bytes), result }
}

const fn made(block: u32, len: u64) -> Op {
    Op::Alloc { block: BlockId(block), len, align_log2: 3, kind: AllocKind::Plain }
}

#[test]
fn resizes_remaps_and_refusals_are_reallocs() {
    let sink = sink();
    let resize =
        |address, granted| CallOp::Resize { memory: at(address, 8), alignment: WORD, new_len: len(16), granted };
    let refused = CallOp::Remap { memory: at(0x10, 8), alignment: WORD, new_len: len(99), result: None };
    let failed = CallOp::Alloc { len: len(7), alignment: WORD, zeroed: true, result: Err(terrace_core::AllocError) };
    let free = |address| CallOp::Free { memory: at(address, 8), alignment: WORD };
    for op in [
        alloc(0x10, 8),
        resize(0x10, true),
        resize(0x10, false),
        refused,
        remap(0x10, 0x20, 24),
        remap(0x20, 0x20, 32),
        failed,
        free(0x20),
        free(0x20),
        resize(0x90, true),
    ] {
        record(&sink, op);
    }
    let realloc = |len, moved| Op::Realloc { block: BlockId(0), len, moved };
    let nothing = |kind, len| Op::Nothing(Nothing::Failed { kind, len });
    let expected = [
        Op::ThreadStart,
        made(0, 8),
        realloc(16, false),
        nothing(AllocKind::FromRealloc, 16),
        nothing(AllocKind::FromRealloc, 99),
        realloc(24, true),
        realloc(32, false),
        nothing(AllocKind::Zeroed, 7),
        Op::Free { block: BlockId(0), kind: FreeKind::Plain },
        Op::Nothing(Nothing::FreeUnknown),
        Op::Alloc { block: BlockId(0), len: 16, align_log2: 3, kind: AllocKind::FromRealloc },
    ];
    assert_eq!(ops(&sink), expected);
}

#[test]
fn an_address_taken_before_the_remap_from_there_is_heard_is_another_block() {
    let sink = sink();
    for op in [alloc(0x10, 8), alloc(0x10, 9), remap(0x10, 0x30, 24), remap(0x10, 0x40, 25)] {
        record(&sink, op);
    }
    let moved = |block, len| Op::Realloc { block: BlockId(block), len, moved: true };
    assert_eq!(ops(&sink), [Op::ThreadStart, made(0, 8), made(1, 9), moved(0, 24), moved(1, 25)]);
}

#[test]
fn threads_that_race_make_a_valid_trace() {
    let logged = LogAllocator::new(SystemAllocator, sink());
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for round in 1..500 {
                    let mut bytes = logged.alloc_slice::<u8>(round).unwrap();
                    // SAFETY: live, of this allocator, not used again under its old name.
                    bytes = unsafe { logged.realloc_slice(bytes, round * 3) }.unwrap();
                    // SAFETY: live, of this allocator, not used again.
                    unsafe { logged.free_slice(bytes) };
                }
            });
        }
    });
    let (_, sum) = read(logged.sink());
    assert_eq!((sum.threads, sum.leaked_blocks, sum.unknown_frees, sum.overlaps), (4, 0, 0, 0));
    assert!(sum.peak_live_blocks <= 8);
}

#[test]
fn an_error_of_the_log_is_told_at_its_end_and_not_before() {
    let logged = LogAllocator::new(SystemAllocator, sink());
    logged.sink().mark(7);
    let word = logged.dupe(b"red").unwrap();
    // SAFETY: live, of this allocator, not used again.
    unsafe { logged.free_slice(word) };
    assert!(matches!(logged.sink().finish(), Err(TraceError::Event { event: 2, .. })));
    assert!(matches!(logged.sink().finish(), Ok(None)));
}
