//! The sentence: which stack is best for this trace, by time and by memory, and why.
//!
//! ```text
//! score = time × memory, both relative: a stack twice as fast may keep twice the memory
//! time    mean of a call, at least NS_FLOOR      memory   peak resident, at least MEMORY_FLOOR
//! ```
//!
//! Honest before brief: means whose rounds overlap are not told apart; a stack that refused a request
//! or lost contents is not ranked but named; a better figure of another stack is named as the price.
#![forbid(unsafe_code)]

use super::{Row, units};

/// Below these two stacks are alike: the clock and the page size do not tell them apart.
const NS_FLOOR: f64 = 1.0;
const MEMORY_FLOOR: f64 = 65_536.0;
/// Memory that differs by less is called the same.
const SAME: f64 = 1.05;

fn nanos(row: &Row) -> f64 {
    row.ns_per_op.map_or(f64::INFINITY, |ns| ns.mean).max(NS_FLOOR)
}

fn memory(row: &Row) -> f64 {
    (row.peak_resident_bytes as f64).max(MEMORY_FLOOR)
}

fn score(row: &Row) -> f64 {
    nanos(row) * memory(row)
}

/// The best first; those that did not serve the trace last.
pub fn rank(rows: &mut [Row]) {
    rows.sort_by(|a, b| b.serves().cmp(&a.serves()).then(score(a).total_cmp(&score(b))));
}

/// The first of the ranking, where it served the trace.
pub fn best(rows: &[Row]) -> Option<&Row> {
    rows.iter().filter(|row| row.serves()).min_by(|a, b| score(a).total_cmp(&score(b)))
}

/// Whether the means of the two lie within the spread of their rounds.
fn alike(a: &Row, b: &Row) -> bool {
    match (a.spread, b.spread) {
        (Some([a_low, a_high]), Some([b_low, b_high])) => {
            (a_low <= b_high && b_low <= a_high) || nanos(a).max(nanos(b)) <= NS_FLOOR
        }
        _ => false,
    }
}

/// One sentence on `rows`, in whatever order they are.
pub fn verdict(rows: &[Row]) -> String {
    let mut ranked = rows.to_vec();
    rank(&mut ranked);
    let able: Vec<&Row> = ranked.iter().filter(|row| row.serves()).collect();
    let unable: Vec<&Row> = ranked.iter().filter(|row| !row.serves()).collect();
    let mut sentence = match able.as_slice() {
        [] => "no stack could serve this trace".to_string(),
        [only] => alone(only),
        [best, rest @ ..] => compare(best, rest),
    };
    if !unable.is_empty() {
        let names: Vec<String> = unable.iter().map(|row| format!("{} ({})", row.stack, why(row))).collect();
        sentence += &format!("; not able to serve it: {}", names.join(", "));
    }
    sentence + "."
}

fn alone(only: &Row) -> String {
    let (time, memory) = (units::nanos(nanos(only)), units::bytes(only.peak_resident_bytes));
    format!("{} serves this trace at {time} a call and keeps {memory} at its peak", only.stack)
}

fn why(row: &Row) -> String {
    match row {
        Row { failure: Some(failure), .. } => failure.lines().next().unwrap_or_default().to_string(),
        Row { corrupted: 1.., .. } => format!("{} blocks lost their contents", units::count(row.corrupted)),
        Row { errors: 1, .. } => "1 request refused".into(),
        _ => format!("{} requests refused", units::count(row.errors)),
    }
}

/// The best against the system's malloc, or where that is the best or not there, against the next.
fn compare(best: &Row, rest: &[&Row]) -> String {
    let peer = rest.iter().find(|row| row.stack == "system").unwrap_or(&rest[0]);
    let peer_name = if peer.stack == "system" { "the system's malloc" } else { &peer.stack };
    let time = time_against(best, peer);
    let keeps = memory_against(best, peer);
    let price = price(best, peer, rest);
    // Tell a gain and a loss apart by one word.
    let slower = nanos(best) > nanos(peer) && !alike(best, peer);
    let fatter = memory(best) > memory(peer) * SAME;
    let joint = if slower != fatter { "but" } else { "and" };
    let alone = match (best.one_thread, peer.one_thread) {
        (true, false) => format!("; {} ran on one thread only, without contention", best.stack),
        (false, true) => format!("; {} ran on one thread only, without contention", peer.stack),
        _ => String::new(),
    };
    format!("{} is best on this trace: {time} {peer_name} {joint} {keeps}{price}{alone}", best.stack)
}

fn time_against(best: &Row, peer: &Row) -> String {
    let ratio = nanos(peer) / nanos(best);
    if alike(best, peer) {
        "as fast (within the spread) as".into()
    } else if ratio >= 1.0 {
        format!("{} as fast as", units::times(ratio))
    } else {
        format!("it takes {} as long as", units::times(1.0 / ratio))
    }
}

