//! What the lab tells: rows of figures, the table, the sentence.
//!
//! ```text
//! Campaign ──rows──▶ Report { trace, stacks, verdict } ─┬─ table   80 columns
//!                                                       └─ JSON    --json
//! ```
#![forbid(unsafe_code)]

pub mod rows;
pub mod table;
pub mod units;
pub mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;

/// One comparison, as it is written to JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    pub trace: Info,
    pub stacks: Vec<Row>,
    pub verdict: String,
    /// What the replayer itself cost, by the way that stacks were replayed.
    pub replayer: Vec<OwnCost>,
}

/// Figures of a trace.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Info {
    pub events: u64,
    pub allocs: u64,
    pub frees: u64,
    pub reallocs: u64,
    pub threads: u64,
    pub peak_live_bytes: u64,
    pub peak_live_blocks: u64,
    pub total_bytes: u64,
    pub leaked_blocks: u64,
    /// Figures beyond those that every trace has.
    #[serde(flatten)]
    pub more: BTreeMap<&'static str, serde_json::Value>,
}

/// Nanoseconds of a call, the replayer's and the clock's own taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NsPerOp {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One stack's figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub stack: String,
    /// None where the stack could not be timed.
    pub ns_per_op: Option<NsPerOp>,
    /// Between which means the middle half of the rounds lie.
    pub spread: Option<[f64; 2]>,
    pub rounds: usize,
    pub peak_live_bytes: u64,
    pub peak_resident_bytes: u64,
    /// Requests to the ground. A foreign malloc is its own ground: what reached it.
    pub backing_allocs: u64,
    /// Most bytes held of the ground at once.
    pub peak_backing_bytes: Option<u64>,
    /// Bytes still held when every block had been freed; of a foreign malloc, those still resident.
    pub left_bytes: u64,
    /// Requests refused.
    pub errors: u64,
    /// Blocks that lost their contents: the stack is broken.
    pub corrupted: u64,
    /// Replayed on one thread although the trace has more.
    pub one_thread: bool,
    /// Called through a virtual call, whose cost was taken off.
    pub dynamic: bool,
    /// Why it could not be replayed at all.
    pub failure: Option<String>,
}

impl Row {
    /// Whether it served the whole trace.
    pub fn serves(&self) -> bool {
        self.failure.is_none() && self.errors == 0 && self.corrupted == 0 && self.ns_per_op.is_some()
    }
}

/// What the replayer itself costs, measured over the null allocator.
#[derive(Clone, Debug, Serialize)]
pub struct OwnCost {
    pub threads: bool,
    pub dynamic: bool,
    pub ns_per_op: f64,
    /// Of a call timed alone, the clock included.
    pub ns_alone: f64,
    pub clock_ns: f64,
}
