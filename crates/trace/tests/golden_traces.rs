//! Every trace of `../shared/traces` (beside the checkout), imported, written, read again and added up, gives
//! the figures of its `golden.tsv`, column for column; and small traces give the figures worked out by hand.
//!
//! The golden figures come from `golden.py` there, which shares no code with this crate.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use terrace_trace::{Header, ImportReport, Reader, Summary, TraceError, Writer, detect, import, import_from};

/// The figures of one trace by the names of golden.tsv's columns.
type Row = BTreeMap<String, String>;

fn row(name: &str, report: &ImportReport, sum: &Summary) -> Row {
    let sizes: Vec<String> = sum.sizes_log2.0.iter().enumerate().filter(|(_, count)| **count > 0).map(size).collect();
    let columns =
        [("trace", name.to_owned()), ("format", report.format.to_string()), ("size_histogram_log2", sizes.join(" "))];
    let numbers = [
        ("events", sum.events),
        ("malloc", sum.mallocs),
        ("calloc", sum.callocs),
        ("memalign", sum.memaligns),
        ("realloc", sum.reallocs),
        ("free", sum.frees),
        ("thread_done", sum.thread_ends),
        ("threads", u64::from(sum.threads)),
        ("peak_live_bytes", sum.peak_live_bytes),
        ("peak_bytes_event", sum.peak_bytes_event),
        ("peak_live_blocks", sum.peak_live_blocks),
        ("total_alloc_bytes", sum.total_bytes),
        ("leaked_blocks", sum.leaked_blocks),
        ("leaked_bytes", sum.leaked_bytes),
        ("max_align", report.max_align),
        ("invalid_frees", report.invalid_frees),
        ("invalid_reallocs", report.invalid_reallocs),
        ("null_frees", sum.null_frees),
        ("overlaps", sum.overlaps),
        ("failed_allocs", sum.failed),
        ("cross_frees", sum.cross_frees),
        ("cross_reallocs", sum.cross_reallocs),
        ("zero_size", sum.zero_sizes),
        ("max_size", sum.max_size),
        ("reused_addrs", report.reused_addrs),
    ];
    let numbers = numbers.into_iter().map(|(name, number)| (name, number.to_string()));
    columns.into_iter().chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn size((place, count): (usize, &u64)) -> String {
    if place == 0 { format!("z:{count}") } else { format!("{}:{count}", place - 1) }
}

/// `text` imported into memory, read again and added up.
fn figures_of(text: &str) -> Result<Row, TraceError> {
    let mut writer = Writer::new(Vec::new(), Header::default())?;
    let report = import_from(Cursor::new(text), |_| {}, &mut writer)?;
    let reader = Reader::from_bytes(writer.finish()?)?;
    Ok(row("text", &report, &Summary::of(reader.events())?))
}

/// `path` imported into a file, read again and added up in both ways.
fn figures_of_file(path: &Path) -> Row {
    let name = path.file_name().unwrap().to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("written.trace");
    let format = detect(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut writer = Writer::create(&file, Header::imported(format, name)).unwrap();
    let mut last = None;
    let report = import(path, |progress| last = Some(progress), &mut writer).unwrap_or_else(|e| panic!("{name}: {e}"));
    writer.finish().unwrap();
    assert_eq!(last.map(|last| (last.bytes, last.lines)), Some((report.bytes, report.lines)), "{name}: progress");

    let reader = Reader::open(&file).unwrap();
    assert!(!reader.truncated(), "{name}");
    let sum = Summary::of(reader.events()).unwrap();
    assert_eq!(sum, Summary::of_stream(reader.stream()).unwrap(), "{name}");
    assert_eq!(sum.unknown_frees, report.invalid_frees, "{name}");
    assert_eq!(sum.allocs, sum.mallocs + sum.callocs + sum.memaligns, "{name}");
    row(name, &report, &sum)
}

/// The traces below `folder`: what is no licence, no notice and no table.
fn traces(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ends = |ends: &[&str]| path.extension().is_some_and(|end| ends.iter().any(|known| end == *known));
        if path.is_dir() {
            traces(&path, found);
        } else if ends(&["txt", "trace", "zip", "xz"]) {
            found.push(path);
        }
    }
}

#[test]
fn every_shared_trace_gives_its_golden_figures() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
    if !shared.is_dir() {
        eprintln!("nothing compared: there is no shared/traces beside the checkout");
        return;
    }
    let table = std::fs::read_to_string(shared.join("golden.tsv")).unwrap();
    let mut lines = table.lines().map(|line| line.split('\t'));
    let columns: Vec<&str> = lines.next().unwrap().collect();
    assert!(columns.len() >= 28, "golden.tsv has lost columns: {columns:?}");
    let owned = |(name, value): (&&str, &str)| ((*name).to_owned(), value.to_owned());
    let rows = lines.map(|line| columns.iter().zip(line).map(owned).collect::<Row>());
    let mut golden: BTreeMap<String, Row> = rows.map(|row| (row["trace"].clone(), row)).collect();
    let mut found = Vec::new();
    traces(&shared, &mut found);
    assert!(!found.is_empty(), "shared/traces holds no trace");
    for path in &found {
        let name = path.file_name().unwrap().to_str().unwrap();
        let golden = golden.remove(name).unwrap_or_else(|| panic!("golden.tsv has no figures for {name}"));
        assert_eq!(figures_of_file(path), golden, "{name}");
    }
    assert!(golden.is_empty(), "figures without a trace: {:?}", golden.keys());
    eprintln!("{} traces compared in {} columns", found.len(), columns.len());
}

