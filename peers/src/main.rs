//! Terrace's allocators beside other people's: the groups of `cargo lab bench`.
//!
//! ```console
//! $ cargo run --release -p terrace-peers -- arena --instructions > arena.json
//! ```
//!
//! Rows go to standard output as a JSON array, progress to standard error. What is measured stands in
//! `cells.toml`; how, in `harness.rs` and `child.rs`.

mod arena;
mod cells;
mod child;
mod counting;
mod fixed;
mod frames;
mod harness;
mod layers;
mod memops;
mod nodes;
mod page;
mod pool;
mod smp;

use std::env;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    cells::{Cell, Cells},
    harness::{Competitor, OURS, Row, best_peer},
};

/// Measures a group of Terrace's allocators beside their peers.
#[derive(Parser)]
struct Arguments {
    /// What to measure.
    group: Group,
    /// Count instructions too, by callgrind (valgrind must be installed; a minute or two).
    #[arg(long)]
    instructions: bool,
    /// Only cells whose name contains one of these, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<String>,
    /// Timed batches of each allocator, instead of the number in cells.toml.
    #[arg(long)]
    rounds: Option<usize>,
    /// A level to force in the group `memops`, as its Rust name, instead of the widest.
    #[arg(long)]
    level: Option<String>,
    #[command(flatten)]
    smp: smp::Options,
    /// Run one competitor of one cell, untimed: for counting from outside.
    #[arg(long, num_args = 2, value_names = ["CELL", "NAME"], hide = true)]
    alone: Option<Vec<String>>,
    /// How often `--alone` repeats.
    #[arg(long, default_value_t = 1, hide = true)]
    repetitions: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Group {
    /// The arena beside bumpalo, bump-scope and blink-alloc.
    Arena,
    /// The fixed buffer beside bump-into, static-alloc and stalloc.
    Fixed,
    /// The hybrid frame allocator beside bitmap-allocator and buddy_system_allocator.
    Frames,
    /// Each combinator beside its backing alone.
    Layers,
    /// Copy, fill and compare beside the C library's.
    Memops,
    /// Nodes and zones beside the hybrid frame allocator below them.
    Nodes,
    /// The page allocator beside bare system calls.
    Page,
    /// The pool beside slab, typed-arena and blink-alloc.
    Pool,
    /// The C malloc beside the C library's, mimalloc, snmalloc, jemalloc, rpmalloc and others.
    Smp,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Arena => "arena",
            Self::Fixed => "fixed",
            Self::Frames => "frames",
            Self::Layers => "layers",
            Self::Memops => "memops",
            Self::Nodes => "nodes",
            Self::Page => "page",
            Self::Pool => "pool",
            Self::Smp => "smp",
        }
    }

    fn cells(self, cells: &Cells) -> &[Cell] {
        match self {
            Self::Arena => &cells.arena,
            Self::Fixed => &cells.fixed,
            Self::Layers => &cells.layers,
            Self::Memops => &cells.memops,
            Self::Nodes => &cells.nodes,
            Self::Page => &cells.page,
            Self::Pool => &cells.pool,
            Self::Frames | Self::Smp => &[], // Their cells, and all else, are their own.
        }
    }

    fn competitors(self, cell: &Cell) -> Vec<Competitor> {
        match self {
            Self::Arena => arena::competitors(cell),
            Self::Fixed => fixed::competitors(cell),
            Self::Layers => layers::competitors(cell),
            Self::Memops => memops::competitors(cell),
            Self::Nodes => nodes::competitors(cell),
            Self::Page => page::competitors(cell),
            Self::Pool => pool::competitors(cell),
            Self::Frames | Self::Smp => Vec::new(),
        }
    }

    /// Requests to the backing, or system calls, of one repetition, where the group is about allocators.
    fn requests(self, cell: &Cell, competitor: &mut Competitor) -> Result<Option<f64>> {
        match self {
            Self::Frames | Self::Memops | Self::Nodes => Ok(None),
            Self::Arena | Self::Fixed | Self::Layers | Self::Pool | Self::Smp => {
                let before = counting::requests();
                (competitor.run)(10);
                Ok(Some((counting::requests() - before) as f64 / 10.0))
            }
            Self::Page => child::system_calls(self.name(), cell, competitor.name).map(Some),
        }
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == smp::WORD) {
        smp::work(&words[1..]);
        return Ok(());
    }
    let arguments = Arguments::parse();
    let group = arguments.group;
    match group {
        Group::Smp => return smp::run(&arguments.smp, &arguments.only, arguments.rounds),
        Group::Frames => {
            ensure!(!arguments.instructions, "frames counts no instructions; leave --instructions out");
            return frames::run(arguments.smp.quick, &arguments.only, arguments.rounds);
        }
        _ => {}
    }
    if let Some(level) = &arguments.level {
        memops::force(level)?;
    }
    let cells = Cells::load()?;
    if let Some([cell, name]) = arguments.alone.as_deref() {
        return run_alone(group, &cells, cell, name, arguments.repetitions);
    }
    eprintln!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    let mut rows = Vec::new();
    for cell in group.cells(&cells) {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| cell.name.contains(only)) {
            let row = measure(group, cell, arguments.rounds.unwrap_or(cells.rounds), arguments.instructions)?;
            eprintln!("{:<36} {:8.2} ns, {:.3} of {}", row.cell, row.ours_ns, row.ratio, row.best_peer);
            rows.push(row);
        }
    }
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}

fn measure(group: Group, cell: &Cell, rounds: usize, instructions: bool) -> Result<Row> {
    let mut competitors = group.competitors(cell);
    let timed = harness::time(cell, rounds.max(1), &mut competitors);
    let mut row = harness::row(group.name(), cell, &competitors, &timed);
    for competitor in &mut competitors {
        if let Some(requests) = group.requests(cell, competitor)? {
            row.requests.insert(competitor.name, requests);
        }
        if instructions {
            let counted = child::instructions(group.name(), cell, competitor.name)?
                .context("--instructions needs valgrind: install it, or leave the option out")?;
            row.instructions.insert(competitor.name, counted);
        }
    }
    if let Some(ours) = row.instructions.get(OURS) {
        row.instruction_ratio = Some(ours / best_peer(&row.instructions).1);
    }
    Ok(row)
}

fn run_alone(group: Group, cells: &Cells, cell: &str, name: &str, repetitions: usize) -> Result<()> {
    let cell = group.cells(cells).iter().find(|known| known.name == cell).context("no such cell")?;
    let mut competitors = group.competitors(cell);
    let competitor = competitors.iter_mut().find(|known| known.name == name).context("no such competitor")?;
    (competitor.run)(repetitions);
    Ok(())
}
