//! [`DebugConfig`]: what a [`DebugAllocator`](crate::DebugAllocator) looks for, and what it spends on that.
//!
//! ```text
//!   enable_tracking ─────────── counts                      one lock a call, no memory
//!   enable_leak_detection ───┬─ a record for each block     about 110 bytes, and the frames of two traces
//!   enable_safety ───────────┘
//!       └─ canaries, fill, quarantine, never_unmap, retain_metadata, guard_pages
//! ```
#![forbid(unsafe_code)]

/// The most frames of a trace that are kept, whatever [`DebugConfig::stack_trace_frames`] says.
pub const MAX_FRAMES: usize = 24;

/// What to look for. Safety is on unless it is turned off.
///
/// ```
/// use terrace_heap::DebugConfig;
///
/// const STRICT: DebugConfig = DebugConfig { never_unmap: true, stack_trace_frames: 12, ..DebugConfig::new() };
/// assert!(STRICT.enable_safety && STRICT.enable_leak_detection && STRICT.thread_safe);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugConfig {
    /// Reports blocks that are still live at the end, or when asked. On.
    pub enable_leak_detection: bool,
    /// Counts blocks and bytes, for [`Stats`](terrace_core::Stats). On.
    pub enable_tracking: bool,
    /// Canaries, fill, quarantine and guard pages, each as its own field says; a call that names a freed block or another
    /// length is then told apart from a foreign pointer. On. Off: those five fields do nothing.
    pub enable_safety: bool,
    /// Keeps every freed block in quarantine until the end: a later use of it is found however late it comes. Off.
    pub never_unmap: bool,
    /// Remembers a freed block, its sites included, when its memory is given back, so that a double free is still called one
    /// and both places are named. Costs a record a block, until another block begins at its address. Off.
    pub retain_metadata: bool,
    /// Threads may call at the same time. On. Off: that they do not is a promise of the program, and two calls at the same
    /// moment are a mistake, which is reported; nothing is made unsafe by it.
    pub thread_safe: bool,
    /// The most bytes, as callers count them, that may be live at once; more is refused, and the handler is told. None.
    pub memory_limit: Option<usize>,
    /// How many frames of the call stack are kept for each alloc and free where the handler [can walk it](super::Handler::WALKS), up
    /// to [`MAX_FRAMES`]. 16, of which the innermost are this crate's own.
    pub stack_trace_frames: usize,
    /// Tells the handler of every call. Off.
    pub verbose_log: bool,
    /// How many bytes of freed blocks are held back, the oldest being let go first: as long as a block is there, a double free
    /// and a write to it are found. 1 MiB; less for a small backing.
    pub quarantine: usize,
    /// Gives each block pages of its own between two pages that cannot be touched, and takes the access away when it is freed, so
    /// that the first wrong read or write faults. For [`DebugAllocator::with_pages`](crate::DebugAllocator::with_pages). Off.
    pub guard_pages: bool,
    /// How many known bytes stand before and behind each block, to show a write past its ends. 16; 0 for none.
    pub canaries: usize,
    /// Fills fresh blocks with 0xAA and freed ones with 0xDD. On.
    pub fill: bool,
}

impl DebugConfig {
    /// Finds whatever costs no more than memory and time for the bytes themselves: all but guard pages.
    pub const fn new() -> Self {
        Self {
            enable_leak_detection: true,
            enable_tracking: true,
            enable_safety: true,
            never_unmap: false,
            retain_metadata: false,
            thread_safe: true,
            memory_limit: None,
            stack_trace_frames: 16,
            verbose_log: false,
            quarantine: 1 << 20,
            guard_pages: false,
            canaries: 16,
            fill: true,
        }
    }

    /// Counts, and looks for nothing: blocks are the backing's own.
    pub const fn tracking() -> Self {
        Self { enable_leak_detection: false, enable_safety: false, ..Self::new() }
    }

    /// Whether each block has a record.
    #[inline]
    pub(super) const fn keeps_records(&self) -> bool {
        self.enable_leak_detection || self.enable_safety
    }

    /// Whether blocks and bytes are counted.
    #[inline]
    pub(super) const fn counts(&self) -> bool {
        self.enable_tracking || self.memory_limit.is_some()
    }

    /// Whether all there is to do is to count.
    pub(super) const fn only_counts(&self) -> bool {
        self.enable_tracking && !self.keeps_records() && self.memory_limit.is_none() && !self.verbose_log
    }

    /// Bytes of a canary.
    pub(super) const fn canary(&self) -> usize {
        if self.enable_safety { self.canaries } else { 0 }
    }

    pub(super) const fn fills(&self) -> bool {
        self.enable_safety && self.fill
    }

    pub(super) const fn paged(&self) -> bool {
        self.enable_safety && self.guard_pages
    }

    /// Bytes that the quarantine may hold.
    pub(super) const fn held_back(&self) -> usize {
        match (self.enable_safety, self.never_unmap) {
            (false, _) => 0,
            (true, true) => usize::MAX,
            (true, false) => self.quarantine,
        }
    }

    pub(super) const fn remembers(&self) -> bool {
        self.enable_safety && self.retain_metadata
    }

    pub(super) const fn frames(&self) -> usize {
        if self.stack_trace_frames < MAX_FRAMES { self.stack_trace_frames } else { MAX_FRAMES }
    }
}

impl Default for DebugConfig {
    fn default() -> Self {
        Self::new()
    }
}
