//! Large blocks: medium ones to their runs, the others straight to the backing, and into the book.

use core::{num::NonZeroUsize, ptr::NonNull};

use terrace_core::{Alignment, AllocError, Allocator};
use terrace_sync::{Held, Slots};

use super::{
    PAGE_ALIGNMENT, SmpAllocator,
    class::PAGE,
    large::{Book, Large},
};

impl<A: Allocator, S: Slots, const BYTES: usize> SmpAllocator<A, S, BYTES> {
    pub(super) fn book(&self) -> Held<'_, Book> {
        self.book.lock(|tries| self.slots.pause(tries))
    }

    /// Gives the book a larger table, if there is one to be had.
    #[cold]
    #[track_caller]
    fn grow_book(&self, bytes: NonZeroUsize) {
        let table = self.backing.alloc(bytes, Book::ALIGNMENT);
        let mut book = self.book();
        let Ok(table) = table else { return book.note_refused() };
        // SAFETY: a block of the backing, and ours.
        let out = unsafe { book.install(table, bytes) };
        drop(book);
        if let Some((table, bytes)) = out {
            let memory = NonNull::slice_from_raw_parts(table, bytes.get());
            // SAFETY: a block of the backing, which the book gave up.
            unsafe { self.backing.free(memory, Book::ALIGNMENT) };
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn alloc_large(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        if let Some(block) = self.medium_at_hand(len.get(), alignment, zeroed) {
            return Ok(block);
        }
        self.alloc_elsewhere(len, alignment, zeroed)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn alloc_elsewhere(
        &self,
        len: NonZeroUsize,
        alignment: Alignment,
        zeroed: bool,
    ) -> Result<NonNull<u8>, AllocError> {
        if let Some(block) = self.alloc_medium(len.get(), alignment, zeroed) {
            return Ok(block);
        }
        let alignment = alignment.max(PAGE_ALIGNMENT);
        loop {
            let reserved = self.book().reserve();
            match reserved {
                Ok(()) => break,
                Err(larger) => self.grow_book(larger.ok_or(AllocError)?),
            }
        }
        let block = if zeroed { self.backing.alloc_zeroed(len, alignment) } else { self.backing.alloc(len, alignment) };
        let mut book = self.book();
        let Ok(block) = block else {
            book.give_up();
            return Err(AllocError);
        };
        book.enter(block, Large { len, alignment });
        let wanted = book.wanted();
        drop(book);
        if let Some(bytes) = wanted {
            self.grow_book(bytes);
        }
        Ok(block)
    }

    /// What a large block can be used for.
    ///
    /// # Safety
    /// A live medium or large block.
    #[cold]
    pub(super) unsafe fn large_size(&self, address: NonNull<u8>) -> NonZeroUsize {
        // SAFETY: live, and not small.
        if unsafe { self.is_medium(address) } {
            // SAFETY: the caller's promise.
            return NonZeroUsize::MIN.saturating_add(unsafe { self.pages_of_medium(address) } * PAGE - 1);
        }
        self.book().get(address).map_or(NonZeroUsize::MIN, |large| large.len)
    }

    /// # Safety
    /// A medium or large block, which the caller gives up.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) unsafe fn free_large(&self, address: NonNull<u8>) {
        // SAFETY: live, and not small.
        if unsafe { self.is_medium(address) } {
            // SAFETY: the caller's promise.
            return unsafe { self.free_medium(address) };
        }
        // SAFETY: the caller's promise; the block is in the book.
        unsafe { self.free_straight(address) };
    }

    /// # Safety
    /// A block in the book, which the caller gives up.
    #[cold]
    #[inline(never)]
    #[track_caller]
    unsafe fn free_straight(&self, address: NonNull<u8>) {
        let struck = self.book().strike(address, false);
        let Some(Large { len, alignment }) = struck else { return };
        // SAFETY: by I1 the backing's, as the book has it.
        unsafe { self.backing.free(NonNull::slice_from_raw_parts(address, len.get()), alignment) };
    }

    /// # Safety
    /// A live medium or large block.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) unsafe fn resize_large(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> bool {
        // SAFETY: live, and not small.
        if unsafe { self.is_medium(address) } {
            // SAFETY: the caller's promise.
            return unsafe { self.resize_medium(address, new_len) };
        }
        let found = self.book().get(address);
        let Some(Large { len, alignment }) = found else { return false };
        // SAFETY: by I1 the backing's, as the book has it.
        let done =
            unsafe { self.backing.resize(NonNull::slice_from_raw_parts(address, len.get()), alignment, new_len) };
        if done {
            self.book().set_len(address, new_len);
        }
        done
    }

    /// # Safety
    /// A live medium or large block.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) unsafe fn remap_large(&self, address: NonNull<u8>, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        // SAFETY: live, and not small.
        if unsafe { self.is_medium(address) } {
            // SAFETY: the caller's promise.
            return unsafe { self.resize_medium(address, new_len) }.then_some(address);
        }
        // Struck before it moves: another thread may be given its address at once (I3 of the book).
        let struck = self.book().strike(address, true);
        let large = struck?;
        let memory = NonNull::slice_from_raw_parts(address, large.len.get());
        // SAFETY: by I1 the backing's, as the book had it.
        let moved = unsafe { self.backing.remap(memory, large.alignment, new_len) };
        let len = if moved.is_some() { new_len } else { large.len };
        self.book().enter(moved.unwrap_or(address), Large { len, ..large });
        moved
    }
}
