//! From a combinator's word to an allocator: the part of [`dispatch`](super::dispatch) that knows combinators.
//!
//! ```text
//! limit(16MiB, arena(page)) ──▶ LimitAllocator<Box<dyn …>> over what `dispatch` makes of arena(page)
//! ```
//!
//! Layers over one backing are written once, by a macro, for each kind of box: for one thread or many, and, where a
//! fallback needs it, with `Owns`. Counts of two grounds are added.

use std::num::NonZeroUsize;

use terrace_core::{AllocStats, Owns, Stats};
use terrace_heap::{
    AffixAllocator, ArenaAllocator, BucketizeAllocator, BufferFirstAllocator, FallbackAllocator, FixedBufferAllocator,
    FreeListAllocator, Histograms, LimitAllocator, LockAllocator, Pressure, PressureAllocator, SegregateAllocator,
    SmpAllocator, StackAllocator, StatsAllocator, SyncArena, ZeroedAllocator,
};
use terrace_sys::ThreadSlots;

use super::{
    dispatch::{Ground, Local, Shared, boxed, boxed_shared, buffer, buffer_ground, debug, leak, pool},
    region,
};
use crate::stack::{
    Stack,
    combined::{Combined, Layer, MAX_BUCKETS},
};

/// The layers that threads may share where the backing is shared.
macro_rules! layer {
    ($layer:expr, $backing:expr) => {
        match $layer {
            Layer::Limit(bytes) => Box::new(LimitAllocator::new($backing, clamp(bytes))),
            Layer::Affix => Box::new(AffixAllocator::new($backing, 0u64, 0u64)),
            Layer::Zeroed => Box::new(ZeroedAllocator::new($backing)),
            // The hook of a program that has nothing to give back.
            Layer::Pressure(bytes) => {
                Box::new(PressureAllocator::with_threshold($backing, clamp(bytes), |_: &Pressure| false))
            }
            Layer::Stats => Box::new(StatsAllocator::with_histograms($backing, Histograms::<64>::new())),
            Layer::Lock | Layer::FreeList(_) => unreachable!("made by the callers"),
        }
    };
}

/// All layers, over a backing for one thread.
macro_rules! local_layer {
    ($layer:expr, $backing:expr) => {
        match $layer {
            Layer::Lock => Box::new(LockAllocator::new($backing)),
            Layer::FreeList(bytes) => Box::new(FreeListAllocator::new($backing, 1..=clamp(bytes), KEPT)),
            layer => layer!(layer, $backing),
        }
    };
}

/// A type for each number of buckets.
macro_rules! bucketize {
    ($step:expr, $buckets:expr) => {{
        let (step, buckets) = (NonZeroUsize::new(clamp($step)).unwrap_or(NonZeroUsize::MIN), $buckets);
        match buckets.len() {
            1 => bucketize!(step, buckets, 1),
            2 => bucketize!(step, buckets, 2),
            3 => bucketize!(step, buckets, 3),
            4 => bucketize!(step, buckets, 4),
            5 => bucketize!(step, buckets, 5),
            6 => bucketize!(step, buckets, 6),
            7 => bucketize!(step, buckets, 7),
            8 => bucketize!(step, buckets, 8),
            _ => unreachable!("the parser refuses more, and none"),
        }
    }};
    ($step:expr, $buckets:expr, $count:literal) => {
        match <[_; $count]>::try_from($buckets) {
            Ok(buckets) => Box::new(BucketizeAllocator::new($step, buckets)),
            Err(_) => unreachable!("there are so many"),
        }
    };
}

/// Blocks that a free list keeps.
const KEPT: usize = 1024;

/// One that threads may share: `combined.is_shared()` said so.
pub fn shared(combined: &Combined, ground: Option<&mut Ground>) -> Option<Shared> {
    Some(match combined {
        Combined::Bucketize(step, stacks) => {
            let shared = many(ground, stacks, boxed_shared);
            bucketize!(*step, shared.into_iter().collect::<Option<Vec<_>>>()?)
        }
        Combined::Layer(Layer::Lock, backing) => Box::new(LockAllocator::new(boxed(backing, ground))),
        Combined::Layer(layer, backing) => layer!(*layer, boxed_shared(backing, ground)?),
        Combined::Fallback(first, second) => {
            let (one, two) = two(ground, |a| owning_shared(first, a), |b| boxed_shared(second, b));
            Box::new(FallbackAllocator::new(one?, two?))
        }
        Combined::Segregate(size, small, large) => {
            let (one, two) = two(ground, |a| boxed_shared(small, a), |b| boxed_shared(large, b));
            Box::new(SegregateAllocator::new(clamp(*size), one?, two?))
        }
    })
}

/// One for a single thread.
pub fn local(combined: &Combined, ground: Option<&mut Ground>) -> Local {
    match combined {
        Combined::Fallback(first, second) => {
            let (one, two) = two(ground, |a| owning(first, a), |b| boxed(second, b));
            Box::new(FallbackAllocator::new(one, two))
        }
        Combined::Segregate(size, small, large) => {
            let (one, two) = two(ground, |a| boxed(small, a), |b| boxed(large, b));
            Box::new(SegregateAllocator::new(clamp(*size), one, two))
        }
        Combined::Bucketize(step, stacks) => bucketize!(*step, many(ground, stacks, boxed)),
        Combined::Layer(layer, backing) => local_layer!(*layer, boxed(backing, ground)),
    }
}

