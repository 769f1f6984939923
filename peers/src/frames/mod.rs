//! The group `frames`: our hybrid frame allocator beside bitmap-allocator and buddy_system_allocator.
//!
//! ```text
//! frames.toml ─▶ cells ─▶ work, a round of each contestant in turn; the turn starts elsewhere every round ─▶ report
//! ```
//!
//! LLFree and NBBS are in no registry: their figures are shown as measured elsewhere.

mod cells;
mod contestants;
mod report;
mod work;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use self::{
    cells::{Cell, Plan},
    contestants::Contestant,
    report::{Figures, Row},
    work::Samples,
};

/// Runs the cells whose names contain one of `only`, and prints the rows as JSON.
pub fn run(quick: bool, only: &[String], rounds: Option<usize>) -> Result<()> {
    let mut plan = Plan::load(quick)?;
    plan.rounds = rounds.unwrap_or(plan.rounds).max(1);
    let cells = plan.cells(only);
    ensure!(!cells.is_empty(), "no cell's name contains that; a name is, for instance, \"order 9 bulk 2 threads\"");
    eprintln!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    let clock = work::clock();
    let mut rows: Vec<Row> = Vec::new();
    let mut contestants = Vec::new();
    for (index, cell) in cells.iter().enumerate() {
        // All is free again after each cell, so the allocators of an order serve all of its cells.
        if index == 0 || cells[index - 1].order != cell.order {
            contestants = contestants::all(cell.order, plan.memory >> 12)?;
        }
        let row = measure(cell, &plan, &contestants, clock)?;
        eprintln!("{:<32} {:8.2} ns, {:.3} of {}", row.cell, row.ours_ns, row.ratio, row.best_peer);
        rows.push(row);
    }
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}

/// A contestant in a cell.
struct Entry<'a> {
    contestant: &'a Contestant,
    passes: usize,
    /// In how many rounds it takes part.
    rounds: usize,
    samples: Samples,
}

fn measure(cell: &Cell, plan: &Plan, contestants: &[Contestant], clock: f64) -> Result<Row> {
    let ask = |contestant: &Contestant, passes: usize, seed: u64| {
        let round = work::Plan { work: cell.work, threads: cell.threads, live: cell.live, passes, seed };
        (contestant.run)(&round).with_context(|| format!("{} at {}", contestant.name, cell.name()))
    };
    let mut entries = Vec::new();
    for contestant in contestants {
        // Warms it up, and tells how long one pass takes.
        let nanos = ask(contestant, 1, 0)?.elapsed.as_nanos().max(1) as u64;
        let passes = (plan.nanos * cell.threads as u64 / nanos).clamp(1, 1000) as usize;
        let rounds = if nanos > plan.slow { plan.rounds.min(plan.slow_rounds) } else { plan.rounds };
        entries.push(Entry { contestant, passes, rounds, samples: Samples::default() });
    }
    let count = entries.len();
    for round in 0..plan.rounds {
        for turn in 0..count {
            let entry = &mut entries[(round + turn) % count];
            if round < entry.rounds {
                entry.samples.join(ask(entry.contestant, entry.passes, round as u64)?);
            }
        }
    }
    let mut figures = BTreeMap::new();
    for Entry { contestant, rounds, samples, .. } in entries {
        let told = Figures::of(cell.work, rounds, samples, clock).context("no round was timed")?;
        figures.insert(contestant.name, told);
    }
    Ok(Row::new(cell, figures, &plan.elsewhere))
}
