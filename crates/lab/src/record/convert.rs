//! Turns records of addresses into events of blocks.
//!
//! A spool knows images (a process between two `exec`s), their threads and addresses; a trace knows threads and
//! blocks' names, one program. So:
//! - threads are numbered over all images in order of appearance, and blocks named by
//!   [`BlockNames`], a name reused once its block has ended;
//! - a process that ends takes its blocks with it: they end in one [`Op::BulkFree`]. Otherwise a
//!   build that starts a hundred compilers would seem to need the memory of all at once. What the
//!   recorded program's own process leaves at its end stays: that is what it leaked;
//! - an image's first thread lasts as long as the image. Calls that come from a thread after its end
//!   was seen (the C library frees some of a thread's things very late) are booked to that first thread;
//! - what a child inherited through a fork it may free or move; the trace never saw such a block in
//!   that image, so this is [`Nothing::FreeUnknown`], or a new block.
//!
//! - **V1** `blocks` maps the live addresses of an image to their blocks. A `realloc`'s old address leaves it where
//!   the realloc begins and waits in `moving`: from there on another thread may get that address.
#![forbid(unsafe_code)]

use terrace_trace::{AllocKind, BlockId, BlockNames, Event, FreeKind, Nothing, Op, ThreadId};

use super::addresses::{Addresses, NumberMap};
use super::spool::Record;

/// The alignment of a block that no alignment was asked for: 16 bytes, glibc's on 64-bit machines.
const ANY: u8 = 4;
/// The calls of [`Record::Failed`].
const CALLS: [AllocKind; 4] = [AllocKind::Plain, AllocKind::Zeroed, AllocKind::Aligned, AllocKind::FromRealloc];

/// What was converted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Events of all kinds.
    pub events: u64,
    /// Events that are calls of the program; the others are threads' and processes' beginnings and ends.
    pub calls: u64,
    /// Threads of all images.
    pub threads: u32,
    /// Frees of, and reallocs from, blocks that the image never got from its `malloc`.
    pub unknown: u64,
    /// Allocations at an address that was still in use.
    pub overlaps: u64,
}

/// Takes records in the order of their stamps, gives events to `sink`.
pub struct Converter<S> {
    sink: S,
    /// The image of the last record, kept at hand, and its number; all others.
    image: Image,
    number: u32,
    images: NumberMap<u32, Image>,
    names: BlockNames,
    counts: Counts,
}

impl<E, S: FnMut(Event) -> Result<(), E>> Converter<S> {
    /// Nothing was seen yet.
    pub fn new(sink: S) -> Self {
        let (image, images) = (Image::default(), NumberMap::default());
        Self { sink, image, number: 0, images, names: BlockNames::default(), counts: Counts::default() }
    }

    /// What was converted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// One record of a thread; numbers count from 0 within the image.
    pub fn take(&mut self, image: u32, number: u32, record: Record) -> Result<(), E> {
        if image != self.number {
            let other = self.images.remove(&image).unwrap_or_default();
            self.images.insert(self.number, std::mem::replace(&mut self.image, other));
            self.number = image;
        }
        let image = &mut self.image;
        let thread = match image.thread(number) {
            Some(thread) => thread,
            None => {
                let id = ThreadId(self.counts.threads);
                self.counts.threads += 1;
                image.threads.insert(number, Thread { id, ended: false, moving: Vec::new() });
                image.first.get_or_insert(number);
                self.counts.events += 1;
                (self.sink)(Event { thread: id, op: Op::ThreadStart })?;
                id
            }
        };
        if let Some(op) = image.overlapped(record, &mut self.names, &mut self.counts) {
            self.counts.events += 1;
            (self.sink)(Event { thread, op })?;
        }
        let Some(op) = image.op(number, record, &mut self.names, &mut self.counts) else { return Ok(()) };
        self.counts.events += 1;
        self.counts.calls += u64::from(op != Op::ThreadEnd);
        (self.sink)(Event { thread, op })
    }

