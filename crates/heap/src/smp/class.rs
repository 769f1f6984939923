//! Size classes: which length goes to which blocks, and how many pages a slab of them has.
//!
//! ```text
//!   16  32  48 … 112 128 | 144 160 … 256 | 288 320 … 512 | …  | 18432 20480 … 32768
//!    8 classes, 16 apart    8, 16 apart     8, 32 apart        8, 2048 apart
//! ```
//!
//! Above 128 bytes there are eight classes to a doubling, so a block is at most an eighth larger than was asked, 15 bytes
//! at the small end. Every power of two is a class. A class's blocks are aligned to the largest power of two that
//! divides its size: a request with alignment `a` goes to the class of its length rounded up to `a`, whose size is a multiple of `a`.
//!
//! - **I1** `size(class_of(n)) >= n`, and no smaller class has that.
//! - **I2** A slab's blocks fill all of its pages but less than an eighth.
//!
//! Cost: one load from a table of 2 KiB; everything else happens at compile time.
#![forbid(unsafe_code)]

/// How many classes there are.
pub(crate) const CLASSES: usize = 72;
/// The largest length that has a class; alignments above it have none either.
pub(crate) const LARGEST: usize = 32 << 10;
/// The unit that slabs are made of; no smaller than a block's strictest alignment needs, whatever the machine's page is.
pub(crate) const PAGE: usize = 4096;
/// Pages of the largest slab.
pub(crate) const SLAB_PAGES: usize = 8;

/// Blocks of the longest batch.
pub(crate) const LONGEST: usize = 64;

const GRAIN: usize = 16;
const EVEN: usize = 8; // classes before the spacing grows
const BATCH_BYTES: usize = 16 << 10;
const DEPOT_BYTES: usize = 1 << 20;

/// The class of `len` bytes; `len` is from 1 to [`LARGEST`].
#[inline(always)]
pub(crate) fn class_of(len: usize) -> usize {
    CLASS_BY_GRAINS[((len - 1) / GRAIN) & (CLASS_BY_GRAINS.len() - 1)] as usize
}

/// The length that a request is served as: rounded up so that its class is aligned. `None`: there is no class for it.
#[inline(always)]
pub(crate) const fn small(len: usize, alignment: usize) -> Option<usize> {
    if alignment <= GRAIN {
        return if len <= LARGEST { Some(len) } else { None };
    }
    if len > LARGEST || alignment > LARGEST {
        return None;
    }
    Some((len + (alignment - 1)) & !(alignment - 1)) // At most LARGEST, a multiple of every alignment up to it.
}

/// A class's block in bytes.
#[inline(always)]
pub(crate) fn size(class: usize) -> usize {
    SIZES[class] as usize
}

/// Blocks that travel together between a magazine and the depot.
#[inline(always)]
pub(crate) fn batch(class: usize) -> u8 {
    BATCHES[class]
}

/// Freed blocks for which it is worth while to load them again, before a batch is fetched from elsewhere.
#[inline(always)]
pub(crate) fn fair(class: usize) -> u8 {
    FAIR[class & (FAIR.len() - 1)]
}

/// Full chains that the depot keeps at most.
pub(crate) fn depot_chains(class: usize) -> u32 {
    ((DEPOT_BYTES / (size(class) * usize::from(batch(class)))) as u32).clamp(8, 64)
}

/// Blocks that a magazine holds while the depot is full: each may be the last of a page.
pub(crate) fn narrow(class: usize) -> u8 {
    (batch(class) / 8).max(2)
}

/// Pages of a slab.
pub(crate) fn slab_pages(class: usize) -> usize {
    PAGES[class] as usize
}

/// What a slab's first page is a multiple of, in pages, so that blocks have their natural alignment.
pub(crate) fn slab_alignment(class: usize) -> usize {
    (1usize << size(class).trailing_zeros()).div_ceil(PAGE)
}

/// Blocks of a slab.
pub(crate) fn capacity(class: usize) -> usize {
    slab_pages(class) * PAGE / size(class)
}

