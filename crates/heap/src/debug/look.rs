//! What is written around and into a block, and what a look at it finds.
//!
//! ```text
//!   CA CA … │ AA AA AA … │ CA CA …      live: canaries, and fresh bytes until the caller writes
//!   CA CA … │ DD DD DD … │ CA CA …      freed
//! ```

use terrace_core::Allocator;

use super::{
    DebugAllocator, Found, Handler, Mistake,
    base::{CANARY, FREED, FRESH},
    record::{Record, State as Life},
    state::{Caller, InHand},
};

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// Canaries, and the fill of what is behind the first `kept` bytes. The block is in the hand of this call.
    pub(super) fn paint(&self, record: &Record, kept: usize) {
        let Record { base, shape, len, .. } = record;
        if self.config.fills() && kept < *len {
            // SAFETY: I2: within the block, which is this call's; `kept` bytes are not touched.
            unsafe { base.fill(shape.before + kept..shape.before + len, FRESH) };
        }
        for canary in shape.canaries(*len, self.config.canary()) {
            // SAFETY: as above, outside of the caller's bytes.
            unsafe { base.fill(canary, CANARY) };
        }
    }

    /// Looks at the canaries of a block that this call has in hand, and at the fill where it is freed. What is broken is told and mended.
    pub(super) fn look(&self, record: &Record, found: Found, by: &Caller) {
        for mistake in self.broken(record).into_iter().flatten() {
            self.tell(mistake, found, record.address, Some(record.address), by);
        }
    }

    /// As [`look`](Self::look), for a block that is not in the table.
    pub(super) fn look_in_hand(&self, block: &InHand, by: &Caller) {
        let broken = self.broken(&block.record);
        if broken.iter().any(Option::is_some) {
            // For the report alone it goes back to its seat, which is promised.
            let describe = self.describe();
            let mut state = self.lock(Found::Remap);
            state.seat(&block.record, &block.allocated);
            let address = block.record.address;
            let about = state.block(address, describe);
            if let Some(seat) = state.table.find(address) {
                state.table.remove(seat);
                state.changes += 1;
            }
            drop(state);
            for mistake in broken.into_iter().flatten() {
                self.tell_of(mistake, Found::Remap, address, about, by);
            }
        }
    }

    /// What is broken of a block that is in hand; it is mended, so that it is told once.
    pub(super) fn broken(&self, record: &Record) -> [Option<Mistake>; 3] {
        let Record { base, shape, len, .. } = record;
        let mut broken = [None; 3];
        if record.sealed || !self.config.enable_safety {
            return broken;
        }
        let [front, back] = shape.canaries(*len, self.config.canary());
        let user = shape.before..shape.before + len;
        // SAFETY: I2 and I3: within the block, written, open, and this call's.
        broken[0] = unsafe { base.changed(front.clone(), CANARY) }
            .map(|(first, last)| Mistake::Underrun { before: front.len() - first, span: last - first + 1 });
        // SAFETY: as above.
        broken[1] = unsafe { base.changed(back.clone(), CANARY) }
            .map(|(first, last)| Mistake::Overrun { offset: first, span: last - first + 1 });
        let freed = matches!(record.state, Life::Quarantined | Life::Ending) && record.freed.is_some();
        if freed && self.config.fills() {
            // SAFETY: as above; a freed block was filled.
            broken[2] = unsafe { base.changed(user.clone(), FREED) }
                .map(|(first, last)| Mistake::WriteAfterFree { offset: first, span: last - first + 1 });
        }
        for (part, byte, broken) in [(front, CANARY, broken[0]), (back, CANARY, broken[1]), (user, FREED, broken[2])] {
            if broken.is_some() {
                // SAFETY: as above.
                unsafe { base.fill(part, byte) };
            }
        }
        broken
    }
}
