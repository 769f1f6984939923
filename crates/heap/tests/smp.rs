//! `SmpAllocator` by its edges: the classes, refusals at each request to the backing, requests that are far too large, silly
//! providers of slots, regions of every size, and blocks by their address alone.

mod support;

use std::{cell::Cell, collections::VecDeque, num::NonZeroUsize, ptr::NonNull, rc::Rc};

use proptest::prelude::*;
use support::{Ground, Live, Op, Shadow, Slow, align, cases, is_all, len, ops, slice};
use terrace_core::{Alignment, AllocError, Allocator, Decommit, GoodSize, Owns, PageSize, Stats, SystemAllocator};
use terrace_heap::{ArenaAllocator, FailingAllocator, SmpAllocator, StatsAllocator};
use terrace_sync::{NoSlots, Slots};

const SMALL: usize = 64 << 10;
type Small<S> = SmpAllocator<Rc<Ground>, S, SMALL>;

/// So many slots, the first of which is the caller's.
struct Many(usize);

// SAFETY: for one thread, which has number 1.
unsafe impl Slots for Many {
    fn count(&self) -> usize {
        self.0
    }

    fn enter(&self) -> usize {
        1
    }
}

/// The law of the classes, written once more: 16 apart up to 128, then eight to a doubling.
fn class(len: usize) -> usize {
    let step = if len <= 128 { 16 } else { (len - 1).next_power_of_two().max(len.next_power_of_two()) / 16 };
    len.next_multiple_of(step)
}

#[test]
fn a_small_block_changes_its_length_exactly_within_its_class() {
    let smp = SmpAllocator::new(SystemAllocator, NoSlots);
    let one = Alignment::ONE;
    let mut ends: Vec<usize> = (1..=32768).filter(|&len| class(len) == len).flat_map(|end| [end, end + 1]).collect();
    ends.push(1);
    assert_eq!(ends.len(), 72 * 2 + 1);
    for old in 1..=32768 {
        let block = smp.alloc(len(old), one).unwrap();
        assert_eq!(smp.good_size(len(old), one).get(), class(old));
        for &new in &ends {
            let same = new <= 32768 && class(new) == class(old);
            // SAFETY: live; its length is of the class, whatever it was last.
            assert_eq!(unsafe { smp.resize(slice(block, old), one, len(new)) }, same, "{old} to {new}");
            if same {
                // SAFETY: as above, and back to what it was.
                assert_eq!(unsafe { smp.remap(slice(block, new), one, len(old)) }, Some(block), "{new} to {old}");
            } else {
                // SAFETY: live, with its length.
                assert_eq!(unsafe { smp.remap(slice(block, old), one, len(new)) }, None, "{old} to {new}");
            }
        }
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, old), one) };
    }
}

#[test]
fn every_alignment_is_kept_by_every_class() {
    let smp = SmpAllocator::new(SystemAllocator, NoSlots);
    for log2 in 0..=17 {
        let alignment = Alignment::from_log2(log2).unwrap();
        for bytes in (1..=40_000).step_by(97).chain([1, 16, 4096, 32768, 32769, 1 << 20]) {
            let blocks: Vec<_> = (0..3).map(|_| smp.alloc(len(bytes), alignment).unwrap()).collect();
            for block in blocks {
                assert!(alignment.is_aligned(block.addr().get()), "{bytes} at {}", alignment.bytes());
                assert!(smp.owns(block));
                // SAFETY: live, with so many bytes.
                unsafe { block.write_bytes(1, bytes) };
                // SAFETY: a live block begins there.
                assert!(unsafe { smp.size_by_address(block) }.get() >= bytes);
                // SAFETY: live, and not used again.
                unsafe { smp.free_by_address(block) };
            }
        }
    }
}