fn memory_against(best: &Row, peer: &Row) -> String {
    let ratio = memory(best) / memory(peer);
    if ratio > 1.95 {
        format!("keeps {} the memory", units::times(ratio))
    } else if ratio > SAME {
        format!("keeps {:.0} % more memory", (ratio - 1.0) * 100.0)
    } else if ratio < 1.0 / SAME {
        format!("keeps {:.0} % less memory", (1.0 - ratio) * 100.0)
    } else {
        "keeps as much memory".into()
    }
}

/// What another stack does better, besides `peer`, which was spoken of.
fn price(best: &Row, peer: &Row, rest: &[&Row]) -> String {
    let others = || rest.iter().filter(|row| row.stack != peer.stack);
    let faster = others().filter(|row| nanos(row) < nanos(best) && !alike(row, best));
    let leaner = others().filter(|row| memory(row) * SAME < memory(best) && memory(row) * SAME < memory(peer));
    let fastest = faster.min_by(|a, b| nanos(a).total_cmp(&nanos(b)));
    let leanest = leaner.min_by(|a, b| memory(a).total_cmp(&memory(b)));
    let mut price = String::new();
    if let Some(row) = fastest {
        price +=
            &format!("; {} is faster ({} a call) for {}", row.stack, units::nanos(nanos(row)), of_memory(row, best));
    }
    if let Some(row) = leanest {
        let ratio = units::times(nanos(row) / nanos(best));
        price +=
            &format!("; {} keeps least ({}) at {ratio} the time", row.stack, units::bytes(row.peak_resident_bytes));
    }
    price
}

fn of_memory(row: &Row, best: &Row) -> String {
    format!("{} the memory", units::times(memory(row) / memory(best)))
}

#[cfg(test)]
mod tests {
    use super::super::NsPerOp;
    use super::*;

    fn row(stack: &str, mean: f64, mebibytes: u64) -> Row {
        Row {
            stack: stack.into(),
            ns_per_op: Some(NsPerOp { mean, ..NsPerOp::default() }),
            spread: Some([mean * 0.97, mean * 1.03]),
            peak_resident_bytes: mebibytes << 20,
            ..Row::default()
        }
    }

    #[test]
    fn the_best_is_set_against_the_system() {
        let rows = [row("system", 42.0, 10), row("page", 1200.0, 60), row("arena(page)", 10.0, 30)];
        let wanted =
            "arena(page) is best on this trace: 4.2× as fast as the system's malloc but keeps 3.0× the memory.";
        assert_eq!(verdict(&rows), wanted);
    }

    #[test]
    fn means_within_the_spread_are_not_told_apart() {
        let rows = [row("system", 40.0, 20), row("mimalloc", 40.5, 10)];
        let wanted = "mimalloc is best on this trace: as fast (within the spread) as the system's malloc and keeps 50 % less memory.";
        assert_eq!(verdict(&rows), wanted);
    }

    #[test]
    fn a_stack_that_refused_is_named_and_not_ranked() {
        let mut fixed = row("fixed(1MiB)", 1.0, 1);
        fixed.errors = 12;
        let mut rows = [fixed, row("page", 900.0, 8), row("system", 30.0, 8)];
        let said = verdict(&rows);
        assert!(
            said.starts_with("system is best on this trace: 30× as fast as page and keeps as much memory"),
            "{said}"
        );
        assert!(said.ends_with("; not able to serve it: fixed(1MiB) (12 requests refused)."), "{said}");
        rank(&mut rows);
        assert_eq!(rows.map(|row| row.stack), ["system", "page", "fixed(1MiB)"]);
    }

    #[test]
    fn what_another_does_better_is_named_as_the_price() {
        let rows =
            [row("system", 20.0, 30), row("arena(page)", 10.0, 100), row("mimalloc", 12.0, 20), row("page", 900.0, 10)];
        let said = verdict(&rows);
        assert!(
            said.starts_with("mimalloc is best on this trace: 1.7× as fast as the system's malloc and keeps 33 % less")
        );
        assert!(said.contains("; arena(page) is faster (10 ns a call) for 5.0× the memory"), "{said}");
        assert!(said.contains("; page keeps least (10.0 MiB) at 75× the time"), "{said}");
    }

    #[test]
    fn one_and_none_are_sentences_too() {
        assert_eq!(
            verdict(&[row("page", 900.0, 1)]),
            "page serves this trace at 900 ns a call and keeps 1.00 MiB at its peak."
        );
        let failed = Row { failure: Some("its process ended with signal: 9".into()), ..row("page", 1.0, 1) };
        assert_eq!(
            verdict(&[failed]),
            "no stack could serve this trace; not able to serve it: page (its process ended with signal: 9)."
        );
    }
}
