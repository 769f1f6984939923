//! [`State`]: what the lock protects. No call of the backing or of a hook is made from here.
//!
//! ```text
//!            enroll                claim                hold                   pop             forget
//!   (none) ─────────▶ Live ─────────────────▶ Ending ─────────▶ Quarantined ─────────▶ Ending ─────────▶ (none) or Gone
//!                      ▲▼ begin, end
//!                     Busy
//! ```
//!
//! - **T1** A record is live exactly as long as the caller has the block, but for one that a `remap` has in hand, for which a seat is
//!   promised, as for each block that the backing is asked for.
//! - **T2** The quarantine is the list `first → … → last` through `next`, of exactly the records that are `Quarantined`; `bytes` is the sum of
//!   their backing blocks.
#![forbid(unsafe_code)]

use core::{panic::Location, ptr::NonNull};

use terrace_core::Alignment;

use super::{
    config::MAX_FRAMES,
    counts::Counts,
    record::{Record, Stamp, State as Life},
    report::{Block, Describe, Mistake, Moment, Trace},
    table::{Table, Which},
};

/// Seats that are to be empty after each block, so that a larger table is asked for more than once before none is left.
const AHEAD: usize = 2;

/// The words of one trace.
pub(super) type Words = [usize; MAX_FRAMES];

/// Who calls.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub stamp: Stamp,
    pub words: Words,
}

impl Caller {
    pub fn moment(&self, describe: Option<Describe>) -> Moment {
        moment(&self.stamp, &self.words, describe)
    }
}

fn moment(stamp: &Stamp, words: &[usize], describe: Option<Describe>) -> Moment {
    Moment { site: stamp.site, thread: stamp.thread, trace: Trace::new(words, describe) }
}

/// A record out of the table, with its traces.
#[derive(Clone, Copy)]
pub(super) struct InHand {
    pub record: Record,
    pub allocated: Words,
}

/// What a call brings: the address, and what it believes of the block, where it says so.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub address: usize,
    pub layout: Option<(usize, Alignment)>,
}

/// Why a call does not get the block that it names.
#[derive(Clone, Copy)]
pub(super) struct Denied {
    pub mistake: Mistake,
    /// Of the block that it is about.
    pub block: Option<usize>,
}

pub(super) struct State {
    pub table: Table,
    pub counts: Counts,
    /// Bytes of requests that are under way, against the limit.
    pub admitted: usize,
    /// Seats of blocks that are still to come, or that a `remap` has in hand.
    pub promised: usize,
    /// Whether the last larger table that was asked for was refused.
    pub refused: bool,
    /// Blocks so far.
    pub serial: u64,
    /// Up to here leaks were told at an end.
    pub settled: u64,
    /// Whatever moves records between seats counts here.
    pub changes: u64,
    round: u32,
    first: usize,
    last: usize,
    bytes: usize,
}

impl State {
    pub const fn new(frames: usize) -> Self {
        Self {
            table: Table::new(frames),
            counts: Counts::NONE,
            admitted: 0,
            promised: 0,
            refused: false,
            serial: 0,
            settled: 0,
            changes: 0,
            round: 0,
            first: 0,
            last: 0,
            bytes: 0,
        }
    }

    /// Promises a seat to a block that is still to come. `false`: none is left.
    pub fn promise(&mut self) -> bool {
        let room = self.table.has_room(self.promised);
        self.promised += usize::from(room);
        room
    }

    /// Whether so few seats are left that a larger table is to be asked for.
    pub fn is_crowded(&self) -> bool {
        self.table.is_full(self.promised + AHEAD)
    }

    /// The table's block, where it describes none and none is under way.
    pub fn take_empty_table(&mut self) -> Option<NonNull<[u8]>> {
        if self.table.len() + self.promised > 0 {
            return None;
        }
        self.refused = false;
        self.table.take()
    }

    /// Seats a new block in a seat that was promised. What is still known at its address goes, and comes back where that was live.
    pub fn enroll(&mut self, record: &Record, words: &Words) -> Option<Record> {
        self.promised -= 1;
        self.serial += 1;
        self.seat(&Record { serial: self.serial, ..*record }, words)
    }

