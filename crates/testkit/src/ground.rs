//! [`Ground`]: memory to test layers on, as unkind as the contract allows.
//!
//! ```text
//!  one block of the system, aligned to twice what was asked
//!  ├┄ FENCE ─┬── len bytes, POISON ──┬── FENCE: room to grow, and a margin ──┤
//!            ▲ aligned to exactly what was asked, to no more
//! ```
//!
//! - **I1** Each entry of `live` and `spare` is a block of the system with its `layout`, of this ground alone.
//! - **I2** `offset + room + MARGIN` is at most the layout's size; a block's length is at most `room`.
//! - **I3** Around a live block the fence stands, over a spare one POISON, unless somebody broke the contract.
//!
//! Memory goes back to the system when the ground is dropped, not before: so a layer that uses what it gave
//! back is found out, instead of doing harm. Costs: fills and compares every byte; for tests alone.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    num::NonZeroUsize,
    panic::Location,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

use terrace_core::{Alignment, AllocError, Allocator};

use crate::{
    breach::{Block, Breach, Finding, Handler, Reports, Role},
    script::Setup,
};

/// What stands around a block.
const FENCE: u8 = 0xFE;
/// What a fresh block is filled with, and one that came back.
const POISON: u8 = 0xD7;
const MARGIN: usize = 16;
/// The strictest alignment that is served; more would cost too much address space.
const STRICTEST: usize = 1 << 17;

/// A block of the system and where ours lies in it.
struct Piece {
    base: NonNull<u8>,
    layout: Layout,
    offset: usize,
    room: usize,
    block: Block,
}

// SAFETY: by I1 the block is reached through this alone.
unsafe impl Send for Piece {}

#[derive(Default)]
struct Pieces {
    live: HashMap<usize, Piece>,
    spare: Vec<Piece>,
    held: usize,
}

/// Hands out memory of the system: poisoned, fenced, aligned to exactly what was asked.
///
/// It grows blocks in place, moves them in `remap` and hands out again what came back, each as its
/// [`Setup`] says. Behind a [`Monitor`](crate::Monitor), which keeps calls for unknown blocks away.
pub struct Ground {
    pieces: Mutex<Pieces>,
    setup: Setup,
    reports: Reports,
    made_at: &'static Location<'static>,
}

impl Ground {
    /// An empty ground; what is found broken goes to `reports`.
    #[track_caller]
    pub fn new(setup: Setup, reports: Reports) -> Self {
        Self { pieces: Mutex::default(), setup, reports, made_at: Location::caller() }
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, finding: Finding) {
        self.reports.breach(&Breach::new(finding, Role::Backing, self.made_at));
    }

    fn allows(&self, held: usize, more: usize) -> bool {
        held.checked_add(more).is_some_and(|sum| sum <= self.setup.limit)
    }

    /// A spare piece that could be the very block, or a fresh one.
    fn piece(&self, pieces: &mut Pieces, len: usize, alignment: Alignment) -> Option<Piece> {
        let fits = |piece: &Piece| piece.block.alignment == alignment && piece.room >= len && piece.room <= len * 4;
        if self.setup.reuses
            && let Some(at) = pieces.spare.iter().rposition(fits)
        {
            let piece = pieces.spare.swap_remove(at);
            self.check_spare(&piece);
            return Some(piece);
        }
        Piece::fresh(len, alignment, self.setup.grows)
    }

    fn check_spare(&self, piece: &Piece) {
        let bytes = piece.bytes(piece.edge(), piece.layout.size());
        if let Some(at) = first_other(bytes, POISON) {
            let offset = at.saturating_sub(piece.offset - piece.edge());
            self.report(Finding::WroteAfterFree { block: piece.block, offset });
        }
    }

    fn check_fence(&self, piece: &Piece) {
        let end = piece.offset + piece.block.len;
        let (before, behind) = (piece.bytes(piece.edge(), piece.offset), piece.bytes(end, piece.layout.size()));
        if first_other(before, FENCE).or(first_other(behind, FENCE)).is_some() {
            self.report(Finding::WroteOutside { block: piece.block });
        }
    }
}

impl Piece {
    fn fresh(len: usize, alignment: Alignment, grows: bool) -> Option<Self> {
        let room = if grows { len.checked_mul(2)? } else { len };
        let offset = offset_in(alignment.bytes());
        let size = room.checked_add(offset)?.checked_add(MARGIN)?;
        let layout = Layout::from_size_align(size, alignment.bytes() * 2).ok()?;
        // SAFETY: not of size zero.
        let base = NonNull::new(unsafe { System.alloc(layout) })?;
        let block = Block { address: base.addr().get() + offset, len, alignment };
        Some(Self { base, layout, offset, room, block })
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: by I2 inside the block.
        unsafe { self.base.add(self.offset) }
    }

