//! A report on a machine's frames after some work: what is free and in which pieces, who holds what, what calls took.
//!
//! ```console
//! $ cargo run -p terrace-examples --example frames_report
//! ```
//!
//! 64 MiB with the hole of a PC below the first megabyte. A page cache reads and drops single frames at random, a
//! network card's driver takes rings of eight, a disk's driver large buffers, and a process forgets what it has. Each
//! layer is beside the others: counts over timed calls over the allocator, and tracking above both. A kernel that wants
//! one of them only has that one in its type, and nothing of the others in its code.

use std::{error::Error, time::Instant};

use terrace_frame::{
    Counts, Frame, FrameAllocator, Frames, FreeAreas, HybridAllocator, Latencies, MapEntry, MemoryMap, Misuse, Order,
    Owner, Picture, Request, SiteCounts, StatsFrames, TimedFrames, TrackedFrames,
};

const CACHE: Owner = Owner(1);
const NET: Owner = Owner(2);
const DISK: Owner = Owner(3);
const PROCESS: Owner = Owner(1042);

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// The day's work; what it leaves behind is what the report is about. `frames` is a whole stack of layers, as a type.
fn work<F: FrameAllocator>(frames: &TrackedFrames<'_, F>) -> Result<(), Box<dyn Error>> {
    let ring = Order::new(3).ok_or("an order")?;
    let mut chance = Chance(42);
    let mut cached: Vec<Frame> = Vec::new();
    let mut rings: Vec<Frame> = Vec::new();
    for step in 0..20_000 {
        if cached.len() > 11_000 || (step > 12_000 && !cached.is_empty()) {
            let dropped = cached.swap_remove(chance.below(cached.len()));
            frames.as_owner(CACHE).free_order(dropped, Order::MIN)?;
        } else {
            cached.push(frames.as_owner(CACHE).alloc_order(Order::MIN)?);
        }
        if step % 100 == 0 {
            rings.push(frames.as_owner(NET).alloc_order(ring)?);
        }
    }
    for ring_done in rings.drain(..150) {
        frames.as_owner(NET).free_order(ring_done, ring)?;
    }
    let buffer = frames.as_owner(DISK).alloc(&Request::frames(700).aligned(16))?;
    // Asked for as one process, and forgotten: its leaks are at this line.
    for count in [1, 5, 24] {
        frames.as_owner(PROCESS).alloc(&Request::frames(count))?;
    }
    // Mistakes: part of a run, another's run, a run twice. Each is told, and changes nothing.
    assert_eq!(frames.as_owner(DISK).free(Frames { count: 350, ..buffer }), Err(Misuse::NotARun));
    assert_eq!(frames.as_owner(NET).free(buffer), Err(Misuse::WrongOwner));
    frames.as_owner(DISK).free(buffer)?;
    assert_eq!(frames.as_owner(DISK).free(buffer), Err(Misuse::AlreadyFree));
    // More than there is in one piece.
    assert!(frames.alloc_order(Order::MAX).is_err());
    Ok(())
}

fn report(say: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let map = MemoryMap::new(&[MapEntry::usable(0, 64 << 20), MapEntry::reserved(0x9_f000, 0x6_1000)])?;
    let span = map.span().count;
    let mut metadata = vec![0; HybridAllocator::metadata_bytes(span, 0) / 8];
    let mut notes = vec![0; TrackedFrames::metadata_bytes(span) / 8];
    let (counts, sites) = ([Counts::new()], [const { SiteCounts::new() }; 32]);
    let (latencies, begin) = (Latencies::new(), Instant::now());
    let clock = || begin.elapsed().as_nanos() as u64;

    let timed = TimedFrames::new(HybridAllocator::new(&map, &mut metadata)?, clock, &latencies);
    let counted = StatsFrames::new(timed, &counts)?;
    let frames = TrackedFrames::new(counted, &mut notes, &sites)?;
    work(&frames)?;

    let free = FreeAreas::of(&frames);
    let linuxs = free.up_to(Order::new(10).ok_or("an order")?);
    say(&format!("As /proc/buddyinfo has it, orders 0 to 10:\n{}", linuxs.labelled(0, "Normal")));
    say(&format!("To order 20, with both indices:\n{free:#}"));
    say(&format!("A mark for 64 KiB:\n{}", Picture::of(&frames).of_blocks(Order::new(4).ok_or("an order")?)));
    say(&format!("Calls by order and result:\n{}", counts[0]));
    say(&format!("Nanoseconds a call, the clock's own included:\n{latencies}"));
    say(&format!("The process has ended, and left:\n{}", frames.leaks().of(PROCESS)));
    say(&format!("The first of all that is live:\n{:.3}", frames.leaks()));
    say(&format!("Lines that ask for frames:\n{}", frames.hot_sites()));
    let part = frames.tracking_bytes() as f64 * 100.0 / (span as f64 * 4096.0);
    say(&format!("The tracking takes {} bytes, {part:.2} % of the memory.", frames.tracking_bytes()));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    report(&mut |text| println!("{text}\n"))
}

#[test]
fn the_report_tells_what_was_done() {
    let mut said = Vec::new();
    report(&mut |text| said.push(text.to_owned())).expect("the work is done");
    let part = |title: &str| said.iter().find(|text| text.starts_with(title)).expect("it is told").as_str();
    assert!(part("As /proc").lines().nth(1).is_some_and(|line| line.starts_with("Node 0, zone   Normal ")));
    // What is live and what is free is all there is.
    let live: usize =
        part("The first").lines().nth(1).and_then(|line| line.split(' ').nth(3)?.parse().ok()).expect("a sum");
    let free: usize =
        part("To order 20").lines().last().and_then(|line| line.split(' ').next()?.parse().ok()).expect("a sum");
    assert_eq!(live + free, (64 << 8) - 0x61, "all but the hole");
    let leaks = part("The process");
    assert!(leaks.contains("3 runs of 30 frames are live"), "{leaks}");
    assert_eq!(leaks.matches(file!()).count(), 3, "{leaks}");
    assert!(part("Lines that ask").lines().count() >= 5);
    assert!(part("Calls by order").contains(" 20 "));
}