#[test]
fn what_no_memory_can_satisfy_is_an_error() {
    let ground = Rc::new(Ground::default());
    let smp = Small::with_region_size(Rc::clone(&ground), NoSlots);
    let lens =
        [usize::MAX, usize::MAX - 4095, isize::MAX as usize + 1, isize::MAX as usize, isize::MAX as usize - 4096];
    for log2 in [0, 4, 12, 15, 16, 30, 62, 63] {
        for bytes in lens {
            assert!(smp.alloc(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
            assert!(smp.alloc_zeroed(len(bytes), Alignment::from_log2(log2).unwrap()).is_err());
        }
    }
    assert_eq!(ground.blocks(), 0);
    for old in [1, 100, 32768, 32769, 100_000] {
        let block = smp.alloc(len(old), Alignment::ONE).unwrap();
        for new in lens {
            // SAFETY: live, with its length.
            assert!(!unsafe { smp.resize(slice(block, old), Alignment::ONE, len(new)) });
            // SAFETY: live, with its length.
            assert!(unsafe { smp.remap(slice(block, old), Alignment::ONE, len(new)) }.is_none());
            // SAFETY: a live block begins there.
            assert!(unsafe { smp.remap_by_address(block, len(new)) }.is_none());
        }
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, old), Alignment::ONE) };
    }
}

/// However many processors there are, so that the slots lie in the first region or in a block of their own.
#[test]
fn a_refused_first_block_leaves_nothing_at_the_backing() {
    for count in [0, 1, 7, 8, 64, 256, 5000] {
        for bytes in [1, 4096, 32768, 32769, 100_000] {
            for refused in 1.. {
                let ground = Rc::new(Ground::default());
                let smp = Small::with_region_size(Rc::clone(&ground), Many(count.max(1)));
                ground.refuse_in.set(refused);
                let block = smp.alloc(len(bytes), Alignment::ONE);
                let all_granted = ground.refuse_in.get() != 0;
                ground.refuse_in.set(0);
                match block {
                    Err(AllocError) => {
                        assert_eq!(ground.blocks(), 0, "{count} slots, {bytes} bytes, request {refused}")
                    }
                    // SAFETY: live, with its length, and not used again.
                    Ok(block) => unsafe { smp.free(slice(block, bytes), Alignment::ONE) },
                }
                let again = smp.alloc(len(bytes), Alignment::ONE).expect("memory, now that nothing is refused");
                // SAFETY: live, with its length, and not used again.
                unsafe { smp.free(slice(again, bytes), Alignment::ONE) };
                if all_granted {
                    break;
                }
            }
        }
    }
}

/// An arena keeps what it gets back: only a request that is made once leaves it as it was.
#[test]
fn a_refused_first_block_leaves_an_arena_as_it_was() {
    for count in [1, 8, 64, 256, 5000] {
        for bytes in [1, 4096, 32768, 32769, 100_000] {
            for refused in 1..4 {
                let ground = Rc::new(Ground::default());
                let arena = ArenaAllocator::new(Rc::clone(&ground));
                let smp = SmpAllocator::<_, _, SMALL>::with_region_size(&arena, Many(count));
                ground.refuse_in.set(refused);
                let block = smp.alloc(len(bytes), Alignment::ONE);
                assert!(block.is_ok() || arena.held_bytes() == 0, "{count} slots, {bytes} bytes, request {refused}");
            }
        }
    }
}

/// So many regions and large blocks that the tables of both grow, with one, some or all calls of the arena refused from the
/// n-th on. What was granted stays granted, and a table that was refused is asked for again.
#[test]
fn a_request_refused_while_the_tables_grow_leaves_an_arena_as_it_was() {
    let mut refusals = 0;
    for first in 0..110 {
        for window in [1, 3, u64::MAX - first] {
            let arena = ArenaAllocator::new(SystemAllocator);
            let failing = FailingAllocator::new(&arena);
            failing.refuse_allocs(first..first + window);
            let smp = SmpAllocator::<_, _, SMALL>::with_region_size(&failing, NoSlots);
            for number in 0..90 {
                let bytes = if number % 2 == 0 { 30_000 } else { 70_000 };
                let before = (arena.held_bytes(), arena.used_bytes());
                if smp.alloc(len(bytes), Alignment::ONE).is_err() {
                    refusals += 1;
                    let after = (arena.held_bytes(), arena.used_bytes());
                    assert_eq!(after, before, "{bytes} bytes, block {number}, refused from {first} on, {window} times");
                }
            }
            if window == 1 {
                assert!(failing.allocs() > 45 + 20 + 4, "regions, large blocks, and two tables of each");
            }
        }
    }
    assert!(refusals > 1000, "{refusals}");
}

