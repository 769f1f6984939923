//! [`Handler`]: who is told of mistakes, and what the allocator has to ask of its surroundings.
//!
//! ```text
//!   DebugAllocator ── report(&Report) ──▶ Handler        a mistake: print and abort, collect, count
//!                  ── call, refused ────▶                verbose_log, the memory limit
//!                  ◀── thread, capture, pause ──         what no_std code cannot know by itself
//! ```
//!
//! A hook (clause 10 of the contract): no lock is held while it runs, it may allocate and free, here too, and a
//! panic in it aborts.

use super::report::{Describe, LimitReached, Report};
use crate::{Call, hook::AbortOnUnwind};

/// Is told of mistakes. Any `Fn(&Report)` is one, which collects them in a test, say.
pub trait Handler {
    /// Whether [`capture`](Self::capture) can walk the call stack. Otherwise it is never asked, and no room is kept for its answers.
    const WALKS: bool = false;

    /// A mistake, in the calling thread. Where it returns, the allocator goes on, and nothing that belongs to nobody is freed.
    fn report(&self, report: &Report);

    /// A call, before its answer where it is a free, after it otherwise: with [`verbose_log`](crate::DebugConfig::verbose_log) alone.
    fn call(&self, call: &Call) {
        let _ = call;
    }

    /// A request that the memory limit has refused.
    fn refused(&self, why: &LimitReached) {
        let _ = why;
    }

    /// A number for the calling thread, or 0. It must not call the allocator.
    fn thread(&self) -> usize {
        this_thread()
    }

    /// Walks the call stack: writes return addresses, the innermost first, and says how many. It must not call the allocator.
    fn capture(&self, frames: &mut [usize]) -> usize {
        let _ = frames;
        0
    }

    /// What prints such an address by name.
    fn describe(&self) -> Option<Describe> {
        None
    }

    /// Waits a moment for another thread, after `tries` failed tries.
    fn pause(&self, tries: u32) {
        wait(tries);
    }
}

impl<F: Fn(&Report)> Handler for F {
    fn report(&self, report: &Report) {
        self(report);
    }
}

/// Prints a mistake to the standard error stream, and aborts the program unless it is a leak.
///
/// Without std it panics with the report, for leaks too: the panic handler knows where to print, and the panic does not unwind.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrintAndAbort;

#[cfg(feature = "std")]
impl Handler for PrintAndAbort {
    fn report(&self, report: &Report) {
        Print.report(report);
        if report.mistake != super::Mistake::Leak {
            std::process::abort();
        }
    }

    fn call(&self, call: &Call) {
        Print.call(call);
    }

    fn refused(&self, why: &LimitReached) {
        Print.refused(why);
    }
}

#[cfg(not(feature = "std"))]
impl Handler for PrintAndAbort {
    fn report(&self, report: &Report) {
        panic!("{report}");
    }
}

/// Prints to the standard error stream, and goes on.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Print;

#[cfg(feature = "std")]
impl Handler for Print {
    fn report(&self, report: &Report) {
        say(format_args!("{report}"));
    }

    fn call(&self, call: &Call) {
        say(format_args!("{:?} at {}", call.op, call.site));
    }

    fn refused(&self, why: &LimitReached) {
        say(format_args!("{why}"));
    }
}

/// A line; what cannot be written is no reason to panic.
#[cfg(feature = "std")]
fn say(text: core::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = std::writeln!(std::io::stderr(), "terrace: {text}");
}

/// Threads are numbered as they first ask.
#[cfg(feature = "std")]
fn this_thread() -> usize {
    use core::{
        cell::Cell,
        sync::atomic::{AtomicUsize, Ordering},
    };
    static LAST: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

#[cfg(not(feature = "std"))]
fn this_thread() -> usize {
    0
}

fn wait(tries: u32) {
    #[cfg(feature = "std")]
    if tries > 5 {
        return std::thread::yield_now();
    }
    for _ in 0..1 << tries.min(6) {
        core::hint::spin_loop();
    }
}

/// Runs a hook; a panic in it aborts (clause 10).
#[inline]
pub(super) fn calmly<R>(hook: impl FnOnce() -> R) -> R {
    let abort = AbortOnUnwind("the handler of a DebugAllocator");
    let answer = hook();
    core::mem::forget(abort);
    answer
}
