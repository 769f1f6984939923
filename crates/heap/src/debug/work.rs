//! The four functions: a record beside each block, its canaries and its fill, and the quarantine that it ends in.
//!
//! ```text
//! make    lock: promise a seat ─▶ ask backing ─▶ guard, paint ─▶ lock: enroll ─▶ few seats left: ask for a larger table
//! resize  lock: begin ─▶ look at canaries ─▶ ask backing ─▶ paint ─▶ lock: end
//! remap   lock: take  ─▶ look at canaries ─▶ ask backing ─▶ paint ─▶ lock: seat
//! free    lock: claim ─▶ look at canaries ─▶ fill, seal ─▶ lock: hold ─▶ the oldest: look at the fill ─▶ lock: forget ─▶ backing
//! ```
//!
//! A record is promised, taken or changed before the backing hears of the call, and forgotten before the block goes back: so
//! the backing can hand an address to another thread at once (clause 6).

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};

use super::{
    DebugAllocator, Found, Handler, Mistake,
    base::{Base, FREED},
    record::{Record, Stamp, State as Life},
    shape::Shape,
    state::{Caller, Denied, Named, State},
};
use crate::CallOp;

impl<A: Allocator, H: Handler> DebugAllocator<A, H> {
    /// `alloc`, or `alloc_zeroed`.
    #[inline]
    #[track_caller]
    pub(super) fn make(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        if !self.only_counts {
            return self.make_watched(len, alignment, zeroed);
        }
        let block = self.ask(len, alignment, zeroed)?;
        self.lock(Found::Alloc).counts.made(len.get());
        Ok(block)
    }

    /// With all that `config` may ask for.
    #[inline(never)]
    #[track_caller]
    fn make_watched(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let result = if self.config.keeps_records() || self.config.memory_limit.is_some() {
            self.make_recorded(len, alignment, zeroed)
        } else {
            let result = self.ask(len, alignment, zeroed);
            if result.is_ok() && self.config.enable_tracking {
                self.lock(Found::Alloc).counts.made(len.get());
            }
            result
        };
        if self.config.verbose_log {
            self.log(CallOp::Alloc { len, alignment, zeroed, result });
        }
        result
    }

    #[track_caller]
    fn make_recorded(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        let shape = self.shape(len.get(), alignment).ok_or(AllocError)?;
        let admitted = self.admit(len.get(), Found::Alloc)?;
        let promised = self.promise_seat();
        let by = self.caller();
        let made = if promised.is_ok() { self.make_shaped(len, alignment, zeroed, shape, by.stamp) } else { None };
        let Some(record) = made else {
            self.withdraw(admitted, promised.is_ok());
            return Err(AllocError);
        };
        self.enroll(&record, &by, admitted);
        self.grow_ahead(Found::Alloc);
        // SAFETY: S2: within the block.
        Ok(unsafe { record.base.at(shape.before) })
    }

    /// A block of `shape`, and its record, which has no seat yet. `None`: refused, and nothing has changed.
    #[track_caller]
    fn make_shaped(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
        shape: Shape,
        allocated: Stamp,
    ) -> Option<Record> {
        let whole = NonZeroUsize::new(shape.whole)?;
        let base = Base::new(self.ask(whole, shape.alignment, zeroed).ok()?);
        if let Some(pages) = self.pages.filter(|_| self.config.paged()) {
            // SAFETY: live, just made.
            if let Err(open) = unsafe { pages.guard(&self.backing, base, &shape) } {
                if open {
                    self.give_back(base, &shape);
                }
                return None;
            }
        }
        // SAFETY: S2: within the block.
        let address = unsafe { base.at(shape.before) }.addr().get();
        let record = Record {
            address,
            len: len.get(),
            alignment,
            state: Life::Live,
            sealed: false,
            told: 0,
            serial: 0,
            base,
            shape,
            allocated,
            freed: None,
            next: 0,
        };
        self.paint(&record, if zeroed { len.get() } else { 0 });
        Some(record)
    }

