//! A thread's [`Pen`]: the right to write one call's records into the thread's current chunk.
//!
//! ```text
//! chunk, mapped     +--------+---------------------+-----------------+------+
//!                   | header | records so far      | free            | last |
//!                   +--------+---------------------+-----------------+------+
//!                   ^ start                        ^ cursor          ^ limit: a call's records fit from here
//! ```
//!
//! - **P1** `cursor..limit + CALL_WORDS` lies in a chunk that only this thread writes, or both are
//!   null. All words from `cursor` on are 0.
//! - **P2** While `busy`, the thread is inside the recorder or inside the allocator behind it. What is
//!   asked meanwhile (by that allocator, by `dlsym`, by a signal's handler) passes unrecorded.
//! - **P3** A thread whose `image` is not [`Process::image`]'s came here through a fork: its chunk is
//!   the parent's, and is left alone.
//!
//! The way through: two loads, two compares, one shared `fetch_add` a record, its stores. Everything
//! that calls the system is in [`Pen::turn_page`], once in some thousand calls.

use core::cell::Cell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::arch::{THREAD_BYTES, thread_block};
use super::ink::{self, Chunk};
use super::spool::Record;

/// The most words that one call writes: both halves of a realloc.
const CALL_WORDS: usize = 6;

/// What a thread knows of itself; all zero at first.
#[repr(C, align(64))]
pub struct Thread {
    cursor: Cell<*mut u64>,
    limit: Cell<*mut u64>,
    chunk: Cell<Chunk>,
    image: Cell<u32>,
    number: Cell<u32>,
    busy: Cell<bool>,
    ended: Cell<bool>,
    filled: Cell<u32>,
}

const _: () = assert!(size_of::<Thread>() <= THREAD_BYTES);

fn thread() -> &'static Thread {
    // SAFETY: by A1 large enough, aligned, zero at first, which is a valid `Thread`, and the calling
    // thread's own. The reference does not outlive the call that asked for it, let alone the thread.
    unsafe { &*thread_block().cast::<Thread>() }
}

#[inline(always)]
fn put(cursor: *mut u64, offset: usize, word: u64) {
    // SAFETY: called by `write` only, with an offset inside the record: by P1 and the check in `take` it fits.
    let place = unsafe { cursor.add(offset) };
    // SAFETY: as above.
    unsafe { place.write(word) };
}

/// The right to record one call; the thread is busy until it is dropped (P2).
pub struct Pen(&'static Thread);

impl Pen {
    /// `None`: this call goes by unrecorded.
    #[inline(always)]
    pub fn take() -> Option<Self> {
        let thread = thread();
        if thread.busy.replace(true) {
            return None;
        }
        compiler_fence(Ordering::SeqCst); // A signal's handler sees `busy` before anything else changes.
        let pen = Self(thread);
        let ready = thread.cursor.get() < thread.limit.get() && thread.image.get() == ink::image();
        (ready || pen.turn_page()).then_some(pen)
    }

    /// Writes a record with the next stamp.
    #[inline(always)]
    pub fn write(&self, record: Record) {
        let (words, count) = record.words(ink::stamp());
        let cursor = self.0.cursor.get();
        // No loop: `count` is known where this is inlined, and nothing of the choice is left.
        if count > 3 {
            put(cursor, 3, words[3]);
        }
        if count > 2 {
            put(cursor, 2, words[2]);
        }
        if count > 1 {
            put(cursor, 1, words[1]);
        }
        // SAFETY: by P1 and the check in `take` a call's records fit; a reader sees the others before the first (S2).
        unsafe { AtomicU64::from_ptr(cursor) }.store(words[0], Ordering::Release);
        self.0.cursor.set(cursor.wrapping_add(count));
    }

    /// Finds the thread a chunk with room. `false`: nothing is recorded (any more).
    #[cold]
    #[inline(never)]
    fn turn_page(&self) -> bool {
        ink::is_open() && super::os::undisturbed(|| self.turn_page_undisturbed())
    }

    fn turn_page_undisturbed(&self) -> bool {
        let thread = self.0;
        let Some(image) = ink::image_or_new() else { return false };
        let known = thread.image.get() == image;
        if !known {
            thread.image.set(image);
            thread.number.set(ink::number_a_thread());
            thread.ended.set(false);
            thread.filled.set(0);
        } else if !thread.limit.get().is_null() {
            thread.filled.set(thread.filled.get().saturating_add(1));
            // SAFETY: the thread's own chunk, which it leaves here.
            unsafe { thread.chunk.get().unmap() };
        }
        self.leave();
        let words = if thread.ended.get() { ink::LATE_CHUNK_WORDS } else { ink::chunk_words(thread.filled.get()) };
        let left_over = if known { None } else { ink::take_left_over() };
        let Some(chunk) = left_over.or_else(|| ink::new_chunk(image, words)) else { return false };
        self.open(chunk);
        self.write(Record::Thread { number: u64::from(thread.number.get()) });
        if !known {
            ink::watch_for_the_end();
        }
        true
    }

    fn open(&self, chunk: Chunk) {
        self.0.chunk.set(chunk);
        self.0.cursor.set(chunk.cursor());
        self.0.limit.set(chunk.limit(CALL_WORDS));
    }

    fn leave(&self) {
        self.0.cursor.set(null_mut());
        self.0.limit.set(null_mut());
    }

    /// The thread ends: its chunk goes to the next thread that appears.
    pub fn end(self) {
        self.write(Record::End);
        let cursor = self.0.cursor.get();
        self.leave();
        self.0.ended.set(true);
        ink::leave_over(self.0.chunk.get().from(cursor));
    }
}

impl Drop for Pen {
    #[inline(always)]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst); // And sees all of the record before the thread is free again.
        self.0.busy.set(false);
    }
}
