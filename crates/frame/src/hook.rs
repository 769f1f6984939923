//! A place for a test to stand between the load and the compare-exchange of a step. In production there is nothing
//! there.
#![forbid(unsafe_code)]

/// Between what a step on free bits read and its compare-exchange.
#[inline(always)]
pub(crate) fn between() {
    #[cfg(test)]
    crate::stress::yield_sometimes();
}

/// The compare-exchange found another value.
#[inline(always)]
pub(crate) fn lost() {
    #[cfg(test)]
    crate::stress::count_lost();
}

/// A word of metadata is read or written.
#[inline(always)]
pub(crate) fn touched() {
    #[cfg(test)]
    crate::stress::count_touched();
}
