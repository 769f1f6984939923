//! What the bookkeeping files of `smp` hold, against plain sets and maps.

use core::{cell::Cell, num::NonZeroUsize, ptr, ptr::NonNull};
use std::{
    alloc::{Layout, alloc, dealloc},
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use proptest::{collection::vec, prelude::*};
use terrace_core::{Alignment, Allocator, SystemAllocator};
use terrace_sync::{NOTHING_KEPT, Slots};

use super::{
    SmpAllocator,
    chain::{Block, Chain, Stack},
    class::{CLASSES, LONGEST, PAGE, batch, capacity, size, slab_alignment, slab_pages},
    depot::Depot,
    large::{Book, Large},
    pages::Pages,
    region::Region,
    registry::{Registry, Table},
};

const BYTES: usize = 64 << 10;

fn len(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).expect("a length")
}

fn address(number: usize, unit: usize) -> NonNull<u8> {
    NonNull::new(ptr::without_provenance_mut((number + 1) * unit)).expect("not null")
}

/// Memory that goes back at the end.
struct Memory(Vec<(NonNull<u8>, Layout)>);

impl Memory {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn get(&mut self, bytes: usize, alignment: usize) -> NonNull<u8> {
        let layout = Layout::from_size_align(bytes, alignment).expect("a layout");
        // SAFETY: not of size zero.
        let memory = NonNull::new(unsafe { alloc(layout) }).expect("memory");
        self.0.push((memory, layout));
        memory
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (memory, layout) in self.0.drain(..) {
            // SAFETY: from `get`.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
    }
}

/// Enters a block as the allocator does.
fn enter(book: &mut Book, memory: &mut Memory, at: NonNull<u8>, large: Large) {
    assert_eq!(book.reserve(), Ok(()));
    book.enter(at, large);
    while let Some(bytes) = book.wanted() {
        let table = memory.get(bytes.get(), Book::ALIGNMENT.bytes());
        // SAFETY: so many bytes, which live as long as the book.
        let _ = unsafe { book.install(table, bytes) };
    }
}

#[test]
fn the_books_end_takes_a_few_steps_for_each_block() {
    for blocks in [1, 24, 25, 1000, 50_000] {
        let (mut book, mut memory) = (Book::new(), Memory::new());
        for number in 0..blocks {
            enter(
                &mut book,
                &mut memory,
                address(number, PAGE),
                Large { len: len(1 << 20), alignment: Alignment::ONE },
            );
        }
        let (mut steps, mut found) = (0, BTreeSet::new());
        for place in 0..book.places() {
            steps += 1;
            found.extend(book.block(place).map(|(address, _)| address));
        }
        assert_eq!(found.len(), blocks);
        assert!(steps <= 32 + 3 * blocks, "{steps} steps for {blocks} blocks");
    }
}

#[test]
fn a_book_that_gets_no_larger_table_is_filled_but_for_one_place() {
    let (mut book, large) = (Book::new(), Large { len: len(1), alignment: Alignment::ONE });
    for number in 0..31 {
        assert_eq!(book.reserve(), Ok(()));
        book.enter(address(number, PAGE), large);
        assert_eq!(book.wanted().is_some(), number >= 24, "{number}");
    }
    assert!(matches!(book.reserve(), Err(Some(_))), "a larger one may be had");
    book.note_refused();
    assert_eq!(book.reserve(), Err(None), "and refuses before anybody is asked");
    (0..31).for_each(|number| assert_eq!(book.get(address(number, PAGE)), Some(large)));
    assert_eq!(book.get(address(40, PAGE)), None, "a probe ends");
    assert_eq!(book.strike(address(7, PAGE), false), Some(large));
    assert_eq!(book.reserve(), Ok(()));
    book.give_up();
    assert_eq!(book.reserve(), Ok(()));
}

#[test]
fn a_registry_that_gets_no_larger_table_is_filled_but_for_one_place() {
    let registry = Registry::<BYTES>::new();
    for number in 0..15 {
        // SAFETY: one thread.
        assert_eq!(unsafe { registry.reserve() }, Ok(()));
        // SAFETY: one thread; the regions are not looked into.
        assert_eq!(unsafe { registry.insert(address(number, BYTES)) }.is_some(), number >= 8, "{number}");
    }
    // SAFETY: one thread.
    assert!(matches!(unsafe { registry.reserve() }, Err(Some(_))), "a larger one may be had");
    // SAFETY: one thread.
    unsafe { registry.note_refused() };
    // SAFETY: one thread.
    assert_eq!(unsafe { registry.reserve() }, Err(None), "and refuses before anybody is asked");
    (0..17).for_each(|number| assert_eq!(registry.contains(address(number, BYTES)), number < 15));
    for number in 0..15 {
        // SAFETY: one thread; no region has a block.
        unsafe { registry.remove(address(number, BYTES)) };
    }
    for _ in 0..15 {
        // SAFETY: one thread.
        assert_eq!(unsafe { registry.reserve() }, Ok(()), "what was struck leaves nothing behind at last");
    }
}

proptest! {
    #[test]
    fn the_book_is_a_map(ops in vec((0u8..6, 0usize..60, 1usize..1 << 40, 12u32..40), 1..300)) {
        let (mut book, mut memory, mut map) = (Book::new(), Memory::new(), BTreeMap::new());
        for (op, number, bytes, log2) in ops {
            let at = address(number * number, PAGE); // Some next to one another, some far apart.
            let large = Large { len: len(bytes), alignment: Alignment::from_log2(log2).unwrap() };
            match op {
                0..3 if !map.contains_key(&at) => {
                    enter(&mut book, &mut memory, at, large);
                    map.insert(at, large);
                }
                3 => prop_assert_eq!(book.strike(at, false), map.remove(&at)),
                4 if map.contains_key(&at) => {
                    // As a remap does, to another place or the same.
                    let old = book.strike(at, true).unwrap();
                    prop_assert_eq!(map.remove(&at), Some(old));
                    let to = if map.contains_key(&address(number, PAGE)) { at } else { address(number, PAGE) };
                    book.enter(to, Large { len: large.len, ..old });
                    map.insert(to, Large { len: large.len, ..old });
                }
                _ => {
                    book.set_len(at, large.len);
                    map.entry(at).and_modify(|entry| entry.len = large.len);
                }
            }
            prop_assert_eq!(book.bytes, map.values().map(|large| large.len.get()).sum::<usize>());
            (0..60).flat_map(|number| [address(number, PAGE), address(number * number, PAGE)]).for_each(|at| {
                assert_eq!(book.get(at), map.get(&at).copied());
            });
        }
        for (at, large) in (0..book.places()).filter_map(|place| book.block(place)) {
            prop_assert_eq!(map.remove(&NonNull::new(ptr::without_provenance_mut(at)).unwrap()), Some(large));
        }
        prop_assert!(map.is_empty());
    }

    #[test]
    fn the_registry_is_a_set(ops in vec((0u8..5, 0usize..80), 1..300)) {
        let (registry, mut memory, mut set) = (Registry::<BYTES>::new(), Memory::new(), BTreeSet::new());
        for (op, number) in ops {
            let region = address(number, BYTES);
            if op < 3 && set.insert(number) {
                // SAFETY: one thread.
                let room = unsafe { registry.reserve() };
                prop_assert_eq!(room, Ok(()));
                // SAFETY: one thread; the regions are not looked into.
                if let Some(bytes) = unsafe { registry.insert(region) } {
                    let table = memory.get(bytes.get(), Table::ALIGNMENT.bytes());
                    // SAFETY: one thread; so many bytes, which live as long as the registry.
                    assert!(unsafe { registry.install(table, bytes) });
                }
            } else if op >= 3 {
                set.remove(&number);
                // SAFETY: one thread; no region has a block.
                unsafe { registry.remove(region) };
            }
            for number in 0..82 {
                let inside = address(number, BYTES).addr().get() + number * 700 % BYTES;
                let inside = NonNull::new(ptr::without_provenance_mut(inside)).unwrap();
                prop_assert_eq!(registry.contains(inside), set.contains(&number));
            }
            let regions: BTreeSet<_> = registry.regions().map(|region| region / BYTES - 1).collect();
            prop_assert_eq!(&regions, &set);
        }
    }

    #[test]
    fn runs_are_disjoint_and_all_pages_come_back(ops in vec((0u8..6, 1usize..9, 0u32..4, any::<usize>(), any::<bool>()), 1..120)) {
        let (pages, mut memory) = (Pages::<BYTES>::new(), Memory::new());
        let mut state = pages.state.lock(|_| ());
        let mut runs: Vec<(NonNull<u8>, usize)> = Vec::new();
        let usable = Region::<BYTES>::PLAN.usable();
        for (op, pages_asked, log2, pick, dirty) in ops {
            match op {
                0..3 => match state.take_run(pages_asked, 1 << log2) {
                    Some((run, _)) => {
                        prop_assert!(run.addr().get().is_multiple_of(PAGE << log2));
                        runs.push((run, pages_asked));
                    }
                    None => {
                        let start = memory.get(BYTES, BYTES);
                        // SAFETY: a block as a region has to be, this test's alone.
                        let region = unsafe { Region::<BYTES>::create(start) };
                        // SAFETY: under the lock.
                        if unsafe { pages.registry.reserve() }.is_ok() {
                            // SAFETY: under the lock. Nothing refuses a longer probe.
                            let _ = unsafe { pages.registry.insert(start) };
                            state.regions += 1;
                            state.list(region);
                        }
                    }
                },
                3 if !runs.is_empty() => {
                    let (run, len) = runs.swap_remove(pick % runs.len());
                    // SAFETY: handed out, and not used again.
                    unsafe { state.give_run(run, len, dirty) };
                }
                4 if !runs.is_empty() => {
                    let at = pick % runs.len();
                    let (run, len) = runs[at];
                    // SAFETY: handed out.
                    if unsafe { state.extend_run(run, len, pages_asked) }.is_some() {
                        runs[at].1 += pages_asked;
                    }
                }
                _ => {
                    let before = state.dirty;
                    if let Some((run, len)) = state.take_dirty() {
                        prop_assert_eq!(state.dirty, before - len.get());
                        // SAFETY: taken just now.
                        unsafe { state.give_run(run, len.get(), false) };
                    } else {
                        prop_assert_eq!(before, 0);
                    }
                }
            }
            prop_assert_eq!(state.used, runs.iter().map(|(_, len)| len).sum::<usize>());
            prop_assert!(state.dirty + state.used <= state.regions * usable);
            let mut taken = BTreeSet::new();
            for &(run, len) in &runs {
                (0..len).for_each(|page| assert!(taken.insert(run.addr().get() + page * PAGE), "two runs share a page"));
            }
        }
        for (run, len) in runs {
            // SAFETY: handed out, and not used again.
            unsafe { state.give_run(run, len, true) };
        }
        while let Some(region) = state.unused_region() {
            // SAFETY: a region of this heap.
            let withdrawn = unsafe { state.withdraw(&pages.registry, region) };
            prop_assert!(withdrawn);
        }
        prop_assert_eq!((state.used, state.dirty, state.regions), (0, 0, 0));
    }

    #[test]
    fn a_depot_gives_each_block_once_and_unused_slabs_back(
        class in 0..CLASSES, ops in vec((0u8..4, any::<usize>()), 1..80)
    ) {
        let (mut depot, mut memory) = (Depot::<BYTES>::new(), Memory::new());
        let (mut chains, mut slabs) = (Vec::<Chain>::new(), 0);
        for (op, pick) in ops {
            match op {
                0 | 1 => match depot.take(class, pick) {
                    Some(chain) => {
                        prop_assert!((1..=batch(class).into()).contains(&chain.len));
                        chains.push(chain);
                    }
                    None => {
                        // A region for each slab.
                        // SAFETY: a block as a region has to be, this test's alone.
                        let region = unsafe { Region::<BYTES>::create(memory.get(BYTES, BYTES)) };
                        let first = Region::<BYTES>::PLAN.first_page.next_multiple_of(slab_alignment(class));
                        // SAFETY: free pages of the region, as many as there have to be.
                        let slab = unsafe { region.create_slab(first, slab_pages(class), class) };
                        // SAFETY: a new slab of the class.
                        unsafe { depot.add(slab) };
                        slabs += 1;
                    }
                },
                2 if !chains.is_empty() => {
                    let chain = chains.swap_remove(pick % chains.len());
                    // SAFETY: a chain of the class and this test's; kept only where it is full.
                    let kept = chain.len == u32::from(batch(class)) && unsafe { depot.keep(&chain, pick, 3) };
                    if !kept {
                        chains.push(chain);
                    }
                }
                3 if !chains.is_empty() => {
                    let chain = chains.swap_remove(pick % chains.len());
                    // SAFETY: a chain of the class and this test's.
                    slabs -= count(unsafe { depot.take_back(chain.head) });
                }
                _ => {}
            }
            let held: Vec<_> = chains.iter().flat_map(blocks).collect();
            let distinct: BTreeSet<_> = held.iter().collect();
            prop_assert_eq!(distinct.len(), held.len(), "a block is out twice");
            prop_assert!(held.iter().all(|block| (block % PAGE).is_multiple_of(size(class).min(16))));
            prop_assert_eq!(depot.blocks_out, held.len() + depot.chains() as usize * usize::from(batch(class)));
            prop_assert!(depot.slabs == slabs && depot.blocks_out <= slabs * capacity(class));
        }
        while let Some(chain) = depot.pop_chain(class, 3) {
            chains.push(chain);
        }
        for chain in chains {
            // SAFETY: a chain of the class and this test's.
            slabs -= count(unsafe { depot.take_back(chain.head) });
        }
        prop_assert_eq!(depot.blocks_out, 0);
        prop_assert!(slabs <= 1, "all but a slab that never gave a block: {}", slabs);
    }
}

fn count(mut slab: *mut super::slab::Slab) -> usize {
    let mut count = 0;
    while let Some(at) = NonNull::new(slab) {
        // SAFETY: linked by the depot, and out of it.
        slab = unsafe { at.as_ref() }.next;
        count += 1;
    }
    count
}

/// The blocks of a chain, as many as it says.
fn blocks(chain: &Chain) -> Vec<usize> {
    let (mut found, mut at) = (Vec::new(), chain.head.as_ptr());
    while let Some(block) = NonNull::new(at) {
        found.push(block.addr().get());
        // SAFETY: linked, for it is in a chain.
        at = unsafe { Block::next(block) };
    }
    assert_eq!(found.len(), chain.len as usize, "a chain has as many blocks as it says");
    found
}

#[test]
fn a_branched_chain_keeps_its_blocks_in_their_order() {
    let mut memory = Memory::new();
    for len in 1..=LONGEST {
        let cells: Vec<NonNull<Block>> = (0..len).map(|_| memory.get(16, 16).cast()).collect();
        for (at, &cell) in cells.iter().enumerate() {
            let next = cells.get(at + 1).map_or(ptr::null_mut(), |next| next.as_ptr());
            // SAFETY: 16 bytes of this test's.
            unsafe { Block::link(cell, next) };
        }
        let mut chain = Chain { head: cells[0], len: len as u32, branched: false };
        // SAFETY: a chain of this test's.
        unsafe { chain.branch() };
        let mut stack = Stack::EMPTY;
        // SAFETY: a chain of this test's.
        unsafe { stack.push(&chain) };
        let out = stack.pop(len as u32).expect("it was pushed");
        assert!(out.branched);
        // SAFETY: a chain of this test's.
        unsafe { out.fetch_all() };
        assert_eq!(blocks(&out), cells.iter().map(|cell| cell.addr().get()).collect::<Vec<_>>());
    }
}

/// One slot, kept; counts how often it is asked for on a slow path.
struct Counted {
    kept: Cell<NonNull<u8>>,
    sat: Cell<usize>,
}

// SAFETY: one caller, and one number; what is kept is this value's.
unsafe impl Slots for Counted {
    fn count(&self) -> usize {
        1
    }

