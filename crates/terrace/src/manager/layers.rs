//! [`Layers`]: what stands under the manager, as the configuration wants it.
//!
//! ```text
//!   Everyday   DebugAllocator ──▶ SmpAllocator ──▶ PageAllocator
//!   Paged      DebugAllocator ──▶ PageAllocator          guard_pages: each block has pages of its own
//! ```

use terrace_heap::{
    Call, DebugAllocator, DebugConfig,
    debug::{Describe, Handler, LimitReached, Report},
};
use terrace_sys::{PageAllocator, ThreadSlots};

use crate::SmpAllocator;

/// Two stacks of which the configuration chooses one.
#[expect(clippy::large_enum_variant, reason = "there is one, in a static, and a box would need an allocator")]
pub(super) enum Layers {
    Everyday(DebugAllocator<SmpAllocator, Told>),
    Paged(DebugAllocator<PageAllocator, Told>),
}

/// Does the same with whichever there is; no closure, which would hide the caller's place.
macro_rules! each {
    ($layers:expr, $debug:ident => $call:expr) => {
        match $layers {
            $crate::manager::layers::Layers::Everyday($debug) => $call,
            $crate::manager::layers::Layers::Paged($debug) => $call,
        }
    };
}
pub(super) use each;

impl Layers {
    /// Asks the system for nothing.
    pub fn new<H: Handler + Sync>(config: DebugConfig, handler: &'static H) -> Self {
        let stack_trace_frames = if H::WALKS { config.stack_trace_frames } else { 0 };
        let (config, handler) = (DebugConfig { stack_trace_frames, ..config }, Told(handler));
        if config.enable_safety && config.guard_pages {
            return Self::Paged(DebugAllocator::with_pages(PageAllocator, config, handler));
        }
        let config = DebugConfig { guard_pages: false, ..config }; // Without safety it does nothing.
        let smp = SmpAllocator::with_decommit(PageAllocator, ThreadSlots);
        Self::Everyday(DebugAllocator::with_handler(smp, config, handler))
    }

    /// Gives back what is free, layer by layer.
    #[track_caller]
    pub fn trim(&self) {
        each!(self, debug => debug.trim());
        if let Self::Everyday(debug) = self {
            debug.backing().trim();
        }
    }

    /// Ends every block without a word: leaks were told.
    #[track_caller]
    pub fn end(mut self) {
        each!(&mut self, debug => debug.free_all());
    }
}

/// A handler of any type, which lives as long as the program.
pub(super) struct Told(&'static (dyn AnyHandler + Sync));

/// [`Handler`] without what only a known type can answer.
trait AnyHandler {
    fn report(&self, report: &Report);
    fn call(&self, call: &Call);
    fn refused(&self, why: &LimitReached);
    fn thread(&self) -> usize;
    fn capture(&self, frames: &mut [usize]) -> usize;
    fn describe(&self) -> Option<Describe>;
    fn pause(&self, tries: u32);
}

impl<H: Handler> AnyHandler for H {
    fn report(&self, report: &Report) {
        Handler::report(self, report);
    }

    fn call(&self, call: &Call) {
        Handler::call(self, call);
    }

    fn refused(&self, why: &LimitReached) {
        Handler::refused(self, why);
    }

    fn thread(&self) -> usize {
        Handler::thread(self)
    }

    fn capture(&self, frames: &mut [usize]) -> usize {
        Handler::capture(self, frames)
    }

    fn describe(&self) -> Option<Describe> {
        Handler::describe(self)
    }

    fn pause(&self, tries: u32) {
        Handler::pause(self, tries);
    }
}

impl Handler for Told {
    /// Where the one inside cannot, no frames are asked for.
    const WALKS: bool = true;

    fn report(&self, report: &Report) {
        self.0.report(report);
    }

    fn call(&self, call: &Call) {
        self.0.call(call);
    }

    fn refused(&self, why: &LimitReached) {
        self.0.refused(why);
    }

    fn thread(&self) -> usize {
        self.0.thread()
    }

    fn capture(&self, frames: &mut [usize]) -> usize {
        self.0.capture(frames)
    }

    fn describe(&self) -> Option<Describe> {
        self.0.describe()
    }

    fn pause(&self, tries: u32) {
        self.0.pause(tries);
    }
}
