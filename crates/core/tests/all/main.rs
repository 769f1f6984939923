//! Core's tests, in one binary that links once.
//!
//! `strict.rs`, `fixed.rs` and `probe.rs` are allocators for tests only: one that holds its callers to the
//! contract, one that decides as Zig's fixed buffer does, one that remembers who called. `versions.rs` has the
//! versions of the collections' trait in one form.
#![cfg_attr(terrace_nightly, feature(allocator_api))]

mod fixed;
mod probe;
mod strict;
mod versions;

mod backing;
mod bridge;
mod capability;
mod collections;
mod global;
mod location;
mod typed;
mod types;
