//! [`HybridAllocator`]: a bitmap for small runs, a buddy for large ones, a level for what lies between and one for what
//! is larger, and a place for each CPU where the common case stays alone.
//!
//! ```text
//!                 below the threshold, 512 frames            from it on
//!  slots   1 ──▶ [ orders 0–2 │ 3–5 │ 6–8: a word          │ 9–14: a word ]                   a cache line each
//!          2 ──▶ [ … ]   │             │                      │
//!                        ▼             ▼                      ▼                15–20 ▼
//!          bitmap: frames ◀──▶ units: 64 frames ◀──▶ buddy: blocks of 512 ◀──▶ groups of 64 blocks
//!                 ▲                                       │
//!                 └─────────── a whole block ◀────────────┘
//! ```
//!
//! Each level is words of 64 bits. What becomes free as a whole goes up a level, and where a level has nothing left it
//! gets a part of what is free above: so a run of any order is some bits of one word, claimed and put by one step.
//!
//! A slot *holds* a block for each three orders up to 5, a word of units for orders 6 to 8, and a group for the large
//! ones and for new blocks: others look there last. It lets a block go for another when nothing of these orders is
//! left; until then, a request that does not fit is served elsewhere. Each slot looks for groups from another place
//! on, so that slots that go from group to group find their words in other lines of the buddy than its neighbours,
//! and, with more than 8 GiB for each, the groups' marks and classes too; the price is that a memory of which little
//! is used has a group begun in many places, and no run of 4 GiB for long. What a hold spares is a search and a cache
//! line that others write; it hides nothing: a frame is claimed by the same atomic step in all cases, so any thread
//! may claim out of any block, and ends all holds before it gives up. So the slots' contents are hints, a stopped
//! thread stops nobody, and a double free is found wherever the frame was freed. What is between two levels just then
//! a stopped thread keeps: a block, eight on the way to the units, a group on the way from or to the groups.
//!
//! - **H1** A frame is free exactly while one bit is one: its own in the bitmap, its unit's, its block's in the buddy, or
//!   its group's. Never two of them.
//! - **H2** What is free as one has no bits below. It gets bits there only by a step that made its own zero.
//! - **H3** A block that has, or had since it came from the buddy, free frames in the bitmap is marked `SPLIT`; one that
//!   has, or had, free units is marked `PARTED`; a group that has, or had, free blocks or parts of blocks is marked `SPLIT`
//!   in the index of groups.
//! - **H4** A block all of whose frames are free in the bitmap, or in the units, goes to the buddy when it, or its word of
//!   units, is not held, and a group all of whose blocks are free likewise; if threads race for it, when the buddy runs
//!   out.
//! - **H5** A block that has free units has no word of the bitmap that is free as a whole, unless it is held; if threads
//!   race for it, until the buddy runs out. So what is free as a whole comes together by H4.
//! - **H6** Whoever marks a block or a word `HELD` ends the hold, or puts it into a lane by a swap, and whom a swap gives
//!   it ends the hold. Anybody may end a hold before: what is left in the lane is a hint to a block like others then. So
//!   whoever has taken a hold, and changed what is behind it, looks at last whether it still holds, and registers what it
//!   does not.
//!
//! What is freed need not be what was handed out: half of a large run makes a block of the bitmap, 512 frames freed
//! one by one make a block of the buddy.
//!
//! | metadata words, at most, without contention | up to 2 GiB | 1 TiB |
//! |---|---|---|
//! | alloc, up to 32 frames, out of a held word: lane, bits | 2 | 2 |
//! | else: a block let go, another found, or new out of another group | 180 | 230 |
//! | alloc, 64, 128, 256 frames: 2 out of a held word, else | 95 | 160 |
//! | alloc, 1 to 32 blocks: 2 out of a held group, else | 45 | 100 |
//! | alloc, 2^n groups | 5 | 110 |
//! | free of up to 63 frames in a word: 5 to a held block, 12 else, and when a word became whole, and what it lies in | 90 | 130 |
//! | free of 64, 128, 256 frames: 12, and when the block became whole, and what it lies in | 60 | 90 |
//! | free of 1 to 32 blocks: 8, and when the group became whole; where blocks had been parted or split 12 more, and 8 for each that had been split | 30 | 55 |
//! | free of 2^n groups; where one had been split as many as the blocks in it | 5 | 10 |
//! | a batch: as much for each word that its runs share | | |
//!
//! Where the last blocks are in groups that others hold, 1 for 8 GiB more. A slot that holds a block with room for its
//! lane's smallest order alone, the end of the memory for instance, has larger ones found elsewhere each time. The
//! metadata take a bit a frame, 28 bits a block, and a line a slot: 0.0033 %.
//!
//! A hint that says too much costs its finder a block's visit more, once: it is one that a request with limits or an
//! odd count, or a lost race, has left behind.
//!
//! Before a refusal every hold ends (a word for 64 blocks, a line a slot), what stopped threads have left out of the
//! index is mended (13 words for 64 blocks), and the search is made anew: that one is the longest call.