const fn size_by_formula(class: usize) -> usize {
    if class < EVEN {
        return (class + 1) * GRAIN;
    }
    let (doubling, eighth) = ((class - EVEN) / 8, (class - EVEN) % 8);
    (128 << doubling) + (eighth + 1) * (16 << doubling)
}

/// The fewest pages that waste at most a sixteenth, or else those that waste least.
const fn pages_by_waste(size: usize) -> usize {
    let (mut best, mut pages) = (0, 1);
    while pages <= SLAB_PAGES {
        let bytes = pages * PAGE;
        if bytes >= size {
            let waste = bytes % size;
            if waste * 16 <= bytes {
                return pages;
            }
            if best == 0 || waste * best < (best * PAGE) % size * pages {
                best = pages;
            }
        }
        pages += 1;
    }
    best
}

const SIZES: [u16; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        sizes[class] = size_by_formula(class) as u16;
        class += 1;
    }
    sizes
};

const PAGES: [u8; CLASSES] = {
    let mut pages = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        pages[class] = pages_by_waste(size_by_formula(class)) as u8;
        class += 1;
    }
    pages
};

const BATCHES: [u8; CLASSES] = {
    let mut batches = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let fitting = BATCH_BYTES / size_by_formula(class);
        batches[class] = if fitting < 4 {
            4
        } else if fitting > LONGEST {
            LONGEST as u8
        } else {
            fitting as u8
        };
        class += 1;
    }
    batches
};

/// As long as a byte can count, so that an index that was one needs no check.
static FAIR: [u8; 256] = {
    let mut fair = [0; 256];
    let mut class = 0;
    while class < CLASSES {
        let quarter = BATCHES[class] / 4;
        fair[class] = if quarter < 2 { 2 } else { quarter };
        class += 1;
    }
    fair
};

/// By the whole grains below the length. A power of two of them, so that an index needs no check, a mask at most.
static CLASS_BY_GRAINS: [u8; LARGEST / GRAIN] = {
    let mut table = [0; LARGEST / GRAIN];
    let (mut class, mut grains) = (0, 0);
    while grains < LARGEST / GRAIN {
        if (grains + 1) * GRAIN > size_by_formula(class) {
            class += 1;
        }
        table[grains] = class as u8;
        grains += 1;
    }
    table
};

const _: () = assert!(size_by_formula(CLASSES - 1) == LARGEST);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_gets_the_smallest_class_that_holds_it() {
        for len in 1..=LARGEST {
            let class = (0..CLASSES).find(|&class| size(class) >= len).unwrap();
            assert_eq!(class_of(len), class, "{len}");
        }
    }

    #[test]
    fn sizes_rise_by_an_eighth_at_most() {
        for class in 1..CLASSES {
            let (below, this) = (size(class - 1), size(class));
            assert!(this > below && (this - below <= GRAIN || (this - below) * 8 <= below), "{below} {this}");
        }
        (4..=15).for_each(|log2| assert_eq!(size(class_of(1 << log2)), 1 << log2));
    }

    #[test]
    fn every_alignment_finds_a_class_that_has_it() {
        for log2 in 0..=15 {
            let alignment = 1 << log2;
            for len in 1..=LARGEST {
                let class = class_of(small(len, alignment).unwrap());
                let natural = 1 << size(class).trailing_zeros();
                assert!(size(class) >= len && natural >= alignment.min(GRAIN.max(alignment)), "{len} {alignment}");
                // Block i of a slab lies at i times its size behind a multiple of `slab_alignment` pages.
                assert!(natural <= slab_alignment(class) * PAGE);
            }
        }
        assert_eq!(small(LARGEST + 1, 1), None);
        assert_eq!(small(1, LARGEST * 2), None);
        assert_eq!(small(usize::MAX, 64), None);
    }

    #[test]
    fn a_slab_wastes_less_than_an_eighth() {
        for class in 0..CLASSES {
            let (pages, blocks) = (slab_pages(class), capacity(class));
            assert!((1..=SLAB_PAGES).contains(&pages) && blocks >= 1);
            assert!((pages * PAGE - blocks * size(class)) * 8 < pages * PAGE, "{}", size(class));
            assert!((2..=LONGEST).contains(&batch(class).into()));
        }
    }
}
