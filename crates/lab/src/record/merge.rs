//! Follows a spool while it is written: the records of all chunks, in the order of their stamps.
//!
//! ```text
//! stamps     0 ───────────────────────> next ───────────────────> (written, or about to be)
//! chunk 1      [=====   ====  =]┊        .                         finished: its thread went on elsewhere
//! chunk 2           [===    =      ======┊===                      current: read on while it has the next stamp
//! chunk 3                 [=  =     =    ┊    =                    open: its next record is there
//! chunk 4             [=   ==        =   ┊ 0                       dry: nothing more is there yet
//! chunk 5                                ┊       [=                pending: opened when its first stamp is due
//! ```
//!
//! Stamps are dense (S4), so the follower always knows which one is next. It takes it from wherever it appears,
//! and waits, asleep, until it does. A stamp that never comes, for a thread was killed with it in its hand,
//! is waited for until the program has ended; then the least one that is there follows. So the order is the
//! same however far behind the follower is, and a reading that begins after the end is the same code.
//!
//! An image ends where that is first known: right behind its last record where its process was gone, or had
//! become another image, before the reading came there; otherwise soon after. What was read is removed from the disk.
//!
//! Memory: a mapping for each chunk that is current, open or dry: as many as there are threads. Time: a comparison per
//! record, and a step in a heap whenever the next record is another chunk's.
//!
//! - **G1** All records with stamps below `next` were returned, but for those that nobody wrote. Until `until`
//!   is known, there are none of the latter.
//! - **G2** An image's `parts` counts its chunks that are current, open, dry or pending, `dry` the dry ones; with 0 parts it has ended.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use super::os::{self, Words};
use super::spool::{self, CHUNK_MAGIC, CHUNK_PREFIX, CONTROL_FILE, HEADER_WORDS, NAMESPACE_LINK, Record, control};
use super::stream::Stream;

/// How long the follower sleeps where the next record is not there yet: at first, and at most.
/// Longer than a thread needs for some thousand records, so that they are read at a stretch.
const SLEEP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// What the reader comes upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A thread of an image did something. The thread is the image's count, from 0.
    Record { image: u32, thread: u32, record: Record },
    /// An image wrote no more. `last`: its process was no other image afterwards.
    ImageEnds { image: u32, process: u64, last: bool },
}

/// A chunk's file before it is read.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    first: u64,
    image: u32,
    number: u64,
}

/// A process between two `exec`s.
struct Image {
    process: Process,
    parts: u32,
    dry: u32,
}

/// A process's id with its namespace's number; one whose namespace is not known is not asked about.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    namespace: u64,
    id: u64,
}

/// All chunks of a spool, merged.
pub struct Merge<E> {
    directory: PathBuf,
    control: Words,
    namespace: u64,
    /// Tells the stamp from which on nothing is to be read, once the program has ended.
    ended: E,
    /// That stamp, the highest number before it is known.
    until: u64,
    /// Whether all that is below it was found.
    over: bool,
    next: u64,
    current: Option<Stream>,
    open: BinaryHeap<Reverse<Stream>>,
    dry: Vec<Stream>,
    pending: BinaryHeap<Reverse<Pending>>,
    looked_at: u64,
    /// Chunks that have a number, but no file or no record yet.
    unmade: Vec<u64>,
    images: BTreeMap<u32, Image>,
    /// The newest image of each process.
    newest: BTreeMap<Process, u32>,
    ending: VecDeque<u32>,
    sleep: Duration,
}

