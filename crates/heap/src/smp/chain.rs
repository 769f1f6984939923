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

use core::ptr::{self, NonNull};

use terrace_sync::cell::UnsafeCell;

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
}

/// Full chains of one class, the newest on top.
#[derive(Debug)]
pub(crate) struct Stack {
    top: *mut Block,
    len: u32,
}

impl Stack {
    pub(crate) const EMPTY: Self = Self { top: ptr::null_mut(), len: 0 };

    /// Chains in the stack.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// # Safety
    /// `head` begins a full chain, which the caller gives up (I1, I2).
    pub(crate) unsafe fn push(&mut self, head: NonNull<Block>) {
        // SAFETY: the caller's promise.
        let second = unsafe { Block::second(head) };
        // SAFETY: free memory behind the head's own link.
        unsafe { Block::link(second, self.top) };
        self.top = head.as_ptr();
        self.len += 1;
    }

    /// The head of the newest chain.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Block>> {
        let head = NonNull::new(self.top)?;
        // SAFETY: the stack's chains are full ones, by the promise of `push`.
        let second = unsafe { Block::second(head) };
        // SAFETY: linked by `push`.
        self.top = unsafe { Block::next(second) };
        self.len -= 1;
        Some(head)
    }
}
