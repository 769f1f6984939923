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

/// A value of a pool that outlives the pool's place, or its life:
///
/// ```compile_fail,E0505
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
/// let pool = Pool::new(SystemAllocator);
/// let word = pool.create(String::from("red")).unwrap();
/// drop(pool);
/// println!("{word}");
/// ```
///
/// ```compile_fail,E0502
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
/// let (mut one, mut other) = (Pool::new(SystemAllocator), Pool::new(SystemAllocator));
/// let word = one.create(String::from("red")).unwrap();
/// core::mem::swap(&mut one, &mut other);
/// println!("{word}");
/// ```
///
/// ```compile_fail,E0597
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
/// let word;
/// let pool = Pool::new(SystemAllocator);
/// word = pool.create(String::from("red")).unwrap();
/// ```
///
/// A reset through the trait, by code that knows nothing of pools:
///
/// ```compile_fail,E0502
/// use terrace_core::{Reset, ResetMode, SystemAllocator};
/// use terrace_heap::PoolAllocator;
/// fn empty(any: &mut dyn Reset) {
///     any.reset(ResetMode::RetainCapacity);
/// }
/// let len = core::num::NonZeroUsize::new(8).unwrap();
/// let mut pool = PoolAllocator::new(SystemAllocator, len, terrace_core::Alignment::of::<u64>());
/// let boxed = allocator_api2_02::boxed::Box::new_in(5u64, &pool);
/// empty(&mut pool);
/// println!("{boxed}");
/// ```
///
/// A value whose destructor would look at what has ended before it:
///
/// ```compile_fail,E0597
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
/// struct Says<'a>(&'a String);
/// impl Drop for Says<'_> {
///     fn drop(&mut self) {
///         println!("{}", self.0);
///     }
/// }
/// let pool = Pool::new(SystemAllocator);
/// let (says, name);
/// name = String::from("red");
/// says = pool.create(Says(&name)).unwrap();
/// ```
///
/// A short borrow, put through a handle into a value that promises a longer one:
///
/// ```compile_fail,E0597
/// use terrace_core::SystemAllocator;
/// use terrace_heap::{Pool, Pooled};
/// fn fill<'short, A: terrace_core::Allocator>(place: &mut Pooled<'_, &'short str, A>, word: &'short str) {
///     **place = word;
/// }
/// let pool: Pool<&'static str, _> = Pool::new(SystemAllocator);
/// let mut place: Pooled<'_, &'static str, _> = pool.create("red").unwrap();
/// {
///     let word = String::from("green");
///     fill(&mut place, &word);
/// }
/// println!("{place}");
/// ```
///
/// What a handle lends, kept for longer than the handle:
///
/// ```compile_fail,E0505
/// use terrace_core::SystemAllocator;
/// use terrace_heap::Pool;
/// let pool = Pool::new(SystemAllocator);
/// let word = pool.create(String::from("red")).unwrap();
/// let lent: &str = &word;
/// let owned = word.into_inner();
/// println!("{lent}{owned}");
/// ```
///
/// A pool in two threads at once, a handle in another thread than its pool, be it only lent, and a pool in another
/// thread than its backing:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::Pool<u8, terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<terrace_heap::Pooled<'static, u8, terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::Pooled<'static, u8, terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<terrace_heap::Pool<u8, std::rc::Rc<terrace_core::SystemAllocator>>>();
/// ```
///
/// Two owners of one value, or of one list:
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::Pooled<'static, u8, terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::PoolAllocator<terrace_core::SystemAllocator>>();
/// ```
///
/// A collection that owns its pool by value, which `reset` could empty:
///
/// ```compile_fail,E0277
/// use terrace_core::{Alignment, SystemAllocator};
/// let pool = terrace_heap::PoolAllocator::new(SystemAllocator, core::num::NonZeroUsize::MIN, Alignment::ONE);
/// let boxed = allocator_api2_02::boxed::Box::new_in(5u8, pool);
/// ```
mod pools {}

