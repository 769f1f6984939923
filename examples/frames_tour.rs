//! A tour of a frame allocator: what its bits and its tree look like while it works.
//!
//! ```console
//! $ cargo run -p terrace-examples --example frames_tour
//! ```
//!
//! Eight blocks of 2 MiB, with a hole where firmware sits. The allocator hands out numbers, so the tour needs no memory
//! but that of the notes, and shows them by asking frame by frame what is free. It shows how a block comes from the
//! buddy for a single frame, how half of a large run comes back, and how a block becomes whole again.

use std::{error::Error, fmt::Write};

use terrace_frame::{
    Frame, FrameAllocator, Frames, HybridAllocator, MapEntry, MemoryMap, Misuse, Order, PageSize, PhysAddr, Request,
};

const BLOCK: usize = PageSize::Large.order().frames();
const BLOCKS: usize = 8;

/// A mark for each 32 frames: all free, some, none, or not memory.
fn marks(frames: &dyn FrameAllocator, block: usize) -> String {
    (0..BLOCK / 32)
        .map(|part| {
            let each = || (0..32).map(|at| block * BLOCK + part * 32 + at);
            let free = each().filter(|&frame| frames.is_free(Frame(frame))).count();
            let memory = each().filter(|&frame| frames.manages(Frames::new(frame, 1))).count();
            match (free, memory) {
                (_, 0) => ' ',
                (0, _) => '#',
                (free, memory) if free == memory => '.',
                _ => '+',
            }
        })
        .collect()
}

/// The bits, block by block, and the tree above them: for each order the runs that could be handed out whole.
fn picture(frames: &dyn FrameAllocator) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for block in 0..BLOCKS {
        write!(text, "  |{}|", marks(frames, block))?;
    }
    writeln!(text)?;
    for order in [10, 11, 12].into_iter().filter_map(Order::new) {
        write!(text, "  order {:2}: ", order.log2())?;
        for start in (0..BLOCKS * BLOCK).step_by(order.frames()) {
            let whole = (start..start + order.frames()).all(|frame| frames.is_free(Frame(frame)));
            write!(text, "{}", if whole { "free " } else { "-    " })?;
        }
        writeln!(text)?;
    }
    write!(text, "  {} of {} frames free", frames.free_frames(), frames.total_frames())?;
    Ok(text)
}

fn tour(say: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let map = MemoryMap::new(&[
        MapEntry::usable(0, (BLOCKS as u64) << 21),
        MapEntry::reserved(0x9_f000, 0x6_1000), // what stands below the first megabyte of a PC
    ])?;
    let mut metadata = vec![0; HybridAllocator::metadata_bytes(map.span().count, 0) / 8];
    let frames = HybridAllocator::new(&map, &mut metadata)?;
    let mut show = |title: &str| -> Result<(), Box<dyn Error>> {
        say(&format!("{title}\n{}\n", picture(&frames)?));
        Ok(())
    };

    show("At first. The block with the hole is the bitmap's, the seven others are the buddy's:")?;
    let one = frames.alloc_order(Order::MIN)?;
    show(&format!("One frame, number {}. It fills up the block that was not whole anyway:", one.0))?;
    let large = frames.alloc_order(PageSize::Large.order())?;
    let address = large.address().0;
    show(&format!("A page of 2 MiB, at {address:#x}, out of the buddy:"))?;
    let run = frames.alloc(&Request::frames(700))?;
    show(&format!("700 frames from {}: two blocks, of which 324 frames go back at once:", run.start.0))?;
    let dma = frames.alloc(&Request::frames(16).aligned(16).within(Frames::new(0, 256)))?;
    show(&format!("16 frames below 1 MiB for a device, from {}:", dma.start.0))?;
    frames.free(Frames::new(large.0, BLOCK / 2))?;
    show("Half of the 2 MiB comes back, and the bitmap has it:")?;
    frames.free(Frames::new(large.0 + BLOCK / 2, BLOCK / 2))?;
    show("So does the other half: the block is whole again, and the buddy's:")?;
    frames.free(run)?;
    frames.free(dma)?;
    frames.free_order(one, Order::MIN)?;
    frames.drain();
    show("All is free, as at first:")?;
    assert_eq!(frames.free_order(one, Order::MIN), Err(Misuse::AlreadyFree));
    assert_eq!(frames.free_order(PhysAddr(0xf_0000).frame(), Order::MIN), Err(Misuse::Outside));
    say("To free a frame twice, or one of the hole, is told and changes nothing.");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    tour(&mut |text| println!("{text}"))
}

#[test]
fn the_tour_ends_as_it_began() {
    let mut said = Vec::new();
    tour(&mut |text| said.push(text.to_owned())).expect("every stop is reached");
    let drawn = |text: &String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let pictures: Vec<_> = said.iter().map(drawn).collect();
    assert_eq!(pictures[0], pictures[pictures.len() - 2]);
    assert!(pictures[..pictures.len() - 2].windows(2).all(|two| two[0] != two[1]), "each stop shows a change");
}