    /// `resize`.
    ///
    /// # Safety
    /// As [`Allocator::resize`].
    #[track_caller]
    pub(super) unsafe fn change_length(&self, memory: NonNull<[u8]>, alignment: Alignment, new: NonZeroUsize) -> bool {
        let named = Named { address: memory.addr().get(), layout: Some((memory.len(), alignment)) };
        let granted = match self.config.keeps_records() {
            true => self.resize_recorded(&named, new, Found::Resize).is_some(),
            // SAFETY: the caller's promise, passed on unchanged.
            false => unsafe { self.resize_counted(memory, alignment, new) },
        };
        if self.config.verbose_log {
            self.log(CallOp::Resize { memory, alignment, new_len: new, granted });
        }
        granted
    }

    /// `remap`.
    ///
    /// # Safety
    /// As [`Allocator::remap`].
    #[track_caller]
    pub(super) unsafe fn change_place(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Option<NonNull<u8>> {
        let named = Named { address: memory.addr().get(), layout: Some((memory.len(), alignment)) };
        let result = if self.config.keeps_records() {
            self.remap_recorded(&named, new_len)
        } else {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { self.remap_counted(memory, alignment, new_len) }
        };
        if self.config.verbose_log {
            self.log(CallOp::Remap { memory, alignment, new_len, result });
        }
        result
    }

    /// `resize` without records.
    ///
    /// # Safety
    /// As [`Allocator::resize`].
    #[track_caller]
    unsafe fn resize_counted(&self, memory: NonNull<[u8]>, alignment: Alignment, new: NonZeroUsize) -> bool {
        let Ok(admitted) = self.admit(new.get().saturating_sub(memory.len()), Found::Resize) else { return false };
        // SAFETY: the caller's promise; by I1, without canaries, the backing's own block.
        let granted = unsafe { self.backing.resize(memory, alignment, new) };
        self.settle(Found::Resize, admitted, granted.then_some((memory.len(), new.get())));
        granted
    }

    /// `remap` without records.
    ///
    /// # Safety
    /// As [`Allocator::remap`].
    #[track_caller]
    unsafe fn remap_counted(
        &self,
        memory: NonNull<[u8]>,
        alignment: Alignment,
        new_len: NonZeroUsize,
    ) -> Option<NonNull<u8>> {
        let admitted = self.admit(new_len.get().saturating_sub(memory.len()), Found::Remap).ok()?;
        // SAFETY: the caller's promise; by I1, without canaries, the backing's own block.
        let result = unsafe { self.backing.remap(memory, alignment, new_len) };
        self.settle(Found::Remap, admitted, result.map(|_| (memory.len(), new_len.get())));
        result
    }

    /// Counts a change of length that was granted, and gives back what was set aside for it.
    fn settle(&self, found: Found, admitted: usize, changed: Option<(usize, usize)>) {
        if self.config.counts() {
            let mut state = self.lock(found);
            state.admitted -= admitted;
            if let Some((old, new)) = changed {
                state.counts.resized(old, new);
            }
        }
    }

    /// In place: what the block is then, or nothing has changed.
    #[track_caller]
    pub(super) fn resize_recorded(&self, named: &Named, new_len: NonZeroUsize, found: Found) -> Option<NonNull<u8>> {
        let by = self.caller();
        let mut state = self.lock(found);
        let looked = state.named(named, Mistake::UseAfterFree).and_then(|(seat, record)| {
            let misnamed = State::misnamed(&record, named);
            match misnamed {
                Some(mistake) => Err(Denied { mistake, block: Some(record.address) }),
                None => Ok((seat, record)),
            }
        });
        let (seat, record) = match looked {
            Ok(looked) => looked,
            Err(denied) => {
                drop(state);
                self.deny(denied, found, named, &by);
                return None;
            }
        };
        if let Some(record) = state.table.at_mut(seat) {
            record.state = Life::Busy;
        }
        drop(state);
        self.look(&record, found, &by);
        let admitted = self.admit(new_len.get().saturating_sub(record.len), found);
        let changed = if admitted.is_ok() { self.resize_in_hand(&record, new_len) } else { None };
        let mut state = self.lock(found);
        state.admitted -= admitted.unwrap_or(0);
        state.change(record.address, record.serial, |known| {
            known.state = Life::Live;
            if let Some(shape) = changed {
                known.len = new_len.get();
                known.shape = shape;
            }
        });
        if changed.is_some() && self.config.counts() {
            state.counts.resized(record.len, new_len.get());
        }
        drop(state);
        // SAFETY: S2: within the block.
        changed.map(|_| unsafe { record.base.at(record.shape.before) })
    }

    /// Asks the backing for another length of a block that this call has in hand, and paints what is new.
    #[track_caller]
    fn resize_in_hand(&self, record: &Record, new_len: NonZeroUsize) -> Option<Shape> {
        let shape = self.resized(record, new_len.get())?;
        if shape.whole != record.shape.whole {
            let whole = NonZeroUsize::new(shape.whole)?;
            // SAFETY: I2: the block is this call's, and by I1 the backing's.
            if !unsafe { self.backing.resize(whole_of(record), record.shape.alignment, whole) } {
                return None;
            }
        }
        self.paint(&Record { len: new_len.get(), shape, ..*record }, record.len);
        Some(shape)
    }

    /// The shape of a block that stays where it is; `None`: there is no room, or no memory holds it.
    fn resized(&self, record: &Record, new_len: usize) -> Option<Shape> {
        let shape = record.shape;
        if shape.guards.1 > 0 {
            return (new_len <= shape.open().end - shape.before).then_some(shape);
        }
        let whole = Shape::plain(new_len, record.alignment, self.config.canary())?.whole;
        Some(Shape { whole, ..shape })
    }

    #[track_caller]
    pub(super) fn remap_recorded(&self, named: &Named, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        if self.config.paged() {
            return self.resize_recorded(named, new_len, Found::Remap); // Its pages, and their guards, stay where they are.
        }
        let by = self.caller();
        let mut state = self.lock(Found::Remap);
        let looked = state.named(named, Mistake::UseAfterFree);
        let misnamed = looked.ok().and_then(|(_, record)| State::misnamed(&record, named));
        let taken = match (looked, misnamed) {
            (Ok((seat, _)), None) => state.take(seat).ok_or(Denied { mistake: Mistake::Foreign, block: None }),
            (Ok((_, record)), Some(mistake)) => Err(Denied { mistake, block: Some(record.address) }),
            (Err(denied), _) => Err(denied),
        };
        drop(state);
        let block = match taken {
            Ok(taken) => taken,
            Err(denied) => {
                self.deny(denied, Found::Remap, named, &by);
                return None;
            }
        };
        self.look_in_hand(&block, &by);
        let admitted = self.admit(new_len.get().saturating_sub(block.record.len), Found::Remap);
        let moved = if admitted.is_ok() { self.remap_in_hand(&block.record, new_len) } else { None };
        let mut state = self.lock(Found::Remap);
        state.admitted -= admitted.unwrap_or(0);
        state.promised -= 1;
        let known = state.seat(&moved.unwrap_or(block.record), &block.allocated);
        if moved.is_some() && self.config.counts() {
            state.counts.resized(block.record.len, new_len.get());
        }
        drop(state);
        if let Some(known) = known {
            self.overlapped(known, &by);
        }
        // SAFETY: S2: within the block.
        moved.map(|record| unsafe { record.base.at(record.shape.before) })
    }

    /// Asks the backing to move a block that this call has in hand, and paints what is new.
    #[track_caller]
    fn remap_in_hand(&self, record: &Record, new_len: NonZeroUsize) -> Option<Record> {
        let shape = self.resized(record, new_len.get())?;
        let whole = NonZeroUsize::new(shape.whole)?;
        // SAFETY: I2: the block is this call's, and by I1 the backing's.
        let base = Base::new(unsafe { self.backing.remap(whole_of(record), shape.alignment, whole) }?);
        // SAFETY: S2: within the block.
        let address = unsafe { base.at(shape.before) }.addr().get();
        let moved = Record { address, len: new_len.get(), base, shape, ..*record };
        self.paint(&moved, record.len);
        Some(moved)
    }

    /// `free`.
    ///
    /// # Safety
    /// As [`Allocator::free`].
    #[inline]
    #[track_caller]
    pub(super) unsafe fn end(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if !self.only_counts {
            // SAFETY: the caller's promise, passed on unchanged.
            return unsafe { self.end_watched(memory, alignment) };
        }
        self.lock(Found::Free).counts.ended(memory.len());
        // SAFETY: the caller's promise; by I1, without canaries, the backing's own block.
        unsafe { self.backing.free(memory, alignment) };
    }

    /// With all that `config` may ask for.
    ///
    /// # Safety
    /// As [`Allocator::free`].
    #[inline(never)]
    #[track_caller]
    unsafe fn end_watched(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        if self.config.verbose_log {
            self.log(CallOp::Free { memory, alignment });
        }
        if self.config.keeps_records() {
            let named = Named { address: memory.addr().get(), layout: Some((memory.len(), alignment)) };
            return self.end_recorded(&named);
        }
        if self.config.counts() {
            self.lock(Found::Free).counts.ended(memory.len());
        }
        // SAFETY: the caller's promise; by I1, without canaries, the backing's own block.
        unsafe { self.backing.free(memory, alignment) };
    }

    /// Ends the block that a call names, if it names one; whatever it says of its length, the right one goes back.
    #[track_caller]
    pub(super) fn end_recorded(&self, named: &Named) {
        let by = self.caller();
        let mut state = self.lock(Found::Free);
        let (seat, record) = match state.named(named, Mistake::DoubleFree) {
            Ok(found) => found,
            Err(denied) => {
                drop(state);
                return self.deny(denied, Found::Free, named, &by);
            }
        };
        state.claim(seat, &by);
        if self.config.counts() {
            state.counts.ended(record.len);
        }
        drop(state);
        if let Some(mistake) = State::misnamed(&record, named) {
            self.tell(mistake, Found::Free, record.address, Some(record.address), &by);
        }
        self.look(&record, Found::Free, &by);
        self.retire(&record, &by);
        self.grow_ahead(Found::Free);
    }

    /// Puts a block that was claimed into quarantine, and lets the oldest ones go.
    #[track_caller]
    fn retire(&self, record: &Record, by: &Caller) {
        let (user, limit) = (record.shape.before..record.shape.before + record.len, self.config.held_back());
        if self.config.fills() {
            // SAFETY: I2: the block is this call's.
            unsafe { record.base.fill(user, FREED) };
        }
        if record.shape.whole > limit {
            return self.let_go(record);
        }
        let mut sealed = false;
        if let Some(pages) = self.pages.filter(|_| self.config.paged()) {
            // SAFETY: I2: the block is this call's, and nobody else's.
            sealed = unsafe { pages.seal(&self.backing, record.base, &record.shape) };
            // Where the system stopped midway all of it is opened again; if not even that, nobody looks at it any more.
            // SAFETY: as above.
            sealed = sealed || !unsafe { pages.open(&self.backing, record.base, &record.shape) };
        }
        self.lock(Found::Free).hold(record.address, record.serial, sealed);
        self.drain(limit, Found::Free, by);
    }

    /// Lets blocks go until the quarantine holds no more than `limit` bytes.
    #[track_caller]
    pub(super) fn drain(&self, limit: usize, found: Found, by: &Caller) {
        loop {
            let popped = self.lock(found).pop(limit);
            let Some(record) = popped else { return };
            self.look(&record, found, by);
            self.let_go(&record);
        }
    }

    /// Forgets an `Ending` block and gives it back. One whose pages do not open stays with this allocator for good.
    #[track_caller]
    pub(super) fn let_go(&self, record: &Record) {
        if let Some(pages) = self.pages.filter(|_| self.config.paged()) {
            // SAFETY: I2: the block is this call's.
            if !unsafe { pages.open(&self.backing, record.base, &record.shape) } {
                return;
            }
        }
        let ours = self.lock(Found::Free).forget(record.address, record.serial, self.config.remembers());
        if ours {
            self.give_back(record.base, &record.shape);
        }
    }

    #[track_caller]
    fn give_back(&self, base: Base, shape: &Shape) {
        let memory = NonNull::slice_from_raw_parts(base.pointer(), shape.whole);
        // SAFETY: by I1 the backing's, as it was asked for; no record of it is live, and none is `Ending` but this call's.
        unsafe { self.backing.free(memory, shape.alignment) };
    }

    #[track_caller]
    fn ask(&self, len: NonZeroUsize, alignment: Alignment, zeroed: bool) -> Result<NonNull<u8>, AllocError> {
        if zeroed { self.backing.alloc_zeroed(len, alignment) } else { self.backing.alloc(len, alignment) }
    }
}

/// The backing's block of a record.
fn whole_of(record: &Record) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(record.base.pointer(), record.shape.whole)
}
