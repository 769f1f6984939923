//! Two size classes for the model, small enough that a few blocks fill a magazine, a chain and a slab.
//!
//! ```text
//!   class 0   16 bytes, 4 to a slab, chains of 2        class 1   32 bytes, 1 to a slab
//! ```

pub(crate) const CLASSES: usize = 2;
pub(crate) const PAGE: usize = 32 << 10;
pub(crate) const LONGEST: usize = 2;
pub(crate) const LARGEST: usize = 32;

pub(crate) fn class_of(len: usize) -> usize {
    (len - 1) / 16
}

pub(crate) fn size(class: usize) -> usize {
    16 << class
}

pub(crate) fn batch(_class: usize) -> u8 {
    2
}

pub(crate) fn fair(_class: usize) -> u8 {
    2
}

pub(crate) fn depot_chains(_class: usize) -> u32 {
    1
}

pub(crate) fn narrow(_class: usize) -> u8 {
    1
}

pub(crate) fn slab_pages(_class: usize) -> usize {
    1
}

pub(crate) fn slab_alignment(_class: usize) -> usize {
    1
}

pub(crate) fn capacity(class: usize) -> usize {
    [4, 1][class]
}
