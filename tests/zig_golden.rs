//! Zig's decisions and ours: every operation of a directory of golden vectors is replayed and compared.
//!
//! ```text
//! cargo test -p terrace-tests --test zig_golden -- --nocapture          ../shared/golden/zig, beside the checkout
//! ZIG_GOLDEN_DIR=folder cargo test -p terrace-tests --test zig_golden   another folder
//! ```
//!
//! | stack | allocator | judged by |
//! |---|---|---|
//! | `fba` | `FixedBufferAllocator`, `SyncFixedBuffer` | every decision |
//! | `typed-fba` | the typed layer over `FixedBufferAllocator` | every decision, fill and request |
//! | `arena-fba`, `arena-page` | `SyncArena` | every decision and every request to the backing |
//! | `arena-fba`, `arena-page` | `ArenaAllocator` | its own law, after every operation |
//! | `stackfallback` | `BufferFirstAllocator` | every decision and every request to the backing |
//! | `pool-fba` | `PoolAllocator` | the arena's law, and the order of its items |
//! | `page` | `PageAllocator` | all that Zig grants is granted |
//! | `smp` | `SmpAllocator` | both decide by their tables of classes, which differ; large blocks as pages |
//!
//! The format is described in the README of that folder, the differences in `docs/zig-differences.md`. Without the
//! folder there is nothing to compare: the test says so and passes. With it the test fails unless every
//! operation was compared by every judge of its stack, or is an exception that this file names.

#[path = "zig_golden/arena.rs"]
mod arena;
#[path = "zig_golden/blocks.rs"]
mod blocks;
#[path = "zig_golden/buffer_first.rs"]
mod buffer_first;
#[path = "zig_golden/fixed.rs"]
mod fixed;
#[path = "zig_golden/ground.rs"]
mod ground;
#[path = "zig_golden/law.rs"]
mod law;
#[path = "zig_golden/page.rs"]
mod page;
#[path = "zig_golden/pool.rs"]
mod pool;
#[path = "zig_golden/record.rs"]
mod record;
#[path = "zig_golden/script.rs"]
mod script;
#[path = "zig_golden/smp.rs"]
mod smp;
#[path = "zig_golden/typed.rs"]
mod typed;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use script::{MostHeld, Outcome, Script, Watch};

/// Who judges the scripts of a stack.
type Judges = &'static [(&'static str, fn(&Script) -> Outcome)];

fn judges(script: &Script) -> Judges {
    match script.kind() {
        "fba" => &[("FixedBufferAllocator", fixed::local), ("SyncFixedBuffer", fixed::sync)],
        "typed-fba" => &[("typed layer", typed::replay)],
        "arena-fba" | "arena-page" => &[("SyncArena", arena::replay), ("ArenaAllocator, by law", law::replay)],
        "page" => &[("PageAllocator", page::replay)],
        "pool-fba" => &[("PoolAllocator, by law", pool::replay)],
        "stackfallback" => &[("BufferFirstAllocator", buffer_first::replay)],
        "smp" => &[("SmpAllocator, by classes", smp::replay)],
        other => panic!("{}: a stack without a judge: {other}", script.name),
    }
}

/// Below so many bytes held by Zig's arena the headers of nodes decide, 32 bytes in ours and 24 in Zig's, and the one
/// block that ours has room for and Zig's not: such a script is printed, and left out of the mean.
const ENOUGH_BYTES: usize = 512;

/// Single ratios from 0.2 to 2.9 have been seen, as chance has it where nodes end. Drawn at random from 715 scripts of the
/// usual themes, whose own mean is about three quarters, one mean in a hundred of twelve scripts exceeds 1, one in
/// four hundred of eighteen, none in four thousand of thirty-six. A whole directory has eighteen; fewer than these are printed only.
const ENOUGH_SCRIPTS: usize = 16;

/// What is printed of one judge over all scripts of one stack.
#[derive(Default)]
struct Row {
    files: usize,
    lines: usize,
    sum: Outcome,
}

fn folder() -> PathBuf {
    env::var_os("ZIG_GOLDEN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/zig"), PathBuf::from)
}

fn scripts(folder: &Path) -> Option<Vec<Script>> {
    let entries = fs::read_dir(folder).ok()?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    Some(paths.iter().map(|path| Script::read(path)).collect())
}

#[test]
fn every_decision_is_compared() {
    let folder = folder();
    let Some(scripts) = scripts(&folder) else {
        assert!(env::var_os("ZIG_GOLDEN_DIR").is_none(), "ZIG_GOLDEN_DIR names no folder");
        return eprintln!("no ../shared/golden/zig beside the checkout: nothing compared");
    };
    assert!(!scripts.is_empty(), "the folder holds no script");
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    for script in &scripts {
        for (judge, replay) in judges(script) {
            let row = rows.entry((script.kind(), judge)).or_default();
            let watch = Watch(script);
            let outcome = replay(script);
            drop(watch);
            let seen = outcome.compared + outcome.exceptions.values().sum::<usize>();
            assert_eq!(seen, script.lines.len(), "{}: {judge} did not see every operation", script.name);
            row.files += 1;
            row.lines += script.lines.len();
            row.sum.add(outcome);
        }
    }
    print(&rows);
}

#[test]
fn a_small_block_is_resized_exactly_within_its_class() {
    for (kind, count) in smp::every_length() {
        println!("smp: {count} resizes {kind}");
    }
}

fn print(rows: &BTreeMap<(&str, &str), Row>) {
    println!(
        "{:<14} {:<24} {:>5} {:>6} {:>8} {:>6} {:>5}",
        "stack", "allocator", "files", "lines", "compared", "beyond", "moved"
    );
    for ((stack, judge), Row { files, lines, sum }) in rows {
        let Outcome { compared, beyond, moved, .. } = sum;
        println!("{stack:<14} {judge:<24} {files:>5} {lines:>6} {compared:>8} {beyond:>6} {moved:>5}");
        for (reason, count) in &sum.differences {
            println!("{:<14} {count} decided otherwise: {reason}", "");
        }
        for (reason, count) in &sum.exceptions {
            println!("{:<14} {count} excepted: {reason}", "");
        }
        for held in &sum.most_held {
            println!("{:<14} {:.3} of the most bytes that Zig's holds: {}", "", held.ratio(), held.name);
        }
    }
    let all = rows.values().flat_map(|row| &row.sum.most_held);
    let ratios: Vec<f64> = all.filter(|held| held.zigs >= ENOUGH_BYTES).map(MostHeld::ratio).collect();
    if !ratios.is_empty() {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        let count = ratios.len();
        println!(
            "{mean:.3} of Zig's most bytes held, by the geometric mean of {count} scripts of {ENOUGH_BYTES} bytes"
        );
        assert!(mean <= 1.0 || count < ENOUGH_SCRIPTS, "more is held than by Zig's");
    }
}