/// A stack swapped, emptied or dropped under a collection:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::StackAllocator;
/// let (mut one, mut other) = (StackAllocator::new(SystemAllocator), StackAllocator::new(SystemAllocator));
/// let mut bytes = Vec::new_in(&one);
/// core::mem::swap(&mut one, &mut other);
/// bytes.push(1u8);
/// ```
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::{Reset, ResetMode, SystemAllocator};
/// use terrace_heap::StackAllocator;
/// let mut stack = StackAllocator::new(SystemAllocator);
/// let mut bytes = Vec::new_in(&stack);
/// stack.reset(ResetMode::RetainCapacity);
/// bytes.push(1u8);
/// ```
///
/// ```compile_fail,E0505
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::StackAllocator;
/// let stack = StackAllocator::new(SystemAllocator);
/// let mut bytes = Vec::new_in(&stack);
/// stack.deinit();
/// bytes.push(1u8);
/// ```
///
/// A pinned value, whose place would be promised until its destructor has run, also if that never happens:
///
/// ```compile_fail,E0597
/// use terrace_core::SystemAllocator;
/// use terrace_heap::StackAllocator;
/// let stack = StackAllocator::new(SystemAllocator);
/// let pinned = allocator_api2_02::boxed::Box::pin_in(5u8, &stack);
/// ```
///
/// A stack in two threads at once, in another one than its backing, and twice:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::StackAllocator<terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<terrace_heap::StackAllocator<std::rc::Rc<terrace_core::SystemAllocator>>>();
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::StackAllocator<terrace_core::SystemAllocator>>();
/// ```
mod stacks {}

/// A shared arena that is emptied while another thread may use it:
///
/// ```compile_fail,E0502
/// use terrace_core::{AllocatorExt, ResetMode, SystemAllocator};
/// use terrace_heap::SyncArena;
/// let mut arena = SyncArena::new(SystemAllocator);
/// std::thread::scope(|threads| {
///     threads.spawn(|| arena.dupe(b"red").is_ok());
///     arena.reset(ResetMode::FreeAll);
/// });
/// ```
///
/// One whose `Arc` others have: there is no `&mut` to it.
///
/// ```compile_fail,E0596
/// use std::sync::Arc;
/// use terrace_core::{ResetMode, SystemAllocator};
/// use terrace_heap::SyncArena;
/// let mut arena = Arc::new(SyncArena::new(SystemAllocator));
/// arena.reset(ResetMode::FreeAll);
/// ```
///
/// Threads that share an arena over a backing that is for one thread:
///
/// ```compile_fail,E0277
/// use terrace_core::SystemAllocator;
/// use terrace_heap::{ArenaAllocator, SyncArena};
/// fn shared<T: Sync>() {}
/// shared::<SyncArena<ArenaAllocator<SystemAllocator>>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<terrace_heap::SyncArena<std::rc::Rc<terrace_core::SystemAllocator>>>();
/// ```
///
/// A value for one thread, in memory that all threads share:
///
/// ```compile_fail,E0277
/// use allocator_api2_02::boxed::Box;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::SyncArena;
/// let arena = SyncArena::new(SystemAllocator);
/// let counted = Box::new_in(std::rc::Rc::new(1), &arena);
/// std::thread::scope(|threads| {
///     threads.spawn(move || drop(counted));
/// });
/// ```
///
/// A shared buffer that is read, emptied or outlived while its blocks live; two allocators of the same bytes:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use core::mem::MaybeUninit;
/// use terrace_core::{Reset, ResetMode};
/// use terrace_heap::SyncFixedBuffer;
/// let mut bytes = [MaybeUninit::uninit(); 64];
/// let mut fixed = SyncFixedBuffer::new(&mut bytes);
/// let mut word = Vec::new_in(&fixed);
/// fixed.reset(ResetMode::FreeAll);
/// word.push(1u8);
/// ```
///
/// ```compile_fail,E0597
/// use core::mem::MaybeUninit;
/// use terrace_heap::SyncFixedBuffer;
/// let fixed = {
///     let mut bytes = [MaybeUninit::uninit(); 64];
///     SyncFixedBuffer::new(&mut bytes)
/// };
/// println!("{fixed:?}");
/// ```
///
/// ```compile_fail,E0499
/// use core::mem::MaybeUninit;
/// use terrace_heap::SyncFixedBuffer;
/// let mut bytes = [MaybeUninit::uninit(); 64];
/// let fixed = SyncFixedBuffer::new(&mut bytes);
/// let other = SyncFixedBuffer::new(&mut bytes);
/// println!("{fixed:?}{other:?}");
/// ```
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::SyncFixedBuffer<'static>>();
/// ```
mod threads {}