impl<E: Fn() -> Option<u64>> Merge<E> {
    /// Begins to follow the spool in `directory`.
    pub fn follow(directory: &Path, ended: E) -> io::Result<Self> {
        let link = std::fs::read_link(Path::new(NAMESPACE_LINK.to_str().unwrap_or_default()));
        Ok(Self {
            directory: directory.to_owned(),
            control: Words::map(&directory.join(CONTROL_FILE), u64::MAX)?,
            namespace: link.map_or(0, |link| spool::namespace_number(link.as_os_str().as_encoded_bytes())),
            ended,
            until: u64::MAX,
            over: false,
            next: 0,
            current: None,
            open: BinaryHeap::new(),
            dry: Vec::new(),
            pending: BinaryHeap::new(),
            looked_at: 0,
            unmade: Vec::new(),
            images: BTreeMap::new(),
            newest: BTreeMap::new(),
            ending: VecDeque::new(),
            sleep: SLEEP.0,
        })
    }

    /// How many images were seen, and processes.
    pub fn counts(&self) -> (usize, usize) {
        (self.images.len(), self.newest.len())
    }

    /// The next stamp.
    pub fn next_stamp(&self) -> u64 {
        self.next
    }

    /// The next step; sleeps until it is there. `None`: all was read.
    #[inline]
    pub fn step(&mut self) -> io::Result<Option<Step>> {
        loop {
            if let Some(stream) = &mut self.current
                && self.next < self.until
                && let Some(record) = stream.take(self.next)
            {
                self.next += 1;
                let step = Step::Record { image: stream.image, thread: stream.thread, record };
                if let Record::Thread { .. } = record {
                    self.moved_on();
                }
                return Ok(Some(step));
            }
            self.turn()?;
            if let Some(image) = self.ending.pop_front() {
                return Ok(Some(self.end(image)));
            }
            if self.current.is_none() && self.over {
                let Some(least) = self.least() else { return Ok(None) };
                self.next = least; // Whatever has a lesser stamp nobody wrote any more.
            }
        }
    }

    /// The current chunk does not have the next record: finds the one that does, or waits for it.
    #[cold]
    fn turn(&mut self) -> io::Result<()> {
        if self.until == u64::MAX {
            self.until = (self.ended)().unwrap_or(u64::MAX);
        }
        if let Some(stream) = self.current.take() {
            self.put_back(stream)?;
        }
        if self.choose()? {
            self.sleep = SLEEP.0;
        } else if !self.over {
            self.wait()?;
        }
        Ok(())
    }

    fn end(&self, image: u32) -> Step {
        let process = self.images.get(&image).map_or(Process::default(), |image| image.process);
        let here = [0, self.namespace].contains(&process.namespace);
        Step::ImageEnds { image, process: process.id, last: here && self.newest.get(&process) == Some(&image) }
    }

    /// The least stamp that is there.
    fn least(&self) -> Option<u64> {
        let open = self.open.peek().map(|Reverse(stream)| stream.stamp);
        let pending = self.pending.peek().map(|Reverse(chunk)| chunk.first);
        open.into_iter().chain(pending).min().filter(|least| *least < self.until)
    }

    /// Makes the chunk that has the next record current. `false`: it is in none that was looked at, or stands
    /// where nothing is to be read any more.
    fn choose(&mut self) -> io::Result<bool> {
        if self.next >= self.until {
            return Ok(false);
        }
        while let Some(Reverse(stream)) = self.open.peek()
            && stream.stamp <= self.next
        {
            let due = stream.stamp == self.next;
            let stream = self.open.pop().map(|Reverse(stream)| stream);
            if due {
                self.current = stream;
                return Ok(true);
            }
            stream.into_iter().for_each(|stream| self.finish(stream.image, stream.number)); // No recorder's.
        }
        while let Some(Reverse(chunk)) = self.pending.peek()
            && chunk.first <= self.next
        {
            if chunk.first == self.next {
                let words = Words::map(&self.path(chunk.number), u64::MAX);
                if words.is_err() && !self.over {
                    return Ok(false); // Too much is mapped, perhaps; there is less in the end.
                }
                self.current = Some(Stream::new(chunk.image, chunk.number, words?));
            }
            let Some(Reverse(chunk)) = self.pending.pop() else { break };
            if self.current.is_some() {
                return Ok(true);
            }
            self.finish(chunk.image, chunk.number);
        }
        Ok(false)
    }