/// A table that another thread is about to make larger is no reason to refuse.
#[test]
fn many_threads_at_once_are_not_refused_while_the_tables_grow() {
    for bytes in [30_000, 70_000] {
        let smp = SmpAllocator::<_, _, SMALL>::with_region_size(Slow, NoSlots);
        std::thread::scope(|scope| {
            for _ in 0..48 {
                // What is live ends with the allocator.
                scope.spawn(|| (0..5).for_each(|_| assert!(smp.alloc(len(bytes), Alignment::ONE).is_ok())));
            }
        });
    }
}

/// Where there can be no slots, blocks go from their slabs and back to them.
#[test]
fn more_slots_than_can_be_are_none() {
    for count in [usize::MAX, usize::MAX - 1, usize::MAX / 1000, isize::MAX as usize] {
        let ground = Rc::new(Ground::default());
        let smp = Small::with_region_size(Rc::clone(&ground), Many(count));
        let mut shadow = Shadow::default();
        for number in 0..2000 {
            shadow.step(&smp, &Op::Alloc { len: 1 + number * 37 % 2000, log2: 0, zeroed: number % 3 == 0 });
            if number % 3 == 1 {
                shadow.step(&smp, &Op::Free { index: number });
            }
        }
        assert!(shadow.live.len() > 1000);
        shadow.free_all(&smp);
        smp.trim();
        assert_eq!((0..).map_while(|class| smp.class_stats(class)).map(|stats| stats.blocks_out).sum::<usize>(), 0);
        drop(smp);
        assert_eq!(ground.blocks(), 0);
    }
}

/// Everything allocated before an out-of-memory stays as it was, and can be freed.
#[test]
fn out_of_memory_leaves_all_blocks_intact() {
    for stock in [100_000, 300_000, 1_000_000] {
        let ground = Rc::new(Ground::default());
        ground.stock.set(Some(stock));
        let smp = Small::with_region_size(Rc::clone(&ground), NoSlots);
        let (mut live, mut refused) = (Vec::new(), 0);
        for number in 0..20_000usize {
            let bytes = 1 + number * 7919 % (if number.is_multiple_of(50) { 60_000 } else { 3000 });
            let Ok(block) = smp.alloc(len(bytes), align(8)) else {
                refused += 1;
                continue;
            };
            // SAFETY: live, with so many bytes.
            unsafe { block.write_bytes(number as u8, bytes) };
            live.push((block, bytes, number as u8));
        }
        assert!(refused > 100 && live.len() > 10);
        for (block, bytes, fill) in live {
            // SAFETY: live, and all written.
            assert!(is_all(unsafe { slice(block, bytes).as_ref() }, fill));
            // SAFETY: live, with its length, and not used again.
            unsafe { smp.free(slice(block, bytes), align(8)) };
        }
        smp.trim();
        assert_eq!((0..).map_while(|class| smp.class_stats(class)).map(|stats| stats.blocks_out).sum::<usize>(), 0);
    }
}

#[test]
fn the_bytes_of_medium_blocks_are_told() {
    for count in [1, 5000] {
        let smp = SmpAllocator::new(SystemAllocator, Many(count));
        let (mut live, mut bytes) = (Vec::new(), 0);
        for number in 0..200usize {
            let asked = if number.is_multiple_of(2) { 1 + number * 100 } else { 32_769 + number * 1000 };
            live.push((smp.alloc(len(asked), Alignment::ONE).expect("memory"), asked));
            bytes += if number.is_multiple_of(2) { 0 } else { asked.next_multiple_of(4096) };
            assert_eq!(smp.medium_bytes(), bytes);
        }
        for (block, asked) in live {
            // SAFETY: live, with its length, and not used again.
            unsafe { smp.free(slice(block, asked), Alignment::ONE) };
        }
        assert_eq!(smp.medium_bytes(), 0);
    }
}

