//! The calls of `prim` about files, and their contract: a file as memory, through memmap2.
//!
//! As with the other calls: one that has failed has changed nothing, none unwinds, and with the feature
//! `fault-injection` each is counted and can be made to fail. They answer with `std::io::Error`, which may allocate.
//!
//! Cost: the system call.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use core::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};

#[cfg(any(test, feature = "fault-injection"))]
use super::fault::{self, Call};

/// Counts a call, and fails it where that is planned.
macro_rules! admit {
    ($call:ident) => {
        #[cfg(any(test, feature = "fault-injection"))]
        fault::admit(Call::$call).map_err(|errno| io::Error::from_raw_os_error(errno.0.get()))?;
    };
}

/// Opens a new file in the file system of `folder`, without a name, for reading and writing: nobody else can open it, and it ends
/// with its last descriptor and map.
///
/// Fails with: `EOPNOTSUPP`, `EISDIR`, where the file system has no such files; and as an open does.
pub(crate) fn open_unnamed(folder: &Path) -> io::Result<File> {
    admit!(OpenUnnamed);
    // With O_EXCL it cannot be given a name later either.
    let flags = libc::O_TMPFILE | libc::O_EXCL;
    OpenOptions::new().read(true).write(true).custom_flags(flags).mode(0o600).open(folder)
}

/// Sets a file's length. What is added reads as zero, and has no space on the disk yet.
///
/// Fails with: `EFBIG`, and others.
pub(crate) fn set_length(file: &File, len: u64) -> io::Result<()> {
    admit!(SetLength);
    file.set_len(len)
}

/// Takes space on the disk for `len` bytes from `offset` on, so that writing them later does not fail for want of it.
///
/// Fails with: `ENOSPC`; [`io::ErrorKind::Unsupported`], where the file system cannot.
///
/// pre: the bytes lie within the file's length; `len > 0`.
pub(crate) fn take_space(file: &File, offset: usize, len: usize) -> io::Result<()> {
    admit!(TakeSpace);
    let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, len) = (offset.try_into().map_err(|_| too_large())?, len.try_into().map_err(|_| too_large())?);
    loop {
        // SAFETY: takes plain numbers; the descriptor is open while `file` is borrowed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) } == 0 {
            return Ok(());
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

/// The first bytes of a file, mapped shared until it is dropped.
#[derive(Debug)]
pub(crate) struct FileMap(MmapRaw);

/// Maps the first `len` bytes of a file, readable and writable, shared: what is written there is written to the file.
///
/// Fails with: `ENOMEM`, `EACCES`, `ENODEV` and others.
///
/// pre: `len` is not 0 and at most `isize::MAX`.
pub(crate) fn map_file(file: &File, len: usize) -> io::Result<FileMap> {
    admit!(MapFile);
    let map = FileMap(MmapOptions::new().len(len).map_raw(file)?);
    #[cfg(any(test, feature = "fault-injection"))]
    fault::enter(map.start(), len);
    Ok(map)
}

impl FileMap {
    /// Where it begins: a multiple of the page size.
    pub(crate) fn start(&self) -> NonNull<u8> {
        NonNull::new(self.0.as_mut_ptr()).expect("nothing is mapped at null")
    }

    /// Writes to the file what was written to the map, and waits until the disk has it.
    ///
    /// Fails with: `EIO`, and others.
    pub(crate) fn flush(&self) -> io::Result<()> {
        admit!(Flush);
        self.0.flush()
    }

    /// Drops the map's pages from this process's memory. Nothing is lost: the file has them, in the system's cache
    /// or on the disk, and the next touch brings them back.
    ///
    /// Fails with: `EINVAL` where pages are locked.
    pub(crate) fn evict(&self) -> io::Result<()> {
        admit!(Evict);
        // SAFETY: the map is shared, so that its pages are the file's: what was written stays.
        unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) }
    }
}

impl Drop for FileMap {
    // memmap2 unmaps. That is not refused: the kernel joins no two maps of a file that both begin at its beginning,
    // so that no map is cut by it.
    fn drop(&mut self) {
        #[cfg(any(test, feature = "fault-injection"))]
        fault::strike(self.start(), self.0.len());
    }
}
