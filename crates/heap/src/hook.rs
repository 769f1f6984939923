//! What every layer with a hook shares: a panic in one aborts (clause 10 of the contract).

/// A panic while this is dropped by another panic aborts, with or without std. Forgotten where the hook has returned.
pub(crate) struct AbortOnUnwind(
    /// Whose hook it is.
    pub(crate) &'static str,
);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        panic!("{} panicked; an allocator cannot unwind", self.0);
    }
}
