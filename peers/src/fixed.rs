//! The group `fixed`: our fixed buffer, bump-into, static-alloc and stalloc, each in a buffer of the same size. Two of
//! the peers free nothing and bridge to no collection; stalloc owns its buffer, searches it first-fit, and does both.

use std::{alloc::Layout, hint::black_box, mem::MaybeUninit, num::NonZeroUsize, ptr::NonNull};

use allocator_api2_02::{
    alloc::{AllocError, Allocator},
    vec::Vec as FixedVec,
};
use allocator_api2_03::alloc::Allocator as Allocator03;
use bump_into::BumpInto;
use stalloc::Stalloc;
use static_alloc::{leaked::LeakBox, unsync::BumpSlice};
use terrace_core::{Alignment, Allocator as _, AllocatorExt, Reset, ResetMode};
use terrace_heap::FixedBufferAllocator;

use crate::{
    cells::{Cell, Random},
    harness::{Competitor, OURS},
};

const SIZE: usize = 256 << 10;

type Buffer = &'static mut [MaybeUninit<u8>];

fn buffer() -> Buffer {
    vec![MaybeUninit::uninit(); SIZE].leak()
}

/// What a bump allocator in a buffer must do to be measured, each in its users' words.
trait Fixed {
    const NAME: &'static str;
    /// Length and alignment as its raw call takes them.
    type Request: Copy + 'static;

    fn new() -> Self;

    fn request(layout: Layout) -> Self::Request;

    fn alloc_raw(&self, request: Self::Request) -> NonNull<u8>;

    fn alloc_str(&self, text: &str) -> NonNull<[u8]>;

    /// Ends all blocks.
    fn reset(&mut self);
}

/// One that takes blocks back too.
trait Frees: Fixed {
    /// # Safety
    /// `block` is live, was requested by `request`, and is not used again.
    unsafe fn free_raw(&self, block: NonNull<u8>, request: Self::Request);

    fn handle(&self) -> impl Allocator + Copy;
}

impl Fixed for FixedBufferAllocator<'static> {
    const NAME: &'static str = OURS;
    type Request = (NonZeroUsize, Alignment);

    fn new() -> Self {
        FixedBufferAllocator::new(buffer())
    }

    fn request(layout: Layout) -> Self::Request {
        (NonZeroUsize::new(layout.size()).expect("a size"), Alignment::of_layout(layout))
    }

    #[inline(always)]
    fn alloc_raw(&self, (len, alignment): Self::Request) -> NonNull<u8> {
        self.alloc(len, alignment).expect("room")
    }

    #[inline(always)]
    fn alloc_str(&self, text: &str) -> NonNull<[u8]> {
        self.dupe(text.as_bytes()).expect("room")
    }

    fn reset(&mut self) {
        Reset::reset(self, ResetMode::FreeAll);
    }
}

impl Frees for FixedBufferAllocator<'static> {
    #[inline(always)]
    unsafe fn free_raw(&self, block: NonNull<u8>, (len, alignment): Self::Request) {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.free(NonNull::slice_from_raw_parts(block, len.get()), alignment) };
    }

    fn handle(&self) -> impl Allocator + Copy {
        self
    }
}

/// bump-into has no reset: its users make a new one over the buffer.
struct Into {
    bump: BumpInto<'static>,
    buffer: *mut [MaybeUninit<u8>],
}

impl Fixed for Into {
    const NAME: &'static str = "bump-into";
    type Request = Layout;

    fn new() -> Self {
        let buffer: *mut _ = buffer();
        // SAFETY: leaked, and lent to this alone.
        Self { bump: BumpInto::from_slice(unsafe { &mut *buffer }), buffer }
    }

    fn request(layout: Layout) -> Layout {
        layout
    }

    #[inline(always)]
    fn alloc_raw(&self, request: Layout) -> NonNull<u8> {
        NonNull::new(self.bump.alloc_space(request)).expect("room").cast()
    }

