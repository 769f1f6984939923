//! What `lab bench frames` says of the rows: a table for each order, the means, what was measured elsewhere.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Context;
use serde::Deserialize;

use crate::report::{table, units};

const OURS: &str = "terrace";

/// The part of a row that the text needs; the JSON goes on whole.
#[derive(Deserialize)]
struct Row {
    cell: String,
    order: u32,
    threads: usize,
    work: String,
    best_peer: String,
    ratio: f64,
    figures: BTreeMap<String, Figures>,
    #[serde(default)]
    elsewhere: Vec<Elsewhere>,
}

#[derive(Deserialize, Clone, Copy)]
struct Figures {
    median: f64,
    mean: f64,
    p99: f64,
    put: Option<f64>,
    refused: u64,
}

#[derive(Deserialize)]
struct Elsewhere {
    name: String,
    order: u32,
    threads: usize,
    get: Option<f64>,
    put: Option<f64>,
    median: Option<f64>,
    mean: Option<f64>,
}

/// The rows for people.
///
/// # Errors
/// Where they have another shape than this lab knows.
pub fn text(rows: &serde_json::Value) -> anyhow::Result<String> {
    let rows = Vec::<Row>::deserialize(rows)
        .context("the benchmark's rows cannot be read; build the lab and the peers from the same checkout")?;
    let mut text = lines(
        "Nanoseconds of a get plus a put: median, mean and 99th percentile, of the best peer (under the lock that is better \
         for it here: spin or std's), and ours. The ratio is that of the medians, below 1 is better.",
    );
    for cells in rows.chunk_by(|one, next| one.order == next.order) {
        writeln!(text, "\norder {} ({})", cells[0].order, units::bytes(4096 << cells[0].order))?;
        let header = ["work", "best peer", "thr", "p50", "mean", "p99", "our p50", "mean", "p99", "ratio"];
        text += &table::words(&header, &cells.iter().map(Row::words).collect::<Vec<_>>());
        let (mean, worst) = mean_and_worst(cells);
        writeln!(text, "geometric mean of the ratios {mean:.3}, the highest {worst:.3}")?;
    }
    text.push('\n');
    let missed: Vec<&str> = rows.iter().filter(|row| row.ratio >= 1.0).map(|row| row.cell.as_str()).collect();
    let (mean, worst) = mean_and_worst(&rows);
    text += &lines(&format!(
        "In {} of {} cells ours is ahead; geometric mean {mean:.3}, the highest ratio {worst:.3}.",
        rows.len() - missed.len(),
        rows.len()
    ));
    if !missed.is_empty() {
        text += &lines(&format!("Behind: {}.", missed.join(", ")));
    }
    text += &random_puts(&rows);
    text += &elsewhere(&rows);
    Ok(text)
}

fn lines(remark: &str) -> String {
    table::wrap(remark, table::WIDTH as usize) + "\n"
}

impl Row {
    fn words(&self) -> Vec<String> {
        let three = |name: &str| match self.figures.get(name) {
            Some(figures) => [figures.median, figures.mean, figures.p99].map(short),
            None => ["–"; 3].map(String::from),
        };
        let mut words = vec![self.work.clone(), self.best_peer.as_str().split(' ').map(short_name).collect()];
        words.push(self.threads.to_string());
        words.extend(three(&self.best_peer));
        words.extend(three(OURS));
        words.push(format!("{:.3}", self.ratio));
        words
    }
}

/// `bitmap-allocator, spin::Mutex` as `bitmap/spin`, word by word.
fn short_name(word: &str) -> &str {
    match word {
        "bitmap-allocator," => "bitmap/",
        "buddy_system_allocator," => "buddy/",
        "spin::Mutex" => "spin",
        "std" => "std",
        "Mutex" => "",
        other => other,
    }
}

/// Without `ns`, and without the space before another unit.
fn short(nanos: f64) -> String {
    units::nanos(nanos).trim_end_matches(" ns").replace(' ', "")
}

