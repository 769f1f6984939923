//! The spool: what the recorder leaves behind and the lab reads, in one file so that both agree.
//!
//! ```text
//! spool/control      one page, mapped by every recorded process, words of 64 bits
//! +-------+---------+-----+-------+--------------------------------+
//! | MAGIC | …       | at 8: STAMP | at 16: IMAGES CHUNKS LOADED …  |   STAMP alone on its cache line
//! +-------+---------+-----+-------+--------------------------------+
//!
//! spool/chunk-N      N = 1, 2, … from CHUNKS, over all processes; all blocks reserved on disk
//! +--------------------------+--------+--------+-----+-------------+
//! | CHUNK_MAGIC image pid ns | record | record | …   | 0 0 0 0 0 0 |
//! +--------------------------+--------+--------+-----+-------------+
//! record = [ stamp << 8 | tag ] [ up to three more words ]
//! ```
//!
//! - **S1** A chunk belongs to one image (a process between two `exec`s), and to one thread at a
//!   time: what a thread left over when it ended another may go on with. Each begins its part with
//!   [`Record::Thread`], and stamps only grow within a chunk.
//! - **S2** A record's first word is never 0 and is written last. So a process may be killed
//!   between any two instructions: what is written is whole, and the first 0 ends a chunk.
//! - **S3** A stamp is taken from `STAMP` once. That of a [`Record::Free`] or a
//!   [`Record::ReallocFrom`] was taken before the allocator got the block back, any other one after
//!   the allocator gave it out: in the order of stamps no address is ever held twice.
//! - **S4** Stamps are dense: each is that of one record, except one that a killed thread took with it, and
//!   `STOP`'s. So who has read all records below a stamp, and finds that one, has found the next.
//! - **S5** A thread that begins a chunk while its last record in another is no [`Record::End`] never
//!   writes to that other one again, nor does anybody else.
//!
//! Costs: 16 bytes for a free, 24 for an allocation, 40 for a realloc.
#![forbid(unsafe_code)]

use core::ffi::CStr;

/// The variable that names the spool's directory to the recorder.
pub const SPOOL_VARIABLE: &str = "TERRACE_SPOOL";
/// The control page's file name.
pub const CONTROL_FILE: &str = "control";
/// A chunk's file name, less its number.
pub const CHUNK_PREFIX: &str = "chunk-";

/// Word offsets and values in the control page.
pub mod control {
    /// The page's length in words.
    pub const WORDS: usize = 512;
    /// The first word, so that a strange file is not written to.
    pub const MAGIC: u64 = u64::from_le_bytes(*b"terrace1");
    /// How many stamps were given out.
    pub const STAMP: usize = 8;
    /// How many images there were.
    pub const IMAGES: usize = 16;
    /// How many chunk numbers were given out.
    pub const CHUNKS: usize = 17;
    /// How many images the recorder was loaded into.
    pub const LOADED: usize = 18;
    /// How many of those define `malloc` themselves, so that nothing reaches the recorder.
    pub const OWN_MALLOC: usize = 19;
    /// 0, or where recording stopped and why: a stamp shifted left by 16, and the error's number.
    pub const STOP: usize = 20;
    /// 1 asks the recorder to time itself and to end the process before its own code runs.
    pub const CALIBRATE: usize = 21;
    /// The result of that: picoseconds for one call without the recorder,
    pub const PLAIN_PS: usize = 22;
    /// and with it.
    pub const RECORDED_PS: usize = 23;
}

/// A chunk's first word.
pub const CHUNK_MAGIC: u64 = u64::from_le_bytes(*b"terchunk");
/// Words before a chunk's first record: `CHUNK_MAGIC`, image, process id, and the process ids' namespace, 0 if unknown.
pub const HEADER_WORDS: usize = 4;
/// The longest record.
pub const RECORD_WORDS: usize = 4;

/// Where the kernel tells a process's namespace of process ids.
pub const NAMESPACE_LINK: &CStr = c"/proc/self/ns/pid";

/// The number in such a link, as in `pid:[4026531836]`; 0 if there is none.
pub fn namespace_number(link: &[u8]) -> u64 {
    let digits = link.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

/// One thing that a thread did. Addresses and lengths are those of the C call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// `malloc` gave out a block.
    Malloc { address: u64, len: u64 },
    /// `calloc` did.
    Calloc { address: u64, len: u64 },
    /// `memalign` or one of its kin did.
    Aligned { address: u64, len: u64, align_log2: u8 },
    /// `realloc` of a null pointer did.
    FromRealloc { address: u64, len: u64 },
    /// `free`; address 0 for a null pointer.
    Free { address: u64 },
    /// `realloc` begins: from here on the old address may be given to somebody else.
    ReallocFrom { address: u64 },
    /// The same `realloc` returned: the new address, or 0.
    ReallocTo { address: u64, len: u64 },
    /// An allocation was refused; `call` is 0 for `malloc`, 1 for `calloc`, 2 for the aligned ones, 3 for `realloc`.
    Failed { len: u64, call: u64 },
    /// From here on the chunk is that of this thread of the image.
    Thread { number: u64 },
    /// The thread ends.
    End,
}