/// A buffer that goes before the allocator that serves from it first, and one that owns its bytes as what comes after:
///
/// ```compile_fail,E0597
/// use core::mem::MaybeUninit;
/// use terrace_core::SystemAllocator;
/// use terrace_heap::BufferFirstAllocator;
/// let first = {
///     let mut bytes = [MaybeUninit::uninit(); 64];
///     BufferFirstAllocator::new(&mut bytes, SystemAllocator)
/// };
/// println!("{first:?}");
/// ```
///
/// ```compile_fail,E0277
/// use allocator_api2_02::vec::Vec;
/// use terrace_heap::{BufferFirstAllocator, InlineBuffer};
/// let first = BufferFirstAllocator::new(&mut [], InlineBuffer::<64>::new());
/// let bytes = Vec::<u8, _>::new_in(&first);
/// ```
///
/// Both parts reset under a block, and the whole in two threads at once:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use core::mem::MaybeUninit;
/// use terrace_core::{Reset, ResetMode, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, BufferFirstAllocator};
/// let mut bytes = [MaybeUninit::uninit(); 64];
/// let mut first = BufferFirstAllocator::new(&mut bytes, ArenaAllocator::new(SystemAllocator));
/// let mut word = Vec::new_in(&first);
/// first.reset(ResetMode::FreeAll);
/// word.push(1u8);
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::BufferFirstAllocator<'static, terrace_core::SystemAllocator>>();
/// ```
///
/// One block of a backing that is emptied through another handle than the layer's own:
///
/// ```compile_fail,E0502
/// use terrace_core::{AllocatorExt, ResetMode, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, StackAllocator};
/// let mut arena = ArenaAllocator::new(SystemAllocator);
/// let stack = StackAllocator::new(&arena);
/// arena.reset(ResetMode::FreeAll);
/// stack.dupe(b"red").is_ok();
/// ```
///
/// ```compile_fail,E0596
/// use std::rc::Rc;
/// use terrace_core::{AllocatorExt, ResetMode, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, StackAllocator};
/// let mut arena = Rc::new(ArenaAllocator::new(SystemAllocator));
/// let stack = StackAllocator::new(Rc::clone(&arena));
/// arena.reset(ResetMode::FreeAll);
/// stack.dupe(b"red").is_ok();
/// ```
///
/// Counts of refusals, made two:
///
/// ```compile_fail,E0277
/// fn handle<T: Clone>() {}
/// handle::<terrace_heap::FailingAllocator<terrace_core::SystemAllocator>>();
/// ```
mod buffers_first {}

/// Layers whose blocks end together under a collection, and some in two threads at once:
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// let mut debug = terrace_heap::DebugAllocator::new(terrace_core::SystemAllocator);
/// let mut bytes = Vec::new_in(&debug);
/// debug.free_all();
/// bytes.push(1u8);
/// ```
///
/// ```compile_fail,E0502
/// use allocator_api2_02::vec::Vec;
/// use terrace_core::{Reset, ResetMode, SystemAllocator};
/// use terrace_heap::{ArenaAllocator, FallbackAllocator};
/// let arena = || ArenaAllocator::new(SystemAllocator);
/// let mut both = FallbackAllocator::new(arena(), arena());
/// let mut bytes = Vec::new_in(&both);
/// both.reset(ResetMode::FreeAll);
/// bytes.push(1u8);
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_heap::FreeListAllocator<terrace_core::SystemAllocator>>();
/// ```
///
/// ```compile_fail,E0277
/// use std::rc::Rc;
/// use terrace_heap::{LockAllocator, StdThreads};
/// fn shared<T: Sync>() {}
/// shared::<LockAllocator<Rc<terrace_core::SystemAllocator>, StdThreads>>();
/// ```
///
/// ```compile_fail,E0277
/// fn sent<T: Send, C: terrace_heap::Codec>(_: C) {}
/// fn handle<C: terrace_heap::Codec + Sync>(codec: C) {
///     type Arena = terrace_heap::ArenaAllocator<terrace_core::SystemAllocator>;
///     sent::<terrace_heap::Stored<'static, Arena, C>, C>(codec);
/// }
/// ```
mod routes_and_checks {}
