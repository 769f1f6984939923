//! Loom's model of `src/smp/`, the production files themselves: every order of threads that allocate, free, die and trim.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p terrace-heap --release --test 'loom_*' --target-dir target/loom
//! ```
//!
//! The struct and its classes are the model's (`loom_smp/`), so that two blocks fill a chain; the magazines, the depot, the
//! slabs, the pages, the registry and the paths between them are the ones in production, and so are the lock and the slot numbers.
//!
//! What holds in every order: live blocks are disjoint, whoever gets a block has seen all that was done to it before, slots are
//! reached by one thread at a time, and in the end every block is in its slab and every region went back. Each ordering that
//! a test names here is needed: taken away alone, it makes a model fail.
#![cfg(loom)]

// The production files take what threads share from `terrace_sync`: here that is this file.
extern crate self as terrace_sync;
extern crate terrace_sync as real_sync;

use std::{
    alloc::{Layout, alloc_zeroed},
    cell::Cell,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{Arc, Mutex},
};

use loom::thread;
use terrace_core::{Alignment, AllocError, Allocator};

#[path = "../../sync/src/lock.rs"]
mod lock;
#[path = "../../sys/src/numbers.rs"]
mod numbers;
#[path = "../../sync/src/slots.rs"]
mod slots;
#[path = "loom_smp/smp.rs"]
mod smp;
#[path = "../../sync/tests/loom_support/mod.rs"]
mod support;

use lock::{Held, Lock};
use numbers::Numbers;
use real_sync::{const_fn, repeat};
use slots::{KEPT_BYTES, Slots};
use smp::{BYTES, SmpAllocator, registry::Registry};
use support::{Ordering, RACE, atomic, cell, check, fails_without};

loom::thread_local! {
    static NUMBER: Cell<usize> = Cell::new(0);
}

/// As `ThreadSlots`, with so many numbers.
struct ModelSlots {
    numbers: Numbers,
    count: usize,
}

impl ModelSlots {
    /// What the destructor of a thread does.
    fn end_thread(&self) {
        match NUMBER.with(|number| number.replace(0)) {
            0 => {}
            number => self.numbers.give_back(number),
        }
    }
}

// SAFETY: by `Numbers` a number is one thread's or one adopter's at a time.
unsafe impl Slots for ModelSlots {
    fn count(&self) -> usize {
        self.count
    }

    fn enter(&self) -> usize {
        NUMBER.with(Cell::get)
    }

    fn claim(&self) -> bool {
        let number = self.numbers.take_lowest(self.count);
        number.inspect(|&number| NUMBER.with(|own| own.set(number))).is_some()
    }

    fn adopt(&self, number: usize) -> bool {
        number <= self.count && self.numbers.take(number)
    }

    unsafe fn release(&self, number: usize) {
        self.numbers.give_back(number);
    }

    fn pause(&self, _tries: u32) {
        thread::yield_now();
    }
}

/// The backing: memory that is never used twice, so that no order of its own hides what the allocator leaves out. Its addresses
/// are the same in every execution, since they decide where the registry looks.
struct Ground {
    start: NonNull<u8>,
    blocks: Mutex<Vec<Given>>,
}

/// A block, and whether it is live.
struct Given {
    start: usize,
    layout: Layout,
    live: bool,
}

const GROUND: Layout = match Layout::from_size_align(24 * BYTES, 2 * BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a layout"),
};

std::thread_local! {
    /// One for a test, whose executions follow one another.
    static MEMORY: NonNull<u8> = {
        // SAFETY: not of size zero.
        NonNull::new(unsafe { alloc_zeroed(GROUND) }).expect("memory")
    };
}

impl Ground {
    fn new() -> Self {
        Self { start: MEMORY.with(|memory| *memory), blocks: Mutex::default() }
    }

    fn live(&self) -> usize {
        self.blocks.lock().unwrap().iter().filter(|block| block.live).count()
    }
}

// SAFETY: the memory is the running execution's alone.
unsafe impl Send for Ground {}
// SAFETY: as above; what changes is locked.
unsafe impl Sync for Ground {}

