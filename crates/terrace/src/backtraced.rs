//! [`Backtraced`]: reports with the functions that led to them.
//!
//! ```text
//!   DebugAllocator ── capture ──▶ Backtraced ── walks the stack: addresses alone, at every alloc and free
//!                  ── report  ──▶ Backtraced ──▶ the handler inside, which prints: names are looked up only then
//! ```
//!
//! `#[track_caller]` ends at the first function that does not pass it on, so through `Vec` it names `Vec`'s own file. The stack
//! shows who called that. terrace-heap has no std and so no way to walk a stack: a handler brings it, and this one does by the
//! crate `backtrace`, which is what std itself uses. A kernel writes its own in the same way: `capture` and `describe`.
//!
//! Cost: about a microsecond for each alloc and free.

use core::fmt;

use terrace_heap::{
    Call,
    debug::{Describe, Handler, LimitReached, Report},
};

/// A handler that can walk the call stack, and tells the one inside.
///
/// ```
/// use terrace::{AllocatorExt, Backtraced, DebugAllocator, DebugConfig, PageAllocator, debug::Report};
///
/// let handler = Backtraced::new(|report: &Report| {
///     assert!(!report.block.unwrap().allocated.trace.frames().is_empty());
/// });
/// let mut debug = DebugAllocator::with_handler(PageAllocator, DebugConfig::new(), handler);
/// let word = debug.dupe(b"red")?;
/// assert_eq!(debug.deinit().leaks, 1); // the handler has looked at the report
/// # unsafe { debug.free_slice(word) };
/// # Ok::<(), terrace::AllocError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Backtraced<H> {
    inside: H,
}

impl<H: Handler> Backtraced<H> {
    /// Tells `inside`.
    pub const fn new(inside: H) -> Self {
        Self { inside }
    }
}

impl<H: Handler> Handler for Backtraced<H> {
    const WALKS: bool = true;

    fn report(&self, report: &Report) {
        self.inside.report(report);
    }

    fn call(&self, call: &Call) {
        self.inside.call(call);
    }

    fn refused(&self, why: &LimitReached) {
        self.inside.refused(why);
    }

    fn thread(&self) -> usize {
        self.inside.thread()
    }

    #[inline(never)] // So that `here` lies below the caller's frame.
    fn capture(&self, frames: &mut [usize]) -> usize {
        let mut written = 0;
        let here = 0u8;
        let here = (&raw const here).addr();
        backtrace::trace(|frame| {
            // Below this frame on the stack are the walker's own.
            if frame.sp().addr() > here
                && let Some(slot) = frames.get_mut(written)
            {
                *slot = frame.ip().addr();
                written += 1;
            }
            written < frames.len()
        });
        written
    }

    fn describe(&self) -> Option<Describe> {
        Some(name)
    }

    fn pause(&self, tries: u32) {
        self.inside.pause(tries);
    }
}

/// The function at `frame`, its file and line, and those that it was inlined into.
fn name(frame: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut result, mut names) = (Ok(()), 0);
    // A return address is behind the call, which may be the last instruction of its line.
    backtrace::resolve(core::ptr::without_provenance_mut(frame.wrapping_sub(1)), |symbol| {
        let Some(name) = symbol.name().filter(|_| result.is_ok()) else { return };
        let comma = if names > 0 { ", in " } else { "" };
        names += 1;
        result = match (symbol.filename(), symbol.lineno()) {
            (Some(file), Some(line)) => write!(f, "{comma}{name:#} at {}:{line}", file.display()),
            _ => write!(f, "{comma}{name:#}"),
        };
    });
    if names == 0 { write!(f, "{frame:#x}") } else { result }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{cell::RefCell, string::ToString};

    use terrace_core::AllocatorExt;
    use terrace_heap::{DebugAllocator, DebugConfig};
    use terrace_sys::PageAllocator;

    use super::*;

    #[inline(never)]
    fn a_function_of_this_name<H: Handler>(debug: &DebugAllocator<PageAllocator, H>) {
        let _left = debug.alloc_slice::<u8>(10).unwrap();
    }

    #[test]
    fn a_report_names_the_functions_that_led_to_the_block() {
        let text = RefCell::new(None);
        let handler = Backtraced::new(|report: &Report| *text.borrow_mut() = Some(report.to_string()));
        let mut debug = DebugAllocator::with_handler(PageAllocator, DebugConfig::new(), handler);
        a_function_of_this_name(&debug);
        assert_eq!(debug.deinit().leaks, 1);
        let text = text.borrow().clone().unwrap();
        assert!(text.contains("a_function_of_this_name"), "{text}");
        assert!(text.contains("a_report_names_the_functions_that_led_to_the_block"), "{text}");
    }
}
