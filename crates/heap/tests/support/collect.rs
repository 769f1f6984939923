//! A handler that keeps what it is told, and blocks of 8-byte alignment: for the tests of `DebugAllocator`.

use std::{cell::RefCell, ptr::NonNull};

use terrace_core::{Alignment, Allocator, SystemAllocator};
use terrace_heap::{
    DebugAllocator, DebugConfig,
    debug::{Handler, Mistake, Report},
};

use super::{len, slice};

/// Keeps what it is told.
#[derive(Default)]
pub struct Collect(pub RefCell<Vec<Report>>);

impl Handler for &Collect {
    fn report(&self, report: &Report) {
        self.0.borrow_mut().push(*report);
    }
}

impl Collect {
    pub fn mistakes(&self) -> Vec<Mistake> {
        self.0.borrow().iter().map(|report| report.mistake).collect()
    }

    /// The text of the one report, with addresses, places and threads by names that do not change.
    pub fn text(&self) -> String {
        let reports = self.0.borrow();
        assert_eq!(reports.len(), 1, "{reports:#?}");
        let text = reports[0].to_string();
        let word = |word: &str| {
            let (word, comma) = word.strip_suffix(',').map_or((word, ""), |word| (word, ","));
            let (word, colon) = word.strip_suffix(':').map_or((word, ""), |word| (word, ":"));
            let known = match word {
                word if word.starts_with("0x") => "ADDRESS",
                word if word.contains("tests/debug") => "HERE",
                word => word,
            };
            format!("{known}{colon}{comma}")
        };
        let line = |line: &str| {
            let line = line.split_once(", thread ").map_or(line.to_owned(), |(place, _)| format!("{place}, thread N"));
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

pub type Debug<'c> = DebugAllocator<SystemAllocator, &'c Collect>;

pub fn debug(collect: &Collect, config: DebugConfig) -> Debug<'_> {
    DebugAllocator::with_handler(SystemAllocator, config, collect)
}

pub const WORD: Alignment = Alignment::of::<u64>();

#[track_caller]
pub fn block(debug: &dyn Allocator, bytes: usize) -> NonNull<[u8]> {
    slice(debug.alloc(len(bytes), WORD).unwrap(), bytes)
}

/// # Safety
/// As [`Allocator::free`], or as the test says.
#[track_caller]
pub unsafe fn free(debug: &dyn Allocator, memory: NonNull<[u8]>) {
    // SAFETY: the caller's promise.
    unsafe { debug.free(memory, WORD) };
}

/// Writes one byte, `offset` bytes from the block's first.
///
/// # Safety
/// The byte lies in a canary of the block, or in a block that is in quarantine.
pub unsafe fn poke(memory: NonNull<[u8]>, offset: isize) {
    // SAFETY: the caller's promise.
    let byte = unsafe { memory.cast::<u8>().offset(offset) };
    // SAFETY: as above.
    unsafe { byte.write(1) };
}
