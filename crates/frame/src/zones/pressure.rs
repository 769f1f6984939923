//! Who hears of pressure, and when: a zone's level, what was told of it, and the right to tell.
//!
//! ```text
//!  one word    [ level │ told │ telling ]
//!
//!  a call changes the free frames ──▶ the level follows ──▶ level ≠ told, and nobody tells? ──▶ the hook
//! ```
//!
//! - **G1** After a call has changed a zone's free frames, and while nobody is at work, the level is the one that its
//!   watermarks make of them.
//! - **G2** The hook runs in one thread at a time for each zone, never inside itself, and is told each level once. What
//!   it misses meanwhile it is told at the zone's next call.
//!
//! The hook runs when the call has done its work: no lock is held, there being none, and it may allocate and free here
//! too. A panic in it aborts. Cost, without a change: a load and two comparisons.

use crate::{
    atomic::{AtomicU64, Ordering},
    hook,
    types::ZoneType,
    watermarks::{Pressure, Watermarks},
};

/// What a hook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZonePressure {
    /// Whose level has changed.
    pub zone: ZoneType,
    /// What it is now.
    pub level: Pressure,
    /// How many frames are free there.
    pub free: usize,
}

/// Hears of pressure in zones. Any `Fn(&ZonePressure)` does; `()` hears nothing.
pub trait OnPressure {
    /// A zone's level has changed.
    fn pressure(&self, now: &ZonePressure);
}

impl<F: Fn(&ZonePressure)> OnPressure for F {
    fn pressure(&self, now: &ZonePressure) {
        self(now);
    }
}

impl OnPressure for () {
    fn pressure(&self, _: &ZonePressure) {}
}

const TOLD: u32 = 2;
const LEVEL: u64 = 3;
const TELLING: u64 = 1 << 4;
/// Calm, and told so, by nobody at the moment.
const CALM: u64 = 0;

/// A zone's level.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn level(&self) -> Pressure {
        level_of(self.0.load(Ordering::SeqCst))
    }

    /// After a change of the free frames: brings the level up to them, and tells. `about` is what a glance says of them;
    /// where that is another level, `free` is asked.
    #[inline]
    pub(crate) fn settle(
        &self,
        zone: ZoneType,
        marks: Watermarks,
        about: usize,
        free: impl Fn() -> usize,
        hook: &impl OnPressure,
    ) {
        // SeqCst, as the step that changed the free frames: of two calls that change them and look here, the one that
        // comes second sees what the first has done (G1).
        let state = self.0.load(Ordering::SeqCst);
        if state == CALM && about >= marks.low {
            return; // Nothing else is looked at in the common case.
        }
        let level = level_of(state);
        if marks.level(level, about) != level || state >> TOLD & LEVEL != level as u64 {
            self.change(zone, marks, &free, hook);
        }
    }

    #[cold]
    fn change(&self, zone: ZoneType, marks: Watermarks, free: &dyn Fn() -> usize, hook: &impl OnPressure) {
        let (mut state, mut may_tell) = (self.0.load(Ordering::SeqCst), true);
        loop {
            let level = marks.level(level_of(state), free());
            let up = state & !LEVEL | level as u64;
            let tell = may_tell && up >> TOLD & LEVEL != level as u64 && up & TELLING == 0;
            // Who tells takes the right to it, and notes what will be told, in the step that settles the level.
            let new = if tell { up & !(LEVEL << TOLD) | (level as u64) << TOLD | TELLING } else { up };
            if new == state {
                return;
            }
            hook::between();
            if let Err(now) = self.0.compare_exchange(state, new, Ordering::SeqCst, Ordering::SeqCst) {
                state = now;
                continue;
            }
            if tell {
                run(hook, &ZonePressure { zone, level, free: free() });
                self.0.fetch_and(!TELLING, Ordering::SeqCst);
                may_tell = false; // A hook that moves the level itself would be told for ever.
            }
            // Once more: another call may have changed the free frames before the step, and looked before it.
            state = self.0.load(Ordering::SeqCst);
        }
    }
}

const fn level_of(state: u64) -> Pressure {
    match state & LEVEL {
        0 => Pressure::Calm,
        1 => Pressure::Low,
        _ => Pressure::Min,
    }
}

fn run(hook: &impl OnPressure, now: &ZonePressure) {
    let abort = AbortOnUnwind;
    hook.pressure(now);
    core::mem::forget(abort);
}

/// A panic while this is dropped by another panic aborts, with or without std. Forgotten where the hook has returned.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        panic!("the hook of a ZonedAllocator panicked; an allocator cannot unwind");
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use std::{vec, vec::Vec};

    use super::*;

    const MARKS: Watermarks = Watermarks { min: 2, low: 5, high: 8 };

    /// Another thread frees behind the look at the free frames and before the step that notes the level; its own look
    /// came before that step, and found nothing to change.
    #[test]
    fn a_level_is_looked_at_once_more_behind_its_step() {
        let (gauge, looks, told) = (Gauge::default(), Cell::new(0), RefCell::new(Vec::new()));
        let hook = |now: &ZonePressure| told.borrow_mut().push((now.level, now.free));
        let free = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 { 4 } else { 9 }
        };
        gauge.settle(ZoneType::Normal, MARKS, 4, free, &hook);
        assert_eq!((gauge.level(), told.take()), (Pressure::Calm, vec![(Pressure::Low, 9)]));
        // What the hook has missed it is told at the next call, and then no more.
        gauge.settle(ZoneType::Normal, MARKS, 9, || 9, &hook);
        assert_eq!(told.take(), [(Pressure::Calm, 9)]);
        gauge.settle(ZoneType::Normal, MARKS, 9, || 9, &hook);
        assert_eq!(told.take(), []);
    }

    #[test]
    fn a_hook_is_not_called_in_the_middle_of_itself() {
        let (gauge, free, told) = (Gauge::default(), Cell::new(4), RefCell::new(Vec::new()));
        let hook = |now: &ZonePressure| {
            told.borrow_mut().push(now.level);
            free.set(9);
            gauge.settle(ZoneType::Normal, MARKS, free.get(), || free.get(), &|_: &ZonePressure| {
                told.borrow_mut().clear()
            });
            assert_eq!(gauge.level(), Pressure::Calm, "the level follows all the same");
        };
        gauge.settle(ZoneType::Normal, MARKS, free.get(), || free.get(), &hook);
        assert_eq!(told.take(), [Pressure::Low]);
        gauge.settle(ZoneType::Normal, MARKS, free.get(), || free.get(), &hook);
        assert_eq!(told.take(), [Pressure::Calm]);
    }
}