    /// As [`enroll`](Self::enroll), for a block that has a serial.
    pub fn seat(&mut self, record: &Record, words: &Words) -> Option<Record> {
        let known = self.table.find(record.address).and_then(|seat| *self.table.at(seat));
        if let Some(known) = known.filter(|known| known.state == Life::Quarantined) {
            self.unlink(known.address);
        }
        let seat = self.table.insert(record);
        self.table.trace_mut(seat, Which::Allocated).copy_from_slice_short(words);
        self.changes += 1;
        known.filter(|known| known.state != Life::Gone)
    }

    /// The live block that a call names, and its seat.
    pub fn named(&self, named: &Named, after: Mistake) -> Result<(usize, Record), Denied> {
        let known = self.table.find(named.address).and_then(|seat| Some((seat, (*self.table.at(seat))?)));
        let Some((seat, record)) = known else { return Err(self.unknown(named.address)) };
        let about = |mistake| Denied { mistake, block: Some(record.address) };
        match record.state {
            Life::Live => Ok((seat, record)),
            Life::Busy => Err(about(Mistake::InUse)),
            Life::Ending | Life::Quarantined | Life::Gone => Err(about(after)),
        }
    }

    /// What is wrong with the length or the alignment that a call names.
    pub fn misnamed(record: &Record, named: &Named) -> Option<Mistake> {
        let (len, alignment) = named.layout?;
        if len != record.len {
            Some(Mistake::WrongLength { given: len })
        } else if alignment != record.alignment {
            Some(Mistake::WrongAlignment { given: alignment })
        } else {
            None
        }
    }

    /// Of an address at which no block begins: looks at all of them.
    fn unknown(&self, address: usize) -> Denied {
        match self.around(address, |record| record.address..record.address + record.len) {
            Some(record) if record.is_live() => {
                let offset = address - record.address;
                Denied { mistake: Mistake::Interior { offset }, block: Some(record.address) }
            }
            _ => Denied { mistake: Mistake::Foreign, block: None },
        }
    }

    /// The block whose `extent` has `address` in it, a live one if there is one, or else the youngest.
    pub fn around(&self, address: usize, extent: impl Fn(&Record) -> core::ops::Range<usize>) -> Option<Record> {
        let all = (0..self.table.seats()).filter_map(|seat| *self.table.at(seat));
        all.filter(|record| extent(record).contains(&address)).max_by_key(|record| (record.is_live(), record.serial))
    }

    /// Ends the live block at `seat` for its owner.
    pub fn claim(&mut self, seat: usize, by: &Caller) {
        if let Some(record) = self.table.at_mut(seat) {
            record.state = Life::Ending;
            record.freed = Some(by.stamp);
            self.table.trace_mut(seat, Which::Freed).copy_from_slice_short(&by.words);
        }
    }

    /// Changes the record of the block with this address and serial.
    pub fn change(&mut self, address: usize, serial: u64, change: impl FnOnce(&mut Record)) {
        let record = self.table.find(address).and_then(|seat| self.table.at_mut(seat));
        if let Some(record) = record.filter(|record| record.serial == serial) {
            change(record);
        }
    }

    /// Takes the block at `seat` out, and promises it a seat.
    pub fn take(&mut self, seat: usize) -> Option<InHand> {
        let record = (*self.table.at(seat))?;
        let mut allocated = [0; MAX_FRAMES];
        let words = self.table.trace(seat, Which::Allocated);
        allocated[..words.len()].copy_from_slice(words);
        self.table.remove(seat);
        self.promised += 1;
        self.changes += 1;
        Some(InHand { record, allocated })
    }

    /// Puts an `Ending` block at the end of the quarantine.
    pub fn hold(&mut self, address: usize, serial: u64, sealed: bool) {
        let mut whole = None;
        self.change(address, serial, |record| {
            record.state = Life::Quarantined;
            record.sealed = sealed;
            record.next = 0;
            whole = Some(record.shape.whole);
        });
        let Some(whole) = whole else { return };
        match self.table.find(self.last).and_then(|seat| self.table.at_mut(seat)) {
            Some(last) if self.last != 0 => last.next = address,
            _ => self.first = address,
        }
        self.last = address;
        self.bytes = self.bytes.saturating_add(whole);
    }