#[path = "hybrid/find.rs"] // In full, for the models load this file by its path.
mod find;
#[path = "hybrid/groups.rs"]
mod groups;
#[path = "hybrid/many.rs"]
mod many;
#[path = "hybrid/put.rs"]
mod put;
#[path = "hybrid/units.rs"]
mod units;

use core::fmt;

use terrace_core::Allocator;
use terrace_sync::{NoSlots, Slots};

use crate::{
    allocator::{FrameAllocator, Request},
    atomic::{AtomicU64, Ordering},
    batch,
    blocks::{Blocks, Want},
    index::{HELD, Index, SPLIT},
    map::MemoryMap,
    plan::{self, Plan},
    storage::Storage,
    tree::Tree,
    types::{Frame, FrameError, Frames, Misuse, Order},
    word::{BLOCK, BLOCK_ORDER, WORD, WORD_ORDER},
};

/// The words of a slot: two for small requests, by the order, one for runs of units, one for large ones.
const UNITS: usize = 2;
const LARGE: usize = 3;
/// Each three small orders have a lane, so that runs of many frames find blocks without holes.
const LANE_ORDERS: u32 = 3;
/// The order of all blocks of a word, a group.
const GROUP_ORDER: u32 = BLOCK_ORDER + WORD_ORDER;
const MOST_ORDER: u32 = GROUP_ORDER - 1;
/// A lane that holds nothing.
const NOTHING: u64 = u64::MAX;

/// Over `storage`, which has room for so many words, each the first of `APART`.
fn tree_over<const APART: usize>(storage: &[AtomicU64], words: usize) -> Tree<'_, APART> {
    let (bits, index) = storage.split_at((words * APART).next_multiple_of(plan::LINE));
    // By P1 word 0 begins at a multiple of 64 of what it stands for, for `groups` begins `gap` earlier.
    Tree::new(&bits[..words * APART], 0, Index::new(index, words))
}

/// Has all items of a row looked at, and strikes those off that do not belong there.
fn sweep(index: &Index<'_>, class: u32, settle: impl Fn(usize)) {
    let mut at = 0;
    while let Some(item) = index.next(class, at) {
        // In its own row first, so that a thread that stops hides nothing.
        settle(item);
        index.clear(item, class);
        settle(item);
        at = item + 1;
    }
}

/// Hands out runs of frames of any length up to 4 GiB, to many CPUs at once.
///
/// ```
/// use terrace_frame::{FrameAllocator, Frames, HybridAllocator, MemoryMap, Order, PageSize};
///
/// const FRAMES: usize = 64 << 8; // 64 MiB
/// let map = MemoryMap::of(Frames::new(0x100, FRAMES)).unwrap();
/// let mut storage = [0; HybridAllocator::metadata_bytes(FRAMES, 0) / 8];
/// let frames = HybridAllocator::new(&map, &mut storage)?;
///
/// let (one, large) = (frames.alloc_order(Order::MIN)?, frames.alloc_order(PageSize::Large.order())?);
/// assert_eq!(frames.free_frames(), FRAMES - 513);
/// frames.free_order(one, Order::MIN).unwrap();
/// frames.free_order(large, PageSize::Large.order()).unwrap();
/// assert!(frames.free_order(one, Order::MIN).is_err(), "it is free");
/// # Ok::<(), terrace_frame::FrameError>(())
/// ```
pub struct HybridAllocator<'m, S = NoSlots, B = ()> {
    /// A line for each slot; the first is shared by all callers without a number.
    lanes: &'m [AtomicU64],
    slots: S,
    base: usize,
    blocks: Blocks<'m>,
    units: Tree<'m>,
    tree: Tree<'m>,
    /// Its words have cache lines of their own: there are few, and all slots claim of them.
    groups: Tree<'m, { plan::LINE }>,
    /// What the groups' bits are ahead of their numbers.
    gap: usize,
    threshold: usize,
    map: MemoryMap,
    storage: Storage<'m, B>,
}

