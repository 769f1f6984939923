//! Memory drawn frame by frame, and random drawings of it.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use crate::{Frame, FrameAllocator, FrameError, Frames, Misuse, Request};

/// Memory drawn frame by frame, which hands nothing out: what the provided methods are tested on.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) first: usize,
    pub(super) free: Vec<bool>,
}

// SAFETY: nothing is ever handed out.
unsafe impl FrameAllocator for Drawn {
    fn alloc(&self, _: &Request) -> Result<Frames, FrameError> {
        Err(FrameError::OutOfMemory)
    }

    fn free(&self, _: Frames) -> Result<(), Misuse> {
        Err(Misuse::Outside)
    }

    fn span(&self) -> Frames {
        Frames::new(self.first, self.free.len())
    }

    fn total_frames(&self) -> usize {
        self.free.len()
    }

    fn free_frames(&self) -> usize {
        self.free.iter().filter(|&&free| free).count()
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.free.get(frame.0.wrapping_sub(self.first)).is_some_and(|&free| free)
    }

    fn manages(&self, frames: Frames) -> bool {
        self.span().contains(frames)
    }
}

/// Runs of free and taken frames, of all lengths.
pub(super) fn drawn() -> impl Strategy<Value = Drawn> {
    let run = (prop_oneof![1usize..10, 10usize..200, 200usize..900], any::<bool>());
    let runs = prop::collection::vec(run, 1..20);
    (0usize..2000, runs).prop_map(|(first, runs)| {
        let free = runs.into_iter().flat_map(|(count, free)| vec![free; count]).collect();
        Drawn { first, free }
    })
}