    fn enter(&self) -> usize {
        1
    }

    fn kept(&self) -> Option<NonNull<u8>> {
        Some(self.kept.get())
    }

    fn keep(&self, address: NonNull<u8>) {
        self.kept.set(address);
        self.sat.set(self.sat.get() + 1);
    }
}

#[test]
fn blocks_that_come_and_go_stay_in_the_magazine() {
    let nothing = NonNull::from_ref(&NOTHING_KEPT).cast();
    let slots = Counted { kept: Cell::new(nothing), sat: Cell::new(0) };
    let smp: SmpAllocator<_, _> = SmpAllocator::new(SystemAllocator, slots);
    for class in 0..CLASSES {
        for held in [0, 1, 2, 3, 5, 8, 20, 100] {
            let len = NonZeroUsize::new(size(class)).expect("a class has bytes");
            let new = || smp.alloc(len, Alignment::ONE).expect("memory");
            let mut live: VecDeque<_> = (0..held).map(|_| new()).collect();
            let turns = |live: &mut VecDeque<_>, by_address: bool| {
                let before = smp.slots.sat.get();
                for _ in 0..1000 {
                    live.push_back(new());
                    let block = live.pop_front().expect("one at least");
                    match by_address {
                        // SAFETY: live, and not used again.
                        true => unsafe { smp.free_by_address(block) },
                        // SAFETY: live, with this length and alignment.
                        false => unsafe { smp.free(NonNull::slice_from_raw_parts(block, len.get()), Alignment::ONE) },
                    }
                }
                smp.slots.sat.get() - before
            };
            turns(&mut live, false);
            let sat = [turns(&mut live, false), turns(&mut live, true)];
            let most = 1000 / usize::from(batch(class)) + 3;
            assert!(sat.iter().all(|&sat| sat <= most), "{} bytes, {held} held: {sat:?} slow ways", len.get());
            for block in live {
                // SAFETY: live, and not used again.
                unsafe { smp.free_by_address(block) };
            }
        }
    }
}

#[test]
fn chains_come_off_a_stack_in_turn_with_their_blocks() {
    let mut memory = Memory::new();
    let mut chain = |len: usize| {
        let cells: Vec<NonNull<Block>> = (0..len).map(|_| memory.get(16, 16).cast()).collect();
        for (at, &cell) in cells.iter().enumerate() {
            let next = cells.get(at + 1).map_or(ptr::null_mut(), |next| next.as_ptr());
            // SAFETY: 16 bytes of this test's.
            unsafe { Block::link(cell, next) };
        }
        cells
    };
    let (mut stack, all) = (Stack::EMPTY, [chain(3), chain(3), chain(3)]);
    assert!(stack.pop(3).is_none());
    for chain in &all {
        // SAFETY: a chain of this test's.
        unsafe { stack.push(&Chain { head: chain[0], len: 3, branched: false }) };
    }
    for chain in all.iter().rev() {
        let found = blocks(&stack.pop(3).unwrap());
        assert_eq!(found, chain.iter().map(|block| block.addr().get()).collect::<Vec<_>>());
    }
    assert!(stack.pop(3).is_none());
}
