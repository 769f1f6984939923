//! [`Due`]: the hook that tells a heap, and whoever else wants to know, that a collection is due.
//!
//! ```text
//!   High ──▶ due          Low, or a collection ──▶ not due          each is passed on
//! ```
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use terrace_heap::{OnPressure, Pressure};

/// Remembers that the memory is under pressure until it no longer is, or a collection was made.
///
/// It collects nothing itself: in the middle of an allocation nobody knows which objects are in use. The program asks
/// [`Heap::is_due`](super::Heap::is_due) where it does know.
///
/// ```
/// use terrace::{Pressure, gc::Due};
///
/// let quiet = Due::new();
/// let log = Due::telling(|pressure: &Pressure| eprintln!("{pressure:?}"));
/// assert!(!quiet.is_due() && !log.is_due());
/// ```
#[derive(Debug)]
pub struct Due<F = fn(&Pressure)> {
    due: AtomicBool,
    told: Option<F>,
}

impl Due {
    /// Tells nobody else.
    pub const fn new() -> Self {
        Self { due: AtomicBool::new(false), told: None }
    }
}

impl Default for Due {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Fn(&Pressure)> Due<F> {
    /// Calls `told` at each change, too: by clause 10 it may allocate and free, and a panic in it aborts. A [`Heap`](super::Heap) may be
    /// in the middle of a call then, so `told` has no way to it.
    pub const fn telling(told: F) -> Self {
        Self { due: AtomicBool::new(false), told: Some(told) }
    }
}

impl<F> Due<F> {
    /// Whether a collection is due.
    pub fn is_due(&self) -> bool {
        self.due.load(Relaxed)
    }

    pub(super) fn done(&self) {
        self.due.store(false, Relaxed);
    }
}

impl<F: Fn(&Pressure)> OnPressure for Due<F> {
    fn pressure(&self, pressure: &Pressure) -> bool {
        self.due.store(matches!(pressure, Pressure::High { .. }), Relaxed);
        if let Some(told) = &self.told {
            told(pressure);
        }
        false // Nothing was collected yet.
    }
}
