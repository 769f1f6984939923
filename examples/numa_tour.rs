//! A tour of a machine with several nodes of memory: a simulated one, and then the one that this runs on.
//!
//! ```console
//! $ cargo run -p terrace-examples --example numa_tour
//! ```
//!
//! The first half hands out numbers of frames, on a machine that exists as a matrix alone: two nodes with processors, a third with
//! memory alone, far away. It shows where each policy goes, what a full node leads to, and who was served where. The second half asks
//! this machine for its nodes, takes a block of each, and has the kernel say where the pages lie.

use std::{error::Error, num::NonZeroUsize, ptr::NonNull};

use terrace::{
    Alignment, Allocator, NumaRegion, SystemAllocator,
    frame::{
        FrameAllocator, Frames, HybridAllocator, MemoryMap, Order,
        numa::{Distances, NodeSet, NodeWeights, NumaAllocator, NumaNode, NumaPolicy},
    },
    numa::{self, Place, Topology},
};
use terrace_sync::NoSlots;

/// 4 MiB for each node, so that one is soon full.
const FRAMES: usize = 1024;
const NODES: usize = 3;
/// From each to each, as firmware says it: 10 is near.
const DISTANCES: [u8; NODES * NODES] = [10, 21, 40, 21, 10, 40, 40, 40, 10];

/// So many frames by a policy for a caller on node 0, by the nodes that they came from.
fn served(
    numa: &NumaAllocator<'_, impl FrameAllocator>,
    policy: NumaPolicy,
    count: usize,
) -> Result<[usize; NODES], Box<dyn Error>> {
    let view = numa.view(0, policy)?;
    let frames: Vec<_> = (0..count).map_while(|_| view.alloc_order(Order::MIN).ok()).collect();
    let mut by_node = [0; NODES];
    frames.iter().filter_map(|&frame| numa.node_of(frame)).for_each(|node| by_node[node] += 1);
    view.free_batch(Order::MIN, &frames).map_err(|(_, misuse)| misuse)?;
    Ok(by_node)
}

fn simulated(say: &mut dyn FnMut(String)) -> Result<(), Box<dyn Error>> {
    let maps = [0, 1, 2].map(|node| MemoryMap::of(Frames::new(node * FRAMES, FRAMES)));
    let mut nodes = Vec::new();
    for map in maps {
        let map = map?;
        // In a kernel the notes would stand in the node's own memory.
        let frames = HybridAllocator::new_in(&map, NoSlots, &SystemAllocator)?;
        nodes.push(NumaNode::new(&map, frames)?);
    }
    let mut counts = [0; NumaAllocator::metadata_bytes(NODES, 0) / 8];
    let numa = NumaAllocator::new(&nodes, Distances::new(NODES, &DISTANCES)?, &mut counts)?;
    say(format!(
        "A simulated machine: {NODES} nodes of {FRAMES} frames, distances {:?}",
        DISTANCES.chunks(NODES).collect::<Vec<_>>()
    ));
    say("Frames for a caller on node 0, by the node that they came from:".into());
    let weights = NodeWeights::new(&[3, 2, 1]);
    let two = NodeSet::one(1).with(2);
    let asked = [
        ("Local, 600", NumaPolicy::Local, 600),
        ("Local, 1 500: the rest from the nearest", NumaPolicy::Local, 1500),
        ("Preferred(2), 1 500: the nearest to 2", NumaPolicy::Preferred(2), 1500),
        ("Bind({1, 2}), 3 000: and no more", NumaPolicy::Bind(two), 3000),
        ("Interleave({0, 1, 2}), 600", NumaPolicy::Interleave(NodeSet::first(NODES)), 600),
        ("WeightedInterleave(3, 2, 1), 600", NumaPolicy::WeightedInterleave(weights), 600),
    ];
    for (name, policy, count) in asked {
        say(format!("  {name:42} {:?}", served(&numa, policy, count)?));
    }
    for to in 0..NODES {
        let counts = numa.counts(0, to);
        say(format!(
            "  from node 0 to node {to}: {} as the policy said, {} since another was full",
            counts.hits, counts.fallbacks
        ));
    }
    Ok(())
}

fn real(say: &mut dyn FnMut(String)) -> Result<(), Box<dyn Error>> {
    let topology = Topology::read().unwrap_or_else(|why| {
        say(format!("This machine tells of no nodes: {why}"));
        Topology::one_node()
    });
    say(format!("This machine: {} node(s), the thread is on node {}", topology.nodes().len(), numa::current_node()));
    for (index, node) in topology.nodes().iter().enumerate() {
        let (free, all) = (node.free_bytes >> 20, node.bytes >> 20);
        say(format!(
            "  node {}: {} processors, {free} of {all} MiB free, distances {:?}",
            node.number,
            node.processors.len(),
            topology.row(index)
        ));
    }
    let region = NumaRegion::with_limit(NonZeroUsize::new(16 << 20).ok_or("not zero")?)?;
    if let Some(why) = region.unplaced() {
        say(format!("  its pages cannot be placed: {why}"));
    }
    for node in 0..region.nodes() {
        let Ok(handle) = region.on(node, NumaPolicy::Bind(NodeSet::one(node))) else {
            say(format!("  node {node} has no memory to bind to"));
            continue;
        };
        let len = NonZeroUsize::new(1 << 20).ok_or("not zero")?;
        let block = NonNull::slice_from_raw_parts(handle.alloc(len, Alignment::ONE)?, len.get());
        let mut here = 0;
        let number = region.number_of(node);
        let asked =
            numa::places(block, |place| here += usize::from(matches!(place, Place::Node(on) if Some(on) == number)));
        match asked {
            Ok(()) => say(format!(
                "  1 MiB bound to node {node}: {here} of {} pages lie there",
                len.get() / terrace::page_size()
            )),
            Err(why) => say(format!("  1 MiB bound to node {node}: {why}")),
        }
        // SAFETY: live, of this region, not used again.
        unsafe { region.free(block, Alignment::ONE) };
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut say = |line: String| println!("{line}");
    simulated(&mut say)?;
    real(&mut say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tour_tells_where_each_policy_goes() {
        let mut text = String::new();
        simulated(&mut |line| text.extend([line, "\n".into()])).expect("it is simulated");
        for row in
            ["[600, 0, 0]", "[1024, 476, 0]", "[476, 0, 1024]", "[0, 1024, 1024]", "[200, 200, 200]", "[300, 200, 100]"]
        {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn the_tour_runs_on_this_machine() {
        let mut lines = 0;
        real(&mut |_| lines += 1).expect("one node at least");
        assert!(lines > 2);
    }
}
