//! Tests of files that the models in `tests/loom_*.rs` compile with smaller blocks, where these would not hold.

mod index;
mod plan;
mod word;
mod zones;