    /// An image ended; `keeps` leaves its blocks live in the trace.
    pub fn end_image(&mut self, image: u32, keeps: bool) -> Result<(), E> {
        let mut image = if image == self.number {
            std::mem::take(&mut self.image)
        } else {
            self.images.remove(&image).unwrap_or_default()
        };
        let Some(first) = image.first.and_then(|first| image.threads.get(&first)).map(|thread| thread.id) else {
            return Ok(());
        };
        let moving = image.threads.values().flat_map(|thread| thread.moving.iter().filter_map(|moving| moving.1));
        let mut blocks: Vec<BlockId> = image.blocks.blocks().chain(moving).collect();
        blocks.sort_unstable();
        // A realloc that never returned leaves its block as it was.
        let blocks = if keeps { &[][..] } else { &blocks[..] };
        for part in blocks.chunks(u32::MAX as usize) {
            self.give(first, Op::BulkFree { count: part.len() as u32 })?;
            for &block in part {
                let op = freed(block, FreeKind::Bulk, &mut self.names);
                self.give(first, op)?;
            }
        }
        let mut running: Vec<ThreadId> = image.threads.drain().filter(|(_, t)| !t.ended).map(|(_, t)| t.id).collect();
        running.sort_unstable_by_key(|thread| std::cmp::Reverse(*thread));
        running.into_iter().try_for_each(|thread| self.give(thread, Op::ThreadEnd))
    }

    fn give(&mut self, thread: ThreadId, op: Op) -> Result<(), E> {
        self.counts.events += 1;
        (self.sink)(Event { thread, op })
    }
}

/// A thread of an image, and its reallocs that have not returned: the address and the block.
/// (More than one only where a signal's handler reallocates in the midst of a realloc.)
struct Thread {
    id: ThreadId,
    ended: bool,
    moving: Vec<(u64, Option<BlockId>)>,
}

#[derive(Default)]
struct Image {
    blocks: Addresses,
    threads: NumberMap<u32, Thread>,
    first: Option<u32>,
    /// The thread of the last record, and who its calls are booked to.
    recent: Option<(u32, ThreadId)>,
}

impl Image {
    /// Who a call of the thread `number` is booked to. `None`: it was never named.
    #[inline]
    fn thread(&mut self, number: u32) -> Option<ThreadId> {
        match self.recent {
            Some((recent, thread)) if recent == number => Some(thread),
            _ => self.other_thread(number),
        }
    }

    fn other_thread(&mut self, number: u32) -> Option<ThreadId> {
        let thread = self.threads.get(&number)?;
        let booked = if thread.ended { self.threads.get(&self.first?)? } else { thread };
        self.recent = Some((number, booked.id));
        Some(booked.id)
    }

    fn op(&mut self, number: u32, record: Record, names: &mut BlockNames, counts: &mut Counts) -> Option<Op> {
        Some(match record {
            Record::Malloc { address, len } => self.made(address, len, ANY, AllocKind::Plain, names, counts),
            Record::Calloc { address, len } => self.made(address, len, ANY, AllocKind::Zeroed, names, counts),
            Record::FromRealloc { address, len } => self.made(address, len, ANY, AllocKind::FromRealloc, names, counts),
            Record::Aligned { address, len, align_log2 } => {
                self.made(address, len, align_log2, AllocKind::Aligned, names, counts)
            }
            Record::Free { address: 0 } => Op::Nothing(Nothing::FreeNull),
            Record::Free { address } => match self.blocks.remove(address) {
                Some(block) => freed(block, FreeKind::Plain, names),
                None => {
                    counts.unknown += 1;
                    Op::Nothing(Nothing::FreeUnknown)
                }
            },
            Record::ReallocFrom { address } => {
                let block = self.blocks.remove(address);
                counts.unknown += u64::from(block.is_none());
                self.threads.get_mut(&number)?.moving.push((address, block));
                return None;
            }
            Record::ReallocTo { address, len } => {
                let (old, block) = self.threads.get_mut(&number)?.moving.pop()?;
                self.moved(old, block, address, len, names, counts)
            }
            Record::Failed { len: 0, call: 3 } => Op::Nothing(Nothing::ReallocUnknown),
            Record::Failed { len, call } => Op::Nothing(Nothing::Failed { kind: CALLS[call as usize & 3], len }),
            Record::End if Some(number) == self.first => return None,
            Record::End => {
                self.recent = None;
                let thread = self.threads.get_mut(&number)?;
                if std::mem::replace(&mut thread.ended, true) {
                    return None;
                }
                Op::ThreadEnd
            }
            Record::Thread { .. } => return None,
        })
    }

