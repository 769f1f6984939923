//! Free blocks hold on to each other: chains, kept in the blocks' own memory.
//!
//! ```text
//!   Chain { head, len: 3 }
//!     │   ┌──────┬──────┬┄      ┌──────┬┄      ┌──────┬┄
//!     └──▶│ next │ also │  ───▶ │ next │  ───▶ │  ∅   │
//!         └──────┴──────┴┄      └──────┴┄      └──────┴┄
//!                   └▶ where the depot keeps this chain: the head of the chain below it
//! ```
//!
//! - **I1** A block of a chain is free memory of one class, 16 bytes or more, and nobody else's.
//! - **I2** The `len` links from `head` lead to that many different blocks; the last one's `next` is null.

use core::{
    hint::black_box,
    ptr::{self, NonNull},
};

use terrace_sync::cell::UnsafeCell;

use super::class::LONGEST;

/// A word in a free block.
pub(crate) struct Block {
    next: UnsafeCell<*mut Block>,
}

impl Block {
    /// Makes free memory a block that is followed by `next`.
    ///
    /// # Safety
    /// `block` is free memory of a class, and the caller's (I1).
    #[inline(always)]
    pub(crate) unsafe fn link(block: NonNull<Self>, next: *mut Self) {
        // SAFETY: 16 bytes, aligned to 16, are the caller's.
        unsafe { block.write(Self { next: UnsafeCell::new(next) }) };
    }

    /// The block behind `block`.
    ///
    /// # Safety
    /// `block` was linked, and is the caller's (I1).
    #[inline(always)]
    pub(crate) unsafe fn next(block: NonNull<Self>) -> *mut Self {
        // SAFETY: it was linked.
        let this = unsafe { block.as_ref() };
        this.next.with(|next| {
            // SAFETY: nobody else has the block.
            unsafe { *next }
        })
    }

    /// The block's second word, a block as well.
    ///
    /// # Safety
    /// `block` is free memory of a class.
    unsafe fn second(block: NonNull<Self>) -> NonNull<Self> {
        // SAFETY: a class has 16 bytes at least; a word is half of that.
        unsafe { block.add(1) }
    }
}

/// Some blocks of one class.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) head: NonNull<Block>,
    pub(crate) len: u32,
    /// Whether block `i` leads to block `2 i` too, from the second on.
    pub(crate) branched: bool,
}

impl Chain {
    /// Writes branches into the chain, for who [fetches](Self::fetch_all) it.
    ///
    /// # Safety
    /// The chain keeps I1 and I2, and is the caller's.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn branch(&mut self) {
        let mut blocks = [self.head; LONGEST];
        let blocks = &mut blocks[..self.len as usize];
        for at in 1..blocks.len() {
            // SAFETY: linked, by I2.
            let next = unsafe { Block::next(blocks[at - 1]) };
            // SAFETY: by I2 not the last.
            blocks[at] = unsafe { NonNull::new_unchecked(next) };
        }
        for at in 1..blocks.len().div_ceil(2) {
            // SAFETY: free memory, by I1.
            let second = unsafe { Block::second(blocks[at]) };
            // SAFETY: free memory behind the block's own link.
            unsafe { Block::link(second, blocks[2 * at].as_ptr()) };
        }
        self.branched = true;
    }

    /// Has the processor fetch all blocks, those that lie in another's cache too: along the branches six waits instead of 64.
    ///
    /// # Safety
    /// The chain is [branched](Self::branch), keeps I1 and I2, and is the caller's.
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn fetch_all(&self) {
        let mut blocks = [self.head; LONGEST];
        let blocks = &mut blocks[..self.len as usize];
        for at in 1..blocks.len() {
            // SAFETY: free memory, by I1.
            let second = unsafe { Block::second(blocks[at / 2]) };
            let link = if at % 2 == 0 { second } else { blocks[at - 1] };
            // SAFETY: written by `branch`, or linked by I2.
            let next = unsafe { Block::next(link) };
            // SAFETY: by I2 not the last.
            blocks[at] = unsafe { NonNull::new_unchecked(next) };
        }
        for block in blocks.iter().skip(1).step_by(2) {
            // SAFETY: linked, by I2.
            black_box(unsafe { Block::next(*block) });
        }
    }
}

/// Full chains of one class, the newest on top.
#[derive(Debug)]
pub(crate) struct Stack {
    /// The head of the newest, odd where that is branched.
    top: *mut Block,
}

impl Stack {
    pub(crate) const EMPTY: Self = Self { top: ptr::null_mut() };

    /// # Safety
    /// A full chain, which the caller gives up (I1, I2).
    pub(crate) unsafe fn push(&mut self, chain: &Chain) {
        // SAFETY: the caller's promise.
        let second = unsafe { Block::second(chain.head) };
        // SAFETY: free memory behind the head's own link.
        unsafe { Block::link(second, self.top) };
        self.top = chain.head.as_ptr().map_addr(|address| address | usize::from(chain.branched));
    }

    /// The newest chain, which has `len` blocks as all have.
    pub(crate) fn pop(&mut self, len: u32) -> Option<Chain> {
        let branched = !self.top.addr().is_multiple_of(2);
        let head = NonNull::new(self.top.map_addr(|address| address & !1))?;
        // SAFETY: the stack's chains are full ones, by the promise of `push`.
        let second = unsafe { Block::second(head) };
        // SAFETY: linked by `push`.
        self.top = unsafe { Block::next(second) };
        Some(Chain { head, len, branched })
    }
}
