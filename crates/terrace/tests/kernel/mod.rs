//! What the kernel's files say of pages: `smaps` of a whole map, `pagemap` and `kpageflags` of each page.
//!
//! ```text
//!  address ── /proc/self/pagemap ──▶ number of the page's frame ── /proc/kpageflags ──▶ how that was made
//!                8 bytes a page       0 without CAP_SYS_ADMIN        8 bytes a frame
//! ```
//!
//! `smaps` counts what one entry of the page table maps; the flags tell of the frames themselves, and the numbers show that they lie side by side.
//! Tests say what they skipped where these files are not to be read. The tests of terrace-sys have the same file: no package looks into another.

use core::ptr::NonNull;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

use terrace::page_size;

/// Small pages in a huge one of 2 MiB.
pub const IN_HUGE: usize = (2 << 20) / 4096;

/// The figure of that name for the map with that address, in KiB.
pub fn smaps(address: usize, name: &str) -> Option<usize> {
    let text = fs::read_to_string("/proc/self/smaps").ok()?;
    let mut inside = false;
    text.lines().find_map(|line| {
        let number = |hex: &str| usize::from_str_radix(hex, 16).ok();
        if let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-'))
            && let (Some(start), Some(end)) = (number(start), number(end))
        {
            inside = (start..end).contains(&address);
        }
        let figure = line.strip_prefix(name)?.strip_prefix(':').filter(|_| inside)?;
        figure.trim().trim_end_matches(" kB").parse().ok()
    })
}

/// A page in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    frame: u64,
    flags: u64,
}

impl Seen {
    /// Whether it is part of a huge page out of the reserved ones.
    pub fn is_reserved(self) -> bool {
        self.is_compound() && self.has(17) // KPF_HUGE
    }

    /// Whether it is part of a huge page that the kernel made of ordinary memory.
    pub fn is_transparent(self) -> bool {
        self.is_compound() && self.has(22) // KPF_THP
    }

    /// Part of a page made of several frames.
    fn is_compound(self) -> bool {
        self.has(15) || self.has(16) // KPF_COMPOUND_HEAD, KPF_COMPOUND_TAIL
    }

    fn has(self, bit: u32) -> bool {
        self.flags >> bit & 1 == 1
    }
}

/// The pages of a range, `None` for what is not in memory. An error says why this machine does not tell.
pub fn seen(range: NonNull<[u8]>) -> Result<Vec<Option<Seen>>, String> {
    let open = |path: &str| File::open(path).map_err(|why| format!("{path}: {why}"));
    let (map, flags) = (open("/proc/self/pagemap")?, open("/proc/kpageflags")?);
    let word = |file: &File, at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at * 8).map_err(|why| why.to_string())?;
        Ok::<u64, String>(u64::from_ne_bytes(bytes))
    };
    let (first, count) = (range.cast::<u8>().addr().get() / page_size(), range.len() / page_size());
    let page = |page: usize| {
        let entry = word(&map, page as u64)?;
        if entry >> 63 == 0 {
            return Ok(None);
        }
        match entry & ((1 << 55) - 1) {
            0 => Err("/proc/self/pagemap shows no frames: CAP_SYS_ADMIN is missing".into()),
            frame => Ok(Some(Seen { frame, flags: word(&flags, frame)? })),
        }
    };
    (first..first + count).map(page).collect()
}

/// Whether all of these pages are huge ones: each whole, of frames side by side from a multiple of their number on.
pub fn are_whole(pages: &[Option<Seen>]) -> bool {
    pages.len().is_multiple_of(IN_HUGE)
        && pages.chunks(IN_HUGE).all(|huge| {
            let Some(first) = huge[0].filter(|first| first.frame.is_multiple_of(IN_HUGE as u64)) else { return false };
            let in_row = |(page, at): (&Option<Seen>, u64)| page.is_some_and(|page| page.frame == first.frame + at);
            huge.iter().zip(0..).all(in_row)
        })
}

/// The pages of a range, where the machine tells; a machine that was ordered for the test must.
pub fn seen_or_said(range: NonNull<[u8]>) -> Option<Vec<Option<Seen>>> {
    let pages = seen(range);
    let ordered = std::env::var_os("TERRACE_NUMA_TOPOLOGY").is_some();
    pages.inspect_err(|why| assert!(!ordered, "{why}")).inspect_err(|why| eprintln!("skipped the frames: {why}")).ok()
}
