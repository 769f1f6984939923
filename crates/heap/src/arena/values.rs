//! The arena's safe side: values, slices and strings that are borrowed from it.
//!
//! Nothing here runs a destructor: a list of destructors to run at reset could meet a dead borrow or
//! another thread. A value that has one is refused at compile time and belongs into a handle that
//! carries its lifetime, such as allocator-api2's `Box::new_in(value, &arena)`.

use core::{mem::needs_drop, num::NonZeroUsize, ptr::NonNull, slice};

use terrace_core::{Alignment, AllocError, Allocator, AllocatorExt};

use super::ArenaAllocator;

#[expect(clippy::mut_from_ref, reason = "every call lends a block of its own (I3)")]
impl<A: Allocator> ArenaAllocator<A> {
    /// Moves `value` into the arena.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses; the value is then dropped.
    ///
    /// ```
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let arena = ArenaAllocator::new(SystemAllocator);
    /// let point = arena.alloc_value((1, 2))?;
    /// point.0 += 1;
    /// assert_eq!(*point, (2, 2));
    /// # Ok::<(), terrace_core::AllocError>(())
    /// ```
    ///
    /// Its destructor would never run, so a value may not have one:
    ///
    /// ```compile_fail
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let arena = ArenaAllocator::new(SystemAllocator);
    /// arena.alloc_value(String::from("leaked"));
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_value<T>(&self, value: T) -> Result<&mut T, AllocError> {
        const { assert!(!needs_drop::<T>(), "an arena runs no destructor: use Box::new_in(value, &arena)") };
        let place = match NonZeroUsize::new(size_of::<T>()) {
            Some(len) => self.alloc(len, Alignment::of::<T>())?.cast::<T>(),
            None => NonNull::dangling(),
        };
        // SAFETY: a block of its own with `T`'s size and alignment (I3).
        unsafe { place.write(value) };
        // SAFETY: initialised above, disjoint from all others, and live while the arena is borrowed.
        Ok(unsafe { &mut *place.as_ptr() })
    }

    /// Copies a slice into the arena.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses.
    #[inline]
    #[track_caller]
    pub fn alloc_slice_copy<T: Copy>(&self, items: &[T]) -> Result<&mut [T], AllocError> {
        let mut copy = self.dupe(items)?;
        // SAFETY: initialised, disjoint from all others, and live while the arena is borrowed.
        Ok(unsafe { copy.as_mut() })
    }

    /// Copies a string into the arena.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses.
    #[inline]
    #[track_caller]
    pub fn alloc_str(&self, text: &str) -> Result<&mut str, AllocError> {
        let bytes = self.alloc_slice_copy(text.as_bytes())?;
        // SAFETY: the bytes of a `str`.
        Ok(unsafe { str::from_utf8_unchecked_mut(bytes) })
    }

    /// Collects an iterator into the arena. The iterator may allocate from the same arena; without
    /// that the slice grows in place as long as its node has room, and moves to the next one with a copy.
    ///
    /// # Errors
    /// [`AllocError`] where the backing refuses, be it twice the room of the items so far; they are forgotten
    /// with their bytes.
    ///
    /// ```
    /// # use terrace_core::SystemAllocator;
    /// # use terrace_heap::ArenaAllocator;
    /// let arena = ArenaAllocator::new(SystemAllocator);
    /// let squares = arena.alloc_iter((1..=4).map(|n| n * n))?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// # Ok::<(), terrace_core::AllocError>(())
    /// ```
    #[track_caller]
    pub fn alloc_iter<I: IntoIterator>(&self, items: I) -> Result<&mut [I::Item], AllocError> {
        const { assert!(!needs_drop::<I::Item>(), "an arena runs no destructor: collect into a Vec in &arena") };
        let mut items = items.into_iter();
        let mut room = self.alloc_slice::<I::Item>(items.size_hint().0)?;
        let mut count = 0;
        while let Some(item) = items.next() {
            if count == room.len() {
                let wish =
                    count.saturating_add(items.size_hint().0).saturating_add(1).max(count.saturating_mul(2)).max(4);
                // SAFETY: `room` is the live slice of this arena.
                room = unsafe { self.realloc_slice(room, wish) }?;
            }
            // SAFETY: `count` is below the room's length.
            let place = unsafe { room.cast::<I::Item>().add(count) };
            // SAFETY: inside a block of its own (I3).
            unsafe { place.write(item) };
            count += 1;
        }
        // SAFETY: `room` is the live slice of this arena. A refusal leaves it as it is, longer than needed.
        unsafe { self.resize_slice(room, count) };
        // SAFETY: `count` items were written, disjoint from all other blocks, live while the arena is borrowed.
        Ok(unsafe { slice::from_raw_parts_mut(room.cast::<I::Item>().as_ptr(), count) })
    }
}