    /// The next record is not there. Once the program has ended, nothing is waited for any more.
    fn wait(&mut self) -> io::Result<()> {
        let over = self.until != u64::MAX;
        let found = self.look(over)?; // Begun after the end was known: what was written before it is found.
        if over {
            self.over = true;
            std::mem::take(&mut self.dry).into_iter().for_each(|stream| self.finish(stream.image, stream.number));
            for Reverse(stream) in std::mem::take(&mut self.open) {
                self.put_back(stream)?;
            }
            for Reverse(chunk) in std::mem::take(&mut self.pending) {
                if chunk.first < self.until {
                    self.pending.push(Reverse(chunk));
                } else {
                    self.finish(chunk.image, chunk.number);
                }
            }
        } else if !found {
            let dry: Vec<u32> = self.dry.iter().map(|stream| stream.image).collect();
            dry.into_iter().try_for_each(|image| self.look_for_end(image))?;
            if self.ending.is_empty() {
                std::thread::park_timeout(self.sleep);
                self.sleep = (self.sleep * 2).min(SLEEP.1);
            }
        }
        Ok(())
    }

    fn put_back(&mut self, mut stream: Stream) -> io::Result<()> {
        let (image, head) = (stream.image, stream.head()); // Read once: the next moment it may be there.
        stream.stamp = head >> 8;
        if stream.damaged || (self.over && (head == 0 || stream.stamp >= self.until)) {
            self.finish(image, stream.number);
        } else if head != 0 {
            self.open.push(Reverse(stream));
        } else {
            self.dry.push(stream);
            self.images.entry(image).and_modify(|image| image.dry += 1);
            self.look_for_end(image)?;
        }
        Ok(())
    }

    /// A chunk is done with. Its file goes at once, so that the spool stays as small as the follower is fast.
    fn finish(&mut self, image: u32, number: u64) {
        let _ = std::fs::remove_file(self.path(number)); // If it does not go now, it goes with the folder.
        if let Some(parts) = self.images.get_mut(&image).map(|image| &mut image.parts) {
            *parts -= 1;
            if *parts == 0 {
                self.ending.push_back(image);
            }
        }
    }

    /// The thread that the current chunk has become that of left the one that it wrote before (S5).
    fn moved_on(&mut self) {
        let Some(Stream { image, thread, .. }) = self.current else { return };
        let left = |stream: &Stream| (stream.image, stream.thread) == (image, thread) && !stream.left_over;
        if let Some(at) = self.dry.iter().position(left) {
            let stream = self.dry.swap_remove(at);
            self.images.entry(image).and_modify(|image| image.dry -= 1);
            self.finish(image, stream.number);
        }
    }

    /// Looks whether an image of which nothing is left to read can write no more.
    fn look_for_end(&mut self, image: u32) -> io::Result<()> {
        let is_dry =
            |merge: &Self| merge.images.get(&image).is_some_and(|image| image.dry > 0 && image.dry == image.parts);
        if is_dry(self) && self.is_gone(image) {
            self.look(false)?; // It may have written until it went.
            if is_dry(self) {
                let (gone, dry) = std::mem::take(&mut self.dry).into_iter().partition(|stream| stream.image == image);
                self.dry = dry;
                let gone: Vec<Stream> = gone;
                self.images.entry(image).and_modify(|image| image.dry = 0);
                gone.into_iter().for_each(|stream| self.finish(image, stream.number));
            }
        }
        Ok(())
    }

    fn is_gone(&self, number: u32) -> bool {
        self.images.get(&number).is_some_and(|Image { process, .. }| {
            process.namespace != 0
                && (self.newest.get(process) != Some(&number)
                    || (process.namespace == self.namespace && os::is_gone(process.id)))
        })
    }

