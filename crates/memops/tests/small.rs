//! Every length up to 300 at every alignment, at every level, with the bytes around watched.

mod common;

use common::at_each_level;
use terrace_memops::{compare, copy, equal, fill};

/// What one machine word, cache line and vector can tell apart.
const ALIGNMENTS: usize = 64;
const ROOM: usize = 512;
/// What lies around; neither the filler nor in the pattern.
const AROUND: u8 = 0xEE;

/// Lengths from 0 to 300. Miri, a thousand times slower, sees those around each change of method.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300)
        .filter(|len| !cfg!(miri) || [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 32, 33, 64, 65, 128, 129, 200].contains(len))
}

/// Alignments; for Miri a few.
fn alignments() -> impl Iterator<Item = usize> {
    (0..ALIGNMENTS).step_by(if cfg!(miri) { 21 } else { 1 })
}

#[repr(align(64))]
struct Aligned([u8; ROOM]);

/// No two bytes within a vector are the same.
fn pattern() -> Aligned {
    Aligned(std::array::from_fn(|index| (index % 227) as u8))
}

#[test]
fn a_copy_writes_its_bytes_and_no_other() {
    let from = pattern();
    at_each_level(|level| {
        let (mut room, mut expected) = (Aligned([AROUND; ROOM]), [AROUND; ROOM]);
        for len in lengths() {
            for to in alignments() {
                for start in alignments() {
                    let source = &from.0[start..start + len];
                    assert_eq!(copy(&mut room.0[to..to + len], source), len);
                    expected[to..to + len].copy_from_slice(source);
                    assert!(room.0 == expected, "{level:?}: {len} bytes from {start} to {to}");
                    room.0[to..to + len].fill(AROUND);
                    expected[to..to + len].fill(AROUND);
                }
            }
        }
    });
}

#[test]
fn a_fill_writes_its_bytes_and_no_other() {
    at_each_level(|level| {
        for len in lengths() {
            for to in alignments() {
                let mut room = Aligned([AROUND; ROOM]);
                fill(&mut room.0[to..to + len], 0x91);
                let mut expected = [AROUND; ROOM];
                expected[to..to + len].fill(0x91);
                assert!(room.0 == expected, "{level:?}: {len} bytes to {to}");
            }
        }
    });
}

#[test]
fn equal_bytes_are_equal_whatever_lies_around() {
    let a = pattern();
    at_each_level(|level| {
        let mut b = Aligned([AROUND; ROOM]);
        for len in lengths() {
            for to in alignments() {
                for start in alignments().step_by(9) {
                    let (left, right) = (&a.0[start..start + len], &mut b.0[to..to + len]);
                    right.copy_from_slice(left);
                    assert!(equal(left, right), "{level:?}: {len} bytes at {start} and {to}");
                }
                b.0.fill(AROUND);
            }
        }
    });
}

#[test]
fn the_first_difference_decides_wherever_it_lies() {
    let Aligned(pattern) = pattern();
    at_each_level(|level| {
        for len in lengths() {
            for place in (0..len).step_by(if cfg!(miri) { 13 } else { 1 }) {
                for (to, start) in [(0, 0), (1, 5), (33, 16), (63, 62)] {
                    let (mut a, mut b) = (Aligned(pattern), Aligned([AROUND; ROOM]));
                    let (left, right) = (&mut a.0[start..start + len], &mut b.0[to..to + len]);
                    right.copy_from_slice(left);
                    // The later differences say the opposite, and the highest bit is no sign.
                    (left[place], right[place]) = (0x7F, 0x80);
                    left[place + 1..].fill(9);
                    right[place + 1..].fill(8);
                    let order = (compare(left, right), compare(right, left));
                    assert!(
                        order.0.is_lt() && order.1.is_gt(),
                        "{level:?}: {len} bytes, byte {place}, {start} and {to}"
                    );
                }
            }
        }
    });
}
