//! What the group says: a row for each cell, a mean against each peer, the goals.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{
    cells::{Cell, Kind, Unit},
    contestants::Contestant,
    figures::{ByName, against_each, best_peer},
};
use crate::harness::OURS;

/// All of it, as `cargo lab bench smp --json` writes it.
#[derive(Serialize)]
pub struct Report {
    pub group: &'static str,
    pub machine: Machine,
    /// Shortened by `--quick`: no figures to believe.
    pub quick: bool,
    pub contestants: Vec<Contestant>,
    pub rows: Vec<Row>,
    /// Ours to each peer over the cells that count nanoseconds, below 1 is better.
    pub means: ByName<Mean>,
    /// Cells of nanoseconds in which ours is above 1.1 of the best peer.
    pub above: Vec<String>,
    pub goals: Vec<Goal>,
}

/// Where and when.
#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub kernel: String,
    /// The three loads before and after.
    pub load_before: String,
    pub load_after: String,
}

/// One cell.
#[derive(Serialize)]
pub struct Row {
    pub group: &'static str,
    pub cell: String,
    pub unit: Unit,
    pub rounds: usize,
    /// Medians by contestant; who is missing failed, see `failed`.
    pub figures: ByName<f64>,
    pub quartiles: ByName<[f64; 2]>,
    /// MiB resident after the last batch, without files and without the work's own tables.
    #[serde(skip_serializing_if = "ByName::is_empty")]
    pub resident_mib: ByName<f64>,
    /// Nanoseconds of single calls picked at random, at 50, 99, 99.9 and 100 of a hundred; the clock's own included.
    #[serde(skip_serializing_if = "ByName::is_empty")]
    pub percentiles: ByName<[f64; 4]>,
    pub best_peer: Option<&'static str>,
    /// Ours to the best peer's.
    pub ratio: Option<f64>,
    #[serde(skip_serializing_if = "ByName::is_empty")]
    pub failed: ByName<String>,
    #[serde(skip)]
    pub kind: Option<Kind>,
    #[serde(skip)]
    pub threads: usize,
}

/// A geometric mean of ratios.
#[derive(Serialize)]
pub struct Mean {
    pub ratio: f64,
    pub cells: usize,
}

/// A promise, and whether it is kept; `None` where nothing was measured that could say so.
#[derive(Serialize, Debug, PartialEq)]
pub struct Goal {
    pub goal: &'static str,
    pub met: Option<bool>,
    pub says: String,
}

impl Row {
    pub fn new(cell: &Cell) -> Self {
        Self {
            group: "smp",
            cell: cell.name.clone(),
            unit: cell.unit(),
            rounds: cell.rounds,
            figures: ByName::new(),
            quartiles: ByName::new(),
            resident_mib: ByName::new(),
            percentiles: ByName::new(),
            best_peer: None,
            ratio: None,
            failed: ByName::new(),
            kind: Some(cell.kind),
            threads: cell.threads,
        }
    }

    /// Once all figures are there.
    pub fn compare(&mut self) {
        let best = best_peer(&self.figures, OURS);
        self.best_peer = best.map(|(name, _)| name);
        // No ratio to nothing: of what a peer left, that may be.
        let best = best.filter(|(_, figure)| *figure > 0.0);
        self.ratio = best.and_then(|(_, figure)| Some(self.figures.get(OURS)? / figure));
    }

    fn ours(&self) -> Option<f64> {
        self.figures.get(OURS).copied()
    }
}

impl Report {
    pub fn new(machine: Machine, quick: bool, contestants: Vec<Contestant>, rows: Vec<Row>) -> Self {
        let timed: Vec<&Row> = rows.iter().filter(|row| row.unit == Unit::Nanoseconds).collect();
        let figures: Vec<&ByName<f64>> = timed.iter().map(|row| &row.figures).collect();
        let means = against_each(&figures, OURS);
        let means = means.into_iter().map(|(peer, (ratio, cells))| (peer, Mean { ratio, cells })).collect();
        let over = |row: &&&Row| row.ratio.is_some_and(|ratio| ratio > MOST_IN_A_CELL);
        let above: Vec<String> = timed.iter().filter(over).map(|row| row.cell.clone()).collect();
        let goals = goals(&rows, &means, &above);
        Self { group: "smp", machine, quick, contestants, rows, means, above, goals }
    }
}

const MOST_IN_A_CELL: f64 = 1.1;
const MOST_ON_AVERAGE: f64 = 0.9;
const MOST_LEFT: f64 = 4.0;
const MOST_INSTRUCTIONS: f64 = 40.0;
const MOST_CROWDED: f64 = 1.5;

