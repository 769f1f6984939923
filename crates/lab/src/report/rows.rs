//! From the answers of the replays to one row for each stack.
//!
//! `mean` is the median of the rounds' means less the null replay's, `spread` the middle half of them.
//! Quantiles are of the calls timed alone in all rounds together, less the null replay's median, which
//! holds the clock's cost as well as the replayer's.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

use super::{NsPerOp, OwnCost, Row, units::median};
use crate::replay::{
    campaign::{Campaign, Outcome, Own},
    child::{self, Timed},
    program::Program,
};

/// The rows in the order in which the stacks were named, and the replayer's own costs.
pub fn rows(campaign: &Campaign, program: &Program) -> (Vec<Row>, Vec<OwnCost>) {
    let row_of = |outcome: &Outcome| {
        let own = campaign.own.iter().find(|own| own.way == outcome.way);
        row(outcome, own, program)
    };
    (campaign.outcomes.iter().map(row_of).collect(), campaign.own.iter().map(own_cost).collect())
}

fn over(timed: &[Timed], figure: impl Fn(&Timed) -> f64) -> f64 {
    median(timed.iter().map(figure).collect())
}

/// The calls timed alone in all rounds.
fn alone(timed: &[Timed]) -> Histogram<u64> {
    let mut all = child::histogram();
    for (nanos, count) in timed.iter().flat_map(|timed| &timed.alone) {
        all.saturating_record_n(*nanos, *count);
    }
    all
}

fn own_cost(own: &Own) -> OwnCost {
    OwnCost {
        threads: own.way.threads,
        dynamic: own.way.dynamic,
        ns_per_op: over(&own.timed, |timed| timed.mean),
        ns_alone: alone(&own.timed).value_at_quantile(0.5) as f64,
        clock_ns: over(&own.timed, |timed| timed.clock),
    }
}

fn row(outcome: &Outcome, own: Option<&Own>, program: &Program) -> Row {
    let mut row = Row {
        stack: outcome.stack.to_string(),
        rounds: outcome.timed.len(),
        peak_live_bytes: program.peak_live_bytes,
        one_thread: program.lives.len() > 1 && !outcome.way.threads,
        dynamic: outcome.way.dynamic,
        ..Row::default()
    };
    match &outcome.weighed {
        Err(failure) => row.failure = Some(failure.clone()),
        Ok(weighed) => {
            let own_resident = own.map_or(0, |own| own.weighed.peak_resident);
            row.peak_resident_bytes = weighed.peak_resident.saturating_sub(own_resident);
            let served = program.requests() - weighed.errors.min(program.requests());
            row.backing_allocs = weighed.ground.map_or(served, |ground| ground.allocs);
            row.peak_backing_bytes = weighed.ground.map(|ground| ground.peak_bytes);
            let own_left = own.map_or(0, |own| own.weighed.left_resident);
            let left_resident = weighed.left_resident.saturating_sub(own_left);
            row.left_bytes = weighed.ground.map_or(left_resident, |ground| ground.left_bytes);
            row.corrupted = weighed.corrupted;
            let timed_errors = outcome.timed.iter().map(|timed| timed.errors).max().unwrap_or(0);
            row.errors = weighed.errors.max(timed_errors);
        }
    }
    if let Some(own) = own.filter(|_| !outcome.timed.is_empty()) {
        time(&mut row, &outcome.timed, &own_cost(own));
    }
    row
}

fn time(row: &mut Row, timed: &[Timed], own: &OwnCost) {
    let mut means: Vec<f64> = timed.iter().map(|timed| (timed.mean - own.ns_per_op).max(0.0)).collect();
    means.sort_by(f64::total_cmp);
    let outside = means.len() / 4;
    row.spread = Some([means[outside], means[means.len() - 1 - outside]]);
    let alone = alone(timed);
    let quantile = |quantile| (alone.value_at_quantile(quantile) as f64 - own.ns_alone).max(0.0);
    row.ns_per_op = Some(NsPerOp {
        mean: median(means),
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: quantile(1.0),
    });
}
