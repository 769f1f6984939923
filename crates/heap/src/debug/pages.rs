//! [`Pages`]: how a backing is asked to protect pages, where it can; and what is done to a block's.
//!
//! ```text
//! live          | guard, no access | data, read and write | guard, no access |
//! quarantined   | no access                                                  |
//! ```

use core::ptr::NonNull;

use terrace_core::{Access, Alignment, Allocator, Protect};

use super::{base::Base, shape::Shape};

type ProtectFn<A> = unsafe fn(&A, NonNull<[u8]>, Access) -> bool;

/// What `Protect` can do, for a type that says nothing of it.
pub(super) struct Pages<A> {
    size: fn(&A) -> Alignment,
    protect: ProtectFn<A>,
}

impl<A> Clone for Pages<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Pages<A> {}

impl<A: Allocator> Pages<A> {
    pub const fn of() -> Self
    where
        A: Protect,
    {
        Self { size: A::page_size, protect: A::protect }
    }

    pub fn size(self, backing: &A) -> Alignment {
        (self.size)(backing)
    }

    /// Takes the access to the guards away.
    ///
    /// # Errors
    /// Where the system refuses: whether all is open as before, so that the block can be freed.
    ///
    /// # Safety
    /// `base` is a live block of `backing` with `shape`, all of it open and nobody else's.
    pub unsafe fn guard(self, backing: &A, base: Base, shape: &Shape) -> Result<(), bool> {
        let open = shape.open();
        for guard in [0..open.start, open.end..shape.whole] {
            // SAFETY: within the block.
            let pages = unsafe { base.part(guard) };
            // SAFETY: whole pages of the block, of which nobody uses any.
            if !unsafe { (self.protect)(backing, pages, Access::None) } {
                // SAFETY: as above.
                return Err(unsafe { self.open(backing, base, shape) });
            }
        }
        Ok(())
    }

    /// Takes the access to a freed block away. `false`: some of it may still be open.
    ///
    /// # Safety
    /// As [`guard`](Self::guard), but for the guards.
    pub unsafe fn seal(self, backing: &A, base: Base, shape: &Shape) -> bool {
        // SAFETY: within the block.
        let pages = unsafe { base.part(shape.open()) };
        // SAFETY: whole pages of the block, of which nobody uses any.
        unsafe { (self.protect)(backing, pages, Access::None) }
    }

    /// Gives the access to the whole back, so that it can be freed. `false`: it cannot.
    ///
    /// # Safety
    /// `base` is a live block of `backing` with `shape`.
    pub unsafe fn open(self, backing: &A, base: Base, shape: &Shape) -> bool {
        // SAFETY: within the block.
        let pages = unsafe { base.part(0..shape.whole) };
        // SAFETY: whole pages of the block; nothing is taken away.
        unsafe { (self.protect)(backing, pages, Access::ReadWrite) }
    }
}
