//! From a stack expression to an allocator.
//!
//! ```text
//! page, system, mimalloc, fixed(N), smp(page), debug(smp(page)), sync_arena(page),
//! stack(page), arena(page), arena(system)                          types of their own: calls are inlined
//! any other composition                                            Box<dyn Allocator>: marked "dyn" in the table
//! a counted stack                                                  Box<dyn Allocator> over a counting ground
//! ```
//!
//! What is leaked here is a buffer or a small object of counts: the process ends with the replay of its one stack.

use std::{alloc::System, mem::MaybeUninit, num::NonZeroUsize};

use terrace_core::{Alignment, AllocStats, Allocator, Stats, SystemAllocator};
use terrace_heap::{
    ArenaAllocator, BufferFirstAllocator, DebugAllocator, DebugConfig, FixedBufferAllocator, PoolAllocator,
    SmpAllocator, StackAllocator, StatsAllocator, SyncArena, debug::PrintAndAbort,
};
use terrace_sys::{PageAllocator, ThreadSlots};

use super::{
    combined, region,
    target::{Foreign, Ours, Target, Virtual},
};
use crate::stack::Stack;

/// Does something with a target whose type only this file knows.
pub trait Visitor {
    type Output;

    /// The stack may be called by many threads.
    fn shared<T: Target + Sync>(self, target: T, ground: Ground) -> Self::Output;

    /// The stack may be called by one thread.
    fn local<T: Target>(self, target: T, ground: Ground) -> Self::Output;
}

/// Whether [`visit`] reaches `stack` through a virtual call.
pub fn is_dynamic(stack: &Stack) -> bool {
    match stack {
        Stack::Page | Stack::System | Stack::Mimalloc | Stack::Fixed(_) => false,
        Stack::Plugin(_) => true,
        Stack::Arena(backing) => !matches!(**backing, Stack::Page | Stack::System),
        Stack::Debug(backing) => !is_smp_page(backing),
        Stack::Smp(backing) | Stack::SyncArena(backing) | Stack::Lifo(backing) => **backing != Stack::Page,
        Stack::BufferFirst(..) | Stack::Pool(..) | Stack::Region(..) | Stack::Combined(_) => true,
    }
}

/// Shows `visitor` the allocator that `stack` names, as fast as it can be called.
pub fn visit<V: Visitor>(stack: &Stack, visitor: V) -> V::Output {
    match stack {
        Stack::Page => visitor.shared(Ours(PageAllocator), None),
        Stack::System => visitor.shared(Foreign(System), None),
        #[cfg(feature = "mimalloc")]
        Stack::Mimalloc => visitor.shared(Foreign(mimalloc::MiMalloc), None),
        Stack::Fixed(bytes) => visitor.local(Ours(FixedBufferAllocator::new(buffer(*bytes))), None),
        Stack::Smp(backing) if **backing == Stack::Page => {
            visitor.shared(Ours(SmpAllocator::with_decommit(PageAllocator, ThreadSlots)), None)
        }
        Stack::Debug(backing) if is_smp_page(backing) => {
            visitor.shared(Ours(debug(SmpAllocator::with_decommit(PageAllocator, ThreadSlots))), None)
        }
        Stack::SyncArena(backing) if **backing == Stack::Page => {
            visitor.shared(Ours(SyncArena::new(PageAllocator)), None)
        }
        Stack::Lifo(backing) if **backing == Stack::Page => {
            visitor.local(Ours(StackAllocator::new(PageAllocator)), None)
        }
        Stack::Arena(backing) if **backing == Stack::Page => {
            visitor.local(Ours(ArenaAllocator::new(PageAllocator)), None)
        }
        Stack::Arena(backing) if **backing == Stack::System => {
            visitor.local(Ours(ArenaAllocator::new(SystemAllocator)), None)
        }
        _ => match boxed_shared(stack, None) {
            Some(shared) => visitor.shared(Virtual(Box::new(Ours(shared))), None),
            None => visitor.local(Virtual(Box::new(Ours(boxed(stack, None)))), None),
        },
    }
}

