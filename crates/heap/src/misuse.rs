//! What must not compile: ways in which safe code could use memory that has ended, each tried.
//!
//! Compiled for documentation tests alone, which compare the numbers of the errors where the compiler is a nightly.

/// Swapping two arenas' scopes, so that each would end the other's blocks:
///
/// ```compile_fail,E0521
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let (mut one, mut other) = (ArenaAllocator::new(SystemAllocator), ArenaAllocator::new(SystemAllocator));
/// one.scope(|one| other.scope(|other| core::mem::swap(one, other)));
/// ```
///
/// An inner scope's block, kept in the outer one or outside of all:
///
/// ```compile_fail,E0521
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// arena.scope(|outer| {
///     let mut kept = "";
///     outer.scope(|inner| kept = inner.alloc_str("temporary").unwrap());
///     println!("{kept}");
/// });
/// ```
///
/// The outer scope's allocator, used for what is to outlive the inner one:
///
/// ```compile_fail,E0502
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// arena.scope(|outer| {
///     let lasting = &**outer;
///     outer.scope(|_| lasting.alloc_str("temporary").unwrap().len());
/// });
/// ```
///
/// A block from before, used after a scope that could have ended it:
///
/// ```compile_fail,E0502
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// let word = arena.alloc_str("red").unwrap();
/// arena.scope(|_| ());
/// println!("{word}");
/// ```
///
/// A reset or a rewind inside of a scope, which lends the arena shared:
///
/// ```compile_fail,E0596
/// use terrace_core::{ResetMode, SystemAllocator};
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// arena.scope(|scope| scope.reset(ResetMode::FreeAll));
/// ```
///
/// ```compile_fail,E0596
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// let start = arena.checkpoint();
/// arena.scope(|scope| scope.rewind(start));
/// ```
///
/// An arena or a scope in two threads at once:
///
/// ```compile_fail,E0277
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let arena = ArenaAllocator::new(SystemAllocator);
/// std::thread::scope(|threads| {
///     threads.spawn(|| arena.alloc_str("there").unwrap().len());
/// });
/// ```
///
/// ```compile_fail,E0277
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// arena.scope(|scope| {
///     std::thread::scope(|threads| {
///         threads.spawn(move || scope.alloc_str("there").unwrap().len());
///     });
/// });
/// ```
///
/// An arena in another thread than its backing:
///
/// ```compile_fail,E0277
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let arena = ArenaAllocator::new(std::rc::Rc::new(SystemAllocator));
/// std::thread::spawn(move || arena.held_bytes());
/// ```
///
/// An arena moved, or dropped, under its values:
///
/// ```compile_fail,E0505
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let arena = ArenaAllocator::new(SystemAllocator);
/// let word = arena.alloc_str("red").unwrap();
/// arena.deinit();
/// println!("{word}");
/// ```
///
/// A collection that owns its arena by value, which `reset` could empty:
///
/// ```compile_fail,E0277
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::ArenaAllocator;
/// let mut numbers = Vec::new_in(ArenaAllocator::new(SystemAllocator));
/// numbers.push(1);
/// ```
///
/// A backing that is dropped before the arena, which gives memory back to it:
///
/// ```compile_fail,E0597
/// use terrace_core::SystemAllocator;
/// use terrace_heap::{ArenaAllocator, StatsAllocator};
/// let arena;
/// let counted = StatsAllocator::new(SystemAllocator);
/// arena = ArenaAllocator::new(&counted);
/// ```
///
/// A sink that keeps the arena above it, which calls it once more when it is dropped:
///
/// ```compile_fail,E0597
/// use std::cell::Cell;
/// use terrace_core::{Allocator, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, Call, LogAllocator};
/// let slot: Cell<Option<&dyn Allocator>> = Cell::new(None);
/// let arena = ArenaAllocator::new(LogAllocator::new(SystemAllocator, |_: &Call| drop(slot.get())));
/// slot.set(Some(&arena));
/// ```
mod arenas {}

/// A buffer that owns its bytes, as a backing by value: moving it would move its blocks:
///
/// ```compile_fail,E0277
/// use terrace_heap::{ArenaAllocator, InlineBuffer};
/// let arena = ArenaAllocator::new(InlineBuffer::<64>::new());
/// ```
///
/// One that is reset under its blocks:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::{Reset, ResetMode};
/// use terrace_heap::InlineBuffer;
/// let mut buffer = InlineBuffer::<64>::new();
/// let mut bytes = Vec::new_in(&buffer);
/// buffer.reset(ResetMode::FreeAll);
/// bytes.push(1u8);
/// ```
///
/// Bytes that are used while they are lent to an allocator, and by two threads at once:
///
/// ```compile_fail,E0506
/// use core::mem::MaybeUninit;
/// use terrace_heap::FixedBufferAllocator;
/// let mut bytes = [MaybeUninit::uninit(); 64];
/// let fixed = FixedBufferAllocator::new(&mut bytes);
/// bytes[0] = MaybeUninit::new(1);
/// println!("{fixed:?}");
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::FixedBufferAllocator<'static>>();
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::InlineBuffer<64>>();
/// ```
mod buffers {}

/// A layer's backing is emptied through the layer alone, which then hears of it; counts are not cloned (clause 9):
///
/// ```compile_fail,E0616
/// use terrace_core::SystemAllocator;
/// use terrace_heap::{ArenaAllocator, StatsAllocator};
/// let mut counted = StatsAllocator::new(ArenaAllocator::new(SystemAllocator));
/// counted.backing.deinit();
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::StatsAllocator<terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::ArenaAllocator<terrace_core::SystemAllocator>>();
/// ```
mod layers {}
