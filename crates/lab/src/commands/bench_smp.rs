//! What `lab bench smp` says of the peers' report: two tables, the means, the goals.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Context;
use serde::Deserialize;

use crate::report::{table, units};

const OURS: &str = "terrace";

/// The part of the report that the text needs; the JSON goes on whole.
#[derive(Deserialize)]
struct Report {
    machine: Machine,
    quick: bool,
    contestants: Vec<Contestant>,
    rows: Vec<Row>,
    means: BTreeMap<String, Mean>,
    above: Vec<String>,
    goals: Vec<Goal>,
}

#[derive(Deserialize)]
struct Machine {
    processor: String,
    processors: usize,
    load_before: String,
    load_after: String,
}

#[derive(Deserialize)]
struct Contestant {
    name: String,
    absent: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    cell: String,
    unit: String,
    figures: BTreeMap<String, f64>,
    #[serde(default)]
    resident_mib: BTreeMap<String, f64>,
    best_peer: Option<String>,
    ratio: Option<f64>,
    #[serde(default)]
    failed: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Mean {
    ratio: f64,
    cells: usize,
}

#[derive(Deserialize)]
struct Goal {
    goal: String,
    met: Option<bool>,
    says: String,
}

/// The report for people.
///
/// # Errors
/// Where it has another shape than this lab knows.
pub fn text(report: &serde_json::Value) -> anyhow::Result<String> {
    let report = Report::deserialize(report)
        .context("the benchmark's report cannot be read; build the lab and the peers from the same checkout")?;
    let mut text = String::new();
    let rows: Vec<Vec<String>> = report.rows.iter().map(|row| row.against_the_best()).collect();
    text += &table::words(&["cell", "best peer", "its", "ours", "ratio", "its MiB", "our MiB"], &rows);
    text += "\nEach beside the best peer of its row:\n";
    text += &report.everybody();
    for (peer, mean) in &report.means {
        writeln!(text, "geometric mean to {peer}: {:.3} over {} cells of time", mean.ratio, mean.cells)?;
    }
    if !report.above.is_empty() {
        text += &lines(&format!("above 1.1 of the best: {}", report.above.join(", ")));
    }
    for goal in &report.goals {
        let word = goal.met.map_or("unknown", |met| if met { "met" } else { "MISSED" });
        let says = if goal.says.is_empty() { String::new() } else { format!(": {}", goal.says) };
        text += &lines(&format!("{word:<8} {}{says}", goal.goal));
    }
    text += &report.remarks();
    Ok(text)
}

fn lines(remark: &str) -> String {
    table::wrap(remark, table::WIDTH as usize) + "\n"
}

impl Row {
    fn against_the_best(&self) -> Vec<String> {
        let best = self.best_peer.as_deref().unwrap_or("–");
        let figure = |name: &str| self.figures.get(name).map_or("–".into(), |figure| self.figure(*figure));
        let resident = |name: &str| self.resident_mib.get(name).map_or("–".into(), |mib| format!("{mib:.1}"));
        let ratio = self.ratio.map_or("–".into(), |ratio| format!("{ratio:.3}"));
        vec![self.cell.clone(), best.into(), figure(best), figure(OURS), ratio, resident(best), resident(OURS)]
    }

    fn figure(&self, figure: f64) -> String {
        match self.unit.as_str() {
            "ns" => units::nanos(figure),
            "MiB" => format!("{figure:.1} MiB"),
            "resident/live" => format!("{figure:.2}"),
            _ => format!("{figure:.1}"),
        }
    }
}

impl Report {
    /// A narrow column for each who takes part: the figure over the best peer's.
    fn everybody(&self) -> String {
        let present: Vec<&str> =
            self.contestants.iter().filter(|one| one.absent.is_none()).map(|one| one.name.as_str()).collect();
        let mut text = format!("{:<28}", "");
        present.iter().for_each(|name| text += &format!(" {:>4}", short(name)));
        text.push('\n');
        for row in &self.rows {
            text += &format!("{:<28}", row.cell);
            let best = row.best_peer.as_ref().and_then(|best| row.figures.get(best));
            for name in &present {
                let ratio = row.figures.get(*name).zip(best).map(|(figure, best)| figure / best);
                text += &format!(" {:>4}", ratio.map_or("–".into(), narrow));
            }
            text.push('\n');
        }
        let legend: Vec<String> = present.iter().map(|name| format!("{} {name}", short(name))).collect();
        text + &lines(&format!("{}.", legend.join(", ")))
    }