    #[inline(always)]
    fn alloc_str(&self, text: &str) -> NonNull<[u8]> {
        self.bump.alloc_copy_slice(text.as_bytes()).expect("room").into()
    }

    fn reset(&mut self) {
        // SAFETY: leaked; the old borrow ends here, with every block in it.
        self.bump = BumpInto::from_slice(unsafe { &mut *self.buffer });
    }
}

impl Fixed for LeakBox<'static, BumpSlice> {
    const NAME: &'static str = "static-alloc";
    type Request = Layout;

    fn new() -> Self {
        BumpSlice::from_mem(buffer()).expect("room for its header")
    }

    fn request(layout: Layout) -> Layout {
        layout
    }

    #[inline(always)]
    fn alloc_raw(&self, request: Layout) -> NonNull<u8> {
        self.alloc(request).expect("room")
    }

    #[inline(always)]
    fn alloc_str(&self, text: &str) -> NonNull<[u8]> {
        let block = self.alloc(Layout::for_value(text)).expect("room");
        // SAFETY: a new block of the text's length.
        unsafe { block.copy_from_nonoverlapping(NonNull::from(text.as_bytes()).cast(), text.len()) };
        NonNull::slice_from_raw_parts(block, text.len())
    }

    fn reset(&mut self) {
        BumpSlice::reset(self);
    }
}

const WORD: usize = 8;
type Stack = Box<Stalloc<{ SIZE / WORD }, WORD>>;

impl Fixed for Stack {
    const NAME: &'static str = "stalloc";
    type Request = Layout;

    fn new() -> Self {
        Box::new(Stalloc::new())
    }

    fn request(layout: Layout) -> Layout {
        layout
    }

    #[inline(always)]
    fn alloc_raw(&self, request: Layout) -> NonNull<u8> {
        (&**self).allocate(request).expect("room").cast()
    }

    #[inline(always)]
    fn alloc_str(&self, text: &str) -> NonNull<[u8]> {
        let block: NonNull<u8> = (&**self).allocate(Layout::for_value(text)).expect("room").cast();
        // SAFETY: a new block of the text's length.
        unsafe { block.copy_from_nonoverlapping(NonNull::from(text.as_bytes()).cast(), text.len()) };
        NonNull::slice_from_raw_parts(block, text.len())
    }

    fn reset(&mut self) {
        // SAFETY: nobody uses its blocks any more.
        unsafe { self.clear() };
    }
}

impl Frees for Stack {
    #[inline(always)]
    unsafe fn free_raw(&self, block: NonNull<u8>, request: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { (&**self).deallocate(block, request) };
    }

    fn handle(&self) -> impl Allocator + Copy {
        Other(&**self)
    }
}

/// stalloc speaks allocator-api2 0.3; what it does is the same, one inlined call further.
#[derive(Clone, Copy)]
struct Other<A>(A);

// SAFETY: the peer's own implementation, reached through the other version's trait.
unsafe impl<A: Allocator03> Allocator for Other<A> {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.0.allocate(layout).map_err(|_| AllocError)
    }

    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.deallocate(block, layout) }
    }

    #[inline(always)]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.grow(block, old, new) }.map_err(|_| AllocError)
    }

    #[inline(always)]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { self.0.shrink(block, old, new) }.map_err(|_| AllocError)
    }
}

/// All that take part in `cell`.
pub fn competitors(cell: &Cell) -> Vec<Competitor> {
    if matches!(cell.kind.as_str(), "pair" | "vec") {
        return vec![freeing::<FixedBufferAllocator>(cell), freeing::<Stack>(cell)];
    }
    vec![
        competitor::<FixedBufferAllocator>(cell),
        competitor::<Into>(cell),
        competitor::<LeakBox<BumpSlice>>(cell),
        competitor::<Stack>(cell),
    ]
}

