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
#[path = "zig_golden/typed.rs"]
mod typed;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use script::{Outcome, Script};

/// Who judges the scripts of a stack.
type Judges = &'static [(&'static str, fn(&Script) -> Outcome)];

fn judges(stack: &str) -> Judges {
    match stack {
        "fba" => &[("FixedBufferAllocator", fixed::local), ("SyncFixedBuffer", fixed::sync)],
        "typed-fba" => &[("typed layer", typed::replay)],
        "arena-fba" | "arena-page" => &[("SyncArena", arena::replay), ("ArenaAllocator, by law", law::replay)],
        "page" => &[("PageAllocator", page::replay)],
        "pool-fba" => &[("PoolAllocator, by law", pool::replay)],
        "stackfallback" => &[("BufferFirstAllocator", buffer_first::replay)],
        "smp" => &[("(none)", |script| Outcome::excepted(script, "the allocator is not there yet"))],
        other => panic!("a stack without a judge: {other}"),
    }
}

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
        for (judge, replay) in judges(script.kind()) {
            let row = rows.entry((script.kind(), judge)).or_default();
            let outcome = replay(script);
            let seen = outcome.compared + outcome.exceptions.values().sum::<usize>();
            assert_eq!(seen, script.lines.len(), "{}: {judge} did not see every operation", script.name);
            row.files += 1;
            row.lines += script.lines.len();
            row.sum.add(outcome);
        }
    }
    print(&rows);
}

fn print(rows: &BTreeMap<(&str, &str), Row>) {
    println!(
        "{:<14} {:<22} {:>5} {:>5} {:>8} {:>6} {:>5}",
        "stack", "allocator", "files", "lines", "compared", "beyond", "moved"
    );
    for ((stack, judge), Row { files, lines, sum }) in rows {
        let Outcome { compared, beyond, moved, .. } = sum;
        println!("{stack:<14} {judge:<22} {files:>5} {lines:>5} {compared:>8} {beyond:>6} {moved:>5}");
        for (reason, count) in &sum.exceptions {
            println!("{:<14} {count} excepted: {reason}", "");
        }
        for (name, ratio) in &sum.ratios {
            println!("{:<14} {ratio:.3} of the most bytes that Zig's holds: {name}", "");
        }
    }
    let ratios: Vec<f64> = rows.values().flat_map(|row| row.sum.ratios.iter().map(|(_, ratio)| *ratio)).collect();
    if !ratios.is_empty() {
        let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
        println!("{mean:.3} of Zig's most bytes held, by the geometric mean of {} scripts", ratios.len());
        assert!(mean <= 1.0, "more is held than by Zig's");
    }
}
