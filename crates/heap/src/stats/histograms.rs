//! [`Histograms`]: which lengths are asked for, and by whom.
//!
//! ```text
//!   class   0     1     2      3      4       …      k
//!   bytes   1     2    3–4    5–8    9–16     …   2^(k-1)+1 – 2^k
//! ```
//!
//! - **I1** Each block that was made counts in the class of the length it was made with, each live one in that of its
//!   length now.
//!
//! Costs: one atomic operation at each end of a block; where it changes its class two.
#![forbid(unsafe_code)]

use core::{
    fmt,
    panic::Location,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    sites::{Site, Sites},
    tally::{Count, Figures, Room, Tally},
};

/// What a [`StatsAllocator`](super::StatsAllocator) counts besides: nothing, or [`Histograms`].
pub trait Detail {
    /// How blocks and bytes are counted beside it.
    type Tally: Tally;

    fn blocks(&self, tally: &Self::Tally) -> Figures;
    fn bytes(&self, tally: &Self::Tally) -> Figures;
    fn made(&self, len: usize, site: &'static Location<'static>);
    fn ended(&self, len: usize);
    fn resized(&self, old: usize, new: usize, site: &'static Location<'static>);
    fn all_ended(&mut self);
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Detail for () {
    type Tally = Count;

    fn blocks(&self, tally: &Count) -> Figures {
        tally.read()
    }

    fn bytes(&self, tally: &Count) -> Figures {
        tally.read()
    }

    #[inline]
    fn made(&self, _: usize, _: &'static Location<'static>) {}

    #[inline]
    fn ended(&self, _: usize) {}

    #[inline]
    fn resized(&self, _: usize, _: usize, _: &'static Location<'static>) {}

    fn all_ended(&mut self) {}

    fn write(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Blocks of at most `longest` bytes, and of more than half as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeClass {
    /// The longest length of the class in bytes, a power of two.
    pub longest: usize,
    /// Blocks that were made with such a length.
    pub total_blocks: u64,
    /// Live blocks that have such a length now.
    pub live_blocks: u64,
}

/// Counts blocks by size class, and by the place that asked for them: of the first `SITES` places.
///
/// A place is what `#[track_caller]` names: the line that called the allocator, or the collection that did.
pub struct Histograms<const SITES: usize> {
    /// Blocks made with a length of the class.
    total: [AtomicU64; CLASSES],
    /// How many more of the class have ended, or left it, than have come to it from another one; below 0 where more have come.
    gone: [AtomicU64; CLASSES],
    sites: Sites<SITES>,
}

const CLASSES: usize = usize::BITS as usize;

/// The class of a length, which is not 0: one scan for the highest bit.
#[inline]
const fn class(len: usize) -> usize {
    // No block is longer than `isize::MAX` bytes, so that no bit is lost; of others the class is wrong, and still one of them.
    (len.wrapping_sub(1).wrapping_mul(2) | 1).ilog2() as usize
}

impl<const SITES: usize> Histograms<SITES> {
    /// Counts from zero.
    pub const fn new() -> Self {
        Self {
            total: [const { AtomicU64::new(0) }; CLASSES],
            gone: [const { AtomicU64::new(0) }; CLASSES],
            sites: Sites::new(),
        }
    }

    pub(super) fn size_classes(&self) -> impl Iterator<Item = SizeClass> {
        // `gone` first: what ends between the two looks counts as live still. What moves meanwhile may be missed, and then 0 is the least.
        let counts = self.total.iter().zip(&self.gone).map(|(total, gone)| (gone.load(Relaxed), total.load(Relaxed)));
        let classes = counts.enumerate().map(|(class, (gone, total_blocks))| SizeClass {
            longest: 1 << class,
            total_blocks,
            live_blocks: total_blocks.wrapping_sub(gone).cast_signed().max(0).cast_unsigned(),
        });
        classes.filter(|class| class.total_blocks != 0 || class.live_blocks != 0)
    }

    pub(super) fn sites(&self) -> impl Iterator<Item = Site> {
        self.sites.by_bytes()
    }

    pub(super) fn unlisted(&self) -> (u64, u64) {
        self.sites.unlisted()
    }
}

impl<const SITES: usize> Default for Histograms<SITES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SITES: usize> Detail for Histograms<SITES> {
    type Tally = Room;

    fn blocks(&self, tally: &Room) -> Figures {
        tally.read(|| self.total.iter().map(|total| total.load(Relaxed)).fold(0, u64::wrapping_add))
    }

    fn bytes(&self, tally: &Room) -> Figures {
        tally.read(|| self.sites.bytes())
    }

    #[inline]
    fn made(&self, len: usize, site: &'static Location<'static>) {
        self.total[class(len)].fetch_add(1, Relaxed);
        self.sites.count(site, 1, len);
    }

    #[inline]
    fn ended(&self, len: usize) {
        self.gone[class(len)].fetch_add(1, Relaxed);
    }

    fn resized(&self, old: usize, new: usize, site: &'static Location<'static>) {
        if class(old) != class(new) {
            self.gone[class(old)].fetch_add(1, Relaxed);
            self.gone[class(new)].fetch_sub(1, Relaxed);
        }
        if new > old {
            self.sites.count(site, 0, new - old);
        }
    }

    fn all_ended(&mut self) {
        for (total, gone) in self.total.iter_mut().zip(&mut self.gone) {
            *gone.get_mut() = *total.get_mut();
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:>20} {:>14} {:>14}", "bytes up to", "blocks", "live")?;
        for class in self.size_classes() {
            writeln!(f, "{:>20} {:>14} {:>14}", class.longest, class.total_blocks, class.live_blocks)?;
        }
        writeln!(f, "\n{:>14} {:>14}  asked for by", "blocks", "bytes")?;
        for site in self.sites() {
            writeln!(f, "{:>14} {:>14}  {}", site.blocks, site.bytes, site.location)?;
        }
        let (blocks, bytes) = self.unlisted();
        if blocks != 0 || bytes != 0 {
            writeln!(f, "{blocks:>14} {bytes:>14}  other places: the table has {SITES} rows, all taken")?;
        }
        Ok(())
    }
}

impl<const SITES: usize> fmt::Debug for Histograms<SITES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.size_classes()).entries(self.sites()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_is_in_the_class_that_it_just_fits_into() {
        for len in (1..5000).chain([1 << 40, (1 << 40) + 1, isize::MAX as usize]) {
            let longest = 1usize << class(len);
            assert!(len <= longest && (len > longest / 2 || len == 1), "{len} in {longest}");
        }
        for len in [0, isize::MAX as usize + 1, usize::MAX] {
            assert!(class(len) < CLASSES, "no index is out of range: {len}");
        }
    }
}
