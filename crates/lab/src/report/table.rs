//! Tables that fit 80 columns, for people; scripts take `--json`.
#![forbid(unsafe_code)]

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::{Info, OwnCost, Report, Row, units, verdict};

/// No line is longer.
pub const WIDTH: u16 = 80;

/// Below this many nanoseconds a mean, and a call timed alone, are not told from nothing.
const MEAN_LEAST: f64 = 1.0;
const ALONE_LEAST: f64 = 10.0;

/// The report as text: the sentence, the table, what stands behind the figures.
pub fn report(report: &Report, colours: bool) -> String {
    let mut text = wrap(&report.verdict, WIDTH as usize) + "\n\n";
    for line in stacks(&report.stacks).lines() {
        let line = line.trim_end();
        text += &if colours { paint(line, &report.stacks) } else { line.to_string() };
        text.push('\n');
    }
    for note in notes(&report.stacks, &report.replayer) {
        text += &wrap(&note, WIDTH as usize);
        text.push('\n');
    }
    text
}

/// The line of the best stack in green, of those that do not serve in red.
fn paint(line: &str, rows: &[Row]) -> String {
    let best = verdict::best(rows).map(|row| &row.stack);
    match rows.iter().find(|row| line.split_whitespace().next() == Some(&row.stack)) {
        Some(row) if Some(&row.stack) == best => format!("\x1b[32m{line}\x1b[0m"),
        Some(row) if !row.serves() => format!("\x1b[31m{line}\x1b[0m"),
        _ => line.to_string(),
    }
}

fn stacks(rows: &[Row]) -> Table {
    let mut table = plain();
    table.set_header(["stack", "mean", "p50", "p99", "p99.9", "max", "peak", "left", "asked", "err"].map(head));
    for row in rows {
        let mut cells = vec![Cell::new(format!("{}{}", row.stack, marks(row)))];
        let ns = row.ns_per_op;
        let time = |nanos: Option<f64>, least: f64| match nanos {
            Some(nanos) if nanos < least => format!("<{least}"),
            Some(nanos) => compact(&units::nanos(nanos)),
            None => "–".into(),
        };
        cells.push(number(time(ns.map(|ns| ns.mean), MEAN_LEAST)));
        let alone = [ns.map(|ns| ns.p50), ns.map(|ns| ns.p99), ns.map(|ns| ns.p999), ns.map(|ns| ns.max)];
        cells.extend(alone.map(|nanos| number(time(nanos, ALONE_LEAST))));
        let held = row.failure.is_none();
        let bytes = |bytes: u64| if held { compact(&units::bytes(bytes)) } else { "–".into() };
        cells.push(number(bytes(row.peak_resident_bytes)));
        cells.push(number(bytes(row.left_bytes)));
        cells.push(number(short_count(row.backing_allocs)));
        let errors = if held { short_count(row.errors + row.corrupted) } else { "fail".into() };
        cells.push(number(errors));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_padding((1, 0));
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    // The name takes what the figures leave; a long one goes on in the next line.
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    table
}

/// What sets a row apart from its neighbours; explained below the table.
fn marks(row: &Row) -> String {
    let mut marks = String::new();
    if row.one_thread {
        marks += " ¹";
    }
    if row.dynamic {
        marks += " ᵈ";
    }
    marks
}

fn notes(rows: &[Row], own: &[OwnCost]) -> Vec<String> {
    let mut notes = vec![
        "mean … max: ns a call. peak: resident memory at most. left: still held when all is freed. \
         asked: requests to the ground. err: requests refused."
            .to_string(),
    ];
    if rows.iter().any(|row| row.one_thread) {
        notes.push("¹ replayed on one thread in the recorded order: no contention, unlike its neighbours.".into());
    }
    if rows.iter().any(|row| row.dynamic) {
        notes.push("ᵈ through a virtual call, whose cost was taken off.".into());
    }
    for row in rows {
        if row.corrupted > 0 {
            notes.push(format!("{} lost the contents of {} blocks.", row.stack, units::count(row.corrupted)));
        }
        if let Some(failure) = &row.failure {
            notes.push(format!("{} failed: {}", row.stack, failure.replace('\n', " ")));
        }
    }
    let rounds = || rows.iter().map(|row| row.rounds).filter(|rounds| *rounds > 0);
    if let Some((least, most)) = rounds().min().zip(rounds().max()) {
        let rounds = if least == most { most.to_string() } else { format!("{least} to {most}") };
        let spread = rows.iter().filter_map(|row| Some((row.spread?, row.ns_per_op?.mean.max(1.0))));
        let widest = spread.map(|([low, high], mean)| (high - low) / mean / 2.0 * 100.0).fold(0.0, f64::max);
        notes.push(format!("Medians of {rounds} rounds; the middle half of the means lies within ±{widest:.0} %."));
    }
    for own in own {
        let how = match (own.threads, own.dynamic) {
            (true, false) => " on the trace's threads",
            (true, true) => " on the trace's threads, through a virtual call",
            (false, true) => " through a virtual call",
            (false, false) if own_has_threads(rows) => " on one thread",
            (false, false) => "",
        };
        notes.push(format!(
            "Taken off{how}: the replayer's own {:.1} ns a call; {:.0} ns of a call timed alone, {:.0} of them the clock's.",
            own.ns_per_op, own.ns_alone, own.clock_ns
        ));
    }
    notes
}

fn own_has_threads(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.one_thread)
}

/// The figures of a trace, one a line.
pub fn info(info: &Info) -> String {
    let mut table = plain();
    let lines = [
        ("events", units::count(info.events)),
        ("allocations", units::count(info.allocs)),
        ("frees", units::count(info.frees)),
        ("reallocations", units::count(info.reallocs)),
        ("threads", units::count(info.threads)),
        ("peak live bytes", format!("{} ({})", units::count(info.peak_live_bytes), units::bytes(info.peak_live_bytes))),
        ("peak live blocks", units::count(info.peak_live_blocks)),
        ("bytes in all", format!("{} ({})", units::count(info.total_bytes), units::bytes(info.total_bytes))),
        ("blocks never freed", units::count(info.leaked_blocks)),
    ];
    for (name, figure) in lines {
        table.add_row([Cell::new(name), number(figure)]);
    }
    format!("{table}\n")
}

/// Any table of words, its first column to the left and figures to the right.
pub fn words(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = plain();
    table.set_header(
        header.iter().enumerate().map(|(index, text)| if index < 2 { Cell::new(text) } else { head(text) }),
    );
    for row in rows {
        let cells = row.iter().enumerate();
        table.add_row(cells.map(|(index, text)| if index < 2 { Cell::new(text) } else { number(text.clone()) }));
    }
    format!("{table}\n")
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}

fn head(text: &str) -> Cell {
    let alignment = if text == "stack" { CellAlignment::Left } else { CellAlignment::Right };
    Cell::new(text).set_alignment(alignment)
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// `4.26 ns` as `4.26`, `1.50 KiB` as `1.50K`, `12.0 µs` as `12.0µs`: columns are narrow.
fn compact(text: &str) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    match unit {
        "ns" | "B" => number.into(),
        unit => format!("{number}{}", unit.trim_end_matches("iB")),
    }
}

fn short_count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// `text` in lines of at most `width` characters, broken at spaces.
pub fn wrap(text: &str, width: usize) -> String {
    let (mut wrapped, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += len;
    }
    wrapped
}