/// The figures of `text` are `expected`; columns that are not named are 0 (or as said).
fn assert_figures(text: &str, expected: &[(&str, &str)]) {
    let figures = figures_of(text).unwrap();
    let expected: BTreeMap<&str, &str> = expected.iter().copied().collect();
    for (name, value) in &figures {
        if matches!(name.as_str(), "trace" | "format") {
            continue;
        }
        assert_eq!(value, expected.get(name.as_str()).unwrap_or(&"0"), "{name} of\n{text}");
    }
    assert!(expected.keys().all(|name| figures.contains_key(*name)), "an expected column is misspelt");
}

#[test]
fn an_address_given_out_while_live_ends_the_older_block() {
    let text = "7: malloc 0x10 100\n7: malloc 0x10 8\n8: free 0x10\n7: free 0x10\n";
    let figures = [
        ("events", "4"),
        ("malloc", "2"),
        ("free", "2"),
        ("threads", "2"),
        ("peak_live_bytes", "100"),
        ("peak_bytes_event", "1"),
        ("peak_live_blocks", "1"),
        ("total_alloc_bytes", "108"),
        ("invalid_frees", "1"),
        ("overlaps", "1"),
        ("cross_frees", "1"),
        ("max_size", "100"),
        ("reused_addrs", "1"),
        ("size_histogram_log2", "3:1 6:1"),
    ];
    assert_figures(text, &figures);
}

#[test]
fn a_realloc_onto_a_live_block_ends_that_block() {
    let text = "1: malloc 0x10 16\n1: malloc 0x20 32\n2: realloc 0x20 0x10 64\n1: free 0x20\n";
    let figures = [
        ("events", "4"),
        ("malloc", "2"),
        ("realloc", "1"),
        ("free", "1"),
        ("threads", "2"),
        ("peak_live_bytes", "64"),
        ("peak_bytes_event", "3"),
        ("peak_live_blocks", "2"),
        ("total_alloc_bytes", "112"),
        ("overlaps", "1"),
        ("cross_frees", "1"),
        ("cross_reallocs", "1"),
        ("max_size", "64"),
        ("reused_addrs", "1"),
        ("size_histogram_log2", "4:1 5:1 6:1"),
    ];
    assert_figures(text, &figures);
}

