//! `PageAllocator` from outside: random lives of blocks, large ones, many threads, collections.

use core::{num::NonZeroUsize, ptr::NonNull};
use std::{sync::mpsc, thread};

use proptest::{collection::vec, prelude::*};
use terrace_core::{Access, Alignment, Allocator, Decommit, GoodSize, PageSize, Protect};
use terrace_sys::{PageAllocator, page_size};

fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

/// A live block that knows which byte lies where.
struct Block {
    memory: NonNull<[u8]>,
    alignment: Alignment,
    seed: u8,
}

const _: () = {
    const fn is_a_handle_for_all_threads<T: Send + Sync + Copy>() {}
    is_a_handle_for_all_threads::<PageAllocator>();
};

// SAFETY: `PageAllocator` is `Send` and has no state: its blocks are freed anywhere (clause 6).
unsafe impl Send for Block {}

impl Block {
    fn new(len: usize, alignment: Alignment, seed: u8) -> Self {
        let start = PageAllocator.alloc(bytes(len), alignment).expect("the machine has some MiB to spare");
        assert!(alignment.is_aligned(start.addr().get()));
        let mut block = Self { memory: NonNull::slice_from_raw_parts(start, len), alignment, seed };
        assert!(block.contents().iter().all(|&byte| byte == 0), "fresh pages are zero");
        block.fill();
        block
    }

    fn contents(&mut self) -> &mut [u8] {
        // SAFETY: live, initialised (fresh pages are zero), reached only through this block.
        unsafe { self.memory.as_mut() }
    }

    fn expected(seed: u8, offset: usize) -> u8 {
        (offset ^ offset >> 8) as u8 ^ seed
    }

    fn fill(&mut self) {
        let seed = self.seed;
        self.contents().iter_mut().enumerate().for_each(|(offset, byte)| *byte = Self::expected(seed, offset));
    }

    fn check(&mut self, len: usize) {
        let seed = self.seed;
        let wrong = self.contents()[..len].iter().enumerate().find(|&(at, &byte)| byte != Self::expected(seed, at));
        assert_eq!(wrong, None, "(offset, byte) that changed");
    }

    /// Whether it was granted; checks what must hold in either case.
    fn change(&mut self, new_len: usize, may_move: bool) -> bool {
        let (start, old_len) = (self.memory.cast::<u8>(), self.memory.len());
        let granted = if may_move {
            // SAFETY: live, with its alignment.
            unsafe { PageAllocator.remap(self.memory, self.alignment, bytes(new_len)) }
        } else {
            // SAFETY: as above.
            unsafe { PageAllocator.resize(self.memory, self.alignment, bytes(new_len)) }.then_some(start)
        };
        let good = |len| PageAllocator.good_size(bytes(len), self.alignment);
        let fits = good(new_len) <= good(old_len);
        assert!(granted.is_some() || !fits, "what fits into the pages is granted");
        if let Some(start) = granted {
            assert!(self.alignment.is_aligned(start.addr().get()));
            self.memory = NonNull::slice_from_raw_parts(start, new_len);
        }
        assert!(!fits || self.memory.cast() == start, "what fits stays");
        self.check(old_len.min(self.memory.len()));
        self.fill();
        granted.is_some()
    }

    fn free(mut self) {
        self.check(self.memory.len());
        // SAFETY: live, with its alignment, gone with `self`.
        unsafe { PageAllocator.free(self.memory, self.alignment) };
    }
}

#[derive(Clone, Debug)]
enum Op {
    Alloc { len: usize, log2: u32 },
    Change { which: usize, len: usize, may_move: bool },
    Free { which: usize },
}