impl HybridAllocator<'_> {
    /// Bytes of storage that are enough for a map whose span is so many frames, holes included, and so many slots; of more than any
    /// storage has room for all that a `usize` holds.
    #[must_use]
    pub const fn metadata_bytes(frames: usize, slots: usize) -> usize {
        plan::hybrid_bytes(frames, slots)
    }
}

impl<'m> HybridAllocator<'m> {
    /// Over the frames of `map`, for callers without slots, with its notes in `storage`, whose contents do not matter.
    ///
    /// # Errors
    /// [`FrameError::InvalidSize`]: the storage is smaller than [`metadata_bytes`](HybridAllocator::metadata_bytes) of
    /// the map's span.
    pub fn new(map: &MemoryMap, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        Self::with_slots(map, NoSlots, storage)
    }
}

impl<'m, S: Slots> HybridAllocator<'m, S> {
    /// The same, with a place for each number of `slots`.
    ///
    /// # Errors
    /// As [`new`](HybridAllocator::new).
    pub fn with_slots(map: &MemoryMap, slots: S, storage: &'m mut [u64]) -> Result<Self, FrameError> {
        let storage = Storage::of_slice(storage, Plan::new(map.span()).hybrid_words(slots.count()))?;
        Ok(Self::over(map, slots, storage))
    }
}

impl<S, B> HybridAllocator<'_, S, B> {
    /// The frames that it hands out.
    pub(crate) const fn map(&self) -> &MemoryMap {
        &self.map
    }

    /// Whose numbers it knows.
    pub(crate) const fn slots(&self) -> &S {
        &self.slots
    }
}

