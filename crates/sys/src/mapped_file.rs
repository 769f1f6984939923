//! [`MappedFile`]: blocks side by side in a file.
//!
//! ```text
//!  the file, mapped shared: what is written to a block is written to the file
//!  ├─ block ─┬pad┬─ last block ──────▶ grows where it is, up to the capacity
//!  ├── space on the disk ─────────┤┄┄┄┄┄┄┄┄┄┄┄┄ a hole: length, no space ┄┄┄┄┄┄┄┄┤
//!       │ page          ▲
//!       ▼ out, any time │ in, when touched
//!  memory: as much of it as the system has to spare
//! ```
//!
//! - **I1** The extent is the map's, usable as far as the file has space on the disk (or the file system cannot say).
//! - **I2** The map is of this object alone, and the file's bytes are changed by nothing else: nobody else can reach
//!   the file ([`scratch`](MappedFile::scratch)), or the caller has promised it ([`new`](MappedFile::new)).
//!
//! Costs: a few instructions a call, and one fallocate for each [`STEP`] that blocks reach into for the first time. A
//! page that is not in memory costs a read when it is touched.

use std::{fs::File, io, path::Path};

use core::{mem::MaybeUninit, num::NonZeroUsize, ops::Range, ptr::NonNull, slice};

use terrace_core::{Alignment, AllocError, Allocator, Owns, Reset, ResetMode};

use crate::{
    extent::Extent,
    prim::{
        file::{self, FileMap},
        page_size,
    },
};

/// How much of the disk is taken at once, in bytes.
const STEP: usize = 1 << 20;

/// Allocates from a file: for arrays larger than memory, or than one wants in memory.
///
/// The system writes pages out when it needs their memory, and reads them in when they are touched. Otherwise it
/// allocates as [`ReservedAllocator`](crate::ReservedAllocator) does: the last block grows where it is, any other
/// stays as large as it is, and what was not the last when it was freed comes back with [`reset`](Reset::reset).
/// Space on the disk is taken as blocks reach into the file, so that a full disk is an [`AllocError`].
///
/// ```
/// # #[cfg(feature = "allocator-api2-02")] {
/// use allocator_api2_02::vec::Vec;
/// use core::num::NonZeroUsize;
/// use terrace_sys::MappedFile;
///
/// let file = MappedFile::scratch(std::env::temp_dir(), NonZeroUsize::new(1 << 30).unwrap())?;
/// let mut squares = Vec::new_in(&file);
/// squares.extend((0..100_000u64).map(|n| n * n));
/// file.evict()?; // none of them is in this process's memory now
/// assert_eq!(squares[300], 90_000);
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # What can go wrong later
///
/// A processor reads memory without asking for a `Result`. Where the system cannot bring a page in, it ends the
/// process with `SIGBUS`, and no library can make an error of that:
///
/// - another process has made the file shorter (which the promise to [`new`](Self::new) excludes, and which nobody
///   can do to a [`scratch`](Self::scratch) file);
/// - the disk, or the network that it is behind, fails;
/// - the disk is full, and the file system is one that cannot take space in advance (NFS before 4.2, FAT), or that
///   writes every change to another place (btrfs, ZFS): elsewhere `alloc` is refused before.
///
/// A forked child shares the pages with its parent: it must not touch blocks that the parent uses. What `SIGKILL` ends
/// loses nothing that was written to a block; a power failure may lose what was not [flushed](Self::flush).
///
/// # What the compiler refuses
///
/// A file that somebody else may write to needs the promise:
///
/// ```compile_fail,E0133
/// let file = std::fs::File::open("shared").unwrap();
/// terrace_sys::MappedFile::new(file, core::num::NonZeroUsize::MIN);
/// ```
///
/// The region is lent, and blocks end, only when nobody uses one:
///
/// ```compile_fail,E0502
/// use terrace_sys::MappedFile;
///
/// let mut file = MappedFile::scratch("/tmp", core::num::NonZeroUsize::MIN).unwrap();
/// let mut numbers = allocator_api2_02::vec::Vec::new_in(&file);
/// file.bytes().unwrap();
/// numbers.push(1u8);
/// ```
///
/// ```compile_fail,E0505
/// use terrace_sys::MappedFile;
///
/// let file = MappedFile::scratch("/tmp", core::num::NonZeroUsize::MIN).unwrap();
/// let mut numbers = allocator_api2_02::vec::Vec::new_in(&file);
/// drop(file);
/// numbers.push(1u8);
/// ```
///
/// And no second thread gets at it:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<terrace_sys::MappedFile>();
/// ```
#[derive(Debug)]
pub struct MappedFile {
    extent: Extent,
    map: FileMap,
    file: File,
}

// SAFETY: map and file are its own and `Send`; its blocks are bytes, which may be written from any thread.
unsafe impl Send for MappedFile {}

impl MappedFile {
    /// A new file of `capacity` bytes without a name, in the file system of `folder`. It ends with this object; it is
    /// for memory, not for keeping. (Where `folder` is on a tmpfs, as `/tmp` often is, the file is in memory, or swapped out.)
    ///
    /// Nobody else can reach the file, but through `/proc/PID/fd`, which like `/proc/PID/mem` is outside of
    /// what Rust can promise.
    ///
    /// # Errors
    /// What opening, lengthening or mapping the file answers; among them that the file system has no files without
    /// names (`EOPNOTSUPP`). Nothing is left behind.
    pub fn scratch(folder: impl AsRef<Path>, capacity: NonZeroUsize) -> io::Result<Self> {
        let file = file::open_unnamed(folder.as_ref())?;
        // SAFETY: the file has no name, and nobody else has its descriptor.
        unsafe { Self::new(file, capacity) }
    }

