//! [`Sites`]: a table of the places that ask for memory, of fixed size and without a lock.
//!
//! ```text
//!   line and column ──hash──▶ row ─▶ taken by another ─▶ next row ─▶ … ─▶ after all rows: unlisted
//!   row: │ place │ blocks │ bytes │      a row once taken stays its place's
//! ```
//!
//! - **I1** A row's place is null or points to a `Location` that lives for ever, and changes once, from null.
//!
//! Costs: a few compares where the table is not nearly full, else up to one a row.

use core::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed},
};

/// What one place has asked for.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Who called, by `#[track_caller]`.
    pub location: &'static Location<'static>,
    /// Blocks that it made.
    pub blocks: u64,
    /// Bytes that it asked for, the growth of blocks included.
    pub bytes: u64,
}

pub(super) struct Sites<const ROWS: usize> {
    rows: [Row; ROWS],
    unlisted: Row,
}

struct Row {
    place: AtomicPtr<Location<'static>>,
    blocks: AtomicU64,
    bytes: AtomicU64,
}

impl Row {
    const fn new() -> Self {
        Self { place: AtomicPtr::new(ptr::null_mut()), blocks: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Whether the row is, or has become, that place's. The compiler may have a place twice.
    fn is_of(&self, site: &'static Location<'static>) -> bool {
        let mut place = self.place.load(Relaxed);
        if place.is_null() {
            // Relaxed: what is behind the pointer was there before the program began.
            match self.place.compare_exchange(place, ptr::from_ref(site).cast_mut(), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => place = now,
            }
        }
        // SAFETY: by I1 a `Location` that lives for ever, which nobody writes to.
        ptr::eq(place, site) || same(unsafe { &*place }, site)
    }

    #[inline]
    fn add(&self, blocks: u64, bytes: usize) {
        if blocks != 0 {
            self.blocks.fetch_add(blocks, Relaxed);
        }
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn site(&self) -> Option<Site> {
        let place = self.place.load(Relaxed);
        // SAFETY: by I1 null or a `Location` that lives for ever, which nobody writes to.
        let location = unsafe { place.as_ref() }?;
        Some(Site { location, blocks: self.blocks.load(Relaxed), bytes: self.bytes.load(Relaxed) })
    }
}

/// The numbers first, which differ most.
fn same(one: &Location<'_>, other: &Location<'_>) -> bool {
    (one.line(), one.column()) == (other.line(), other.column()) && one.file() == other.file()
}

impl<const ROWS: usize> Sites<ROWS> {
    pub(super) const fn new() -> Self {
        Self { rows: [const { Row::new() }; ROWS], unlisted: Row::new() }
    }

    #[inline]
    pub(super) fn count(&self, site: &'static Location<'static>, blocks: u64, bytes: usize) {
        let first = self.first(site);
        // As a rule the place has the first row: no call, and no look at what the pointer points to.
        match self.rows.get(first) {
            Some(row) if ptr::eq(row.place.load(Relaxed), site) => row.add(blocks, bytes),
            _ => self.count_elsewhere(site, first, (blocks, bytes)),
        }
    }

    /// Where the search for a place begins.
    #[inline]
    fn first(&self, site: &'static Location<'static>) -> usize {
        let hash = site.line().wrapping_mul(0x9E37_79B1) ^ site.column().wrapping_mul(0x85EB_CA6B);
        if ROWS == 0 { 0 } else { hash as usize % ROWS }
    }

    #[inline(never)]
    fn count_elsewhere(&self, site: &'static Location<'static>, first: usize, (blocks, bytes): (u64, usize)) {
        let (before, from) = self.rows.split_at(first);
        let row = from.iter().chain(before).find(|row| row.is_of(site)).unwrap_or(&self.unlisted);
        row.add(blocks, bytes);
    }

    /// All that was asked for.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.iter().chain([&self.unlisted]).map(|row| row.bytes.load(Relaxed)).fold(0, u64::wrapping_add)
    }

    pub(super) fn unlisted(&self) -> (u64, u64) {
        (self.unlisted.blocks.load(Relaxed), self.unlisted.bytes.load(Relaxed))
    }

    /// The one with the most bytes first; a place whose count changes meanwhile may be missed or named out of turn.
    pub(super) fn by_bytes(&self) -> impl Iterator<Item = Site> {
        let mut last: Option<(u64, usize)> = None;
        core::iter::from_fn(move || {
            let sites = self.rows.iter().enumerate().filter_map(|(row, taken)| Some((row, taken.site()?)));
            // In the order of bytes, then of rows, both from the highest.
            let rest = sites.filter(|(row, site)| last.is_none_or(|last| (site.bytes, *row) < last));
            let (row, next) = rest.max_by_key(|(row, site)| (site.bytes, *row))?;
            last = Some((next.bytes, row));
            Some(next)
        })
    }
}