    /// Where the fence begins: what lies before it is only there for the alignment.
    fn edge(&self) -> usize {
        self.offset - MARGIN
    }

    fn bytes(&self, from: usize, to: usize) -> &[u8] {
        // SAFETY: callers stay inside the layout.
        let start = unsafe { self.base.add(from) };
        // SAFETY: by I3 all from `edge` on is filled when the piece is made, and by I1 of this ground.
        unsafe { NonNull::slice_from_raw_parts(start, to - from).as_ref() }
    }

    fn fill(&mut self, from: usize, to: usize, byte: u8) {
        // SAFETY: callers stay inside the layout.
        let start = unsafe { self.base.add(from) };
        // SAFETY: as above.
        unsafe { start.write_bytes(byte, to - from) };
    }

    /// Makes the piece a live block of `len` bytes, fenced; its first `kept` bytes stay.
    fn dress(&mut self, len: usize, kept: usize) {
        self.block.len = len;
        let (start, end, size) = (self.offset, self.offset + len, self.layout.size());
        self.fill(self.edge(), start, FENCE);
        self.fill(start + kept.min(len), end, POISON);
        self.fill(end, size, FENCE);
    }
}

/// The first byte that is not `byte`; by whole chunks, since tests are not optimised.
fn first_other(bytes: &[u8], byte: u8) -> Option<usize> {
    let chunk = [byte; 256];
    let at = bytes.chunks(chunk.len()).position(|bytes| *bytes != chunk[..bytes.len()])? * chunk.len();
    bytes[at..].iter().position(|&other| other != byte).map(|offset| at + offset)
}

/// An odd multiple of the alignment, and so not aligned any stricter, that leaves a margin before the block.
const fn offset_in(alignment: usize) -> usize {
    if alignment >= MARGIN { alignment } else { MARGIN + alignment }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let Pieces { live, spare, .. } = std::mem::take(&mut *self.pieces());
        spare.iter().for_each(|piece| self.check_spare(piece));
        live.values().for_each(|piece| self.check_fence(piece));
        for piece in live.into_values().chain(spare) {
            // SAFETY: by I1 a block of the system with this layout, in neither list any more.
            unsafe { System.dealloc(piece.base.as_ptr(), piece.layout) };
        }
    }
}

// SAFETY: by I1 and I2 each live block lies in a block of the system of its own, at an odd multiple of its
// alignment; blocks of a gone ground are gone with it, so it is never dropped before the layers above.
unsafe impl Allocator for Ground {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let mut pieces = self.pieces();
        if !self.allows(pieces.held, len.get()) || alignment.bytes() > STRICTEST {
            return Err(AllocError);
        }
        let mut piece = self.piece(&mut pieces, len.get(), alignment).ok_or(AllocError)?;
        piece.dress(len.get(), 0);
        let start = piece.start();
        pieces.held += len.get();
        pieces.live.insert(start.addr().get(), piece);
        Ok(start)
    }

    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        let mut pieces = self.pieces();
        let others = pieces.held.saturating_sub(memory.len());
        let Some(piece) = pieces.live.get_mut(&memory.addr().get()) else { return false };
        if new_len.get() > piece.room || !self.allows(others, new_len.get()) {
            return false;
        }
        self.check_fence(piece);
        piece.dress(new_len.get(), memory.len());
        pieces.held = others + new_len.get();
        true
    }

    unsafe fn remap(&self, memory: NonNull<[u8]>, alignment: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promises, passed on unchanged.
        if unsafe { self.resize(memory, alignment, new_len) } {
            return Some(memory.cast());
        }
        if !self.setup.moves {
            return None;
        }
        // Stands for a system that maps pages elsewhere; the layers above cannot tell it from a copy.
        let new = self.alloc(new_len, alignment).ok()?;
        // SAFETY: both live and apart, by I1; the caller lends the old one.
        unsafe { new.copy_from_nonoverlapping(memory.cast(), memory.len().min(new_len.get())) };
        // SAFETY: live; the caller gives it up since the answer is `Some`.
        unsafe { self.free(memory, alignment) };
        Some(new)
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        let mut pieces = self.pieces();
        let Some(mut piece) = pieces.live.remove(&memory.addr().get()) else { return };
        pieces.held -= piece.block.len;
        self.check_fence(&piece);
        let (edge, size) = (piece.edge(), piece.layout.size());
        piece.fill(edge, size, POISON);
        pieces.spare.push(piece);
    }
}
