//! [`Pool`] and [`Pooled`]: values of one type in a pool, each with an owner.
//!
//! A [`Pooled`] is to its pool what a `Box` is to the heap: it owns its value, drops it, and gives the item back. It
//! borrows the pool, so that no `reset` and no drop of the pool can come before the values' ends; and since the pool
//! never runs a destructor itself, it does not matter to it what the values borrow or which thread they belong to.

use core::{
    fmt,
    hint::black_box,
    marker::PhantomData,
    mem::ManuallyDrop,
    num::NonZeroUsize,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use terrace_core::{Alignment, AllocError, Allocator, Reset, ResetMode};

use super::{PoolAllocator, item_len};

/// Values of type `T` in items of their size.
///
/// - **I5** The items of `allocator` have `T`'s size and alignment or more.
///
/// ```
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
///
/// let pool = Pool::new(SystemAllocator);
/// let mut name = pool.create(String::from("red"))?;
/// name.push_str(" and green");
/// assert_eq!(*name, "red and green");
/// drop(name); // drops the string; its item is the next one's
/// assert_eq!(pool.allocator().free_items(), 1);
/// # Ok::<(), terrace_core::AllocError>(())
/// ```
///
/// No value outlives its pool, nor a reset of it:
///
/// ```compile_fail,E0502
/// # use terrace_core::{ResetMode, SystemAllocator};
/// # use terrace_heap::Pool;
/// let mut pool = Pool::new(SystemAllocator);
/// let name = pool.create(String::from("red")).unwrap();
/// pool.reset(ResetMode::RetainCapacity);
/// println!("{}", *name);
/// ```
///
/// A value never leaves the thread that the pool is on:
///
/// ```compile_fail,E0277
/// # use terrace_core::SystemAllocator;
/// # use terrace_heap::Pool;
/// let pool = Pool::new(SystemAllocator);
/// let one = pool.create(1).unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(one));
/// });
/// ```
pub struct Pool<T, A: Allocator> {
    allocator: PoolAllocator<A>,
    /// The pool owns no `T` and drops none: the handles do.
    values: PhantomData<fn() -> T>,
}

impl<T, A: Allocator> Pool<T, A> {
    const LEN: NonZeroUsize = match NonZeroUsize::new(size_of::<T>()) {
        Some(len) => item_len(len),
        None => item_len(NonZeroUsize::MIN),
    };
    const ALIGNMENT: Alignment = Alignment::of::<T>().max(Alignment::of::<super::Free>());

    /// A pool that grows as needed; asks `backing` for nothing yet.
    pub const fn new(backing: A) -> Self {
        Self { allocator: PoolAllocator::new(backing, Self::LEN, Self::ALIGNMENT), values: PhantomData }
    }

    /// A pool that grows by [`add_capacity`](PoolAllocator::add_capacity) alone.
    pub const fn fixed(backing: A) -> Self {
        Self { allocator: PoolAllocator::fixed(backing, Self::LEN, Self::ALIGNMENT), values: PhantomData }
    }

    /// Moves `value` into an item.
    ///
    /// # Errors
    /// [`AllocError`] where there is no item and the backing gives none; the value is then dropped.
    #[inline]
    #[track_caller]
    pub fn create(&self, value: T) -> Result<Pooled<'_, T, A>, AllocError> {
        // Moved from here on, and never in reach of a destructor by its address: so a value can stay in registers.
        let value = ManuallyDrop::new(value);
        match self.allocator.take(Self::LEN, Self::ALIGNMENT) {
            Ok(item) => {
                let item = item.cast::<T>();
                // SAFETY: by I5 an item of ours has room and alignment for a `T`.
                unsafe { item.write(ManuallyDrop::into_inner(value)) };
                Ok(Pooled { item, pool: self })
            }
            // Through a black box, so that the call gets a place of its own and not the value's.
            Err(AllocError) => refused(black_box(ManuallyDrop::into_inner(value))),
        }
    }

    /// The pool's items as bytes: to make them ahead, and to ask how many there are.
    pub const fn allocator(&self) -> &PoolAllocator<A> {
        &self.allocator
    }

    /// Takes back the items of values that were forgotten, and gives memory back, as [`PoolAllocator`]'s reset does.
    pub fn reset(&mut self, mode: ResetMode) -> bool {
        self.allocator.reset(mode)
    }
}

impl<T, A: Allocator> fmt::Debug for Pool<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.allocator.fmt(f)
    }
}

/// Drops a value for which there is no item.
#[cold]
#[inline(never)]
fn refused<T, R>(value: T) -> Result<R, AllocError> {
    drop(value);
    Err(AllocError)
}

/// A value in a [`Pool`]: owned, dropped with the handle, its item then free again.
///
/// - **I6** `item` is an item of `pool`, holds an initialised `T`, and only this handle refers to it.
pub struct Pooled<'p, T, A: Allocator> {
    item: NonNull<T>,
    pool: &'p Pool<T, A>,
}

impl<T, A: Allocator> Pooled<'_, T, A> {
    /// Moves the value out; the item is free again.
    #[inline]
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: by I6 initialised; the handle is not used again.
        let value = unsafe { this.item.read() };
        // SAFETY: by I6 an item that nobody uses any more.
        unsafe { this.pool.allocator.put(this.item.cast()) };
        value
    }
}

impl<T, A: Allocator> Deref for Pooled<'_, T, A> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by I6 initialised, and borrowed with the handle.
        unsafe { self.item.as_ref() }
    }
}

impl<T, A: Allocator> DerefMut for Pooled<'_, T, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by I6 initialised, and borrowed with the handle.
        unsafe { self.item.as_mut() }
    }
}

impl<T, A: Allocator> Drop for Pooled<'_, T, A> {
    #[inline]
    fn drop(&mut self) {
        // The item comes back also where the destructor unwinds, and not before it is through: it may use the pool.
        let _back = PutBack { item: self.item.cast(), allocator: &self.pool.allocator };
        // SAFETY: by I6 initialised; the handle is not used again.
        unsafe { self.item.drop_in_place() };
    }
}

/// - **I7** `item` is an item of `allocator` that nobody uses once this is dropped.
struct PutBack<'p, A: Allocator> {
    item: NonNull<u8>,
    allocator: &'p PoolAllocator<A>,
}

impl<A: Allocator> Drop for PutBack<'_, A> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by I7.
        unsafe { self.allocator.put(self.item) };
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Pooled<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display, A: Allocator> fmt::Display for Pooled<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
