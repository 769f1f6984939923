//! Reads a spool: the records of all chunks, in the order of their stamps.
//!
//! ```text
//! stamps     0 ─────────────────────────────────────────────>
//! chunk 1      [=====   ====  =]                                current: read on until the horizon
//! chunk 2           [===    =      ====]                        open
//! chunk 3                                [======   ]            pending: opened when its first stamp is due
//!                          ^ horizon: the least stamp of all others
//! ```
//!
//! Memory: one window of `WINDOW_BYTES` for each chunk that is open, as many as threads wrote at the
//! same time; no file stays open between two windows. Time: a comparison per record, and a step
//! in a heap whenever the next record is another chunk's.
//!
//! - **G1** `pending` is sorted, the chunk with the least first stamp last.
//! - **G2** `current`'s next record is the least of all while its stamp is below `horizon`; `horizon` is at most `until`.
#![forbid(unsafe_code)]

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::spool::{self, CHUNK_MAGIC, CHUNK_PREFIX, Found, HEADER_WORDS, RECORD_WORDS, Record};

const WINDOW_BYTES: usize = 64 * 1024;

/// What the reader comes upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A thread of an image did something. The thread is the image's count, from 0.
    Record { image: u32, thread: u32, record: Record },
    /// An image wrote no more.
    ImageEnds { image: u32 },
}

/// A chunk's file before it is read.
struct Pending {
    first: u64,
    image: u32,
    path: PathBuf,
}

/// All chunks of a spool, merged.
pub struct Merge {
    pending: Vec<Pending>,
    open: BinaryHeap<Reverse<Stream>>,
    current: Option<Stream>,
    horizon: u64,
    until: u64,
    /// What a window is read through.
    bytes: Vec<u8>,
    chunks_left: std::collections::HashMap<u32, u32>,
    images: Vec<(u32, u64)>,
}

impl Merge {
    /// Looks at all chunks of `directory` that have a record with a stamp below `until`.
    pub fn open(directory: &Path, chunks: u64, until: u64) -> io::Result<Self> {
        let mut merge = Self {
            pending: Vec::new(),
            open: BinaryHeap::new(),
            current: None,
            horizon: 0,
            until,
            bytes: Vec::new(),
            chunks_left: Default::default(),
            images: Vec::new(),
        };
        for number in 1..=chunks {
            merge.look_at(directory.join(format!("{CHUNK_PREFIX}{number}")))?;
        }
        merge.pending.sort_unstable_by_key(|chunk| Reverse(chunk.first)); // G1
        Ok(merge)
    }

    /// The images' numbers and process ids.
    pub fn images(&self) -> &[(u32, u64)] {
        &self.images
    }

    fn look_at(&mut self, path: PathBuf) -> io::Result<()> {
        let mut head = [0; (HEADER_WORDS + 1) * 8];
        match File::open(&path).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => {}
            // Killed, or out of room, between taking the number and making the file.
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof].contains(&error.kind()) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let word = |index: usize| word_at(&head, index);
        let (image, first) = (word(1) as u32, word(HEADER_WORDS));
        // The first record is the thread's name; without it nothing else was written.
        if word(0) != CHUNK_MAGIC || first == 0 || first >> 8 >= self.until {
            return Ok(());
        }
        self.pending.push(Pending { first: first >> 8, image, path });
        *self.chunks_left.entry(image).or_insert_with(|| {
            self.images.push((image, word(2)));
            0
        }) += 1;
        Ok(())
    }

    /// The next step. `None`: all was read.
    #[inline]
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        loop {
            let Some(stream) = &mut self.current else {
                if !self.choose()? {
                    return Ok(None);
                }
                continue;
            };
            match stream.peek(&mut self.bytes)? {
                Some(stamp) if stamp < self.horizon => {
                    if let Some(record) = stream.take() {
                        return Ok(Some(Step::Record { image: stream.image, thread: stream.thread, record }));
                    }
                }
                Some(stamp) if stamp < self.until => {
                    stream.stamp = stamp;
                    self.open.extend(self.current.take().map(Reverse));
                }
                _ => {
                    let image = stream.image;
                    self.current = None;
                    if self.chunk_ends(image) {
                        return Ok(Some(Step::ImageEnds { image }));
                    }
                }
            }
        }
    }

    /// Whether it was the image's last.
    fn chunk_ends(&mut self, image: u32) -> bool {
        self.chunks_left.get_mut(&image).is_some_and(|left| {
            *left -= 1;
            *left == 0
        })
    }

    /// Makes the stream with the least stamp current (G2). `false`: there is none.
    fn choose(&mut self) -> io::Result<bool> {
        let least_open = self.open.peek().map_or(u64::MAX, |Reverse(stream)| stream.stamp);
        if self.pending.last().is_some_and(|chunk| chunk.first < least_open) {
            let Some(Pending { image, path, .. }) = self.pending.pop() else { return Ok(false) };
            self.current = Some(Stream::new(path, image));
        } else {
            self.current = self.open.pop().map(|Reverse(stream)| stream);
        }
        let least_open = self.open.peek().map_or(u64::MAX, |Reverse(stream)| stream.stamp);
        let least_pending = self.pending.last().map_or(u64::MAX, |chunk| chunk.first);
        self.horizon = least_open.min(least_pending).min(self.until);
        Ok(self.current.is_some())
    }
}

fn word_at(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[index * 8..][..8]);
    u64::from_ne_bytes(word)
}

/// A chunk that is being read, through a window on its file.
struct Stream {
    path: PathBuf,
    image: u32,
    thread: u32,
    window: Vec<u64>,
    at: usize,
    read_bytes: u64,
    /// While it waits in the heap: its next record's.
    stamp: u64,
}

