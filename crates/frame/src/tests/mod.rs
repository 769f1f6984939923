//! Tests of files that the models in `tests/loom_*.rs` compile with smaller blocks, where these would not hold, and
//! tests that would make their file too long.

mod areas;
mod costs;
mod drawn;
mod index;
mod picture;
mod plan;
mod word;
