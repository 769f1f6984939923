//! From a stack expression to an allocator.
//!
//! ```text
//! page, system, mimalloc, arena(page), arena(system), fixed(N)   types of their own: calls are inlined
//! any other composition                                           Box<dyn Allocator>: marked "dyn" in the table
//! a counted stack                                                 Box<dyn Allocator> over a counting ground
//! ```

use std::alloc::System;

use terrace_core::{AllocStats, Allocator, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, StatsAllocator};
use terrace_sys::PageAllocator;

use super::{
    buffer::OwnedBuffer,
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
        Stack::Arena(backing) => !matches!(**backing, Stack::Page | Stack::System),
        Stack::Page | Stack::System | Stack::Mimalloc | Stack::Fixed(_) => false,
    }
}

/// Shows `visitor` the allocator that `stack` names, as fast as it can be called.
pub fn visit<V: Visitor>(stack: &Stack, visitor: V) -> V::Output {
    match stack {
        Stack::Page => visitor.shared(Ours(PageAllocator), None),
        Stack::System => visitor.shared(Foreign(System), None),
        #[cfg(feature = "mimalloc")]
        Stack::Mimalloc => visitor.shared(Foreign(mimalloc::MiMalloc), None),
        Stack::Fixed(bytes) => visitor.local(Ours(OwnedBuffer::new(*bytes)), None),
        Stack::Arena(backing) if **backing == Stack::Page => {
            visitor.local(Ours(ArenaAllocator::new(PageAllocator)), None)
        }
        Stack::Arena(backing) if **backing == Stack::System => {
            visitor.local(Ours(ArenaAllocator::new(SystemAllocator)), None)
        }
        _ => visitor.local(Virtual(Box::new(Ours(boxed(stack, None)))), None),
    }
}

/// As [`visit`], over a ground that counts, where it is not a foreign malloc's own business.
pub fn visit_counted<V: Visitor>(stack: &Stack, visitor: V) -> V::Output {
    match stack {
        Stack::System | Stack::Mimalloc => visit(stack, visitor),
        Stack::Page => {
            let counted: &'static StatsAllocator<PageAllocator> = leak(StatsAllocator::new(PageAllocator));
            visitor.shared(Ours(counted), Some(counted))
        }
        _ => {
            let mut ground: Ground = None;
            let target = Ours(boxed(stack, Some(&mut ground)));
            visitor.local(target, ground)
        }
    }
}

/// Who tells what a stack took from its ground, and still holds; nobody where that is not counted.
pub type Ground = Option<&'static dyn Stats>;

/// The buffer of `fixed(SIZE)`: one request, held as long as the stack lives.
struct Buffer(u64);

impl Stats for Buffer {
    fn stats(&self) -> AllocStats {
        AllocStats { total_allocations: 1, current_bytes: self.0, peak_bytes: self.0, ..AllocStats::default() }
    }
}

/// Any stack, layer by layer. With a `ground` to fill, the lowest layer counts.
///
/// What it leaks is one small object of counts; the process ends with the replay of this stack.
fn boxed(stack: &Stack, ground: Option<&mut Ground>) -> Box<dyn Allocator> {
    match stack {
        Stack::Page => over_ground(PageAllocator, ground),
        Stack::System => over_ground(SystemAllocator, ground),
        #[cfg(feature = "mimalloc")]
        Stack::Mimalloc => over_ground(terrace_core::GlobalBacking::new(&mimalloc::MiMalloc), ground),
        #[cfg(not(feature = "mimalloc"))]
        Stack::Mimalloc => unreachable!("the parser refuses a peer that is not built in"),
        Stack::Arena(backing) => Box::new(ArenaAllocator::new(boxed(backing, ground))),
        Stack::Fixed(bytes) => {
            if let Some(ground) = ground {
                *ground = Some(leak(Buffer(*bytes)));
            }
            Box::new(OwnedBuffer::new(*bytes))
        }
    }
}

fn over_ground<A: Allocator + 'static>(lowest: A, ground: Option<&mut Ground>) -> Box<dyn Allocator> {
    match ground {
        None => Box::new(lowest),
        Some(ground) => {
            let counted: &'static StatsAllocator<A> = leak(StatsAllocator::new(lowest));
            *ground = Some(counted);
            Box::new(counted)
        }
    }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Whether this process can reserve `stack`'s buffer.
pub fn can_hold(stack: &Stack) -> bool {
    match stack {
        Stack::Arena(backing) => can_hold(backing),
        Stack::Fixed(bytes) => {
            usize::try_from(*bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
        }
        Stack::Page | Stack::System | Stack::Mimalloc => true,
    }
}
