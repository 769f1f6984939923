//! `lab frames --topology`: callers on the nodes of a simulated machine, and where their frames come from.
//!
//! ```text
//!  topology.toml ──▶ nodes, a hybrid for each with memory ──▶ NumaAllocator ──▶ a view for each thread ──▶ counts, pictures
//!
//!  thread 0 on node 0   get get get │ put get put get …       threads take turns, a call each: first until all hold their
//!  thread 1 on node 1   get get get │ put get put get …       share, then one at random comes back and another goes out
//! ```
//!
//! The frames are numbers and the threads are turns, so a large machine runs on any, and the seed decides every frame that is handed
//! out: two policies meet the same requests. Nothing is timed: what a far node costs, no simulation knows.
//!
//! - **M1** What is counted and drawn is as it was when all had done their last call, with what they hold then.
//! - **M2** Afterwards every run goes back, and all frames are free: else it is a mistake, and told so.
#![forbid(unsafe_code)]

pub mod policy;
pub mod text;
pub mod topology;

use anyhow::{Context, anyhow, ensure};
use serde::Serialize;
use terrace_frame::{
    Frame, FrameAllocator, Frames, FreeAreas, HybridAllocator, MemoryMap, NumaAllocator, Order, PageSize, Picture,
    numa::{Distances, NumaNode},
};
use terrace_sys::{PageAllocator, ThreadSlots};

use self::{policy::PolicyWord, topology::Topology};
use super::works::Random;
use crate::stack::frames::FRAME;

/// Marks of a picture for the largest node: two lines.
const MARKS: usize = 128;
/// Marks in a line.
const LINE: usize = 64;

/// What to do, checked.
pub struct Options {
    pub topology: Topology,
    pub policies: Vec<PolicyWord>,
    pub threads: usize,
    /// Of all memory, that all threads together want to hold.
    pub fill_percent: u8,
    /// Exchanges of each thread when it has its share.
    pub operations: usize,
    pub seed: u64,
}

/// What one policy came to.
#[derive(Serialize)]
pub struct Outcome {
    pub policy: String,
    pub gets: u64,
    pub refused: u64,
    /// Of the gets, in percent: of the thread's own node, however they came.
    pub own_percent: f64,
    /// Distance of a frame that is held at the end from the thread that holds it, on average; absent where nothing is held.
    pub mean_distance: Option<f64>,
    /// Those that got something.
    pub pairs: Vec<Pair>,
    pub nodes: Vec<NodeOutcome>,
}

/// What the threads of one node got out of one node.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct Pair {
    pub from: usize,
    pub to: usize,
    pub distance: u8,
    /// Gets, where the policy led to the thread's own node first.
    pub local: u64,
    /// Where it led to another node first.
    pub remote: u64,
    /// Where the node before had no room.
    pub fallback: u64,
    /// Held at the end.
    pub held_bytes: u64,
}

/// A node at the end.
#[derive(Serialize)]
pub struct NodeOutcome {
    pub node: usize,
    pub cpus: u32,
    pub threads: usize,
    pub bytes: u64,
    pub free_bytes: u64,
    /// Free blocks of 2 MiB, and the part of free memory that is in smaller ones; absent without memory.
    pub free_large: usize,
    pub unusable_thousandths: Option<i32>,
    /// A mark for each block; see `Picture` of `terrace-frame`.
    pub picture: Vec<String>,
    /// What the marks mean.
    #[serde(skip)]
    pub legend: String,
}

/// All policies over a machine, each from the start.
///
/// # Errors
/// Where a policy names nodes that are not there, there is no memory for the notes, or an allocator does not take back what it gave.
pub fn run(options: &Options) -> anyhow::Result<Vec<Outcome>> {
    options.policies.iter().map(|policy| simulate(options, *policy)).collect()
}