    fn made(
        &mut self,
        address: u64,
        len: u64,
        align_log2: u8,
        kind: AllocKind,
        names: &mut BlockNames,
        counts: &mut Counts,
    ) -> Op {
        // An address that is still in use was freed by a way that the recorder does not see: the
        // trace's rule for that is that the older block of the same name ends.
        let block = match self.blocks.get(address) {
            Some(older) => {
                counts.overlaps += 1;
                older
            }
            None => {
                let block = names.take();
                self.blocks.insert(address, block);
                block
            }
        };
        Op::Alloc { block, len, align_log2, kind }
    }

    /// A realloc returned. The address that it gives must not be in use: see [`Image::overlapped`].
    fn moved(
        &mut self,
        old: u64,
        block: Option<BlockId>,
        new: u64,
        len: u64,
        names: &mut BlockNames,
        counts: &mut Counts,
    ) -> Op {
        match (block, new) {
            // Nothing came back though nothing was asked for: that was a free, in glibc's reading.
            (Some(block), 0) if len == 0 => freed(block, FreeKind::FromRealloc, names),
            (None, 0) if len == 0 => Op::Nothing(Nothing::ReallocUnknown),
            (block, 0) => {
                if let Some(block) = block {
                    self.blocks.insert(old, block);
                }
                Op::Nothing(Nothing::Failed { kind: AllocKind::FromRealloc, len })
            }
            (Some(block), _) => {
                self.blocks.insert(new, block);
                Op::Realloc { block, len, moved: new != old }
            }
            (None, _) => self.made(new, len, ANY, AllocKind::FromRealloc, names, counts),
        }
    }

    /// Ends the block at an address that a realloc is given although it is in use, like [`Image::made`].
    fn overlapped(&mut self, record: Record, names: &mut BlockNames, counts: &mut Counts) -> Option<Op> {
        let Record::ReallocTo { address, .. } = record else { return None };
        let block = self.blocks.remove(address)?;
        counts.overlaps += 1;
        Some(freed(block, FreeKind::Overlap, names))
    }
}

