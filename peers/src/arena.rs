//! The group `arena`: ours, bumpalo, bump-scope and blink-alloc, all over the system's malloc, each through its
//! own raw call, its own way to copy a string, and allocator-api2 for collections.

use std::{alloc::Layout, hint::black_box, num::NonZeroUsize, ptr::NonNull};

use allocator_api2_02::{
    alloc::{AllocError, Allocator},
    vec::Vec as ArenaVec,
};
use terrace_core::{Alignment, Allocator as _, GlobalBacking, ResetMode};
use terrace_heap::ArenaAllocator;

use crate::{
    cells::{Cell, Random},
    counting::{Counting, GLOBAL},
    harness::{Competitor, OURS},
};

/// What an arena must do to be measured: its own raw call, its own way to copy a string, and a handle for
/// collections. Where its users write one thing, this writes the same.
trait Arena {
    const NAME: &'static str;
    /// Length and alignment as its raw call takes them.
    type Request: Copy + 'static;

    fn new() -> Self;

    fn request(layout: Layout) -> Self::Request;

    fn alloc_raw(&self, request: Self::Request) -> NonNull<u8>;

    fn alloc_str(&self, text: &str) -> &str;

    fn handle(&self) -> impl Allocator + Copy;

    /// Ends all blocks and keeps memory for the next round, as each arena does by itself.
    fn reset(&mut self);
}

impl Arena for ArenaAllocator<GlobalBacking<Counting>> {
    const NAME: &'static str = OURS;
    type Request = (NonZeroUsize, Alignment);

    fn new() -> Self {
        ArenaAllocator::new(GlobalBacking::new(&GLOBAL))
    }

    fn request(layout: Layout) -> Self::Request {
        (NonZeroUsize::new(layout.size()).expect("a size"), Alignment::of_layout(layout))
    }

    #[inline(always)]
    fn alloc_raw(&self, (len, alignment): Self::Request) -> NonNull<u8> {
        self.alloc(len, alignment).expect("memory")
    }

    #[inline(always)]
    fn alloc_str(&self, text: &str) -> &str {
        self.alloc_str(text).expect("memory")
    }

    fn handle(&self) -> impl Allocator + Copy {
        self
    }

    fn reset(&mut self) {
        self.reset(ResetMode::RetainCapacity);
    }
}

/// The peers take a `Layout`, and differ in the names of their calls.
macro_rules! peer {
    ($arena:ty, $name:literal, |$this:ident| $handle:expr, |$request:ident| $raw:expr, |$text:ident| $str:expr) => {
        impl Arena for $arena {
            const NAME: &'static str = $name;
            type Request = Layout;

            fn new() -> Self {
                Self::new()
            }

            fn request(layout: Layout) -> Layout {
                layout
            }

            #[inline(always)]
            fn alloc_raw(&self, $request: Layout) -> NonNull<u8> {
                let $this = self;
                $raw.expect("memory").cast()
            }

            #[inline(always)]
            fn alloc_str(&self, $text: &str) -> &str {
                let $this = self;
                $str
            }

            fn handle(&self) -> impl Allocator + Copy {
                let $this = self;
                $handle
            }

            fn reset(&mut self) {
                self.reset();
            }
        }
    };
}

peer!(bumpalo::Bump, "bumpalo", |this| this, |request| this.try_alloc_layout(request), |text| this.alloc_str(text));
peer!(bump_scope::Bump, "bump-scope", |this| this, |request| this.allocate(request), |text| this
    .alloc_str(text)
    .into_ref());
peer!(
    blink_alloc::Blink,
    "blink-alloc",
    |this| Blink(this.allocator()),
    |request| this.allocator().allocate(request),
    |text| this.copy_str(text)
);

/// blink-alloc speaks allocator-api2 0.4; what it does is the same, one inlined call further.
#[derive(Clone, Copy)]
struct Blink<'a>(&'a blink_alloc::BlinkAlloc);

