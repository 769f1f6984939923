//! The typed layer against Zig's: every script of `../shared/golden/zig/typed-fba-*.txt`, line by line, with
//! results, fills and the requests that reached the allocator. Without those files the test says so and passes.

use std::{collections::HashMap, fs, mem::MaybeUninit, path::Path, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator, AllocatorExt};

use crate::fixed::Fixed;

type Slice = (NonNull<u8>, usize);

/// The typed layer for one of the scripts' types.
struct Kind {
    size: usize,
    alloc: fn(&Fixed, usize) -> Result<Slice, AllocError>,
    alloc_sentinel: fn(&Fixed, usize) -> Result<Slice, AllocError>,
    resize: unsafe fn(&Fixed, Slice, usize) -> bool,
    remap: unsafe fn(&Fixed, Slice, usize) -> Option<Slice>,
    realloc: unsafe fn(&Fixed, Slice, usize) -> Result<Slice, AllocError>,
    free: unsafe fn(&Fixed, Slice, MadeBy),
}

#[derive(Clone, Copy, PartialEq)]
enum MadeBy {
    Alloc,
    Create,
    Sentinel,
}

fn slice<T>(slice: Slice) -> NonNull<[T]> {
    NonNull::slice_from_raw_parts(slice.0.cast(), slice.1)
}

fn parts<T>(slice: NonNull<[T]>) -> Slice {
    (slice.cast(), slice.len())
}

/// `T` with its own alignment.
fn plain<T: Copy>() -> Kind {
    Kind {
        size: size_of::<T>(),
        alloc: |fixed, n| fixed.alloc_slice::<T>(n).map(parts),
        alloc_sentinel: |fixed, n| {
            // SAFETY: the scripts' types are integers and arrays of them, for which all zero is a value.
            let zero = unsafe { MaybeUninit::<T>::zeroed().assume_init() };
            fixed.alloc_slice_sentinel::<T>(n, zero).map(parts)
        },
        // SAFETY: (of all five) `run` passes live slices, made by the function that `MadeBy` names.
        resize: |fixed, old, n| unsafe { fixed.resize_slice::<T>(slice(old), n) },
        // SAFETY: as above.
        remap: |fixed, old, n| unsafe { fixed.remap_slice::<T>(slice(old), n) }.map(parts),
        // SAFETY: as above.
        realloc: |fixed, old, n| unsafe { fixed.realloc_slice::<T>(slice(old), n) }.map(parts),
        free: |fixed, old, made_by| match made_by {
            // SAFETY: as above.
            MadeBy::Alloc => unsafe { fixed.free_slice::<T>(slice(old)) },
            // SAFETY: as above.
            MadeBy::Create => unsafe { fixed.destroy::<T>(old.0.cast()) },
            // SAFETY: as above.
            MadeBy::Sentinel => unsafe { fixed.free_slice_sentinel::<T>(slice(old)) },
        },
    }
}

/// `T` aligned to `BYTES`.
fn aligned<T: Copy, const BYTES: usize>() -> Kind {
    const fn alignment<const BYTES: usize>() -> Alignment {
        Alignment::new(BYTES).unwrap()
    }
    Kind {
        alloc: |fixed, n| fixed.alloc_slice_aligned::<T>(n, alignment::<BYTES>()).map(parts),
        // SAFETY: as in `plain`, and the alignment is the one of `alloc`.
        resize: |fixed, old, n| unsafe { fixed.resize_slice_aligned::<T>(slice(old), alignment::<BYTES>(), n) },
        remap: |fixed, old, n| {
            // SAFETY: as above.
            unsafe { fixed.remap_slice_aligned::<T>(slice(old), alignment::<BYTES>(), n) }.map(parts)
        },
        realloc: |fixed, old, n| {
            // SAFETY: as above.
            unsafe { fixed.realloc_slice_aligned::<T>(slice(old), alignment::<BYTES>(), n) }.map(parts)
        },
        // SAFETY: as above.
        free: |fixed, old, _| unsafe { fixed.free_slice_aligned::<T>(slice(old), alignment::<BYTES>()) },
        ..plain::<T>()
    }
}

fn kind_of(name: &str) -> Kind {
    match name {
        "void" => plain::<()>(),
        "u8" => plain::<u8>(),
        "u16" => plain::<u16>(),
        "u32" => plain::<u32>(),
        "u64" => plain::<u64>(),
        "u128" => plain::<u128>(),
        "3xu8" => plain::<[u8; 3]>(),
        "5xu32" => plain::<[u32; 5]>(),
        "u8a16" => aligned::<u8, 16>(),
        "u32a64" => aligned::<u32, 64>(),
        _ => panic!("a type that this test does not know: {name}"),
    }
}