fn freed(block: BlockId, kind: FreeKind, names: &mut BlockNames) -> Op {
    names.give_back(block);
    Op::Free { block, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Converts `(image, thread, record)`s; an image that is not the first ends at its `End` of thread 0.
    fn events(records: &[(u32, u32, Record)]) -> (Vec<(u32, Op)>, Counts) {
        let mut events = Vec::new();
        let mut converter = Converter::new(|event: Event| {
            events.push((event.thread.0, event.op));
            Ok::<(), ()>(())
        });
        for &(image, thread, record) in records {
            if image != 1 && record == Record::End && thread == 0 {
                converter.end_image(image, false).unwrap();
            } else {
                converter.take(image, thread, record).unwrap();
            }
        }
        converter.end_image(1, true).unwrap();
        let counts = converter.counts();
        (events, counts)
    }

    const fn name(number: u64) -> Record {
        Record::Thread { number }
    }

    const fn malloc(address: u64) -> Record {
        Record::Malloc { address, len: 8 }
    }

    const fn alloc(block: u32) -> Op {
        Op::Alloc { block: BlockId(block), len: 8, align_log2: ANY, kind: AllocKind::Plain }
    }

    const fn free(block: u32, kind: FreeKind) -> Op {
        Op::Free { block: BlockId(block), kind }
    }

    #[test]
    fn names_are_reused_last_freed_first() {
        let frees = [Record::Free { address: 16 }, Record::Free { address: 32 }].map(|free| (1, 0, free));
        let mut records = vec![(1, 0, name(0)), (1, 0, malloc(16)), (1, 0, malloc(32))];
        records.extend(frees);
        records.extend([(1, 0, malloc(64)), (1, 0, malloc(16))]);
        let (events, counts) = events(&records);
        assert_eq!(events[5..7], [(0, alloc(1)), (0, alloc(0))]);
        assert_eq!((counts.calls, counts.threads, counts.unknown, counts.overlaps), (6, 1, 0, 0));
        assert_eq!(events.last(), Some(&(0, Op::ThreadEnd)), "the program's own blocks stay, its thread ends");
    }

    #[test]
    fn an_address_that_a_realloc_left_may_be_anothers_before_the_realloc_returns() {
        let (events, counts) = events(&[
            (1, 0, name(0)),
            (1, 1, name(1)),
            (1, 0, malloc(16)),
            (1, 0, Record::ReallocFrom { address: 16 }),
            (1, 1, malloc(16)),
            (1, 0, Record::ReallocTo { address: 32, len: 9 }),
            (1, 1, Record::Free { address: 16 }),
            (1, 0, Record::Free { address: 32 }),
        ]);
        let moved = Op::Realloc { block: BlockId(0), len: 9, moved: true };
        assert_eq!(events[3..6], [(1, alloc(1)), (0, moved), (1, free(1, FreeKind::Plain))]);
        assert_eq!((counts.unknown, counts.overlaps), (0, 0));
    }

    #[test]
    fn a_refused_realloc_leaves_the_block_and_one_to_zero_ends_it() {
        let (events, _) = events(&[
            (1, 0, name(0)),
            (1, 0, malloc(16)),
            (1, 0, Record::ReallocFrom { address: 16 }),
            (1, 0, Record::ReallocTo { address: 0, len: 99 }),
            (1, 0, Record::ReallocFrom { address: 16 }),
            (1, 0, Record::ReallocTo { address: 0, len: 0 }),
            (1, 0, Record::Free { address: 0 }),
        ]);
        let expected = [
            Op::Nothing(Nothing::Failed { kind: AllocKind::FromRealloc, len: 99 }),
            free(0, FreeKind::FromRealloc),
            Op::Nothing(Nothing::FreeNull),
        ];
        assert_eq!(events[2..5], expected.map(|op| (0, op)));
    }

    #[test]
    fn a_child_frees_and_moves_what_it_inherited() {
        let (events, counts) = events(&[
            (1, 0, name(0)),
            (1, 0, malloc(16)),
            (2, 0, name(0)),
            (2, 0, Record::Free { address: 16 }),
            (2, 0, Record::ReallocFrom { address: 32 }),
            (2, 0, Record::ReallocTo { address: 48, len: 8 }),
            (2, 0, Record::ReallocFrom { address: 64 }),
            (2, 0, Record::ReallocTo { address: 0, len: 0 }),
            (2, 0, Record::End),
            (1, 0, Record::Free { address: 16 }),
        ]);
        let new = Op::Alloc { block: BlockId(1), len: 8, align_log2: ANY, kind: AllocKind::FromRealloc };
        let expected = [
            (1, Op::ThreadStart),
            (1, Op::Nothing(Nothing::FreeUnknown)),
            (1, new),
            (1, Op::Nothing(Nothing::ReallocUnknown)),
            (1, Op::BulkFree { count: 1 }),
            (1, free(1, FreeKind::Bulk)),
            (1, Op::ThreadEnd),
            (0, free(0, FreeKind::Plain)),
        ];
        assert_eq!(events[2..10], expected);
        assert_eq!((counts.unknown, counts.overlaps), (3, 0));
    }

    #[test]
    fn what_a_thread_does_after_its_end_is_booked_to_the_first() {
        let (events, counts) = events(&[
            (1, 0, name(0)),
            (1, 1, name(1)),
            (1, 1, malloc(16)),
            (1, 1, Record::End),
            (1, 1, name(1)),
            (1, 1, Record::Free { address: 16 }),
            (1, 0, Record::End),
        ]);
        let end = [(1, Op::ThreadEnd), (0, free(0, FreeKind::Plain)), (0, Op::ThreadEnd)];
        assert_eq!(events[3..], end);
        assert_eq!(counts.threads, 2);
    }

    #[test]
    fn an_address_given_out_twice_is_counted_and_keeps_its_name() {
        let (events, counts) = events(&[(1, 0, name(0)), (1, 0, malloc(16)), (1, 0, malloc(16))]);
        assert_eq!(events[1..3], [(0, alloc(0)), (0, alloc(0))]);
        assert_eq!(counts.overlaps, 1);
    }

    #[test]
    fn a_realloc_to_an_address_in_use_ends_the_older_block() {
        let from = Record::ReallocFrom { address: 16 };
        let to = Record::ReallocTo { address: 32, len: 8 };
        let (events, counts) =
            events(&[(1, 0, name(0)), (1, 0, malloc(16)), (1, 0, malloc(32)), (1, 0, from), (1, 0, to)]);
        let moved = Op::Realloc { block: BlockId(0), len: 8, moved: true };
        assert_eq!(events[3..5], [(0, free(1, FreeKind::Overlap)), (0, moved)]);
        assert_eq!(counts.overlaps, 1);
    }
}