impl<'m, S: Slots, B> HybridAllocator<'m, S, B> {
    /// The same with its notes in a block of `backing`, which goes back when the allocator is dropped.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`]: the backing has no such block.
    pub fn new_in(map: &MemoryMap, slots: S, backing: &'m B) -> Result<Self, FrameError>
    where
        B: Allocator,
    {
        let storage = Storage::of_backing(backing, Plan::new(map.span()).hybrid_words(slots.count()))?;
        Ok(Self::over(map, slots, storage))
    }

    /// The same, with the buddy serving requests of `frames` and more: 1 to 512, 512 at first. What the buddy serves
    /// begins at a block and takes whole blocks, of which the rest goes back.
    #[must_use]
    pub fn with_threshold(self, frames: usize) -> Self {
        Self { threshold: frames.clamp(1, BLOCK), ..self }
    }

    fn over(map: &MemoryMap, slots: S, storage: Storage<'m, B>) -> Self {
        let plan = Plan::new(map.span());
        let (bits, rest) = storage.words().split_at(plan.bits_words());
        let (index, rest) = rest.split_at(plan.index_words());
        let (lanes, rest) = rest.split_at((slots.count() + 1) * plan::LINE);
        let (tree, rest) = rest.split_at(plan::tree_words(plan.groups, 1));
        let (units, groups) = rest.split_at(plan::tree_words(plan.units_words(), 1));
        lanes.iter().for_each(|lane| lane.store(NOTHING, Ordering::Relaxed));
        let hybrid = Self {
            lanes,
            slots,
            base: plan.base,
            blocks: Blocks::new(bits, plan.skip, Index::new(index, plan.groups * WORD)),
            units: tree_over(units, plan.units_words()),
            tree: tree_over(tree, plan.groups),
            groups: tree_over(groups, plan.groups_words()),
            gap: plan.gap(),
            threshold: BLOCK,
            map: map.clone(),
            storage,
        };
        for range in map.ranges() {
            hybrid.put(range.start.0 - plan.base, range.count);
        }
        hybrid
    }

    /// Whether any frame of the run, which lies in the map, is free.
    pub(crate) fn any_is_free(&self, frames: Frames) -> bool {
        self.has_any(frames.start.0 - self.base, frames.count)
    }

    /// The lane of the caller's slot, by its number; one that the provider should not have given shares with those that
    /// have none, or with any: what stands there is a hint.
    #[inline]
    fn lane(&self, number: usize, lane: usize) -> &AtomicU64 {
        self.lanes.get(number.wrapping_mul(plan::LINE).wrapping_add(lane)).unwrap_or(&self.lanes[lane])
    }

    /// A small run of `order`, 0 to 5, for the slot with that number, which did not have it in its word.
    #[inline(never)]
    fn refill(&self, number: usize, order: u32) -> Option<usize> {
        let lane = self.lane(number, (order / LANE_ORDERS) as usize);
        let word = lane.load(Ordering::Relaxed);
        if word != NOTHING
            && let Some(frame) = self.blocks.take_order(word as usize, order)
        {
            let found = self.blocks.word_of(frame) as u64;
            // Not where another caller of this slot has put another block meanwhile, or ended this hold (H6).
            let _ = lane.compare_exchange(word, found, Ordering::Relaxed, Ordering::Relaxed);
            return Some(frame);
        }
        let want = Want { count: 1 << order, alignment: order, from: 0, to: usize::MAX };
        let least = order / LANE_ORDERS * LANE_ORDERS;
        if word != NOTHING && order > least && self.blocks.has_order(word as usize, least) {
            // The block at hand still serves smaller requests of this lane; holding another would leave its holes
            // behind.
            let frame = self.blocks.find(&want, order, BLOCK_ORDER, false);
            return frame.or_else(|| self.run_of_units(&want)).or_else(|| self.new_block(&want));
        }
        let find = self.blocks.find(&want, order, BLOCK_ORDER, true).map(|frame| (frame, true));
        let (frame, hold) = find
            .or_else(|| self.frames_from_units(want.count))
            .or_else(|| self.block_for(number).map(|block| (self.open(block, want.count), true)))?;
        if !hold {
            return Some(frame);
        }
        let before = lane.swap(self.blocks.word_of(frame) as u64, Ordering::Relaxed);
        self.end_hold(before);
        Some(frame)
    }

    /// Ends the hold on a block, whose word stood in a lane.
    fn end_hold(&self, word: u64) {
        if word != NOTHING {
            self.let_go(self.blocks.block_of(word as usize));
        }
    }

    fn let_go(&self, block: usize) {
        self.blocks.index.unmark(block, HELD);
        self.settle_block(block);
    }

    /// A block from the buddy, wherever the limits allow: the run as wanted out of it, the rest to units and bitmap.
    fn new_block(&self, want: &Want) -> Option<usize> {
        // Blocks that have a part of `from..to` which is long enough lie wholly in it, but for those at its ends.
        let (from, to) = (want.from.div_ceil(BLOCK), (want.to / BLOCK).min(self.blocks.end()));
        let frame = self.take_blocks(0, from, to)? * BLOCK;
        if want.count < BLOCK {
            self.put_part(frame + want.count, BLOCK - want.count);
        }
        Some(frame)
    }

    /// A block from the buddy for the slot with that number: out of the word that it holds, or holds then, or one that
    /// another holds.
    fn block_for(&self, number: usize) -> Option<usize> {
        let lane = self.lane(number, LARGE);
        let at_hand = self.tree.take_unit(lane.load(Ordering::Relaxed) as usize);
        at_hand.or_else(|| self.refill_large(number, 0)).or_else(|| self.tree.take_held())
    }

    /// The first frames of a block that came from the buddy, the rest to the bitmap, and held.
    fn open(&self, block: usize, count: usize) -> usize {
        self.blocks.index.mark(block, HELD);
        self.blocks.index.mark(block, SPLIT);
        self.blocks.fill(block, count);
        block * BLOCK
    }

    /// Ends all holds, those of threads that have stopped on the way to their lane too, and moves to the buddy what is
    /// free as a whole (H4).
    fn gather(&self) {
        self.lanes.iter().for_each(|lane| lane.store(NOTHING, Ordering::Relaxed));
        self.tree.index.held().for_each(|group| self.end_group_hold(group));
        self.blocks.index.held().for_each(|block| self.let_go(block));
        self.units.index.held().for_each(|word| self.end_units_hold(word));
        sweep(&self.blocks.index, BLOCK_ORDER, |block| self.settle_block(block));
        self.blocks.index.mixed().for_each(|block| self.settle_block(block));
        for class in BLOCK_ORDER - WORD_ORDER..=WORD_ORDER {
            sweep(&self.units.index, class, |word| self.settle_units(word));
        }
        sweep(&self.tree.index, WORD_ORDER, |group| self.settle_group(group));
    }

    /// A run of `order`, before anything is given up.
    #[inline]
    pub(crate) fn of_order(&self, order: u32) -> Option<usize> {
        let number = self.slots.enter();
        let frame = if order < BLOCK_ORDER && 1 << order < self.threshold {
            // Relaxed: a hint. NOTHING is behind the last word.
            let at_hand = || self.lane(number, (order / LANE_ORDERS) as usize).load(Ordering::Relaxed) as usize;
            match order {
                0 => self.blocks.take_bit(at_hand()).or_else(|| self.refill(number, order)),
                1..WORD_ORDER => self.blocks.take_in_word(at_hand(), order).or_else(|| self.refill(number, order)),
                _ => self.units_of_order(number, order - WORD_ORDER),
            }
        } else if (BLOCK_ORDER..=MOST_ORDER).contains(&order) {
            let lane = self.lane(number, LARGE);
            let word = lane.load(Ordering::Relaxed) as usize;
            let order = order - BLOCK_ORDER;
            let found = self.tree.take_in(word, order, 0, usize::MAX).or_else(|| self.refill_large(number, order));
            found.map(|block| block * BLOCK)
        } else if order >= GROUP_ORDER {
            self.groups_of_order(number, order - GROUP_ORDER).map(|group| group * plan::GROUP)
        } else {
            let want = Want { count: 1 << order, alignment: order, from: 0, to: usize::MAX };
            self.alloc_large(&want, None)
        };
        self.slots.leave(number);
        if number == 0 {
            self.slots.claim(); // For the next time.
        }
        frame
    }

    #[inline(never)]
    fn of_any_order(&self, order: u32) -> Result<Frame, FrameError> {
        let start = self.of_order(order).map_or_else(|| self.again(|| self.of_order(order)), Ok)?;
        Ok(Frame(start + self.base))
    }

    /// Takes a run of an order back that is not a frame, whose put needs no registers of its caller's.
    #[inline(never)]
    fn free_larger(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        let frames = Frames::of_order(start, order);
        if start.0 & (frames.count - 1) != 0 {
            return Err(Misuse::NotARun);
        }
        if !self.map.contains(frames) {
            return Err(Misuse::Outside);
        }
        let start = start.0 - self.base;
        match order.log2() {
            0..WORD_ORDER => self.free_in_word(start, frames.count),
            WORD_ORDER..BLOCK_ORDER => self.free_units(start, frames.count),
            BLOCK_ORDER..GROUP_ORDER => self.free_blocks(start, frames.count),
            GROUP_ORDER.. => self.free_groups(start / plan::GROUP, frames.count / plan::GROUP),
        }
    }

    /// After nothing was found: once more when the holds have ended.
    #[cold]
    fn again(&self, find: impl Fn() -> Option<usize>) -> Result<usize, FrameError> {
        self.gather();
        let indices = [&self.blocks.index, &self.units.index, &self.tree.index, &self.groups.index];
        indices.into_iter().for_each(Index::mend);
        find().ok_or(FrameError::OutOfMemory)
    }
}

// SAFETY: by H1, B1 and T1 a frame is handed out by the step that makes its bit zero, to one; bits are set for frames
// of the map only; `find`, `take` and `open` return runs as wanted; a batch takes runs of one word by one such step.
unsafe impl<S: Slots, B> FrameAllocator for HybridAllocator<'_, S, B> {
    fn alloc(&self, request: &Request) -> Result<Frames, FrameError> {
        let alignment = request.checked()?;
        let order = Order::holding(request.count).ok_or(FrameError::InvalidSize)?;
        let plain = request.within == Frames::ALL && request.near.is_none();
        if plain
            && request.count == order.frames()
            && request.alignment <= request.count
            && let Some(start) = self.of_order(order.log2())
        {
            return Ok(Frames::new(start + self.base, request.count));
        }
        let within = request.within.shared_with(self.map.span());
        if within.count < request.count {
            return Err(FrameError::OutOfMemory);
        }
        let (from, to) = (within.start.0 - self.base, within.end() - self.base);
        let near = request.near.and_then(|frame| frame.0.checked_sub(self.base));
        let want = Want { count: request.count, alignment, from, to };
        if within.count == request.count {
            let fits = within.start.0.is_multiple_of(request.alignment) && self.claim_all(from, request.count);
            return if fits { Ok(within) } else { Err(FrameError::OutOfMemory) };
        }
        let find = || {
            if want.count < self.threshold && want.alignment <= BLOCK_ORDER {
                self.alloc_small(&want, near)
            } else {
                self.alloc_large(&want, near)
            }
        };
        let start = find().map_or_else(|| self.again(find), Ok)?;
        Ok(Frames::new(start + self.base, request.count))
    }