fn goals(rows: &[Row], means: &ByName<Mean>, above: &[String]) -> Vec<Goal> {
    let worst = means.iter().max_by(|a, b| a.1.ratio.total_cmp(&b.1.ratio));
    let compared = rows.iter().filter(|row| row.unit == Unit::Nanoseconds && row.ratio.is_some()).count();
    let fragments: Vec<&Row> = rows.iter().filter(|row| row.unit == Unit::ResidentOverLive).collect();
    vec![
        Goal {
            goal: "geometric mean at most 0.9 of every single peer",
            met: worst.map(|(_, mean)| mean.ratio <= MOST_ON_AVERAGE),
            says: worst.map_or_else(String::new, |(peer, mean)| format!("{:.3} of {peer}", mean.ratio)),
        },
        Goal {
            goal: "no cell above 1.1 of its best peer",
            met: (compared > 0).then_some(above.is_empty()),
            says: format!("{} of {compared} cells are above", above.len()),
        },
        Goal {
            goal: "resident/live after fragmentation at most the best peer's",
            met: all(fragments.iter().map(|row| Some(row.ratio? <= 1.0))),
            says: listed(fragments.iter().filter_map(|row| Some(format!("{:.3} of {}", row.ratio?, row.best_peer?)))),
        },
        most(rows, Kind::LeftTrim, 1, "at most 4 MiB left after trim", MOST_LEFT),
        most(rows, Kind::LeftIdle, 1, "at most 4 MiB left after 1 s idle", MOST_LEFT),
        most(rows, Kind::Instructions, 1, "at most 40 instructions a pair", MOST_INSTRUCTIONS),
        crowded(rows),
    ]
}

fn most(rows: &[Row], kind: Kind, threads: usize, goal: &'static str, most: f64) -> Goal {
    let ours = find(rows, kind, threads);
    Goal { goal, met: ours.map(|ours| ours <= most), says: ours.map_or_else(String::new, |ours| format!("{ours:.1}")) }
}

fn crowded(rows: &[Row]) -> Goal {
    let (two, eight) = (find(rows, Kind::Replace, 2), find(rows, Kind::Replace, 8));
    let ratio = two.and_then(|two| Some(eight? / two));
    Goal {
        goal: "8 threads within 1.5 of 2 threads an operation",
        met: ratio.map(|ratio| ratio <= MOST_CROWDED),
        says: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
    }
}

fn find(rows: &[Row], kind: Kind, threads: usize) -> Option<f64> {
    rows.iter().find(|row| row.kind == Some(kind) && row.threads == threads)?.ours()
}

/// Whether all hold; `None` of none, and where one could not be told.
fn all(each: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    each.reduce(|so_far, next| Some(so_far? & next?)).flatten()
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smp::cells::Cells;

    /// Every cell with the same figures, ours and two peers'.
    fn rows(figures: &[(&'static str, f64)]) -> Vec<Row> {
        let cells = Cells::load().expect("smp.toml").chosen(&[], false, None);
        let row = |cell: &Cell| {
            let mut row = Row::new(cell);
            row.figures.extend(figures.iter().copied());
            row.compare();
            row
        };
        cells.iter().map(row).collect()
    }

    fn report(rows: Vec<Row>) -> Report {
        let machine = Machine {
            processor: String::new(),
            processors: 2,
            kernel: String::new(),
            load_before: String::new(),
            load_after: String::new(),
        };
        Report::new(machine, false, Vec::new(), rows)
    }

    fn met(report: &Report) -> Vec<Option<bool>> {
        report.goals.iter().map(|goal| goal.met).collect()
    }

    #[test]
    fn who_is_ahead_everywhere_meets_every_goal() {
        let report = report(rows(&[(OURS, 1.0), ("a", 2.0), ("b", 4.0)]));
        assert_eq!(met(&report), [Some(true); 7]);
        assert!((report.means["a"].ratio - 0.5).abs() < 1e-9 && report.means["a"].cells == 20);
        assert!((report.means["b"].ratio - 0.25).abs() < 1e-9);
        assert!(report.above.is_empty());
    }

    #[test]
    fn who_is_behind_misses_and_the_cells_are_named() {
        let report = report(rows(&[(OURS, 50.0), ("a", 40.0), ("b", 100.0)]));
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(met(&report), [no, no, no, no, no, no, yes]);
        assert_eq!(report.above.len(), 20);
        assert_eq!(report.rows[0].best_peer, Some("a"));
    }

    #[test]
    fn without_ours_nothing_is_said_to_be_met() {
        let report = report(rows(&[("a", 2.0), ("b", 4.0)]));
        assert_eq!(met(&report), [None; 7]);
        assert!(report.means.is_empty() && report.above.is_empty());
        assert!(report.rows.iter().all(|row| row.best_peer == Some("a") && row.ratio.is_none()));
    }

    #[test]
    fn one_cell_over_the_line_is_enough() {
        let mut rows = rows(&[(OURS, 1.0), ("a", 2.0)]);
        rows[3].figures.insert(OURS, 2.21);
        rows[3].compare();
        let last = rows.iter_mut().rfind(|row| row.unit == Unit::ResidentOverLive).expect("a cell about memory");
        last.figures.insert(OURS, 2.01);
        last.compare();
        let report = report(rows);
        assert_eq!(report.above, ["pair 32 KiB"]);
        assert_eq!(met(&report)[..3], [Some(true), Some(false), Some(false)]);
    }
}