/// A stack that knows its own blocks, for one thread. The parser has seen to it that there is one.
fn owning(stack: &Stack, ground: Option<&mut Ground>) -> Box<dyn Owns + Send> {
    match stack {
        Stack::Smp(on) => Box::new(SmpAllocator::new(boxed(on, ground), ThreadSlots)),
        Stack::Debug(on) => Box::new(debug(owning(on, ground))),
        Stack::Arena(on) => Box::new(ArenaAllocator::new(boxed(on, ground))),
        Stack::SyncArena(on) => Box::new(SyncArena::new(boxed(on, ground))),
        Stack::Lifo(on) => Box::new(StackAllocator::new(boxed(on, ground))),
        Stack::Pool(bytes, on) => Box::new(pool(*bytes, boxed(on, ground))),
        Stack::Fixed(bytes) => {
            buffer_ground(*bytes, ground);
            Box::new(FixedBufferAllocator::new(buffer(*bytes)))
        }
        Stack::BufferFirst(bytes, on) => Box::new(BufferFirstAllocator::new(buffer(*bytes), owning(on, ground))),
        Stack::Region(bytes, frames) => region::region(*bytes, *frames, ground),
        Stack::Combined(combined) => match combined {
            Combined::Fallback(first, second) => {
                let (one, two) = two(ground, |a| owning(first, a), |b| owning(second, b));
                Box::new(FallbackAllocator::new(one, two))
            }
            Combined::Segregate(size, small, large) => {
                let (one, two) = two(ground, |a| owning(small, a), |b| owning(large, b));
                Box::new(SegregateAllocator::new(clamp(*size), one, two))
            }
            Combined::Bucketize(step, stacks) => bucketize!(*step, many(ground, stacks, owning)),
            Combined::Layer(layer, on) => local_layer!(*layer, owning(on, ground)),
        },
        Stack::Page | Stack::System | Stack::Mimalloc | Stack::Plugin(_) => {
            unreachable!("the parser refuses it as a first side")
        }
    }
}

/// As [`owning`], for many threads; `None` where it is for one only.
fn owning_shared(stack: &Stack, ground: Option<&mut Ground>) -> Option<Box<dyn Owns + Send + Sync>> {
    Some(match stack {
        Stack::Smp(on) => Box::new(SmpAllocator::new(boxed_shared(on, ground)?, ThreadSlots)),
        Stack::SyncArena(on) => Box::new(SyncArena::new(boxed_shared(on, ground)?)),
        Stack::Region(bytes, frames) => region::region(*bytes, *frames, ground),
        Stack::Combined(combined) => match combined {
            Combined::Fallback(first, second) => {
                let (one, two) = two(ground, |a| owning_shared(first, a), |b| owning_shared(second, b));
                Box::new(FallbackAllocator::new(one?, two?))
            }
            Combined::Segregate(size, small, large) => {
                let (one, two) = two(ground, |a| owning_shared(small, a), |b| owning_shared(large, b));
                Box::new(SegregateAllocator::new(clamp(*size), one?, two?))
            }
            Combined::Layer(Layer::Lock, on) => Box::new(LockAllocator::new(owning(on, ground))),
            Combined::Bucketize(step, stacks) => {
                let shared = many(ground, stacks, owning_shared);
                bucketize!(*step, shared.into_iter().collect::<Option<Vec<_>>>()?)
            }
            Combined::Layer(Layer::FreeList(_), _) => return None,
            Combined::Layer(layer, on) => layer!(*layer, owning_shared(on, ground)?),
        },
        _ => return None,
    })
}

/// All of `stacks`, and in `ground` what they take together.
fn many<P>(ground: Option<&mut Ground>, stacks: &[Stack], make: impl Fn(&Stack, Option<&mut Ground>) -> P) -> Vec<P> {
    let Some(ground) = ground else { return stacks.iter().map(|stack| make(stack, None)).collect() };
    let mut sums = [None; MAX_BUCKETS];
    let made = stacks.iter().zip(&mut sums).map(|(stack, sum)| make(stack, Some(sum))).collect();
    *ground = Some(leak(Sum(sums)));
    made
}

/// Both sides, and in `ground` what they take together.
fn two<P, Q>(
    ground: Option<&mut Ground>,
    first: impl FnOnce(Option<&mut Ground>) -> P,
    second: impl FnOnce(Option<&mut Ground>) -> Q,
) -> (P, Q) {
    let Some(ground) = ground else { return (first(None), second(None)) };
    let mut sums = [None; 2];
    let [one, two] = &mut sums;
    let sides = (first(Some(one)), second(Some(two)));
    *ground = Some(leak(Sum(sums)));
    sides
}

/// What several grounds have given. Peaks are added too: together they may never have been so high.
struct Sum<const N: usize>([Ground; N]);

impl<const N: usize> Stats for Sum<N> {
    fn stats(&self) -> AllocStats {
        let each = self.0.iter().flatten().map(|ground| ground.stats());
        each.fold(AllocStats::default(), |sum, one| AllocStats {
            total_allocations: sum.total_allocations + one.total_allocations,
            total_deallocations: sum.total_deallocations + one.total_deallocations,
            current_allocations: sum.current_allocations + one.current_allocations,
            peak_allocations: sum.peak_allocations + one.peak_allocations,
            bytes_allocated: sum.bytes_allocated + one.bytes_allocated,
            bytes_deallocated: sum.bytes_deallocated + one.bytes_deallocated,
            current_bytes: sum.current_bytes + one.current_bytes,
            peak_bytes: sum.peak_bytes + one.peak_bytes,
        })
    }
}

/// No address space has more.
fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
