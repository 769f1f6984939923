//! A tour of zones: how memory runs short, who is refused when, and who hears of it.
//!
//! ```console
//! $ cargo run -p terrace-examples --example zones_tour
//! ```
//!
//! A machine of 64 MiB, of which 16 are the zone DMA and 8 are kept as pages of 2 MiB, and a screen with memory of its
//! own. Numbers only: the tour needs no memory but that of the notes.

use std::{cell::RefCell, error::Error, fmt::Write};

use terrace::NoSlots;
use terrace_frame::{
    FrameAllocator, FrameError, Frames, HugePages, MapEntry, MemoryMap, MemoryZone, PageOwner, PageSize, Request,
    Watermarks, ZoneConfig, ZoneCounts, ZonePressure, ZoneType, ZonedAllocator,
};

const ZONES: [ZoneType; 4] = [ZoneType::Dma, ZoneType::Normal, ZoneType::HugePage, ZoneType::Device];

fn table<H: Fn(&ZonePressure)>(zones: &ZonedAllocator<'_, NoSlots, H>) -> Result<String, Box<dyn Error>> {
    let mut text = format!(
        "  {:9}{:>7}{:>7}{:>9}{:>8}{:>11}{:>10}\n",
        "", "total", "free", "reserve", "served", "fallbacks", "refused"
    );
    for zone in ZONES {
        let counts = zones.counts(zone);
        let ZoneCounts { total, free, reserve, allocations, fallbacks, refusals } = counts;
        let name = format!("{zone:?}");
        writeln!(text, "  {name:9}{total:>7}{free:>7}{reserve:>9}{allocations:>8}{fallbacks:>11}{refusals:>10}")?;
    }
    Ok(text)
}

fn tour(say: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let map = MemoryMap::new(&[
        MapEntry::usable(0, 64 << 20),
        MapEntry::reserved(0x9_f000, 0x6_1000), // what stands below the first megabyte of a PC
    ])?;
    let mut notes = vec![0; MemoryZone::metadata_bytes(2048, 0) / 8];
    let devices = [MemoryZone::device("screen", Frames::new(0xe_0000, 2048), &mut notes)?];
    let config = ZoneConfig {
        normal: Some(Watermarks { min: 64, low: 256, high: 512 }),
        dma: Some(Watermarks { min: 16, low: 32, high: 64 }),
        dma_reserve: Some(3000),
        large_pages: 4,
        devices: &devices,
        ..ZoneConfig::default()
    };
    let heard = RefCell::new(Vec::new());
    let hook = |now: &ZonePressure| {
        heard.borrow_mut().push(format!("{:?} is {:?} with {} free", now.zone, now.level, now.free))
    };
    let mut storage = vec![0; ZonedAllocator::metadata_bytes(&map, &config, 0)? / 8];
    let zones = ZonedAllocator::with_slots(&map, &config, NoSlots, hook, &mut storage)?;
    let mut show = |title: &str| -> Result<(), Box<dyn Error>> {
        let heard: String = heard.take().iter().map(|line| format!("  ! {line}\n")).collect();
        say(&format!("{title}\n{}{heard}", table(&zones)?));
        Ok(())
    };

    show("At first, in frames of 4 KiB:")?;
    let page = zones.alloc_in(ZoneType::HugePage, &Request::order(PageSize::Large.order()))?;
    let pixels = zones.alloc_device("screen", &Request::frames(1920 * 1080 * 4 / 4096))?;
    show("A page of 2 MiB, and a picture in the screen's memory. Ordinary requests never get either:")?;

    let mut runs = Vec::new();
    let refusal = loop {
        match zones.alloc(&Request::frames(4)) {
            Ok(run) => runs.push(run),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal, FrameError::ZoneDepleted(ZoneType::Normal));
    show(&format!(
        "Ordinary requests until one is refused: \"{refusal}\". They have gone into DMA down to its reserve:"
    ))?;
    let buffer = zones.alloc_in(ZoneType::Dma, &Request::frames(16).aligned(16))?;
    let urgent = zones.alloc_urgent(ZoneType::Normal, &Request::frames(4))?;
    show("A driver still gets its buffer, and who must write a page out to free it is served below `min`:")?;

    zones.free(urgent)?;
    runs.drain(..300).try_for_each(|run| zones.free(run))?;
    show("What was cached goes back, and the pressure with it:")?;

    let mut storage = vec![0; HugePages::metadata_bytes(zones.span().count) / 8];
    let pages = HugePages::new(&zones, &mut storage)?;
    let guest = PageOwner::new(7).ok_or("a tag from 1 on")?;
    let block = Request::order(PageSize::Large.order());
    let own = pages.alloc_for(guest, &block)?;
    pages.free_for(guest, Frames { count: 1, ..own })?;
    let counts = pages.counts();
    let (up, down) = (counts.promotions, counts.demotions);
    show(&format!("A guest got 2 MiB as one page, and gave a frame of it back: promoted {up}, demoted {down}:"))?;

    pages.free_for(guest, Frames::new(own.start.0 + 1, own.count - 1))?;
    runs.into_iter().chain([page, pixels, buffer]).try_for_each(|run| zones.free(run))?;
    show("All is free, as at first:")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    tour(&mut |text| println!("{text}"))
}

#[test]
fn the_tour_ends_as_it_began() {
    let mut said = Vec::new();
    tour(&mut |text| said.push(text.to_owned())).expect("every stop is reached");
    // Names, totals and free frames.
    let frames = |text: &String| {
        let lines = text.lines().skip(2).take(4);
        lines.map(|line| line.split_whitespace().take(3).map(str::to_owned).collect()).collect::<Vec<Vec<_>>>()
    };
    let tables: Vec<_> = said.iter().map(frames).collect();
    assert_eq!(tables.first(), tables.last());
    assert!(tables.windows(2).all(|two| two[0] != two[1]), "each stop shows a change");
    assert!(said[2].contains("Normal is Low") && said[2].contains("Normal is Min"), "{}", said[2]);
    assert!(said[4].contains("Normal is Calm"), "{}", said[4]);
}
