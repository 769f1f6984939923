//! What a [`TrackedFrames`](crate::TrackedFrames) tells: runs that are live, and places that ask for many. As values
//! first, which a program can look through, and as text of them.
//!
//! ```text
//!  2 runs of 65 frames are live
//!         64 frames from 512 (0x200000), owner 7, asked for at kernel/disk.rs:52:18
//!          1 frames from 900 (0x384000), nobody's, asked for at kernel/tty.rs:9:5
//! ```
//!
//! Cost: both read all notes, or all rows, each time; the text of leaks does so twice, and that of hot sites once for
//! each row it shows. Nothing is allocated, nobody stopped; where calls race, each run is one that there was.
#![forbid(unsafe_code)]

use core::{fmt, panic::Location};

use super::{ledger::Ledger, sites::Site};
use crate::types::Frames;

/// Whose a run is: a tag that the caller chooses, a process's or a subsystem's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

impl Owner {
    /// What is asked for without a tag.
    pub const NOBODY: Self = Self(0);
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NOBODY => f.write_str("nobody's"),
            Self(tag) => write!(f, "owner {tag}"),
        }
    }
}

/// A run that is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its frames.
    pub frames: Frames,
    /// Whose it is.
    pub owner: Owner,
    /// Who asked for it. `None`: the table of places had no row left.
    pub site: Option<&'static Location<'static>>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames: Frames { start, count }, owner, site } = self;
        write!(f, "{count:>10} frames from {} ({:#x}), {owner}, asked for ", start.0, start.address().0)?;
        write_site(f, *site)
    }
}

fn write_site(f: &mut fmt::Formatter<'_>, site: Option<&'static Location<'static>>) -> fmt::Result {
    match site {
        Some(place) => write!(f, "at {place}"),
        None => f.write_str("at a place without a row"),
    }
}

/// The runs that are live now: leaks, if all should have come back.
///
/// As text 64 of them; `{:.9}` prints 9.
#[derive(Clone, Copy)]
#[must_use = "a report that nobody reads finds nothing"]
pub struct Leaks<'t> {
    ledger: &'t Ledger<'t>,
    owner: Option<Owner>,
}

impl<'t> Leaks<'t> {
    pub(crate) fn new(ledger: &'t Ledger<'t>) -> Self {
        Self { ledger, owner: None }
    }

    /// Those of one owner.
    pub fn of(self, owner: Owner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// One after another, the lowest first.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<'t> {
        let owner = self.owner;
        self.ledger.runs().filter(move |run| owner.is_none_or(|owner| run.owner == owner))
    }

    /// How many there are, and how many frames in all.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        self.runs().fold((0, 0), |(runs, frames), run| (runs + 1, frames + run.frames.count))
    }
}

impl fmt::Display for Leaks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        let (runs, frames) = self.count();
        write!(f, "{runs} runs of {frames} frames are live")?;
        let most = f.precision().unwrap_or(MOST);
        self.runs().take(most).try_for_each(|run| write!(f, "\n{run}"))?;
        if runs > most { write!(f, "\n{:>10} runs more", runs - most) } else { Ok(()) }
    }
}

impl fmt::Debug for Leaks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.runs()).finish()
    }
}

/// The places that asked for frames, the one with the most frames first.
///
/// As text 16 of them; `{:.9}` prints 9.
#[derive(Clone, Copy)]
pub struct HotSites<'t> {
    ledger: &'t Ledger<'t>,
}

impl<'t> HotSites<'t> {
    pub(crate) fn new(ledger: &'t Ledger<'t>) -> Self {
        Self { ledger }
    }

    /// One after another; at last all places without a row as one, if there were any. Takes time in the square of the
    /// rows.
    pub fn sites(&self) -> impl Iterator<Item = Site> + use<'t> {
        self.ledger.sites()
    }
}

impl fmt::Display for HotSites<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 16;
        write!(f, "{:>12} {:>12} {:>12} {:>12}  asked for", "runs", "frames", "live runs", "live frames")?;
        for site in self.sites().take(f.precision().unwrap_or(MOST)) {
            let Site { location, runs, frames, live_runs, live_frames } = site;
            write!(f, "\n{runs:>12} {frames:>12} {live_runs:>12} {live_frames:>12}  ")?;
            write_site(f, location)?;
        }
        Ok(())
    }
}

impl fmt::Debug for HotSites<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sites()).finish()
    }
}
