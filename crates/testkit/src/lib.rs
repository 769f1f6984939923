//! A judge for anybody's allocator.
//!
//! ```text
//!   your program ──▶ Monitor<A>                  watches while it runs, reports each breach as a value
//!   #[test]      ──▶ conformance::all(make)      the contract, clause by clause
//!                      │ programs(make)          random programs, every backing call refused in turn
//!                      ▼
//!                    Script: one line a step, shrunk, to be pasted back
//! ```
//!
//! The contract is that of [`Allocator`], by the numbers of its clauses. Your own
//! allocator is judged in three lines:
//!
//! ```
//! // In your crate this carries #[test].
//! fn my_allocator_keeps_the_contract() {
//!     terrace_testkit::conformance::all(|_start, check| check(&terrace_core::SystemAllocator));
//! }
//! # my_allocator_keeps_the_contract();
//! ```
//!
//! One that stands on a backing takes it from the [`Start`], which also has the numbers that are swept:
//!
//! ```
//! use terrace_heap::ArenaAllocator;
//! use terrace_testkit::conformance;
//!
//! conformance::all(|start, check| {
//!     let arena = ArenaAllocator::new(start.backing());
//!     arena.set_limit(start.limit());
//!     check(&arena);
//! });
//! ```
//!
//! Clause 5 (provenance) cannot be seen from outside: run your tests under Miri for that.
//!
//! | variable | default | |
//! |---|---|---|
//! | `TERRACE_PROGRAMS` | 64 | random programs for each test |
//! | `TERRACE_SEED` | 0 | where their random numbers start |
//! | `TERRACE_REFUSALS` | | `none`: no program is run again with calls of the backing refused |
//! | `TERRACE_TRACE` | | prints each step before it is taken, for allocators that crash |

mod adapters;
mod breach;
pub mod conformance;
mod contents;
mod failing;
mod ground;
pub mod monitor;
mod programs;
mod runner;
mod script;
mod shadow;
mod start;

pub use adapters::{Twins, Wandering};
pub use breach::{Block, Breach, Finding, Handler, Reports, Role};
pub use failing::{Failing, Refusal};
pub use ground::Ground;
pub use monitor::Monitor;
pub use programs::{Failure, Programs, Summary, programs, scripts};
pub use runner::replay;
pub use script::{NotAScript, Op, Script, Setup};
pub use start::{Backing, Buffer, Start};
use terrace_core::Allocator;

/// What a maker is handed: it calls this with the allocator that it made, once, and drops that before it returns.
///
/// So an allocator may borrow from what lies beside it:
///
/// ```
/// use terrace_heap::FixedBufferAllocator;
/// use terrace_testkit::{Programs, programs};
///
/// let summary = programs(&Programs::default(), |start, check| {
///     let mut buffer = start.buffer();
///     check(&FixedBufferAllocator::new(buffer.bytes()));
/// });
/// assert!(summary.unwrap().steps > 0);
/// ```
pub type Check<'c> = dyn FnMut(&dyn Allocator) + 'c;