type Hybrid = HybridAllocator<'static, ThreadSlots, PageAllocator>;
fn simulate(options: &Options, policy: PolicyWord) -> anyhow::Result<Outcome> {
    let topology = &options.topology;
    let nodes = nodes(topology)?;
    let distances = Distances::new(nodes.len(), &topology.distances)?;
    let mut counts = vec![0; NumaAllocator::metadata_bytes(nodes.len(), 0).div_ceil(8)];
    let numa = NumaAllocator::new(&nodes, distances, &mut counts)?;
    let spread = topology.spread(options.threads);
    let mut views = Vec::new();
    for &node in &spread {
        let view = numa.view(node, policy.of(nodes.len()));
        views.push(view.map_err(|_| {
            anyhow!(
                "no memory for threads on node {node} under {policy}; name nodes from 0 to {} that have memory and a way there",
                nodes.len() - 1
            )
        })?);
    }
    let mut turns = Turns::new(options, views);
    turns.fill();
    turns.exchange(options.operations);
    numa.drain();
    let outcome = outcome(&numa, options, policy, &spread, &turns);
    turns.give_back();
    numa.drain();
    let whole = !turns.misuse && numa.free_frames() == topology.frames();
    ensure!(whole, "the nodes under {policy} did not take back what they had handed out: please report this");
    Ok(outcome)
}

/// The order of a picture's blocks: that of the largest node has [`MARKS`] at most.
fn block_order(topology: &Topology) -> Order {
    let largest = topology.nodes.iter().map(|node| node.frames).max().unwrap_or(0);
    let fits = |order: &Order| largest.div_ceil(order.frames()) <= MARKS;
    (0..=Order::MAX.log2()).filter_map(Order::new).find(fits).unwrap_or(Order::MAX)
}

/// The nodes, each from the start of a line of its picture.
fn nodes(topology: &Topology) -> anyhow::Result<Vec<NumaNode<Hybrid>>> {
    let line = block_order(topology).frames() * LINE;
    let mut start = 0;
    let mut nodes = Vec::new();
    for (number, node) in topology.nodes.iter().enumerate() {
        if node.frames == 0 {
            nodes.push(NumaNode::without_memory());
            continue;
        }
        let map = MemoryMap::of(Frames::new(start, node.frames))?;
        let frames = HybridAllocator::new_in(&map, ThreadSlots, &PageAllocator);
        let frames =
            frames.with_context(|| format!("no memory for the notes of node {number}; write smaller nodes"))?;
        nodes.push(NumaNode::new(&map, frames)?);
        start = (start + node.frames).next_multiple_of(line);
    }
    Ok(nodes)
}

/// All threads, which take turns.
struct Turns<V> {
    threads: Vec<Thread<V>>,
    /// Frames that each wants to hold.
    share: usize,
    gets: u64,
    refused: u64,
    misuse: bool,
}

struct Thread<V> {
    view: V,
    random: Random,
    held: Vec<(Frame, Order)>,
    frames: usize,
}

impl<V: FrameAllocator> Turns<V> {
    fn new(options: &Options, views: Vec<V>) -> Self {
        let thread = |(number, view)| {
            let random = Random::new(options.seed.wrapping_add(number));
            Thread { view, random, held: Vec::new(), frames: 0 }
        };
        let threads: Vec<_> = (0..).zip(views).map(thread).collect();
        let all = options.topology.frames() / 100 * usize::from(options.fill_percent);
        Self { share: all / threads.len().max(1), threads, gets: 0, refused: 0, misuse: false }
    }

    /// Each gets until it holds its share, or is refused.
    fn fill(&mut self) {
        let mut hungry: Vec<usize> = (0..self.threads.len()).collect();
        while !hungry.is_empty() {
            hungry.retain(|&number| {
                let order = self.threads[number].random.order();
                let fits = self.threads[number].frames + (1 << order) <= self.share;
                fits && self.get(number, order)
            });
        }
    }

    /// In each turn runs at random come back, where the share is full, and another goes out.
    fn exchange(&mut self, operations: usize) {
        for _ in 0..operations {
            for number in 0..self.threads.len() {
                let thread = &mut self.threads[number];
                let order = thread.random.order();
                while thread.frames + (1 << order) > self.share && !thread.held.is_empty() {
                    let at = thread.random.below(thread.held.len());
                    self.misuse |= !thread.put(at);
                }
                self.get(number, order);
            }
        }
    }

    /// `false`: it was refused.
    fn get(&mut self, number: usize, order: u32) -> bool {
        let thread = &mut self.threads[number];
        let run = Order::new(order).and_then(|order| Some((thread.view.alloc_order(order).ok()?, order)));
        let Some((start, order)) = run else {
            self.refused += 1;
            return false;
        };
        thread.held.push((start, order));
        thread.frames += order.frames();
        self.gets += 1;
        true
    }

