//! The rows of `lab frames`, for the table and for `--json`.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Round,
    meter::Meter,
    works::{LARGE, LAST, Task, Work},
};
use crate::{
    report::{table, units},
    stack::frames::{FRAME, FrameWord},
};

/// All that `--json` writes.
#[derive(Serialize)]
pub struct Report<'a> {
    pub seed: u64,
    pub rounds: usize,
    /// What two looks at the clock cost: taken off all percentiles.
    pub clock_ns: f64,
    pub rows: &'a [Row],
}

/// One workload over one allocator and one memory.
#[derive(Serialize)]
pub struct Row {
    pub workload: Work,
    pub over: String,
    pub size_bytes: u64,
    pub threads: usize,
    /// Of the runs, where the workload has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// Gets that were granted, of all threads, in one round.
    pub operations: u64,
    pub refused: u64,
    /// Nanoseconds of a get or a put, the workload's own taken off, in batches of 64: of the median batch of all rounds,
    /// of that of the best round, and the mean of all, which has in it all that the thread waited for.
    pub ns: f64,
    pub least_ns: f64,
    pub mean_ns: f64,
    /// The workload's own, of one call in the median batch.
    pub own_ns: f64,
    pub get: Percentiles,
    pub put: Percentiles,
    pub metadata_bytes: u64,
    pub metadata_percent: f64,
    /// Aging: free blocks of 2 MiB, the mean of the last 20 rounds; first fit's on the same sequence; and all blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_large: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_fit_large: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large: Option<u64>,
    /// Of the frames handed out: on one thread the same for the same seed.
    pub digest: String,
}

/// Nanoseconds of calls timed alone, the clock's own taken off.
#[derive(Serialize, Clone, Debug)]
pub struct Percentiles {
    pub count: u64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// How many took at most so many nanoseconds, and more than the bar before: powers of two.
    pub histogram: Vec<(u64, u64)>,
}

impl Row {
    /// Of all rounds of one allocator.
    pub fn new(task: &Task, over: FrameWord, rounds: Vec<Round>, own: [f64; 2], oracle: Option<u64>) -> Self {
        let mut all = Meter::new();
        rounds.iter().for_each(|round| all.join(&round.meter));
        let less_own = |meter: &Meter| {
            let [median, mean] = meter.median_and_mean();
            [(median - own[0]).max(0.0), (mean - own[1]).max(0.0)]
        };
        let [ns, mean_ns] = less_own(&all);
        let clock = super::clock();
        let size_bytes = task.frames as u64 * FRAME;
        let first = rounds.first();
        let metadata_bytes = first.map_or(0, |round| round.metadata);
        let aged = |sum: u64| sum as f64 / LAST as f64;
        let aging = task.work == Work::Aging;
        Self {
            workload: task.work,
            over: over.to_string(),
            size_bytes,
            threads: task.threads,
            order: matches!(task.work, Work::Single | Work::Bulk | Work::Producer).then_some(task.order),
            operations: first.map_or(0, |round| round.outcome.gets),
            refused: rounds.iter().map(|round| round.outcome.refused).sum(),
            ns,
            least_ns: rounds.iter().map(|round| less_own(&round.meter)[0]).reduce(f64::min).unwrap_or(0.0),
            mean_ns,
            own_ns: own[0],
            get: Percentiles::of(&all.gets, clock),
            put: Percentiles::of(&all.puts, clock),
            metadata_bytes,
            metadata_percent: metadata_bytes as f64 / size_bytes as f64 * 100.0,
            free_large: first.filter(|_| aging).map(|round| aged(round.outcome.free_large)),
            first_fit_large: oracle.map(aged),
            large: aging.then_some((task.frames / LARGE) as u64),
            digest: format!("{:016x}", first.map_or(0, |round| round.outcome.digest)),
        }
    }

    /// Its name in the table.
    fn name(&self) -> String {
        format!("{:?}", self.workload).to_lowercase()
    }
}

impl Percentiles {
    fn of(times: &Histogram<u64>, clock: f64) -> Self {
        let less = |nanos: u64| (nanos as f64 - clock).max(0.0);
        let at = |quantile: f64| less(times.value_at_quantile(quantile));
        let mut histogram: Vec<(u64, u64)> = Vec::new();
        for bar in times.iter_recorded() {
            let most = (less(bar.value_iterated_to()) as u64).next_power_of_two();
            match histogram.last_mut() {
                Some(last) if last.0 == most => last.1 += bar.count_at_value(),
                _ => histogram.push((most, bar.count_at_value())),
            }
        }
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        Self { count: times.len(), p50, p99, p999, max: less(times.max()), histogram }
    }
}