/// In large regions a run may have more pages than fit beside its address in a word.
#[test]
fn long_runs_of_large_regions_come_back_and_do_not_overlap() {
    let counted = StatsAllocator::new(SystemAllocator);
    let smp = SmpAllocator::<_, _, { 128 << 20 }>::with_region_size(&counted, NoSlots);
    let mut live: Vec<(NonNull<u8>, usize)> = Vec::new();
    for round in 0..40usize {
        let bytes = [16 << 20, (16 << 20) - 4096, 20 << 20, 32 << 20, 100_000, 40 << 20][round % 6];
        let block = smp.alloc(len(bytes), Alignment::ONE).expect("addresses");
        let apart = |&(other, len): &(NonNull<u8>, usize)| {
            let (start, other) = (block.addr().get(), other.addr().get());
            start + bytes <= other || other + len <= start
        };
        assert!(live.iter().all(apart), "two live blocks overlap");
        live.push((block, bytes));
        let at = round * 7 % live.len();
        let (block, bytes) = live[at];
        // SAFETY: live, with its length.
        if unsafe { smp.resize(slice(block, bytes), Alignment::ONE, len(bytes + (5 << 20))) } {
            let grown = bytes + (5 << 20);
            let inside =
                |&(other, _): &(NonNull<u8>, usize)| (block < other) && other.addr().get() < block.addr().get() + grown;
            assert!(!live.iter().any(inside), "it grew over another");
            live[at].1 = grown;
        }
        if live.len() > 5 {
            let (block, bytes) = live.swap_remove(round % live.len());
            // SAFETY: live, with its length, and not used again.
            unsafe { smp.free(slice(block, bytes), Alignment::ONE) };
        }
    }
    for (block, bytes) in live {
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, bytes), Alignment::ONE) };
    }
    smp.trim();
    assert_eq!(counted.stats().current_bytes, 0, "every region has gone back");
}

/// A ground whose pages can be emptied.
struct Pages(Rc<Ground>);

// SAFETY: the ground's own blocks.
unsafe impl Allocator for Pages {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.0.alloc(len, alignment.max(align(4096)))
    }

    unsafe fn resize(&self, _memory: NonNull<[u8]>, _alignment: Alignment, _new_len: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on as it was asked.
        unsafe { self.0.free(memory, alignment.max(align(4096))) }
    }
}

// SAFETY: blocks begin at multiples of a page; what they do not fill is nobody's.
unsafe impl PageSize for Pages {
    fn page_size(&self) -> Alignment {
        align(4096)
    }
}

// SAFETY: every byte is zero after.
unsafe impl Decommit for Pages {
    unsafe fn decommit(&self, pages: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise: nobody uses them.
        unsafe { pages.cast::<u8>().write_bytes(0, pages.len()) };
        true
    }
}
/// As the processors in a kernel: a caller has now this number, now that one, and at times none.
#[derive(Default)]
struct Wandering {
    turns: Cell<usize>,
    inside: Cell<Option<usize>>,
}

// SAFETY: for one thread, which has each number until it leaves.
unsafe impl Slots for Wandering {
    fn count(&self) -> usize {
        2
    }

    fn enter(&self) -> usize {
        assert_eq!(self.inside.get(), None, "entered twice");
        self.turns.set(self.turns.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let number = (self.turns.get() >> 33) % 3;
        self.inside.set(Some(number));
        number
    }

    fn leave(&self, number: usize) {
        assert_eq!(self.inside.take(), Some(number), "every `leave` ends an `enter`");
    }

    fn adopt(&self, number: usize) -> bool {
        number <= 2 && self.inside.get().is_none()
    }
}

#[test]
fn whoever_has_no_number_leaves_as_often_as_it_enters() {
    let smp = Small::with_region_size(Rc::new(Ground::default()), Wandering::default());
    for number in 0..1000 {
        let block = smp.alloc(len(1 + number), Alignment::ONE).expect("memory");
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, 1 + number), Alignment::ONE) };
    }
    smp.trim();
}

