//! Buffer first: its contract, and the decisions of Zig's `stackFallback`.

mod support;

use std::{cell::RefCell, fs, mem::MaybeUninit, path::Path, ptr::NonNull};

use proptest::prelude::*;
use support::{Ground, Op, Shadow, align, len, ops, slice};
use terrace_core::{Alignment, Allocator, Owns, Reset, ResetMode, SystemAllocator};
use terrace_heap::{ArenaAllocator, BufferFirstAllocator, Call, CallOp, FixedBufferAllocator, LogAllocator};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The buffer's start and length are swept too: what fits depends on them.
    #[test]
    fn random_programs_keep_the_contract(
        program in ops(3000), size in 0usize..4000, offset in 0usize..64, roomy in any::<bool>(), refuse in 0usize..12,
    ) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let mut bytes = vec![MaybeUninit::uninit(); size + 64];
        let first = BufferFirstAllocator::new(&mut bytes[offset..offset + size], &ground);
        let mut shadow = Shadow::default();
        for op in &program {
            let before = (first.end_index(), ground.held(), shadow.live.len());
            shadow.step(&first, op);
            if matches!(op, Op::Alloc { .. }) && shadow.live.len() == before.2 {
                prop_assert_eq!((first.end_index(), ground.held()), (before.0, before.1), "a refusal changed something");
            }
            let outside = shadow.live.iter().filter(|block| !first.in_buffer(block.memory.cast()));
            prop_assert_eq!(outside.clone().count(), ground.blocks());
            prop_assert_eq!(outside.map(|block| block.memory.len()).sum::<usize>(), ground.held());
        }
        shadow.free_all(&first);
        prop_assert_eq!(ground.blocks(), 0);
    }
}

#[test]
fn a_block_in_the_buffer_that_cannot_grow_does_not_ask_the_backing() {
    let ground = Ground::roomy();
    let mut bytes = [MaybeUninit::uninit(); 32];
    let first = BufferFirstAllocator::new(&mut bytes, &ground);
    let block = first.alloc(len(20), align(1)).unwrap();
    // SAFETY: live, of this allocator.
    assert!(unsafe { !first.resize(slice(block, 20), align(1), len(33)) });
    // SAFETY: live, of this allocator.
    assert!(unsafe { first.remap(slice(block, 20), align(1), len(33)) }.is_none());
    assert_eq!((ground.allocs.get(), ground.resizes.get()), (0, 0));
}

#[test]
fn a_reset_empties_both() {
    let ground = Ground::default();
    let mut bytes = [MaybeUninit::uninit(); 64];
    let mut first = BufferFirstAllocator::new(&mut bytes, ArenaAllocator::new(&ground));
    first.alloc(len(64), align(1)).unwrap();
    let behind = first.alloc(len(64), align(1)).unwrap();
    assert!(first.owns(behind) && !first.in_buffer(behind));
    assert!(first.reset(ResetMode::FreeAll));
    assert_eq!((first.end_index(), ground.blocks()), (0, 0));
}

#[test]
fn a_vector_outgrows_the_buffer() {
    let mut bytes = [MaybeUninit::uninit(); 256];
    let first = BufferFirstAllocator::new(&mut bytes, SystemAllocator);
    let mut numbers = allocator_api2_02::vec::Vec::new_in(&first);
    for n in 0..1000u32 {
        numbers.push(n);
        let inside = first.in_buffer(NonNull::new(numbers.as_mut_ptr()).unwrap().cast());
        assert!(!inside || numbers.capacity() <= 64);
    }
    assert_eq!(numbers.iter().sum::<u32>(), 499_500);
}

/// A piece of memory that begins `mis` bytes past a multiple of 64 KiB.
struct Aligned {
    bytes: Vec<MaybeUninit<u8>>,
    mis: usize,
    size: usize,
}

impl Aligned {
    fn new(size: usize, mis: usize) -> Self {
        Self { bytes: vec![MaybeUninit::uninit(); size + mis + 65536], mis, size }
    }

    fn buffer(&mut self) -> &mut [MaybeUninit<u8>] {
        let start = (self.bytes.as_ptr().addr().next_multiple_of(65536) - self.bytes.as_ptr().addr()) + self.mis;
        &mut self.bytes[start..start + self.size]
    }
}

/// Where `address` lies, as the files say it.
fn place(address: NonNull<u8>, buffer: usize, buffer_len: usize, fallback: usize) -> String {
    let address = address.addr().get();
    match address.wrapping_sub(buffer) {
        offset if offset < buffer_len => format!("buf+{offset}"),
        _ => format!("fb+{}", address - fallback),
    }
}