/// A table for each memory, and what stands behind the figures.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    for memory in rows.chunk_by(|one, next| one.size_bytes == next.size_bytes) {
        text += &format!("{} in frames of 4 KiB\n", units::bytes(memory[0].size_bytes));
        let header = ["work", "over", "ord", "ns", "get", "p99", "p99.9", "put", "p99", "p99.9"];
        text += &table::words(&header, &memory.iter().map(words).collect::<Vec<_>>());
        text.push('\n');
    }
    text
}

/// What is said below the tables.
pub fn notes(rows: &[Row], clock: f64) -> String {
    let mut notes = vec![format!(
        "ns of a get or a put: in the median batch of 64, less what the workload itself takes. get, put: medians of single calls, and \
         their percentiles, less the clock's {clock:.0}."
    )];
    let mut told: Vec<(&str, u64)> = Vec::new();
    for row in rows {
        if !told.contains(&(&row.over, row.size_bytes)) {
            told.push((&row.over, row.size_bytes));
            let bytes = units::count(row.metadata_bytes);
            let size = units::bytes(row.size_bytes);
            notes.push(format!("{}: {bytes} bytes of metadata for {size}, {:.4} %.", row.over, row.metadata_percent));
        }
        if row.refused > 0 {
            notes.push(format!("{} refused {} gets of {}.", row.over, units::count(row.refused), row.name()));
        }
        if let (Some(free), Some(large)) = (row.free_large, row.large) {
            let oracle =
                row.first_fit_large.map(|most| format!("; first fit {most:.1}, so {:.1} %", free / most * 100.0));
            notes.push(format!(
                "{}, aged: {free:.1} of {large} blocks of 2 MiB free{}.",
                row.over,
                oracle.unwrap_or_default()
            ));
        }
    }
    notes.iter().map(|note| table::wrap(note, table::WIDTH as usize) + "\n").collect()
}

fn words(row: &Row) -> Vec<String> {
    let short = |nanos: f64| units::nanos(nanos).trim_end_matches(" ns").replace(' ', "");
    let threes = |times: &Percentiles| {
        let shown = [times.p50, times.p99, times.p999].map(short);
        if times.count == 0 { ["–"; 3].map(String::from) } else { shown }
    };
    let order = row.order.map_or_else(|| "–".into(), |order| order.to_string());
    let mut words = vec![row.name(), row.over.clone(), order, short(row.ns)];
    words.extend(threes(&row.get));
    words.extend(threes(&row.put));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frames::works::Outcome, replay::child::histogram};

    fn rows() -> Vec<Row> {
        let round = |nanos| {
            let mut meter = Meter::new();
            meter.batches.saturating_record(nanos);
            for time in [20, 30, 2000] {
                meter.gets.saturating_record(time);
            }
            let outcome = Outcome { free_large: 9000, refused: 1, ..Outcome::default() };
            Round { meter, outcome, metadata: 135_872 }
        };
        let row = |work, order| {
            let task = Task { work, order, frames: 1 << 20, threads: 1, operations: 100, seed: 1 };
            let oracle = (work == Work::Aging).then_some(10_000);
            Row::new(&task, FrameWord::Hybrid, vec![round(640), round(1920), round(1280)], [5.0; 2], oracle)
        };
        vec![row(Work::Bulk, 9), row(Work::Aging, 0)]
    }

    #[test]
    fn a_row_is_the_median_batch_without_the_workloads_own() {
        let row = &rows()[0];
        assert_eq!((row.ns, row.least_ns, row.refused, row.get.count), (15.0, 5.0, 3, 9));
        assert!((row.mean_ns - 15.0).abs() < 0.1, "{}", row.mean_ns);
        assert!((row.metadata_percent - 0.003_163).abs() < 1e-5, "{}", row.metadata_percent);
    }

    #[test]
    fn the_clock_is_taken_off_and_bars_are_powers_of_two() {
        let mut times = histogram();
        for nanos in [20, 24, 25, 60, 1000] {
            times.saturating_record(nanos);
        }
        let told = Percentiles::of(&times, 20.0);
        assert_eq!((told.p50, told.max), (5.0, 980.0));
        assert_eq!(told.histogram, [(1, 1), (4, 1), (8, 1), (64, 1), (1024, 1)]);
        assert_eq!(Percentiles::of(&histogram(), 20.0).histogram, []);
    }

    #[test]
    fn the_text_fits_and_names_what_aging_left() {
        let rows = rows();
        let text = text(&rows) + &notes(&rows, 20.0);
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "4.00 GiB in frames of 4 KiB",
            "bulk hybrid 9 15",
            "hybrid refused 3 gets of bulk.",
            "hybrid: 135,872 bytes of metadata for 4.00 GiB, 0.0032 %.",
            "450.0 of 2048 blocks of 2 MiB free; first fit 500.0, so 90.0 %.",
        ] {
            assert!(flat.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= table::WIDTH.into()), "{text}");
    }
}