#[test]
fn reallocs_of_null_of_unknown_blocks_and_to_nothing() {
    let text = "5: realloc 0x10 0x0 8\n\
                5: realloc 0x0 0x0 0\n\
                5: realloc 0x0 0x10 9\n\
                5: realloc 0x30 0x20 3\n\
                5: realloc 0x0 0x20 0\n\
                6: realloc 0x0 0x10 0\n\
                5: realloc 0x0 0x0 7\n\
                5: realloc 0x30 0x30 0\n";
    let figures = [
        ("events", "8"),
        ("realloc", "8"),
        ("threads", "2"),
        ("peak_live_bytes", "11"),
        ("peak_bytes_event", "4"),
        ("peak_live_blocks", "2"),
        ("total_alloc_bytes", "11"),
        ("leaked_blocks", "1"),
        ("invalid_reallocs", "2"),
        ("failed_allocs", "2"),
        ("cross_reallocs", "1"),
        ("zero_size", "1"),
        ("max_size", "8"),
        ("reused_addrs", "1"),
        ("size_histogram_log2", "z:1 1:1 3:1"),
    ];
    assert_figures(text, &figures);
}

#[test]
fn refused_calls_are_counted_by_their_words() {
    let text = "1: malloc 0x0 5\n\
                1: calloc 0x0 18446744073709551615 18446744073709551615\n\
                1: memalign 0x0 4096 1\n\
                1: memalign 0x40 64 2 1712 1713\n\
                1: calloc 0x50 3 5\n\
                1: free 0x0 12 34\n\
                1: thread_done 0x0\n";
    let figures = [
        ("events", "7"),
        ("malloc", "1"),
        ("calloc", "2"),
        ("memalign", "2"),
        ("free", "1"),
        ("thread_done", "1"),
        ("threads", "1"),
        ("peak_live_bytes", "17"),
        ("peak_bytes_event", "5"),
        ("peak_live_blocks", "2"),
        ("total_alloc_bytes", "17"),
        ("leaked_blocks", "2"),
        ("leaked_bytes", "17"),
        ("max_align", "4096"),
        ("null_frees", "1"),
        ("failed_allocs", "3"),
        ("max_size", "15"),
        ("size_histogram_log2", "1:1 3:1"),
    ];
    assert_figures(text, &figures);
}

#[test]
fn wee_frees_a_block_once() {
    let text = "Alloc(0),\nAlloc(5),\nFree(1),\nFree(1),\nFree(9),\nFree(18446744073709551615),\nAlloc(4),";
    let figures = [
        ("events", "7"),
        ("malloc", "3"),
        ("free", "4"),
        ("threads", "1"),
        ("peak_live_bytes", "5"),
        ("peak_bytes_event", "2"),
        ("peak_live_blocks", "2"),
        ("total_alloc_bytes", "9"),
        ("leaked_blocks", "2"),
        ("leaked_bytes", "4"),
        ("invalid_frees", "3"),
        ("zero_size", "1"),
        ("max_size", "5"),
        ("size_histogram_log2", "z:1 2:2"),
    ];
    assert_figures(text, &figures);
}

#[test]
fn sizes_have_64_bits() {
    let most = u64::MAX;
    let text = format!("Alloc({most}),\nAlloc({most}),\nFree(0),\n");
    let most = most.to_string();
    let figures = [
        ("events", "3"),
        ("malloc", "2"),
        ("free", "1"),
        ("threads", "1"),
        ("peak_live_bytes", &*most),
        ("peak_bytes_event", "2"),
        ("peak_live_blocks", "2"),
        ("total_alloc_bytes", &*most),
        ("leaked_blocks", "1"),
        ("leaked_bytes", &*most),
        ("max_size", &*most),
        ("size_histogram_log2", "63:2"),
    ];
    assert_figures(&text, &figures);
}
