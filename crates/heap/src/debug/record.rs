//! [`Record`]: what is known of one block.
#![forbid(unsafe_code)]

use core::panic::Location;

use terrace_core::Alignment;

use super::{base::Base, shape::Shape};

/// Who called, without the trace, which lies beside the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub site: &'static Location<'static>,
    pub thread: usize,
}

/// Where a block is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The caller's.
    Live,
    /// The caller's, and a `resize` is at work on it.
    Busy,
    /// Freed, and not yet in quarantine, or no longer: a call is at work on it.
    Ending,
    /// Freed; its memory is held back.
    Quarantined,
    /// Freed; its memory was given back and may be anybody's.
    Gone,
}

/// A block, live or freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Of the caller's block.
    pub address: usize,
    pub len: usize,
    pub alignment: Alignment,
    pub state: State,
    /// Whether its pages cannot be touched, apart from the guards.
    pub sealed: bool,
    /// The last round of reports that named it.
    pub told: u32,
    /// The how manieth block it was.
    pub serial: u64,
    /// Of the backing's block.
    pub base: Base,
    pub shape: Shape,
    pub allocated: Stamp,
    pub freed: Option<Stamp>,
    /// The block that went to quarantine after it, or 0.
    pub next: usize,
}

impl Record {
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live | State::Busy)
    }
}