// SAFETY: blocks behind one another, each handed out once.
unsafe impl Allocator for Ground {
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let layout = Layout::from_size_align(len.get(), alignment.bytes()).map_err(|_| AllocError)?;
        let mut blocks = self.blocks.lock().unwrap();
        let end = blocks.last().map_or(0, |last| last.start + last.layout.size());
        let start = alignment.forward(end).expect("a small offset");
        assert!(start + len.get() <= GROUND.size(), "enough memory for the model");
        blocks.push(Given { start, layout, live: true });
        // SAFETY: inside the memory.
        Ok(unsafe { self.start.add(start) })
    }

    unsafe fn resize(&self, _memory: NonNull<[u8]>, _alignment: Alignment, _new_len: NonZeroUsize) -> bool {
        false
    }

    unsafe fn remap(&self, _: NonNull<[u8]>, _: Alignment, _: NonZeroUsize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn free(&self, memory: NonNull<[u8]>, alignment: Alignment) {
        let start = memory.addr().get() - self.start.addr().get();
        let mut blocks = self.blocks.lock().unwrap();
        let back = blocks.iter_mut().find(|block| block.start == start).expect("a block of this ground");
        let (len, strict) = (back.layout.size(), back.layout.align());
        assert_eq!((len, strict, back.live), (memory.len(), alignment.bytes(), true), "clause 11");
        back.live = false;
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        let block = self.alloc(len, alignment)?;
        // SAFETY: just handed out.
        unsafe { block.write_bytes(0, len.get()) };
        support::write(block.addr().get(), len.get()); // By this thread: whoever reads zeroes here has to know of it.
        Ok(block)
    }
}

/// A live block of a class.
struct Block(NonNull<u8>, usize);

// SAFETY: a block is whoever's the value is.
unsafe impl Send for Block {}

struct Model {
    smp: SmpAllocator<Ground, ModelSlots, BYTES>,
    live: Mutex<Vec<usize>>,
    handed: Mutex<Vec<Block>>,
}

impl Model {
    fn new(count: usize) -> Arc<Self> {
        let slots = ModelSlots { numbers: Numbers::new(), count };
        Arc::new(Self {
            smp: SmpAllocator::new(Ground::new(), slots),
            live: Mutex::default(),
            handed: Mutex::default(),
        })
    }

    /// A new block, written to.
    fn alloc(&self, class: usize) -> Block {
        let start = self.smp.alloc(class);
        let mut live = self.live.lock().unwrap();
        assert!(!live.contains(&start.addr().get()), "two live blocks are one");
        live.push(start.addr().get());
        support::write(start.addr().get(), 16);
        Block(start, class)
    }

    fn free(&self, Block(start, class): Block) {
        support::write(start.addr().get(), 16);
        self.live.lock().unwrap().retain(|&live| live != start.addr().get());
        // SAFETY: live until now, of this class.
        unsafe { self.smp.free(class, start) };
    }

    fn hand(&self, count: usize, class: usize) {
        let blocks: Vec<_> = (0..count).map(|_| self.alloc(class)).collect();
        self.handed.lock().unwrap().extend(blocks);
    }

    /// A block that another thread allocated before this one began.
    fn handed(&self) -> Block {
        self.handed.lock().unwrap().pop().expect("enough were handed")
    }

    /// The threads are done: everything comes back.
    fn end(&self) {
        self.smp.slots().end_thread();
        self.smp.trim();
        for stats in (0..).map_while(|class| self.smp.class_stats(class)) {
            assert_eq!((stats.blocks_out, stats.slabs, stats.blocks_in_depot), (0, 0, 0));
        }
        assert_eq!(self.smp.backing().live(), 1, "the table of slots alone");
    }
}

/// Runs `ours` and `theirs` in two threads after `before`; there are `count` slots.
fn both(count: usize, before: fn(&Model), ours: fn(&Model), theirs: fn(&Model)) {
    let model = Model::new(count);
    before(&model);
    let other = Arc::clone(&model);
    let thread = thread::spawn(move || {
        theirs(&other);
        other.smp.slots().end_thread();
    });
    ours(&model);
    thread.join().unwrap();
    model.handed.lock().unwrap().drain(..).for_each(|block| model.free(block));
    model.end();
}

fn one(model: &Model) {
    model.free(model.alloc(0));
}

/// There is no table of slots yet: both make one.
fn first_blocks() {
    both(2, |_| (), one, one);
}

/// As above, of different classes, so that no lock of a depot orders the two.
fn first_blocks_apart() {
    both(2, |_| (), one, |model| model.free(model.alloc(1)));
}

/// As above, of slabs with one block, whose thread puts nothing into a slot before it frees.
fn first_lone_blocks() {
    both(2, |_| (), |model| model.free(model.alloc(1)), |model| model.free(model.alloc(1)));
}

/// A thread dies with blocks in its magazines; whoever gets its number finds them. There is one number: who comes too early shares.
fn hand_over() {
    fn before(model: &Model) {
        model.hand(1, 0);
        model.smp.slots().end_thread();
    }
    fn life(model: &Model) {
        one(model);
        model.smp.slots().end_thread();
    }
    both(1, before, life, life);
}