    fn give_back(&mut self) {
        for thread in &mut self.threads {
            while let Some(last) = thread.held.len().checked_sub(1) {
                self.misuse |= !thread.put(last);
            }
        }
    }
}

impl<V: FrameAllocator> Thread<V> {
    /// `false`: the run was not taken back.
    fn put(&mut self, at: usize) -> bool {
        let (start, order) = self.held.swap_remove(at);
        self.frames -= order.frames();
        self.view.free_order(start, order).is_ok()
    }
}

fn outcome<V: FrameAllocator>(
    numa: &NumaAllocator<'_, Hybrid>,
    options: &Options,
    policy: PolicyWord,
    spread: &[usize],
    turns: &Turns<V>,
) -> Outcome {
    let count = options.topology.nodes.len();
    let mut held = vec![0; count * count];
    for (thread, from) in turns.threads.iter().zip(spread) {
        for (start, order) in &thread.held {
            if let Some(to) = numa.node_of(*start) {
                held[from * count + to] += order.frames() as u64;
            }
        }
    }
    let pairs: Vec<Pair> = (0..count * count)
        .map(|at| {
            let (from, to) = (at / count, at % count);
            let counts = numa.counts(from, to);
            let (local, remote) = if from == to { (counts.hits, 0) } else { (0, counts.hits) };
            let distance = options.topology.distances[at];
            Pair { from, to, distance, local, remote, fallback: counts.fallbacks, held_bytes: held[at] * FRAME }
        })
        .filter(|pair| pair.gets() > 0)
        .collect();
    let own: u64 = pairs.iter().filter(|pair| pair.from == pair.to).map(Pair::gets).sum();
    let bytes: u64 = pairs.iter().map(|pair| pair.held_bytes).sum();
    let far: f64 = pairs.iter().map(|pair| pair.held_bytes as f64 * f64::from(pair.distance)).sum();
    Outcome {
        policy: policy.to_string(),
        gets: turns.gets,
        refused: turns.refused,
        own_percent: own as f64 * 100.0 / turns.gets.max(1) as f64,
        mean_distance: (bytes > 0).then_some(far / bytes as f64),
        pairs,
        nodes: (0..count).map(|node| node_outcome(numa, options, spread, node)).collect(),
    }
}

impl Pair {
    fn gets(&self) -> u64 {
        self.local + self.remote + self.fallback
    }
}

