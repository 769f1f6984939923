//! A trace by its path: one of ours, or a text format that is imported on the way.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{File, OpenOptions, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, ensure};
use serde_json::json;
use tempfile::TempDir;
use terrace_trace::{Event, Header, Reader, Summary, TraceError, Writer};

use crate::{
    cli::Source,
    progress::Progress,
    replay::program::{Builder, Program},
    report::{Info, units},
};

/// A trace, read: its figures and its calls.
pub struct Opened {
    pub program: Program,
    pub info: Info,
}

/// Reads all of a trace.
///
/// # Errors
/// Where it cannot be read, is in no known format, is damaged, or holds no call to replay.
pub fn open(source: &Source, progress: &Progress) -> anyhow::Result<Opened> {
    let mut builder = Builder::default();
    let info = read(source, progress, |event| builder.push(event))?;
    let program = builder.finish();
    let trace = source.trace.display();
    ensure!(!program.ops.is_empty(), "{trace} holds no call to replay; record a program that allocates");
    Ok(Opened { program, info })
}

/// The figures of a trace.
///
/// # Errors
/// Where it cannot be read, is in no known format, or is damaged.
pub fn info(source: &Source, progress: &Progress) -> anyhow::Result<Info> {
    read(source, progress, |_| {})
}

/// Writes the text trace at `input` as a trace to `output`, which is replaced when all is read.
///
/// # Errors
/// Where `input` is in no known format or `output` cannot be written.
pub fn import(input: &Path, output: &Path, progress: &Progress) -> anyhow::Result<()> {
    let format = terrace_trace::detect(input).map_err(|error| told(error, input))?;
    let unwritable =
        |error: &dyn Display| anyhow!("{} cannot be written: {error}; name another place with -o", output.display());
    let header = Header::imported(format, input.display());
    // A device or a pipe is written, not replaced.
    if output.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let device = OpenOptions::new().write(true).open(output).map_err(|error| unwritable(&error))?;
        return write(input, output, device, header, progress);
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = tempfile::Builder::new().prefix(".").suffix(".partial").permissions(shared()).tempfile_in(folder);
    let partial = partial.map_err(|error| unwritable(&error))?;
    let file = partial.reopen().map_err(|error| unwritable(&error))?;
    write(input, output, file, header, progress)?;
    partial.persist(output).map_err(|error| unwritable(&error.error))?;
    Ok(())
}

/// As any new file, less what the user's mask takes away.
fn shared() -> Permissions {
    Permissions::from_mode(0o666)
}

fn write(input: &Path, output: &Path, file: File, header: Header, progress: &Progress) -> anyhow::Result<()> {
    let told = |error: TraceError| match error {
        // An error that names no file is the output's; the input's names it.
        TraceError::Io { path: None, source, .. } => {
            anyhow!("{} cannot be written: {source}; name another place with -o", output.display())
        }
        error => told(error, input),
    };
    let mut writer = Writer::new(file, header).map_err(told)?;
    let show = |state: terrace_trace::Progress| progress.part("importing", state.bytes, state.total);
    terrace_trace::import(input, show, &mut writer).map_err(told)?;
    writer.finish().map_err(told)?;
    progress.end();
    Ok(())
}

/// An error of `path` as one sentence; those of the system name their file already.
fn told(error: TraceError, path: &Path) -> anyhow::Error {
    match error {
        TraceError::Io { path: Some(_), .. } => anyhow!("{error}"),
        error => anyhow!("{}: {error}", path.display()),
    }
}

fn read(source: &Source, progress: &Progress, mut each: impl FnMut(Event)) -> anyhow::Result<Info> {
    let path = source.trace.as_path();
    let (reader, _imported) = reader(path, progress)?;
    ensure!(source.partial || !reader.truncated(), cut_short(path, &reader));
    progress.spin(&format!("reading {}", path.display()));
    let events = reader.events().inspect(|event| {
        if let Ok(event) = event {
            each(*event);
        }
    });
    let summary = Summary::of(events).map_err(|error| told(error, path))?;
    progress.end();
    Ok(figures(&summary, reader.truncated()))
}

fn cut_short(path: &Path, reader: &Reader) -> String {
    let end = path.metadata().map_or(0, |file| file.len());
    let events = units::count(reader.len());
    let path = path.display();
    format!(
        "{path}: the end is missing at byte {end}; copy or record it again, or take its first {events} events with --partial"
    )
}

/// Opens a trace, or imports what can be into a folder that goes with the value.
fn reader(path: &Path, progress: &Progress) -> anyhow::Result<(Reader, Option<TempDir>)> {
    match Reader::open(path) {
        Ok(reader) => Ok((reader, None)),
        Err(TraceError::NotATrace { .. }) if terrace_trace::detect(path).is_ok() => {
            let folder =
                tempfile::tempdir().context("no temporary folder can be made; set TMPDIR to a place with room")?;
            let imported: PathBuf = folder.path().join("imported.trace");
            import(path, &imported, progress)?;
            Ok((Reader::open(&imported).map_err(|error| told(error, &imported))?, Some(folder)))
        }
        Err(error) => Err(told(error, path)),
    }
}

fn figures(summary: &Summary, truncated: bool) -> Info {
    let more = BTreeMap::from([
        ("mallocs", json!(summary.mallocs)),
        ("callocs", json!(summary.callocs)),
        ("memaligns", json!(summary.memaligns)),
        ("leaked_bytes", json!(summary.leaked_bytes)),
        ("max_size", json!(summary.max_size)),
        ("max_align", json!(summary.max_align)),
        ("cross_frees", json!(summary.cross_frees)),
        ("cross_reallocs", json!(summary.cross_reallocs)),
        ("unknown_frees", json!(summary.unknown_frees)),
        ("null_frees", json!(summary.null_frees)),
        ("overlaps", json!(summary.overlaps)),
        ("failed", json!(summary.failed)),
        ("zero_sizes", json!(summary.zero_sizes)),
        ("sizes_log2", json!(summary.sizes_log2.0.to_vec())),
        ("truncated", json!(truncated)),
    ]);
    Info {
        events: summary.events,
        allocs: summary.allocs,
        frees: summary.frees,
        reallocs: summary.reallocs,
        threads: summary.threads.into(),
        peak_live_bytes: summary.peak_live_bytes,
        peak_live_blocks: summary.peak_live_blocks,
        total_bytes: summary.total_bytes,
        leaked_blocks: summary.leaked_blocks,
        more,
    }
}