/// A request to the fallback, as the files write it.
fn request(op: &CallOp, name: impl Fn(NonNull<u8>) -> String) -> String {
    let block = |memory: NonNull<[u8]>, alignment: Alignment| {
        format!("{} {} {}", name(memory.cast()), memory.len(), alignment.log2())
    };
    match *op {
        CallOp::Alloc { len, alignment, result, .. } => {
            format!("alloc {len} {} = {}", alignment.log2(), result.map_or("null".into(), &name))
        }
        CallOp::Resize { memory, alignment, new_len, granted } => {
            format!("resize {} {new_len} = {granted}", block(memory, alignment))
        }
        CallOp::Remap { memory, alignment, new_len, result } => {
            format!("remap {} {new_len} = {}", block(memory, alignment), result.map_or("null".into(), &name))
        }
        CallOp::Free { memory, alignment } => format!("free {}", block(memory, alignment)),
        CallOp::Reset { .. } => unreachable!("nothing resets"),
    }
}

fn replay(path: &Path, text: &str) -> usize {
    let stack: Vec<&str> = text.lines().nth(1).unwrap().split(' ').collect();
    let ["stack", "stackfallback", size, fallback_size, mis] = stack[..] else { panic!("{stack:?}") };
    let mut buffer_memory = Aligned::new(size.parse().unwrap(), mis.parse().unwrap());
    let mut fallback_memory = Aligned::new(fallback_size.parse().unwrap(), 0);
    let (buffer, fallback) = (buffer_memory.buffer(), fallback_memory.buffer());
    let (start, size, behind) = (buffer.as_ptr().addr(), buffer.len(), fallback.as_ptr().addr());
    let name = |address| place(address, start, size, behind);
    let requests = RefCell::new(Vec::new());
    let backing = FixedBufferAllocator::new(fallback);
    let logged = LogAllocator::new(&backing, |call: &Call| requests.borrow_mut().push(request(&call.op, name)));
    let first = BufferFirstAllocator::new(buffer, &logged);
    let mut live: Vec<Option<(NonNull<[u8]>, Alignment)>> = vec![None; 1000];
    let mut compared = 0;
    for (number, line) in text.lines().enumerate().skip(3) {
        let (op, expected) = line.split_once(" -> ").unwrap();
        let words: Vec<&str> = op.split(' ').collect();
        let number_at = |at: usize| words[at].parse::<usize>().unwrap();
        let decision = match words[0] {
            "a" => {
                let alignment = Alignment::from_log2(words[3].parse().unwrap()).unwrap();
                let block = first.alloc(len(number_at(2)), alignment);
                live[number_at(1)] = block.ok().map(|block| (slice(block, number_at(2)), alignment));
                block.map_or("null".into(), name)
            }
            "q" => format!("buf={} fb={}", first.end_index(), backing.end_index()),
            "f" => {
                let (memory, alignment) = live[number_at(1)].take().unwrap();
                // SAFETY: live, and not used again.
                unsafe { first.free(memory, alignment) };
                "ok".into()
            }
            "r" | "m" => {
                let (memory, alignment) = live[number_at(1)].unwrap();
                let new = len(number_at(2));
                let (moved, decision) = if words[0] == "r" {
                    // SAFETY: live, of this allocator.
                    let granted = unsafe { first.resize(memory, alignment, new) };
                    (granted.then_some(memory.cast()), granted.to_string())
                } else {
                    // SAFETY: live, of this allocator.
                    let moved = unsafe { first.remap(memory, alignment, new) };
                    (moved, moved.map_or("null".into(), name))
                };
                if let Some(block) = moved {
                    live[number_at(1)] = Some((slice(block, new.get()), alignment));
                }
                decision
            }
            other => panic!("{}:{}: an unknown op {other}", path.display(), number + 1),
        };
        let asked = requests.take();
        let got = if asked.is_empty() { decision } else { format!("{decision} | {}", asked.join("; ")) };
        assert_eq!(got, expected, "{}:{}: {op}", path.display(), number + 1);
        compared += 1;
    }
    compared
}

#[test]
fn every_decision_is_zigs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/zig");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let mut compared = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.file_name().unwrap().to_string_lossy().starts_with("stackfallback") {
            compared += replay(&path, &fs::read_to_string(&path).unwrap());
        }
    }
    println!("{compared} decisions compared");
    assert!(compared > 1000);
}
