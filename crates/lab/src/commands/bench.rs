//! `lab bench GROUP`: ours against the peers, by the unpublished package `terrace-peers`.
//!
//! The package is built where it lies: it has dependencies that no user of the lab should compile. It is built with
//! every function, ours and the peers', at the start of a cache line: else a loop of few instructions takes a quarter more or
//! less from one build to the next, by where the linker happens to put it.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{bench_frames, bench_smp};
use crate::{
    cli::Bench,
    json::Sink,
    report::{table, units},
};

/// For cargo: functions start at multiples of 64 bytes.
const ALIGNED: &str = "target.'cfg(all())'.rustflags=['-Cllvm-args=-align-all-functions=6']";

/// One cell: the same work on ours and on each peer.
#[derive(Debug, Serialize, Deserialize)]
struct Cell {
    group: String,
    cell: String,
    ours_ns: f64,
    peers: BTreeMap<String, f64>,
    best_peer: String,
    ratio: f64,
    /// What the group measures besides: counted calls, instructions.
    #[serde(flatten)]
    more: BTreeMap<String, serde_json::Value>,
}

/// # Errors
/// Outside the workspace, for an unknown group, and where the benchmark fails.
pub fn run(options: &Bench) -> anyhow::Result<()> {
    let sink = Sink::open(options.json.path.as_deref())?;
    let workspace = workspace()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&workspace).args(["run", "--release", "--quiet", "--package", "terrace-peers"]);
    // The allocators of `smp` are shared libraries, built elsewhere.
    if options.group != "smp" {
        command.args(["--config", ALIGNED]);
    }
    command.arg("--");
    command.arg(&options.group).args(&options.rest);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = command.output().context("cargo cannot be started; put it into PATH")?;
    ensure!(
        output.status.success(),
        "the benchmark group {} failed ({}); its own words stand above",
        options.group,
        output.status
    );
    if options.rest.iter().any(|option| option == "--help" || option == "-h") {
        return sink.say(&String::from_utf8_lossy(&output.stdout));
    }
    let unreadable = "the benchmark's figures cannot be read; build the lab and the peers from the same checkout";
    if options.group == "smp" {
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).context(unreadable)?;
        sink.write(&report)?;
        return sink.say(&bench_smp::text(&report)?);
    }
    if options.group == "frames" {
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).context(unreadable)?;
        sink.write(&rows)?;
        return sink.say(&bench_frames::text(&rows)?);
    }
    let cells: Vec<Cell> = serde_json::from_slice(&output.stdout).context(unreadable)?;
    sink.write(&cells)?;
    sink.say(&text(&cells))
}

fn text(cells: &[Cell]) -> String {
    let rows: Vec<Vec<String>> = cells.iter().map(row).collect();
    let better = cells.iter().filter(|cell| cell.ratio <= 1.0).count();
    let mut text = table::words(&["cell", "best peer", "its ns", "our ns", "ratio"], &rows);
    text += &format!(
        "ratio: ours to the best peer's, below 1 is better; {better} of {} cells are at most 1\n",
        cells.len()
    );
    text
}

fn row(cell: &Cell) -> Vec<String> {
    let best = cell.peers.get(&cell.best_peer).map_or("–".into(), |nanos| units::nanos(*nanos));
    vec![cell.cell.clone(), cell.best_peer.clone(), best, units::nanos(cell.ours_ns), format!("{:.3}", cell.ratio)]
}

/// The checkout that this lab was built from, or the one around the working folder.
fn workspace() -> anyhow::Result<PathBuf> {
    let has_peers = |folder: &Path| folder.join("peers/Cargo.toml").is_file();
    let here = env::current_dir().context("the working folder is gone; change to another")?;
    if let Some(found) = here.ancestors().find(|folder| has_peers(folder)) {
        return Ok(found.to_path_buf());
    }
    // `cargo run` says where the package lies, from whatever folder it was started.
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    if let Some(found) = package.iter().flat_map(|package| package.ancestors()).find(|folder| has_peers(folder)) {
        return Ok(found.to_path_buf());
    }
    bail!("the peers are not here: run `cargo lab bench` inside a checkout of Terrace")
}
