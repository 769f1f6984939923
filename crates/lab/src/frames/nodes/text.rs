//! What `lab frames --topology` prints: a table of pairs, and a picture of each node.
#![forbid(unsafe_code)]

use std::fmt::Write;

use serde::Serialize;

use super::{NodeOutcome, Options, Outcome, Pair};
use crate::{
    report::{
        table::{self, WIDTH},
        units,
    },
    stack::frames::FRAME,
};

/// The figures for scripts.
#[derive(Serialize)]
pub struct Report<'a> {
    pub seed: u64,
    pub threads: usize,
    pub fill_percent: u8,
    pub operations: usize,
    pub policies: &'a [Outcome],
}

/// All policies, one after another.
pub fn text(options: &Options, outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let all = units::bytes(options.topology.frames() as u64 * FRAME);
        let (nodes, fill, threads) = (outcome.nodes.len(), options.fill_percent, options.threads);
        let head = format!("{}: {threads} threads on {nodes} nodes want {fill} % of {all}", outcome.policy);
        let _ = writeln!(text, "{}\n", table::wrap(&head, WIDTH.into()));
        let header = ["from", "to", "distance", "local", "remote", "fallback", "held"];
        text += &table::words(&header, &outcome.pairs.iter().map(words).collect::<Vec<_>>());
        let _ = writeln!(text, "\n{}\n", table::wrap(&sentence(outcome), WIDTH.into()));
        outcome.nodes.iter().for_each(|node| text += &self::node(node));
        if let Some(with_memory) = outcome.nodes.iter().find(|node| !node.legend.is_empty()) {
            let _ = writeln!(text, "{}\n", with_memory.legend);
        }
    }
    text + &table::wrap(NOTE, WIDTH.into()) + "\n"
}

const NOTE: &str = "local: of the thread's own node, to which the policy led first. remote: of another, to which it led first. fallback: the node before had \
                    no room. held: what is out at the end, when the pictures are drawn. smaller: the part of free memory that is in pieces of less than 2 MiB.";

fn words(pair: &Pair) -> Vec<String> {
    let mut words = vec![format!("node {}", pair.from), format!("node {}", pair.to), pair.distance.to_string()];
    words.extend([pair.local, pair.remote, pair.fallback].map(units::count));
    words.push(units::bytes(pair.held_bytes));
    words
}

fn sentence(outcome: &Outcome) -> String {
    let distance =
        outcome.mean_distance.map_or_else(|| "nothing is held".into(), |mean| format!("mean distance {mean:.1}"));
    format!(
        "{} gets, {:.1} % on the thread's own node, {} refused; {distance}.",
        units::count(outcome.gets),
        outcome.own_percent,
        units::count(outcome.refused)
    )
}

fn node(node: &NodeOutcome) -> String {
    let threads = if node.threads == 1 { "1 thread".into() } else { format!("{} threads", node.threads) };
    let cpus = if node.cpus == 0 { "no CPU".into() } else { format!("{} CPUs, {threads}", node.cpus) };
    let Some(unusable) = node.unusable_thousandths else {
        return format!("node {}: {cpus}; no memory\n", node.node);
    };
    let (free, all) = (units::bytes(node.free_bytes), units::bytes(node.bytes));
    let mut line = format!("node {}: {cpus}; {free} of {all} free", node.node);
    if node.free_bytes > 0 {
        let large = units::count(node.free_large as u64);
        let _ = write!(line, ", {large} × 2 MiB, {:.1} % smaller", f64::from(unusable) / 10.0);
    }
    line = table::wrap(&line, WIDTH.into());
    // With the two characters a line would be too long by one.
    let marks = node.picture.iter().map(|marks| marks.strip_prefix("0x").unwrap_or(marks));
    marks.fold(line + "\n", |text, marks| text + marks + "\n")
}