fn mean_and_worst(rows: &[Row]) -> (f64, f64) {
    let sum: f64 = rows.iter().map(|row| row.ratio.ln()).sum();
    ((sum / rows.len() as f64).exp(), rows.iter().map(|row| row.ratio).fold(0.0, f64::max))
}

/// The puts in a random order alone, beside bitmap-allocator's.
fn random_puts(rows: &[Row]) -> String {
    let mut told = Vec::new();
    for row in rows.iter().filter(|row| row.work == "random" && row.threads == 1) {
        let bitmaps = row.figures.iter().filter(|(name, _)| name.starts_with("bitmap-allocator"));
        let theirs = bitmaps.filter_map(|(_, figures)| figures.put).reduce(f64::min);
        if let Some((ours, theirs)) = row.figures.get(OURS).and_then(|figures| figures.put).zip(theirs) {
            told.push(format!("order {} {} of {}", row.order, short(ours), short(theirs)));
        }
    }
    let refused: u64 = rows.iter().filter_map(|row| row.figures.get(OURS)).map(|figures| figures.refused).sum();
    let mut text = String::new();
    if !told.is_empty() {
        text += &lines(&format!(
            "Random puts alone, one thread, ours and bitmap-allocator's, median ns: {}.",
            told.join(", ")
        ));
    }
    if refused > 0 {
        text += &lines(&format!("Ours refused {refused} gets in a race, and was asked again."));
    }
    text
}

fn elsewhere(rows: &[Row]) -> String {
    let mut told = Vec::new();
    for other in rows.iter().flat_map(|row| &row.elsewhere) {
        let figures = match (other.get, other.put, other.median, other.mean) {
            (Some(get), Some(put), ..) => format!("{get} + {put}"),
            (.., Some(median), Some(mean)) => format!("{median}, mean {mean}"),
            _ => continue,
        };
        let plural = if other.threads == 1 { "" } else { "s" };
        told.push(format!("{} order {}, {} thread{plural}: {figures}", other.name, other.order, other.threads));
    }
    if told.is_empty() {
        return String::new();
    }
    lines(&format!(
        "Measured elsewhere, on other machines, and compared with nothing here (get + put, or their sum, ns): {}.",
        told.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows() -> serde_json::Value {
        let figures = |median: f64| json!({"median": median, "mean": 2000.0, "p99": 312.4, "get": 1.0, "put": 17.0, "refused": 3});
        let row = |order: u32, ours: f64| {
            json!({"group": "frames", "cell": format!("order {order} random 1 thread"), "order": order, "threads": 1, "work": "random",
                "ours_ns": ours, "peers": {"buddy_system_allocator, std Mutex": 20.0}, "best_peer": "buddy_system_allocator, std Mutex",
                "ratio": ours / 20.0,
                "figures": {"terrace": figures(ours), "buddy_system_allocator, std Mutex": figures(20.0), "bitmap-allocator, std Mutex": figures(20.0)},
                "elsewhere": [{"name": "LLFree", "order": order, "threads": 8, "median": 32, "mean": 44},
                    {"name": "NBBS", "order": order, "threads": 1, "get": 35, "put": 14}]})
        };
        json!([row(0, 5.0), row(18, 40.0)])
    }

    #[test]
    fn the_text_names_the_means_the_missed_cells_and_what_was_measured_elsewhere() {
        let text = text(&rows()).expect("rows");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "order 18 (1.00 GiB)",
            "random buddy/std 1 20 2.00µs 312 5 2.00µs 312 0.250",
            "geometric mean of the ratios 0.250, the highest 0.250",
            "In 1 of 2 cells ours is ahead; geometric mean 0.707, the highest ratio 2.000.",
            "Behind: order 18 random 1 thread.",
            "order 0 17 of 17, order 18 17 of 17.",
            "Ours refused 6 gets",
            "LLFree order 0, 8 threads: 32, mean 44; NBBS order 0, 1 thread: 35 + 14; ",
        ] {
            assert!(flat.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= table::WIDTH.into()), "{text}");
    }

    #[test]
    fn rows_of_another_shape_are_refused() {
        assert!(text(&json!([{"cell": "order 0"}])).is_err());
    }
}
