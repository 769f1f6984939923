//! `PageAllocator` grants all that Zig's page allocator grants, and may grant more.
//!
//! The decisions of Zig 0.16 are in `../shared/golden/zig/page-*.txt`, beside the checkout, in the format
//! that the README there describes. Where they are missing there is nothing to compare.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{collections::HashMap, fs, path::Path};

use terrace_core::{Alignment, Allocator};
use terrace_sys::{PageAllocator, page_size};

type Live = HashMap<u32, (NonNull<[u8]>, Alignment)>;

fn bytes(len: &str) -> NonZeroUsize {
    len.parse().unwrap()
}

fn free((memory, alignment): (NonNull<[u8]>, Alignment)) {
    // SAFETY: it was live, and is in no table any more.
    unsafe { PageAllocator.free(memory, alignment) };
}

/// Our decision in Zig's words: what was granted has been done.
fn decide(op: &[&str], live: &mut Live) -> String {
    let id = op.get(1).map_or(0, |id| id.parse().unwrap());
    match op[0] {
        "a" => {
            let (len, alignment) = (bytes(op[2]), Alignment::from_log2(op[3].parse().unwrap()).unwrap());
            let Ok(start) = PageAllocator.alloc(len, alignment) else { return "null".into() };
            assert!(alignment.is_aligned(start.addr().get()));
            live.insert(id, (NonNull::slice_from_raw_parts(start, len.get()), alignment));
            "ok".into()
        }
        "r" => {
            let (memory, alignment) = live[&id];
            // SAFETY: live, with its alignment.
            let granted = unsafe { PageAllocator.resize(memory, alignment, bytes(op[2])) };
            if granted {
                live.insert(id, (NonNull::slice_from_raw_parts(memory.cast(), bytes(op[2]).get()), alignment));
            }
            granted.to_string()
        }
        "m" => {
            let (memory, alignment) = live[&id];
            // SAFETY: live, with its alignment.
            let Some(start) = (unsafe { PageAllocator.remap(memory, alignment, bytes(op[2])) }) else {
                return "null".into();
            };
            live.insert(id, (NonNull::slice_from_raw_parts(start, bytes(op[2]).get()), alignment));
            if start == memory.cast() { "same".into() } else { "ok".into() }
        }
        "f" => {
            free(live.remove(&id).unwrap());
            "ok".into()
        }
        "q" => format!("live={}", live.len()),
        "d" => {
            live.drain().for_each(|(_, block)| free(block));
            "ok".into()
        }
        other => panic!("an operation that the README does not name: {other}"),
    }
}

/// Whether our decision is Zig's or better.
fn as_good(ours: &str, zigs: &str) -> bool {
    ours == zigs || matches!((ours, zigs), ("true", "false") | ("same", "ok") | ("ok" | "same", "null"))
}

/// Replays a file; returns how many decisions were compared.
fn replay(text: &str) -> usize {
    let mut live = Live::new();
    let mut compared = 0;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| line.contains(" -> ")) {
        let (op, zigs) = line.split_once(" -> ").unwrap();
        let op: Vec<&str> = op.split_whitespace().collect();
        let before = op.get(1).and_then(|id| live.get(&id.parse().unwrap()).copied());
        let ours = decide(&op, &mut live);
        assert!(as_good(&ours, zigs), "line {}: {line}, but ours: {ours}", at + 1);
        compared += 1;
        if ours != zigs && matches!(zigs, "null" | "false") {
            undo(&op, before, &mut live);
        }
    }
    live.into_values().for_each(free);
    compared
}

/// Takes back what Zig refused and we granted, so that the script goes on from Zig's state.
fn undo(op: &[&str], before: Option<(NonNull<[u8]>, Alignment)>, live: &mut Live) {
    let id = op[1].parse().unwrap();
    let (granted, alignment) = live.remove(&id).unwrap();
    let Some((old, _)) = before else { return free((granted, alignment)) };
    let old_len = NonZeroUsize::new(old.len()).unwrap();
    // SAFETY: live, with its alignment.
    let restored = unsafe { PageAllocator.resize(granted, alignment, old_len) };
    let start = if restored {
        granted.cast()
    } else {
        // A shrink was granted, and the pages that it gave back are another's now.
        free((granted, alignment));
        PageAllocator.alloc(old_len, alignment).expect("as much as before")
    };
    live.insert(id, (NonNull::slice_from_raw_parts(start, old.len()), alignment));
}

#[test]
fn what_zig_grants_is_granted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/zig");
    let Ok(entries) = fs::read_dir(folder) else {
        return eprintln!("no ../shared/golden/zig beside the checkout: nothing compared");
    };
    if page_size() != 4096 {
        return eprintln!("the decisions are those of pages of 4096 bytes: nothing compared");
    }
    let scripts = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("page-") && name.ends_with(".txt")
    });
    let compared: Vec<usize> = scripts.map(|path| replay(&fs::read_to_string(path).unwrap())).collect();
    assert_eq!(compared.len(), 6, "each of the six scripts was replayed");
    assert!(compared.iter().all(|&decisions| decisions > 200), "{compared:?}");
}
