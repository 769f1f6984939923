//! [`Filled`]: the frames of a node as far as they are memory.
//!
//! ```text
//!  steps     [ true    ][ false   ][ true     ]
//!  frames    [ free/got][ taken   ][ free/got ]      what is no memory is taken, by nobody
//! ```
//!
//! A request that finds no free run makes a run of steps memory, under a lock, so that no two threads fill the same.
//!
//! The invariant is G2 at the top of `numa_region.rs`.
//!
//! Cost: that of the hybrid allocator; for a step the calls of `Ground::fill`.

use std::{
    boxed::Box,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    vec,
};

use terrace_frame::{Frame, FrameAllocator, FrameError, Frames, Misuse, Order, Request};

use super::{Hybrid, STEP, STEP_FRAMES, ground::Ground};

/// The frames of a node as far as they are memory.
pub(super) struct Filled {
    frames: Hybrid,
    ground: Arc<Ground>,
    /// The kernel's number of the node; none where it does not place pages.
    node: Option<usize>,
    /// Where the first frame lies, in bytes from the start of the ground.
    offset: usize,
    span: Frames,
    /// Whether each step is memory (G2).
    steps: Mutex<Box<[bool]>>,
}

impl Filled {
    /// The frames of an area that begins `offset` bytes into the ground, none of which is anybody's; all of them are free where they are huge pages,
    /// else none is memory yet.
    pub(super) fn new(frames: Hybrid, ground: Arc<Ground>, node: Option<usize>, offset: usize, span: Frames) -> Self {
        let are_memory = ground.is_of_huge_pages();
        if !are_memory {
            // G2: from the largest runs down all of it is taken, by as few calls as there are orders and runs of 4 GiB.
            for order in (0..=Order::MAX.log2()).rev().filter_map(Order::new) {
                while frames.alloc_order(order).is_ok() {}
            }
        }
        let steps = Mutex::new(vec![are_memory; span.count / STEP_FRAMES].into_boxed_slice());
        Self { frames, ground, node, offset, span, steps }
    }

    /// Bytes that are memory.
    pub(super) fn bytes(&self) -> usize {
        self.steps().iter().filter(|&&here| here).count() * STEP
    }

    fn steps(&self) -> MutexGuard<'_, Box<[bool]>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of steps that are no memory yet, which become memory for it. The rest of them is free then.
    #[cold]
    fn grow(&self, request: &Request) -> Result<Frames, FrameError> {
        let mut steps = self.steps();
        if let Ok(found) = self.frames.alloc(request) {
            return Ok(found); // Another thread was faster.
        }
        let (first, last, run) = self.place(&steps, request).ok_or(FrameError::OutOfMemory)?;
        for step in first..last {
            if self.ground.fill(self.offset + step * STEP, STEP, self.node).is_err() {
                self.give(self.frame(first), self.frame(step));
                return Err(FrameError::OutOfMemory);
            }
            steps[step] = true;
        }
        self.give(self.frame(first), run.start.0);
        self.give(run.end(), self.frame(last));
        Ok(run)
    }

    /// The first run as asked for in steps that are no memory, and these steps.
    fn place(&self, steps: &[bool], request: &Request) -> Option<(usize, usize, Frames)> {
        let mut first = 0;
        loop {
            first += steps.get(first..)?.iter().position(|&here| !here)?;
            let start = self.frame(first).next_multiple_of(request.alignment);
            let behind = start.checked_add(request.count)?;
            let last = first + (behind - self.frame(first)).div_ceil(STEP_FRAMES);
            match steps.get(first..last)?.iter().rposition(|&here| here) {
                Some(taken) => first += taken + 1,
                None => return Some((first, last, Frames::new(start, request.count))),
            }
        }
    }

    /// The first frame of a step.
    fn frame(&self, step: usize) -> usize {
        self.span.start.0 + step * STEP_FRAMES
    }

    /// Steps that are wholly free are no memory any more.
    pub(super) fn trim(&self) {
        if self.ground.is_of_huge_pages() {
            return; // They would not come back for certain.
        }
        let mut steps = self.steps();
        self.frames.drain();
        for step in 0..steps.len() {
            let run = Frames::new(self.frame(step), STEP_FRAMES);
            // Taken, so that nobody else gets it, and by G2 it stays so.
            if !steps[step] || self.frames.alloc(&Request::frames(run.count).within(run)).is_err() {
                continue;
            }
            // SAFETY: the frames are nobody's but this function's.
            steps[step] = !unsafe { self.ground.empty(self.offset + step * STEP, STEP) };
            if steps[step] {
                self.give(run.start.0, run.end());
            }
        }
    }

    /// Frames that are memory, and nobody's yet, are free from now on.
    fn give(&self, from: usize, to: usize) {
        let given = if from < to { self.frames.free(Frames::new(from, to - from)) } else { Ok(()) };
        debug_assert_eq!(given, Ok(()), "by G2 they were taken");
    }
}

// SAFETY: every frame is one that the hybrid allocator hands out, which keeps the contract; by G2 it has none but those that are memory.
unsafe impl FrameAllocator for Filled {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        match self.frames.alloc(request) {
            // What is to lie in certain frames does not lie in steps more.
            Err(FrameError::OutOfMemory) if request.within == Frames::ALL => self.grow(request),
            answer => answer,
        }
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        self.frames.free(frames)
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        match self.frames.alloc_order(order) {
            Ok(start) => Ok(start),
            Err(_) => self.grow(&Request::order(order)).map(|run| run.start),
        }
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        self.frames.free_order(start, order)
    }

    fn drain(&self) {
        self.frames.drain();
    }

    fn span(&self) -> Frames {
        self.span
    }

    fn total_frames(&self) -> usize {
        self.span.count
    }

    fn free_frames(&self) -> usize {
        self.frames.free_frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.frames.is_free(frame)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.frames.manages(frames)
    }
}