impl Record {
    /// The record's words and how many of them count.
    #[inline(always)]
    pub const fn words(self, stamp: u64) -> ([u64; RECORD_WORDS], usize) {
        let (tag, first, second, third, count) = match self {
            Self::Malloc { address, len } => (1, address, len, 0, 3),
            Self::Calloc { address, len } => (2, address, len, 0, 3),
            Self::Aligned { address, len, align_log2 } => (3, address, len, align_log2 as u64, 4),
            Self::FromRealloc { address, len } => (4, address, len, 0, 3),
            Self::Free { address } => (5, address, 0, 0, 2),
            Self::ReallocFrom { address } => (6, address, 0, 0, 2),
            Self::ReallocTo { address, len } => (7, address, len, 0, 3),
            Self::Failed { len, call } => (8, len, call, 0, 3),
            Self::Thread { number } => (9, number, 0, 0, 2),
            Self::End => (10, 0, 0, 0, 1),
        };
        ([(stamp << 8) | tag, first, second, third], count)
    }
}

/// What stands at the beginning of `words`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record of so many words.
    Record { stamp: u64, record: Record, words: usize },
    /// Nothing was written here any more.
    End,
    /// The record goes on past `words`.
    Short,
    /// No recorder wrote this.
    Damaged,
}

/// Reads one record.
#[inline(always)]
pub fn read(words: &[u64]) -> Found {
    let Some(&head) = words.first() else { return Found::Short };
    let count = match head & 0xff {
        0 if head == 0 => return Found::End,
        1 | 2 | 4 | 7 | 8 => 3,
        3 => 4,
        5 | 6 | 9 => 2,
        10 => 1,
        _ => return Found::Damaged,
    };
    let Some(rest) = words.get(1..count) else { return Found::Short };
    let record = match (head & 0xff, rest) {
        (1, &[address, len]) => Record::Malloc { address, len },
        (2, &[address, len]) => Record::Calloc { address, len },
        (3, &[address, len, log2]) if log2 < 64 => Record::Aligned { address, len, align_log2: log2 as u8 },
        (4, &[address, len]) => Record::FromRealloc { address, len },
        (5, &[address]) => Record::Free { address },
        (6, &[address]) => Record::ReallocFrom { address },
        (7, &[address, len]) => Record::ReallocTo { address, len },
        (8, &[len, call]) if call < 4 => Record::Failed { len, call },
        (9, &[number]) => Record::Thread { number },
        (10, &[]) => Record::End,
        _ => return Found::Damaged,
    };
    Found::Record { stamp: head >> 8, record, words: count }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Record; 10] = [
        Record::Malloc { address: 16, len: 1 },
        Record::Calloc { address: u64::MAX, len: 0 },
        Record::Aligned { address: 4096, len: 5, align_log2: 63 },
        Record::FromRealloc { address: 32, len: u64::MAX },
        Record::Free { address: 0 },
        Record::ReallocFrom { address: 1 << 56 },
        Record::ReallocTo { address: 0, len: 0 },
        Record::Failed { len: u64::MAX, call: 3 },
        Record::Thread { number: 7 },
        Record::End,
    ];

    #[test]
    fn every_record_is_read_back_as_written() {
        for record in ALL {
            for stamp in [0, 1, (1 << 56) - 1] {
                let (words, count) = record.words(stamp);
                assert_ne!(words[0], 0, "S2: {record:?}");
                assert_eq!(read(&words[..count]), Found::Record { stamp, record, words: count });
            }
        }
    }

    #[test]
    fn a_record_that_is_cut_off_is_short_not_wrong() {
        for record in ALL {
            let (words, count) = record.words(9);
            for kept in 0..count {
                assert_eq!(read(&words[..kept]), Found::Short, "{record:?} cut to {kept}");
            }
        }
    }

    #[test]
    fn a_namespace_is_known_by_its_number() {
        assert_eq!(namespace_number(b"pid:[4026531836]"), 4_026_531_836);
        assert_eq!(namespace_number(b""), 0);
    }

    #[test]
    fn zero_ends_and_strange_words_are_damage() {
        assert_eq!(read(&[0, 1, 2]), Found::End);
        for tag in (0..=255).filter(|tag| !(1..=10).contains(tag)) {
            assert_eq!(read(&[(5 << 8) | tag, 1, 2, 3]), Found::Damaged);
        }
        let (words, _) = Record::Aligned { address: 1, len: 1, align_log2: 3 }.words(1);
        assert_eq!(read(&[words[0], 1, 1, 64]), Found::Damaged, "an alignment beyond the address space");
    }
}
