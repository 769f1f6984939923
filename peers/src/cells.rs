//! The cells: what is measured, read from `cells.toml`, which is older than the code that runs it.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::memops;

/// All groups.
#[derive(Deserialize)]
pub struct Cells {
    /// Timed batches of each allocator in each cell.
    pub rounds: usize,
    /// The group `arena`.
    pub arena: Vec<Cell>,
    /// The group `fixed`.
    pub fixed: Vec<Cell>,
    /// The group `layers`.
    pub layers: Vec<Cell>,
    /// The group `memops`, from its own file.
    #[serde(skip)]
    pub memops: Vec<Cell>,
    /// The group `nodes`.
    pub nodes: Vec<Cell>,
    /// The group `page`.
    pub page: Vec<Cell>,
    /// The group `pool`.
    pub pool: Vec<Cell>,
}

/// One row of the table.
#[derive(Deserialize, Clone)]
pub struct Cell {
    /// Its name in the table.
    pub name: String,
    /// Which work is done.
    pub kind: String,
    /// Bytes, where the work has one size; in the group `nodes` the order of the runs.
    #[serde(default)]
    pub size: usize,
    /// For the pseudo-random lengths.
    #[serde(default)]
    pub seed: u64,
    /// Operations of one repetition.
    pub count: usize,
    /// Repetitions of one timed batch.
    pub repetitions: usize,
}

impl Cells {
    /// As the file says.
    pub fn load() -> Result<Self> {
        let cells: Self = toml::from_str(include_str!("../cells.toml")).context("peers/cells.toml")?;
        Ok(Self { memops: memops::cells()?, ..cells })
    }
}

/// Marsaglia's xorshift: the same numbers for every allocator.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number in `0..below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}
