//! [`FrameAllocator`]: what every allocator of frames does, in the order alloc, free, batch, questions.
//!
//! ```text
//!            Request                          Ok(Frames)  exactly as many, nobody else's until freed
//!  count ── alignment ── within ── near ──▶   Err(…)      nothing has changed
//!
//!            Frames  ──▶  free  ──▶           Ok(())      anybody's again
//!                                             Err(…)      misuse: nothing has changed
//! ```
//!
//! The contract:
//! 1. **Disjoint.** A frame that was handed out is handed out to nobody else until it is freed.
//! 2. **Fit.** A run has exactly the count asked for, begins at a multiple of the alignment, lies in the map and in
//!    `within`.
//! 3. **Refusal.** After an error everything is as it was. A request that nothing can serve is an error, never a panic.
//!    A refusal in a race may have missed what another thread was freeing, or splitting, at that moment; alone it
//!    misses nothing.
//! 4. **Misuse.** To free a frame that is free, or none of the map, is reported. A misuse that races with the calls
//!    that it misuses, or comes after the frame has been handed out again, cannot always be told from a free of its
//!    owner's.
//! 5. **Parts.** An allocator without boundaries takes back any frames that are handed out, in parts or several runs
//!    as one. One with boundaries takes runs as it gave them, and says [`Misuse::NotARun`] to others.
//! 6. **Threads.** All calls may race; what was done to a frame before its `free` happens before what is done after its
//!    `alloc`.

use crate::{
    types::{Frame, FrameError, Frames, Misuse, Order},
    word::WORD,
};

/// What is asked for: so many frames, where, how aligned.
///
/// ```
/// use terrace_frame::{Frame, Frames, Order, Request};
///
/// let one = Request::order(Order::MIN);
/// let dma = Request::frames(24).aligned(16).within(Frames::new(0, 4096)).near(Frame(512));
/// # let _ = (one, dma);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many frames.
    pub count: usize,
    /// The run begins at a multiple of so many frames: a power of two.
    pub alignment: usize,
    /// The run lies in here.
    pub within: Frames,
    /// Where to look first; frames elsewhere serve too.
    pub near: Option<Frame>,
}

impl Request {
    /// `count` frames in a row, anywhere.
    #[must_use]
    pub const fn frames(count: usize) -> Self {
        Self { count, alignment: 1, within: Frames::ALL, near: None }
    }

    /// A power of two of frames, aligned to itself, as page tables want it.
    #[must_use]
    pub const fn order(order: Order) -> Self {
        Self::frames(order.frames()).aligned(order.frames())
    }

    /// The same, at a multiple of `alignment` frames.
    #[must_use]
    pub const fn aligned(self, alignment: usize) -> Self {
        Self { alignment, ..self }
    }

    /// The same, in `range` only.
    #[must_use]
    pub const fn within(self, range: Frames) -> Self {
        Self { within: range, ..self }
    }

    /// The same, looking around `frame` first.
    #[must_use]
    pub const fn near(self, frame: Frame) -> Self {
        Self { near: Some(frame), ..self }
    }

    /// The logarithm of the alignment.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`] and [`FrameError::InvalidAlignment`], for what no allocator serves.
    pub const fn checked(&self) -> Result<u32, FrameError> {
        if self.count == 0 || self.count > Order::MAX.frames() {
            return Err(FrameError::InvalidSize);
        }
        if !self.alignment.is_power_of_two() || self.alignment > Order::MAX.frames() {
            return Err(FrameError::InvalidAlignment);
        }
        Ok(self.alignment.trailing_zeros())
    }
}

/// Hands out frames.
///
/// # Safety
///
/// Memory is lent by the answers: the contract at the top of the file `allocator.rs`, clauses 1 and 2 above all, holds
/// whatever callers do within their own promises, which are none: every method is safe, since a number harms nobody.
pub unsafe trait FrameAllocator {
    /// A run as `request` asks.
    ///
    /// # Errors
    /// [`FrameError`]; nothing has changed.
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError>;

    /// Takes frames back.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed.
    fn free(&self, frames: Frames) -> Result<(), Misuse>;