/// Up to 24 pages, mostly near the edge of a page.
fn length() -> impl Strategy<Value = usize> {
    (0..24usize, prop_oneof![Just(0), Just(1), 0..page_size()])
        .prop_map(|(pages, more)| (pages * page_size() + more).max(1))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (length(), prop_oneof![0..13u32, 12..22u32]).prop_map(|(len, log2)| Op::Alloc { len, log2 }),
        (any::<usize>(), length(), any::<bool>()).prop_map(|(which, len, may_move)| Op::Change {
            which,
            len,
            may_move
        }),
        any::<usize>().prop_map(|which| Op::Free { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_keep_their_bytes_whatever_their_neighbours_do(ops in vec(op(), 1..60)) {
        let mut live: Vec<Block> = Vec::new();
        for (seed, op) in (0..).zip(ops) {
            match op {
                Op::Alloc { len, log2 } => live.push(Block::new(len, Alignment::from_log2(log2).unwrap(), seed)),
                Op::Change { which, len, may_move } if !live.is_empty() => {
                    let which = which % live.len();
                    live[which].change(len, may_move);
                }
                Op::Free { which } if !live.is_empty() => live.swap_remove(which % live.len()).free(),
                Op::Change { .. } | Op::Free { .. } => {}
            }
        }
        live.into_iter().for_each(Block::free);
    }
}

#[test]
fn any_alignment_up_to_a_gibibyte_is_granted_and_keeps_its_place() {
    for log2 in 0..=30 {
        let mut block = Block::new(5000, Alignment::from_log2(log2).unwrap(), 1);
        let start = block.memory.cast::<u8>();
        for (len, may_move) in [(3 * page_size(), true), (1, true), (2 * page_size(), false), (page_size(), false)] {
            block.change(len, may_move);
            assert!(log2 <= page_size().trailing_zeros() || block.memory.cast() == start);
        }
        block.free();
    }
}

/// Which pages of a range are in memory.
fn resident(memory: NonNull<[u8]>) -> Vec<usize> {
    let mut residency = vec![0u8; memory.len().div_ceil(page_size())];
    // SAFETY: the range is mapped; `residency` has a byte for each page of it.
    let answer = unsafe { libc::mincore(memory.as_ptr().cast(), memory.len(), residency.as_mut_ptr()) };
    assert_eq!(answer, 0);
    (0..residency.len()).filter(|&page| residency[page] & 1 == 1).collect()
}

#[test]
fn threads_free_one_anothers_blocks() {
    let (send, receive) = mpsc::channel::<Block>();
    let receive = std::sync::Mutex::new(receive);
    thread::scope(|scope| {
        for seed in 0..4u8 {
            let send = send.clone();
            scope.spawn(move || {
                for round in 0..300 {
                    let alignment = Alignment::from_log2(round % 18).unwrap();
                    let mut block = Block::new(1 + round as usize * 97 % 20000, alignment, seed);
                    block.change(1 + round as usize * 311 % 30000, round % 2 == 0);
                    send.send(block).unwrap();
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = receive.lock().unwrap().recv();
                    let Ok(block) = next else { return };
                    block.free();
                }
            });
        }
        drop(send);
    });
}

#[test]
fn the_page_size_is_the_systems() {
    // SAFETY: only reads its argument.
    let asked = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    assert_eq!(page_size(), asked as usize);
    assert_eq!(PageAllocator.page_size().bytes(), page_size());
}

#[test]
fn the_good_size_is_whole_pages() {
    let good = |len| PageAllocator.good_size(bytes(len), Alignment::ONE).get();
    let limit = isize::MAX as usize;
    assert_eq!([1, page_size(), page_size() + 1].map(good), [1, 1, 2].map(|pages| pages * page_size()));
    assert_eq!(good(limit - page_size() + 1), limit - page_size() + 1, "a multiple of the page size");
    assert_eq!([limit, usize::MAX].map(good), [limit, usize::MAX], "rounding would overflow");
}

#[test]
fn decommitted_pages_leave_memory_and_read_as_zero() {
    let mut block = Block::new(8 * page_size(), Alignment::ONE, 9);
    let start = block.memory.cast::<u8>();
    // SAFETY: within the block.
    let middle = NonNull::slice_from_raw_parts(unsafe { start.add(2 * page_size()) }, 4 * page_size());
    // SAFETY: whole pages of the block, read by nobody meanwhile.
    assert!(unsafe { PageAllocator.decommit(middle) });
    assert_eq!(resident(block.memory), [0, 1, 6, 7]);
    assert!(block.contents()[2 * page_size()..6 * page_size()].iter().all(|&byte| byte == 0));
    block.check(2 * page_size());
    block.fill();
    block.free();
}

#[test]
fn a_protected_page_keeps_its_bytes_and_refuses_others() {
    let mut block = Block::new(3 * page_size(), Alignment::ONE, 3);
    // SAFETY: within the block.
    let second = unsafe { block.memory.cast::<u8>().add(page_size()) };
    let page = NonNull::slice_from_raw_parts(second, page_size());
    for (access, readable, writable) in
        [(Access::None, false, false), (Access::Read, true, false), (Access::ReadWrite, true, true)]
    {
        // SAFETY: a whole page of the block, touched only by the kernel below.
        assert!(unsafe { PageAllocator.protect(page, access) });
        assert_eq!((kernel_can_read(second), kernel_can_write(second)), (readable, writable), "{access:?}");
    }
    block.check(3 * page_size());
    block.free();
}

/// Asks the kernel to copy a byte out: it answers where the processor would fault.
fn kernel_can_read(address: NonNull<u8>) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: two descriptors fit.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the kernel checks the address.
    let written = unsafe { libc::write(pipe[1], address.as_ptr().cast(), 1) };
    for end in pipe {
        // SAFETY: ours.
        unsafe { libc::close(end) };
    }
    written == 1
}

/// Asks the kernel to copy the byte in that lies there, in effect.
fn kernel_can_write(address: NonNull<u8>) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: two descriptors fit.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let byte = [Block::expected(3, page_size())];
    // SAFETY: one byte of ours.
    assert_eq!(unsafe { libc::write(pipe[1], byte.as_ptr().cast(), 1) }, 1);
    // SAFETY: the kernel checks the address.
    let read = unsafe { libc::read(pipe[0], address.as_ptr().cast(), 1) };
    for end in pipe {
        // SAFETY: ours.
        unsafe { libc::close(end) };
    }
    read == 1
}

#[test]
fn the_steps_can_be_called_directly() {
    let start = PageAllocator::map(bytes(100), Alignment::of::<u64>()).unwrap();
    // SAFETY: live; it may move.
    let grown = unsafe { PageAllocator::realloc(NonNull::slice_from_raw_parts(start, 100), bytes(1 << 20), true) };
    let grown = grown.expect("the kernel grows or moves it");
    // SAFETY: live, not used again.
    unsafe { PageAllocator::unmap(NonNull::slice_from_raw_parts(grown, 1 << 20)) };
}

#[cfg(feature = "allocator-api2-02")]
#[test]
fn collections_live_on_pages() {
    let mut squares = hashbrown::HashMap::with_hasher_in(hashbrown::DefaultHashBuilder::default(), PageAllocator);
    let mut numbers = allocator_api2_02::vec::Vec::new_in(PageAllocator);
    for number in 0..10_000u64 {
        squares.insert(number, number * number);
        numbers.push(number);
    }
    assert!(numbers.iter().all(|number| squares[number] == number * number));
    let dynamic: &dyn Allocator = &PageAllocator;
    let boxed = allocator_api2_02::boxed::Box::new_in([1u8; 5000], dynamic);
    assert_eq!(boxed[4999], 1);
}
