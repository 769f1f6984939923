//! The group `layers`: a pair of alloc and free over each combinator beside the same pair over its backing alone, which
//! stands in the place of a peer. What a layer costs is the difference.
//!
//! ```text
//!   terrace:  pairs(&LimitAllocator::new(buffer, …))     the length is known at run time only, the alignment is constant
//!   backing:  pairs(&buffer)                             one call that is not inlined, so that both loops are built alike
//! ```

use std::{hint::black_box, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, Owns};
use terrace_heap::{
    AffixAllocator, BucketizeAllocator, FallbackAllocator, FixedBufferAllocator, FreeListAllocator, Histograms,
    LimitAllocator, LockAllocator, OnOomAllocator, OutOfMemory, Pressure, PressureAllocator, SegregateAllocator,
    StatsAllocator, ZeroedAllocator,
};

use crate::{
    cells::Cell,
    harness::{Competitor, OURS},
};

type Backing = FixedBufferAllocator<'static>;

/// What the layer stands on, alone.
const BACKING: &str = "backing";

fn backing() -> Backing {
    FixedBufferAllocator::new(vec![MaybeUninit::uninit(); 64 << 10].leak())
}

/// A backing without room: one block fills it.
fn full() -> Backing {
    let full = FixedBufferAllocator::new(vec![MaybeUninit::uninit(); 64].leak());
    full.alloc(NonZeroUsize::new(64).expect("not 0"), Alignment::ONE).expect("room for one");
    full
}

/// Knows its blocks as the buffer does, and refuses at once: what is left of a fallback is its own.
struct Refusing(Backing);

// SAFETY: it hands out no block, so that no other call keeps its promise.
unsafe impl Allocator for Refusing {
    #[inline]
    fn alloc(&self, _: NonZeroUsize, _: Alignment) -> Result<NonNull<u8>, AllocError> {
        Err(AllocError)
    }

    unsafe fn resize(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.free(memory, alignment) };
    }
}

// SAFETY: it has no blocks, and claims no address but those of its own buffer.
unsafe impl Owns for Refusing {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.0.owns(address)
    }
}

/// The layer of that name, and its backing alone.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    let (count, size) = (cell.count, NonZeroUsize::new(cell.size).expect("cells.toml names a size"));
    let step = NonZeroUsize::new(32).expect("not 0");
    let ours = match cell.kind.as_str() {
        "limit" => over(LimitAllocator::new(backing(), 1 << 20), size, count),
        "lock" => over(LockAllocator::new(backing()), size, count),
        "fallback" => over(FallbackAllocator::new(backing(), full()), size, count),
        "fallback second" => over(FallbackAllocator::new(full(), backing()), size, count),
        "fallback refused" => over(FallbackAllocator::new(Refusing(full()), backing()), size, count),
        "segregate" => over(SegregateAllocator::new(black_box(256), backing(), full()), size, count),
        "bucketize" => over(BucketizeAllocator::new(black_box(step), [full(), backing(), full()]), size, count),
        "affix" => over(AffixAllocator::new(backing(), 0u64, 0u64), size, count),
        "free_list" => over(FreeListAllocator::new(backing(), 1..=black_box(256), 8), size, count),
        "stats" => over(StatsAllocator::new(backing()), size, count),
        "histograms" => over(StatsAllocator::with_histograms(backing(), Histograms::<64>::new()), size, count),
        "on_oom" => over(OnOomAllocator::new(backing(), 1, |_: &OutOfMemory| false), size, count),
        "pressure" => over(PressureAllocator::new(backing(), |_: &Pressure| false), size, count),
        "zeroed" => over(ZeroedAllocator::new(backing()), size, count),
        kind => unreachable!("cells.toml asks for {kind}, which this group does not do"),
    };
    vec![ours, Competitor { name: BACKING, ..over(backing(), size, count) }]
}

fn over<A: Allocator + 'static>(allocator: A, size: NonZeroUsize, count: usize) -> Competitor {
    let run = Box::new(move |repetitions| {
        for _ in 0..repetitions {
            pairs(&allocator, size, count);
        }
    });
    Competitor { name: OURS, run }
}

#[inline(never)]
fn pairs<A: Allocator>(allocator: &A, size: NonZeroUsize, count: usize) {
    let alignment = Alignment::of::<u64>();
    for n in 0..count {
        let block = allocator.alloc(size, alignment).expect("room");
        // SAFETY: just handed out, with at least eight bytes and their alignment.
        unsafe { block.cast().write(n as u64) };
        let memory = NonNull::slice_from_raw_parts(black_box(block), size.get());
        // SAFETY: live, made with this length and alignment, and not used again.
        unsafe { allocator.free(memory, alignment) };
    }
}
