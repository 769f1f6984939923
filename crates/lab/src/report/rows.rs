//! From the answers of the replays to one row for each stack.
//!
//! Each round of a stack is set against the null replay's median: `mean - null.mean`, and for calls
//! timed alone `quantile - null.p50`, which holds the clock's cost as well as the replayer's. A row
//! has the median of its rounds; `max` is the largest of all rounds.
#![forbid(unsafe_code)]

use super::{NsPerOp, OwnCost, Row, units::median};
use crate::replay::{
    campaign::{Campaign, Outcome, Own},
    child::Timed,
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

fn own_cost(own: &Own) -> OwnCost {
    OwnCost {
        threads: own.way.threads,
        dynamic: own.way.dynamic,
        ns_per_op: over(&own.timed, |timed| timed.mean),
        ns_alone: over(&own.timed, |timed| timed.p50 as f64),
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
            row.backing_allocs = weighed.ground.map(|ground| ground.allocs);
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
    let mean_of = |timed: &Timed| (timed.mean - own.ns_per_op).max(0.0);
    let alone = |nanos: f64| (nanos - own.ns_alone).max(0.0);
    row.ns_per_op = Some(NsPerOp {
        mean: over(timed, mean_of),
        p50: alone(over(timed, |timed| timed.p50 as f64)),
        p99: alone(over(timed, |timed| timed.p99 as f64)),
        p999: alone(over(timed, |timed| timed.p999 as f64)),
        max: alone(timed.iter().map(|timed| timed.max as f64).fold(0.0, f64::max)),
    });
    let means = || timed.iter().map(mean_of);
    row.spread = Some([means().fold(f64::INFINITY, f64::min), means().fold(0.0, f64::max)]);
}
