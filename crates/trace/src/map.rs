//! The bytes of a trace file: mapped, or held.
//!
//! - **I1** Whoever reads a mapping copies bytes out and decides on the copy: another process may alter the
//!   file meanwhile, so two looks at the same byte may differ.

use std::{fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

use crate::TraceError;

/// The bytes of a file.
pub(crate) enum Bytes {
    Mapped(Mmap),
    Held(Vec<u8>),
}

impl Bytes {
    /// Maps the file at `path`.
    pub(crate) fn map(path: &Path) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { doing: "open", path: Some(path.to_owned()), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(io(io::Error::other("only a regular file can be mapped")));
        }
        if metadata.len() == 0 {
            return Ok(Self::Held(Vec::new()));
        }
        // SAFETY: the mapping is private and only read. Other processes can alter the file, which the language
        // has no word for: I1 keeps every decision on a copy, so the worst is a wrong checksum; a file
        // cut short meanwhile ends this process with SIGBUS, as the documentation of `Reader::open` says.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}