/// One thread frees until a chain goes to the depot, the other allocates until it comes from there.
fn exchange() {
    fn before(model: &Model) {
        model.hand(7, 0);
    }
    fn free(model: &Model) {
        (0..7).for_each(|_| model.free(model.handed()));
    }
    fn alloc(model: &Model) {
        let blocks = [(); 2].map(|()| model.alloc(0));
        blocks.into_iter().for_each(|block| model.free(block));
    }
    both(2, before, alloc, free);
}

/// Nobody has a number: both use the common slot.
fn common() {
    both(0, |_| (), one, one);
}

/// One thread trims while the other one works and dies.
fn trim() {
    both(2, |model| model.hand(1, 0), |model| model.smp.trim(), one);
}

/// A reserve is taken by who purges while its slot's thread takes or makes one.
fn reserve() {
    fn before(model: &Model) {
        model.hand(5, 0);
    }
    fn free(model: &Model) {
        (0..5).for_each(|_| model.free(model.handed()));
    }
    both(2, before, |model| _ = model.smp.purge_idle(), free);
}

/// Runs at hand go from thread to thread. A quarter of a region is a page here.
fn runs() {
    let slots = ModelSlots { numbers: Numbers::new(), count: 2 };
    let smp: Arc<SmpAllocator<Ground, ModelSlots, { 2 * BYTES }>> = Arc::new(SmpAllocator::new(Ground::new(), slots));
    use_page(&smp);
    let other = Arc::clone(&smp);
    let thread = thread::spawn(move || use_page(&other));
    use_page(&smp);
    thread.join().unwrap();
    smp.trim();
    assert_eq!(smp.backing().live(), 0, "every region has come back");
}

/// Runs at hand are given back by who purges, and serve again.
fn runs_emptied() {
    let slots = ModelSlots { numbers: Numbers::new(), count: 2 };
    let smp: Arc<SmpAllocator<Ground, ModelSlots, { 2 * BYTES }>> = Arc::new(SmpAllocator::new(Ground::new(), slots));
    let other = Arc::clone(&smp);
    let thread = thread::spawn(move || use_page(&other));
    smp.purge_idle();
    use_page(&smp);
    thread.join().unwrap();
    smp.trim();
    assert_eq!(smp.backing().live(), 0, "every region has come back");
}

fn use_page(smp: &SmpAllocator<Ground, ModelSlots, { 2 * BYTES }>) {
    let start = smp.alloc_page();
    support::write(start.addr().get(), 16);
    // SAFETY: allocated above.
    unsafe { smp.free_page(start) };
}

fn region(number: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(number * BYTES)).expect("not the zeroth")
}

/// Returns the bytes of the larger table that is wanted.
///
/// # Safety
/// One thread writes, and no region is looked into.
unsafe fn enter(registry: &Registry<BYTES>, number: usize) -> Option<NonZeroUsize> {
    // SAFETY: the caller's promise.
    assert_eq!(unsafe { registry.reserve() }, Ok(()), "there is a place");
    // SAFETY: the caller's promise.
    unsafe { registry.insert(region(number)) }
}

/// Regions are entered until the table is replaced, and others struck, while a thread asks for one that stays.
fn registry() {
    let registry: Arc<Registry<BYTES>> = Arc::new(Registry::new());
    // SAFETY: no other thread yet, and no region is looked into.
    (1..=8).for_each(|number| assert_eq!(unsafe { enter(&registry, number) }, None, "half of sixteen"));
    let other = Arc::clone(&registry);
    let thread = thread::spawn(move || {
        for _ in 0..2 {
            assert!(other.contains(region(3)), "a region that is there is found");
        }
        assert!(!other.contains(region(19)), "a region that is not there is not found");
    });
    // SAFETY: one thread writes.
    let bytes = unsafe { enter(&registry, 9) }.expect("more than half of the table is used");
    let words = vec![0usize; bytes.get() / size_of::<usize>() + 1].leak();
    let memory = NonNull::from(words).cast::<u8>();
    // SAFETY: one thread writes; the memory is large enough, and is never given back.
    assert!(unsafe { registry.install(memory, bytes) });
    // SAFETY: one thread writes, and no region has a block.
    unsafe { registry.remove(region(2)) };
    // SAFETY: as above.
    unsafe { registry.remove(region(4)) };
    thread.join().unwrap();
    let found = (1..=20).filter(|&number| registry.contains(region(number))).collect::<Vec<_>>();
    assert_eq!(found, [1, 3, 5, 6, 7, 8, 9]);
}

