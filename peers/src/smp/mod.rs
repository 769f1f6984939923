//! The group `smp`: general-purpose allocators beside one another, each preloaded as a C malloc.
//!
//! ```text
//! this program ──┬─ child, LD_PRELOAD=libterrace_malloc.so ─┐  the same program, the same work (smp.toml),
//!                ├─ child, LD_PRELOAD=libmimalloc-v3.so     ├─ a batch each in turn; the turn starts
//!                └─ child, nothing preloaded: glibc         ┘  elsewhere every round
//! ```

mod cells;
mod child;
mod children;
mod contestants;
mod counting;
mod figures;
mod recipes;
mod report;

use std::{fs, path::PathBuf, thread};

use anyhow::Result;

pub use self::children::WORD;
use self::{
    cells::{Cell, Cells, Kind},
    children::Worker,
    contestants::Contestant,
    figures::{ByName, quartiles},
    report::{Machine, Report, Row},
};

/// What may be asked of the group besides the cells and the rounds.
#[derive(clap::Args)]
pub struct Options {
    /// frames, smp: each cell shortened, for a look whether all works.
    #[arg(long)]
    pub quick: bool,
    /// smp: only these peers beside ours, by name, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    against: Vec<String>,
    /// smp: our library, instead of the one that `terrace-malloc` makes.
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
}

/// Does a child's part.
pub fn work(words: &[String]) {
    child::run(words);
}

/// Runs the cells whose names contain one of `only`, and prints the report as JSON.
pub fn run(options: &Options, only: &[String], rounds: Option<usize>) -> Result<()> {
    let chosen = Cells::load()?.chosen(only, options.quick, rounds);
    anyhow::ensure!(!chosen.is_empty(), "no cell's name contains that; peers/smp.toml has the names");
    let contestants = contestants::gather(&options.against, options.ours.as_deref())?;
    let mut machine = machine();
    eprintln!("load of the machine: {}", machine.load_before);
    let mut rows = Vec::new();
    for cell in &chosen {
        let row = measure(cell, &contestants);
        eprintln!("{}", told(&row));
        rows.push(row);
    }
    machine.load_after = load();
    let report = Report::new(machine, options.quick, contestants, rows);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn told(row: &Row) -> String {
    let figures: Vec<String> = row.figures.iter().map(|(name, figure)| format!("{name} {figure:.1}")).collect();
    let failed: Vec<String> = row.failed.iter().map(|(name, why)| format!("; {name} FAILED: {why}")).collect();
    format!("{:<28} {}{}", row.cell, figures.join(", "), failed.concat())
}

/// One cell over all who take part.
fn measure(cell: &Cell, contestants: &[Contestant]) -> Row {
    let mut row = Row::new(cell);
    let present: Vec<&Contestant> = contestants.iter().filter(|contestant| contestant.absent.is_none()).collect();
    let mut samples: ByName<Vec<f64>> = ByName::new();
    if cell.fresh {
        in_fresh_processes(cell, &present, &mut samples, &mut row);
    } else {
        in_turn(cell, &present, &mut samples, &mut row);
    }
    for (name, samples) in samples {
        // Who failed once has no figure: what it managed before says nothing.
        if let Some([low, median, high]) = quartiles(&samples).filter(|_| !row.failed.contains_key(name)) {
            row.figures.insert(name, median);
            row.quartiles.insert(name, [low, high]);
        }
    }
    row.compare();
    row
}

fn in_fresh_processes(cell: &Cell, present: &[&Contestant], samples: &mut ByName<Vec<f64>>, row: &mut Row) {
    for round in 0..cell.rounds {
        for turn in 0..present.len() {
            let contestant = present[(round + turn) % present.len()];
            let figure = match cell.kind {
                Kind::Instructions => counting::instructions(cell, contestant),
                _ => Worker::start(cell, contestant.library.as_deref()).and_then(|mut worker| Ok(worker.ask(b'b')?[0])),
            };
            match figure {
                Ok(figure) => samples.entry(contestant.name).or_default().push(figure),
                Err(why) => drop(row.failed.insert(contestant.name, format!("{why:#}"))),
            }
        }
    }
}

fn in_turn(cell: &Cell, present: &[&Contestant], samples: &mut ByName<Vec<f64>>, row: &mut Row) {
    let mut workers = Vec::new();
    for contestant in present {
        match Worker::start(cell, contestant.library.as_deref()) {
            Ok(worker) => workers.push((contestant.name, worker)),
            Err(why) => drop(row.failed.insert(contestant.name, format!("{why:#}"))),
        }
    }
    for round in 0..cell.rounds {
        for turn in 0..workers.len() {
            let at = (round + turn) % workers.len();
            let (name, worker) = &mut workers[at];
            match (!row.failed.contains_key(name)).then(|| worker.ask(b'b')) {
                Some(Ok([nanos, ..])) => samples.entry(name).or_default().push(nanos),
                Some(Err(why)) => drop(row.failed.insert(name, format!("{why:#}"))),
                None => {}
            }
        }
    }
    for (name, mut worker) in workers {
        if row.failed.contains_key(name) {
            continue;
        }
        if let Ok([bytes, ..]) = worker.ask(b'm') {
            row.resident_mib.insert(name, bytes / f64::from(1 << 20));
        }
        if cell.sampled()
            && let Ok(percentiles) = worker.ask(b's')
        {
            row.percentiles.insert(name, percentiles);
        }
    }
}

fn machine() -> Machine {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        processor: processor.map_or_else(|| "unknown".into(), |(_, name)| name.to_owned()),
        processors: thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        load_before: load(),
        load_after: String::new(),
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
