//! [`Report`]: one mistake, as a value; its text is `Display` (`text.rs`).
#![forbid(unsafe_code)]

use core::{fmt, panic::Location};

use terrace_core::Alignment;

use super::config::MAX_FRAMES;

/// A mistake that a [`DebugAllocator`](crate::DebugAllocator) has found.
///
/// Nothing in it borrows from the allocator: a handler may keep it, send it, or count it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What is wrong.
    pub mistake: Mistake,
    /// In which call it was found.
    pub found_in: Found,
    /// The address that was given to the call, or of the block where no call gave one.
    pub address: usize,
    /// The block that it is about, where one is known.
    pub block: Option<Block>,
    /// Who called.
    pub by: Moment,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mistake {
    /// A block is still live at the end.
    Leak,
    /// A block was freed that had been freed before.
    DoubleFree,
    /// A freed block was named in a `resize`, a `remap` or a look-up.
    UseAfterFree,
    /// A freed block was written to.
    WriteAfterFree {
        /// From its first byte to the first one that was written.
        offset: usize,
        /// From the first byte that was written to the last.
        span: usize,
    },
    /// A freed block, or a page around one, was touched: what [`DebugAllocator::explain`](crate::DebugAllocator::explain) says of a fault.
    Touched {
        /// From the block's first byte; negative before it.
        offset: isize,
    },
    /// A call named a live block with another length than it has.
    WrongLength {
        /// The length that was named, in bytes.
        given: usize,
    },
    /// A call named a live block with another alignment than it has.
    WrongAlignment {
        /// The alignment that was named.
        given: Alignment,
    },
    /// Bytes behind the block's end were written.
    Overrun {
        /// From the end to the first of them.
        offset: usize,
        /// From the first byte that was written to the last.
        span: usize,
    },
    /// Bytes before the block were written.
    Underrun {
        /// How far before the block the lowest of them lies.
        before: usize,
        /// From the first byte that was written to the last.
        span: usize,
    },
    /// No block of this allocator begins at the address, and none lies around it.
    Foreign,
    /// The address lies in a block, but is not its beginning.
    Interior {
        /// From the block's first byte.
        offset: usize,
    },
    /// A block was freed, resized or moved while another call was at work on it.
    InUse,
    /// Two threads called at the same moment, and the configuration says that they do not.
    Race,
    /// The backing handed out an address at which a block is live: somebody gave it back past this allocator.
    Overlap,
}

/// The call in which a mistake was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// `alloc` or `alloc_zeroed`.
    Alloc,
    /// `resize`.
    Resize,
    /// `remap`, or [`remap_by_address`](crate::DebugAllocator::remap_by_address).
    Remap,
    /// `free`, or [`free_by_address`](crate::DebugAllocator::free_by_address).
    Free,
    /// [`size_by_address`](crate::DebugAllocator::size_by_address).
    Size,
    /// `reset`.
    Reset,
    /// [`check_for_leaks`](crate::DebugAllocator::check_for_leaks), [`deinit`](crate::DebugAllocator::deinit) or drop.
    Check,
    /// [`explain`](crate::DebugAllocator::explain).
    Fault,
}

/// A block that a report is about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Block {
    /// Of its first byte.
    pub address: usize,
    /// Bytes, as last asked for.
    pub len: usize,
    /// Alignment, as asked for.
    pub alignment: Alignment,
    /// The how manieth block of this allocator it was, from 1.
    pub serial: u64,
    /// When it was made.
    pub allocated: Moment,
    /// When it was freed, if it was.
    pub freed: Option<Moment>,
}

/// Who called, from which thread, through which functions.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Moment {
    /// By `#[track_caller]`, so through foreign collections it names those.
    pub site: &'static Location<'static>,
    /// The thread's number, as the handler counts them; 0 where it does not.
    pub thread: usize,
    /// The functions on the stack, where the handler can walk it.
    pub trace: Trace,
}

/// Writes what is known of one address of a trace.
pub type Describe = fn(usize, &mut fmt::Formatter<'_>) -> fmt::Result;

/// The call stack at some moment, as addresses, the innermost first.
#[derive(Clone, Copy)]
pub struct Trace {
    frames: [usize; MAX_FRAMES],
    describe: Option<Describe>,
}

impl Trace {
    /// As many of `frames` as fit, up to a 0; printed with `describe`, or as numbers.
    pub fn new(frames: &[usize], describe: Option<Describe>) -> Self {
        let mut kept = [0; MAX_FRAMES];
        for (kept, &frame) in kept.iter_mut().zip(frames) {
            *kept = frame;
        }
        Self { frames: kept, describe }
    }

    /// The addresses.
    pub fn frames(&self) -> &[usize] {
        let len = self.frames.iter().position(|&frame| frame == 0).unwrap_or(MAX_FRAMES);
        &self.frames[..len]
    }

    pub(super) fn describe(&self) -> Option<Describe> {
        self.describe
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

/// What a look at all blocks has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a check that nobody reads finds nothing"]
#[non_exhaustive]
pub struct Check {
    /// Blocks that are still live; 0 where leaks are not looked for.
    pub leaks: usize,
    /// Their bytes.
    pub leaked_bytes: usize,
    /// Mistakes of other kinds, from the allocator's beginning until now.
    pub mistakes: usize,
}

impl Check {
    /// Whether nothing leaks and no mistake was ever found.
    pub const fn is_clean(&self) -> bool {
        self.leaks == 0 && self.mistakes == 0
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leaks, leaked_bytes, mistakes } = self;
        match self.is_clean() {
            true => f.write_str("no leaks, no mistakes"),
            false => write!(f, "{leaks} leaks of {leaked_bytes} bytes, {mistakes} other mistakes"),
        }
    }
}

/// A request that the [memory limit](crate::DebugConfig::memory_limit) refused. No mistake.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LimitReached {
    /// Bytes that the request would have added.
    pub more: usize,
    /// Bytes that are live.
    pub current: usize,
    /// Bytes that may be.
    pub limit: usize,
    /// Who asked.
    pub site: &'static Location<'static>,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { more, current, limit, site } = self;
        write!(f, "refused: {more} bytes more at {site}, with {current} live of a memory limit of {limit}")
    }
}
