//! Stack `typed-fba`: the typed layer over the fixed buffer, with results, fills and the requests that reach it.

use std::{collections::HashMap, mem::MaybeUninit, ptr::NonNull};

use terrace_core::{Alignment, AllocError, AllocatorExt, Owns};
use terrace_heap::FixedBufferAllocator;

use crate::{
    ground::Ground,
    record::{Names, Recorder},
    script::{Line, Outcome, Script},
};

type Fixed<'a> = Recorder<FixedBufferAllocator<'a>>;
type Slice = (NonNull<u8>, usize);

/// The typed layer for one of the scripts' types.
struct Kind {
    size: usize,
    alloc: fn(&Fixed<'_>, usize) -> Result<Slice, AllocError>,
    alloc_sentinel: fn(&Fixed<'_>, usize) -> Result<Slice, AllocError>,
    resize: unsafe fn(&Fixed<'_>, Slice, usize) -> bool,
    remap: unsafe fn(&Fixed<'_>, Slice, usize) -> Option<Slice>,
    realloc: unsafe fn(&Fixed<'_>, Slice, usize) -> Result<Slice, AllocError>,
    free: unsafe fn(&Fixed<'_>, Slice, MadeBy),
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

/// A script under way, as this crate decides.
struct Replay<'a> {
    fixed: Fixed<'a>,
    live: HashMap<u32, Live>,
}

impl Replay<'_> {
    /// `decision | requests`
    fn answer(&mut self, line: &Line) -> String {
        let (id, kind) = (|| line.id(), || kind_of(&line.op[2]));
        let decision = match line.op[0].as_str() {
            "q" => self.fixed.backing().end_index().to_string(),
            "A" => self.make(id(), kind(), line.number_at(3), MadeBy::Alloc),
            "C" => self.make(id(), kind(), 1, MadeBy::Create),
            "S" => self.make(id(), kind(), line.number_at(3), MadeBy::Sentinel),
            "R" => self.resize(id(), line.number_at(2)),
            "M" => self.remap(id(), line.number_at(2)),
            "L" => self.realloc(id(), line.number_at(2)),
            "F" => self.free(id()),
            other => panic!("an operation that the README does not name: {other}"),
        };
        self.fixed.with_requests(decision)
    }

    fn make(&mut self, id: u32, kind: Kind, n: usize, made_by: MadeBy) -> String {
        let made = match made_by {
            MadeBy::Alloc => (kind.alloc)(&self.fixed, n),
            MadeBy::Create => create(&self.fixed, &kind),
            MadeBy::Sentinel => (kind.alloc_sentinel)(&self.fixed, n),
        };
        let Ok(slice) = made else { return "OutOfMemory".to_string() };
        let len = kind.size * n;
        let shown = match made_by {
            MadeBy::Sentinel => {
                let end = bytes(slice.0, len, kind.size).iter().map(|byte| *byte as usize).sum::<usize>();
                format!("{} end={end}", self.address(slice.0))
            }
            _ if len == 0 => "dangling".to_string(),
            _ => format!("{} fill={}", self.address(slice.0), contents(slice.0, len)),
        };
        let old = self.live.insert(id, Live { kind, slice, made_by });
        assert!(old.is_none(), "the scripts reuse dead ids only");
        shown
    }

    fn resize(&mut self, id: u32, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let granted = unsafe { (live.kind.resize)(&self.fixed, old, n) };
        let shown = granted.to_string() + &fate(old.0, old_len, live.kind.size.saturating_mul(n), granted && n == 0);
        if granted {
            self.live.get_mut(&id).unwrap().slice.1 = n;
        }
        shown
    }

    fn remap(&mut self, id: u32, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let new = unsafe { (live.kind.remap)(&self.fixed, old, n) };
        let fate = fate(old.0, old_len, live.kind.size.saturating_mul(n), new.is_some() && n == 0);
        let Some(new) = new else { return format!("null{fate}") };
        self.live.get_mut(&id).unwrap().slice = new;
        self.address(new.0) + &fate
    }

    fn realloc(&mut self, id: u32, n: usize) -> String {
        let live = &self.live[&id];
        live.fill();
        let (old, old_len) = (live.slice, live.len());
        // SAFETY: a live slice, made by `alloc` of the same kind.
        let new = unsafe { (live.kind.realloc)(&self.fixed, old, n) };
        let new_len = live.kind.size.saturating_mul(n);
        let Ok(new) = new else { return "OutOfMemory".to_string() + &fate(old.0, old_len, old_len, false) };
        let shown = match (old_len, new_len) {
            (0, 0) => "dangling".to_string(),
            (0, _) => format!("{} fill={}", self.address(new.0), contents(new.0, new_len)),
            (_, 0) => format!("dangling{}", fate(old.0, old_len, 0, true)),
            _ => {
                let data = fate(new.0, old_len, new_len, false);
                let moved = if new.0 == old.0 { String::new() } else { fate(old.0, old_len, 0, true) };
                format!("{}{data}{moved}", self.address(new.0))
            }
        };
        self.live.get_mut(&id).unwrap().slice = new;
        shown
    }

    fn free(&mut self, id: u32) -> String {
        let live = self.live.remove(&id).unwrap();
        live.fill();
        // SAFETY: a live slice, made as `made_by` says.
        unsafe { (live.kind.free)(&self.fixed, live.slice, live.made_by) };
        format!("ok{}", fate(live.slice.0, live.len(), 0, true))
    }

    fn address(&self, pointer: NonNull<u8>) -> String {
        let lies_in_the_buffer = self.fixed.backing().owns(pointer);
        if lies_in_the_buffer { self.fixed.name(pointer) } else { "dangling".to_string() }
    }
}

/// What became of the pattern at `start`: of `old_len` bytes, all given back or the first `new_len` kept.
fn fate(start: NonNull<u8>, old_len: usize, new_len: usize, given_back: bool) -> String {
    if old_len == 0 {
        return String::new();
    }
    if given_back {
        return format!(" old={}", contents(start, old_len));
    }
    let bytes = bytes(start, 0, old_len.min(new_len));
    let kept = bytes.iter().enumerate().all(|(at, byte)| *byte == Live::pattern(at));
    format!(" data={}", if kept { "ok" } else { "lost" })
}

fn contents(start: NonNull<u8>, len: usize) -> &'static str {
    let bytes = bytes(start, 0, len);
    if bytes.iter().all(|byte| *byte == 0xAA) {
        "aa"
    } else if bytes.iter().enumerate().all(|(at, byte)| *byte == Live::pattern(at)) {
        "kept"
    } else {
        "other"
    }
}

/// The bytes `skip` after `start`, whoever they belong to: freed ones can still be looked at.
fn bytes(start: NonNull<u8>, skip: usize, len: usize) -> Vec<u8> {
    // SAFETY: inside the buffer, as the block is or was.
    let start = unsafe { start.add(skip) };
    // SAFETY: initialised by `Ground`, and no reference to them lives while the test looks.
    unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() }.to_vec()
}

/// `create` knows its type only; the kind's size and alignment name it.
fn create(fixed: &Fixed<'_>, kind: &Kind) -> Result<Slice, AllocError> {
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

pub fn replay(script: &Script) -> Outcome {
    let mut ground = Ground::new(script.parameter(1), script.parameter(2));
    let names = Names::Offsets { origin: ground.origin(), prefix: "" };
    let fixed = Recorder::new(FixedBufferAllocator::new(ground.buffer()), names);
    let mut replay = Replay { fixed, live: HashMap::new() };
    for line in script.each() {
        assert_eq!(comparable(&replay.answer(line)), comparable(&line.answer), "at {}", script.place(line));
    }
    Outcome { compared: script.lines.len(), ..Outcome::default() }
}