/// As [`visit`], over a ground that counts, where it is not a foreign malloc's own business.
pub fn visit_counted<V: Visitor>(stack: &Stack, visitor: V) -> V::Output {
    if matches!(stack, Stack::System | Stack::Mimalloc) {
        return visit(stack, visitor);
    }
    let mut ground: Ground = None;
    match boxed_shared(stack, Some(&mut ground)) {
        Some(shared) => visitor.shared(Ours(shared), ground),
        None => {
            let local = boxed(stack, Some(&mut ground));
            visitor.local(Ours(local), ground)
        }
    }
}

/// Who tells what a stack took from its ground, and still holds; nobody where that is not counted.
///
/// The buffer of `buffer_first` is not the ground's: what is counted is what did not fit into it.
pub type Ground = Option<&'static dyn Stats>;

/// The buffer of `fixed(SIZE)`: one request, held as long as the stack lives.
struct Buffer(u64);

impl Stats for Buffer {
    fn stats(&self) -> AllocStats {
        AllocStats { total_allocations: 1, current_bytes: self.0, peak_bytes: self.0, ..AllocStats::default() }
    }
}

/// For one thread at a time.
pub(super) type Local = Box<dyn Allocator + Send>;
/// For many at once.
pub(super) type Shared = Box<dyn Allocator + Send + Sync>;

/// Any stack that threads may share, layer by layer; `None` for the others. With a `ground` to fill, the lowest layer
/// counts.
pub(super) fn boxed_shared(stack: &Stack, ground: Option<&mut Ground>) -> Option<Shared> {
    Some(match stack {
        Stack::Page => over_ground(PageAllocator, ground),
        Stack::System => over_ground(SystemAllocator, ground),
        #[cfg(feature = "mimalloc")]
        Stack::Mimalloc => over_ground(terrace_core::GlobalBacking::new(&mimalloc::MiMalloc), ground),
        #[cfg(not(feature = "mimalloc"))]
        Stack::Mimalloc => unreachable!("the parser refuses a peer that is not built in"),
        Stack::Plugin(name) => over_ground(plugin(name), ground),
        Stack::Smp(backing) => match (&**backing, ground) {
            (Stack::Page, None) => Box::new(SmpAllocator::with_decommit(PageAllocator, ThreadSlots)),
            (Stack::Page, Some(ground)) => {
                Box::new(SmpAllocator::with_decommit(counted(PageAllocator, ground), ThreadSlots))
            }
            (backing, ground) => Box::new(SmpAllocator::new(boxed_shared(backing, ground)?, ThreadSlots)),
        },
        Stack::Debug(backing) => Box::new(debug(boxed_shared(backing, ground)?)),
        Stack::SyncArena(backing) => Box::new(SyncArena::new(boxed_shared(backing, ground)?)),
        Stack::Arena(_) | Stack::Lifo(_) | Stack::Fixed(_) | Stack::BufferFirst(..) | Stack::Pool(..) => return None,
        Stack::Region(bytes, frames) => region::region(*bytes, *frames, ground),
        Stack::Combined(combined) if combined.is_shared() => return combined::shared(combined, ground),
        Stack::Combined(_) => return None,
    })
}

/// Any stack.
pub(super) fn boxed(stack: &Stack, mut ground: Option<&mut Ground>) -> Local {
    if stack.is_shared()
        && let Some(shared) = boxed_shared(stack, ground.as_deref_mut())
    {
        return shared;
    }
    match stack {
        Stack::Smp(backing) => Box::new(SmpAllocator::new(boxed(backing, ground), ThreadSlots)),
        Stack::Debug(backing) => Box::new(debug(boxed(backing, ground))),
        Stack::SyncArena(backing) => Box::new(SyncArena::new(boxed(backing, ground))),
        Stack::Arena(backing) => Box::new(ArenaAllocator::new(boxed(backing, ground))),
        Stack::Lifo(backing) => Box::new(StackAllocator::new(boxed(backing, ground))),
        Stack::Fixed(bytes) => {
            buffer_ground(*bytes, ground);
            Box::new(FixedBufferAllocator::new(buffer(*bytes)))
        }
        Stack::BufferFirst(bytes, backing) => {
            Box::new(BufferFirstAllocator::new(buffer(*bytes), boxed(backing, ground)))
        }
        Stack::Pool(bytes, backing) => Box::new(pool(*bytes, boxed(backing, ground))),
        Stack::Combined(combined) => combined::local(combined, ground),
        Stack::Page | Stack::System | Stack::Mimalloc | Stack::Plugin(_) | Stack::Region(..) => {
            unreachable!("threads may share it")
        }
    }
}

