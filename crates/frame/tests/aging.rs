//! Aging: after 200 rounds of freeing a random 30 % and filling up again to half load with runs of all kinds, how many
//! 2 MiB blocks are free, beside what first fit leaves that searches the whole memory for the lowest place.

use terrace_core::SystemAllocator;
use terrace_frame::{Frame, FrameAllocator, Frames, HybridAllocator, MemoryMap, Order};
use terrace_sync::Slots;

/// 1 GiB: 512 blocks.
const FRAMES: usize = 1 << 18;
const BLOCK: usize = 512;
const ROUNDS: usize = 200;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    /// Mostly single frames, some of each order up to 9.
    fn order(&mut self) -> u32 {
        match self.below(16) {
            0..8 => 0,
            8..12 => 3,
            other => [1, 5, 7, 9][other - 12],
        }
    }
}

/// One slot, as one CPU would have.
struct One;

// SAFETY: one thread, which leaves before it enters again.
unsafe impl Slots for One {
    fn count(&self) -> usize {
        1
    }

    fn enter(&self) -> usize {
        1
    }
}

/// Whoever hands out and takes back, and says how many blocks are free.
trait Aged {
    fn get(&mut self, order: u32) -> Option<usize>;
    fn put(&mut self, start: usize, order: u32);
    fn is_free(&self, frame: usize) -> bool;
}

struct Ours<'a>(HybridAllocator<'a, One, SystemAllocator>);

impl Aged for Ours<'_> {
    fn get(&mut self, order: u32) -> Option<usize> {
        self.0.alloc_order(Order::new(order)?).ok().map(|frame| frame.0)
    }

    fn put(&mut self, start: usize, order: u32) {
        self.0.free_order(Frame(start), Order::new(order).expect("up to 20")).expect("it is ours");
    }

    fn is_free(&self, frame: usize) -> bool {
        self.0.is_free(Frame(frame))
    }
}

/// The oracle: the lowest place, whatever it costs.
struct FirstFit {
    free: Vec<bool>,
    /// Of each order, below which there is nothing; so that it is an oracle that ends today.
    from: [usize; 10],
}

impl Aged for FirstFit {
    fn get(&mut self, order: u32) -> Option<usize> {
        let is_free = |&start: &usize| self.free[start..start + (1 << order)].iter().all(|&free| free);
        let start = (self.from[order as usize]..FRAMES).step_by(1 << order).find(is_free)?;
        self.from[order as usize] = start;
        self.free[start..start + (1 << order)].fill(false);
        Some(start)
    }

    fn put(&mut self, start: usize, order: u32) {
        self.free[start..start + (1 << order)].fill(true);
        for (order, from) in self.from.iter_mut().enumerate() {
            *from = (*from).min(start >> order << order);
        }
    }

    fn is_free(&self, frame: usize) -> bool {
        self.free[frame]
    }
}

fn free_blocks(memory: &dyn Aged) -> usize {
    (0..FRAMES / BLOCK).filter(|block| (0..BLOCK).all(|at| memory.is_free(block * BLOCK + at))).count()
}

/// The same sequence for each; free blocks, summed over the last 20 rounds.
fn age(memory: &mut dyn Aged, seed: u64) -> usize {
    let mut random = Random(seed);
    let mut live: Vec<(usize, u32)> = Vec::new();
    let (mut used, mut sum) = (0, 0);
    for round in 0..ROUNDS {
        while used < FRAMES / 2 {
            let order = random.order();
            let start = memory.get(order).expect("half of the memory is free");
            live.push((start, order));
            used += 1 << order;
        }
        if round >= ROUNDS - 20 {
            sum += free_blocks(memory);
        }
        for _ in 0..live.len() * 3 / 10 {
            let (start, order) = live.swap_remove(random.below(live.len()));
            memory.put(start, order);
            used -= 1 << order;
        }
    }
    sum
}

#[test]
fn aged_memory_keeps_its_large_blocks() {
    let map = MemoryMap::of(Frames::new(0, FRAMES)).expect("a map");
    for seed in [1, 22, 333] {
        let ours = age(&mut Ours(HybridAllocator::new_in(&map, One, &SystemAllocator).expect("memory")), seed);
        let oracle = age(&mut FirstFit { free: vec![true; FRAMES], from: [0; 10] }, seed);
        eprintln!(
            "free blocks of 512, mean of 20 rounds: {:.1}, first fit {:.1}",
            ours as f64 / 20.0,
            oracle as f64 / 20.0
        );
        assert!(ours * 100 >= oracle * 95, "{ours} of {oracle}");
    }
}
