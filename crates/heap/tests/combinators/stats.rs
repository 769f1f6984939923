//! `StatsAllocator` with histograms: sums that agree with the eight figures, places, and a table that is full.

use std::{panic::Location, ptr::NonNull, thread};

use proptest::prelude::*;
use terrace_core::{Allocator, Reset, ResetMode, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, Histograms, StatsAllocator};

use crate::support::{Ground, Shadow, align, cases, len, ops, slice};

proptest! {
    #![proptest_config(cases(2))]

    #[test]
    fn classes_and_places_add_up_to_the_figures(program in ops(5000), roomy in any::<bool>(), refuse in 0usize..20) {
        let ground = if roomy { Ground::roomy() } else { Ground::default() };
        ground.refuse_in.set(refuse);
        let counted = StatsAllocator::with_histograms(&ground, Histograms::<4>::new());
        let mut shadow = Shadow::default();
        for op in &program {
            shadow.step(&counted, op);
            let stats = counted.stats();
            prop_assert_eq!(stats.total_allocations, counted.size_classes().map(|class| class.total_blocks).sum::<u64>());
            for class in counted.size_classes() {
                let belongs = |bytes: usize| bytes <= class.longest && (bytes > class.longest / 2 || class.longest == 1);
                let live = shadow.live.iter().filter(|block| belongs(block.memory.len())).count();
                prop_assert_eq!(class.live_blocks, live as u64, "of up to {} bytes", class.longest);
            }
            let (blocks, bytes) = counted.unlisted();
            prop_assert_eq!(stats.total_allocations, blocks + counted.sites().map(|site| site.blocks).sum::<u64>());
            prop_assert_eq!(stats.bytes_allocated, bytes + counted.sites().map(|site| site.bytes).sum::<u64>());
        }
        shadow.free_all(&counted);
        prop_assert!(counted.size_classes().all(|class| class.live_blocks == 0));
    }
}

fn free(allocator: &impl Allocator, block: NonNull<u8>, bytes: usize) {
    // SAFETY: each test passes what it has just made, once.
    unsafe { allocator.free(slice(block, bytes), align(8)) };
}

#[test]
fn each_place_is_named_with_what_it_asked_for_the_greediest_first() {
    let counted = StatsAllocator::with_histograms(SystemAllocator, Histograms::<8>::new());
    let mut lines = Vec::new();
    for _ in 0..3 {
        lines.push(line!() + 1);
        let block = counted.alloc(len(10), align(8)).unwrap();
        free(&counted, block, 10);
    }
    let (line, large) = (line!(), counted.alloc(len(1000), align(8)).unwrap());
    free(&counted, large, 1000);
    let sites: Vec<_> = counted.sites().map(|site| (site.location.line(), site.blocks, site.bytes)).collect();
    assert_eq!(sites, [(line, 1, 1000), (lines[0], 3, 30)]);
    assert!(counted.sites().all(|site| site.location.file() == file!()));
    assert_eq!(counted.unlisted(), (0, 0));
}

/// Through `dyn` and from threads that race for the rows.
#[test]
fn a_place_has_one_row_whoever_calls_from_it() {
    let counted = StatsAllocator::with_histograms(SystemAllocator, Histograms::<8>::new());
    let shared: &(dyn Allocator + Sync) = &counted;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let block = shared.alloc(len(8), align(8)).unwrap();
                    // SAFETY: live, and not used again.
                    unsafe { shared.free(slice(block, 8), align(8)) };
                }
            });
        }
    });
    let sites: Vec<_> = counted.sites().map(|site| (site.blocks, site.bytes)).collect();
    assert_eq!(sites, [(4000, 32_000)]);
}

#[track_caller]
fn ask(allocator: &dyn Allocator) -> u32 {
    let block = allocator.alloc(len(8), align(8)).unwrap();
    // SAFETY: live, and not used again.
    unsafe { allocator.free(slice(block, 8), align(8)) };
    Location::caller().line()
}

#[test]
fn a_full_table_says_so_and_keeps_its_rows() {
    let counted = StatsAllocator::with_histograms(SystemAllocator, Histograms::<2>::new());
    let mut lines = vec![ask(&counted)];
    lines.push(ask(&counted));
    assert!(!counted.to_string().contains("all taken"));
    ask(&counted);
    ask(&counted);
    let mut listed: Vec<u32> = counted.sites().map(|site| site.location.line()).collect();
    listed.sort_unstable();
    assert_eq!((listed, counted.unlisted()), (lines, (2, 16)));
    let text = counted.to_string();
    assert!(text.contains("the table has 2 rows, all taken"), "{text}");
    let none = StatsAllocator::with_histograms(SystemAllocator, Histograms::<0>::new());
    ask(&none);
    assert_eq!((none.sites().count(), none.unlisted()), (0, (1, 8)));
}

#[test]
fn the_text_has_the_eight_figures_the_classes_and_the_places() {
    let counted = StatsAllocator::with_histograms(SystemAllocator, Histograms::<4>::new());
    let block = counted.alloc(len(100), align(8)).unwrap();
    let text = counted.to_string();
    for part in [
        "blocks               1              0              1              1",
        "bytes              100",
        "128              1              1",
        file!(),
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    free(&counted, block, 100);
    let plain = StatsAllocator::new(SystemAllocator).to_string();
    assert!(plain.contains("given back") && !plain.contains("asked for by"), "{plain}");
}

#[test]
fn a_reset_ends_the_blocks_of_every_class() {
    let mut counted = StatsAllocator::with_histograms(ArenaAllocator::new(SystemAllocator), Histograms::<4>::new());
    counted.alloc(len(100), align(8)).unwrap();
    assert!(counted.reset(ResetMode::FreeAll));
    assert_eq!(
        counted.size_classes().map(|class| (class.total_blocks, class.live_blocks)).collect::<Vec<_>>(),
        [(1, 0)]
    );
    assert_eq!((counted.stats().current_bytes, counted.stats().total_deallocations), (0, 1));
}
