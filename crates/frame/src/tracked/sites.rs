//! [`Sites`]: the places that ask for frames, in rows that the caller passes, without a lock.
//!
//! ```text
//!   line and column ──hash──▶ row ─▶ taken by another ─▶ next row ─▶ … ─▶ after all rows: unlisted
//!   row: │ place │ runs, frames │ of them ended: runs, frames │      a row once taken stays its place's
//! ```
//!
//! - **S1** A row's place is null or points to a `Location` that lives for ever, and changes once, from null.
//! - **S2** No count falls; a run ends after it was made, in the same row.
//!
//! Cost: a few compares where the table is not nearly full, else up to one a row; two relaxed atomic steps.

use core::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed},
};

use super::note::UNLISTED;

/// What one place has asked for.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// The place, by `#[track_caller]`. `None`: all places that the table had no row left for.
    pub location: Option<&'static Location<'static>>,
    /// Runs that it was handed.
    pub runs: u64,
    /// Frames of these runs.
    pub frames: u64,
    /// Runs of these that have not come back.
    pub live_runs: u64,
    /// Frames of these.
    pub live_frames: u64,
}

/// A row of the table of places: storage for a [`TrackedFrames`](crate::TrackedFrames), 40 bytes.
///
/// ```
/// use terrace_frame::SiteCounts;
///
/// static SITES: [SiteCounts; 256] = [const { SiteCounts::new() }; 256];
/// # assert_eq!(size_of_val(&SITES), 256 * 40);
/// ```
#[derive(Debug)]
pub struct SiteCounts {
    place: AtomicPtr<Location<'static>>,
    runs: AtomicU64,
    frames: AtomicU64,
    ended_runs: AtomicU64,
    ended_frames: AtomicU64,
}

impl Default for SiteCounts {
    fn default() -> Self {
        Self::new()
    }
}

impl SiteCounts {
    /// An empty row.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: AtomicPtr::new(ptr::null_mut()),
            runs: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            ended_runs: AtomicU64::new(0),
            ended_frames: AtomicU64::new(0),
        }
    }

    fn location(&self) -> Option<&'static Location<'static>> {
        // SAFETY: by S1 null or a `Location` that lives for ever, which nobody writes to.
        unsafe { self.place.load(Relaxed).as_ref() }
    }

    /// Whether the row is, or has become, that place's. The compiler may have a place twice.
    fn is_of(&self, site: &'static Location<'static>) -> bool {
        // Relaxed: what is behind the pointer was there before the program began.
        let claim = || self.place.compare_exchange(ptr::null_mut(), ptr::from_ref(site).cast_mut(), Relaxed, Relaxed);
        if self.place.load(Relaxed).is_null() && claim().is_ok() {
            return true;
        }
        self.location().is_some_and(|place| ptr::eq(place, site) || place == site)
    }

    fn site(&self) -> Site {
        // A racing reader may see an end before what it ends.
        let (ended_runs, ended_frames) = (self.ended_runs.load(Relaxed), self.ended_frames.load(Relaxed));
        let (runs, frames) = (self.runs.load(Relaxed), self.frames.load(Relaxed));
        let (live_runs, live_frames) = (runs.saturating_sub(ended_runs), frames.saturating_sub(ended_frames));
        Site { location: self.location(), runs, frames, live_runs, live_frames }
    }
}

/// The rows, and one for all places without.
pub(crate) struct Sites<'m> {
    rows: &'m [SiteCounts],
    unlisted: SiteCounts,
}

impl<'m> Sites<'m> {
    /// Over `rows`, as many of them as notes can number.
    pub(crate) fn new(rows: &'m [SiteCounts]) -> Self {
        Self { rows: &rows[..rows.len().min(UNLISTED - 1)], unlisted: SiteCounts::new() }
    }

    /// Counts a run, and says by which number its end is to be counted.
    pub(crate) fn made(&self, site: &'static Location<'static>, frames: usize) -> usize {
        let hash = site.line().wrapping_mul(0x9E37_79B1) ^ site.column().wrapping_mul(0x85EB_CA6B);
        let first = (hash as usize).checked_rem(self.rows.len()).unwrap_or(0);
        let found = (first..self.rows.len()).chain(0..first).find(|&at| self.rows[at].is_of(site));
        let number = found.map_or(UNLISTED, |at| at + 1);
        let row = self.row(number);
        row.runs.fetch_add(1, Relaxed);
        row.frames.fetch_add(frames as u64, Relaxed);
        number
    }

    /// Counts the end of a run.
    pub(crate) fn ended(&self, number: usize, frames: usize) {
        let row = self.row(number);
        row.ended_runs.fetch_add(1, Relaxed);
        row.ended_frames.fetch_add(frames as u64, Relaxed);
    }

    pub(crate) fn location(&self, number: usize) -> Option<&'static Location<'static>> {
        self.row(number).location()
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.rows)
    }

    fn row(&self, number: usize) -> &SiteCounts {
        self.rows.get(number.wrapping_sub(1)).unwrap_or(&self.unlisted)
    }

    /// What the places without a row have asked for.
    pub(crate) fn unlisted(&self) -> Site {
        self.unlisted.site()
    }

    /// The places, the one with the most frames first; one whose count changes meanwhile may be missed, or named out of
    /// turn.
    pub(crate) fn by_frames(&self) -> impl Iterator<Item = Site> + use<'_, 'm> {
        let mut last: Option<(u64, usize)> = None;
        core::iter::from_fn(move || {
            let sites = self.rows.iter().map(SiteCounts::site).enumerate();
            // In the order of frames, then of rows, both from the highest.
            let rest = sites.filter(|(row, site)| last.is_none_or(|last| (site.frames, *row) < last));
            let taken = rest.filter(|(_, site)| site.location.is_some());
            let (row, next) = taken.max_by_key(|(row, site)| (site.frames, *row))?;
            last = Some((next.frames, row));
            Some(next)
        })
    }
}