fn is_smp_page(stack: &Stack) -> bool {
    matches!(stack, Stack::Smp(backing) if **backing == Stack::Page)
}

/// Aborts at a mistake, with its report. What a trace leaves live at its end is no leak of the replayer's.
pub(super) fn debug<A: Allocator>(backing: A) -> DebugAllocator<A> {
    let config = DebugConfig { enable_leak_detection: false, ..DebugConfig::new() };
    DebugAllocator::with_handler(backing, config, PrintAndAbort)
}

/// Items of so many bytes.
pub(super) fn pool<A: Allocator>(bytes: u64, backing: A) -> PoolAllocator<A> {
    let len = NonZeroUsize::new(bytes as usize).unwrap_or(NonZeroUsize::MIN);
    PoolAllocator::new(backing, len, item_alignment(bytes))
}

/// Counts the buffer of `fixed(SIZE)`.
pub(super) fn buffer_ground(bytes: u64, ground: Option<&mut Ground>) {
    if let Some(ground) = ground {
        *ground = Some(leak(Buffer(bytes)));
    }
}

/// The allocator that the program has registered under a name.
fn plugin(name: &str) -> &'static (dyn Allocator + Sync) {
    terrace::manager::registered(name).expect("the parser knows registered names only, and none is ever taken back")
}

/// As strict as the items' size keeps for free, at least malloc's and at most a page's.
fn item_alignment(bytes: u64) -> Alignment {
    let log2 = bytes.trailing_zeros().clamp(4, 12);
    Alignment::new(1 << log2).unwrap_or(Alignment::ONE)
}

/// A buffer of so many bytes, not yet touched; whether they can be had was tried before.
pub(super) fn buffer(bytes: u64) -> &'static mut [MaybeUninit<u8>] {
    Box::leak(Box::new_uninit_slice(bytes as usize))
}

fn over_ground<A: Allocator + Send + Sync + 'static>(lowest: A, ground: Option<&mut Ground>) -> Shared {
    match ground {
        None => Box::new(lowest),
        Some(ground) => Box::new(counted(lowest, ground)),
    }
}

pub(super) fn counted<A: Allocator + 'static>(lowest: A, ground: &mut Ground) -> &'static StatsAllocator<A> {
    let counted: &'static StatsAllocator<A> = leak(StatsAllocator::new(lowest));
    *ground = Some(counted);
    counted
}

pub(super) fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// What the alignment of a region may take; its metadata are a 512th part at most.
const REGION_SPARE: u64 = 16 << 20;

/// Whether this process can reserve `stack`'s buffers, and count its items' bytes.
pub fn can_hold(stack: &Stack) -> bool {
    let has_room =
        |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok());
    match stack {
        Stack::Page | Stack::System | Stack::Mimalloc | Stack::Plugin(_) => true,
        Stack::Smp(backing)
        | Stack::Debug(backing)
        | Stack::Arena(backing)
        | Stack::SyncArena(backing)
        | Stack::Lifo(backing) => can_hold(backing),
        Stack::Fixed(bytes) => has_room(*bytes),
        Stack::Region(bytes, _) => has_room(bytes.saturating_add(bytes / 256 + REGION_SPARE)),
        Stack::BufferFirst(bytes, backing) | Stack::Pool(bytes, backing) => has_room(*bytes) && can_hold(backing),
        Stack::Combined(combined) => combined.parts().into_iter().all(can_hold),
    }
}
