//! Atomics behind one seam: `core`'s, or loom's where a model checks what stands on them.
//!
//! ```text
//!              production               --cfg loom
//! atomic       core::sync::atomic       loom::sync::atomic
//! cell         a wrapper of core's      loom::cell          finds data races in plain memory
//! statics!     static                   loom::lazy_static!  fresh for every execution of a model
//! const_fn!    const fn                 fn                  loom's atomics are made at run time
//! repeat!      [const { … }; N]         array::from_fn      likewise
//! Lock         a spin lock on those, whose caller says how to wait
//! Slots        numbered places that a thread, or a CPU, has to itself
//! ```
//!
//! Code that shares memory between threads takes its atomics, and the cells that they publish,
//! from here, and then a `tests/loom_*.rs` compiles the very same file and runs it in every order.
//!
//! Cost: none. In production every item is the one that it stands for.
#![no_std]

/// The atomic types, `Ordering` and `fence`.
#[cfg(not(loom))]
pub use core::sync::atomic;

/// The atomic types, `Ordering` and `fence`, watched by loom.
#[cfg(loom)]
pub use loom::sync::atomic;

/// Plain memory that atomics publish from one thread to another.
#[cfg(not(loom))]
pub mod cell;

/// Plain memory that atomics publish from one thread to another, watched by loom.
#[cfg(loom)]
pub use loom::cell;

#[cfg(loom)]
#[doc(hidden)]
pub use loom;

mod lock;
mod slots;

pub use lock::{Held, Lock};
pub use slots::{KEPT_BYTES, NOTHING_KEPT, NoSlots, Slots, Zeroes};

/// Declares a private `static` that holds atomics.
///
/// A `static` of its own is written as usual. It needs the macro because loom's atomics are made at
/// run time: in a model the static is made anew for each execution.
///
/// ```
/// use terrace_sync::atomic::{AtomicUsize, Ordering};
///
/// terrace_sync::statics! {
///     static CALLS: AtomicUsize = AtomicUsize::new(0);
/// }
///
/// # #[cfg(not(loom))]
/// assert_eq!(CALLS.fetch_add(1, Ordering::Relaxed), 0);
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! statics {
    ($($(#[$attr:meta])* static $name:ident: $type:ty = $init:expr;)+) => {
        $($(#[$attr])* static $name: $type = $init;)+
    };
}

/// Declares a private `static` that holds loom's atomics: made anew for each execution of a model.
#[cfg(loom)]
#[macro_export]
macro_rules! statics {
    ($($(#[$attr:meta])* static $name:ident: $type:ty = $init:expr;)+) => {
        $($crate::loom::lazy_static! { $(#[$attr])* static ref $name: $type = $init; })+
    };
}

/// Declares a function that makes atomics: `const`, so that what it makes can be a `static`.
///
/// It needs the macro because loom's atomics are made at run time: in a model the function is not `const`.
///
/// ```
/// use terrace_sync::atomic::{AtomicUsize, Ordering};
///
/// struct Counter(AtomicUsize);
///
/// impl Counter {
///     terrace_sync::const_fn! {
///         /// Counts from zero.
///         pub const fn new() -> Self {
///             Self(AtomicUsize::new(0))
///         }
///     }
/// }
///
/// # #[cfg(not(loom))]
/// static COUNTER: Counter = Counter::new();
/// # #[cfg(not(loom))]
/// assert_eq!(COUNTER.0.fetch_add(1, Ordering::Relaxed), 0);
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! const_fn {
    ($(#[$attr:meta])* $vis:vis const fn $($rest:tt)+) => {
        $(#[$attr])* $vis const fn $($rest)+
    };
}

/// Declares a function that makes loom's atomics.
#[cfg(loom)]
#[macro_export]
macro_rules! const_fn {
    ($(#[$attr:meta])* $vis:vis const fn $($rest:tt)+) => {
        $(#[$attr])* $vis fn $($rest)+
    };
}

/// An array of so many values, each made by the same expression: a constant one, so that a `const fn` can do it.
///
/// It needs the macro because loom's atomics are made at run time: in a model the expression is run for each.
///
/// ```
/// use terrace_sync::atomic::{AtomicUsize, Ordering};
///
/// let counters = terrace_sync::repeat!(AtomicUsize::new(7); 3);
/// # #[cfg(not(loom))]
/// assert_eq!(counters.map(AtomicUsize::into_inner), [7, 7, 7]);
/// ```
#[cfg(not(loom))]
#[macro_export]
macro_rules! repeat {
    ($each:expr; $len:expr) => {
        [const { $each }; $len]
    };
}

/// An array of so many values that hold loom's atomics.
#[cfg(loom)]
#[macro_export]
macro_rules! repeat {
    ($each:expr; $len:expr) => {
        ::core::array::from_fn(|_| $each)
    };
}
