//! [`Ledger`]: the notes of all runs, and the places that asked for them.
//!
//! ```text
//!  frames   first                                       span
//!  notes    [ 0 │ n │ 0 │ 0 │ n │ 0 │ … ]   a word a frame: the note of the run that begins there, or 0
//! ```
//!
//! - **L1** A frame's word is not 0 from before the layer's `alloc` returns a run that begins there until its `free`
//!   makes it 0, which one caller does, by a compare-exchange; only then does the backing hear of the free.
//! - **L2** So whoever is handed the frame next writes its note behind that step: the backing's own promise (clause 6)
//!   orders the two, and all steps here may be relaxed.
//!
//! `tests/loom_tracked.rs` runs this file in every order.
//!
//! Cost: a word for each run made and ended; runs are listed by reading all words.
#![forbid(unsafe_code)]

use core::panic::Location;

use super::{
    Owner, Run,
    note::Note,
    sites::{Site, Sites},
};
use crate::{
    atomic::{AtomicU64, Ordering::Relaxed},
    hook,
    types::{Frame, Frames, Order},
};

pub(crate) struct Ledger<'m> {
    notes: &'m [AtomicU64],
    first: usize,
    sites: Sites<'m>,
}

impl<'m> Ledger<'m> {
    /// Over zeroed words, one for each frame from number `first` on.
    pub(crate) fn new(notes: &'m [AtomicU64], first: usize, sites: Sites<'m>) -> Self {
        Self { notes, first, sites }
    }

    fn word(&self, frame: Frame) -> Option<&AtomicU64> {
        hook::touched();
        self.notes.get(frame.0.wrapping_sub(self.first))
    }

    /// Notes a run that was just handed out.
    pub(crate) fn made(&self, run: Frames, owner: Owner, site: &'static Location<'static>) {
        let note = Note { count: run.count, owner: owner.0, site: self.sites.made(site, run.count) };
        if let Some(word) = self.word(run.start) {
            word.store(note.pack(), Relaxed);
        }
    }

    /// The note of the run that begins with this frame.
    pub(crate) fn note(&self, start: Frame) -> Option<Note> {
        Note::unpack(self.word(start)?.load(Relaxed))
    }

    /// Strikes out the note of a run that ends. `false`: somebody else has.
    pub(crate) fn strike(&self, start: Frame, note: Note) -> bool {
        self.word(start).is_some_and(|word| word.compare_exchange(note.pack(), 0, Relaxed, Relaxed).is_ok())
    }

    /// Brings back a note that was struck out, if the backing did not take the run; another's note stays.
    pub(crate) fn restore(&self, start: Frame, note: Note) {
        if let Some(word) = self.word(start) {
            let _ = word.compare_exchange(0, note.pack(), Relaxed, Relaxed);
        }
    }

    /// Counts the end of a run that the backing has taken back.
    pub(crate) fn ended(&self, note: Note) {
        self.sites.ended(note.site, note.count);
    }

    /// The run that the frame lies in: its note is looked for backwards.
    pub(crate) fn run_of(&self, frame: Frame) -> Option<Run> {
        let lowest = frame.0.saturating_sub(Order::MAX.frames() - 1);
        let start = (lowest..=frame.0).rev().find(|&start| self.note(Frame(start)).is_some())?;
        self.run_at(Frame(start)).filter(|run| run.frames.contains(Frames { start: frame, count: 1 }))
    }

    fn run_at(&self, start: Frame) -> Option<Run> {
        let note = self.note(start)?;
        let site = self.sites.location(note.site);
        Some(Run { frames: Frames { start, count: note.count }, owner: Owner(note.owner), site })
    }

    /// All runs, the lowest first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + use<'_, 'm> {
        (0..self.notes.len()).filter_map(|at| self.run_at(Frame(self.first + at)))
    }

    /// The places that asked, the one with the most frames first; at last those without a row, if there were any.
    pub(crate) fn sites(&self) -> impl Iterator<Item = Site> + use<'_, 'm> {
        self.sites.by_frames().chain(Some(self.sites.unlisted()).filter(|site| site.runs > 0))
    }

    /// Bytes of notes and of rows.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.notes) + self.sites.bytes()
    }
}