    /// The first frame of a run of `order`, aligned to itself: [`alloc`](Self::alloc) for the most frequent case.
    ///
    /// # Errors
    /// As [`alloc`](Self::alloc).
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        self.alloc(&Request::order(order)).map(|run| run.start)
    }

    /// Takes a run of `order` back.
    ///
    /// # Errors
    /// As [`free`](Self::free); and [`Misuse::NotARun`] for a frame that no run of that order begins with.
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        if start.0 & (order.frames() - 1) != 0 {
            return Err(Misuse::NotARun);
        }
        self.free(Frames::of_order(start, order))
    }

    /// Fills `into` from the front with runs of `order`, and says how many there were.
    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        for (filled, place) in into.iter_mut().enumerate() {
            match self.alloc_order(order) {
                Ok(frame) => *place = frame,
                Err(_) => return filled,
            }
        }
        into.len()
    }

    /// Takes runs of `order` back, from the front.
    ///
    /// # Errors
    /// The index of the first that is misused; those before it are freed, it and those behind it are not.
    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        runs.iter()
            .enumerate()
            .try_for_each(|(index, &start)| self.free_order(start, order).map_err(|misuse| (index, misuse)))
    }

    /// Gives up what is kept at hand for single CPUs or threads, for a moment of calm: frames are never lost in there,
    /// but a block that is kept at hand does not become part of a larger run.
    fn drain(&self) {}

    /// From the first frame to the last, holes included.
    fn span(&self) -> Frames;

    /// Frames in the map.
    fn total_frames(&self) -> usize;

    /// Frames that are free. Exact while nobody else is at work. Reads all metadata: not for fast paths.
    fn free_frames(&self) -> usize;

    /// Whether the frame is in the map and free now.
    fn is_free(&self, frame: Frame) -> bool;

    /// Of the 64 frames from number `64 * word` on, those that are free, the first as the lowest bit: what tables and
    /// pictures of free memory are made of. Provided as 64 questions; where bits are kept that way it is a load or two.
    fn free_word(&self, word: usize) -> u64 {
        let Some(first) = word.checked_mul(WORD) else { return 0 };
        (0..WORD).filter(|bit| self.is_free(Frame(first + bit))).fold(0, |bits, bit| bits | 1 << bit)
    }

    /// Whether every frame of the run, which is not empty, may be handed out by this allocator.
    fn manages(&self, frames: Frames) -> bool;

    /// Whether runs come back as they were handed out only (clause 5).
    fn keeps_boundaries(&self) -> bool {
        false
    }
}

// SAFETY: every call goes to the allocator behind the reference, which keeps the contract.
unsafe impl<F: FrameAllocator + ?Sized> FrameAllocator for &F {
    #[inline]
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        (**self).alloc(request)
    }

    #[inline]
    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        (**self).free(frames)
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        (**self).alloc_order(order)
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        (**self).free_order(start, order)
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        (**self).alloc_batch(order, into)
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        (**self).free_batch(order, runs)
    }

    fn drain(&self) {
        (**self).drain();
    }

    fn span(&self) -> Frames {
        (**self).span()
    }

    fn total_frames(&self) -> usize {
        (**self).total_frames()
    }

    fn free_frames(&self) -> usize {
        (**self).free_frames()
    }

    fn is_free(&self, frame: Frame) -> bool {
        (**self).is_free(frame)
    }

    fn free_word(&self, word: usize) -> u64 {
        (**self).free_word(word)
    }

    fn manages(&self, frames: Frames) -> bool {
        (**self).manages(frames)
    }

    fn keeps_boundaries(&self) -> bool {
        (**self).keeps_boundaries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silly_requests_are_named() {
        let error = |request: Request| request.checked().unwrap_err();
        assert_eq!(error(Request::frames(0)), FrameError::InvalidSize);
        assert_eq!(error(Request::frames((1 << 20) + 1)), FrameError::InvalidSize);
        assert_eq!(error(Request::frames(usize::MAX)), FrameError::InvalidSize);
        for alignment in [0, 3, 1 << 21, usize::MAX] {
            assert_eq!(error(Request::frames(1).aligned(alignment)), FrameError::InvalidAlignment);
        }
        assert_eq!(Request::order(Order::MAX).checked(), Ok(20));
    }
}