    /// Looks for chunks that are new and for records in those that were dry. `last`: what is not there now is not to come.
    fn look(&mut self, last: bool) -> io::Result<bool> {
        let made = self.control.get(control::CHUNKS).map_or(0, |word| word.load(Acquire));
        let numbers: Vec<u64> = self.unmade.drain(..).chain(self.looked_at + 1..=made).collect();
        self.looked_at = made;
        let before = self.pending.len();
        for number in numbers {
            match self.look_at(number) {
                Ok(true) => {}
                Ok(false) => self.unmade.push(number),
                Err(error) if last => return Err(error),
                Err(_) => self.unmade.push(number),
            }
        }
        let (found, dry) = std::mem::take(&mut self.dry).into_iter().partition(|stream| stream.head() != 0);
        self.dry = dry;
        let found: Vec<Stream> = found;
        let any = !found.is_empty() || self.pending.len() > before;
        for mut stream in found {
            self.images.entry(stream.image).and_modify(|image| image.dry -= 1);
            stream.stamp = stream.head() >> 8;
            self.open.push(Reverse(stream));
        }
        Ok(any)
    }

    /// `false`: the chunk is not there yet.
    fn look_at(&mut self, number: u64) -> io::Result<bool> {
        let words = match Words::map(&self.path(number), (HEADER_WORDS as u64 + 1) * 8) {
            // Killed, or out of room, between taking the number and making the file; or not so far yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            words => words?,
        };
        // The first record is the thread's name; without it nothing else was written, the header perhaps neither.
        let Some(first) = words.get(HEADER_WORDS).map(|head| head.load(Acquire)).filter(|head| *head != 0) else {
            return Ok(false);
        };
        let header = |index: usize| words[index].load(Relaxed);
        if header(0) == CHUNK_MAGIC && first >> 8 < self.until {
            let (image, process) = (header(1) as u32, Process { namespace: header(3), id: header(2) });
            self.images.entry(image).or_insert(Image { process, parts: 0, dry: 0 }).parts += 1;
            let newest = self.newest.entry(process).or_insert(image);
            *newest = image.max(*newest);
            self.pending.push(Reverse(Pending { first: first >> 8, image, number }));
        }
        Ok(true)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{CHUNK_PREFIX}{number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(directory: &Path, number: u32, image: u64, records: &[(u64, Record)]) {
        chunk_of(Process { namespace: 0, id: 100 + image }, directory, number, image, records);
    }

    fn chunk_of(process: Process, directory: &Path, number: u32, image: u64, records: &[(u64, Record)]) {
        let mut words = vec![CHUNK_MAGIC, image, process.id, process.namespace];
        for &(stamp, record) in records {
            let (record, count) = record.words(stamp);
            words.extend(&record[..count]);
        }
        words.extend([0; 16]);
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        std::fs::write(directory.join(format!("{CHUNK_PREFIX}{number}")), bytes).unwrap();
    }

    /// As many chunks have a number.
    fn numbered(directory: &Path, chunks: u64) {
        let mut words = [0; control::WORDS];
        words[control::CHUNKS] = chunks;
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        std::fs::write(directory.join(CONTROL_FILE), bytes).unwrap();
    }

    fn all(directory: &Path, chunks: u64, until: u64) -> Vec<Step> {
        numbered(directory, chunks);
        let mut merge = Merge::follow(directory, || Some(until)).unwrap();
        std::iter::from_fn(|| merge.step().unwrap()).collect()
    }

    fn ends(image: u32) -> Step {
        Step::ImageEnds { image, process: 100 + u64::from(image), last: true }
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
            ends(1),
            step(2, 0, free(10)),
            ends(2),
        ];
        assert_eq!(all(directory.path(), 4, 11), expected);
    }

    #[test]
    fn nothing_from_the_cut_on_is_read() {
        let directory = tempfile::tempdir().unwrap();
        chunk(directory.path(), 1, 1, &[(0, Record::Thread { number: 0 }), (1, free(1)), (5, free(5))]);
        chunk(directory.path(), 2, 2, &[(6, Record::Thread { number: 0 })]);
        let steps = all(directory.path(), 2, 5);
        assert_eq!(steps, [step(1, 0, Record::Thread { number: 0 }), step(1, 0, free(1)), ends(1)]);
    }

    #[test]
    fn what_goes_on_past_the_cut_without_a_gap_is_cut_too() {
        let directory = tempfile::tempdir().unwrap();
        let thread = Record::Thread { number: 0 };
        chunk(directory.path(), 1, 1, &[(0, thread), (1, free(1)), (2, free(2))]);
        chunk(directory.path(), 2, 1, &[(3, thread), (4, free(4))]);
        numbered(directory.path(), 2);
        let ended = std::cell::Cell::new(None);
        let mut merge = Merge::follow(directory.path(), || ended.get()).unwrap();
        assert_eq!(merge.step().unwrap(), Some(step(1, 0, thread))); // Both chunks were looked at.
        ended.set(Some(2));
        merge.turn().unwrap(); // As happens where another chunk has the next record.
        let steps: Vec<Step> = std::iter::from_fn(|| merge.step().unwrap()).collect();
        assert_eq!(steps, [step(1, 0, free(1)), ends(1)]);
    }

    #[test]
    fn a_long_chunk_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let many: Vec<_> = (1..20_000).map(|stamp| (stamp, Record::Malloc { address: stamp, len: 1 })).collect();
        let mut records = vec![(0, Record::Thread { number: 0 })];
        records.extend(&many);
        chunk(directory.path(), 1, 1, &records);
        let steps = all(directory.path(), 1, 1 << 50);
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
        let steps = all(directory.path(), 2, 1 << 50);
        assert_eq!(steps.len(), 5, "{steps:?}");
        assert_eq!(steps[3], step(2, 0, free(3)));
    }

