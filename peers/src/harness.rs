//! Times competitors against one another: interleaved batches, medians, quartiles.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use crate::cells::Cell;

/// One allocator at one cell: runs so many repetitions.
pub struct Competitor {
    /// `terrace`, or the peer's name.
    pub name: &'static str,
    /// The work, monomorphised inside, so that each call in it is as direct as a user's.
    pub run: Box<dyn FnMut(usize)>,
}

/// What ours is called among the competitors.
pub const OURS: &str = "terrace";

/// One row, as `cargo lab bench` prints it.
#[derive(Serialize)]
pub struct Row {
    pub group: &'static str,
    pub cell: String,
    pub ours_ns: f64,
    pub peers: BTreeMap<&'static str, f64>,
    pub best_peer: &'static str,
    pub ratio: f64,
    /// Lower and upper quartile of each, ours under `terrace`.
    pub quartiles_ns: BTreeMap<&'static str, [f64; 2]>,
    /// Requests to the backing (arena, fixed, pool) or system calls (page) per repetition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<&'static str, f64>,
    /// User instructions per operation, counted by callgrind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instructions: BTreeMap<&'static str, f64>,
    /// Ours over the best peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction_ratio: Option<f64>,
}

/// Nanoseconds per operation of each competitor: quartiles of `rounds` interleaved batches.
pub fn time(cell: &Cell, rounds: usize, competitors: &mut [Competitor]) -> Vec<[f64; 3]> {
    let mut samples = vec![Vec::with_capacity(rounds); competitors.len()];
    for competitor in competitors.iter_mut() {
        (competitor.run)(cell.repetitions); // Warm: chunks, caches, branch predictors.
    }
    for round in 0..rounds {
        for turn in 0..competitors.len() {
            let at = (round + turn) % competitors.len();
            let start = Instant::now();
            (competitors[at].run)(cell.repetitions);
            let nanos = start.elapsed().as_nanos() as f64;
            samples[at].push(nanos / (cell.repetitions * cell.count) as f64);
        }
    }
    samples.iter_mut().map(|samples| quartiles(samples)).collect()
}

fn quartiles(samples: &mut [f64]) -> [f64; 3] {
    samples.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| samples[(samples.len() - 1) * quarter / 4])
}

/// The best of those that are not ours.
pub fn best_peer(figures: &BTreeMap<&'static str, f64>) -> (&'static str, f64) {
    let peers = figures.iter().filter(|&(&name, _)| name != OURS);
    peers.min_by(|a, b| a.1.total_cmp(b.1)).map_or(("none", f64::NAN), |(&name, &figure)| (name, figure))
}

/// A row from medians and quartiles.
pub fn row(group: &'static str, cell: &Cell, competitors: &[Competitor], timed: &[[f64; 3]]) -> Row {
    let mut medians: BTreeMap<_, _> =
        competitors.iter().zip(timed).map(|(competitor, figures)| (competitor.name, figures[1])).collect();
    let quartiles_ns = competitors
        .iter()
        .zip(timed)
        .map(|(competitor, figures)| (competitor.name, [figures[0], figures[2]]))
        .collect();
    let (best_peer, best) = best_peer(&medians);
    let ours_ns = medians.remove(OURS).unwrap_or(f64::NAN);
    Row {
        group,
        cell: cell.name.clone(),
        ours_ns,
        peers: medians,
        best_peer,
        ratio: ours_ns / best,
        quartiles_ns,
        requests: BTreeMap::new(),
        instructions: BTreeMap::new(),
        instruction_ratio: None,
    }
}
