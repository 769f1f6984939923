//! `UnsafeCell` with loom's interface: the pointer is lent to a closure, so that loom can see
//! when an access begins and ends.

/// `core::cell::UnsafeCell`, read through [`with`](Self::with) and written through [`with_mut`](Self::with_mut).
///
/// ```
/// let cell = terrace_sync::cell::UnsafeCell::new(1);
/// // SAFETY: the cell is this thread's alone.
/// cell.with_mut(|value| unsafe { *value += 1 });
/// // SAFETY: as above.
/// assert_eq!(cell.with(|value| unsafe { *value }), 2);
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Lends the value for reading. No thread may write it meanwhile.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends the value for writing. No other thread may reach it meanwhile.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