    fn free(&self, frames: Frames) -> Result<(), Misuse> {
        if !self.map.contains(frames) {
            return Err(Misuse::Outside);
        }
        let start = frames.start.0 - self.base;
        if start % WORD + frames.count <= WORD && frames.count < WORD {
            return self.free_in_word(start, frames.count);
        }
        if self.has_any(start, frames.count) {
            return Err(Misuse::AlreadyFree);
        }
        if start % BLOCK + frames.count <= BLOCK && frames.count < BLOCK {
            self.put_part(start, frames.count);
        } else {
            self.put(start, frames.count);
        }
        Ok(())
    }

    #[inline]
    fn free_order(&self, start: Frame, order: Order) -> Result<(), Misuse> {
        if order == Order::MIN {
            let inside = self.map.contains_frame(start.0);
            return if inside { self.free_one(start.0 - self.base) } else { Err(Misuse::Outside) };
        }
        self.free_larger(start, order)
    }

    #[inline]
    fn alloc_order(&self, order: Order) -> Result<Frame, FrameError> {
        let order = order.log2();
        // The two most frequent, as the rest would serve them too: a frame, and a page of 2 MiB, out of what is at
        // hand.
        if (order == 0 && self.threshold > 1) || order == BLOCK_ORDER {
            let number = self.slots.enter();
            let at_hand = |lane: usize| self.lane(number, lane).load(Ordering::Relaxed) as usize;
            let found = if order == 0 {
                self.blocks.take_bit(at_hand(0))
            } else {
                self.tree.take_unit(at_hand(LARGE)).map(|block| block * BLOCK)
            };
            self.slots.leave(number);
            if let Some(start) = found {
                if number == 0 {
                    self.slots.claim(); // For the next time.
                }
                return Ok(Frame(start + self.base));
            }
        }
        self.of_any_order(order)
    }

