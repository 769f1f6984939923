//! How much memory this process has, asked of the system without allocating.
//!
//! `statm` is quick, `smaps_rollup` walks the page tables and is exact on every kernel; both report
//! resident pages, those of files and of the C library's heap included.
//!
//! Cost: a system call each; `smaps_rollup` grows with the number of mappings.

use std::{fs::File, os::unix::fs::FileExt};

use anyhow::Context;

/// Opened before the measured allocator runs, so that a look disturbs it as little as possible.
pub struct Residence {
    statm: File,
    rollup: Option<File>,
    page_size: u64,
}

impl Residence {
    /// # Errors
    /// Where `/proc` is not there.
    pub fn open() -> anyhow::Result<Self> {
        let statm = File::open("/proc/self/statm").context("/proc/self/statm cannot be read; mount /proc")?;
        Ok(Self {
            statm,
            rollup: File::open("/proc/self/smaps_rollup").ok(),
            page_size: terrace_sys::page_size() as u64,
        })
    }

    /// Resident bytes, quickly.
    pub fn quick(&self) -> u64 {
        let mut buffer = [0; 128];
        let len = self.statm.read_at(&mut buffer, 0).unwrap_or(0);
        number(&buffer[..len], 1).unwrap_or(0) * self.page_size
    }

    /// Resident bytes, exactly.
    pub fn exact(&self) -> u64 {
        let mut buffer = [0; 512];
        let len = self.rollup.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok()).unwrap_or(0);
        let text = &buffer[..len];
        let at = text.windows(4).position(|word| word == b"Rss:");
        at.and_then(|at| number(&text[at..], 1)).map_or_else(|| self.quick(), |kib| kib * 1024)
    }
}

/// The `index`-th word of `text` as a number.
fn number(text: &[u8], index: usize) -> Option<u64> {
    let word = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(index)?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Bytes that the machine can still give, by its own estimate.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    number(line.as_bytes(), 1).map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_is_seen_by_both_looks() {
        let residence = Residence::open().unwrap();
        let (quick, exact) = (residence.quick(), residence.exact());
        assert!(quick > 0 && exact > 0);
        let block = vec![1u8; 128 << 20];
        // Other tests run and free beside this one, so only half of it is asked for.
        assert!(residence.quick() >= quick + (64 << 20));
        assert!(residence.exact() >= exact + (64 << 20));
        assert_eq!(block[5], 1);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
