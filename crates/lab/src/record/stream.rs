//! A chunk that is being read, perhaps while its thread writes on.
//!
//! ```text
//! words  +--------+---------+---------+-----------------+
//!        | header | read    | written | 0 0 0 …         |
//!        +--------+---------+---------+-----------------+
//!                           ^ at      ^ here the thread goes on; what is not 0 is whole (S2)
//! ```
//!
//! Streams are compared by the stamp of their next record. Costs: a mapping of the whole chunk.
#![forbid(unsafe_code)]

use std::cmp;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::os::Words;
use super::spool::{self, Found, HEADER_WORDS, RECORD_WORDS, Record};

/// A chunk that is being read.
pub struct Stream {
    /// The chunk's.
    pub number: u64,
    /// The image that it belongs to.
    pub image: u32,
    /// The thread that wrote last, by its count in the image.
    pub thread: u32,
    /// Whether its thread has ended: another one may go on with it.
    pub left_over: bool,
    /// What stands here no recorder wrote.
    pub damaged: bool,
    words: Words,
    at: usize,
    /// While it is open: its next record's.
    pub stamp: u64,
}

impl Stream {
    /// The chunk's first record is next.
    pub fn new(image: u32, number: u64, words: Words) -> Self {
        Self { number, image, thread: 0, left_over: false, damaged: false, words, at: HEADER_WORDS, stamp: 0 }
    }

    /// The next record's first word; 0: it is not there, or there is no more room.
    #[inline]
    pub fn head(&self) -> u64 {
        self.words.get(self.at).map_or(0, |head| head.load(Acquire))
    }

    /// The next record, if it has this stamp. What stands before a damaged one is whole (S2).
    #[inline]
    pub fn take(&mut self, stamp: u64) -> Option<Record> {
        let rest = self.words.get(self.at..)?;
        let head = rest.first()?.load(Acquire); // All of the record was written before (S2).
        if head >> 8 != stamp || head == 0 || self.damaged {
            return None;
        }
        let mut words = [head, 0, 0, 0];
        for (word, from) in words[1..].iter_mut().zip(&rest[1..]) {
            *word = from.load(Relaxed);
        }
        let Found::Record { record, words: count, .. } = spool::read(&words[..rest.len().min(RECORD_WORDS)]) else {
            self.damaged = true;
            return None;
        };
        self.at += count;
        match record {
            Record::Thread { number } => (self.thread, self.left_over) = (number as u32, false),
            Record::End => self.left_over = true,
            _ => {}
        }
        Some(record)
    }
}

impl Ord for Stream {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.stamp.cmp(&other.stamp)
    }
}

impl PartialOrd for Stream {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == cmp::Ordering::Equal
    }
}

impl Eq for Stream {}
