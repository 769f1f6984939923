//! What every public type promises by traits that nobody writes: one table, checked while it compiles.
//!
//! A type that holds a pointer more or less than before may lose or gain `Send` without a line that says so.
//! Here each line says so. Of a layer there are two rows, over a backing that has every trait, and over one that has
//! none. Values of `no` matter as much as those of `yes`: an arena that is `Sync` would be unsound.
//!
//! What a test cannot see by itself, a type that is missing here, `every_public_type_has_its_row` finds in the sources.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    panic::UnwindSafe,
    path::{Path, PathBuf},
    rc::Rc,
};

use allocator_api2_02::alloc::Global;
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};
use terrace_core::*;
use terrace_frame as frame;
use terrace_heap::*;
use terrace_memops::{Features, Level};
use terrace_sync::{Held, Lock, NoSlots, Slots, Zeroes};
use terrace_sys::{
    MappedFile, PageAllocator, PageOptions, Reservation, ReservedAllocator, ThreadSlots, TunedPageAllocator,
    Unavailable,
};
use terrace_testkit as testkit;
use terrace_trace as trace;

/// A backing that has every trait, and one that has none but `Unpin`.
type All = SystemAllocator;
type Bare = Rc<dyn Allocator>;
/// One that may go to another thread, and be there alone.
type Moved = ArenaAllocator<All>;
/// A sink and a value likewise.
type Told = fn(&Call);
type Untold = Rc<dyn Fn(&Call)>;
/// A handler of mistakes that is for one thread.
struct Reporter(#[expect(dead_code, reason = "for what it is not")] Rc<u8>);

impl debug::Handler for Reporter {
    fn report(&self, _: &debug::Report) {}
}

type Value = Cell<Rc<u8>>;
/// A tracked object that may go nowhere.
struct Leaf(#[expect(dead_code, reason = "it is there for its traits")] Rc<u8>);

impl terrace::gc::Trace for Leaf {
    fn trace(&self, _: &mut terrace::gc::Marker<'_, Self>) {}
}
/// Hooks.
type Asked = fn(&OutOfMemory) -> bool;
type Pressed = fn(&Pressure) -> bool;

macro_rules! cell {
    ($type:ty, $trait:path, yes) => {
        assert_impl_all!($type: $trait);
    };
    ($type:ty, $trait:path, no) => {
        assert_not_impl_any!($type: $trait);
    };
}

macro_rules! table {
    (Send Sync Clone Unpin UnwindSafe; $($type:ty: $send:ident $sync:ident $clone:ident $unpin:ident $unwind:ident;)*) => {
        $(
            cell!($type, Send, $send);
            cell!($type, Sync, $sync);
            cell!($type, Clone, $clone);
            cell!($type, Unpin, $unpin);
            cell!($type, UnwindSafe, $unwind);
        )*

        /// The types as they are written in the table.
        const ROWS: &[&str] = &[$(stringify!($type)),*];
    };
}

#[rustfmt::skip]
table! {
                                            Send Sync Clone Unpin UnwindSafe;
    Alignment:                              yes  yes  yes   yes   yes;
    AllocError:                             yes  yes  yes   yes   yes;
    AllocStats:                             yes  yes  yes   yes   yes;
    Access:                                 yes  yes  yes   yes   yes;
    ResetMode:                              yes  yes  yes   yes   yes;
    SystemAllocator:                        yes  yes  yes   yes   yes;
    GlobalBacking<std::alloc::System>:      yes  yes  yes   yes   yes;
    Bridge<All>:                            yes  yes  yes   yes   yes;
    Bridge<Bare>:                           no   no   yes   yes   no;
    AsGlobal<All>:                          yes  yes  no    yes   yes;
    AsGlobal<Bare>:                         no   no   no    yes   no;
    Api2Backing<Global>:                    yes  yes  yes   yes   yes;
    Api2Backing<&'static bumpalo::Bump>:    no   no   yes   yes   no;
    bridge::V02:                            yes  yes  yes   yes   yes;
    bridge::V03:                            yes  yes  yes   yes   yes;
    bridge::V04:                            yes  yes  yes   yes   yes;
    bridge::Std:                            yes  yes  yes   yes   yes;
    Lock<Cell<u8>>:                         yes  yes  no    yes   yes;
    Lock<Rc<u8>>:                           no   no   no    yes   yes;
    Held<'static, u8>:                      yes  yes  no    yes   no;
    Held<'static, Cell<u8>>:                yes  no   no    yes   no;
    Held<'static, Rc<u8>>:                  no   no   no    yes   no;
    Zeroes:                                 yes  yes  no    yes   yes;
    NoSlots:                                yes  yes  yes   yes   yes;
    Zeroes:                                 yes  yes  no    yes   yes;
    ThreadSlots:                            yes  yes  yes   yes   yes;
    PageAllocator:                          yes  yes  yes   yes   yes;
    PageOptions:                            yes  yes  yes   yes   yes;
    TunedPageAllocator:                     yes  yes  yes   yes   yes;
    Unavailable:                            yes  yes  yes   yes   yes;
    terrace_sys::numa::MemoryPolicy:        yes  yes  yes   yes   yes;
    terrace_sys::numa::Node:                yes  yes  yes   yes   yes;
    terrace_sys::numa::Nodes:               yes  yes  yes   yes   yes;
    terrace_sys::numa::NumaUnavailable:     yes  yes  yes   yes   yes;
    terrace_sys::numa::Place:               yes  yes  yes   yes   yes;
    terrace_sys::numa::Topology:            yes  yes  yes   yes   yes;
    Reservation:                            yes  yes  no    yes   yes;
    ReservedAllocator:                      yes  no   no    yes   yes;
    MappedFile:                             yes  no   no    yes   yes;

    frame::Frame:                           yes  yes  yes  yes  yes;
    frame::Frames:                          yes  yes  yes  yes  yes;
    frame::Order:                           yes  yes  yes  yes  yes;
    frame::PageSize:                        yes  yes  yes  yes  yes;
    frame::PhysAddr:                        yes  yes  yes  yes  yes;
    frame::ZoneType:                        yes  yes  yes  yes  yes;
    frame::FrameError:                      yes  yes  yes  yes  yes;
    frame::Misuse:                          yes  yes  yes  yes  yes;
    frame::MapEntry:                        yes  yes  yes  yes  yes;
    frame::MapError:                        yes  yes  yes  yes  yes;
    frame::MemoryKind:                      yes  yes  yes  yes  yes;
    frame::MemoryMap:                       yes  yes  yes  yes  yes;
    frame::Request:                         yes  yes  yes  yes  yes;
    frame::BitmapAllocator<'static>:        yes  yes  no   yes  yes;
    frame::BitmapAllocator<'static, Bare>:  no   no   no   yes  no;
    frame::BuddyAllocator<'static, All>:    yes  yes  no   yes  yes;
    frame::BuddyAllocator<'static, Bare>:   no   no   no   yes  no;
    frame::ClassicBuddyAllocator<'static, All>: yes yes no yes yes;
    frame::ClassicBuddyAllocator<'static, Bare>:no   no   no   yes  no;
    frame::Region<frame::BitmapAllocator<'static>>: yes yes no yes yes;
    frame::Region<frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::HybridAllocator<'static, ThreadSlots, All>: yes yes no yes yes;
    frame::numa::Distances<'static>:        yes  yes  yes  yes  yes;
    frame::numa::NodeCounts:                yes  yes  yes  yes  yes;
    frame::numa::NodeSet:                   yes  yes  yes  yes  yes;
    frame::numa::NodeWeights:               yes  yes  yes  yes  yes;
    frame::numa::NumaError:                 yes  yes  yes  yes  yes;
    frame::numa::NumaPolicy:                yes  yes  yes  yes  yes;
    frame::numa::NumaNode<frame::BitmapAllocator<'static>>: yes yes no yes yes;
    frame::numa::NumaNode<frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::numa::NumaAllocator<'static, frame::BitmapAllocator<'static>>: yes yes no yes yes;
    frame::numa::NumaAllocator<'static, frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::numa::NumaView<'static, 'static, frame::BitmapAllocator<'static>, NoSlots>: yes yes no yes yes;
    frame::numa::NumaView<'static, 'static, frame::BitmapAllocator<'static, Bare>, NoSlots>: no no no yes no;
    frame::HybridAllocator<'static, NoSlots, Bare>:no   no   no   yes  no;
    frame::HybridAllocator<'static, &'static dyn Slots>:no   no   no   yes  no;
    frame::Watermarks:                      yes  yes  yes  yes  yes;
    frame::Pressure:                        yes  yes  yes  yes  yes;
    frame::ZonePressure:                    yes  yes  yes  yes  yes;
    frame::ZoneCounts:                      yes  yes  yes  yes  yes;
    frame::ZoneError:                       yes  yes  yes  yes  yes;
    frame::ZoneConfig<'static>:             yes  yes  yes  yes  yes;
    frame::ZoneConfig<'static, &'static dyn Slots>: no no yes yes no;
    frame::MemoryZone<'static, ThreadSlots>:yes  yes  no   yes  yes;
    frame::MemoryZone<'static, &'static dyn Slots>: no no no yes no;
    frame::ZonedAllocator<'static, ThreadSlots>: yes yes no yes yes;
    frame::ZonedAllocator<'static, NoSlots, Rc<u8>>: no no no yes yes;
    frame::PageOwner:                       yes  yes  yes  yes  yes;
    frame::HugeCounts:                      yes  yes  yes  yes  yes;
    frame::HugePages<'static, frame::HybridAllocator<'static>>: yes yes no yes yes;
    frame::HugePages<'static, frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::FreeAreas:                       yes  yes  yes  yes  yes;
    frame::Thousandths:                     yes  yes  yes  yes  yes;
    frame::LatencyHistogram:                yes  yes  no   yes  yes;
    frame::Bucket:                          yes  yes  yes  yes  yes;
    frame::Latencies:                       yes  yes  no   yes  yes;
    frame::Picture<'static, frame::BitmapAllocator<'static>>: yes yes no yes yes;
    frame::Picture<'static, frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::Counts:                          yes  yes  no   yes  yes;
    frame::Outcome:                         yes  yes  yes  yes  yes;
    frame::StatsFrames<'static, frame::BitmapAllocator<'static>, ThreadSlots>: yes yes no yes yes;
    frame::StatsFrames<'static, frame::BitmapAllocator<'static, Bare>>: no no no yes no;
    frame::TimedFrames<'static, frame::BitmapAllocator<'static>, fn() -> u64>: yes yes no yes yes;
    frame::TimedFrames<'static, frame::BitmapAllocator<'static, Bare>, Rc<dyn Fn() -> u64>>: no no no yes no;
    frame::TrackedFrames<'static, frame::BitmapAllocator<'static>, All>: yes yes no yes yes;
    frame::TrackedFrames<'static, frame::BitmapAllocator<'static, Bare>, Bare>: no no no yes no;
    frame::OwnedFrames<'static, frame::BitmapAllocator<'static>, All>: yes yes yes yes yes;
    frame::OwnedFrames<'static, frame::BitmapAllocator<'static, Bare>>: no no yes yes no;
    frame::Owner:                           yes  yes  yes  yes  yes;
    frame::Run:                             yes  yes  yes  yes  yes;
    frame::Site:                            yes  yes  yes  yes  yes;
    frame::SiteCounts:                      yes  yes  no   yes  yes;
    frame::Leaks<'static>:                  yes  yes  yes  yes  yes;
    frame::HotSites<'static>:               yes  yes  yes  yes  yes;

    ArenaAllocator<All>:                    yes  no   no    yes   yes;
    ArenaAllocator<Bare>:                   no   no   no    yes   no;
    Scope<'static, All>:                    no   no   no    yes   no;
    Checkpoint:                             yes  yes  yes   yes   yes;
    SyncArena<All>:                         yes  yes  no    yes   yes;
    SyncArena<Bare>:                        no   no   no    yes   no;
    FixedBufferAllocator<'static>:          yes  no   no    yes   no;
    SyncFixedBuffer<'static>:               yes  yes  no    yes   no;
    InlineBuffer<64>:                       yes  no   no    yes   yes;
    StackAllocator<All>:                    yes  no   no    yes   yes;
    StackAllocator<Bare>:                   no   no   no    yes   no;
    Marker:                                 yes  yes  yes   yes   yes;
    BufferFirstAllocator<'static, All>:     yes  no   no    yes   no;
    BufferFirstAllocator<'static, Bare>:    no   no   no    yes   no;
    PoolAllocator<All>:                     yes  no   no    yes   yes;
    PoolAllocator<Bare>:                    no   no   no    yes   no;
    Pool<Value, All>:                       yes  no   no    yes   yes;
    Pool<u8, Bare>:                         no   no   no    yes   no;
    Pooled<'static, u8, All>:               no   no   no    yes   no;
    DebugAllocator<All>:                    yes  yes  no    yes   yes;
    DebugAllocator<Moved>:                  yes  no   no    yes   yes;
    DebugAllocator<Bare>:                   no   no   no    yes   no;
    DebugAllocator<All, Reporter>:          no   no   no    yes   yes;
    DebugConfig:                            yes  yes  yes   yes   yes;
    debug::Block:                           yes  yes  yes   yes   yes;
    debug::Check:                           yes  yes  yes   yes   yes;
    debug::Found:                           yes  yes  yes   yes   yes;
    debug::LimitReached:                    yes  yes  yes   yes   yes;
    debug::Mistake:                         yes  yes  yes   yes   yes;
    debug::Moment:                          yes  yes  yes   yes   yes;
    debug::Print:                           yes  yes  yes   yes   yes;
    debug::PrintAndAbort:                   yes  yes  yes   yes   yes;
    debug::Report:                          yes  yes  yes   yes   yes;
    debug::Trace:                           yes  yes  yes   yes   yes;
    SmpAllocator<All, ThreadSlots>:         yes  yes  no    yes   yes;
    SmpAllocator<Bare, ThreadSlots>:        no   no   no    yes   no;
    SmpAllocator<All, &'static dyn Slots>:  no   no   no    yes   no;
    SmpAllocator<Moved, NoSlots>:           yes  no   no    yes   yes;
    smp::ClassStats:                        yes  yes  yes   yes   yes;
    FailingAllocator<All>:                  yes  yes  no    yes   yes;
    FailingAllocator<Bare>:                 no   no   no    yes   no;
    LogAllocator<All, Told>:                yes  yes  no    yes   yes;
    LogAllocator<Bare, Told>:               no   no   no    yes   no;
    LogAllocator<All, Untold>:              no   no   no    yes   no;
    Call:                                   no   no   yes   yes   yes;
    CallOp:                                 no   no   yes   yes   yes;
    StatsAllocator<All>:                    yes  yes  no    yes   yes;
    StatsAllocator<Bare>:                   no   no   no    yes   no;
    StatsAllocator<All, Histograms<8>>:     yes  yes  no    yes   yes;
    Histograms<8>:                          yes  yes  no    yes   yes;
    SizeClass:                              yes  yes  yes   yes   yes;
    Site:                                   yes  yes  yes   yes   yes;
    LimitAllocator<All>:                    yes  yes  no    yes   yes;
    LimitAllocator<Bare>:                   no   no   no    yes   no;
    LockAllocator<All, StdThreads>:         yes  yes  no    yes   yes;
    LockAllocator<Moved, StdThreads>:       yes  yes  no    yes   yes;
    LockAllocator<Bare, StdThreads>:        no   no   no    yes   no;
    LockAllocator<All, Untold>:             no   no   no    yes   no;
    StdThreads:                             yes  yes  yes   yes   yes;
    FallbackAllocator<Moved, All>:          yes  no   no    yes   yes;
    FallbackAllocator<SyncArena<All>, All>: yes  yes  no    yes   yes;
    FallbackAllocator<Moved, Bare>:         no   no   no    yes   no;
    SegregateAllocator<All, All>:           yes  yes  no    yes   yes;
    SegregateAllocator<Moved, All>:         yes  no   no    yes   yes;
    SegregateAllocator<All, Bare>:          no   no   no    yes   no;
    FreeListAllocator<All>:                 yes  no   no    yes   yes;
    FreeListAllocator<Bare>:                no   no   no    yes   no;
    AffixAllocator<All, u8, ()>:            yes  yes  no    yes   yes;
    AffixAllocator<All, Rc<u8>, ()>:        no   no   no    yes   yes;
    AffixAllocator<Bare, u8, ()>:           no   no   no    yes   no;
    OnOomAllocator<All, Asked>:             yes  yes  no    yes   yes;
    OnOomAllocator<Bare, Asked>:            no   no   no    yes   no;
    OnOomAllocator<All, Rc<dyn Reclaim>>:   no   no   no    yes   no;
    OutOfMemory:                            yes  yes  yes   yes   yes;
    ZeroedAllocator<All>:                   yes  yes  no    yes   yes;
    ZeroedAllocator<Bare>:                  no   no   no    yes   no;
    PressureAllocator<All, Pressed>:        yes  yes  no    yes   yes;
    PressureAllocator<Bare, Pressed>:       no   no   no    yes   no;
    PressureAllocator<All, Untold>:         no   no   no    yes   no;
    Pressure:                               yes  yes  yes   yes   yes;
    BucketizeAllocator<All, 2>:             yes  yes  no    yes   yes;
    BucketizeAllocator<Moved, 2>:           yes  no   no    yes   yes;
    BucketizeAllocator<Bare, 2>:            no   no   no    yes   no;
    Compressed<All, u8>:                    yes  yes  no    yes   yes;
    Compressed<Moved, u8>:                  yes  no   no    yes   yes;
    Compressed<Bare, u8>:                   no   no   no    yes   no;
    Stored<'static, All, Lz4>:              yes  yes  no    yes   yes;
    Stored<'static, Moved, Lz4>:            no   no   no    yes   no;
    Stored<'static, Bare, Lz4>:             no   no   no    yes   no;
    Lz4:                                    yes  yes  yes   yes   yes;

    Features:                               yes  yes  yes   yes   yes;
    Level:                                  yes  yes  yes   yes   yes;

    terrace::Gpa:                           yes  yes  no    yes   yes;
    terrace::Global:                        yes  yes  no    yes   yes;
    terrace::NumaRegion:                    yes  yes  no    yes   yes;
    terrace::presets::Numa:                 yes  yes  no    yes   yes;
    terrace::manager::Manager:              yes  yes  no    yes   yes;
    terrace::manager::InitError:            yes  yes  yes   yes   yes;
    terrace::manager::RegisterError:        yes  yes  yes   yes   yes;
    terrace::manager::Configured:           yes  yes  yes   yes   yes;
    terrace::manager::Features:             yes  yes  yes   yes   yes;
    terrace::gc::Heap<'static, Leaf, All>:  no   no   no    yes   yes;
    terrace::gc::Marker<'static, Leaf>:     no   no   no    yes   no;
    terrace::gc::Tracked<Leaf>:             yes  yes  yes   yes   yes;
    terrace::gc::Due:                       yes  yes  no    yes   yes;
    terrace::gc::Due<Rc<u8>>:               no   no   no    yes   yes;
    terrace::gc::HeapStats:                 yes  yes  yes   yes   yes;
    terrace::gc::Collection:                yes  yes  yes   yes   yes;

    testkit::Monitor<All>:                  yes  yes  no    yes   yes;
    testkit::Monitor<Bare>:                 no   no   no    yes   no;
    testkit::Failing<All>:                  yes  yes  no    yes   yes;
    testkit::Failing<Bare>:                 no   no   no    yes   no;
    testkit::Ground:                        yes  yes  no    yes   yes;
    testkit::Start:                         yes  yes  no    yes   yes;
    testkit::Buffer:                        yes  yes  no    yes   yes;
    testkit::Wandering<All>:                yes  no   no    yes   yes;
    testkit::Twins<All>:                    yes  no   no    yes   yes;
    testkit::Block:                         yes  yes  yes   yes   yes;
    testkit::Breach:                        yes  yes  yes   yes   yes;
    testkit::Finding:                       yes  yes  yes   yes   yes;
    testkit::Role:                          yes  yes  yes   yes   yes;
    testkit::Reports:                       yes  yes  yes   yes   yes;
    testkit::Refusal:                       yes  yes  yes   yes   yes;
    testkit::Programs:                      yes  yes  yes   yes   yes;
    testkit::Summary:                       yes  yes  yes   yes   yes;
    testkit::Failure:                       yes  yes  yes   yes   yes;
    testkit::Op:                            yes  yes  yes   yes   yes;
    testkit::Setup:                         yes  yes  yes   yes   yes;
    testkit::Script:                        yes  yes  yes   yes   yes;
    testkit::NotAScript:                    yes  yes  yes   yes   yes;

    trace::BlockId:                         yes  yes  yes   yes   yes;
    trace::ThreadId:                        yes  yes  yes   yes   yes;
    trace::Event:                           yes  yes  yes   yes   yes;
    trace::Op:                              yes  yes  yes   yes   yes;
    trace::AllocKind:                       yes  yes  yes   yes   yes;
    trace::FreeKind:                        yes  yes  yes   yes   yes;
    trace::Nothing:                         yes  yes  yes   yes   yes;
    trace::Header:                          yes  yes  yes   yes   yes;
    trace::Machine:                         yes  yes  yes   yes   yes;
    trace::Source:                          yes  yes  yes   yes   yes;
    trace::Summary:                         yes  yes  yes   yes   yes;
    trace::Sizes:                           yes  yes  yes   yes   yes;
    trace::Format:                          yes  yes  yes   yes   yes;
    trace::Progress:                        yes  yes  yes   yes   yes;
    trace::ImportReport:                    yes  yes  yes   yes   yes;
    trace::BlockNames:                      yes  yes  yes   yes   yes;
    trace::Fault:                           yes  yes  yes   yes   yes;
    trace::format::Frame:                   yes  yes  yes   yes   yes;
    trace::TraceError:                      yes  yes  no    yes   no;
    trace::Reader:                          yes  yes  no    yes   yes;
    trace::Stream<'static>:                 yes  yes  no    yes   yes;
    trace::Events<'static>:                 yes  yes  no    yes   yes;
    trace::Writer<Vec<u8>>:                 yes  yes  no    yes   yes;
    trace::TraceSink<Vec<u8>>:              yes  yes  no    yes   yes;
}

// What is chosen at run time goes through these. `AllocatorExt` and `Emptied` are for known types only.
assert_obj_safe!(Allocator, Owns, GoodSize, BulkFree, Reset, Stats, PageSize, Decommit, Protect);
assert_obj_safe!(OnPressure, Reclaim, Sink, Slots, Threads, frame::FrameAllocator, frame::OnPressure, testkit::Handler);

// An allocator behind any kind of reference is one, also where only its trait is known.
assert_impl_all!(&'static dyn Allocator: Allocator, Clone);
assert_impl_all!(&'static (dyn Allocator + Sync): Allocator, Send, Sync);
assert_impl_all!(Box<dyn Allocator + Send>: Allocator, Send);
assert_not_impl_any!(Box<dyn Allocator>: Send, Sync, Clone);
// Two owners of state would free each other's blocks (clause 9), and a moved inline buffer moves its blocks (clause 7).
assert_impl_all!(&'static InlineBuffer<64>: Allocator, Clone);
assert_not_impl_any!(InlineBuffer<64>: Allocator);
// The typed layer is not for `dyn`, and an arena's owner is no collection's: only a reference to it is.
assert_impl_all!(All: AllocatorExt);
assert_impl_all!(&'static ArenaAllocator<All>: allocator_api2_02::alloc::Allocator);
assert_not_impl_any!(ArenaAllocator<All>: allocator_api2_02::alloc::Allocator);

/// Types that this table cannot name: `pub` inside a private module, hooks for tests, features that are off here.
const UNREACHABLE: &[(&str, &str)] = &[
    ("crates/sync/src/cell.rs", "loom's type in the models, the room's own interface"),
    ("crates/terrace/src/backtraced.rs", "the feature `backtrace`; a handler that has another's traits"),
    ("crates/heap/src/stats/tally.rs", "`pub` inside a private module: what a `StatsAllocator` counts with"),
    ("crates/sys/src/prim/fault.rs", "the feature `fault-injection`, for tests"),
];

#[test]
fn every_public_type_has_its_row() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| name_of(row)).collect();
    let (mut seen, mut missing) = (0, Vec::new());
    for source in sources(&crates) {
        let place = source.strip_prefix(crates.parent().unwrap()).unwrap().to_string_lossy().into_owned();
        if ["crates/lab/", "crates/malloc/"].iter().any(|program| place.starts_with(program))
            || UNREACHABLE.iter().any(|(path, _)| *path == place)
        {
            continue;
        }
        for line in fs::read_to_string(&source).unwrap().lines() {
            let Some(rest) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) else {
                continue;
            };
            let name = name_of(rest);
            seen += 1;
            if !rows.contains(name) {
                missing.push(format!("{place}: {name}"));
            }
        }
    }
    assert!(seen > 60, "{seen} types seen");
    assert!(missing.is_empty(), "add a row to tests/auto_traits.rs for\n{}", missing.join("\n"));
}

/// The last segment of a path, without what is generic in it.
fn name_of(written: &str) -> &str {
    let end = written.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(written.len());
    written[..end].rsplit("::").next().unwrap().trim_end_matches(':')
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            let of_code = !entry.ends_with("tests") && !entry.ends_with("target") && !entry.ends_with("fuzz");
            found.extend(if of_code { sources(&entry) } else { Vec::new() });
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}
