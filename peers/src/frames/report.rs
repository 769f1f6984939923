//! The arithmetic of the group: from what the clock said to a row.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    cells::{Cell, Elsewhere, Work},
    work::{Samples, Side},
};
use crate::harness::{OURS, best_peer};

/// One row, as `cargo lab bench frames --json` writes it: what every group's rows have, and more.
#[derive(Serialize)]
pub struct Row {
    pub group: &'static str,
    pub cell: String,
    pub order: u32,
    pub threads: usize,
    pub work: Work,
    /// Median nanoseconds of a get plus a put.
    pub ours_ns: f64,
    pub peers: BTreeMap<&'static str, f64>,
    pub best_peer: &'static str,
    pub ratio: f64,
    /// Of each, ours under `terrace`: what stands behind the median.
    pub figures: BTreeMap<&'static str, Figures>,
    /// Of what no registry has, on other machines: compared with nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
}

/// Nanoseconds, the clock's own taken off.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Of a get plus a put, as the mean and the 99th percentile.
    pub median: f64,
    pub mean: f64,
    pub p99: f64,
    /// Medians of each alone, where they were timed alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<f64>,
    pub rounds: usize,
    /// Refusals in a race, after which it was asked again.
    pub refused: u64,
}

/// Less than this no clock tells from nothing.
const LEAST: f64 = 0.1;

impl Figures {
    /// Of all rounds; `None` of none.
    pub fn of(work: Work, rounds: usize, samples: Samples, clock: f64) -> Option<Self> {
        let [median, mean, p99] = told(samples.first, clock)?;
        let refused = samples.refused;
        Some(match work {
            Work::Bulk | Work::Random => {
                let [put, put_mean, put_p99] = told(samples.second, clock)?;
                let (get, put) = (Some(median), Some(put));
                let (median, mean, p99) = (median + put.unwrap_or(0.0), mean + put_mean, p99 + put_p99);
                Self { median, mean, p99, get, put, rounds, refused }
            }
            Work::Pair => Self { median, mean, p99, get: None, put: None, rounds, refused },
            // An operation is one of both.
            Work::Mixed => {
                Self { median: 2.0 * median, mean: 2.0 * mean, p99: 2.0 * p99, get: None, put: None, rounds, refused }
            }
        })
    }
}

/// Median and mean of an operation by the batches, and the 99th percentile of those timed alone.
fn told(mut side: Side, clock: f64) -> Option<[f64; 3]> {
    let operations = side.batch as f64;
    let mean = side.batches.iter().map(|&nanos| f64::from(nanos)).sum::<f64>() / side.batches.len() as f64;
    let median = percentile(&mut side.batches, 50)?;
    let p99 = percentile(&mut side.alone, 99)?;
    Some([(median - clock) / operations, (mean - clock) / operations, p99 - clock].map(|nanos| nanos.max(LEAST)))
}

fn percentile(samples: &mut [u32], percent: usize) -> Option<f64> {
    let at = samples.len().checked_sub(1)? * percent / 100;
    Some(f64::from(*samples.select_nth_unstable(at).1))
}

impl Row {
    /// Of figures that have ours among them.
    pub fn new(cell: &Cell, figures: BTreeMap<&'static str, Figures>, elsewhere: &[Elsewhere]) -> Self {
        let mut medians: BTreeMap<_, _> = figures.iter().map(|(name, figures)| (*name, figures.median)).collect();
        let (best_peer, best) = best_peer(&medians);
        let ours_ns = medians.remove(OURS).unwrap_or(f64::NAN);
        let same =
            |other: &&Elsewhere| cell.work == Work::Bulk && (other.order, other.threads) == (cell.order, cell.threads);
        Self {
            group: "frames",
            cell: cell.name(),
            order: cell.order,
            threads: cell.threads,
            work: cell.work,
            ours_ns,
            peers: medians,
            best_peer,
            ratio: ours_ns / best,
            figures,
            elsewhere: elsewhere.iter().filter(same).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::cells::Plan;

    fn samples(first: &[u32], second: &[u32]) -> Samples {
        let side = |nanos: &[u32]| Side { batches: nanos.to_vec(), batch: 10, alone: nanos.to_vec() };
        Samples { first: side(first), second: side(second), ..Samples::default() }
    }

    #[test]
    fn a_verdict_is_get_plus_put_without_the_clock() {
        let figures = |work| Figures::of(work, 3, samples(&[120, 320, 1020], &[220, 220, 220]), 20.0).expect("samples");
        let bulk = figures(Work::Bulk);
        assert_eq!((bulk.get, bulk.put, bulk.median), (Some(30.0), Some(20.0), 50.0));
        assert!((bulk.mean - (46.666 + 20.0)).abs() < 0.01, "{bulk:?}");
        assert_eq!(bulk.p99, 300.0 + 200.0, "the second of three, for the third is beyond 99 of a hundred");
        assert_eq!((figures(Work::Pair).median, figures(Work::Pair).get), (30.0, None));
        assert_eq!(figures(Work::Mixed).median, 60.0, "a get or a put each");
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert_eq!(Figures::of(Work::Bulk, 0, samples(&[], &[]), 20.0), None);
        assert_eq!(Figures::of(Work::Bulk, 1, samples(&[200], &[]), 20.0), None);
    }

    #[test]
    fn a_row_compares_with_the_best_peer_and_only_shows_what_was_measured_elsewhere() {
        let plan = Plan::load(false).expect("frames.toml");
        let figures = |median| Figures { median, mean: 1.0, p99: 1.0, get: None, put: None, rounds: 1, refused: 0 };
        let all = || BTreeMap::from([(OURS, figures(5.0)), ("a", figures(20.0)), ("b", figures(10.0))]);
        let row = |work, order, threads| {
            let cell = Cell { order, threads, work, live: 2 };
            Row::new(&cell, all(), &plan.elsewhere)
        };
        let first = row(Work::Bulk, 0, 1);
        assert_eq!((first.best_peer, first.ratio, first.peers.len()), ("b", 0.5, 2));
        assert_eq!(first.elsewhere.len(), 3);
        assert!(row(Work::Bulk, 3, 1).elsewhere.is_empty() && row(Work::Pair, 0, 1).elsewhere.is_empty());
    }
}