fn competitor<F: Fixed + 'static>(cell: &Cell) -> Competitor {
    let count = cell.count;
    let mut random = Random::new(cell.seed);
    match (cell.kind.as_str(), cell.size) {
        ("fixed", 8) => cycle::<F>(move |fixed| blocks::<F, 8>(fixed, count)),
        ("fixed", 64) => cycle::<F>(move |fixed| blocks::<F, 64>(fixed, count)),
        ("strings", _) => {
            let texts: Vec<String> = (0..count).map(|_| "x".repeat(1 + random.below(100))).collect();
            cycle::<F>(move |fixed| strings(fixed, &texts))
        }
        ("mixed", _) => {
            let requests: Vec<F::Request> = (0..count)
                .map(|_| Layout::from_size_align(1 + random.below(256), 1 << random.below(7)).expect("a small layout"))
                .map(F::request)
                .collect();
            cycle::<F>(move |fixed| mixed(fixed, &requests))
        }
        (kind, size) => unreachable!("cells.toml asks for {kind} of {size}, which this group does not do"),
    }
}

fn freeing<F: Frees + 'static>(cell: &Cell) -> Competitor {
    let count = cell.count;
    match (cell.kind.as_str(), cell.size) {
        ("pair", 64) => cycle::<F>(move |fixed| pairs::<F, 64>(fixed, count)),
        ("vec", _) => cycle::<F>(move |fixed| growing(fixed, count)),
        (kind, size) => unreachable!("cells.toml asks for {kind} of {size}, which this group does not do"),
    }
}

/// The work in one buffer, reset after every repetition.
fn cycle<F: Fixed + 'static>(work: impl Fn(&F) + 'static) -> Competitor {
    let mut fixed = F::new();
    let run = Box::new(move |repetitions| {
        for _ in 0..repetitions {
            work(&fixed);
            fixed.reset();
        }
    });
    Competitor { name: F::NAME, run }
}

#[inline(never)]
fn blocks<F: Fixed, const SIZE: usize>(fixed: &F, count: usize) {
    let request = F::request(Layout::from_size_align(SIZE, align_of::<u64>()).expect("a small layout"));
    for n in 0..count {
        let block: NonNull<u64> = fixed.alloc_raw(request).cast();
        // SAFETY: just handed out, with at least eight bytes and their alignment.
        unsafe { block.write(n as u64) };
        black_box(block);
    }
}

#[inline(never)]
fn pairs<F: Frees, const SIZE: usize>(fixed: &F, count: usize) {
    let request = F::request(Layout::from_size_align(SIZE, align_of::<u64>()).expect("a small layout"));
    for n in 0..count {
        let block: NonNull<u64> = fixed.alloc_raw(request).cast();
        // SAFETY: just handed out, with at least eight bytes and their alignment.
        unsafe { block.write(n as u64) };
        let block = black_box(block);
        // SAFETY: live, made by this request, and not used again.
        unsafe { fixed.free_raw(block.cast(), request) };
    }
}

#[inline(never)]
fn strings<F: Fixed>(fixed: &F, texts: &[String]) {
    for text in texts {
        black_box(fixed.alloc_str(text));
    }
}

#[inline(never)]
fn mixed<F: Fixed>(fixed: &F, requests: &[F::Request]) {
    for &request in requests {
        let block = fixed.alloc_raw(request);
        // SAFETY: just handed out, with at least one byte.
        unsafe { block.write(1) };
        black_box(block);
    }
}

#[inline(never)]
fn growing(fixed: &impl Frees, count: usize) {
    let mut numbers = FixedVec::new_in(fixed.handle());
    for n in 0..count {
        push(&mut numbers, n as u32);
    }
    black_box(numbers.as_ptr());
}

/// A call of its own, as in the group `arena`.
#[inline(never)]
fn push<A: Allocator>(numbers: &mut FixedVec<u32, A>, n: u32) {
    numbers.push(n);
}