struct Live {
    kind: Kind,
    slice: Slice,
    made_by: MadeBy,
}

impl Live {
    fn len(&self) -> usize {
        self.kind.size * self.slice.1
    }

    /// A value for byte `at` that is never 0xAA, since it is odd.
    fn pattern(at: usize) -> u8 {
        (at * 7) as u8 | 1
    }

    fn fill(&self) {
        for at in 0..self.len() {
            // SAFETY: inside the live slice.
            let byte = unsafe { self.slice.0.add(at) };
            // SAFETY: as above.
            unsafe { byte.write(Self::pattern(at)) };
        }
    }
}

/// `op -> decision | requests` of one script, as this crate decides.
struct Replay {
    fixed: Fixed,
    live: HashMap<usize, Live>,
}

impl Replay {
    fn line(&mut self, op: &str) -> String {
        let words: Vec<&str> = op.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number in the script");
        let decision = match words[0] {
            "q" => self.fixed.end().to_string(),
            "A" => self.make(number(1), kind_of(words[2]), number(3), MadeBy::Alloc),
            "C" => self.make(number(1), kind_of(words[2]), 1, MadeBy::Create),
            "S" => self.make(number(1), kind_of(words[2]), number(3), MadeBy::Sentinel),
            "R" => self.resize(number(1), number(2)),
            "M" => self.remap(number(1), number(2)),
            "L" => self.realloc(number(1), number(2)),
            "F" => self.free(number(1)),
            other => panic!("an operation that this test does not know: {other}"),
        };
        let requests = self.fixed.requests();
        let bar = if requests.is_empty() { "" } else { " | " };
        format!("{op} -> {decision}{bar}{}", requests.join("; "))
    }

    fn make(&mut self, id: usize, kind: Kind, n: usize, made_by: MadeBy) -> String {
        let made = match made_by {
            MadeBy::Alloc => (kind.alloc)(&self.fixed, n),
            MadeBy::Create => create(&self.fixed, &kind),
            MadeBy::Sentinel => (kind.alloc_sentinel)(&self.fixed, n),
        };
        let Ok(slice) = made else { return "OutOfMemory".to_string() };
        let len = kind.size * n;
        let shown = match made_by {
            MadeBy::Sentinel => {
                let end = self.bytes(slice.0, len, kind.size).iter().map(|byte| *byte as usize).sum::<usize>();
                format!("{} end={end}", self.address(slice.0))
            }
            _ if len == 0 => "dangling".to_string(),
            _ => format!("{} fill={}", self.address(slice.0), self.contents(slice.0, len)),
        };
        let old = self.live.insert(id, Live { kind, slice, made_by });
        assert!(old.is_none(), "the scripts reuse dead ids only");
        shown
    }

    fn resize(&mut self, id: usize, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let granted = unsafe { (live.kind.resize)(&self.fixed, old, n) };
        let shown =
            granted.to_string() + &self.fate(old.0, old_len, live.kind.size.saturating_mul(n), granted && n == 0);
        if granted {
            self.live.get_mut(&id).unwrap().slice.1 = n;
        }
        shown
    }

    fn remap(&mut self, id: usize, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let new = unsafe { (live.kind.remap)(&self.fixed, old, n) };
        let fate = self.fate(old.0, old_len, live.kind.size.saturating_mul(n), new.is_some() && n == 0);
        let Some(new) = new else { return format!("null{fate}") };
        self.live.get_mut(&id).unwrap().slice = new;
        self.address(new.0) + &fate
    }

    fn realloc(&mut self, id: usize, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let new = unsafe { (live.kind.realloc)(&self.fixed, old, n) };
        let new_len = live.kind.size.saturating_mul(n);
        let Ok(new) = new else { return "OutOfMemory".to_string() + &self.fate(old.0, old_len, old_len, false) };
        let shown = match (old_len, new_len) {
            (0, 0) => "dangling".to_string(),
            (0, _) => format!("{} fill={}", self.address(new.0), self.contents(new.0, new_len)),
            (_, 0) => format!("dangling{}", self.fate(old.0, old_len, 0, true)),
            _ => {
                let data = self.fate(new.0, old_len, new_len, false);
                let moved = if new.0 == old.0 { String::new() } else { self.fate(old.0, old_len, 0, true) };
                format!("{}{data}{moved}", self.address(new.0))
            }
        };
        self.live.get_mut(&id).unwrap().slice = new;
        shown
    }