fn node_outcome(numa: &NumaAllocator<'_, Hybrid>, options: &Options, spread: &[usize], number: usize) -> NodeOutcome {
    let plan = options.topology.nodes[number];
    let large = PageSize::Large.order();
    let frames = numa.nodes()[number].frames();
    let areas = frames.map(FreeAreas::of).unwrap_or_default();
    let drawn = frames.map(|frames| Picture::of(frames).of_blocks(block_order(&options.topology)).to_string());
    let drawn = drawn.unwrap_or_default();
    // The last line says what the marks mean.
    let (picture, legend) = drawn.rsplit_once('\n').unwrap_or_default();
    NodeOutcome {
        node: number,
        cpus: plan.cpus,
        threads: spread.iter().filter(|&&on| on == number).count(),
        bytes: plan.frames as u64 * FRAME,
        free_bytes: areas.free_frames() as u64 * FRAME,
        free_large: areas.suitable(large),
        unusable_thousandths: frames.map(|_| areas.unusable_index(large).get()),
        picture: picture.lines().map(str::to_owned).collect(),
        legend: legend.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CXL: &str = include_str!("../../../topologies/cxl.toml");

    fn ran(text: &str, policy: &str, fill_percent: u8, threads: usize) -> Outcome {
        let topology = Topology::parse(text).expect("a topology");
        let policies = vec![PolicyWord::parse(policy).expect("a policy")];
        let options = Options { topology, policies, threads, fill_percent, operations: 2000, seed: 3 };
        run(&options).expect("it runs").remove(0)
    }

    /// What is true of every outcome.
    fn check(outcome: &Outcome) {
        let gets: u64 = outcome.pairs.iter().map(Pair::gets).sum();
        assert_eq!(gets, outcome.gets, "{}", outcome.policy);
        for node in &outcome.nodes {
            let held: u64 = outcome.pairs.iter().filter(|pair| pair.to == node.node).map(|pair| pair.held_bytes).sum();
            assert_eq!(held + node.free_bytes, node.bytes, "{}, node {}", outcome.policy, node.node);
            assert!(node.picture.len() <= MARKS / LINE, "{:?}", node.picture);
            let marks = |line: &String| line.split_once('|').expect("marks").1.to_owned();
            let drawn: String = node.picture.iter().map(marks).collect();
            assert!(!drawn.contains('.') || node.free_large > 0, "what is drawn as free is: {drawn}");
            assert_eq!(
                node.free_bytes == 0,
                !drawn.contains(|mark: char| mark == '.' || mark.is_ascii_digit()),
                "{drawn}"
            );
        }
    }

    #[test]
    fn every_policy_accounts_for_every_frame() {
        for policy in ["local", "interleave", "interleave=1,2", "bind=0", "bind=0,2", "preferred=2", "weighted=3,1"] {
            for fill in [1, 50, 100] {
                check(&ran(CXL, policy, fill, 3));
            }
        }
    }

    #[test]
    fn a_policy_leads_where_it_says_while_there_is_room() {
        let local = ran(CXL, "local", 10, 2);
        assert!(local.own_percent == 100.0 && local.mean_distance == Some(10.0) && local.refused == 0);
        let to = |outcome: &Outcome| outcome.pairs.iter().map(|pair| pair.to).collect::<Vec<_>>();
        assert_eq!((to(&ran(CXL, "bind=2", 10, 2)), to(&ran(CXL, "preferred=1", 10, 2))), (vec![2, 2], vec![1, 1]));
        let spread = ran(CXL, "interleave", 10, 2);
        for from in [0, 1] {
            let gets =
                |to| spread.pairs.iter().filter(|pair| (pair.from, pair.to) == (from, to)).map(Pair::gets).sum::<u64>();
            let gets = [0, 1, 2].map(gets);
            assert!(gets.iter().max() <= gets.iter().min().map(|least| least + 1).as_ref(), "even to one: {gets:?}");
        }
    }

    #[test]
    fn weights_say_how_much_of_each_node_a_thread_gets() {
        let weighted = ran(CXL, "weighted=3,0,1", 10, 2);
        for from in [0, 1] {
            let gets = |to| {
                weighted.pairs.iter().filter(|pair| (pair.from, pair.to) == (from, to)).map(Pair::gets).sum::<u64>()
            };
            let (near, none, far) = (gets(0), gets(1), gets(2));
            assert!(none == 0 && far > 0 && near.abs_diff(far * 3) <= 3, "{near} of node 0, {far} of node 2");
        }
    }

    #[test]
    fn a_full_node_falls_back_but_for_bind() {
        let local = ran(CXL, "local", 60, 2);
        assert!(
            local.refused == 0 && local.pairs.iter().any(|pair| pair.to == 2 && pair.fallback > 0),
            "{:?}",
            local.pairs
        );
        assert!(local.pairs.iter().all(|pair| pair.remote == 0));
        let bound = ran(CXL, "bind=0", 60, 2);
        assert!(bound.refused > 0 && bound.pairs.iter().all(|pair| pair.to == 0), "{:?}", bound.pairs);
        assert!(bound.nodes[0].picture.concat().contains('#') && bound.nodes[1].picture.concat().contains('.'));
    }

    #[test]
    fn nodes_that_cannot_serve_are_named() {
        let far =
            "distances = [[10, 255], [255, 10]]\nnode = [{ memory = \"64MiB\", cpus = 1 }, { memory = \"64MiB\" }]";
        for (policy, text) in [("bind=1", far), ("preferred=9", CXL), ("interleave=0,9", CXL)] {
            let topology = Topology::parse(text).expect("a topology");
            let policies = vec![PolicyWord::parse(policy).expect("a policy")];
            let options = Options { topology, policies, threads: 1, fill_percent: 10, operations: 1, seed: 1 };
            let said = run(&options).err().expect(policy).to_string();
            assert!(said.contains(policy) && said.contains("name nodes from 0 to"), "{said}");
        }
        let local = ran(far, "local", 100, 1);
        assert_eq!(local.nodes[1].free_bytes, 64 << 20, "out of reach");
        check(&local);
    }
}