    /// Takes the block that has been in quarantine longest, where it holds more than `limit` bytes.
    pub fn pop(&mut self, limit: usize) -> Option<Record> {
        if self.first == 0 || self.bytes <= limit {
            return None;
        }
        let oldest = self.first;
        self.unlink(oldest);
        let record = self.table.find(oldest).and_then(|seat| self.table.at_mut(seat))?;
        record.state = Life::Ending;
        Some(*record)
    }

    /// Takes a block out of the list: at once for the first, which is the rule.
    fn unlink(&mut self, address: usize) {
        let record = |state: &Self, address| state.table.find(address).and_then(|seat| *state.table.at(seat));
        let Some(gone) = record(self, address) else { return };
        let (mut before, mut at) = (0, self.first);
        while at != address {
            let Some(here) = record(self, at) else { return };
            (before, at) = (at, here.next);
        }
        match self.table.find(before).and_then(|seat| self.table.at_mut(seat)) {
            Some(before) => before.next = gone.next,
            None => self.first = gone.next,
        }
        if self.last == address {
            self.last = before;
        }
        self.bytes = self.bytes.saturating_sub(gone.shape.whole);
    }

    /// Forgets a block whose memory goes back, or keeps what is known of it. `false`: it is not known, the backing has handed it out
    /// again, and it must not go back.
    pub fn forget(&mut self, address: usize, serial: u64, remember: bool) -> bool {
        let Some(seat) = self.table.find(address) else { return false };
        let Some(record) = self.table.at_mut(seat).filter(|record| record.serial == serial) else { return false };
        if remember {
            record.state = Life::Gone;
        } else {
            self.table.remove(seat);
            self.changes += 1;
        }
        true
    }

    /// Forgets all blocks whose memory has gone back.
    pub fn forget_the_gone(&mut self) {
        let mut seat = 0;
        while seat < self.table.seats() {
            match self.table.at(seat) {
                Some(record) if record.state == Life::Gone => {
                    self.table.remove(seat); // Another may sit here now.
                    self.changes += 1;
                }
                _ => seat += 1,
            }
        }
    }

    /// What a report says of the block at `address`.
    pub fn block(&self, address: usize, describe: Option<Describe>) -> Option<Block> {
        let seat = self.table.find(address)?;
        let record = (*self.table.at(seat))?;
        let Record { address, len, alignment, serial, .. } = record;
        let allocated = moment(&record.allocated, self.table.trace(seat, Which::Allocated), describe);
        let freed = record.freed.map(|freed| moment(&freed, self.table.trace(seat, Which::Freed), describe));
        Some(Block { address, len, alignment, serial, allocated, freed })
    }

    /// Begins a round of looking at every block once.
    pub fn begin_round(&mut self) -> u32 {
        self.round = self.round.wrapping_add(1);
        self.round
    }

    /// The next block of a round, from `seat` on.
    pub fn next_of(&mut self, round: u32, seat: &mut usize) -> Option<Record> {
        while *seat < self.table.seats() {
            let here = *seat;
            *seat += 1;
            if let Some(record) = self.table.at_mut(here).filter(|record| record.told != round) {
                record.told = round;
                return Some(*record);
            }
        }
        None
    }
}

/// Copies as much as both have.
trait CopyShort {
    fn copy_from_slice_short(&mut self, from: &[usize]);
}

impl CopyShort for [usize] {
    fn copy_from_slice_short(&mut self, from: &[usize]) {
        for (to, &from) in self.iter_mut().zip(from) {
            *to = from;
        }
    }
}

/// A caller who is not known: the allocator itself.
pub(super) fn nobody(site: &'static Location<'static>) -> Caller {
    Caller { stamp: Stamp { site, thread: 0 }, words: [0; MAX_FRAMES] }
}