    fn alloc_batch(&self, order: Order, into: &mut [Frame]) -> usize {
        batch::fill(into, || self.alloc_order(order).ok(), |run, into| self.more(run, order, into))
    }

    fn free_batch(&self, order: Order, runs: &[Frame]) -> Result<(), (usize, Misuse)> {
        self.free_many(order, runs)
    }

    fn drain(&self) {
        self.gather();
    }

    fn span(&self) -> Frames {
        self.map.span()
    }

    fn total_frames(&self) -> usize {
        self.map.count()
    }

    fn free_frames(&self) -> usize {
        let large = self.tree.count() * BLOCK + self.groups.count() * plan::GROUP;
        self.blocks.count() + self.units.count() * WORD + large
    }

    fn is_free(&self, frame: Frame) -> bool {
        let inside = self.map.contains(Frames { start: frame, count: 1 });
        inside && self.has_any(frame.0.wrapping_sub(self.base), 1)
    }

    fn free_word(&self, word: usize) -> u64 {
        let word = word.wrapping_sub(self.base / WORD);
        match self.blocks.word(word) {
            // By H1 what has bits is free nowhere else.
            Some(0) if self.units.has(word) || self.has_block(word * WORD / BLOCK) => !0,
            free => free.unwrap_or(0),
        }
    }

    fn manages(&self, frames: Frames) -> bool {
        self.map.contains(frames)
    }
}

impl<S: Slots, B> fmt::Debug for HybridAllocator<'_, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridAllocator")
            .field("span", &self.map.span())
            .field("free", &self.free_frames())
            .field("threshold", &self.threshold)
            .field("slots", &self.slots.count())
            .field("storage", &self.storage)
            .finish()
    }
}
