//! The replay: what a trace asked for, asked again of any stack of allocators, and measured.
//!
//! ```text
//! trace ─▶ program (what to call, all looked up beforehand)
//!            └▶ image ─▶ child process: dispatch ─▶ target ◀─ execute · threads
//!                          ├ timed:   the clock, and nothing else
//!                          └ weighed: memory, counts, contents
//!          campaign: many children, interleaved ─▶ rows of crate::report
//! ```

pub mod campaign;
pub mod child;
mod combined;
mod dispatch;
mod execute;
mod image;
mod memory;
mod null;
mod order;
mod os;
pub mod program;
mod region;
mod target;
mod threads;
pub mod touch;

/// The hidden word by which the lab starts itself for one replay.
pub const CHILD_WORD: &str = "replay-child";
