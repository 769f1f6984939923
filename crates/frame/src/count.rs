//! [`Count`]: how many frames of a zone are free, as a number that requests take from before they take frames.
//!
//! ```text
//!  shared   [ free ]                       all threads; what a floor is compared with
//!  slots    1 ──▶ [ at hand │ served ]     a cache line each: taken off the shared number before, not yet anybody's
//!           2 ──▶ [ … ]
//! ```
//!
//! - **K1** The shared number and what is at hand are together the frames that are free and promised to nobody.
//! - **K2** A take succeeds only if the shared number, looked at after what was taken is off, is the floor at least:
//!   what is at hand elsewhere comes on top of that. So a floor holds at that moment, whatever other threads do.
//! - **K3** What is at hand is filled only from above `high`, and by frees only while the shared number is no less; a
//!   refusal, and a change of level, first bring it all back. So the numbers are exact where they matter, while nobody
//!   else is at work.
//! - **K4** What a slot's calls were served is written by whoever has the slot's number, by a load and a store; without one, by atomic addition.
//!
//! A slot's line serves its own requests, so that the common case writes no line that other CPUs write. A caller without
//! a slot takes from the shared number. Nothing waits for another thread: a failed step means that another succeeded.
//!
//! Cost: two atomic steps in the slot's line and a look at the shared one; once in up to 64 frames, a step there. A
//! refusal looks at a line for each slot.
#![forbid(unsafe_code)]

use crate::{
    atomic::{AtomicU64, AtomicUsize, Ordering},
    hook,
};

/// Words in a slot's line.
pub(crate) const LINE: usize = 8;
/// The words of a slot's line: frames at hand, calls that were served.
const AT_HAND: usize = 0;
const SERVED: usize = 1;
/// At most so many frames are brought to a slot at once.
const BATCH: usize = 64;

/// The number that all share, apart from what is only read.
#[repr(align(64))]
struct Shared {
    free: AtomicUsize,
    served: AtomicU64,
}

pub(crate) struct Count<'m> {
    shared: Shared,
    lines: &'m [AtomicU64],
    batch: usize,
    high: usize,
}

impl<'m> Count<'m> {
    /// All of `free` frames, with a zeroed line of `lines` for each slot.
    pub(crate) fn new(free: usize, lines: &'m [AtomicU64]) -> Self {
        // No more than an eighth of them is ever at hand: two batches a slot.
        let batch = (free / 16).checked_div(lines.len() / LINE).map_or(0, |share| share.min(BATCH));
        Self { shared: Shared { free: AtomicUsize::new(free), served: AtomicU64::new(0) }, lines, batch, high: 0 }
    }

    /// The same, which brings nothing to slots where no more than `high` would be left.
    pub(crate) fn keeping(self, high: usize) -> Self {
        Self { high, ..self }
    }

    /// A word of the slot's line; none for callers without a slot.
    #[inline]
    fn word(&self, slot: usize, word: usize) -> Option<&AtomicU64> {
        self.lines.get(slot.wrapping_sub(1).wrapping_mul(LINE).wrapping_add(word))
    }

    /// What is free and at no slot's hand.
    #[inline]
    pub(crate) fn shared(&self) -> usize {
        self.shared.free.load(Ordering::SeqCst)
    }

    /// What is free; exact while nobody is at work.
    pub(crate) fn free(&self) -> usize {
        let at_hand = self.lines.iter().step_by(LINE).map(|line| line.load(Ordering::SeqCst) as usize);
        at_hand.sum::<usize>() + self.shared()
    }

    /// How many calls were served.
    pub(crate) fn served(&self) -> u64 {
        let by_slots = self.lines.iter().skip(SERVED).step_by(LINE).map(|line| line.load(Ordering::Relaxed));
        by_slots.sum::<u64>() + self.shared.served.load(Ordering::Relaxed)
    }

    /// Notes that a call was served, whose caller has the slot now.
    #[inline]
    pub(crate) fn serve(&self, slot: usize) {
        match self.word(slot, SERVED) {
            // By K4 nobody else writes it, and a count publishes nothing.
            Some(served) => served.store(served.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            None => self.serve_shared(),
        }
    }

    #[cold]
    fn serve_shared(&self) {
        self.shared.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes `count` off, if `floor` is left (K2).
    #[inline]
    pub(crate) fn take(&self, slot: usize, count: usize, floor: usize) -> bool {
        if let Some(at_hand) = self.word(slot, AT_HAND)
            && take_from(at_hand, count)
        {
            if self.shared() >= floor {
                return true;
            }
            self.give(count);
        }
        self.take_shared(slot, count, floor)
    }

    #[inline(never)]
    fn take_shared(&self, slot: usize, count: usize, floor: usize) -> bool {
        self.take_once(slot, count, floor) || (self.gather() && self.take_once(slot, count, floor))
    }

    fn take_once(&self, slot: usize, count: usize, floor: usize) -> bool {
        let at_hand = self.word(slot, AT_HAND).filter(|_| count <= self.batch);
        let mut free = self.shared.free.load(Ordering::Relaxed);
        while let Some(left) = free.checked_sub(count)
            && left >= floor
        {
            hook::between();
            // By K3 only what leaves more than `high`, and the floor.
            let fill = match left.checked_sub(self.batch) {
                Some(rest) if at_hand.is_some() && rest >= floor.max(self.high) => self.batch,
                _ => 0,
            };
            match self.shared.free.compare_exchange_weak(free, left - fill, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => {
                    if let Some(at_hand) = at_hand.filter(|_| fill > 0) {
                        at_hand.fetch_add(fill as u64, Ordering::SeqCst);
                    }
                    return true;
                }
                Err(now) => free = now,
            }
            hook::lost();
        }
        false
    }

    /// Adds what was freed.
    #[inline]
    pub(crate) fn put(&self, slot: usize, count: usize) {
        match self.word(slot, AT_HAND) {
            Some(at_hand) if count <= self.batch && self.shared() >= self.high => {
                let more = at_hand.fetch_add(count as u64, Ordering::SeqCst) as usize + count;
                if more > 2 * self.batch && take_from(at_hand, self.batch) {
                    self.give(self.batch);
                }
            }
            _ => self.give(count),
        }
    }

    /// Adds to the shared number.
    #[inline]
    pub(crate) fn give(&self, count: usize) {
        self.shared.free.fetch_add(count, Ordering::SeqCst);
    }

    /// Brings what is at hand back to the shared number. `false`: there was nothing.
    #[cold]
    pub(crate) fn gather(&self) -> bool {
        self.lines.iter().step_by(LINE).fold(false, |any, line| {
            let count = if line.load(Ordering::SeqCst) == 0 { 0 } else { line.swap(0, Ordering::SeqCst) };
            self.give(count as usize);
            any || count > 0
        })
    }
}

/// Takes `count` off what is at hand, if there is as much.
#[inline]
fn take_from(at_hand: &AtomicU64, count: usize) -> bool {
    let mut have = at_hand.load(Ordering::Relaxed);
    while let Some(left) = have.checked_sub(count as u64) {
        hook::between();
        match at_hand.compare_exchange_weak(have, left, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => have = now,
        }
    }
    false
}
