//! [`Start`]: what a maker builds an allocator from, and [`Buffer`]: memory at an odd address.

use std::{
    mem::MaybeUninit,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crate::{
    breach::{Reports, Role},
    failing::{Calls, Failing, Refusal},
    ground::Ground,
    monitor::Monitor,
    script::Setup,
};

/// A backing that is watched, and refuses on command: [`Ground`], or any allocator of yours.
pub type Backing<A = Ground> = Monitor<Failing<A>>;

/// The start of one program: backings to build on, and the numbers that are swept.
///
/// Every backing that comes from one start refuses by the same plan, counts together, and reports to the same
/// place.
pub struct Start {
    setup: Setup,
    calls: Arc<Calls>,
    holdings: Arc<AtomicU64>,
    reports: Reports,
    threads: bool,
}

impl Start {
    pub(crate) fn new(setup: Setup, refusal: Refusal) -> Self {
        let calls = Arc::new(Calls::new(refusal));
        Self { setup, calls, holdings: Arc::default(), reports: Reports::default(), threads: false }
    }

    /// For a program of several threads.
    pub(crate) fn of_threads(setup: Setup) -> Self {
        Self { threads: true, ..Self::new(setup, Refusal::Never) }
    }

    /// A fresh ground to build on: poisoned memory, checked for clause 11.
    #[track_caller]
    pub fn backing(&self) -> Backing {
        self.over(Ground::new(self.setup, self.reports()))
    }

    /// Any allocator to build on, watched and made to refuse as the ground is.
    #[track_caller]
    pub fn over<A>(&self, backing: A) -> Backing<A> {
        let failing = Failing::counted_in(Arc::clone(&self.calls), backing);
        Monitor::counted_in(Arc::clone(&self.holdings), failing, Role::Backing, self.reports())
            .bytes_in_use(self.threads)
    }

    /// A buffer of [`chunk`](Self::chunk) bytes, off a round address by the swept offset.
    pub fn buffer(&self) -> Buffer {
        Buffer::new(self.setup.chunk, self.setup.offset)
    }

    /// A swept size, at least 1: for a buffer, or for the first chunk.
    pub fn chunk(&self) -> usize {
        self.setup.chunk
    }

    /// A swept limit in bytes. The ground keeps to it by itself.
    pub fn limit(&self) -> usize {
        self.setup.limit
    }

    /// The whole start state.
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// A monitor above all, for a single thread: it sees what a refused call leaves with the backings.
    pub(crate) fn top<A>(&self, allocator: A) -> Monitor<A> {
        Monitor::counted_in(Arc::clone(&self.holdings), allocator, Role::Top, self.reports())
    }

    pub(crate) fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Calls that the backings have heard.
    pub(crate) fn asked(&self) -> usize {
        self.calls.asked()
    }

    /// A sum over what all backings hold: the same as long as that is the same.
    pub(crate) fn held(&self) -> u64 {
        self.holdings.load(SeqCst)
    }
}

/// Memory to lend to an allocator that works in a buffer.
pub struct Buffer {
    bytes: Box<[MaybeUninit<u8>]>,
    within: Range<usize>,
}

impl Buffer {
    /// What addresses are counted from, so that programs with stricter alignments do the same each time.
    const ROUND: usize = 1 << 17;

    /// `len` bytes whose address is `offset` above a multiple of 128 KiB.
    pub fn new(len: usize, offset: usize) -> Self {
        let mut bytes = Box::new_uninit_slice(len + offset + Self::ROUND);
        let address = bytes.as_ptr().addr();
        let from = address.next_multiple_of(Self::ROUND) - address + offset;
        let within = from..from + len;
        bytes[within.clone()].fill(MaybeUninit::new(0xB5));
        Self { bytes, within }
    }

    /// The buffer.
    pub fn bytes(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.bytes[self.within.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_lies_where_it_was_asked_to() {
        for (len, offset) in [(1, 0), (100, 7), (4096, 63), (5, 200)] {
            let mut buffer = Buffer::new(len, offset);
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes().as_ptr().addr() % Buffer::ROUND, offset);
        }
    }
}