#[test]
fn no_block_is_lost_where_a_caller_changes_its_number_between_two_steps() {
    let smp = Small::with_region_size(Rc::new(Ground::default()), Wandering::default());
    let mut live = VecDeque::new();
    for number in 0..50_000 {
        live.push_back(smp.alloc(len(64), Alignment::ONE).expect("memory"));
        for _ in 0..(number / 100 % 3).min(live.len()) {
            let block = live.pop_front().expect("as many as are asked for");
            // SAFETY: live, with its length, and not used again.
            unsafe { smp.free(slice(block, 64), Alignment::ONE) };
        }
    }
    for block in live {
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, 64), Alignment::ONE) };
    }
    smp.trim();
    assert_eq!((0..).map_while(|class| smp.class_stats(class)).map(|stats| stats.blocks_out).sum::<usize>(), 0);
}

#[test]
fn what_was_freed_replaces_nothing_that_is_at_hand() {
    let smp = Small::with_region_size(Rc::new(Ground::default()), Many(1));
    let blocks: Vec<_> = (0..100).map(|_| smp.alloc(len(64), Alignment::ONE).expect("memory")).collect();
    let mut live: Vec<_> = blocks[40..].to_vec();
    for &block in &blocks[..40] {
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, 64), Alignment::ONE) };
    }
    live.extend(smp.alloc_freed(64));
    for block in live {
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(block, 64), Alignment::ONE) };
    }
    smp.trim();
    assert_eq!(smp.class_stats(3).expect("64 bytes").blocks_out, 0);
}

/// Pages whose memory the backing keeps are nothing to give back: nobody is told to go on trying.
#[test]
fn what_the_backing_does_not_take_back_is_nothing_to_purge() {
    fn check<A: Allocator>(smp: &SmpAllocator<A, Many>) {
        let blocks: Vec<_> = (0..1000).map(|_| smp.alloc(len(1000), Alignment::ONE).expect("memory")).collect();
        for &block in &blocks[1..] {
            // SAFETY: live, with its length, and not used again.
            unsafe { smp.free(slice(block, 1000), Alignment::ONE) };
        }
        let calls = (0..20).take_while(|_| smp.purge_idle()).count();
        assert!((1..6).contains(&calls), "{calls} calls");
        assert!(!smp.purge_idle(), "nothing was freed since");
        // SAFETY: live, with its length, and not used again.
        unsafe { smp.free(slice(blocks[0], 1000), Alignment::ONE) };
    }
    check(&SmpAllocator::new(SystemAllocator, Many(1)));
    check(&SmpAllocator::with_decommit(Stubborn, Many(1)));
}

/// Takes no memory back, as a system where the program has locked its pages.
struct Stubborn;

// SAFETY: the system allocator's blocks.
unsafe impl Allocator for Stubborn {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        SystemAllocator.alloc(len, alignment.max(align(4096)))
    }

    unsafe fn resize(&self, _memory: NonNull<[u8]>, _alignment: Alignment, _new_len: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        // SAFETY: the caller's promise, passed on as it was asked.
        unsafe { SystemAllocator.free(memory, alignment.max(align(4096))) }
    }
}

// SAFETY: blocks begin at multiples of a page; what they do not fill is nobody's.
unsafe impl PageSize for Stubborn {
    fn page_size(&self) -> Alignment {
        align(4096)
    }
}

// SAFETY: changes nothing, and says so.
unsafe impl Decommit for Stubborn {
    unsafe fn decommit(&self, _pages: NonNull<[u8]>) -> bool {
        false
    }
}

proptest! {
    #![proptest_config(cases(1))]
    #[test]
    fn zeroed_blocks_are_zero_after_whatever_was_there(ops in ops(300_000), trims in proptest::collection::vec(any::<u8>(), 80), refusals in proptest::collection::vec(0usize..6, 80)) {
        let ground = Rc::new(Ground::default());
        let smp = SmpAllocator::with_decommit(Pages(Rc::clone(&ground)), Many(6000));
        let mut shadow = Shadow::default();
        for (at, op) in ops.iter().enumerate() {
            ground.refuse_in.set(if refusals[at] == 1 { 1 } else { 0 });
            shadow.step(&smp, op);
            ground.refuse_in.set(0);
            match trims[at] {
                0..20 => smp.trim(),
                20..40 => _ = smp.purge_idle(),
                _ => {}
            }
        }
        for Live { memory, alignment, .. } in shadow.live {
            // SAFETY: live in the shadow, and not used again.
            unsafe { smp.free(memory, alignment) };
        }
    }
}