// SAFETY: blink-alloc's own implementation, reached through the other version's trait.
unsafe impl Allocator for Blink<'_> {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.0.allocate(layout).map_err(|_| AllocError)
    }

    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.deallocate(block, layout.size()) }
    }

    #[inline(always)]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.resize(block, old, new) }.map_err(|_| AllocError)
    }

    #[inline(always)]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.resize(block, old, new) }.map_err(|_| AllocError)
    }
}

/// All that take part in `cell`.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    vec![
        competitor::<ArenaAllocator<GlobalBacking<Counting>>>(cell),
        competitor::<bumpalo::Bump>(cell),
        competitor::<bump_scope::Bump>(cell),
        competitor::<blink_alloc::Blink>(cell),
    ]
}

fn competitor<A: Arena + 'static>(cell: &Cell) -> Competitor {
    let count = cell.count;
    let run: Box<dyn FnMut(usize)> = match (cell.kind.as_str(), cell.size) {
        ("fixed", 8) => cycle::<A>(move |arena| fixed::<A, 8>(arena, count)),
        ("fixed", 32) => cycle::<A>(move |arena| fixed::<A, 32>(arena, count)),
        ("fixed", 64) => cycle::<A>(move |arena| fixed::<A, 64>(arena, count)),
        ("fixed", 1024) => cycle::<A>(move |arena| fixed::<A, 1024>(arena, count)),
        ("vec", _) => cycle::<A>(move |arena| growing(arena, count)),
        ("strings", _) => {
            let mut random = Random::new(cell.seed);
            let texts: Vec<String> = (0..count).map(|_| "x".repeat(1 + random.below(100))).collect();
            cycle::<A>(move |arena| strings(arena, &texts))
        }
        ("mixed", _) => {
            let mut random = Random::new(cell.seed);
            let requests: Vec<A::Request> = (0..count)
                .map(|_| Layout::from_size_align(1 + random.below(256), 1 << random.below(7)).expect("a small layout"))
                .map(A::request)
                .collect();
            cycle::<A>(move |arena| mixed(arena, &requests))
        }
        ("fresh", 64) => Box::new(move |repetitions| {
            for _ in 0..repetitions {
                fixed::<A, 64>(&A::new(), count);
            }
        }),
        (kind, size) => unreachable!("cells.toml asks for {kind} of {size}, which this group does not do"),
    };
    Competitor { name: A::NAME, run }
}

/// The work on one arena, reset after every repetition.
fn cycle<A: Arena + 'static>(work: impl Fn(&A) + 'static) -> Box<dyn FnMut(usize)> {
    let mut arena = A::new();
    Box::new(move |repetitions| {
        for _ in 0..repetitions {
            work(&arena);
            arena.reset();
        }
    })
}

#[inline(never)]
fn fixed<A: Arena, const SIZE: usize>(arena: &A, count: usize) {
    let request = A::request(Layout::from_size_align(SIZE, align_of::<u64>()).expect("a small layout"));
    for n in 0..count {
        let block: NonNull<u64> = arena.alloc_raw(request).cast();
        // SAFETY: just handed out, with at least eight bytes and their alignment.
        unsafe { block.write(n as u64) };
        black_box(block);
    }
}

#[inline(never)]
fn growing(arena: &impl Arena, count: usize) {
    let mut numbers = ArenaVec::new_in(arena.handle());
    for n in 0..count {
        push(&mut numbers, n as u32);
    }
    black_box(numbers.as_ptr());
}

/// A call of its own: inlined, the loop around it takes one or two cycles as its code happens to be laid out, for
/// every arena in turn, and hides what growing costs.
#[inline(never)]
fn push<A: Allocator>(numbers: &mut ArenaVec<u32, A>, n: u32) {
    numbers.push(n);
}

#[inline(never)]
fn strings(arena: &impl Arena, texts: &[String]) {
    for text in texts {
        black_box(arena.alloc_str(text));
    }
}

#[inline(never)]
fn mixed<A: Arena>(arena: &A, requests: &[A::Request]) {
    for &request in requests {
        let block = arena.alloc_raw(request);
        // SAFETY: just handed out, with at least one byte.
        unsafe { block.write(1) };
        black_box(block);
    }
}