    #[test]
    fn a_stamp_that_nobody_wrote_is_passed_over_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let thread = Record::Thread { number: 0 };
        chunk(directory.path(), 1, 1, &[(0, thread), (2, free(2)), (7, free(7))]);
        chunk(directory.path(), 2, 2, &[(3, thread), (5, free(5))]);
        let expected =
            [(1, thread), (1, free(2)), (2, thread), (2, free(5))].map(|(image, record)| step(image, 0, record));
        let mut steps = all(directory.path(), 2, 9);
        assert_eq!((steps.pop(), steps.pop()), (Some(ends(1)), Some(step(1, 0, free(7)))));
        assert_eq!(steps.pop(), Some(ends(2)));
        assert_eq!(steps, expected);
    }

    /// Appends a record to a chunk of that many words, its first word last (S2).
    fn append(directory: &Path, number: u32, at: u64, stamp: u64, record: Record) {
        use std::os::unix::fs::FileExt;
        let path = directory.join(format!("{CHUNK_PREFIX}{number}"));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let (words, count) = record.words(stamp);
        for index in (0..count).rev() {
            file.write_all_at(&words[index].to_ne_bytes(), (at + index as u64) * 8).unwrap();
        }
    }

    #[test]
    fn a_record_that_comes_late_is_waited_for_and_none_is_given_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let (threads, late) = ([Record::Thread { number: 0 }, Record::Thread { number: 1 }], free(3));
        chunk(directory.path(), 1, 1, &[(0, threads[0]), (1, free(1))]);
        chunk(directory.path(), 2, 1, &[(2, threads[1]), (4, free(4)), (5, free(5))]);
        numbered(directory.path(), 2);
        let ended = std::sync::OnceLock::new();
        std::thread::scope(|scope| {
            let (give, steps) = std::sync::mpsc::channel();
            let (path, ended) = (directory.path(), &ended);
            scope.spawn(move || {
                let mut merge = Merge::follow(path, || ended.get().copied()).unwrap();
                while let Some(step) = merge.step().unwrap() {
                    give.send(step).unwrap();
                }
            });
            let before: Vec<Step> = steps.iter().take(3).collect();
            assert_eq!(before, [step(1, 0, threads[0]), step(1, 0, free(1)), step(1, 1, threads[1])]);
            append(path, 1, 8, 3, late);
            let after: Vec<Step> = steps.iter().take(3).collect();
            assert_eq!(after, [step(1, 0, late), step(1, 1, free(4)), step(1, 1, free(5))]);
            append(path, 2, 10, 6, free(6)); // And one that comes after all was read.
            ended.set(7).unwrap();
            assert_eq!(steps.iter().collect::<Vec<_>>(), [step(1, 1, free(6)), ends(1)]);
        });
    }

    #[test]
    fn a_chunk_goes_when_its_thread_goes_on_elsewhere_unless_another_may_go_on_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let thread = |number| Record::Thread { number };
        chunk(directory.path(), 1, 1, &[(0, thread(0)), (1, free(1))]);
        chunk(directory.path(), 2, 1, &[(2, thread(1)), (3, Record::End)]);
        chunk(directory.path(), 3, 1, &[(4, thread(0)), (5, free(5))]);
        chunk(directory.path(), 4, 1, &[(6, thread(1)), (7, free(7))]); // after its end
        numbered(directory.path(), 4);
        let ended = std::cell::Cell::new(None);
        let mut merge = Merge::follow(directory.path(), || ended.get()).unwrap();
        for _ in 0..8 {
            assert!(matches!(merge.step().unwrap(), Some(Step::Record { .. })));
        }
        let left: Vec<bool> =
            (1..=4).map(|number| directory.path().join(format!("{CHUNK_PREFIX}{number}")).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
        append(directory.path(), 2, 7, 8, thread(2));
        assert_eq!(merge.step().unwrap(), Some(step(1, 2, thread(2))));
        ended.set(Some(9));
        assert_eq!((merge.step().unwrap(), merge.step().unwrap()), (Some(ends(1)), None));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "the control page is left");
    }

    #[test]
    fn an_image_whose_process_is_gone_ends_behind_its_last_record() {
        let directory = tempfile::tempdir().unwrap();
        numbered(directory.path(), 4);
        let namespace = Merge::follow(directory.path(), || None).unwrap().namespace;
        if namespace == 0 {
            eprintln!("skipped: the kernel does not tell the namespace here");
            return;
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (gone, here) = (u64::from(child.id()), u64::from(std::process::id()));
        let (thread, process) = (Record::Thread { number: 0 }, |namespace, id| Process { namespace, id });
        chunk_of(process(namespace, gone), directory.path(), 1, 1, &[(0, thread)]);
        chunk_of(process(namespace, here), directory.path(), 2, 2, &[(1, thread)]);
        chunk_of(process(namespace, here), directory.path(), 3, 3, &[(2, thread)]); // what 2 became
        chunk_of(process(0, gone), directory.path(), 4, 4, &[(3, thread)]); // in nobody knows which namespace
        let ended = std::cell::Cell::new(None);
        let mut merge = Merge::follow(directory.path(), || ended.get()).unwrap();
        let mut steps: Vec<Step> = (0..6).map(|_| merge.step().unwrap().unwrap()).collect();
        ended.set(Some(4));
        steps.extend(std::iter::from_fn(|| merge.step().unwrap()));
        let end = |image, process, last| Step::ImageEnds { image, process, last };
        let record = |image| step(image, 0, thread);
        assert_eq!(steps[..2], [record(1), end(1, gone, true)]);
        assert_eq!(steps[2..6], [record(2), end(2, here, false), record(3), record(4)]);
        assert_eq!(steps[6..], [end(3, here, true), end(4, gone, true)]);
    }
}