#[test]
fn the_first_blocks_of_two_threads() {
    check(Some(2), first_blocks);
}

#[test]
fn the_first_blocks_of_two_threads_of_different_classes() {
    check(Some(2), first_blocks_apart);
}

#[test]
fn the_first_blocks_of_two_threads_that_fill_no_chain() {
    check(Some(2), first_lone_blocks);
}

#[test]
fn a_dead_threads_slot_is_handed_over() {
    check(Some(2), hand_over);
}

#[test]
fn chains_are_exchanged_through_the_depot() {
    check(Some(2), exchange);
}

#[test]
fn two_threads_without_a_number_share_a_slot() {
    check(Some(2), common);
}

#[test]
fn a_thread_trims_while_another_dies() {
    check(Some(2), trim);
}

#[test]
fn a_reserve_is_taken_by_who_purges() {
    check(Some(2), reserve);
}

#[test]
fn runs_at_hand_go_from_thread_to_thread() {
    check(Some(2), runs);
}

#[test]
fn runs_at_hand_are_given_back_by_who_purges() {
    check(Some(2), runs_emptied);
}

#[test]
fn regions_are_found_while_others_come_and_go() {
    check(Some(2), registry);
}

#[test]
fn the_table_of_slots_must_be_published() {
    fails_without(("AtomicPtr::compare_exchange", Ordering::Release), RACE, Some(2), first_blocks_apart);
}

#[test]
fn the_table_of_slots_must_be_acquired() {
    fails_without(("self.table.load(Ordering::Acquire)", Ordering::Acquire), RACE, Some(2), first_blocks);
}

#[test]
fn the_table_of_slots_must_be_acquired_on_the_shortest_way() {
    fails_without(("self.table.load(Ordering::Acquire))?;", Ordering::Acquire), RACE, Some(2), first_lone_blocks);
}

#[test]
fn a_dead_threads_slot_must_be_released() {
    fails_without(("word.fetch_and(!bit", Ordering::Release), RACE, Some(2), hand_over);
}

#[test]
fn a_dead_threads_slot_must_be_acquired() {
    fails_without(("word.compare_exchange_weak(", Ordering::Acquire), RACE, Some(2), hand_over);
}

#[test]
fn a_slot_must_be_acquired_by_who_trims() {
    fails_without(("word.fetch_or(bit", Ordering::Acquire), RACE, Some(2), trim);
}

#[test]
fn a_chain_must_be_released_to_the_depot() {
    fails_without(("self.held.store(false", Ordering::Release), RACE, Some(2), exchange);
}

#[test]
fn a_chain_must_be_acquired_from_the_depot() {
    fails_without(("self.held.swap(true", Ordering::Acquire), RACE, Some(2), exchange);
}

#[test]
fn a_common_slot_must_be_released() {
    fails_without(("self.held.store(false", Ordering::Release), RACE, Some(2), common);
}

#[test]
fn a_reserve_must_be_released() {
    fails_without(("self.reserve[class].swap(freed, Ordering::AcqRel)", Ordering::AcqRel), RACE, Some(2), reserve);
}

#[test]
fn a_reserve_must_be_acquired() {
    let weakened = ("self.reserve[class].swap(ptr::null_mut(), Ordering::Acquire)", Ordering::Acquire);
    fails_without(weakened, RACE, Some(2), reserve);
}

#[test]
fn a_run_at_hand_must_be_released() {
    fails_without(("AtomicUsize::swap", Ordering::AcqRel), RACE, Some(2), runs);
}

#[test]
fn a_run_at_hand_must_be_acquired() {
    fails_without(("run.compare_exchange(held, 0, Ordering::Acquire", Ordering::Acquire), RACE, Some(2), runs);
}

#[test]
fn a_run_at_hand_must_be_acquired_by_who_purges() {
    fails_without(("AtomicUsize::swap", Ordering::Acquire), RACE, Some(2), runs_emptied);
}

#[test]
fn a_larger_registry_must_be_published() {
    let weakened = ("self.table.store(table.as_ptr(), Ordering::Release)", Ordering::Release);
    fails_without(weakened, &["a region that is there is found"], Some(2), registry);
}

#[test]
fn a_larger_registry_must_be_acquired() {
    let weakened = ("self.table.load(Ordering::Acquire)) {", Ordering::Acquire);
    fails_without(weakened, &["a region that is there is found"], Some(2), registry);
}