    fn remarks(&self) -> String {
        let mut text = String::new();
        for one in &self.contestants {
            if let Some(why) = &one.absent {
                text += &lines(&format!("{} is absent: {why}", one.name));
            }
        }
        for row in &self.rows {
            for (name, why) in &row.failed {
                text += &lines(&format!("{name} failed at {}: {why}", row.cell));
            }
        }
        let machine = &self.machine;
        text += &lines(&format!(
            "{}, {} processors; load {} before, {} after.",
            machine.processor, machine.processors, machine.load_before, machine.load_after
        ));
        if self.quick {
            text += "Shortened by --quick: shows that all works, no figures to believe.\n";
        }
        text
    }
}

/// A head of at most four letters.
fn short(name: &str) -> &str {
    match name {
        OURS => "ours",
        "glibc" => "glib",
        "mimalloc2" => "mi2",
        "mimalloc3" => "mi3",
        "snmalloc" => "sn",
        "jemalloc" => "je",
        "rpmalloc" => "rp",
        "tcmalloc" => "tc",
        "gperftools" => "gper",
        other => other,
    }
}

/// A ratio in four letters.
fn narrow(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 9.995 => format!("{ratio:.2}"),
        ratio if ratio < 99.95 => format!("{ratio:.1}"),
        ratio if ratio < 999.5 => format!("{ratio:.0}"),
        _ => ">999".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> serde_json::Value {
        json!({
            "group": "smp",
            "machine": {"processor": "P", "processors": 2, "kernel": "6", "load_before": "1 1 1", "load_after": "2 1 1"},
            "quick": true,
            "contestants": [{"name": "terrace", "source": ""}, {"name": "glibc", "source": ""},
                {"name": "zig", "source": "", "absent": "no Zig here: pip install ziglang"}],
            "rows": [{"group": "smp", "cell": "pair 64 B", "unit": "ns", "rounds": 3, "figures": {"terrace": 5.0, "glibc": 10.0},
                "quartiles": {}, "resident_mib": {"terrace": 0.5, "glibc": 0.25}, "best_peer": "glibc", "ratio": 0.5}],
            "means": {"glibc": {"ratio": 0.5, "cells": 1}},
            "above": [],
            "goals": [{"goal": "at most 40 instructions a pair", "met": null, "says": ""},
                {"goal": "no cell above 1.1 of its best peer", "met": true, "says": "0 of 1 cells are above"}]
        })
    }

    #[test]
    fn the_text_names_figures_goals_and_who_is_absent() {
        let text = text(&report()).expect("a report");
        for part in [
            "geometric mean to glibc: 0.500 over 1 cells",
            "met      no cell above 1.1 of its best peer: 0 of 1",
            "unknown  at most 40 instructions a pair\n",
            "zig is absent: no Zig here: pip install ziglang",
            "ours glib\n",
            "0.50 1.00\n",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= table::WIDTH.into()));
    }

    #[test]
    fn a_report_of_the_peers_alone_can_be_read() {
        let mut alone = report();
        alone["rows"][0]["figures"] = json!({"glibc": 10.0});
        alone["rows"][0]["ratio"] = json!(null);
        alone["means"] = json!({});
        let text = text(&alone).expect("a report");
        assert!(text.contains('–') && !text.contains("geometric mean to"));
    }

    #[test]
    fn a_ratio_takes_four_letters() {
        assert_eq!([0.5, 9.99, 9.996, 99.96, 5e6].map(narrow), ["0.50", "9.99", "10.0", "100", ">999"]);
    }
}