impl Stream {
    fn new(path: PathBuf, image: u32) -> Self {
        let read_bytes = HEADER_WORDS as u64 * 8;
        Self { path, image, thread: 0, window: Vec::new(), at: 0, read_bytes, stamp: 0 }
    }

    /// The next record's stamp. `None`: there is no more.
    #[inline]
    fn peek(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<u64>> {
        if self.window.len() - self.at < RECORD_WORDS {
            self.refill(bytes)?;
        }
        Ok(self.window.get(self.at).filter(|head| **head != 0).map(|head| head >> 8))
    }

    /// The record that was peeked at. `None`: it is none, and so the chunk's end. What stands before is whole (S2).
    #[inline]
    fn take(&mut self) -> Option<Record> {
        let Found::Record { record, words, .. } = spool::read(&self.window[self.at..]) else {
            self.window.truncate(self.at);
            self.read_bytes = u64::MAX;
            return None;
        };
        self.at += words;
        if let Record::Thread { number } = record {
            self.thread = number as u32;
        }
        Some(record)
    }

    /// Moves the window on, if the file has more.
    #[cold]
    fn refill(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        if self.read_bytes == u64::MAX {
            return Ok(());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.read_bytes))?;
        bytes.clear();
        file.take(WINDOW_BYTES as u64).read_to_end(bytes)?;
        self.window.drain(..self.at);
        self.at = 0;
        self.window.extend((0..bytes.len() / 8).map(|index| word_at(bytes, index)));
        // A short read is the file's end; it is not asked again.
        self.read_bytes = if bytes.len() < WINDOW_BYTES { u64::MAX } else { self.read_bytes + bytes.len() as u64 };
        Ok(())
    }
}

impl Ord for Stream {
    fn cmp(&self, other: &Self) -> Ordering {
        self.stamp.cmp(&other.stamp)
    }
}

impl PartialOrd for Stream {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Stream {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Stream {}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(directory: &Path, number: u32, image: u64, records: &[(u64, Record)]) {
        let mut words = vec![CHUNK_MAGIC, image, 100 + image, 0];
        for &(stamp, record) in records {
            let (record, count) = record.words(stamp);
            words.extend(&record[..count]);
        }
        words.extend([0; 16]);
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        std::fs::write(directory.join(format!("{CHUNK_PREFIX}{number}")), bytes).unwrap();
    }

    fn all(directory: &Path, chunks: u64, until: u64) -> Vec<Step> {
        let mut merge = Merge::open(directory, chunks, until).unwrap();
        std::iter::from_fn(|| merge.step().unwrap()).collect()
    }

    fn free(address: u64) -> Record {
        Record::Free { address }
    }

    fn step(image: u32, thread: u32, record: Record) -> Step {
        Step::Record { image, thread, record }
    }

    #[test]
    fn records_come_in_the_order_of_stamps_and_images_end_with_their_last_chunk() {
        let directory = tempfile::tempdir().unwrap();
        let thread = |number| Record::Thread { number };
        chunk(directory.path(), 1, 1, &[(0, thread(0)), (2, free(2)), (5, free(5)), (9, free(9))]);
        chunk(directory.path(), 2, 1, &[(1, thread(1)), (3, free(3)), (4, Record::End), (6, thread(2)), (7, free(7))]);
        chunk(directory.path(), 4, 2, &[(8, thread(0)), (10, free(10))]); // 3 was never made
        let expected = [
            step(1, 0, thread(0)),
            step(1, 1, thread(1)),
            step(1, 0, free(2)),
            step(1, 1, free(3)),
            step(1, 1, Record::End),
            step(1, 0, free(5)),
            step(1, 2, thread(2)),
            step(1, 2, free(7)),
            step(2, 0, thread(0)),
            step(1, 0, free(9)),
            Step::ImageEnds { image: 1 },
            step(2, 0, free(10)),
            Step::ImageEnds { image: 2 },
        ];
        assert_eq!(all(directory.path(), 4, 11), expected);
    }

    #[test]
    fn nothing_from_the_cut_on_is_read() {
        let directory = tempfile::tempdir().unwrap();
        chunk(directory.path(), 1, 1, &[(0, Record::Thread { number: 0 }), (1, free(1)), (5, free(5))]);
        chunk(directory.path(), 2, 2, &[(6, Record::Thread { number: 0 })]);
        let steps = all(directory.path(), 2, 5);
        assert_eq!(
            steps,
            [step(1, 0, Record::Thread { number: 0 }), step(1, 0, free(1)), Step::ImageEnds { image: 1 }]
        );
    }

    #[test]
    fn a_chunk_longer_than_the_window_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let many: Vec<_> = (1..20_000).map(|stamp| (stamp, Record::Malloc { address: stamp, len: 1 })).collect();
        let mut records = vec![(0, Record::Thread { number: 0 })];
        records.extend(&many);
        chunk(directory.path(), 1, 1, &records);
        let steps = all(directory.path(), 1, u64::MAX);
        assert_eq!(steps.len(), records.len() + 1);
        for (step_, (_, record)) in steps.iter().zip(&records) {
            assert_eq!(*step_, step(1, 0, *record));
        }
    }

    #[test]
    fn garbage_ends_its_chunk_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        chunk(directory.path(), 1, 1, &[(0, Record::Thread { number: 0 }), (1, free(1))]);
        chunk(directory.path(), 2, 2, &[(2, Record::Thread { number: 0 }), (3, free(3))]);
        let path = directory.path().join(format!("{CHUNK_PREFIX}1"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(HEADER_WORDS + 2) * 8] = 0xff; // the free's tag
        std::fs::write(&path, bytes).unwrap();
        let steps = all(directory.path(), 2, u64::MAX);
        assert_eq!(steps.len(), 5, "{steps:?}");
        assert_eq!(steps[3], step(2, 0, free(3)));
    }
}
