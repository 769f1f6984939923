//! Allocators of the program's own, by name: [`register`], [`registered`], [`names`].
//!
//! ```text
//!   register("ring", &RING) ──▶ [("ring", &RING), …] ◀── registered("ring")   the word `ring` in a lab's stack expressions
//! ```
//!
//! A name stands for the same allocator as long as the program runs. Cost: a walk over a short list, which only ever grows, at its
//! end: nobody waits, and an allocator that is asked for memory meanwhile may look around here.
#![forbid(unsafe_code)]

use core::{error::Error, fmt, iter};
use std::{boxed::Box, sync::OnceLock, vec::Vec};

use terrace_core::Allocator;

/// An allocator and its name, and the one that was registered after it.
struct Plugin {
    name: &'static str,
    allocator: &'static (dyn Allocator + Sync),
    next: Place,
}

type Place = OnceLock<Box<Plugin>>;

static FIRST: Place = Place::new();

fn plugins() -> impl Iterator<Item = &'static Plugin> {
    iter::successors(FIRST.get(), |plugin| plugin.next.get()).map(|plugin| &**plugin)
}

/// Why [`register`] has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is empty, or has other characters than letters, digits, `_` and `-`, or does not begin with a letter.
    NoName,
    /// Another allocator has this name.
    Taken,
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "no name for an allocator: write a letter first, then letters, digits, `_` or `-`",
            Self::Taken => "another allocator is registered under this name; choose another",
        })
    }
}

impl Error for RegisterError {}

/// Names an allocator, so that it can be found by its name: by [`registered`], and in the stack expressions of a lab that is part
/// of this program (`terrace_lab::main`), where `arena(ring)` is then an arena over it.
///
/// # Errors
/// [`RegisterError`]; nothing has changed.
///
/// ```
/// use terrace::{ArenaAllocator, Gpa, gpa, manager};
///
/// static TABLES: Gpa = gpa();
/// manager::register("tables", &TABLES)?;
///
/// let arena = ArenaAllocator::new(manager::registered("tables").unwrap());
/// assert_eq!(*arena.alloc_value(7)?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn register(name: &'static str, allocator: &'static (dyn Allocator + Sync)) -> Result<(), RegisterError> {
    let begins = name.chars().next().is_some_and(char::is_alphabetic);
    if !begins || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        return Err(RegisterError::NoName);
    }
    let mut new = Box::new(Plugin { name, allocator, next: Place::new() });
    let mut place = &FIRST;
    loop {
        // Made before, so that nobody is asked for memory while the place is taken.
        match place.set(new) {
            Ok(()) => return Ok(()),
            Err(back) => new = back,
        }
        let Some(taken) = place.get().filter(|taken| taken.name != name) else { return Err(RegisterError::Taken) };
        place = &taken.next;
    }
}

/// The allocator of this name.
pub fn registered(name: &str) -> Option<&'static (dyn Allocator + Sync)> {
    plugins().find(|plugin| plugin.name == name).map(|plugin| plugin.allocator)
}

/// The names that are registered, in the order of their registration.
pub fn names() -> Vec<&'static str> {
    plugins().map(|plugin| plugin.name).collect()
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use terrace_core::Owns;
    use terrace_heap::ArenaAllocator;

    use super::*;
    use crate::{Gpa, gpa};

    static ONE: Gpa = gpa();
    static OTHER: Gpa = gpa();

    #[test]
    fn a_name_stands_for_one_allocator() {
        assert!(registered("one").is_none());
        assert_eq!(register("one", &ONE), Ok(()));
        assert_eq!(register("one", &OTHER), Err(RegisterError::Taken));
        assert_eq!(register("other-1_x", &OTHER), Ok(()));
        assert!(names().ends_with(&["one", "other-1_x"]));

        let arena = ArenaAllocator::new(registered("one").unwrap());
        let value = NonNull::from(arena.alloc_value(7).unwrap()).cast();
        assert!(ONE.owns(value) && !OTHER.owns(value));
    }

    #[test]
    fn what_no_expression_could_name_is_refused() {
        for name in ["", "1st", "_x", "a b", "a(b)", "a,b", "64KiB"] {
            assert_eq!(register(name, &ONE), Err(RegisterError::NoName), "{name:?}");
        }
    }
}
