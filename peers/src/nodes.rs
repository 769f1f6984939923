//! The group `nodes`: a frame got and put through the nodes, or the zones, beside the same through the hybrid allocator below them, which
//! stands in the place of a peer. What they cost on the path on which the caller's own node, or the zone Normal, has a frame at hand is the difference.
//!
//! ```text
//!   terrace:  numa.alloc_order_on(node, order)   ──▶ hybrid of the node        numa.free_order_on(node, frame, order) ──▶ the same hybrid
//!   hybrid:   hybrid.alloc_order(order)          ──────▶                       hybrid.free_order(frame, order) ──────▶
//!             in the cells "get" and "put" the other half of the pair goes to the hybrid in both
//! ```

use std::hint::black_box;

use terrace_core::SystemAllocator;
use terrace_frame::{
    Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap, Order, ZoneConfig, ZonedAllocator,
    numa::{Distances, NumaAllocator, NumaNode},
};
use terrace_sync::Slots;
use terrace_sys::ThreadSlots;

use crate::{
    cells::Cell,
    harness::{Competitor, OURS},
};

type Hybrid = HybridAllocator<'static, ThreadSlots, SystemAllocator>;
type Nodes = NumaAllocator<'static, Hybrid, ThreadSlots>;

/// What the nodes and the zones stand on, alone.
const HYBRID: &str = "hybrid";
/// Of each node, and of the zones: 64 MiB.
const FRAMES: usize = 64 << 8;
const NODES: usize = 4;

fn map(node: usize) -> MemoryMap {
    MemoryMap::of(Frames::new(FRAMES * (node + 1), FRAMES)).expect("no overlap")
}

fn hybrid(node: usize) -> Hybrid {
    HybridAllocator::new_in(&map(node), ThreadSlots, &SystemAllocator).expect("memory")
}

/// As large as `bytes` says, never given back.
fn words(bytes: usize) -> &'static mut [u64] {
    vec![0; bytes.div_ceil(8)].leak()
}

fn nodes() -> Nodes {
    let nodes = (0..NODES).map(|node| NumaNode::new(&map(node), hybrid(node)).expect("its own map"));
    let rows = (0..NODES * NODES).map(|at| if at / NODES == at % NODES { 10 } else { 20 });
    let distances = Distances::new(NODES, rows.collect::<Vec<u8>>().leak()).expect("a matrix");
    let counts = words(NumaAllocator::metadata_bytes(NODES, ThreadSlots.count()));
    let nodes = nodes.collect::<Vec<_>>().leak();
    NumaAllocator::with_slots(nodes, distances, ThreadSlots, counts).expect("no overlap")
}

/// Frames of the zone Normal alone, with marks that are far away.
fn zones() -> ZonedAllocator<'static, ThreadSlots> {
    let (map, config) = (map(0), ZoneConfig { dma_end: Frame(0), ..ZoneConfig::default() });
    let bytes = ZonedAllocator::metadata_bytes(&map, &config, ThreadSlots.count()).expect("a map of one zone");
    ZonedAllocator::with_slots(&map, &config, ThreadSlots, (), words(bytes)).expect("a map of one zone")
}

/// Who gets and puts frames of an order.
trait Work {
    fn get(&self, order: Order) -> Option<Frame>;
    fn put(&self, frame: Frame, order: Order) -> bool;
}

/// An allocator through its own methods: the hybrid, a view, zones.
struct Plain<F>(F);

impl<F: FrameAllocator> Work for Plain<F> {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<Frame> {
        self.0.alloc_order(order).ok()
    }

    #[inline(always)]
    fn put(&self, frame: Frame, order: Order) -> bool {
        self.0.free_order(frame, order).is_ok()
    }
}

/// The node is passed with each call; each half of the pair through the nodes, or straight to the node's hybrid.
struct Passed<const GET: bool, const PUT: bool> {
    numa: Nodes,
    node: usize,
    below: &'static Hybrid,
}

impl<const GET: bool, const PUT: bool> Passed<GET, PUT> {
    fn new() -> Self {
        let (numa, node) = (nodes(), black_box(NODES - 1));
        let below = numa.nodes()[node].frames().expect("it has memory");
        Self { numa, node, below }
    }
}

impl<const GET: bool, const PUT: bool> Work for Passed<GET, PUT> {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<Frame> {
        if GET { self.numa.alloc_order_on(self.node, order).ok() } else { self.below.alloc_order(order).ok() }
    }

    #[inline(always)]
    fn put(&self, frame: Frame, order: Order) -> bool {
        match PUT {
            true => self.numa.free_order_on(self.node, frame, order).is_ok(),
            false => self.below.free_order(frame, order).is_ok(),
        }
    }
}

/// The frame is given back without a word of whose it is.
struct Found(Passed<false, false>);

impl Work for Found {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<Frame> {
        self.0.get(order)
    }

    #[inline(always)]
    fn put(&self, frame: Frame, order: Order) -> bool {
        self.0.numa.free_order(frame, order).is_ok()
    }
}

/// The work of that kind, by ours and by the hybrid alone.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    assert!(ThreadSlots.claim(), "this thread has a number");
    let ours = match cell.kind.as_str() {
        "passed" => over(cell, Passed::<true, true>::new()),
        "passed get" => over(cell, Passed::<true, false>::new()),
        "passed put" => over(cell, Passed::<false, true>::new()),
        "found put" => over(cell, Found(Passed::new())),
        "view" => over(cell, Plain(Box::leak(Box::new(nodes())).on(black_box(NODES - 1)).expect("it is there"))),
        "zones" => over(cell, Plain(zones())),
        kind => unreachable!("cells.toml asks for {kind}, which this group does not do"),
    };
    vec![ours, Competitor { name: HYBRID, ..over(cell, Plain(hybrid(NODES - 1))) }]
}

fn over(cell: &Cell, work: impl Work + 'static) -> Competitor {
    let (count, order) = (cell.count, Order::new(black_box(cell.size as u32)).expect("cells.toml names an order"));
    let run = Box::new(move |repetitions| {
        for _ in 0..repetitions {
            pairs(count, order, &work);
        }
    });
    Competitor { name: OURS, run }
}

#[inline(never)]
fn pairs(count: usize, order: Order, work: &impl Work) {
    for _ in 0..count {
        let frame = work.get(order).expect("room");
        assert!(work.put(black_box(frame), order), "it is live");
    }
}
