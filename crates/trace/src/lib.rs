//! A compact binary format for recorded allocations.

mod event;

pub use event::{AllocKind, BlockId, Event, FreeKind, Nothing, Op, ThreadId};
