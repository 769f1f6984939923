//! A kernel's first minute, without std: from what the firmware says of memory to a heap.
//!
//! ```console
//! $ cargo run --manifest-path examples/no_std/Cargo.toml --bin kernel_boot
//! map     3342 frames in 2 ranges
//! frames  3342 free, metadata at most 1792 of 16384 boot bytes
//! numbers table 0x1000, dma 0x40000, large 0x400000
//! heap    init idle pager, 2601 free beside a buffer
//! end     3342 of 3342 frames free
//! ```
//!
//! ```text
//!  1 memory map    usable, firmware, usable, kernel, usable, tables     what is reserved wins
//!  2 boot arena    16 KiB of the kernel's image
//!  3 metadata            └─ a bit a frame ──┐
//!  4 frames        HybridAllocator ─────────┘  numbers: page tables, DMA, 2 MiB pages
//!  5 region        frames as bytes, where the kernel has them mapped
//!  6 heap          SmpAllocator over the region: blocks of any size
//! ```
//!
//! Each step stands on the one before and on nothing else. The machine here has 16 MiB, which are a static of this
//! program: its first byte is what physical address 0 is mapped to. What the program borrows from outside is in
//! `no_std/src/outside.rs`.
#![no_std]
#![no_main]

#[path = "no_std/src/outside.rs"]
mod outside;

use core::{
    ffi::c_int,
    fmt::Write,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use outside::Stdout;
use terrace_core::AllocatorExt;
use terrace_frame::{
    Frame, FrameAllocator, Frames, HybridAllocator, MapEntry, MemoryMap, Order, PageSize, Region, Request,
};
use terrace_heap::{SmpAllocator, SyncArena, SyncFixedBuffer};
use terrace_sync::NoSlots;

const RAM_BYTES: usize = 16 << 20;
const BOOT_BYTES: usize = 16 << 10;

/// The machine's memory, mapped so that 2 MiB of it are 2 MiB of a page table.
#[repr(align(0x20_0000))]
struct Ram(#[expect(dead_code, reason = "reached through the region alone")] [MaybeUninit<u8>; RAM_BYTES]);

static mut RAM: Ram = Ram([const { MaybeUninit::uninit() }; RAM_BYTES]);

/// A part of the kernel's image, for what is needed before there are frames.
static mut BOOT: [MaybeUninit<u8>; BOOT_BYTES] = [const { MaybeUninit::uninit() }; BOOT_BYTES];

/// What firmware and loader say, in no order, as they do.
const FIRMWARE_SAYS: [MapEntry; 6] = [
    MapEntry::usable(0x10_0000, 0xef_0000),
    MapEntry::usable(0, 0x9_fc00),
    MapEntry::reserved(0, 0x1000),            // the interrupt vectors of old
    MapEntry::reserved(0x9_fc00, 0x6_0400),   // the firmware's own
    MapEntry::reserved(0x10_0000, 0x28_0000), // this kernel
    MapEntry::reserved(0xff_0000, 0x1_0000),  // tables that tell of the machine
];

/// What a step could not do.
struct Failed(&'static str);

/// The kernel's image, the part that boot may use, and where physical address 0 is mapped: once.
fn take_machine() -> Option<(&'static mut [MaybeUninit<u8>], NonNull<u8>)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    let (boot, ram) = (&raw mut BOOT, &raw mut RAM);
    // SAFETY: TAKEN lets one caller through, ever, and nobody else names BOOT.
    let boot = unsafe { &mut *boot };
    Some((boot, NonNull::new(ram.cast())?))
}

fn boot(out: &mut impl Write) -> Result<(), Failed> {
    let (boot, ram) = take_machine().ok_or(Failed("the machine is taken"))?;

    let map = MemoryMap::new(&FIRMWARE_SAYS).map_err(|_| Failed("the memory map"))?;
    let _ = writeln!(out, "map     {} frames in {} ranges", map.count(), map.ranges().len());

    let fixed = SyncFixedBuffer::new(boot);
    let arena = SyncArena::new(&fixed);
    let frames = HybridAllocator::new_in(&map, NoSlots, &arena).map_err(|_| Failed("the metadata"))?;
    let most = HybridAllocator::metadata_bytes(map.span().count, 0);
    let _ = writeln!(out, "frames  {} free, metadata at most {most} of {BOOT_BYTES} boot bytes", frames.free_frames());

    // What a kernel needs frames for, as numbers: a root page table, a buffer for an old device, a large page.
    let table = frames.alloc_order(Order::MIN).map_err(|_| Failed("a page table"))?;
    let old_device = Request::frames(16).aligned(16).within(Frames::new(0, 0x100));
    let dma = frames.alloc(&old_device).map_err(|_| Failed("a DMA buffer"))?;
    let large = frames.alloc_order(PageSize::Large.order()).map_err(|_| Failed("a large page"))?;
    if frames.manages(Frames { start: Frame(0x100), count: 1 }) || large.0 % PageSize::Large.order().frames() != 0 {
        return Err(Failed("the kernel was handed out, or a large page across two"));
    }
    let _ = writeln!(out, "numbers table {:#x}, dma {:#x}, large {:#x}", at(table), at(dma.start), at(large));

    // SAFETY: the map lies in RAM.
    let first = unsafe { ram.add(at(map.span().start) as usize) };
    // SAFETY: RAM is mapped and nobody else's, from the map's first frame to its last; `take_machine` gave it out once.
    let region = unsafe { Region::new(first, &frames) }.map_err(|_| Failed("the region"))?;
    let heap = SmpAllocator::<_, _, 0x1_0000>::with_region_size(region, NoSlots);
    let names = ["init", "idle", "pager"].map(|name| heap.dupe(name.as_bytes()));
    let buffer = heap.alloc_slice::<u64>(100_000).map_err(|_| Failed("a buffer of 800 KB"))?;
    if heap.alloc_slice::<u8>(RAM_BYTES).is_ok() {
        return Err(Failed("more than there is was handed out"));
    }
    let _ = write!(out, "heap   ");
    for name in names {
        let name = name.map_err(|_| Failed("a name"))?;
        // SAFETY: the bytes of a `str` above, copied; live until they are freed below.
        let text = unsafe { name.as_ref() };
        let _ = write!(out, " {}", core::str::from_utf8(text).map_err(|_| Failed("a name's bytes"))?);
        // SAFETY: live, of this heap, not used again.
        unsafe { heap.free_slice(name) };
    }
    let _ = writeln!(out, ", {} free beside a buffer", frames.free_frames());

    // SAFETY: live, of this heap, not used again.
    unsafe { heap.free_slice(buffer) };
    drop(heap);
    for run in [Frames::new(table.0, 1), dma, Frames::of_order(large, PageSize::Large.order())] {
        frames.free(run).map_err(|_| Failed("a run that came back"))?;
    }
    let _ = writeln!(out, "end     {} of {} frames free", frames.free_frames(), frames.total_frames());
    Ok(())
}

/// A frame's address.
fn at(frame: Frame) -> u64 {
    frame.address().0
}

/// Where C's start-up code goes, in place of a loader.
// SAFETY: no other `main` is linked, and this one has C's signature, arguments left out.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> c_int {
    match boot(&mut Stdout) {
        Ok(()) => 0,
        Err(Failed(step)) => {
            let _ = writeln!(Stdout, "boot failed: {step}");
            1
        }
    }
}