    fn free(&mut self, id: usize) -> String {
        let live = self.live.remove(&id).unwrap();
        live.fill();
        // SAFETY: a live slice, made as `made_by` says.
        unsafe { (live.kind.free)(&self.fixed, live.slice, live.made_by) };
        format!("ok{}", self.fate(live.slice.0, live.len(), 0, true))
    }

    /// What became of the pattern at `start`: of `old_len` bytes, all given back or the first `new_len` kept.
    fn fate(&self, start: NonNull<u8>, old_len: usize, new_len: usize, given_back: bool) -> String {
        if old_len == 0 {
            return String::new();
        }
        if given_back {
            return format!(" old={}", self.contents(start, old_len));
        }
        let bytes = self.bytes(start, 0, old_len.min(new_len));
        let kept = bytes.iter().enumerate().all(|(at, byte)| *byte == Live::pattern(at));
        format!(" data={}", if kept { "ok" } else { "lost" })
    }

    fn contents(&self, start: NonNull<u8>, len: usize) -> &'static str {
        let bytes = self.bytes(start, 0, len);
        if bytes.iter().all(|byte| *byte == 0xAA) {
            "aa"
        } else if bytes.iter().enumerate().all(|(at, byte)| *byte == Live::pattern(at)) {
            "kept"
        } else {
            "other"
        }
    }

    fn bytes(&self, start: NonNull<u8>, skip: usize, len: usize) -> Vec<u8> {
        self.fixed.bytes(self.fixed.offset(start).expect("a block of the buffer") + skip, len)
    }

    fn address(&self, pointer: NonNull<u8>) -> String {
        self.fixed.offset(pointer).map_or("dangling".to_string(), |offset| offset.to_string())
    }
}

/// `create` knows its type only; the kind's size and alignment name it.
fn create(fixed: &Fixed, kind: &Kind) -> Result<Slice, AllocError> {
    fn item<T>(item: NonNull<T>) -> Slice {
        (item.cast(), 1)
    }
    match kind.size {
        0 => fixed.create::<()>().map(item),
        1 => fixed.create::<u8>().map(item),
        2 => fixed.create::<u16>().map(item),
        3 => fixed.create::<[u8; 3]>().map(item),
        4 => fixed.create::<u32>().map(item),
        8 => fixed.create::<u64>().map(item),
        16 => fixed.create::<u128>().map(item),
        20 => fixed.create::<[u32; 5]>().map(item),
        size => panic!("an item of {size} bytes that this test does not know"),
    }
}

/// Fills exist in builds with `debug_assertions` only; elsewhere those words are left out on both sides.
fn comparable(line: &str) -> String {
    let fill = |word: &&str| cfg!(debug_assertions) || !(word.starts_with("fill=") || word.starts_with("old="));
    line.split(' ').filter(fill).collect::<Vec<_>>().join(" ")
}

fn replay(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let stack: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(stack[..2], ["stack", "typed-fba"], "{path:?}");
    let fixed = Fixed::new(stack[2].parse().unwrap(), stack[3].parse().unwrap());
    let mut replay = Replay { fixed, live: HashMap::new() };
    let mut compared = 0;
    for golden in lines {
        let op = golden.split(" -> ").next().unwrap();
        assert_eq!(comparable(&replay.line(op)), comparable(golden), "operation {compared} of {path:?}");
        compared += 1;
    }
    compared
}

#[test]
fn every_decision_is_zigs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/zig");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("not compared: ../shared/golden/zig is not there");
        return;
    };
    let scripts: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("typed-fba-"))
        .collect();
    assert!(!scripts.is_empty(), "../shared/golden/zig is there, but no script of the typed layer");
    let compared: usize = scripts.iter().map(|path| replay(path)).sum();
    eprintln!("{compared} decisions of {} scripts compared", scripts.len());
    assert!(compared >= 100 * scripts.len(), "only {compared} decisions in {} scripts", scripts.len());
}

#[test]
fn the_buffer_of_this_test_is_an_allocator_too() {
    let fixed = Fixed::new(100, 3);
    let dynamic: &dyn Allocator = &fixed;
    let pair = dynamic.dupe(&[1u16, 2]).unwrap();
    assert_eq!(fixed.offset(pair.cast()), Some(1), "the first even address of a buffer at an odd one");
}