    /// The first `capacity` bytes of `file`, which is open for reading and writing. A shorter file becomes so long; a
    /// longer one stays as it is.
    ///
    /// The allocator knows nothing of what the file held: blocks of it lie over the old bytes, from the first
    /// on, and an `alloc` leaves those bytes in place until somebody writes. [`bytes`](Self::bytes) lends them.
    ///
    /// # Errors
    /// What lengthening or mapping the file answers: its length is then as it was. [`io::ErrorKind::InvalidInput`]
    /// where `capacity` is above `isize::MAX`.
    ///
    /// # Safety
    /// As long as the object lives, nobody else, in this process or another, writes to the file's first `capacity` bytes or makes it
    /// shorter. What is written by others changes under references that Rust takes for its own, which is undefined
    /// behaviour; what is cut off is `SIGBUS` at the next touch.
    pub unsafe fn new(file: File, capacity: NonZeroUsize) -> io::Result<Self> {
        let len = capacity.get();
        if isize::try_from(len).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let old_len = file.metadata()?.len();
        let longer = len as u64 > old_len;
        if longer {
            file::set_length(&file, len as u64)?;
        }
        let map = file::map_file(&file, len).inspect_err(|_| {
            if longer {
                // Where this fails too, the file is longer than it was, by zeroes.
                let _ = file::set_length(&file, old_len);
            }
        })?;
        // Behind the old end of the file, its last page may hold what another map once left there.
        let old_pages = usize::try_from(old_len).ok().and_then(|old_len| old_len.checked_next_multiple_of(page_size()));
        let touched = old_pages.map_or(len, |old_pages| old_pages.min(len));
        // SAFETY: by I2 the map is this object's; what was added to the file reads as zero.
        let extent = unsafe { Extent::new(map.start(), len, STEP, touched) };
        Ok(Self { extent, map, file })
    }

    /// Bytes that blocks can ever take, padding included.
    pub fn capacity(&self) -> usize {
        self.extent.capacity()
    }

    /// Bytes from the start to the end of the last block, padding included.
    pub fn end_index(&self) -> usize {
        self.extent.end()
    }

    /// Writes what is in memory to the disk, and waits until it is there.
    ///
    /// # Errors
    /// What the system answers; the blocks are as they were.
    pub fn flush(&self) -> io::Result<()> {
        self.map.flush()
    }

    /// Takes the file's pages out of this process's memory. No block changes: the next touch brings its page
    /// back. Without it the system does the same when others need the memory.
    ///
    /// The system's own cache keeps what it likes; after a [`flush`](Self::flush) it can drop all of it at once.
    ///
    /// # Errors
    /// What the system answers; some pages may have gone.
    pub fn evict(&self) -> io::Result<()> {
        self.map.evict()
    }

    /// Ends all blocks and lends the whole region, with the contents of the file: to read what an earlier run
    /// wrote, or to an allocator that works in a buffer. Takes space on the disk for all of it.
    ///
    /// `MaybeUninit`, since the padding in what was written here need not be initialised, as Rust sees it. What
    /// only the file has brought is.
    ///
    /// # Errors
    /// `ENOSPC`, where the disk is full.
    pub fn bytes(&mut self) -> io::Result<&mut [MaybeUninit<u8>]> {
        self.extent.reset();
        let capacity = self.extent.capacity();
        let mut refusal = None;
        self.extent.reach(capacity, |range| self.take_space(range).map_err(|why| refusal = Some(why)).is_ok());
        if let Some(why) = refusal {
            return Err(why);
        }
        self.extent.soil();
        // SAFETY: the whole map, usable, borrowed from this object alone, as long as the borrow of it.
        Ok(unsafe { slice::from_raw_parts_mut(self.map.start().as_ptr().cast(), capacity) })
    }

    /// Takes space on the disk; a file system that cannot is believed to have it.
    fn take_space(&self, range: Range<usize>) -> io::Result<()> {
        match file::take_space(&self.file, range.start, range.end - range.start) {
            Err(why) if why.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn taker(&self) -> impl FnOnce(Range<usize>) -> bool {
        |range| self.take_space(range).is_ok()
    }
}

// SAFETY: by the invariants of `Extent`, whose region is the map's (I1, I2) and stays where it is when this moves.
unsafe impl Allocator for MappedFile {
    #[inline]
    fn alloc(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.extent.alloc(len, alignment, self.taker())
    }

    #[inline]
    unsafe fn resize(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> bool {
        self.extent.resize(memory, new_len, self.taker())
    }

    #[inline]
    unsafe fn remap(&self, memory: NonNull<[u8]>, _: Alignment, new_len: NonZeroUsize) -> Option<NonNull<u8>> {
        self.extent.resize(memory, new_len, self.taker()).then_some(memory.cast())
    }

    #[inline]
    unsafe fn free(&self, memory: NonNull<[u8]>, _: Alignment) {
        self.extent.free(memory);
    }

    fn alloc_zeroed(&self, len: NonZeroUsize, alignment: Alignment) -> Result<NonNull<u8>, AllocError> {
        self.extent.alloc_zeroed(len, alignment, self.taker())
    }
}

// SAFETY: exactly the addresses of the map are this allocator's.
unsafe impl Owns for MappedFile {
    fn owns(&self, address: NonNull<u8>) -> bool {
        self.extent.owns(address)
    }
}

impl Reset for MappedFile {
    /// Ends all blocks. The file keeps its length, its space and its bytes, whatever the mode: always `true`.
    fn reset(&mut self, _mode: ResetMode) -> bool {
        self.extent.reset();
        true
    }
}

terrace_core::bridge_collections!(impl['b] for &'b MappedFile);
