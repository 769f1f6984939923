//! What a call asks of the handler and tells it, and the lock: never both at once (clause 10).

use core::{panic::Location, sync::atomic::Ordering};

use terrace_core::{AllocError, Allocator};
use terrace_sync::Held;

use super::{
    Block, DebugAllocator, Describe, Found, Handler, LimitReached, Mistake, Report,
    config::MAX_FRAMES,
    handler::calmly,
    record::Stamp,
    state::{Caller, Denied, Named, State},
};
use crate::{Call, CallOp, hook::AbortOnUnwind};

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Who calls: asked before any lock is taken.
    #[track_caller]
    pub(super) fn caller(&self) -> Caller {
        let mut words = [0; MAX_FRAMES];
        let frames = self.config.frames();
        if H::WALKS && frames > 0 {
            // As `calmly`, without a closure, which would be one more of this crate's functions on the stack.
            let abort = AbortOnUnwind("the handler of a DebugAllocator");
            let written = self.handler.capture(&mut words[..frames]).min(frames);
            core::mem::forget(abort);
            words[written..].fill(0);
        }
        Caller { stamp: Stamp { site: Location::caller(), thread: calmly(|| self.handler.thread()) }, words }
    }

    /// How addresses are named: asked before any lock is taken, too.
    pub(super) fn describe(&self) -> Option<Describe> {
        calmly(|| self.handler.describe())
    }

    #[inline]
    #[track_caller]
    pub(super) fn lock(&self, found: Found) -> Held<'_, State> {
        match self.state.try_lock() {
            Some(held) => held,
            None => self.wait(found),
        }
    }

    #[cold]
    #[track_caller]
    pub(super) fn wait(&self, found: Found) -> Held<'_, State> {
        if !self.config.thread_safe {
            self.tell(Mistake::Race, found, 0, None, &self.caller());
        }
        self.state.lock(|tries| calmly(|| self.handler.pause(tries)))
    }

    #[cold]
    #[track_caller]
    pub(super) fn log(&self, op: CallOp) {
        let site = Location::caller();
        calmly(|| self.handler.call(&Call { op, site }));
    }

    /// Sets `more` bytes of the limit aside; the answer is what to give back of it, 0 where there is no limit.
    #[track_caller]
    pub(super) fn admit(&self, more: usize, found: Found) -> Result<usize, AllocError> {
        let Some(limit) = self.config.memory_limit else { return Ok(0) };
        let mut state = self.lock(found);
        let current = state.counts.live_bytes();
        let taken = current.saturating_add(state.admitted);
        if more > 0 && more > limit.saturating_sub(taken) {
            drop(state);
            let why = LimitReached { more, current, limit, site: Location::caller() };
            calmly(|| self.handler.refused(&why));
            return Err(AllocError);
        }
        state.admitted += more;
        Ok(more)
    }

    #[cold]
    pub(super) fn deny(&self, denied: Denied, found: Found, named: &Named, by: &Caller) {
        self.tell(denied.mistake, found, named.address, denied.block, by);
    }

    /// Tells the handler of a mistake, about the block that begins at `block`.
    #[cold]
    pub(super) fn tell(&self, mistake: Mistake, found: Found, address: usize, block: Option<usize>, by: &Caller) {
        let describe = self.describe();
        let block = block.and_then(|block| self.lock(found).block(block, describe));
        self.tell_of(mistake, found, address, block, by);
    }

    #[cold]
    pub(super) fn tell_of(&self, mistake: Mistake, found: Found, address: usize, block: Option<Block>, by: &Caller) {
        if mistake != Mistake::Leak {
            self.mistakes.fetch_add(1, Ordering::Relaxed);
        }
        let report = Report { mistake, found_in: found, address, block, by: by.moment(self.describe()) };
        calmly(|| self.handler.report(&report));
    }
}
