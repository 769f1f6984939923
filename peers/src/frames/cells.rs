//! The cells of `frames.toml`: an order, a number of threads, a kind of work.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Deserialize)]
pub struct Plan {
    pub rounds: usize,
    quick_rounds: usize,
    quick: usize,
    /// Bytes that each contestant manages.
    pub memory: usize,
    pub nanos: u64,
    pub slow: u64,
    pub slow_rounds: usize,
    threads: Vec<usize>,
    works: Vec<Work>,
    orders: Vec<OrderCells>,
    pub elsewhere: Vec<Elsewhere>,
}

#[derive(Deserialize)]
struct OrderCells {
    order: u32,
    live: usize,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    pub order: u32,
    pub threads: usize,
    pub work: Work,
    /// Runs that each thread holds at most: two at least.
    pub live: usize,
}

/// What is done.
#[derive(Deserialize, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Bulk,
    Pair,
    Random,
    Mixed,
}

/// What was measured on another machine, of what no registry has.
#[derive(Deserialize, Serialize, Clone, Debug)]
pub struct Elsewhere {
    pub name: String,
    pub order: u32,
    pub threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<f64>,
    /// Of a get plus a put.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
}

impl Plan {
    /// What the file says, shortened where asked.
    pub fn load(quick: bool) -> Result<Self> {
        let mut plan: Self = toml::from_str(include_str!("../../frames.toml")).context("peers/frames.toml")?;
        if quick {
            plan.rounds = plan.quick_rounds;
            plan.nanos /= plan.quick as u64;
            plan.orders.iter_mut().for_each(|cells| cells.live /= plan.quick);
        }
        Ok(plan)
    }

    /// The cells whose names contain one of `only`, all where it is empty.
    pub fn cells(&self, only: &[String]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &OrderCells { order, live } in &self.orders {
            for &work in &self.works {
                for &threads in &self.threads {
                    cells.push(Cell { order, threads, work, live: (live / threads).max(2) });
                }
            }
        }
        cells.retain(|cell| only.is_empty() || only.iter().any(|part| cell.name().contains(part.as_str())));
        cells
    }
}

impl Cell {
    /// `order 9 bulk 2 threads`
    pub fn name(&self) -> String {
        let Self { order, threads, work, .. } = self;
        let plural = if *threads == 1 { "" } else { "s" };
        format!("order {order} {} {threads} thread{plural}", work.word())
    }
}

impl Work {
    /// As in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Pair => "pair",
            Self::Random => "random",
            Self::Mixed => "mixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_cell_is_there_once() {
        let plan = Plan::load(false).expect("frames.toml");
        let cells = plan.cells(&[]);
        assert_eq!(cells.len(), 8 * 4 * 4);
        for order in [0, 3, 6, 8, 9, 10, 13, 18] {
            for threads in [1, 2, 4, 8] {
                for work in [Work::Bulk, Work::Pair, Work::Random, Work::Mixed] {
                    let same = |cell: &&Cell| (cell.order, cell.threads, cell.work) == (order, threads, work);
                    assert_eq!(cells.iter().filter(same).count(), 1, "{order} {threads} {work:?}");
                }
            }
        }
    }

    /// Who refuses would be timed for its refusals; half of the memory stays free.
    #[test]
    fn no_cell_needs_more_than_half_of_the_memory() {
        for quick in [false, true] {
            let plan = Plan::load(quick).expect("frames.toml");
            for cell in plan.cells(&[]) {
                let bytes = (cell.live * cell.threads) << cell.order << 12;
                assert!(cell.live >= 2 && bytes <= plan.memory / 2, "{}", cell.name());
            }
        }
    }

    #[test]
    fn cells_are_chosen_by_a_part_of_their_names() {
        let plan = Plan::load(true).expect("frames.toml");
        let chosen = plan.cells(&["order 9 bulk".into(), "order 18 mixed 8".into()]);
        let names: Vec<String> = chosen.iter().map(Cell::name).collect();
        assert_eq!(names.len(), 5);
        assert_eq!((&*names[0], &*names[4]), ("order 9 bulk 1 thread", "order 18 mixed 8 threads"));
    }
}
